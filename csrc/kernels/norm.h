/*
 * The squared norm of several arrays as one vector, and their scaling.
 *
 * Squares are added in double for both dtypes, in blocks of a fixed size whose sums are added in
 * order, so that the threads, which share the blocks, do not change a bit.
 */

#ifndef NORM_BLOCK
#define NORM_BLOCK 16384

static idx blocks_of(idx size) { return (size + NORM_BLOCK - 1) / NORM_BLOCK; }

static idx norm_blocks(const rk_arrays *a)
{
    idx blocks = 0;
    for (idx k = 0; k < a->count; k++) blocks += blocks_of(a->sizes[k]);
    return blocks;
}
#endif

static double R(sum_of_squares)(const real *x, idx n)
{
    vd sums[4] = {vd_set1(0), vd_set1(0), vd_set1(0), vd_set1(0)};
    idx i = 0;
    for (; i + 4 * VD_LANES <= n; i += 4 * VD_LANES)
        for (int k = 0; k < 4; k++) {
            vd wide = v_load_wide(x + i + k * VD_LANES);
            sums[k] = vd_fma(wide, wide, sums[k]);
        }
    double total = vd_sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
    for (; i < n; i++) total += (double)x[i] * (double)x[i];
    return total;
}

static void R(norm_task)(void *arg, int tid, int n_threads)
{
    const rk_arrays *a = arg;
    idx blocks = norm_blocks(a);
    idx from = share_start(blocks, 1, tid, n_threads), to = share_start(blocks, 1, tid + 1, n_threads);
    idx block = 0;
    for (idx k = 0; k < a->count && block < to; k++) {
        idx own = blocks_of(a->sizes[k]);
        for (idx b = from > block ? from - block : 0; b < own && block + b < to; b++) {
            idx start = b * NORM_BLOCK;
            idx n = min_idx(NORM_BLOCK, a->sizes[k] - start);
            a->sums[block + b] = R(sum_of_squares)((const real *)a->arrays[k] + start, n);
        }
        block += own;
    }
}

static double R(squared_norm)(const rk_arrays *a)
{
    idx blocks = norm_blocks(a);
    int threads = threads_for(a->n_threads, (double)blocks * NORM_BLOCK / 2);
    rk_parallel(threads, R(norm_task), (void *)a);
    double total = 0;
    for (idx b = 0; b < blocks; b++) total += a->sums[b];
    return total;
}

static void R(scale_task)(void *arg, int tid, int n_threads)
{
    const rk_arrays *a = arg;
    const vec factor = v_set1((real)a->factor);
    idx total = 0, array_start = 0;
    for (idx k = 0; k < a->count; k++) total += a->sizes[k];
    idx from = share_start(total, 4 * VL, tid, n_threads);
    idx to = share_start(total, 4 * VL, tid + 1, n_threads);
    for (idx k = 0; k < a->count && array_start < to; k++) {
        real *x = a->arrays[k];
        idx first = from > array_start ? from - array_start : 0;
        idx last = min_idx(to - array_start, a->sizes[k]);
#define STEP(i, n) R(store_lanes)(x + (i), R(load_lanes)(x + (i), n) * factor, n)
        FOR_EACH_VECTOR(first, last, STEP);
#undef STEP
        array_start += a->sizes[k];
    }
}

static void R(scale)(const rk_arrays *a)
{
    idx total = 0;
    for (idx k = 0; k < a->count; k++) total += a->sizes[k];
    rk_parallel(threads_for(a->n_threads, (double)total / 2), R(scale_task), (void *)a);
}
