/*
 * Matrix products of any shape (rk_product), by the register tile.
 *
 * Columns of b are taken in panels of four vectors. For a block of k, each panel is packed so that the
 * tile reads it in order from the first cache, and all rows of a pass over it. Rows of a whose k's do
 * not adjoin are packed too, a tile at a time. Threads share out the panels, or the rows where
 * there are too few panels.
 */

enum { R(PANEL) = 4 * VL };

typedef struct {
    const rk_product *p;
    int n_threads;
    int small;        /* work for several threads only where these are at hand */
    int by_rows;
    idx scratch_size; /* elements per thread */
    idx block;        /* k's per block */
} R(product_run);

static void R(plan_product)(R(product_run) *r, const rk_product *p)
{
    idx panels = (p->N + R(PANEL) - 1) / R(PANEL);
    double work = (double)p->M * (double)p->N * (double)p->K;
    r->p = p;
    r->n_threads = work < WORK_FOR_ONE_AT_HAND ? 1 : p->n_threads;
    r->small = work < WORK_FOR_A_REGION;
    /* Threads that share out the rows pack all of b each; those that share out the columns, all of a, and
       what is left of the last panels is one thread's gain. */
    idx most_columns = (panels + r->n_threads - 1) / r->n_threads * R(PANEL);
    int uneven = most_columns * r->n_threads > p->N + p->N / 8;
    r->by_rows = p->M >= 16 * r->n_threads &&
                 (panels < 2 * r->n_threads || uneven || (p->a_k != 1 && p->M > p->N));
    if (!r->by_rows && panels < r->n_threads) r->n_threads = (int)panels;
    /* A thread that runs alone, since the pool is taken, has the room of all. */
    idx rows = r->by_rows ? (p->M + r->n_threads - 1) / r->n_threads : p->M;
    /* The result is read and written again for every block. */
    r->block = PRODUCT_BLOCK;
    if (p->a_k != 1) {
        idx fit = SECOND_CACHE / 2 / (rows * (idx)sizeof(real)) / VL * VL;
        r->block = min_idx(r->block, fit > LEAST_PRODUCT_BLOCK ? fit : LEAST_PRODUCT_BLOCK);
    }
    /* Four packed panels (few rows), the packed rows of a, one tile of the last columns, their bias. */
    r->scratch_size = 4 * r->block * R(PANEL) + 9 * R(PANEL);
    if (p->a_k != 1) r->scratch_size += r->block * round_up(rows, 8) + VL;
    r->scratch_size = round_up(r->scratch_size, 64);
}

static size_t R(matmul_workspace)(const rk_product *p)
{
    R(product_run) r;
    R(plan_product)(&r, p);
    return (size_t)(r.n_threads * r.scratch_size) * sizeof(real);
}

/* Pack k0..k1 of the `width` columns from n on, padded with zero to whole vectors of `padded`. */
static void R(pack_product_panel)(const rk_product *p, real *dst, idx k0, idx k1, idx n, idx width,
                                  idx padded)
{
    const real *b = (const real *)p->b + k0 * p->b_k + n * p->b_n;
    if (p->b_n == 1) {
        for (idx k = k0; k < k1; k++, b += p->b_k, dst += padded) {
            idx c = 0;
            for (; c + VL <= width; c += VL) v_store(dst + c, v_load(b + c));
            if (c < width) v_store(dst + c, v_load_n(b + c, width - c));
        }
        return;
    }
    for (idx c = 0; c < padded; c += VL)
        for (idx k = k0; k < k1; k += VL)
            R(transpose_block)(b + c * p->b_n + (k - k0), p->b_n, (int)min_idx(VL, width - c),
                               (int)min_idx(VL, k1 - k), dst + (k - k0) * padded + c, padded);
}

/* Pack k0..k1 of the `count` rows of a from m on, whose k's do not adjoin: [k][row]. Whole vectors are
   written: what exceeds a row of the tile is overwritten by the next, and dst has room for a vector
   more. */
static void R(pack_product_rows)(const rk_product *p, real *dst, idx k0, idx k1, idx m, int count)
{
    const real *a = (const real *)p->a + k0 * p->a_k + m;
    idx left = p->M - m;
    if (VL < count) {
        for (idx k = k0; k < k1; k++, a += p->a_k, dst += count)
            for (int r = 0; r < count; r++) dst[r] = a[r];
    } else if (left >= VL) {
        for (idx k = k0; k < k1; k++, a += p->a_k, dst += count) v_store(dst, v_load(a));
    } else {
        for (idx k = k0; k < k1; k++, a += p->a_k, dst += count) v_store(dst, v_load_n(a, left));
    }
}

static void R(matmul_task)(void *arg, int tid, int n_threads)
{
    const R(product_run) *run = arg;
    const rk_product *p = run->p;
    idx panels = (p->N + R(PANEL) - 1) / R(PANEL);
    idx m0 = 0, m1 = p->M, first = 0, last = panels;
    if (run->by_rows) {
        m0 = p->M * tid / n_threads;
        m1 = p->M * (tid + 1) / n_threads;
    } else {
        first = panels * tid / n_threads;
        last = panels * (tid + 1) / n_threads;
    }
    if (m0 == m1) return;
    real *packed_b = (real *)p->workspace + tid * run->scratch_size;
    real *edge = packed_b + 4 * run->block * R(PANEL);
    real *edge_bias = edge + 8 * R(PANEL);
    real *packed_a = edge_bias + R(PANEL);
    real *c = p->c;
    idx n_rows = m1 - m0, most = R(tile_rows)(4);
    idx n_tiles = (n_rows + most - 1) / most;

    for (idx k0 = 0; k0 < p->K; k0 += run->block) {
        idx k1 = min_idx(k0 + run->block, p->K), K = k1 - k0;
        if (p->a_k != 1) {
            real *dst = packed_a;
            for (idx i = 0, m = m0; i < n_tiles; i++) {
                int count = (int)((m1 - m + n_tiles - i - 1) / (n_tiles - i));
                R(pack_product_rows)(p, dst, k0, k1, m, count);
                dst += count * K;
                m += count;
            }
        }
        for (idx panel = first; panel < last;) {
            idx n = panel * R(PANEL), width = min_idx(R(PANEL), p->N - n);
            idx padded = round_up(width, VL);
            int nv = (int)(padded / VL), at_once = 1;
            int direct = p->b_n == 1 && n_tiles <= 2 && width == padded;
            /* One row has too few chains in a panel: take four. */
            if (n_rows == 1 && VEC_REGISTERS == 32 && last - panel >= 4 &&
                (panel + 4) * R(PANEL) <= p->N)
                at_once = 4;
            int whole = width == padded; /* else what has no room goes by way of a copy */
            const real *bias = p->bias ? (const real *)p->bias + n : NULL;
            if (bias && !whole) {
                memset(edge_bias, 0, R(PANEL) * sizeof(real));
                bias = memcpy(edge_bias, bias, (size_t)width * sizeof(real));
            }
            R(tile) tile = {
                .K = K, .packed = p->a_k != 1, .b = packed_b, .b_k = padded, .b_panel = run->block * padded,
            };
            if (direct) {
                tile.b = (const real *)p->b + k0 * p->b_k + n;
                tile.b_k = p->b_k;
                tile.b_panel = R(PANEL);
            } else {
                for (int i = 0; i < at_once; i++)
                    R(pack_product_panel)(p, packed_b + i * run->block * padded, k0, k1,
                                          n + i * R(PANEL), width, padded);
            }
            for (idx i = 0, m = m0; i < n_tiles; i++) {
                int count = (int)((m1 - m + n_tiles - i - 1) / (n_tiles - i));
                const real *a_rows[8];
                const real *start_rows[8];
                real *out_rows[8];
                a_rows[0] = packed_a + (m - m0) * K;
                for (int r = 0; r < count; r++) {
                    if (!tile.packed) a_rows[r] = (const real *)p->a + (m + r) * p->a_m + k0;
                    real *row = c + (m + r) * p->c_m + n;
                    out_rows[r] = whole ? row : edge + r * padded;
                    if (!whole && k0) memcpy(out_rows[r], row, (size_t)width * sizeof(real));
                    start_rows[r] = k0 ? out_rows[r] : bias;
                }
                tile.a = a_rows;
                tile.init = start_rows[0] ? start_rows : NULL;
                tile.out = out_rows;
                (at_once == 4 ? R(tiles_1x4)[nv - 1] : R(tiles)[nv - 1][count - 1])(&tile);
                if (!whole)
                    R(copy_out)(c + m * p->c_m + n, p->c_m, edge, padded, count, width);
                m += count;
            }
            panel += at_once;
        }
    }
}

static void R(matmul)(const rk_product *p)
{
    R(product_run) r;
    R(plan_product)(&r, p);
    int alone = r.n_threads > 1 && r.small && !rk_threads_at_hand(r.n_threads);
    rk_parallel(alone ? 1 : r.n_threads, R(matmul_task), &r);
}
