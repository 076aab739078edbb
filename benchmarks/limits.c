/* The limits of this machine: multiply-adds a second, and bytes read a second from each cache.
 *
 * Compiled by limits.py when the benchmarks run, for the very processor they run on. Each routine
 * starts `threads` threads, lets them begin together, and returns the seconds from the first
 * beginning to the last end, or -1 when a thread could not be started.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <time.h>

#if defined(__AVX512F__)
#define WIDTH 64
#elif defined(__AVX__)
#define WIDTH 32
#else
#define WIDTH 16
#endif

/* Two multiply-add units of up to five cycles need ten chains to be busy; more than the registers
 * hold would spill. */
#if defined(__AVX512F__) || defined(__aarch64__)
#define CHAINS 20
#define EACH_CHAIN(DO) \
    DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) \
    DO(10) DO(11) DO(12) DO(13) DO(14) DO(15) DO(16) DO(17) DO(18) DO(19)
#else
#define CHAINS 10
#define EACH_CHAIN(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9)
#endif

#define MAX_THREADS 256

typedef float floats __attribute__((vector_size(WIDTH)));
typedef double doubles __attribute__((vector_size(WIDTH)));
typedef long long words __attribute__((vector_size(WIDTH)));

typedef struct job {
    pthread_t thread;
    void (*work)(struct job *);
    atomic_int *waiting;
    const char *begin;
    size_t bytes;
    long rounds;
    double start, stop, sink;
} job;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* chain <- chain * factor + 1 settles at 2, far from overflow and from subnormals. Every chain
 * starts elsewhere, or the compiler would keep only one. */
#define DEFINE_FMA(name, vector, scalar)                                    \
    static void name(job *j) {                                              \
        vector factor = {0}, one = {0};                                     \
        factor += (scalar)0.5 + (scalar)(j->rounds < 0);                    \
        one += (scalar)1 + (scalar)(j->rounds < 0);                         \
        EACH_CHAIN(DECLARE_##vector)                                        \
        for (long k = 0; k < j->rounds; k++) { EACH_CHAIN(ADVANCE) }        \
        vector sum = {0};                                                   \
        EACH_CHAIN(COLLECT)                                                 \
        j->sink = (double)sum[0];                                           \
    }
#define DECLARE_floats(i) floats chain##i = factor + (float)i;
#define DECLARE_doubles(i) doubles chain##i = factor + (double)i;
#define ADVANCE(i) chain##i = chain##i * factor + one;
#define COLLECT(i) sum += chain##i;

DEFINE_FMA(fma_float32, floats, float)
DEFINE_FMA(fma_float64, doubles, double)

/* Eight streams in one: enough loads in flight for any cache. */
static void read_all(job *j) {
    words a = {0}, b = {0}, c = {0}, d = {0}, e = {0}, f = {0}, g = {0}, h = {0};
    const words *end = (const words *)(j->begin + j->bytes);
    for (long k = 0; k < j->rounds; k++) {
        for (const words *p = (const words *)j->begin; p < end; p += 8) {
            a ^= p[0]; b ^= p[1]; c ^= p[2]; d ^= p[3];
            e ^= p[4]; f ^= p[5]; g ^= p[6]; h ^= p[7];
        }
        __asm__ volatile("" ::: "memory"); /* the next round reads again */
    }
    a ^= b ^ c ^ d ^ e ^ f ^ g ^ h;
    j->sink = (double)a[0];
}

static void *run_job(void *argument) {
    job *j = argument;
    long rounds = j->rounds;
    j->rounds = 1;
    j->work(j); /* brings code and data in */
    j->rounds = rounds;
    atomic_fetch_sub(j->waiting, 1);
    while (atomic_load(j->waiting) > 0) {
    }
    j->start = now();
    j->work(j);
    j->stop = now();
    return NULL;
}

static double run(void (*work)(job *), int threads, const char *data, size_t bytes, long rounds) {
    static job jobs[MAX_THREADS];
    atomic_int waiting = threads;
    int started = 1;
    if (threads < 1 || threads > MAX_THREADS) return -1;
    for (int i = 0; i < threads; i++)
        jobs[i] = (job){.work = work, .waiting = &waiting, .begin = data + (size_t)i * bytes,
                        .bytes = bytes, .rounds = rounds};
    while (started < threads &&
           pthread_create(&jobs[started].thread, NULL, run_job, &jobs[started]) == 0)
        started++;
    if (started < threads) atomic_store(&waiting, 1); /* those that started need not wait */
    run_job(&jobs[0]);
    double start = jobs[0].start, stop = jobs[0].stop;
    for (int i = 1; i < started; i++) {
        pthread_join(jobs[i].thread, NULL);
        if (jobs[i].start < start) start = jobs[i].start;
        if (jobs[i].stop > stop) stop = jobs[i].stop;
    }
    return started == threads ? stop - start : -1;
}

/* Floating-point operations of one round of fma_* on one thread. */
int flops_per_round(int bytes_per_number) {
    return 2 * CHAINS * WIDTH / bytes_per_number;
}

/* Every thread's part of the data must be a multiple of this and begin at a multiple of 64. */
int read_granularity(void) {
    return 8 * WIDTH;
}

double time_fma(int bytes_per_number, int threads, long rounds) {
    return run(bytes_per_number == 4 ? fma_float32 : fma_float64, threads, NULL, 0, rounds);
}

/* Thread i reads the `bytes` bytes from data + i * bytes, `rounds` times. */
double time_read(const char *data, size_t bytes, int threads, long rounds) {
    return run(read_all, threads, data, bytes, rounds);
}
