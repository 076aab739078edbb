/*
 * Loops over whole arrays: a vector at a time, the last one in part, and shared among threads.
 */

/* n lanes, 0 < n <= VL. With n a constant VL these are plain loads and stores. */
VEC_INLINE vec R(load_lanes)(const real *p, idx n) { return n == VL ? v_load(p) : v_load_n(p, n); }

VEC_INLINE void R(store_lanes)(real *p, vec v, idx n)
{
    if (n == VL) v_store(p, v);
    else v_store_n(p, v, n);
}

VEC_INLINE vec R(first_lanes)(vec v, idx n) { return n == VL ? v : v_first(v, n); }

/* step(i, n) for vectors of n lanes at i, from `from` to `to`: `step` is a macro. */
#ifndef FOR_EACH_VECTOR
#define FOR_EACH_VECTOR(from, to, step)                                                            \
    do {                                                                                           \
        idx each = from;                                                                           \
        for (; each + VL <= (to); each += VL) step(each, VL);                                      \
        if (each < (to)) step(each, (to)-each);                                                    \
    } while (0)

/* Elements of work that repay another thread. */
#define WORK_FOR_A_THREAD 32768

VEC_INLINE int threads_for(int n_threads, double work)
{
    double most = work / WORK_FOR_A_THREAD;
    if (n_threads > most) n_threads = (int)most;
    return n_threads < 1 ? 1 : n_threads;
}

/* Where a thread's share of `total` begins, a whole number of `grain`; that of thread n is the end. */
VEC_INLINE idx share_start(idx total, idx grain, int tid, int n_threads)
{
    idx grains = (total + grain - 1) / grain;
    return min_idx(grains * tid / n_threads * grain, total);
}
#endif
