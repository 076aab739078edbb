/*
 * All kernels, for one instruction set: include its vec header first and define ISA_NAME (as in
 * dispatch.c's table). A new cell is one file in cells/, its line in all_for_real.h and one in CELLS below.
 */
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "pool.h"
#include "rnnkit.h"

/* name, gates, states, variants */
#define CELLS(X)                                                                                   \
    X(rnn, 1, 1, "tanh", "relu")                                                                   \
    X(gru, 3, 1, "reset_after", "reset_before")                                                    \
    X(lstm, 4, 2, "standard", NULL)

VEC_INLINE idx min_idx(idx a, idx b) { return a < b ? a : b; }
VEC_INLINE idx round_up(idx a, idx multiple) { return (a + multiple - 1) / multiple * multiple; }

enum {
    MAX_SECTIONS = 2,             /* of a row of gates (run.h) */
    CACHE_LINE = 64,
    SECOND_CACHE = 1 << 20,       /* bytes: larger weights come from farther away at each step */
    FIRST_CACHE_BLOCK = 32 << 10, /* bytes of a packed panel that stay in the first cache */
    CHUNK_BYTES = 256 << 10,      /* gates of a chunk of steps, which stay in the second cache */
    CHUNK_ROWS = 96,              /* rows that repay reading the packed input weights once */
    CHUNK_MOST_STEPS = 256,
    STEPS_BETWEEN_QUESTIONS = 32, /* backward loop: how often the caller is asked whether to stop */
    GRADIENT_BLOCK = 128,         /* rows of gate gradients that a weight gradient reads together */
    INPUT_ROWS_AT_ONCE = 48,      /* rows of d_x computed together */
    MOST_ROWS_OF_D_X = 256,       /* and on the matrix unit */
    LISTED_ROWS = 256,            /* rows of a ragged batch that a product takes together */
    ROWS_TURNED_TOGETHER = 16,    /* rows whose columns are packed for tiles, and stay in the first cache meanwhile */
    PRODUCT_BLOCK = 512,          /* k's of a matrix product that are packed together, */
    LEAST_PRODUCT_BLOCK = 128,    /* or so many where what more would take leaves the second cache, or the first
                                     one where columns are turned */
    FEW_PRODUCT_ROWS = 16,        /* for so many rows, */
    ROWS_OF_TURNING = 8,          /* which takes as long as so many more */
    TILES_TOGETHER = 32,          /* tiles whose rows are packed together, where all panels of b are packed before */
    MOST_BLOCKS = 8,              /* blocks of rows of a weight gradient between two barriers, */
    ROUND_BYTES = 256 << 10,      /* whose packed features take no more than that, or one */
    ITEMS_FOR_A_THREAD = 4,       /* pieces of work that threads take as they come to it, or fewer that are */
    WORK_FOR_AN_ITEM = 4000000,   /* of so many multiply-adds */
    UNIT_BLOCK = 16,              /* rows and columns of a block on the matrix unit, */
    UNIT_DEPTH = 32,              /* and k's that it takes together */
    UNIT_ROWS = 256,              /* rows of gate gradients that a weight gradient there reads together */
};

/* Multiply-adds that repay a second thread: once per region, or where that thread is at hand
   (rk_threads_at_hand); per step and thread, for each nanosecond that a barrier takes, where the other
   thread would have nothing to do, or would have rows of its own; and where no second cache holds the
   weights, however long a barrier takes. */
#define WORK_FOR_A_REGION 3000000.0
#define WORK_FOR_ONE_AT_HAND 1000000.0
#define WORK_FOR_A_BARRIER 200.0
#define WORK_FOR_A_SPLIT 1000.0
#define WORK_FROM_AFAR 1200000.0
#define USUAL_BARRIER_TIME 100.0
/* Multiply-adds of a row and step, and rows, from which on the matrix unit repays splitting its operands. */
#define WORK_FOR_THE_UNIT 131072.0
#define ROWS_FOR_THE_UNIT 8

/* rk_parallel for so many multiply-adds: few take other threads only where these are at hand. */
VEC_INLINE void parallel_for_work(int n_threads, double work, rk_task task, void *arg)
{
    if (n_threads > 1 && work < WORK_FOR_A_REGION && !rk_threads_at_hand(n_threads)) n_threads = 1;
    rk_parallel(n_threads, task, arg);
}

/* Items 0 .. count-1 of some work, shared out in advance: the next one of a thread's part, in a cache line of its
   own. */
typedef struct {
    atomic_long next;
    char line[CACHE_LINE - sizeof(atomic_long)];
} work_left;

VEC_INLINE void begin_items(work_left *left, int tid, int n_threads, idx count)
{
    atomic_store_explicit(&left[tid].next, count * tid / n_threads, memory_order_relaxed);
}

/* An item that nobody has taken, of the thread's own part or of the next one that has any left; -1: there is none.
   `others` tells whose part it is, counted from the thread; 0 to begin with. */
VEC_INLINE idx take_item(work_left *left, int tid, int n_threads, idx count, int *others)
{
    for (; *others < n_threads; ++*others) {
        int of = (tid + *others) % n_threads;
        idx item = atomic_fetch_add_explicit(&left[of].next, 1, memory_order_relaxed);
        if (item < count * (of + 1) / n_threads) return item;
    }
    return -1;
}

#include "kernels/define_cell.h"

#include "kernels/schedule.h"

#define REAL_BITS 32
#include "kernels/all_for_real.h"
#undef REAL_BITS
#define REAL_BITS 64
#include "kernels/all_for_real.h"
#undef REAL_BITS

#define CELL_ENTRY_OF(type, matrix_unit, cell, gates, states, ...)                                 \
    {                                                                                              \
        #cell,                                                                                     \
        gates,                                                                                     \
        states,                                                                                    \
        {__VA_ARGS__},                                                                             \
        matrix_unit,                                                                               \
        cell##_steps_together_##type,                                                              \
        cell##_stored_##type,                                                                      \
        cell##_forward_workspace_##type,                                                           \
        cell##_backward_workspace_##type,                                                          \
        cell##_packed_size_##type,                                                                 \
        cell##_pack_##type,                                                                        \
        cell##_forward_##type,                                                                     \
        cell##_backward_##type,                                                                    \
    },
#define CELL_ENTRY_F32(...) CELL_ENTRY_OF(f32, 0, __VA_ARGS__)
#define CELL_ENTRY_F64(...) CELL_ENTRY_OF(f64, 0, __VA_ARGS__)

static const rk_cell cells_f32[] = {CELLS(CELL_ENTRY_F32){0}};
static const rk_cell cells_f64[] = {CELLS(CELL_ENTRY_F64){0}};

#define TRAINING_ENTRY(type)                                                                       \
    {                                                                                              \
        .rules = rules_##type,                                                                     \
        .norm_blocks = norm_blocks,                                                                \
        .squared_norm = squared_norm_##type,                                                       \
        .scale = scale_##type,                                                                     \
        .cross_entropy_forward = cross_entropy_forward_##type,                                     \
        .cross_entropy_backward = cross_entropy_backward_##type,                                   \
        .ctc_workspace = ctc_workspace_##type,                                                     \
        .ctc_forward = ctc_forward_##type,                                                         \
        .ctc_backward = ctc_backward_##type,                                                       \
        .take_rows = take_rows_##type,                                                             \
        .add_rows = add_rows_##type,                                                               \
        .dropout = dropout_##type,                                                                 \
    }

#define EXECUTOR_ENTRY(type)                                                                       \
    {program_packed_size_##type, program_workspace_##type, program_forward_##type,                 \
     program_backward_##type}

#define MATH_ENTRY(type)                                                                           \
    {map_exp_##type, map_tanh_##type, map_sigmoid_##type, map_log_##type, map_log1p_##type}

#define TABLE_NAME_OF(isa) rk_kernels_##isa
#define TABLE_NAME(isa) TABLE_NAME_OF(isa)
#define STRING_OF(text) #text
#define STRING(text) STRING_OF(text)

#define TABLE_OF(isa_name, cells_of_f32)                                                           \
    {                                                                                              \
        .isa = isa_name,                                                                           \
        .math = {MATH_ENTRY(f32), MATH_ENTRY(f64)},                                                \
        .matmul = {{matmul_workspace_f32, matmul_f32}, {matmul_workspace_f64, matmul_f64}},        \
        .cells = {cells_of_f32, cells_f64},                                                        \
        .training = {TRAINING_ENTRY(f32), TRAINING_ENTRY(f64)},                                    \
        .executor = {EXECUTOR_ENTRY(f32), EXECUTOR_ENTRY(f64)},                                    \
    }

const rk_kernels TABLE_NAME(ISA_NAME) = TABLE_OF(STRING(ISA_NAME), cells_f32);

#ifdef VEC_HAS_MATRIX_UNIT
/* The same kernels, with the matrix unit. */
#define CELL_ENTRY_ON_UNIT(...) CELL_ENTRY_OF(f32, 1, __VA_ARGS__)
static const rk_cell cells_on_unit[] = {CELLS(CELL_ENTRY_ON_UNIT){0}};
const rk_kernels TABLE_NAME(MATRIX_UNIT_NAME) = TABLE_OF(STRING(MATRIX_UNIT_NAME), cells_on_unit);
#endif
