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
    enum { BLOCK = 64 };
    for (idx p = u0; p < u1; p += w->ug) {
        int groups = R(groups_in_panel)(w, p);
        idx width = (idx)groups * w->ng * VL;
        real *panel = w->data + p * w->ng * VL * w->K;
        for (idx k0 = 0; k0 < w->K; k0 += BLOCK) {
            idx k1 = min_idx(k0 + BLOCK, w->K);
            for (idx c = 0; c < width; c++) {
                idx unit = (p + c / (w->ng * VL)) * VL + c % VL;
                idx gate = gate0 + c / VL % w->ng;
                real *dst = panel + c;
                if (unit < H) {
                    const real *row = src + (gate * H + unit) * ld;
                    for (idx k = k0; k < k1; k++) dst[k * width] = row[k];
                } else {
                    for (idx k = k0; k < k1; k++) dst[k * width] = 0;
                }
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
   base + (i / per_outer) * outer + (i % per_outer) * inner. base NULL: no rows (zero). */
typedef struct {
    const real *base;
    idx inner, outer, per_outer;
} R(rows);

VEC_INLINE R(rows) R(rows_of)(const real *base, idx stride)
{
    return (R(rows)){base, stride, 0, PTRDIFF_MAX};
}

VEC_INLINE void R(row_pointers)(const real **pointers, R(rows) rows, idx first, int count)
{
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

/* How many groups a caller should ask `multiply` for at a time so that few rows still fill the
   multiply-add units. */
VEC_INLINE idx R(groups_at_once)(const R(panels) *w, idx n_rows)
{
    return n_rows == 1 ? 4 * w->ug : n_rows == 2 ? 2 * w->ug : w->ug;
}

/* out[row][columns of groups u0..u1-1] = init + a[row] . w, for n_rows rows. `out` and `init` rows
   begin at group u0, which begins a panel; init may be out, or have base NULL for zero. */
static void R(multiply)(const R(panels) *w, idx u0, idx u1, idx n_rows, R(rows) a, R(rows) init,
                        R(rows) out)
{
    const real *a_rows[8], *init_rows[8], *out_rows[8];
    R(tile) tile = {.a = a_rows, .a_k = 1, .out = (real *const *)out_rows};
    idx full = (idx)w->ug * w->ng; /* vectors of a full panel */
    tile.b_panel = full * VL * w->K;

    for (idx u = u0; u < u1;) {
        int groups = R(groups_in_panel)(w, u);
        int nv = groups * w->ng, panels = 1;
        R(tile_fn) several = NULL;
        if (groups == w->ug && n_rows <= 2) {
            idx whole = min_idx(u1, w->U / w->ug * w->ug) - u;
            if (n_rows == 1 && whole >= 4 * w->ug) panels = 4, several = R(tiles_1x4)[nv - 1];
            else if (whole >= 2 * w->ug) {
                panels = 2;
                several = n_rows == 1 ? R(tiles_1x2)[nv - 1] : R(tiles_2x2)[nv - 1];
            }
        }
        idx width = (idx)nv * VL;
        const real *panel = w->data + u * w->ng * VL * w->K;
        idx column = (u - u0) * w->ng * VL;
        tile.b_k = width;

        idx most = several ? n_rows : R(tile_rows)(nv);
        idx n_tiles = (n_rows + most - 1) / most;
        /* With many rows, a block of the panel that stays in the first cache serves all of them. */
        idx block = w->K, in_cache = FIRST_CACHE_BLOCK / (width * (idx)sizeof(real));
        if (n_tiles >= 3 && w->K > in_cache + in_cache / 2) block = in_cache;

        for (idx k0 = 0; k0 < w->K; k0 += block) {
            tile.K = min_idx(block, w->K - k0);
            tile.b = panel + k0 * width;
            R(rows) start = k0 ? out : init;
            for (idx i = 0, row = 0; i < n_tiles; i++) {
                int count = (int)((n_rows - row + n_tiles - i - 1) / (n_tiles - i));
                R(row_pointers)(a_rows, a, row, count);
                R(row_pointers)(out_rows, out, row, count);
                for (int r = 0; r < count; r++) {
                    a_rows[r] += k0;
                    out_rows[r] += column;
                }
                tile.init = NULL;
                if (start.base) {
                    R(row_pointers)(init_rows, start, row, count);
                    for (int r = 0; r < count; r++) init_rows[r] += column;
                    tile.init = init_rows;
                }
                (several ? several : R(tiles)[nv - 1][count - 1])(&tile);
                row += count;
            }
        }
        u += (idx)groups * panels;
    }
}
