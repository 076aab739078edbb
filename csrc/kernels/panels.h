/*
 * Packed weights and the products that read them.
 *
 * The columns of a product are units in groups of VL lanes. A group holds `ng` vectors side by side,
 * one per gate; a panel holds `ug` groups (the last panel what is left), and for each k the
 * panel's vectors adjoin:
 *
 *     panel of groups u .. u+ug-1, at data + (u-first)*ng*VL*K:   [k = 0..K-1][group][gate][lane]
 *
 * Lanes past the last unit are zero. A row of outputs has the same order, [group][gate][lane].
 */

/* Where row k of a backward product comes from: the rows of the packed matrix follow the order of a
   row of gate gradients, `sections` runs of [group][gate][lane] with `gates` gates each. */
typedef struct {
    int gates;  /* per group in this section */
    int gate0;  /* first gate of the section in the (gH, ...) matrix */
} R(section);

/* A matrix (gH, n_columns) of which panels are packed: its rows, from those of gate0 on, are the columns of the product
   or, where there are sections, the k's. */
typedef struct {
    const void *at;
    idx n_columns, H;
    int gate0;
    const R(section) *sections;
    int n_sections;
} R(matrix);

typedef struct {
    real *data; /* NULL: a part is packed when it is needed */
    idx K;
    idx U;  /* groups */
    int ng; /* vectors per group */
    int ug; /* groups per panel; ng * ug <= 4 */
    idx first;  /* the group that data begins with */
    R(matrix) source;
} R(panels);

VEC_INLINE idx R(panels_size)(const R(panels) *w) { return w->K * w->U * w->ng * VL; }

/* Where the panel that begins at group u is. */
VEC_INLINE real *R(panel_at)(const R(panels) *w, idx u) { return w->data + (u - w->first) * w->ng * VL * w->K; }

VEC_INLINE int R(groups_in_panel)(const R(panels) *w, idx u) { return (int)min_idx(w->ug, w->U - u); }

/* Pack a (ng*H, K) matrix whose rows are the columns of the product: element (k; gate, unit) is
   src[((gate0 + gate)*H + unit) * ld + k]. Groups u0 <= u < u1; u0 begins a panel. */
static void R(pack_rows)(const R(panels) *w, const real *src, idx ld, idx H, int gate0, idx u0, idx u1)
{
    /* A panel has more rows than the processor follows by itself. */
    int from_afar = R(panels_size)(w) * (idx)sizeof(real) > SECOND_CACHE;
    for (idx p = u0; p < u1; p += w->ug) {
        idx width = (idx)R(groups_in_panel)(w, p) * w->ng * VL;
        real *panel = R(panel_at)(w, p);
        for (idx k = 0; k < w->K; k += VL) {
            int n_k = (int)min_idx(VL, w->K - k);
            for (idx c = 0; c < width; c += VL) {
                idx unit = (p + c / (w->ng * VL)) * VL, gate = gate0 + c / VL % w->ng;
                int units = (int)min_idx(VL, H - unit);
                const real *from = src + (gate * H + unit) * ld + k;
                if (from_afar)
                    for (int i = 0; i < units; i++) __builtin_prefetch(from + i * ld + 2 * VL);
                R(transpose_block)(from, ld, units, n_k, panel + k * width + c, width);
            }
        }
    }
}

/* Row k of the panels of groups p0 .. p1-1, from a row of n_cols columns; NULL: zeros. */
VEC_INLINE void R(pack_row)(const R(panels) *w, idx k, idx p0, idx p1, const real *row, idx n_cols)
{
    for (idx p = p0; p < p1; p += w->ug) {
        int groups = R(groups_in_panel)(w, p);
        real *to = R(panel_at)(w, p) + k * groups * VL;
        for (idx c = p * VL; c < (p + groups) * VL; c += VL, to += VL) {
            vec v = v_set1(0);
            if (row) v = c + VL <= n_cols ? v_load(row + c) : v_load_n(row + c, n_cols - c);
            v_store(to, v);
        }
    }
}

/* Pack a (gH, n_cols) matrix for a product over the gates: row k of the product is the matrix row of
   the k-th element of a row of gate gradients (zero for padding lanes), columns are plain
   (w->ng == 1). Groups u0 <= u < u1; u0 begins a panel. */
static void R(pack_columns)(const R(panels) *w, const real *src, idx n_cols, idx H,
                            const R(section) *sections, int n_sections, idx u0, idx u1)
{
    idx hidden_groups = (H + VL - 1) / VL;
    const idx together = 4 * w->ug; /* a few panels, so that a row is read in longer pieces */
    for (idx p0 = u0; p0 < u1; p0 += together) {
        idx p1 = min_idx(p0 + together, u1), k = 0;
        for (int s = 0; s < n_sections; s++)
            for (idx u = 0; u < hidden_groups; u++)
                for (int g = 0; g < sections[s].gates; g++)
                    for (idx unit = u * VL; unit < (u + 1) * VL; unit++, k++) {
                        const real *row = src + ((sections[s].gate0 + g) * H + unit) * n_cols;
                        R(pack_row)(w, k, p0, p1, unit < H ? row : NULL, n_cols);
                    }
    }
}

/* Pack groups u0 <= u < u1 of the matrix that they are from. */
static void R(pack)(const R(panels) *w, idx u0, idx u1)
{
    const R(matrix) *from = &w->source;
    if (from->n_sections)
        R(pack_columns)(w, from->at, from->n_columns, from->H, from->sections, from->n_sections, u0, u1);
    else
        R(pack_rows)(w, from->at, from->n_columns, from->H, from->gate0, u0, u1);
}

/* Pack a (K, n_cols) matrix with contiguous rows, ld apart, whose columns are those of the product
   (w->ng == 1). Groups u0 <= u < u1; u0 begins a panel. */
static void R(pack_plain_columns)(const R(panels) *w, const real *src, idx ld, idx n_cols, idx u0, idx u1)
{
    for (idx p = u0; p < u1; p += w->ug) {
        idx width = (idx)R(groups_in_panel)(w, p) * VL;
        idx valid = min_idx(width, n_cols - p * VL);
        real *dst = R(panel_at)(w, p);
        for (idx k = 0; k < w->K; k++, dst += width) {
            memcpy(dst, src + k * ld + p * VL, (size_t)valid * sizeof(real));
            memset(dst + valid, 0, (size_t)(width - valid) * sizeof(real));
        }
    }
}

/* A bias in the order of a row of outputs: a, plus b for gates below gates_with_b. Both are (gH), and
   either may be NULL. */
static void R(pack_bias)(real *dst, const real *a, const real *b, idx H, int gates, int gate0,
                         int gates_with_b)
{
    idx groups = (H + VL - 1) / VL;
    for (idx u = 0; u < groups; u++)
        for (int g = gate0; g < gate0 + gates; g++)
            for (idx unit = u * VL; unit < (u + 1) * VL; unit++) {
                real sum = 0;
                if (unit < H && a) sum += a[g * H + unit];
                if (unit < H && b && g < gates_with_b) sum += b[g * H + unit];
                *dst++ = sum;
            }
}

/* Rows of a matrix, or of a (outer, per_outer) grid of rows: row i is at
   base + (i / per_outer) * outer + (i % per_outer) * inner; or one by one, where there is a list in place
   of a base, at list[i] + column. Neither base nor list: no rows (zero). */
typedef struct {
    const real *base;
    union {
        idx inner, column;
    };
    union {
        idx outer;
        const real *const *list;
    };
    idx per_outer;
} R(rows);

VEC_INLINE R(rows) R(rows_of)(const real *base, idx stride)
{
    return (R(rows)){.base = base, .inner = stride, .per_outer = PTRDIFF_MAX};
}

/* A grid of rows, `inner` apart; an outer one has `per_outer`. */
VEC_INLINE R(rows) R(rows_of_grid)(const real *base, idx inner, idx outer, idx per_outer)
{
    if (per_outer == 1) return R(rows_of)(base, outer);
    return (R(rows)){.base = base, .inner = inner, .outer = outer, .per_outer = per_outer};
}

VEC_INLINE R(rows) R(rows_listed)(const real *const *list)
{
    return (R(rows)){.list = list};
}

VEC_INLINE int R(rows_given)(const R(rows) *rows) { return rows->base || rows->list; }

VEC_INLINE int R(same_rows)(const R(rows) *a, const R(rows) *b)
{
    return a->base == b->base && a->inner == b->inner && a->outer == b->outer && a->per_outer == b->per_outer;
}

/* The same rows, from a later column on. */
VEC_INLINE void R(skip_columns)(R(rows) *rows, idx columns)
{
    if (rows->base) rows->base += columns;
    else rows->column += columns;
}

/* A place among rows, which are taken in their order from there on. */
typedef struct {
    const real *row; /* the next one, and how many there are up to the next outer row of the grid; */
    idx left;
    const real *const *list; /* or, of a list, the next one and the column */
    idx column;
} R(cursor);

/* The first of the rows, from a column on. */
VEC_INLINE R(cursor) R(first_row)(const R(rows) *rows, idx column)
{
    if (rows->base) return (R(cursor)){.row = rows->base + column, .left = rows->per_outer};
    return (R(cursor)){.list = rows->list, .column = rows->column + column};
}

/* Row i of a matrix or grid. */
VEC_INLINE R(cursor) R(later_row)(const R(rows) *rows, idx i)
{
    idx outer = i / rows->per_outer, inner = i - outer * rows->per_outer;
    return (R(cursor)){
        .row = rows->base + outer * rows->outer + inner * rows->inner, .left = rows->per_outer - inner,
    };
}

VEC_INLINE void R(next_rows)(R(cursor) *at, const R(rows) *rows, int count, const real **pointers)
{
    if (at->list) {
        for (int i = 0; i < count; i++) pointers[i] = *at->list++ + at->column;
        return;
    }
    if (at->left > count) {
        const real *row = at->row;
        for (int i = 0; i < count; i++, row += rows->inner) pointers[i] = row;
        at->row = row;
        at->left -= count;
        return;
    }
    for (int i = 0; i < count; i++) {
        pointers[i] = at->row;
        at->row += rows->inner;
        if (--at->left) continue;
        at->left = rows->per_outer;
        at->row += rows->outer - rows->per_outer * rows->inner;
    }
}

/* How many groups a caller should ask `multiply` for at a time, so that few rows still fill the
   multiply-add units with independent chains. Weights from beyond the second cache come slower than the
   chains of one panel take them. */
VEC_INLINE int R(panels_at_once)(const R(panels) *w, idx n_rows)
{
    const int accumulators = VEC_REGISTERS == 32 ? 16 : 8;
    int vectors = w->ug * w->ng;
    if (vectors >= 3 && R(panels_size)(w) * (idx)sizeof(real) > SECOND_CACHE) return 1;
    if (n_rows == 1) return vectors < 4 && 4 * vectors <= accumulators ? 4 : 2;
    return n_rows == 2 && 4 * vectors <= accumulators ? 2 : 1;
}

VEC_INLINE idx R(groups_at_once)(const R(panels) *w, idx n_rows)
{
    return w->ug * R(panels_at_once)(w, n_rows);
}

/* Go over groups first .. end-1 in parts u .. u1-1 of `at_once`. Every other step t goes from the last part to the
   first: it begins with the weights that the step before read last, which a cache still holds. */
#define FOR_PARTS_OF_STEP(t, first, end, at_once, u, u1)                                                  \
    for (idx parts = ((end) - (first) + (at_once) - 1) / (at_once), part = 0, u, u1;                      \
         part < parts && (u = (first) + ((t) % 2 ? parts - 1 - part : part) * (at_once),                  \
                          u1 = min_idx(u + (at_once), end), 1);                                           \
         part++)

/* Of the first two rows. */
VEC_INLINE const real *R(early_row)(const R(rows) *rows, idx i)
{
    if (!rows->base) return rows->list[i] + rows->column;
    return rows->base + i * (rows->per_outer == 1 ? rows->outer : rows->inner);
}

/* `multiply` for one or two rows. */
static void R(multiply_few)(const R(panels) *w, idx u0, idx u1, idx n_rows, const R(rows) *a,
                            const R(rows) *init, const R(rows) *out)
{
    const real *a_rows[2], *init_rows[2];
    real *out_rows[2];
    int given = R(rows_given)(init), most = R(panels_at_once)(w, n_rows);
    for (idx i = 0; i < n_rows; i++) {
        a_rows[i] = R(early_row)(a, i);
        out_rows[i] = (real *)R(early_row)(out, i);
        if (given) init_rows[i] = R(early_row)(init, i);
    }
    R(tile) tile = {
        .K = w->K, .a = a_rows, .b = R(panel_at)(w, u0),
        .init = given ? init_rows : NULL, .out = out_rows,
    };
    for (idx u = u0; u < u1;) {
        int n_panels = most, nv = R(groups_in_panel)(w, u) * w->ng;
        while (n_panels > 1 && u + w->ug * n_panels > u1) n_panels /= 2;
        tile.b_k = nv * VL;
        tile.b_panel = tile.b_k * w->K;
        R(tile_fn) run = n_panels == 1   ? R(tiles)[nv - 1][n_rows - 1]
                         : n_rows == 2   ? R(tiles_2x2)[nv - 1]
                         : n_panels == 4 ? R(tiles_1x4)[nv - 1]
                                         : R(tiles_1x2)[nv - 1];
        run(&tile);
        tile.b += n_panels * tile.b_panel;
        for (idx i = 0; i < n_rows; i++) {
            out_rows[i] += n_panels * tile.b_k;
            if (given) init_rows[i] += n_panels * tile.b_k;
        }
        u += w->ug * n_panels;
    }
}

/* Any number of rows times the panel that begins at group u; init may be out, or NULL for zero. */
static void R(multiply_panel)(const R(panels) *w, idx u, idx n_rows, const R(rows) *a,
                              const R(rows) *init, const R(rows) *out)
{
    const real *a_rows[8], *init_rows[8], *out_rows[8];
    int nv = R(groups_in_panel)(w, u) * w->ng;
    idx width = (idx)nv * VL, most = R(tile_rows)(nv);
    const real *panel = R(panel_at)(w, u);
    R(tile) tile = {.a = a_rows, .b_k = width, .out = (real *const *)out_rows};

    idx n_tiles = 1, rows_each = n_rows, longer = 0, block = w->K;
    int from_afar = 0;
    if (n_rows > most) {
        n_tiles = (n_rows + most - 1) / most;
        rows_each = n_rows / n_tiles;
        longer = n_rows - rows_each * n_tiles; /* tiles with one row more */
        /* With many rows, a block of the panel that stays in the first cache serves all of them. */
        idx in_cache = FIRST_CACHE_BLOCK / (width * (idx)sizeof(real));
        if (n_tiles >= 3 && w->K > in_cache + in_cache / 2) {
            block = in_cache;
            from_afar = R(panels_size)(w) * (idx)sizeof(real) > SECOND_CACHE;
        }
    }
    for (idx k0 = 0; k0 < w->K; k0 += block) {
        tile.K = min_idx(block, w->K - k0);
        tile.b = panel + k0 * width;
        const R(rows) *start = k0 ? out : init;
        int apart = start && start != out;
        tile.init = !start ? NULL : apart ? init_rows : out_rows;
        R(cursor) at_a = R(first_row)(a, k0), at_out = R(first_row)(out, 0), at_init = at_out;
        if (apart) at_init = R(first_row)(init, 0);
        for (idx i = 0; i < n_tiles; i++) {
            int count = (int)(rows_each + (i < longer));
            R(next_rows)(&at_a, a, count, a_rows);
            R(next_rows)(&at_out, out, count, out_rows);
            if (apart) R(next_rows)(&at_init, init, count, init_rows);
            /* The first two tiles of a block fetch the next block. */
            tile.fetch = from_afar && i < 2 ? R(fetch_to_read) : R(fetch_nothing);
            tile.ahead = panel + (k0 + block) * width + i * block * 2 * CACHE_LINE / (idx)sizeof(real);
            R(tiles)[nv - 1][count - 1](&tile);
        }
    }
}

/* `multiply` for any number of rows. */
static void R(multiply_many)(const R(panels) *w, idx u0, idx u1, idx n_rows, const R(rows) *a, R(rows) init,
                             R(rows) out)
{
    const R(rows) *start = !R(rows_given)(&init) ? NULL : R(same_rows)(&init, &out) ? &out : &init;
    for (idx u = u0; u < u1; u += w->ug) {
        R(multiply_panel)(w, u, n_rows, a, start, &out);
        R(skip_columns)(&out, w->ug * w->ng * VL);
        if (start == &init) R(skip_columns)(&init, w->ug * w->ng * VL);
    }
}

/* out[row][columns of groups u0..u1-1] = init + a[row] . w, for n_rows rows. `out` and `init` rows
   begin at group u0, which begins a panel; init may be out, or no rows for zero. */
VEC_INLINE void R(multiply)(const R(panels) *w, idx u0, idx u1, idx n_rows, R(rows) a, R(rows) init,
                            R(rows) out)
{
    if (n_rows <= 2) R(multiply_few)(w, u0, u1, n_rows, &a, &init, &out);
    else R(multiply_many)(w, u0, u1, n_rows, &a, init, out);
}
