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
 *   - inputs may alias each other; outputs alias nothing, except d_gates, which may be gates itself.
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
    int n_threads;            /* upper bound; small problems use fewer */
    double barrier_time;      /* rk_barrier_time(), or 0 where it does not matter */
    int (*interrupted)(void); /* polled now and then by the calling thread; NULL: never */

    /* inputs */
    const void *x;                /* (T, N, I) at x + t*x_t + n*x_n */
    idx x_t, x_n;
    const void *w_ih, *w_hh;      /* (gH, I), (gH, H) contiguous */
    const void *b_ih, *b_hh;      /* (gH), both NULL: no bias */
    const void *h_0, *c_0;        /* (N, H) contiguous; c_0 for the LSTM only */

    /* outputs of the forward pass; inputs of the backward pass */
    void *y;                      /* (T, N, H) at y + t*y_t + n*y_n */
    idx y_t, y_n;
    void *h_n, *c_n;              /* (N, H) contiguous; forward only */
    void *gates, *extra;          /* kept for backward (rk_cell.stored); NULL: keep nothing */

    /* backward: inputs (NULL: that output has no gradient) */
    const void *d_y;
    idx d_y_t, d_y_n;
    const void *d_h_n, *d_c_n;    /* (N, H) contiguous */

    /* backward: outputs; NULL: not wanted. d_gates and d_extra are required: gates and extra
       themselves where these may be overwritten, else arrays of the same sizes. */
    void *d_gates, *d_extra;
    void *d_x;                    /* (T, N, I) at d_x + t*d_x_t + n*d_x_n */
    idx d_x_t, d_x_n;
    int d_x_add;                  /* 1: add to d_x, 0: overwrite it */
    void *d_w_ih, *d_w_hh;
    void *d_b_ih, *d_b_hh;
    void *d_h_0, *d_c_0;

    /* forward: weights and biases as rk_cell.pack left them, 64-byte aligned; w_ih, w_hh, b_ih and b_hh
       are then not read. NULL: they are packed anew. */
    void *packed;

    void *workspace;              /* 64-byte aligned, as large as rk_cell.*_workspace says */
} rk_sequence;

/* One cell's kernels for one instruction set and dtype. */
typedef struct {
    const char *name;
    int n_gates, n_states;             /* states: h, and c where there are two */
    const char *variants[RK_VARIANTS]; /* names; NULL where there are fewer */
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
 * A matrix product c = a . b, plus a row `bias` (N) if it is not NULL: a is (M, K), b is (K, N), c is
 * (M, N) with contiguous rows of length c_m apart. One stride of a, and one of b, is 1. Each element is one chain of multiply-adds in the order
 * of k, from its bias on: its bits depend neither on the number of threads nor on the other rows and columns.
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
    rk_map exp, tanh, sigmoid;
} rk_math;

/* Everything compiled for one instruction set. */
typedef struct {
    const char *isa;
    rk_math math[RK_DTYPES];
    rk_matmul matmul[RK_DTYPES];
    const rk_cell *cells[RK_DTYPES]; /* ended by an entry whose name is NULL */
    rk_training training[RK_DTYPES];
} rk_kernels;

/* Instruction sets, best first; ended by NULL. `supported` says whether this processor runs it. */
const rk_kernels *const *rk_kernels_built(void);
int rk_isa_supported(const char *isa);
const char *rk_compiler(void);

#endif
