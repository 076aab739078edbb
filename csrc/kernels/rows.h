/*
 * Rows of a table: picked by ids, and added to where ids point.
 *
 *     take: rows[i] = table[ids[i]]           threads share the ids
 *     add:  table[ids[i]] += rows[i]          in the order of i; threads share the columns, so that
 *                                             every element is one fixed chain of sums
 */

static void R(take_rows_task)(void *arg, int tid, int n_threads)
{
    const rk_rows *r = arg;
    const real *table = r->table;
    real *rows = r->rows;
    idx end = share_start(r->count, 1, tid + 1, n_threads);
    for (idx i = share_start(r->count, 1, tid, n_threads); i < end; i++)
        memcpy(rows + i * r->width, table + r->ids[i] * r->width, (size_t)r->width * sizeof(real));
}

static void R(take_rows)(const rk_rows *r)
{
    double work = (double)r->count * (double)r->width;
    int threads = threads_for((int)min_idx(r->n_threads, r->count), work);
    rk_parallel(threads, R(take_rows_task), (void *)r);
}

static void R(add_rows_task)(void *arg, int tid, int n_threads)
{
    const rk_rows *r = arg;
    const idx grain = CACHE_LINE / (idx)sizeof(real);
    const idx from = share_start(r->width, grain, tid, n_threads);
    const idx to = share_start(r->width, grain, tid + 1, n_threads);
    if (from == to) return;
    for (idx i = 0; i < r->count; i++) {
        real *sum = (real *)r->table + r->ids[i] * r->width;
        const real *row = (const real *)r->rows + i * r->width;
#define STEP(j, n)                                                                                 \
    R(store_lanes)(sum + (j), R(load_lanes)(sum + (j), n) + R(load_lanes)(row + (j), n), n)
        FOR_EACH_VECTOR(from, to, STEP);
#undef STEP
    }
}

static void R(add_rows)(const rk_rows *r)
{
    const idx grain = CACHE_LINE / (idx)sizeof(real);
    idx most = (r->width + grain - 1) / grain;
    double work = (double)r->count * (double)r->width;
    int threads = threads_for((int)min_idx(r->n_threads, most), work);
    rk_parallel(threads, R(add_rows_task), (void *)r);
}
