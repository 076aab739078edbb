/*
 * The gradient of the input, for all steps together: d_x = d_gates . w_ih.
 */

/* Rows that a thread takes at once, `most` or fewer: the same number of times for each thread, and more than once. */
static idx R(plan_rows_of_d_x)(const R(run) *r, idx most, idx multiple)
{
    idx all = rk_all_rows(r->s), n = r->n_threads;
    if (n == 1) return most;
    idx times = (all + n * most - 1) / (n * most), pieces = n * (times > 1 ? times : 2);
    return min_idx(most, round_up((all + pieces - 1) / pieces, multiple));
}

/* Take the packed weights of d_x, and return what a thread needs to form it. */
static idx R(plan_input_gradient)(R(run) *r, R(arena) *arena)
{
    const rk_sequence *s = r->s;
#if HAS_MATRIX_UNIT
    if (r->on_matrix_unit) {
        r->ih_back_on_unit = R(take)(arena, amx_operand_size(s->I, r->ldg) / (idx)sizeof(real));
        r->rows_of_d_x = R(plan_rows_of_d_x)(r, amx_rows_at_once(s->I), UNIT_BLOCK);
        return amx_operand_size(r->rows_of_d_x, AMX_PIECE) / (idx)sizeof(real) +
               r->rows_of_d_x * round_up(s->I, UNIT_BLOCK);
    }
#endif
    idx groups = (s->I + VL - 1) / VL;
    int in_parts = rk_all_rows(s) <= INPUT_ROWS_AT_ONCE;
    R(matrix) w_ih = {
        .at = s->w_ih, .n_columns = s->I, .H = s->H, .sections = r->sections, .n_sections = r->n_sections};
    r->ih_back = R(plan_weight)(r, arena, r->ldg, groups, 1, (int)min_idx(4, groups), w_ih, in_parts, rk_all_rows(s));
    r->rows_of_d_x = R(plan_rows_of_d_x)(r, INPUT_ROWS_AT_ONCE, 1);
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
    idx u0, u1;
#if HAS_MATRIX_UNIT
    if (r->on_matrix_unit) {
        R(pack_weights_for_unit)(r, share);
        return;
    }
#endif
    if (!r->ih_back.data) return;
    R(packing_share)(&r->ih_back, share->tid, share->n_threads, &u0, &u1);
    R(pack)(&r->ih_back, u0, u1);
}

/* Where rows first .. first + count - 1 of d_x are. */
static void R(list_d_x)(const R(run) *r, idx first, idx count, const real **rows)
{
    const rk_sequence *s = r->s;
    if (!s->schedule.order) {
        R(rows) d_x = R(rows_of_grid)(s->d_x.at, s->d_x.n, s->d_x.t, s->N);
        R(cursor) at = R(later_row)(&d_x, first);
        R(next_rows)(&at, &d_x, (int)count, rows);
        return;
    }
    place at = place_of_kept(s, first);
    for (idx i = 0; i < count; i++) {
        rows[i] = R(grid_row)(r, &s->d_x, at.t, at.n);
        if (++at.n < active_rows(s, at.t)) continue;
        at.n = 0;
        at.t++;
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
/* The next function on the matrix unit: one piece of k after the other, whose packed rows stay in the second cache
   while a pair of their blocks stays in the first. */
static void R(input_gradient_on_unit)(const R(run) *r, const R(share) *share, const real *d_g, idx count,
                                      const real *const *d_x_rows)
{
    idx I = r->s->I, columns = (I + UNIT_BLOCK - 1) / UNIT_BLOCK;
    char *left = (char *)share->scratch;
    const char *right = r->ih_back_on_unit;
    real *out = (real *)(left + amx_operand_size(r->rows_of_d_x, AMX_PIECE));
    amx_begin();
    for (idx k = 0; k < r->ldg; k += AMX_PIECE) {
        idx K = min_idx(AMX_PIECE, r->ldg - k), groups = amx_groups(K);
        amx_pack_left(left, d_g + k, r->ldg, count, K);
        amx_multiply_all(left, (count + UNIT_BLOCK - 1) / UNIT_BLOCK, 0, right, columns, groups, out,
                         r->rows_of_d_x, k == 0);
        right += columns * groups * AMX_BLOCK_BYTES;
    }
    amx_end();
    for (idx c = 0; c < columns; c += 2) {
        idx ld = min_idx(2, columns - c) * UNIT_BLOCK, i = c * UNIT_BLOCK;
        R(put_d_x)(r, d_x_rows, count, i, min_idx(ld, I - i), out + i * r->rows_of_d_x, ld);
    }
}
#endif

/* Groups first .. end-1 of d_x of some rows, from their gate gradients. */
static void R(form_d_x)(const R(run) *r, const R(share) *share, const real *d_g, idx count,
                        const real *const *d_x_rows, idx first, idx end)
{
#if HAS_MATRIX_UNIT
    if (r->on_matrix_unit) {
        R(input_gradient_on_unit)(r, share, d_g, count, d_x_rows);
        return;
    }
#endif
    for (idx u = first; u < end; u += r->ih_back.ug) {
        idx u1 = min_idx(u + r->ih_back.ug, end), ld = (u1 - u) * VL;
        R(multiply_part)(r, share, &r->ih_back, u, u1, count, R(rows_of)(d_g, r->ldg), (R(rows)){0},
                         R(rows_of)(share->scratch, ld));
        R(put_d_x)(r, d_x_rows, count, u * VL, min_idx(ld, r->s->I - u * VL), share->scratch, ld);
    }
}

/* d_x of all rows, of which threads take some as they come to it; or of few rows, of which each has its part. */
static void R(input_gradient)(R(run) *r, const R(share) *share)
{
    if (!r->s->d_x.at) return;
    const idx all = rk_all_rows(r->s), each = r->rows_of_d_x;
    if (!r->on_matrix_unit && !r->ih_back.data) {
        const real *d_x_rows[INPUT_ROWS_AT_ONCE];
        idx u0, u1;
        R(list_d_x)(r, 0, all, d_x_rows);
        R(packing_share)(&r->ih_back, share->tid, share->n_threads, &u0, &u1);
        R(form_d_x)(r, share, r->d_gates, all, d_x_rows, u0, u1);
        return;
    }
    for (;;) {
        idx first = atomic_fetch_add_explicit(&r->rows_taken, each, memory_order_relaxed);
        if (first >= all) return;
        const real *d_x_rows[MOST_ROWS_OF_D_X];
        idx count = min_idx(each, all - first);
        R(list_d_x)(r, first, count, d_x_rows);
        R(form_d_x)(r, share, r->d_gates + first * r->ldg, count, d_x_rows, 0, r->ih_back.U);
    }
}
