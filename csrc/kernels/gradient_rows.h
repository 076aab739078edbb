/*
 * The rows that the gradients of weights are sums over: in which order, how many at a time, and where they are.
 */

/* The next rows that a weight gradient takes together, from `at` on: on the matrix unit no further than the
   beginning of a block of steps, and all others as many as there are. */
VEC_INLINE idx R(rows_together)(const R(run) *r, place at, idx left)
{
    if (!r->on_matrix_unit) return min_idx(GRADIENT_BLOCK, left);
    idx begins = at.t - at.t % r->steps_together;
    return min_idx(UNIT_ROWS, rows_before(r->s, at.t) - rows_before(r->s, begins) + active_rows(r->s, at.t) - at.n);
}

/* What a product with the gradients of the gates reads beside them: x, h_{t-1}, or rows that were kept. */
typedef enum { R(operand_x), R(operand_h), R(operand_kept) } R(operand);

/* The next function where all rows take all steps and none restarts, from row `first` in that order on. */
static void R(dense_gradient_rows)(const R(run) *r, idx first, int count, R(operand) operand,
                                   const real *kept, const real **a, const real **d_g)
{
    const rk_sequence *s = r->s;
    idx N = s->N, last = s->T - 1;
    R(rows) rows = R(rows_of_grid)(r->d_gates + last * N * r->ldg, r->ldg, -N * r->ldg, N);
    R(cursor) at = R(later_row)(&rows, first);
    R(next_rows)(&at, &rows, count, d_g);
    int of_initial = 0; /* the last N rows of h_{t-1} */
    if (operand == R(operand_h)) {
        of_initial = (int)min_idx(count, first + count - last * N);
        if (of_initial < 0) of_initial = 0;
        last--;
    }
    const rk_grid *grid = operand == R(operand_x) ? &s->x : &s->y;
    rows = R(rows_of_grid)((const real *)grid->at + last * grid->t, grid->n, -grid->t, N);
    if (operand == R(operand_kept)) rows = R(rows_of_grid)(kept + last * N * r->ldu, r->ldu, -N * r->ldu, N);
    at = R(later_row)(&rows, first);
    R(next_rows)(&at, &rows, count - of_initial, a);
    if (of_initial) {
        rows = R(rows_of)(s->h_0, s->H);
        at = R(later_row)(&rows, first + count - of_initial - (s->T - 1) * N);
        R(next_rows)(&at, &rows, of_initial, a + count - of_initial);
    }
}

/* h_{t-1} of rows n, n + 1, ... as step t takes it. */
static void R(list_h_before)(const R(run) *r, idx t, idx n, const real **rows, int count)
{
    rk_grid h = R(grid_of_h_before)(r->s, t);
    R(list_some_rows)(r, &h, t - 1, n, rows, count);
    R(list_restarts)(r, 0, t, n, rows, count);
}

/* The next `count` rows, from row `first` on, which is `at`, of an operand and of d_gates in the order in
   which gradients of weights are summed: from the last step to the first, whatever the segments of a run. */
static void R(gradient_rows)(const R(run) *r, place *at, idx first, int count, R(operand) operand,
                             const real *kept, const real **a, const real **d_g)
{
    const rk_sequence *s = r->s;
    if (is_dense(s)) {
        R(dense_gradient_rows)(r, first, count, operand, kept, a, d_g);
        *at = (place){s->T - 1 - (first + count) / s->N, (first + count) % s->N};
        return;
    }
    for (int i = 0; i < count;) {
        idx t = at->t, n = at->n, active = active_rows(s, t), kept_row = rows_before(s, t) + n;
        int end = (int)min_idx(count, i + active - n);
        for (int j = i; j < end; j++) d_g[j] = r->d_gates + (kept_row + j - i) * r->ldg;
        if (operand == R(operand_kept))
            for (int j = i; j < end; j++) a[j] = kept + (kept_row + j - i) * r->ldu;
        else if (operand == R(operand_x)) R(list_some_rows)(r, &s->x, t, n, a + i, end - i);
        else R(list_h_before)(r, t, n, a + i, end - i);
        n += end - i;
        i = end;
        *at = n < active ? (place){t, n} : (place){t - 1, 0};
    }
}
