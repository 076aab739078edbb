/*
 * What a training step touches besides the recurrent layers and the matrix products.
 *
 * The rules of rnnkit.h hold here too. All arrays are contiguous; sizes may be zero. Results have the
 * same bits for any n_threads, which is an upper bound: small problems use fewer.
 */
#ifndef RNNKIT_TRAINING_H
#define RNNKIT_TRAINING_H

#include <stddef.h>
#include <stdint.h>

typedef ptrdiff_t idx;

/* ---- optimisers */

enum { RK_RULE_STATES = 3, RK_RULE_COEFFICIENTS = 7 };

/* One parameter: its values, its gradient, and the state that the rule keeps for it. */
typedef struct {
    idx size;
    void *p;
    const void *d_p;
    void *state[RK_RULE_STATES]; /* NULL where the option that needs it is off */
    double c[RK_RULE_COEFFICIENTS];
} rk_parameter;

/* The parameters of one update. They may overlap only where n_threads is 1; they are then updated
   one after the other. */
typedef struct {
    int n_threads;
    idx count;
    const rk_parameter *parameters;
} rk_parameters;

/* An optimiser's update, in place. The kernel's file tells what its states and coefficients are. */
typedef struct {
    const char *name;
    int n_states, n_coefficients;
    unsigned optional; /* bit i: state i may be absent */
    void (*update)(const rk_parameters *all);
} rk_rule;

/* ---- several arrays as one vector */

typedef struct {
    int n_threads; /* arrays to be scaled may overlap only where this is 1 */
    idx count;
    void *const *arrays;
    const idx *sizes;
    double factor; /* scale */
    double *sums;  /* squared_norm: work space of norm_blocks(a) numbers */
} rk_arrays;

/* ---- cross entropy of rows of logits against class ids; the kernel's file has the equations */

typedef struct {
    int n_threads;
    idx rows, classes;            /* classes >= 1 */
    const void *x;                /* (rows, classes) logits */
    const int64_t *target;        /* (rows), each in [0, classes) */
    const unsigned char *kept;    /* (rows), 0: the row counts for nothing */
    const void *hit, *total;      /* (rows) share of the target, and of all classes together */
    const void *rest;             /* (classes) share of every class; NULL: none */
    double spread;                /* the sum of rest */

    void *top, *others;           /* (rows) m and S: outputs of forward, inputs of backward */
    void *loss;                   /* (rows) output of forward */

    const void *d_loss;           /* (rows) */
    void *d_x;                    /* (rows, classes) output of backward; may be x */
} rk_cross_entropy;

/* ---- connectionist temporal classification; the kernel's file has the equations */

/* Blanks, and labels, of a row are kept as so many numbers, whatever the instruction set: a multiple of
   every vector's lanes, with room for one more than there are blanks. */
enum { RK_CTC_GRAIN = 16 };
static inline idx rk_ctc_width(idx labels)
{
    return (labels + 2 + RK_CTC_GRAIN - 1) / RK_CTC_GRAIN * RK_CTC_GRAIN;
}

typedef struct {
    int n_threads;
    idx T, N, C;                  /* C >= 1 */
    idx blank, labels;            /* in [0, C); the most labels of a row */
    const void *x;                /* (T, N, C) log probabilities */
    const int64_t *target;        /* (N, labels), each in [0, C) where it is part of a row */
    const int64_t *input_length;  /* (N), each from 0 to T */
    const int64_t *target_length; /* (N), each from 0 to labels */

    void *alphas;                 /* (N, T, 2 rk_ctc_width(labels)): output of forward, NULL: not wanted; input of
                                     backward */
    void *loss;                   /* (N) output of forward, input of backward */

    const void *d_loss;           /* (N); 0: the row's gradient is 0, even where its loss is infinite */
    void *d_x;                    /* (T, N, C) output of backward */

    void *workspace;              /* 64-byte aligned, as large as ctc_workspace says */
} rk_ctc;

/* ---- rows of a table (embedding) */

typedef struct {
    int n_threads;
    idx count, width;
    const int64_t *ids; /* (count), each a row of the table */
    void *table;        /* (any, width); add_rows changes it */
    void *rows;         /* (count, width); take_rows writes it */
} rk_rows;

/* ---- dropout; the kernel's file tells the generator */

typedef struct {
    int n_threads;
    idx size;
    const void *x;
    void *y; /* may be x */
    uint64_t seed;
    uint32_t threshold; /* the share of elements dropped, of 2^32 */
    double scale;       /* of the others */
} rk_dropout;

/* Everything of this file for one instruction set and dtype. */
typedef struct {
    const rk_rule *rules; /* ended by an entry whose name is NULL */
    idx (*norm_blocks)(const rk_arrays *a);
    double (*squared_norm)(const rk_arrays *a); /* added up in double for both dtypes */
    void (*scale)(const rk_arrays *a);          /* by factor, in place */
    void (*cross_entropy_forward)(const rk_cross_entropy *c);
    void (*cross_entropy_backward)(const rk_cross_entropy *c);
    size_t (*ctc_workspace)(const rk_ctc *c); /* bytes */
    void (*ctc_forward)(const rk_ctc *c);
    void (*ctc_backward)(const rk_ctc *c);
    void (*take_rows)(const rk_rows *r);
    void (*add_rows)(const rk_rows *r);
    void (*dropout)(const rk_dropout *d);
} rk_training;

#endif
