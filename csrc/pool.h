/*
 * One pool of threads for all kernels.
 *
 * rk_parallel runs task(arg, tid, n) for tid = 0 .. n-1, tid 0 on the calling thread, and returns
 * when all are done. n is n_threads or 1: a caller that finds the pool taken by another thread runs
 * alone. Workers start when first needed, spin briefly for the next task and then sleep. After a
 * fork the child starts afresh.
 */
#ifndef RNNKIT_POOL_H
#define RNNKIT_POOL_H

#include <stdatomic.h>

#define RK_MAX_THREADS 256

typedef void (*rk_task)(void *arg, int tid, int n_threads);

void rk_parallel(int n_threads, rk_task task, void *arg);

/* A barrier among the threads of one task. Zero-initialised; reusable at once. */
typedef struct {
    atomic_int arrived;
    atomic_int phase;
} rk_barrier;

void rk_barrier_wait(rk_barrier *b, int n_threads);

#endif
