/*
 * rnnkit's C interface: what the Python side calls.
 *
 * Notation, everywhere in this folder:
 *   T time steps, N rows of the batch, I input features, H hidden units;
 *   t, n, i index them; a gradient of x is d_x; "real" is float or double.
 *   Rows of a matrix are given by a base pointer and strides in elements; the last axis is contiguous.
 *
 * Rules:
 *   - nothing here allocates, prints, exits or asserts: the caller owns all memory, including the
 *     workspace whose size each kernel reports, and every function returns a status;
 *   - sizes are checked by the caller: T, N, H >= 1 and I >= 1 (an empty call never gets here);
 *   - inputs may alias each other; outputs alias nothing, except for d_gates, which may be gates itself, and
 *     h_n, c_n, d_h_0 and d_c_0, which may be h_0, c_0, d_h_n and d_c_n.
 */
#ifndef RNNKIT_H
#define RNNKIT_H

#include <stddef.h>
#include <stdint.h>

#include "training.h"

typedef enum {
    RK_OK = 0,
    RK_INTERRUPTED = 1, /* the interrupt callback asked to stop; outputs are not complete */
} rk_status;

enum { RK_FLOAT32 = 0, RK_FLOAT64 = 1, RK_DTYPES = 2 };

/* Variants of a cell (rk_sequence.variant): positions in rk_cell.variants. */
enum { RK_VARIANTS = 2 };
enum { RK_RNN_TANH = 0, RK_RNN_RELU = 1 };
enum { RK_GRU_RESET_AFTER = 0, RK_GRU_RESET_BEFORE = 1 };

/* A (T, N, width) array with contiguous rows: row (t, n) begins at at + t*(stride t) + n*(stride n), in
   elements. at NULL: absent. */
typedef struct {
    void *at;
    idx t, n;
    int of_run; /* steps and rows are counted as the run does, whatever its schedule */
} rk_grid;

/*
 * A batch of sequences as they are: of several lengths, and with rows that restart on the way.
 *
 * With lengths, row n of the run is row order[n] of every array of the caller, and the rows are in the
 * order of falling length: step t has the first active[t] of them. Where the direction is reversed, row n
 * takes its first step lag[n] steps later than the longest in the order of the grids, so that it begins at
 * its own end. Rows past their end are not read; the forward pass zeroes those of y and c, as far as the longest
 * row goes.
 *
 * All of a run's steps, one after the other, have rows_before[T] rows in all; what is kept for backward has
 * that many, in that order.
 */
typedef struct {
    const idx *order, *lag, *active; /* (N), (N), (T); all NULL: all rows at every step, as they are */
    const idx *length;               /* (N) number of steps that row n takes, from step -begins on */
    const idx *rows_before;          /* (T + 1), counted from any number on */
    idx begins;                      /* steps that were taken before this run */
    const unsigned char *restart;    /* one for each row of each step: its state restarts before that step */
    const unsigned char *restarting; /* (T): some row of the step restarts. Both NULL: none ever does */
} rk_schedule;

/*
 * One layer, one direction, over a whole sequence. The reverse direction is the same call with the
 * pointers at the last step and negative time strides.
 *
 * g is the number of gates: 1 (RNN), 3 (GRU), 4 (LSTM). What is kept for backward is padded and has the
 * layout that the kernels like best; rk_cell.stored tells its size.
 */
typedef struct {
    idx T, N, I, H;
    int variant;
    int matrix_unit;          /* gradients of inputs and weights may be formed on the processor's matrix unit */
    int n_threads;            /* upper bound; small problems use fewer */
    double barrier_time;      /* rk_barrier_time(), or 0 where it does not matter */
    int turn;                 /* 1: the forward pass begins where an even step ends, at the last of the weights */
    int (*interrupted)(void); /* polled now and then by the calling thread; NULL: never */
    rk_schedule schedule;

    /* inputs */
    rk_grid x;                    /* (T, N, I) */
    const void *w_ih, *w_hh;      /* (gH, I), (gH, H) contiguous */
    const void *b_ih, *b_hh;      /* (gH), both NULL: no bias */
    const void *h_0, *c_0;        /* (N, H) contiguous; c_0 for the LSTM only */
    const void *h_r, *c_r;        /* (N, H) contiguous: where a restart begins; NULL: zero */

    /* outputs of the forward pass; y is an input of the backward pass */
    rk_grid y;                    /* (T, N, H) */
    rk_grid c;                    /* (T, N, H): c_t of every step, for the LSTM; may be absent */
    void *h_n, *c_n;              /* (N, H) contiguous; forward only */
    void *gates, *extra;          /* kept for backward (rk_cell.stored); NULL: keep nothing */

    /* backward: inputs (absent: that output has no gradient) */
    rk_grid d_y, d_c;
    const void *d_h_n, *d_c_n;    /* (N, H) contiguous */
    /* Of a segment: d_y[-1] is there, and the part of d_h_0 that does not come through this segment; and so
       many rows go on after it, for which d_y of the last step is in d_h_n. Each sum over what flows into a
       state then has the order that it has in a run of one piece. */
    int d_y_before;
    idx rows_after;

    /* backward: outputs; absent: not wanted. d_gates and d_extra are required: gates and extra
       themselves where these may be overwritten, else arrays of the same sizes. */
    void *d_gates, *d_extra;
    rk_grid d_x;                  /* (T, N, I) */
    int d_x_add;                  /* 1: add to d_x, 0: overwrite it */
    int d_w_add;                  /* 1: go on with the sums that the next four hold; 0: overwrite them */
    void *d_w_ih, *d_w_hh;
    void *d_b_ih, *d_b_hh;
    void *d_h_0, *d_c_0;
    void *d_h_r, *d_c_r;          /* are added to */
    rk_grid d_h, d_c_all;         /* (T, N, H): all that flows into h_t and c_t, for those who want to see it */

    /* forward: weights and biases as rk_cell.pack left them, 64-byte aligned; w_ih, w_hh, b_ih and b_hh
       are then not read. NULL: they are packed anew. */
    void *packed;

    void *workspace;              /* 64-byte aligned, as large as rk_cell.*_workspace says */
} rk_sequence;

/* Rows of all steps together. */
static inline idx rk_all_rows(const rk_sequence *s)
{
    const idx *before = s->schedule.rows_before;
    return before ? before[s->T] - before[0] : s->T * s->N;
}

/* One cell's kernels for one instruction set and dtype. */
typedef struct {
    const char *name;
    int n_gates, n_states;             /* states: h, and c where there are two */
    const char *variants[RK_VARIANTS]; /* names; NULL where there are fewer */
    int matrix_unit;                   /* what rk_sequence.matrix_unit may be */
    /* Segments of a run are to begin at multiples of so many steps, so that sums over steps have the bits of a
       run of one piece. */
    idx (*steps_together)(const rk_sequence *s);
    /* elements of the arrays `gates` and `extra` that a training step keeps */
    void (*stored)(const rk_sequence *s, size_t *gates, size_t *extra);
    /* bytes */
    size_t (*forward_workspace)(const rk_sequence *s);
    size_t (*backward_workspace)(const rk_sequence *s);
    size_t (*packed_size)(const rk_sequence *s);
    /* write the packed weights to s->packed, for any later T, N and n_threads */
    void (*pack)(const rk_sequence *s);
    rk_status (*forward)(const rk_sequence *s);
    rk_status (*backward)(const rk_sequence *s);
} rk_cell;

/*
 * A matrix product c = a . b, plus c itself where it `adds`, or a row `bias` (N) if it is not NULL: a is (M, K), b is
 * (K, N), c is (M, N) with contiguous rows of length c_m apart. One stride of a, and one of b, is 1. Each element is one
 * chain of multiply-adds in the order of k, from what is added on: its bits depend neither on the number of threads nor
 * on the other rows and columns.
 */
typedef struct {
    idx M, N, K;
    const void *a;
    idx a_m, a_k;
    const void *b;
    idx b_k, b_n;
    const void *bias;
    void *c;
    idx c_m;
    int adds;
    int n_threads;
    void *workspace; /* 64-byte aligned */
} rk_product;

typedef struct {
    size_t (*workspace)(const rk_product *p);
    void (*run)(const rk_product *p);
} rk_matmul;

/* Elementwise functions, exposed so that their accuracy can be measured: y[i] = f(x[i]), n values. */
typedef void (*rk_map)(const void *x, void *y, idx n);
typedef struct {
    rk_map exp, tanh, sigmoid, log, log1p;
} rk_math;

#include "program.h"

/* Everything compiled for one instruction set. */
typedef struct {
    const char *isa;
    rk_math math[RK_DTYPES];
    rk_matmul matmul[RK_DTYPES];
    const rk_cell *cells[RK_DTYPES]; /* ended by an entry whose name is NULL */
    rk_training training[RK_DTYPES];
    rk_executor executor[RK_DTYPES];
} rk_kernels;

/* Whether the compiler knows AMX; whether the processor has it is asked at run time. */
#if defined(__x86_64__) && defined(__linux__) && \
    (defined(__clang__) ? __clang_major__ >= 12 : defined(__GNUC__) && __GNUC__ >= 11)
#define RK_AMX_BUILT 1
#endif

/* Instruction sets, the one to take first; ended by NULL. `supported` says whether this processor runs it. */
const rk_kernels *const *rk_kernels_built(void);
int rk_isa_supported(const char *isa);
/* Ask the system for what a supported one needs, before its kernels run: some registers are granted to a whole
   process, and only on request. */
int rk_isa_granted(const char *isa);
const char *rk_compiler(void);

#endif
