/*
 * The gradient of the input, for all steps together: d_x = d_gates . w_ih.
 */

/* Take the packed weights of d_x, and return what a thread needs to form it. */
static idx R(plan_input_gradient)(R(run) *r, R(arena) *arena)
{
    const rk_sequence *s = r->s;
#if HAS_MATRIX_UNIT
    if (r->on_matrix_unit) {
        idx blocks = (s->I + UNIT_BLOCK - 1) / UNIT_BLOCK, groups = amx_groups(r->ldg);
        r->ih_back_on_unit = R(take)(arena, blocks * groups * AMX_BLOCK_BYTES / (idx)sizeof(real));
        r->rows_on_unit = amx_rows_at_once(s->I);
        return amx_operand_size(r->rows_on_unit, AMX_PIECE) / (idx)sizeof(real) +
               r->rows_on_unit * blocks * UNIT_BLOCK;
    }
#endif
    idx groups = (s->I + VL - 1) / VL;
    r->ih_back = R(plan_panels)(arena, r->ldg, groups, 1, (int)min_idx(4, groups));
    return INPUT_ROWS_AT_ONCE * 4 * VL;
}

#if HAS_MATRIX_UNIT
/* The rows of a (gH, ...) matrix, ld apart, that meet elements k0 .. k0+K-1 of a row of gates; NULL: padding. */
static void R(list_weight_rows)(const R(run) *r, const void *matrix, idx ld, idx k0, idx K, const real **rows)
{
    idx H = r->s->H;
    for (idx i = 0; i < K; i++) {
        idx k = k0 + i, column = k / VL;
        const R(section) *section = r->sections;
        if (r->n_sections > 1 && column >= section->gates * r->U) column -= section++->gates * r->U;
        idx gate = section->gate0 + column % section->gates, unit = column / section->gates * VL + k % VL;
        rows[i] = unit < H ? (const real *)matrix + (gate * H + unit) * ld : NULL;
    }
}

/* This thread's blocks of input features of w_ih, as the right operand of d_gates . w_ih: one piece of its rows
   after the other, in each one block after the other. */
static void R(pack_weights_for_unit)(const R(run) *r, const R(share) *share)
{
    const rk_sequence *s = r->s;
    idx blocks = (s->I + UNIT_BLOCK - 1) / UNIT_BLOCK;
    idx first = blocks * share->tid / share->n_threads, last = blocks * (share->tid + 1) / share->n_threads;
    char *piece = r->ih_back_on_unit;
    for (idx k = 0; k < r->ldg; k += AMX_PIECE) {
        idx K = min_idx(AMX_PIECE, r->ldg - k);
        const real *rows[AMX_PIECE];
        R(list_weight_rows)(r, s->w_ih, s->I, k, K, rows);
        amx_pack_weights(piece, amx_groups(K) * AMX_BLOCK_BYTES, rows, K, s->I, first, last);
        piece += blocks * amx_groups(K) * AMX_BLOCK_BYTES;
    }
}
#endif

static void R(pack_for_input_gradient)(R(run) *r, const R(share) *share)
{
    const rk_sequence *s = r->s;
    idx u0, u1;
#if HAS_MATRIX_UNIT
    if (r->on_matrix_unit) {
        R(pack_weights_for_unit)(r, share);
        return;
    }
#endif
    R(packing_share)(&r->ih_back, share->tid, share->n_threads, &u0, &u1);
    R(pack_columns)(&r->ih_back, s->w_ih, s->I, s->H, r->sections, r->n_sections, u0, u1);
}

/* The rows of d_x, one after the other. */
typedef struct {
    R(rows) rows;
    R(cursor) cursor;
    place at;
} R(d_x_rows);

static R(d_x_rows) R(d_x_from)(const R(run) *r, idx first)
{
    const rk_sequence *s = r->s;
    R(d_x_rows) d_x = {.rows = R(rows_of_grid)(s->d_x.at, s->d_x.n, s->d_x.t, s->N)};
    d_x.cursor = R(later_row)(&d_x.rows, first);
    d_x.at = place_of_kept(s, first);
    return d_x;
}

static void R(next_d_x_rows)(const R(run) *r, R(d_x_rows) *d_x, idx count, const real **rows)
{
    if (!r->s->schedule.order) {
        R(next_rows)(&d_x->cursor, &d_x->rows, (int)count, rows);
        return;
    }
    for (idx i = 0; i < count; i++) {
        rows[i] = R(grid_row)(r, &r->s->d_x, d_x->at.t, d_x->at.n);
        if (++d_x->at.n < active_rows(r->s, d_x->at.t)) continue;
        d_x->at.n = 0;
        d_x->at.t++;
    }
}

/* Features i .. i + width - 1 of rows of d_x, from rows ld apart. */
VEC_INLINE void R(put_d_x)(const R(run) *r, const real *const *d_x_rows, idx count, idx i, idx width,
                           const real *from, idx ld)
{
    for (idx row = 0; row < count; row++, from += ld) {
        real *to = (real *)d_x_rows[row] + i;
        if (r->s->d_x_add)
            for (idx j = 0; j < width; j++) to[j] += from[j];
        else
            memcpy(to, from, (size_t)width * sizeof(real));
    }
}

#if HAS_MATRIX_UNIT
/* d_x of rows first .. last - 1 on the matrix unit: for some rows at a time, one piece of k after the other, whose
   packed rows stay in the second cache while a pair of blocks of columns stays in the first. */
static void R(input_gradient_on_unit)(R(run) *r, const R(share) *share, idx first, idx last)
{
    const rk_sequence *s = r->s;
    idx columns = (s->I + UNIT_BLOCK - 1) / UNIT_BLOCK;
    char *left = (char *)share->scratch;
    real *out = (real *)(left + amx_operand_size(r->rows_on_unit, AMX_PIECE));
    R(d_x_rows) d_x = R(d_x_from)(r, first);
    amx_begin();
    for (idx row = first; row < last; row += r->rows_on_unit) {
        idx count = min_idx(r->rows_on_unit, last - row);
        const real *d_g = r->d_gates + row * r->ldg, *d_x_rows[AMX_MOST_ROWS];
        const char *right = r->ih_back_on_unit;
        for (idx k = 0; k < r->ldg; k += AMX_PIECE) {
            idx K = min_idx(AMX_PIECE, r->ldg - k), groups = amx_groups(K);
            amx_pack_left(left, d_g + k, r->ldg, count, K);
            amx_multiply_all(left, (count + UNIT_BLOCK - 1) / UNIT_BLOCK, 0, right, columns, groups, out,
                             r->rows_on_unit, k == 0);
            right += columns * groups * AMX_BLOCK_BYTES;
        }
        R(next_d_x_rows)(r, &d_x, count, d_x_rows);
        for (idx c = 0; c < columns; c += 2) {
            idx ld = min_idx(2, columns - c) * UNIT_BLOCK, i = c * UNIT_BLOCK;
            R(put_d_x)(r, d_x_rows, count, i, min_idx(ld, s->I - i), out + i * r->rows_on_unit, ld);
        }
    }
    amx_end();
}
#endif

/* d_x of this thread's part of all rows. */
static void R(input_gradient)(R(run) *r, const R(share) *share)
{
    const rk_sequence *s = r->s;
    if (!s->d_x.at) return;
    idx all = rk_all_rows(s);
    idx first = all * share->tid / share->n_threads, last = all * (share->tid + 1) / share->n_threads;
#if HAS_MATRIX_UNIT
    if (r->on_matrix_unit) {
        R(input_gradient_on_unit)(r, share, first, last);
        return;
    }
#endif
    R(d_x_rows) d_x = R(d_x_from)(r, first);
    real *block = share->scratch;
    for (idx row = first; row < last; row += INPUT_ROWS_AT_ONCE) {
        idx count = min_idx(INPUT_ROWS_AT_ONCE, last - row);
        R(rows) d_g = R(rows_of)(r->d_gates + row * r->ldg, r->ldg);
        const real *d_x_rows[INPUT_ROWS_AT_ONCE];
        R(next_d_x_rows)(r, &d_x, count, d_x_rows);
        for (idx u = 0; u < r->ih_back.U; u += r->ih_back.ug) {
            idx u1 = min_idx(u + r->ih_back.ug, r->ih_back.U), ld = (u1 - u) * VL;
            R(multiply)(&r->ih_back, u, u1, count, d_g, (R(rows)){0}, R(rows_of)(block, ld));
            R(put_d_x)(r, d_x_rows, count, u * VL, min_idx(ld, s->I - u * VL), block, ld);
        }
    }
}
