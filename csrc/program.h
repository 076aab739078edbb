/*
 * Programs: any cell's step as a list of operations on rows, run over time forward or backward.
 *
 * A program belongs to one step of one direction. It works on one row of the batch at a time, except for
 * products with weights, which take all rows of a thread together: stages of row operations and of products
 * alternate. Where an operand stands is a place: a base, of which there are a few kinds, and an offset in
 * elements from the row that the base has at the step.
 */
#ifndef RNNKIT_PROGRAM_H
#define RNNKIT_PROGRAM_H

/* Included by rnnkit.h, once rk_sequence is known. */

enum { RK_MOST_STATES = 32, RK_MOST_BASES = 512 };

/* Kinds of base: what a row's pointer is at step t. */
typedef enum {
    RK_TEMP,      /* a thread's room for one row */
    RK_INVARIANT, /* the same at every step and row: invariants[index] */
    RK_SEQUENCE,  /* an input of every step: sequences[index] */
    RK_STATE,     /* state `index` before the step */
    RK_KEPT,      /* what the forward pass keeps for the backward pass */
    RK_SUMMANDS,  /* what the backward pass leaves for the products after the loop */
    RK_WIDE,      /* a thread's room for all of its rows */
    RK_OUTPUT,    /* an output of every step: outputs[index] */
    RK_NEXT,      /* forward, nothing kept: all states after the step */
    RK_FLOWING,   /* backward: gradients of all states after the step */
    RK_FLOWED,    /* and before it */
    RK_SUMS,      /* sums over all steps, for each row its own */
} rk_base_kind;

typedef struct {
    int32_t kind, index;
} rk_base;

/* Operations, by how many operands they have; the others say below what they take. */
#define RK_UNARY_OPS(X)                                                                            \
    X(copy) X(neg) X(abs) X(sign) X(floor) X(square) X(sqrt) X(exp) X(expm1) X(log) X(log1p) X(sin) X(cos)    \
    X(tanh) X(sigmoid) X(relu) X(softplus) X(logical_not) X(isfinite) X(isnan)
#define RK_BINARY_OPS(X)                                                                           \
    X(add) X(sub) X(mul) X(div) X(maximum) X(minimum) X(power) X(equal) X(not_equal) X(less)         \
    X(less_equal) X(greater) X(greater_equal) X(logical_and) X(logical_or) X(logical_xor)            \
    X(tanh_gradient) X(sigmoid_gradient)
#define RK_TERNARY_OPS(X) X(where) X(clip) X(muladd) X(mulsub)
#define RK_OTHER_OPS(X) X(gather) X(fill) X(reduce_sum) X(reduce_max) X(reduce_min) X(row_product)

#define RK_OP_NAME(name) RK_OP_##name,
typedef enum {
    RK_UNARY_OPS(RK_OP_NAME) RK_BINARY_OPS(RK_OP_NAME) RK_TERNARY_OPS(RK_OP_NAME)
    RK_OTHER_OPS(RK_OP_NAME) RK_OPS
} rk_op;
#undef RK_OP_NAME

/* Their names, in the same order; ended by NULL. */
extern const char *const rk_op_names[];

typedef struct {
    int32_t base, offset;
    int32_t stride[3];
} rk_operand;

/*
 * One operation on a row, over an iteration space of size[0] * size[1] * size[2].
 *   elementwise  out = op(a, b, c); the last stride of out is 1, of an operand 0 or 1
 *   gather       out = a, any strides
 *   fill         out = 0
 *   reduce       out[i][k] = over j of a[i][j][k]
 *   row_product  out[i][k] = sum over j of a[i][j] b[j][k]; strides of a: (i, j, 0), of b: (j, k, 0)
 */
typedef struct {
    int32_t op;
    int32_t size[3];
    rk_operand out, in[3];
} rk_instruction;

/* out = (out where `adds`, else 0) + in . weight, for all rows. */
typedef struct {
    int32_t weight, adds;
    int32_t in_base, in_offset, out_base, out_offset;
} rk_row_product;

/* A matrix (K, M): element (k, m) at k * k_stride + m * m_stride of an invariant; one stride is 1. */
typedef struct {
    int32_t invariant;
    int32_t K, M, k_stride, m_stride;
} rk_weight;

/* Row operations first .. last-1, then products first .. last-1. */
typedef struct {
    int32_t row_first, row_last, product_first, product_last;
} rk_stage;

/* Where states are: elements of a row from `offset` on, of RK_KEPT or RK_NEXT (forward), of RK_FLOWING and
   RK_FLOWED (backward). RK_STATE (forward): the step hands the state on as it is, and it stays where it began or
   restarted. */
typedef struct {
    int32_t base_kind, offset, width;
} rk_state_place;

typedef struct {
    int n_bases, n_instructions, n_products, n_weights, n_stages, n_states;
    const rk_base *bases;
    const rk_instruction *instructions;
    const rk_row_product *products;
    const rk_weight *weights;
    const rk_stage *stages;
    const rk_state_place *states;
    /* sizes of rows, in elements; multiples of a cache line */
    idx temp_size, wide_size, kept_size, summands_size, states_size, sums_size;
} rk_program;

/* A (T, N, width) array: a grid of the caller's, or rows one after the other as they are kept. */
typedef struct {
    rk_grid grid;
    int packed; /* rows are grid.n apart, in the order of what is kept */
} rk_steps;

/* One run of a program. T, N, n_threads, barrier_time, interrupted and schedule are those of `run`; nothing
   else of it is read. States are (N, width) contiguous arrays of the caller, restarts too (NULL: zero). */
typedef struct {
    rk_sequence run;
    const rk_program *program;
    const void *const *invariants;
    const rk_steps *sequences, *outputs;
    /* forward: initial in, final out. backward: those of the gradients: final in, initial out. */
    const void *initial[RK_MOST_STATES];
    const void *restart[RK_MOST_STATES];
    void *final[RK_MOST_STATES];
    const void *d_final[RK_MOST_STATES];   /* NULL: zero */
    void *d_initial[RK_MOST_STATES];       /* NULL: not wanted */
    void *d_restart[RK_MOST_STATES];       /* are added to; NULL: not wanted */
    rk_state_place kept_states[RK_MOST_STATES]; /* backward: where the forward pass kept each state; width
                                                   0: it did not */
    idx kept_size;                          /* of a row of kept */
    void *kept;                             /* (rows, kept_size); NULL: keep nothing */
    void *summands;                         /* (rows, summands_size), from the last step to the first */
    void *sums;                             /* (N, sums_size) */
    void *packed;   /* packed_size bytes for the weights, for this run and later ones with the same
                       invariants; NULL: they are packed in the workspace */
    int is_packed;  /* an earlier run has */
    void *workspace;
} rk_program_run;

typedef struct {
    size_t (*packed_size)(const rk_program *program);
    size_t (*workspace)(const rk_program_run *run); /* packed says whether the weights are in it */
    rk_status (*forward)(const rk_program_run *run);
    rk_status (*backward)(const rk_program_run *run);
} rk_executor;

#endif
