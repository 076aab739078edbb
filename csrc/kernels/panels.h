/*
 * Packed weights and the products that read them.
 *
 * The columns of a product are units in groups of VL lanes. A group holds `ng` vectors side by side,
 * one per gate; a panel holds `ug` groups (the last panel what is left), and for each k the
 * panel's vectors adjoin:
 *
 *     panel of groups u .. u+ug-1, at data + u*ng*VL*K:   [k = 0..K-1][group][gate][lane]
 *
 * Lanes past the last unit are zero. A row of outputs has the same order, [group][gate][lane].
 */

typedef struct {
    real *data;
    idx K;
    idx U;  /* groups */
    int ng; /* vectors per group */
    int ug; /* groups per panel; ng * ug <= 4 */
} R(panels);

VEC_INLINE idx R(panels_size)(const R(panels) *w) { return w->K * w->U * w->ng * VL; }

VEC_INLINE int R(groups_in_panel)(const R(panels) *w, idx u) { return (int)min_idx(w->ug, w->U - u); }

/* Pack a (ng*H, K) matrix whose rows are the columns of the product: element (k; gate, unit) is
   src[((gate0 + gate)*H + unit) * ld + k]. Groups u0 <= u < u1; u0 begins a panel. */
static void R(pack_rows)(const R(panels) *w, const real *src, idx ld, idx H, int gate0, idx u0, idx u1)
{
    for (idx p = u0; p < u1; p += w->ug) {
        idx width = (idx)R(groups_in_panel)(w, p) * w->ng * VL;
        real *panel = w->data + p * w->ng * VL * w->K;
        for (idx k = 0; k < w->K; k += VL) {
            int n_k = (int)min_idx(VL, w->K - k);
            for (idx c = 0; c < width; c += VL) {
                idx unit = (p + c / (w->ng * VL)) * VL, gate = gate0 + c / VL % w->ng;
                int units = (int)min_idx(VL, H - unit);
                R(transpose_block)(src + (gate * H + unit) * ld + k, ld, units, n_k,
                                   panel + k * width + c, width);
            }
        }
    }
}

/* Where row k of a backward product comes from: the rows of the packed matrix follow the order of a
   row of gate gradients, `sections` runs of [group][gate][lane] with `gates` gates each. */
typedef struct {
    int gates;  /* per group in this section */
    int gate0;  /* first gate of the section in the (gH, ...) matrix */
} R(section);

/* Pack a (gH, n_cols) matrix for a product over the gates: row k of the product is the matrix row of
   the k-th element of a row of gate gradients (zero for padding lanes), columns are plain
   (w->ng == 1). Groups u0 <= u < u1; u0 begins a panel. */
static void R(pack_columns)(const R(panels) *w, const real *src, idx n_cols, idx H,
                            const R(section) *sections, int n_sections, idx u0, idx u1)
{
    idx hidden_groups = (H + VL - 1) / VL;
    for (idx p = u0; p < u1; p += w->ug) {
        idx width = (idx)R(groups_in_panel)(w, p) * VL;
        idx valid = min_idx(width, n_cols - p * VL);
        real *dst = w->data + p * VL * w->K;
        for (int s = 0; s < n_sections; s++)
            for (idx u = 0; u < hidden_groups; u++)
                for (int g = 0; g < sections[s].gates; g++)
                    for (idx lane = 0; lane < VL; lane++, dst += width) {
                        idx unit = u * VL + lane;
                        idx copied = 0;
                        if (unit < H) {
                            const real *row =
                                src + ((sections[s].gate0 + g) * H + unit) * n_cols + p * VL;
                            for (; copied < valid; copied++) dst[copied] = row[copied];
                        }
                        for (; copied < width; copied++) dst[copied] = 0;
                    }
    }
}

/* Pack a (K, n_cols) matrix with contiguous rows, ld apart, whose columns are those of the product
   (w->ng == 1). Groups u0 <= u < u1; u0 begins a panel. */
static void R(pack_plain_columns)(const R(panels) *w, const real *src, idx ld, idx n_cols, idx u0, idx u1)
{
    for (idx p = u0; p < u1; p += w->ug) {
        idx width = (idx)R(groups_in_panel)(w, p) * VL;
        idx valid = min_idx(width, n_cols - p * VL);
        real *dst = w->data + p * VL * w->K;
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
   base + (i / per_outer) * outer + (i % per_outer) * inner; or one by one, where there is a list, at
   list[i] + column. Neither base nor list: no rows (zero). */
typedef struct {
    const real *base;
    idx inner, outer, per_outer;
    const real *const *list;
    idx column;
} R(rows);

VEC_INLINE R(rows) R(rows_of)(const real *base, idx stride)
{
    return (R(rows)){.base = base, .inner = stride, .per_outer = PTRDIFF_MAX};
}

VEC_INLINE R(rows) R(rows_listed)(const real *const *list)
{
    return (R(rows)){.list = list};
}

VEC_INLINE int R(rows_given)(const R(rows) *rows) { return rows->base || rows->list; }

/* The same rows, from a later column on. */
VEC_INLINE void R(skip_columns)(R(rows) *rows, idx columns)
{
    if (rows->list) rows->column += columns;
    else if (rows->base) rows->base += columns;
}

/* Row i of rows that are no grid. */
VEC_INLINE const real *R(row_at)(const R(rows) *rows, idx i)
{
    return rows->list ? rows->list[i] + rows->column : rows->base + i * rows->inner;
}

VEC_INLINE void R(row_pointers)(const real **pointers, R(rows) rows, idx first, int count)
{
    if (rows.list) {
        for (int i = 0; i < count; i++) pointers[i] = rows.list[first + i] + rows.column;
        return;
    }
    idx outer = 0, inner = first;
    if (first >= rows.per_outer) {
        outer = first / rows.per_outer;
        inner = first - outer * rows.per_outer;
    }
    const real *row = rows.base + outer * rows.outer;
    for (int i = 0; i < count; i++) {
        pointers[i] = row + inner * rows.inner;
        if (++inner == rows.per_outer) {
            inner = 0;
            row += rows.outer;
        }
    }
}

/* How many groups a caller should ask `multiply` for at a time, so that few rows still fill the
   multiply-add units with independent chains. */
VEC_INLINE int R(panels_at_once)(const R(panels) *w, idx n_rows)
{
    const int accumulators = VEC_REGISTERS == 32 ? 16 : 8;
    int vectors = w->ug * w->ng;
    if (n_rows == 1) return 4 * vectors <= accumulators ? 4 : 2;
    return n_rows == 2 && 4 * vectors <= accumulators ? 2 : 1;
}

VEC_INLINE idx R(groups_at_once)(const R(panels) *w, idx n_rows)
{
    return w->ug * R(panels_at_once)(w, n_rows);
}

/* One or two rows times `n_panels` (2 or 4) whole panels from group u on. */
static void R(multiply_few)(const R(panels) *w, idx u, int n_panels, idx n_rows, R(rows) a,
                            R(rows) init, R(rows) out)
{
    const real *a_rows[2], *init_rows[2], *out_rows[2];
    R(row_pointers)(a_rows, a, 0, (int)n_rows);
    R(row_pointers)(out_rows, out, 0, (int)n_rows);
    if (R(rows_given)(&init)) R(row_pointers)(init_rows, init, 0, (int)n_rows);
    int nv = w->ug * w->ng;
    R(tile) tile = {
        .K = w->K, .a = a_rows, .a_k = 1, .b = w->data + u * w->ng * VL * w->K, .b_k = nv * VL,
        .b_panel = nv * VL * w->K, .init = R(rows_given)(&init) ? init_rows : NULL,
        .out = (real *const *)out_rows,
    };
    R(tile_fn) run = n_rows == 2     ? R(tiles_2x2)[nv - 1]
                     : n_panels == 4 ? R(tiles_1x4)[nv - 1]
                                     : R(tiles_1x2)[nv - 1];
    run(&tile);
}

/* Any number of rows times the panel that begins at group u. */
static void R(multiply_panel)(const R(panels) *w, idx u, idx n_rows, R(rows) a, R(rows) init,
                              R(rows) out)
{
    const real *a_rows[8], *init_rows[8], *out_rows[8];
    int nv = R(groups_in_panel)(w, u) * w->ng;
    idx width = (idx)nv * VL, most = R(tile_rows)(nv);
    const real *panel = w->data + u * w->ng * VL * w->K;
    R(tile) tile = {.a = a_rows, .a_k = 1, .b_k = width, .out = (real *const *)out_rows};

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
        R(rows) start = k0 ? out : init;
        int given = R(rows_given)(&start);
        tile.init = given ? init_rows : NULL;
        for (idx i = 0, row = 0; i < n_tiles; i++) {
            int count = (int)(rows_each + (i < longer));
            R(row_pointers)(a_rows, a, row, count);
            for (int r = 0; r < count; r++) a_rows[r] += k0;
            R(row_pointers)(out_rows, out, row, count);
            if (given) R(row_pointers)(init_rows, start, row, count);
            /* The first two tiles of a block fetch the next block. */
            tile.ahead = from_afar && i < 2
                             ? panel + (k0 + block) * width + i * block * 2 * CACHE_LINE / (idx)sizeof(real)
                             : NULL;
            R(tiles)[nv - 1][count - 1](&tile);
            row += count;
        }
    }
}

/* out[row][columns of groups u0..u1-1] = init + a[row] . w, for n_rows rows. `out` and `init` rows
   begin at group u0, which begins a panel; init may be out, or no rows for zero. */
static void R(multiply)(const R(panels) *w, idx u0, idx u1, idx n_rows, R(rows) a, R(rows) init,
                        R(rows) out)
{
    int at_once = R(panels_at_once)(w, n_rows);
    for (idx u = u0; u < u1;) {
        idx groups = w->ug * at_once;
        if (at_once > 1 && u + groups <= u1) {
            R(multiply_few)(w, u, at_once, n_rows, a, init, out);
        } else if (at_once == 4 && u + groups / 2 <= u1) {
            groups /= 2;
            R(multiply_few)(w, u, 2, n_rows, a, init, out);
        } else {
            groups = R(groups_in_panel)(w, u);
            R(multiply_panel)(w, u, n_rows, a, init, out);
        }
        u += groups;
        R(skip_columns)(&out, groups * w->ng * VL);
        R(skip_columns)(&init, groups * w->ng * VL);
    }
}
