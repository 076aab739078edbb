/* The thread pool; pool.h tells how it behaves. */
#if defined(__linux__)
#define _GNU_SOURCE /* processors of threads */
#endif
#include "pool.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#define pause_briefly() _mm_pause()
#elif defined(__aarch64__)
#define pause_briefly() __asm__ __volatile__("yield")
#else
#define pause_briefly() ((void)0)
#endif

/* Spins before offering the processor to others, about a tenth of a millisecond, which outlasts the Python
   between two calls; then offers before sleeping, about a millisecond where nobody accepts. */
enum { SPINS_BEFORE_YIELD = 10000, YIELDS_BEFORE_SLEEP = 2000 };

static struct {
    pthread_mutex_t callers; /* held by the one thread that is running a task on the pool */
    pthread_mutex_t lock;    /* guards sleeping */
    pthread_cond_t wake;
    atomic_uint generation;  /* counts tasks; workers wait for it to change */
    atomic_int unfinished;   /* workers still busy with the current task */
    int n_workers;           /* started so far; written by the holder of `callers` only */
    atomic_int awake;        /* of these */
    int n_threads;           /* of the current task */
    rk_task task;
    void *arg;
    atomic_int processor[RK_MAX_THREADS]; /* where each thread last ran */
} pool = {
    .callers = PTHREAD_MUTEX_INITIALIZER,
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .wake = PTHREAD_COND_INITIALIZER,
};

/* Set in the threads of the pool, and in a caller during its task: a nested call runs alone. */
static _Thread_local int inside_task;

/* Set in a caller whose task a fork has cut off from its other threads. */
static _Thread_local int threads_lost;

/* Of each worker, by its number in a task (the caller is 0). */
typedef struct {
    pthread_t thread;
    int tid;
    unsigned seen;     /* generation awaited first, so that it cannot miss the task it was started for */
    int asleep;        /* guarded by pool.lock */
#if defined(__linux__)
    int sent_away;     /* from its `allowed` processors; set while it awaits a task, undone at its start */
    cpu_set_t allowed;
#endif
} worker_state;

static worker_state workers[RK_MAX_THREADS];

/* At barriers of the current task, by thread. */
static struct {
    _Alignas(64) atomic_uint count;
} arrivals[RK_MAX_THREADS];

static unsigned wait_for_change(int tid, unsigned seen)
{
    for (int i = 0; i < SPINS_BEFORE_YIELD; i++) {
        unsigned now = atomic_load_explicit(&pool.generation, memory_order_acquire);
        if (now != seen) return now;
        pause_briefly();
    }
    for (int i = 0; i < YIELDS_BEFORE_SLEEP; i++) {
        unsigned now = atomic_load_explicit(&pool.generation, memory_order_acquire);
        if (now != seen) return now;
        sched_yield();
    }
    pthread_mutex_lock(&pool.lock);
    workers[tid].asleep = 1;
    atomic_fetch_sub_explicit(&pool.awake, 1, memory_order_relaxed);
    unsigned now;
    while ((now = atomic_load_explicit(&pool.generation, memory_order_acquire)) == seen)
        pthread_cond_wait(&pool.wake, &pool.lock);
    workers[tid].asleep = 0;
    atomic_fetch_add_explicit(&pool.awake, 1, memory_order_relaxed);
    pthread_mutex_unlock(&pool.lock);
    return now;
}

/*
 * Processors. The system may wake a worker on the very processor on which the caller runs, and leave it
 * there for milliseconds: the two then take turns while another processor idles. So the caller sends
 * workers that sleep, or were last seen beside it, to the other processors before it wakes them, and
 * a worker that finds itself beside another thread of its task moves on. Either way it is free to be
 * moved again at once. Elsewhere than on Linux the system is left to itself.
 */
#if defined(__linux__)

/* The processors of `set` without those of `taken`; false if there are none. */
static int without(cpu_set_t *set, const cpu_set_t *taken)
{
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, taken)) CPU_CLR(cpu, set);
    return CPU_COUNT(set) > 0;
}

/* By the caller, with pool.lock held, before workers are woken. */
static void send_workers_away(void)
{
    int here = sched_getcpu();
    atomic_store_explicit(&pool.processor[0], here, memory_order_relaxed);
    if (here < 0 || here >= CPU_SETSIZE) return;
    cpu_set_t taken;
    CPU_ZERO(&taken);
    CPU_SET(here, &taken);
    for (int tid = 1; tid < pool.n_threads; tid++) { /* those that will undo it */
        worker_state *w = &workers[tid];
        int there = atomic_load_explicit(&pool.processor[tid], memory_order_relaxed);
        if (w->sent_away || (!w->asleep && there != here)) continue;
        cpu_set_t elsewhere;
        if (pthread_getaffinity_np(w->thread, sizeof w->allowed, &w->allowed)) continue;
        elsewhere = w->allowed;
        if (without(&elsewhere, &taken) &&
            !pthread_setaffinity_np(w->thread, sizeof elsewhere, &elsewhere))
            w->sent_away = 1;
    }
}

/* By a worker, at the start of a task. */
static void take_a_processor(int tid)
{
    worker_state *w = &workers[tid];
    if (w->sent_away) {
        pthread_setaffinity_np(w->thread, sizeof w->allowed, &w->allowed);
        w->sent_away = 0;
    }
    int here = sched_getcpu(), crowded = 0;
    atomic_store_explicit(&pool.processor[tid], here, memory_order_relaxed);
    cpu_set_t taken;
    CPU_ZERO(&taken);
    for (int other = 0; other < pool.n_threads; other++) {
        int there = atomic_load_explicit(&pool.processor[other], memory_order_relaxed);
        if (other != tid && there == here) crowded = 1;
        if (there >= 0 && there < CPU_SETSIZE) CPU_SET(there, &taken);
    }
    if (!crowded) return;
    cpu_set_t allowed, better;
    if (pthread_getaffinity_np(w->thread, sizeof allowed, &allowed)) return;
    better = allowed;
    if (!without(&better, &taken) || pthread_setaffinity_np(w->thread, sizeof better, &better)) return;
    pthread_setaffinity_np(w->thread, sizeof allowed, &allowed);
    atomic_store_explicit(&pool.processor[tid], sched_getcpu(), memory_order_relaxed);
}

#else
static void send_workers_away(void) {}
static void take_a_processor(int tid) { (void)tid; }
#endif

static void *worker(void *start)
{
    int tid = ((worker_state *)start)->tid;
    unsigned seen = ((worker_state *)start)->seen;
    inside_task = 1;
    for (;;) {
        seen = wait_for_change(tid, seen);
        /* The caller waits for every worker, so the task's fields stay as they are until this
           worker has counted itself finished. */
        if (tid < pool.n_threads) {
            take_a_processor(tid);
            pool.task(pool.arg, tid, pool.n_threads);
        }
        atomic_fetch_sub_explicit(&pool.unfinished, 1, memory_order_release);
    }
    return NULL;
}

/* Who forks while it is in a task, as a signal handler may that the task has called, comes back to it: with
   no other thread there any more, nothing may wait for one. */
static void after_fork_in_child(void)
{
    pthread_mutex_init(&pool.callers, NULL);
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wake, NULL);
    atomic_store(&pool.unfinished, 0);
    atomic_store(&pool.awake, 0);
    pool.n_workers = 0;
    threads_lost = inside_task;
    if (!inside_task) return;
    pthread_mutex_lock(&pool.callers);
    unsigned far = atomic_load(&arrivals[0].count) + INT_MAX / 2;
    for (int tid = 1; tid < pool.n_threads; tid++) atomic_store(&arrivals[tid].count, far);
}

static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, after_fork_in_child);
}

/* A signal to the process is for the program's own threads, which may have blocked it or wait for it. Not
   blocked are those that a thread's own instructions raise. */
static void block_signals(sigset_t *before)
{
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
    sigset_t blocked;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) sigdelset(&blocked, own[i]);
    pthread_sigmask(SIG_BLOCK, &blocked, before);
}

/* Start workers until there are n, as far as the system allows; returns how many there are. */
static int start_workers(int n)
{
    if (pool.n_workers >= n) return pool.n_workers;
    sigset_t before;
    block_signals(&before); /* which a new thread inherits */
    while (pool.n_workers < n) {
        int tid = pool.n_workers + 1;
        worker_state *w = &workers[tid];
        *w = (worker_state){.tid = tid, .seen = atomic_load(&pool.generation)};
        atomic_store(&pool.processor[tid], -1);
        pthread_attr_t attributes;
        if (pthread_attr_init(&attributes)) break;
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        int failed = pthread_create(&w->thread, &attributes, worker, w);
        pthread_attr_destroy(&attributes);
        if (failed) break;
        atomic_fetch_add_explicit(&pool.awake, 1, memory_order_relaxed);
        pool.n_workers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return pool.n_workers;
}

static void run_alone(rk_task task, void *arg)
{
    int of_outer_task = threads_lost;
    threads_lost = 0;
    task(arg, 0, 1);
    threads_lost |= of_outer_task;
}

void rk_parallel(int n_threads, rk_task task, void *arg)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (n_threads > RK_MAX_THREADS) n_threads = RK_MAX_THREADS;
    /* Before the pool is taken: another thread may fork at any moment. */
    if (n_threads > 1) pthread_once(&once, watch_forks);
    if (n_threads <= 1 || inside_task || pthread_mutex_trylock(&pool.callers)) {
        run_alone(task, arg);
        return;
    }
    if (start_workers(n_threads - 1) < n_threads - 1) { /* the task's work and memory are planned for n_threads */
        pthread_mutex_unlock(&pool.callers);
        run_alone(task, arg);
        return;
    }
    pool.task = task;
    pool.arg = arg;
    pool.n_threads = n_threads;
    atomic_store(&pool.unfinished, pool.n_workers);
    for (int tid = 0; tid < n_threads; tid++)
        atomic_store_explicit(&arrivals[tid].count, 0, memory_order_relaxed);
    pthread_mutex_lock(&pool.lock);
    send_workers_away();
    atomic_fetch_add_explicit(&pool.generation, 1, memory_order_release);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);

    inside_task = 1;
    task(arg, 0, n_threads);
    inside_task = threads_lost = 0;

    for (int i = 0; atomic_load_explicit(&pool.unfinished, memory_order_acquire); i++) {
        if (i < SPINS_BEFORE_YIELD) pause_briefly();
        else sched_yield();
    }
    pthread_mutex_unlock(&pool.callers);
}

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

enum { SOON_NS = 500 * 1000 };

int rk_threads_lost(void)
{
    return threads_lost;
}

/* Of the time of a run that asks, at most a twentieth. */
enum { PAUSE_FOR_QUESTION = 20, SHORTEST_PAUSE_NS = 1000 * 1000, LONGEST_PAUSE_NS = 100 * 1000 * 1000 };

int rk_ask_at_times(int (*question)(void))
{
    static _Thread_local double ask_from = -1e18;
    double asked = now_ns();
    if (asked < ask_from) return 0;
    int answer = question();
    double answered = now_ns(), pause = PAUSE_FOR_QUESTION * (answered - asked);
    if (pause < SHORTEST_PAUSE_NS) pause = SHORTEST_PAUSE_NS;
    if (pause > LONGEST_PAUSE_NS) pause = LONGEST_PAUSE_NS;
    ask_from = answered + pause;
    return answer;
}

int rk_threads_at_hand(int n_threads)
{
    static _Atomic double asked_at = -1e18;
    double now = now_ns(), before = atomic_exchange_explicit(&asked_at, now, memory_order_relaxed);
    if (now - before < SOON_NS) return 1;
    return atomic_load_explicit(&pool.awake, memory_order_relaxed) >= n_threads - 1;
}

/* Each thread counts its arrivals in a cache line of its own and reads those of the others. The last to
   arrive goes on after one read, and no line is written by two. */
void rk_barrier_wait(int tid, int n_threads)
{
    if (n_threads == 1) return;
    unsigned count = atomic_load_explicit(&arrivals[tid].count, memory_order_relaxed) + 1;
    atomic_store_explicit(&arrivals[tid].count, count, memory_order_release);
    for (int other = 0; other < n_threads; other++) {
        /* One that is ahead has seen this arrival. */
        for (int i = 0;
             (int)(atomic_load_explicit(&arrivals[other].count, memory_order_acquire) - count) < 0; i++) {
            if (i < SPINS_BEFORE_YIELD) pause_briefly();
            else sched_yield();
        }
    }
}

/* ---- how long a barrier takes ------------------------------------------------------------------- */

enum { BARRIERS_TIMED = 16, TIMINGS = 4, TIMING_LASTS_NS = 100 * 1000 * 1000 };

/* The shortest of some timings: the others may have been interrupted. */
static void time_barriers(void *shortest, int tid, int n_threads)
{
    rk_barrier_wait(tid, n_threads);
    for (int i = 0; i < TIMINGS; i++) {
        double start = now_ns();
        for (int j = 0; j < BARRIERS_TIMED; j++) rk_barrier_wait(tid, n_threads);
        double each = (now_ns() - start) / BARRIERS_TIMED, *least = shortest;
        if (tid == 0 && n_threads > 1 && (i == 0 || each < *least)) *least = each;
    }
}

double rk_barrier_time(void)
{
    static _Atomic double time = 100, measured_at = 0;
    double now = now_ns();
    if (now - atomic_load(&measured_at) > TIMING_LASTS_NS) {
        atomic_store(&measured_at, now);
        double found = atomic_load(&time);
        rk_parallel(2, time_barriers, &found);
        atomic_store(&time, found);
    }
    return atomic_load(&time);
}
