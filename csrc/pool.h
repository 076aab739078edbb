/*
 * One pool of threads for all kernels.
 *
 * rk_parallel runs task(arg, tid, n) for tid = 0 .. n-1, tid 0 on the calling thread, and returns
 * when all are done. n is n_threads or 1: a caller that finds the pool taken by another thread, or for
 * whom the system has not so many threads, runs alone. Workers start when first needed, spin briefly for
 * the next task and then sleep. After a fork the child starts afresh.
 */
#ifndef RNNKIT_POOL_H
#define RNNKIT_POOL_H

#define RK_MAX_THREADS 256

typedef void (*rk_task)(void *arg, int tid, int n_threads);

void rk_parallel(int n_threads, rk_task task, void *arg);

/* Whether the task that the caller is in has lost its other threads, as the process was forked meanwhile and
   this is the child: no barrier waits any more, and what the task makes is not complete. */
int rk_threads_lost(void);

/* What `question` answers, or 0 where it was asked of this thread a moment ago: it may have to wait, as for the
   lock of an interpreter whose other threads are busy, and those who wait meanwhile at a barrier do so too. */
int rk_ask_at_times(int (*question)(void));

/* Whether so many threads would start on a task at once, or a question like this one came less than half a
   millisecond ago: who works in small pieces, one after the other, has them woken once for all. Without
   that, waking costs more than a small task gains. */
int rk_threads_at_hand(int n_threads);

/* Wait, inside a task, until all of its threads have come here; tid and n_threads are those that the
   task was given. */
void rk_barrier_wait(int tid, int n_threads);

/* Nanoseconds that a barrier of two threads takes here, measured at most ten times a second: several
   times as long when the system has put the threads on processors that share no cache. */
double rk_barrier_time(void);

#endif
