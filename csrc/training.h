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

/* Everything of this file for one instruction set and dtype. */
typedef struct {
    const rk_rule *rules; /* ended by an entry whose name is NULL */
} rk_training;

#endif
