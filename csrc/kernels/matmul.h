/*
 * Matrix products of any shape (rk_product), by the register tile.
 *
 * Columns of b are taken in panels of four vectors. For a block of k, each panel is packed so that the
 * tile reads it in order from the first cache, and all rows of a pass over it. Rows of a whose k's do
 * not adjoin are packed too: all of them before the panels, or, where these fit the second cache, the
 * panels before them, and then a few rows at a time, so that c is written once. Threads share out the
 * panels, or the rows where there are too few panels.
 */

enum { R(PANEL) = 4 * VL };

typedef struct {
    const rk_product *p;
    int n_threads;
    double work;      /* multiply-adds */
    int by_rows;
    int panels_first; /* are packed before rows are */
    idx scratch_size; /* elements per thread, */
    idx panels_size;  /* and of these for packed panels */
    idx block;        /* k's per block */
} R(product_run);

/* k's of a block of which so many numbers of each stay in the second cache, together with something else. */
VEC_INLINE idx R(block_that_fits)(idx numbers) { return SECOND_CACHE / 2 / (numbers * (idx)sizeof(real)) / VL * VL; }

static void R(plan_product)(R(product_run) *r, const rk_product *p)
{
    idx panels = (p->N + R(PANEL) - 1) / R(PANEL), most = R(tile_rows)(4);
    r->p = p;
    /* Columns that are rows in memory are turned on the way, which takes as long as some more rows. */
    int turns = p->b_n != 1;
    r->work = (double)(p->M + turns * ROWS_OF_TURNING) * (double)p->N * (double)p->K;
    r->n_threads = r->work < WORK_FOR_ONE_AT_HAND ? 1 : p->n_threads;
    /* Threads that share out the rows pack all of b each; those that share out the columns read all of a, or pack
       it, and what is left of the last panels is one thread's gain. */
    idx most_columns = (panels + r->n_threads - 1) / r->n_threads * R(PANEL);
    int uneven = most_columns * r->n_threads > p->N + p->N / 8;
    r->by_rows = p->M >= 16 * r->n_threads &&
                 (panels < 2 * r->n_threads || uneven || p->M > p->N);
    if (!r->by_rows && panels < r->n_threads) r->n_threads = (int)panels;
    /* A thread that runs alone, since the pool is taken, has the room of all. */
    idx rows = r->by_rows ? (p->M + r->n_threads - 1) / r->n_threads : p->M;
    idx own_panels = r->by_rows ? panels : (panels + r->n_threads - 1) / r->n_threads;
    /* The result is read and written again for every block. Of a few rows it soon is: a panel that is turned then stays
       in the first cache, unless b comes from afar, in pieces of rows that should be long. */
    int is_near = own_panels * R(PANEL) * p->K * (idx)sizeof(real) <= SECOND_CACHE;
    r->block = turns && is_near && p->M <= FEW_PRODUCT_ROWS ? LEAST_PRODUCT_BLOCK : PRODUCT_BLOCK;
    r->panels_first = 0;
    if (p->a_k != 1) {
        idx fit = R(block_that_fits)(own_panels * R(PANEL));
        r->panels_first = fit >= LEAST_PRODUCT_BLOCK && rows > TILES_TOGETHER * most;
        if (!r->panels_first) fit = R(block_that_fits)(rows);
        r->block = min_idx(r->block, fit > LEAST_PRODUCT_BLOCK ? fit : LEAST_PRODUCT_BLOCK);
    }
    /* Packed panels (one, or four for few rows, if not all), packed rows of a, one tile of the last columns, their
       bias. */
    r->panels_size = (r->panels_first ? own_panels : 4) * r->block * R(PANEL);
    r->scratch_size = r->panels_size + 9 * R(PANEL);
    if (p->a_k != 1) r->scratch_size += r->block * (r->panels_first ? TILES_TOGETHER * most : rows) + VL;
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

/* Pack k0..k1 of `count` panels, one after the other. */
static void R(pack_product_panels)(const R(product_run) *run, real *dst, idx k0, idx k1, idx panel, idx count)
{
    for (idx last = panel + count; panel < last; panel++, dst += run->block * R(PANEL)) {
        idx n = panel * R(PANEL), width = min_idx(R(PANEL), run->p->N - n);
        R(pack_product_panel)(run->p, dst, k0, k1, n, width, round_up(width, VL));
    }
}

/* Pack k0..k1 of rows m0..m1 of a, whose k's do not adjoin. */
static void R(pack_product_rows)(const rk_product *p, real *dst, idx k0, idx k1, idx m0, idx m1, int tile_rows)
{
    const real *columns[PRODUCT_BLOCK];
    for (idx k = k0; k < k1; k++) columns[k - k0] = (const real *)p->a + k * p->a_k;
    R(pack_turned)(dst, columns, k1 - k0, p->M, m0, m1, tile_rows);
}

/* What one thread computes, and its room. */
typedef struct {
    idx m0, m1, first, last; /* rows, and panels */
    idx n_tiles, tile_rows;
    real *packed_b;          /* run->block * PANEL elements for each panel */
    real *edge, *edge_bias;  /* a tile whose columns c has no room for, and its bias */
    real *packed_a;
} R(product_share);

static R(product_share) R(product_share_of)(const R(product_run) *run, int tid, int n_threads)
{
    const rk_product *p = run->p;
    idx panels = (p->N + R(PANEL) - 1) / R(PANEL), most = R(tile_rows)(4);
    R(product_share) share = {.m1 = p->M, .last = panels};
    if (run->by_rows) {
        share.m0 = p->M * tid / n_threads;
        share.m1 = p->M * (tid + 1) / n_threads;
    } else {
        share.first = panels * tid / n_threads;
        share.last = panels * (tid + 1) / n_threads;
    }
    idx n_rows = share.m1 - share.m0;
    share.n_tiles = (n_rows + most - 1) / most;
    share.tile_rows = n_rows ? (n_rows + share.n_tiles - 1) / share.n_tiles : 1;
    share.packed_b = (real *)p->workspace + tid * run->scratch_size;
    share.edge = share.packed_b + (n_threads == 1 ? run->n_threads : 1) * run->panels_size;
    share.edge_bias = share.edge + 8 * R(PANEL);
    share.packed_a = share.edge_bias + R(PANEL);
    return share;
}

/* Rows m0 .. m1-1 times a panel of `width` columns from n on (or four of them), from k0 on: tile has all but its rows. */
static void R(multiply_product_rows)(const R(product_run) *run, const R(product_share) *share, R(tile) tile, idx k0,
                                     idx m0, idx m1, idx n, idx width, int at_once)
{
    const rk_product *p = run->p;
    idx padded = round_up(width, VL);
    int nv = (int)(padded / VL), whole = width == padded, goes_on = k0 || p->adds;
    const real *bias = p->bias ? (const real *)p->bias + n : NULL;
    if (bias && !whole) {
        memset(share->edge_bias, 0, R(PANEL) * sizeof(real));
        bias = memcpy(share->edge_bias, bias, (size_t)width * sizeof(real));
    }
    for (idx m = m0; m < m1; m += share->tile_rows) {
        int count = (int)min_idx(share->tile_rows, m1 - m);
        const real *a_rows[8];
        const real *start_rows[8];
        real *out_rows[8];
        for (int r = 0; r < count; r++) {
            a_rows[r] = tile.packed ? share->packed_a + (m - m0) * tile.K : (const real *)p->a + (m + r) * p->a_m + k0;
            real *row = (real *)p->c + (m + r) * p->c_m + n;
            out_rows[r] = whole ? row : share->edge + r * padded;
            if (!whole && goes_on) memcpy(out_rows[r], row, (size_t)width * sizeof(real));
            start_rows[r] = goes_on ? out_rows[r] : bias;
        }
        tile.a = a_rows;
        if (!tile.packed && p->a_m == tile.K) { /* the rows adjoin */
            tile.fetch = R(fetch_rows);
            tile.ahead = a_rows[0] + count * p->a_m;
        }
        tile.init = start_rows[0] ? start_rows : NULL;
        tile.out = out_rows;
        (at_once == 4 ? R(tiles_1x4)[nv - 1] : R(tiles)[nv - 1][count - 1])(&tile);
        if (!whole) R(copy_out)((real *)p->c + m * p->c_m + n, p->c_m, share->edge, padded, count, width);
    }
}

/* Rows m0 .. m1-1 times all panels of the thread, for k0 .. k1-1. */
static void R(multiply_product_panels)(const R(product_run) *run, const R(product_share) *share, idx k0, idx k1, idx m0,
                                       idx m1)
{
    const rk_product *p = run->p;
    idx panel_size = run->block * R(PANEL);
    for (idx panel = share->first; panel < share->last;) {
        idx n = panel * R(PANEL), width = min_idx(R(PANEL), p->N - n), padded = round_up(width, VL);
        /* One row has too few chains in a panel: take four. */
        int four = VEC_REGISTERS == 32 && share->m1 - share->m0 == 1 && share->last - panel >= 4 &&
                   n + 4 * R(PANEL) <= p->N;
        int at_once = four ? 4 : 1;
        R(tile) tile = {.K = k1 - k0, .packed = p->a_k != 1, .b_k = padded, .b_panel = panel_size};
        if (run->panels_first) {
            tile.b = share->packed_b + (panel - share->first) * panel_size;
        } else if (p->b_n == 1 && share->n_tiles <= 2 && width == padded) {
            tile.b = (const real *)p->b + k0 * p->b_k + n;
            tile.b_k = p->b_k;
            tile.b_panel = R(PANEL);
        } else {
            tile.b = share->packed_b;
            R(pack_product_panels)(run, share->packed_b, k0, k1, panel, at_once);
        }
        R(multiply_product_rows)(run, share, tile, k0, m0, m1, n, width, at_once);
        panel += at_once;
    }
}

static void R(matmul_task)(void *arg, int tid, int n_threads)
{
    const R(product_run) *run = arg;
    const rk_product *p = run->p;
    R(product_share) share = R(product_share_of)(run, tid, n_threads);
    idx rows_together = run->panels_first ? TILES_TOGETHER * share.tile_rows : share.m1 - share.m0;
    if (share.m0 == share.m1) return;
    for (idx k0 = 0; k0 < p->K; k0 += run->block) {
        idx k1 = min_idx(k0 + run->block, p->K);
        if (run->panels_first)
            R(pack_product_panels)(run, share.packed_b, k0, k1, share.first, share.last - share.first);
        for (idx m0 = share.m0; m0 < share.m1; m0 += rows_together) {
            idx m1 = min_idx(m0 + rows_together, share.m1);
            if (p->a_k != 1) R(pack_product_rows)(p, share.packed_a, k0, k1, m0, m1, (int)share.tile_rows);
            R(multiply_product_panels)(run, &share, k0, k1, m0, m1);
        }
    }
}

static void R(matmul)(const rk_product *p)
{
    R(product_run) r;
    R(plan_product)(&r, p);
    parallel_for_work(r.n_threads, r.work, R(matmul_task), &r);
}
