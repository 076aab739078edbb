/*
 * Gradients of weights and biases: the large products over all steps that follow the backward loop, from
 * d_gates of all steps.
 */

/* Elements that a block of rows takes where it is packed for the tiles of a weight gradient: its features, and
   the columns of a panel. */
VEC_INLINE idx R(packed_features)(const R(run) *r, idx n_features)
{
#if HAS_MATRIX_UNIT
    if (r->on_matrix_unit) return amx_operand_size(n_features, UNIT_ROWS) / (idx)sizeof(real);
#endif
    (void)r;
    return GRADIENT_BLOCK * round_up(n_features, 8);
}

VEC_INLINE idx R(packed_columns)(const R(run) *r)
{
#if HAS_MATRIX_UNIT
    if (r->on_matrix_unit) return amx_operand_size(AMX_COLUMNS * UNIT_BLOCK, UNIT_ROWS) / (idx)sizeof(real);
#endif
    (void)r;
    return GRADIENT_BLOCK * 4 * VL;
}

/* Take the features of two rounds. A thread by itself, which waits for nobody, has rounds of one block. */
static void R(plan_rounds)(R(run) *r, R(arena) *arena)
{
    idx block = R(packed_features)(r, r->s->I) + R(packed_features)(r, r->s->H);
    idx fit = ROUND_BYTES / (block * (idx)sizeof(real));
    r->blocks_in_round = r->n_threads == 1 || fit < 1 ? 1 : (int)min_idx(fit, MOST_BLOCKS);
    r->features = R(take)(arena, 2 * r->blocks_in_round * block);
    idx left = r->n_threads * (idx)(sizeof(work_left) / sizeof(real));
    for (int parity = 0; parity < 2; parity++) r->left[parity] = (work_left *)(void *)R(take)(arena, left);
}

/* One of the products that make up a weight gradient: a^T . d_gates. */
typedef struct {
    R(operand) operand;   /* a */
    const real *kept;
    idx n_features;       /* of a */
    idx n_rows;           /* of the sums: n_features, or more */
    real *sums, *d_w;     /* NULL: not wanted */
    real *features[2];    /* rows of a for the tiles: of one round, while threads may still read those of another */
} R(weight_product);

/*
 * The gradients of one section's weights, item by item: some panels of columns, and a chunk of features where there are
 * few panels. A thread begins with the same items in each round, whose sums its caches hold, and goes on with what the
 * others have left: one that is slower, since something else runs on its processor, holds up nobody.
 */
typedef struct {
    int section, n_products;
    R(weight_product) products[2];
    real *d_bias;                           /* sums of the columns of d_gates; NULL: not wanted */
    idx n_panels, panels_each, chunks, n_items;
    int keeps_columns; /* a thread may take several chunks of a panel, and copies its columns once a round */
    int tile_rows;
} R(weight_work);

/*
 * The sums of a weight gradient, while they grow: for each panel of vectors of a section's row of gates, a row
 * for each feature with the panel's columns. So what a tile writes adjoins, and what the next one writes follows
 * it.
 */
typedef struct {
    idx v, width; /* its first vector, and the columns of a row */
    idx column;   /* where they are in a row of gates */
} R(gradient_panel);

/* Vectors of a panel: as wide as a tile, and made of whole groups of gates where they are that. */
VEC_INLINE idx R(vectors_of_panel)(const R(run) *r, int section)
{
    int ng = r->sections[section].gates;
    if (r->on_matrix_unit) return 2;
    return ng == 1 ? 4 : ng;
}

VEC_INLINE R(gradient_panel) R(gradient_panel_at)(const R(run) *r, int section, idx panel)
{
    idx most = R(vectors_of_panel)(r, section), v = panel * most;
    idx count = min_idx(most, r->sections[section].gates * r->U - v);
    return (R(gradient_panel)){v, count * VL, (r->sections[section].gate0 * r->U + v) * VL};
}

/* Gate and unit of its column c. */
VEC_INLINE idx R(gate_of_column)(const R(run) *r, int section, const R(gradient_panel) *panel, idx c)
{
    return r->sections[section].gate0 + (panel->v + c / VL) % r->sections[section].gates;
}

VEC_INLINE idx R(unit_of_column)(const R(run) *r, int section, const R(gradient_panel) *panel, idx c)
{
    return (panel->v + c / VL) / r->sections[section].gates * VL + c % VL;
}

VEC_INLINE real *R(sums_of_panel)(const R(gradient_panel) *panel, const R(weight_product) *p)
{
    return p->sums + panel->column * p->n_rows;
}

static void R(plan_weight_work)(const R(run) *r, int n_threads, R(weight_work) *work)
{
    idx vectors = r->sections[work->section].gates * r->U, each = R(vectors_of_panel)(r, work->section);
    work->n_panels = (vectors + each - 1) / each;
    work->panels_each = 1;
    work->tile_rows = R(tile_rows)((int)each);
#if HAS_MATRIX_UNIT
    if (r->on_matrix_unit) {
        work->panels_each = AMX_COLUMNS / 2;
        work->tile_rows = UNIT_BLOCK;
    }
#endif
    double sums = 0;
    for (int i = 0; i < work->n_products; i++) sums += (double)work->products[i].n_features;
    sums *= (double)(rk_all_rows(r->s) * vectors * VL);
    idx enough = (idx)(sums / WORK_FOR_AN_ITEM), most = ITEMS_FOR_A_THREAD * n_threads;
    enough = n_threads == 1 ? 1 : enough < n_threads ? n_threads : min_idx(enough, most);
    idx pieces = (work->n_panels + work->panels_each - 1) / work->panels_each;
    work->chunks = pieces < enough ? (enough + pieces - 1) / pieces : 1;
    work->n_items = pieces * work->chunks;
    work->keeps_columns = work->chunks > 1 && work->n_items > n_threads;
}

/* Part k of n of the features, in whole tiles. */
VEC_INLINE void R(part_of_features)(const R(weight_product) *p, idx tile_rows, idx k, idx n, idx *i0, idx *i1)
{
    idx tiles = (p->n_features + tile_rows - 1) / tile_rows;
    *i0 = min_idx(tiles * k / n * tile_rows, p->n_features);
    *i1 = min_idx(tiles * (k + 1) / n * tile_rows, p->n_features);
}

/* Add columns that have been copied to the sums of the bias. */
static void R(add_to_bias)(const R(gradient_panel) *panel, const real *columns, idx n_rows, real *d_bias, int begins)
{
    for (idx c = 0; c < panel->width; c += VL) {
        vec sum = begins ? v_set1(0) : v_load(d_bias + panel->column + c);
        for (idx k = 0; k < n_rows; k++) sum = sum + v_load(columns + k * panel->width + c);
        v_store(d_bias + panel->column + c, sum);
    }
}

/* Copy the nv vectors of a panel's columns from rows of gate gradients, and add them to the sums of the bias (NULL:
   not wanted), which begin here or go on. */
VEC_INLINE void R(take_vectors)(idx column, const real *const *rows, idx n_rows, real *columns, real *d_bias,
                                int begins, const int nv)
{
    vec sum[4];
    for (int v = 0; v < nv; v++) sum[v] = d_bias && !begins ? v_load(d_bias + column + v * VL) : v_set1(0);
    for (idx k = 0; k < n_rows; k++, columns += nv * VL)
        for (int v = 0; v < nv; v++) {
            vec d = v_load(rows[k] + column + v * VL);
            v_store(columns + v * VL, d);
            sum[v] = sum[v] + d;
        }
    for (int v = 0; d_bias && v < nv; v++) v_store(d_bias + column + v * VL, sum[v]);
}

static void R(take_columns)(const R(gradient_panel) *panel, const real *const *rows, idx n_rows, real *columns,
                            real *d_bias, int begins)
{
    switch (panel->width / VL) {
    case 1: R(take_vectors)(panel->column, rows, n_rows, columns, d_bias, begins, 1); return;
    case 2: R(take_vectors)(panel->column, rows, n_rows, columns, d_bias, begins, 2); return;
    case 3: R(take_vectors)(panel->column, rows, n_rows, columns, d_bias, begins, 3); return;
    default: R(take_vectors)(panel->column, rows, n_rows, columns, d_bias, begins, 4);
    }
}

/* Add the product of features i0 .. i1-1 of n_rows rows with the columns of a panel to its sums, or begin
   these. */
static void R(add_product)(const R(weight_product) *p, const real *features, idx i0, idx i1,
                           const R(gradient_panel) *panel, const real *columns, idx n_rows, int tile_rows,
                           int begins)
{
    real *sums = R(sums_of_panel)(panel, p);
    for (idx i = i0; i < i1; i += tile_rows) {
        int count = (int)min_idx(tile_rows, i1 - i);
        const real *packed = features + i * n_rows;
        real *out_rows[8];
        for (int c = 0; c < count; c++) out_rows[c] = sums + (i + c) * panel->width;
        R(tile) tile = {
            .K = n_rows, .a = &packed, .packed = 1, .b = columns, .b_k = panel->width,
            .init = begins ? NULL : (const real *const *)out_rows, .out = out_rows,
            .fetch = R(fetch_to_write), .ahead = out_rows[count - 1] + panel->width,
        };
        R(tiles)[panel->width / VL - 1][count - 1](&tile);
    }
}

/* What threads do between two barriers: some blocks of rows, each of which adds to every item. Small layers take
   several, which a barrier is worth. */
typedef struct {
    int n_blocks, first, last; /* whether it is the first round, or the last */
    int parity;                /* which features are its own */
    idx n_rows[MOST_BLOCKS];
    const real *d_g[MOST_BLOCKS][UNIT_ROWS];
} R(round);

VEC_INLINE real *R(features_of_block)(const R(run) *r, const R(weight_product) *p, const R(round) *round, int block)
{
    return p->features[round->parity] + block * R(packed_features)(r, p->n_features);
}

/* Pack this thread's part of the features of a block. */
static void R(pack_block)(const R(run) *r, const R(share) *share, const R(weight_work) *work,
                          const R(weight_product) *p, real *features, const real *const *rows, idx n_rows)
{
    idx i0, i1;
    R(part_of_features)(p, work->tile_rows, share->tid, share->n_threads, &i0, &i1);
#if HAS_MATRIX_UNIT
    if (r->on_matrix_unit) {
        amx_pack_left_turned((char *)features + amx_operand_size(i0, n_rows), rows, n_rows, i0, i1);
        return;
    }
#endif
    (void)r;
    R(pack_turned)(features + i0 * n_rows, rows, n_rows, p->n_features, i0, i1, work->tile_rows);
}

/* The next round's blocks, from row k0 on, which is `at`; this thread packs its part of them. */
static idx R(begin_round)(const R(run) *r, const R(share) *share, const R(weight_work) *work, place *at, idx k0,
                          R(round) *round)
{
    const real *a[UNIT_ROWS];
    idx all = rk_all_rows(r->s);
    round->first = k0 == 0;
    for (round->n_blocks = 0; k0 < all && round->n_blocks < r->blocks_in_round; round->n_blocks++) {
        int block = round->n_blocks;
        idx K = round->n_rows[block] = R(rows_together)(r, *at, all - k0);
        place next = *at;
        for (const R(weight_product) *p = work->products; p < work->products + work->n_products; p++) {
            next = *at;
            R(gradient_rows)(r, &next, k0, (int)K, p->operand, p->kept, a, round->d_g[block]);
            if (p->sums) R(pack_block)(r, share, work, p, R(features_of_block)(r, p, round, block), a, K);
        }
        *at = next;
        k0 += K;
    }
    round->last = k0 == all;
    return k0;
}

/* The inverse of the next function, for sums that go on: from d_w in its (gH, n_features) form. */
static void R(pack_sums)(const R(run) *r, int section, const R(gradient_panel) *panel, const R(weight_product) *p,
                         idx i0, idx i1)
{
    idx H = r->s->H;
    real *sums = R(sums_of_panel)(panel, p);
    for (idx i = i0; i < i1; i++)
        for (idx c = 0; c < panel->width; c++) {
            idx gate = R(gate_of_column)(r, section, panel, c);
            idx unit = R(unit_of_column)(r, section, panel, c);
            sums[i * panel->width + c] = unit < H ? p->d_w[(gate * H + unit) * p->n_features + i] : 0;
        }
}

/* Bring features i0 .. i1-1 of a panel's sums into the (gH, n_features) form of the gradient. */
static void R(unpack_sums)(const R(run) *r, int section, const R(gradient_panel) *panel,
                           const R(weight_product) *p, idx i0, idx i1)
{
    idx H = r->s->H, n_features = p->n_features;
    int to_afar = n_features * r->ldg * (idx)sizeof(real) > SECOND_CACHE;
    const real *sums = R(sums_of_panel)(panel, p);
    real block[VL * VL];
    for (idx i = i0; i < i1; i += VL) {
        int features = (int)min_idx(VL, i1 - i);
        for (idx c = 0; c < panel->width; c += VL) {
            idx gate = R(gate_of_column)(r, section, panel, c), unit = R(unit_of_column)(r, section, panel, c);
            int units = (int)min_idx(VL, H - unit);
            const real *from = sums + i * panel->width + c;
            real *to = p->d_w + (gate * H + unit) * n_features + i;
            for (int j = 0; to_afar && j < units; j++) __builtin_prefetch(to + j * n_features + 2 * VL, 1, 3);
            if (features == VL) {
                R(transpose_block)(from, panel->width, VL, units, to, n_features);
                continue;
            }
            R(transpose_block)(from, panel->width, features, units, block, VL);
            R(copy_out)(to, n_features, block, VL, units, features);
        }
    }
}

#if HAS_MATRIX_UNIT
/* The next function on the matrix unit. */
static void R(add_block_on_unit)(const R(run) *r, const R(weight_work) *work, idx first, idx chunk,
                                 const R(round) *round, int block, void *columns, int begins)
{
    R(gradient_panel) panel = R(gradient_panel_at)(r, work->section, first);
    idx count = min_idx(AMX_COLUMNS, r->sections[work->section].gates * r->U - panel.v);
    const real *const *rows = round->d_g[block];
    idx n_rows = round->n_rows[block], groups = amx_groups(n_rows);
    amx_pack_right(columns, rows, n_rows, panel.column, count);
    for (idx c = panel.column; !chunk && work->d_bias && c < panel.column + count * VL; c += VL) {
        vec sum = begins ? v_set1(0) : v_load(work->d_bias + c);
        for (idx k = 0; k < n_rows; k++) sum = sum + v_load(rows[k] + c);
        v_store(work->d_bias + c, sum);
    }
    amx_begin();
    for (const R(weight_product) *p = work->products; p < work->products + work->n_products; p++) {
        idx i0, i1;
        R(part_of_features)(p, UNIT_BLOCK, chunk, work->chunks, &i0, &i1);
        if (p->sums)
            amx_multiply_all((const char *)R(features_of_block)(r, p, round, block) + amx_operand_size(i0, n_rows),
                             (i1 - i0 + UNIT_BLOCK - 1) / UNIT_BLOCK, i0, columns, count, groups,
                             R(sums_of_panel)(&panel, p), p->n_rows, begins);
    }
    amx_end();
}
#endif

/* Add what one block contributes to an item: to some panels, from the first on, and a chunk of features. */
static void R(add_block)(const R(run) *r, const R(weight_work) *work, idx first, idx chunk, const R(round) *round,
                         int block, real *columns, int are_copied, int begins)
{
#if HAS_MATRIX_UNIT
    if (r->on_matrix_unit) {
        R(add_block_on_unit)(r, work, first, chunk, round, block, columns, begins);
        return;
    }
#endif
    R(gradient_panel) panel = R(gradient_panel_at)(r, work->section, first);
    idx n_rows = round->n_rows[block];
    real *d_bias = chunk ? NULL : work->d_bias;
    if (!are_copied) R(take_columns)(&panel, round->d_g[block], n_rows, columns, d_bias, begins);
    else if (d_bias) R(add_to_bias)(&panel, columns, n_rows, d_bias, begins);
    for (const R(weight_product) *p = work->products; p < work->products + work->n_products; p++) {
        idx i0, i1;
        R(part_of_features)(p, work->tile_rows, chunk, work->chunks, &i0, &i1);
        if (p->sums)
            R(add_product)(p, R(features_of_block)(r, p, round, block), i0, i1, &panel, columns, n_rows,
                           work->tile_rows, begins);
    }
}

/* Bring an item's sums into their form or from it: `form` is pack_sums or unpack_sums. */
static void R(form_item)(const R(run) *r, const R(weight_work) *work, idx first, idx chunk,
                         void (*form)(const R(run) *, int, const R(gradient_panel) *, const R(weight_product) *,
                                      idx, idx))
{
    idx last = min_idx(first + work->panels_each, work->n_panels);
    for (const R(weight_product) *p = work->products; p < work->products + work->n_products; p++) {
        idx i0, i1;
        R(part_of_features)(p, work->tile_rows, chunk, work->chunks, &i0, &i1);
        for (idx q = first; p->sums && q < last; q++) {
            R(gradient_panel) panel = R(gradient_panel_at)(r, work->section, q);
            form(r, work->section, &panel, p, i0, i1);
        }
    }
}

/* What a round contributes to an item, which begins in the first round and is brought into its form in the last. Where
   columns are kept, `columns` has room for all of the round's blocks, and holds those of panel `copied`. */
static void R(add_item)(const R(run) *r, const R(weight_work) *work, idx item, const R(round) *round, real *columns,
                        idx copied)
{
    idx chunk = item % work->chunks, first = item / work->chunks * work->panels_each;
    int going_on = r->s->d_w_add;
    if (round->first && going_on) R(form_item)(r, work, first, chunk, R(pack_sums));
    for (int block = 0; block < round->n_blocks; block++) {
        R(add_block)(r, work, first, chunk, round, block, columns, first == copied,
                     round->first && block == 0 && !going_on);
        if (work->keeps_columns) columns += R(packed_columns)(r);
    }
    if (round->last) R(form_item)(r, work, first, chunk, R(unpack_sums));
}

/*
 * d_w[c][i] = sum over rows of a[row][i] * d_gates[row][c] for each of the products, and the sums of the columns
 * of d_gates into d_bias. They go on from what the arrays hold where the run adds.
 */
static void R(sum_over_rows)(R(run) *r, const R(share) *share, const R(weight_work) *work)
{
    place at = {r->s->T - 1, 0};
    R(round) round; /* too large to be cleared for nothing */
    round.parity = 0;
    for (idx k = 0; k < rk_all_rows(r->s); round.parity = !round.parity) {
        k = R(begin_round)(r, share, work, &at, k, &round);
        /* All have left the round before the last, whose features and items these were. */
        work_left *left = r->left[round.parity];
        begin_items(left, share->tid, share->n_threads, work->n_items);
        R(wait_all)(share);
        int others = 0;
        idx item, copied = -1;
        while ((item = take_item(left, share->tid, share->n_threads, work->n_items, &others)) >= 0) {
            R(add_item)(r, work, item, &round, share->scratch, copied);
            if (work->keeps_columns) copied = item / work->chunks * work->panels_each;
        }
    }
}

static void R(unpack_bias_gradient)(const R(run) *r, int section, const real *packed, real *d_b)
{
    idx H = r->s->H;
    int ng = r->sections[section].gates, gate0 = r->sections[section].gate0;
    for (int g = 0; g < ng; g++)
        for (idx unit = 0; unit < H; unit++)
            d_b[(gate0 + g) * H + unit] =
                packed[gate0 * r->ldu + (unit / VL * ng + g) * VL + unit % VL];
}

/* The inverse, for all sections. */
static void R(pack_bias_gradient)(const R(run) *r, const real *d_b, real *packed)
{
    for (int i = 0; d_b && i < r->n_sections; i++)
        R(pack_bias)(packed + r->sections[i].gate0 * r->ldu, d_b, NULL, r->s->H, r->sections[i].gates,
                     r->sections[i].gate0, 0);
}

/* Which weights a sum belongs to. */
typedef enum { R(of_input), R(of_hidden), R(of_both) } R(weights);

/* Gradients of the weights of one section, whose recurrent operand is h_{t-1}, or `instead` (rows of all steps)
   where the cell multiplies something else; and of their bias: the sum of the hidden one where it is of
   these alone. Threads have to wait for each other before and after. */
static void R(weight_gradients)(R(run) *r, const R(share) *share, int section, R(weights) of,
                                const real *instead, int want_bias)
{
    const rk_sequence *s = r->s;
    R(weight_work) work = {.section = section, .d_bias = want_bias ? r->d_bias[of == R(of_hidden)] : NULL};
    R(weight_product) *end = work.products;
    if (of != R(of_input))
        *end++ = (R(weight_product)){
            .operand = instead ? R(operand_kept) : R(operand_h), .kept = instead, .n_features = s->H,
            .n_rows = R(rows_of_sums)(r, s->H), .sums = s->d_w_hh ? r->d_w[1] : NULL, .d_w = s->d_w_hh,
        };
    if (of != R(of_hidden))
        *end++ = (R(weight_product)){
            .operand = R(operand_x), .n_features = s->I, .n_rows = R(rows_of_sums)(r, s->I),
            .sums = s->d_w_ih ? r->d_w[0] : NULL, .d_w = s->d_w_ih,
        };
    work.n_products = (int)(end - work.products);
    int wanted = work.d_bias != NULL;
    real *features = r->features;
    for (R(weight_product) *p = work.products; p < end; p++) {
        for (int parity = 0; parity < 2; parity++) {
            p->features[parity] = features;
            features += r->blocks_in_round * R(packed_features)(r, p->n_features);
        }
        if (p->sums) wanted = 1;
    }
    if (!wanted) return;
    R(plan_weight_work)(r, share->n_threads, &work);
    R(sum_over_rows)(r, share, &work);
}

/* Where sums go on, those of the bias begin with the caller's: sum `ih` with d_b_ih, sum `hh` with d_b_hh. */
static void R(begin_bias)(R(run) *r, const R(share) *share, int ih, int hh)
{
    const rk_sequence *s = r->s;
    if (share->tid != 0 || !s->d_w_add) return;
    R(pack_bias_gradient)(r, s->d_b_ih, r->d_bias[ih]);
    R(pack_bias_gradient)(r, s->d_b_hh, r->d_bias[hh]);
}

/* Once all bias sums are there: into d_b_ih from sum `ih`, into d_b_hh from sum `hh` (0 or 1: those of
   the input or of the recurrent product). */
static void R(finish_bias)(R(run) *r, const R(share) *share, int ih, int hh)
{
    const rk_sequence *s = r->s;
    R(wait_all)(share);
    if (share->tid != 0) return;
    for (int i = 0; i < r->n_sections; i++) {
        if (s->d_b_ih) R(unpack_bias_gradient)(r, i, r->d_bias[ih], s->d_b_ih);
        if (s->d_b_hh) R(unpack_bias_gradient)(r, i, r->d_bias[hh], s->d_b_hh);
    }
}
