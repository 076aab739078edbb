/*
 * The LSTM with a forget gate (Hochreiter & Schmidhuber 1997; Gers et al. 2000). Gate order i, f, g, o.
 *
 *     i, f, o = sigmoid(a_i, a_f, a_o),  g = tanh(a_g),   a = b_ih + b_hh + W_ih x_t + W_hh h_{t-1}
 *     c_t = f c_{t-1} + i g
 *     h_t = o tanh(c_t)
 *
 * Backward, with d_h and d_c all that flows into h_t and c_t:
 *     d_c  += d_h o (1 - tanh(c_t)^2)
 *     d_a_i = d_c g i (1 - i)            d_a_f = d_c c_{t-1} f (1 - f)
 *     d_a_g = d_c i (1 - g^2)            d_a_o = d_h tanh(c_t) o (1 - o)
 *     d_c_{t-1} = d_c f,                 d_h_{t-1} += W_hh^T d_a
 *
 * Kept for backward: gates (T, N, 4U) after their nonlinearities, and extra (T+1, N, U): c_{-1} .. c_{T-1}.
 * Rows past their end are left out.
 */

static void R(lstm_stored)(const rk_sequence *s, size_t *gates, size_t *extra)
{
    idx ldu = (s->H + VL - 1) / VL * VL;
    *gates = (size_t)(rk_all_rows(s) * 4 * ldu);
    *extra = (size_t)((s->N + rk_all_rows(s)) * ldu);
}

/* c_t of row n (t = -1: the initial one) among those that are kept. */
VEC_INLINE real *R(lstm_kept_c)(const R(run) *r, real *kept, idx t, idx n)
{
    idx row = t < 0 ? n : r->s->N + rows_before(r->s, t) + n;
    return kept + row * r->ldu;
}

/* What step t takes for c_{t-1}; `c` is where it is, unless the row restarts. */
VEC_INLINE const real *R(lstm_c_before)(const R(run) *r, idx t, idx n, const real *c)
{
    return restarts(r->s, t, n) ? r->restart[1] + n * r->restart_ld : c;
}

static void R(lstm_forward_step)(R(run) *r, const R(share) *share, idx t, idx n_rows, real *g)
{
    const rk_sequence *s = r->s;
    const R(panels) *w = &r->hh[0];
    idx at_once = R(groups_at_once)(w, n_rows);
    int keep = s->gates != NULL;
    R(rows) h = R(rows_of_h_before)(r, share, t, n_rows);
    for (idx u = share->u0; u < share->u1; u += at_once) {
        idx u1 = min_idx(u + at_once, share->u1);
        R(rows) a = R(rows_of)(g + share->n0 * r->ldg + u * 4 * VL, share->n_step * r->ldg);
        R(multiply)(w, u, u1, n_rows, h, a, a);
        for (idx i = 0, n = share->n0; i < n_rows; i++, n += share->n_step) {
            real *y = R(grid_row)(r, &s->y, t, n);
            real *shown_c = s->c.at ? R(grid_row)(r, &s->c, t, n) : NULL;
            real *c_after = R(lstm_kept_c)(r, r->state, keep ? t : -1, n);
            const real *c_before =
                R(lstm_c_before)(r, t, n, keep ? R(lstm_kept_c)(r, r->state, t - 1, n) : c_after);
            for (idx v = u; v < u1; v++) {
                real *gates = g + n * r->ldg + v * 4 * VL;
                vec i_ = R(v_sigmoid)(v_load(gates));
                vec f = R(v_sigmoid)(v_load(gates + VL));
                vec g_ = R(v_tanh)(v_load(gates + 2 * VL));
                vec o = R(v_sigmoid)(v_load(gates + 3 * VL));
                vec c = v_fma(f, v_load(c_before + v * VL), i_ * g_);
                if (keep) {
                    v_store(gates, i_);
                    v_store(gates + VL, f);
                    v_store(gates + 2 * VL, g_);
                    v_store(gates + 3 * VL, o);
                }
                v_store(c_after + v * VL, c);
                if (shown_c) R(store_units)(shown_c, v * VL, s->H, c);
                R(store_units)(y, v * VL, s->H, o * R(v_tanh)(c));
            }
        }
    }
}

static void R(lstm_backward_step)(R(run) *r, const R(share) *share, idx t, idx n_rows)
{
    const rk_sequence *s = r->s;
    const R(panels) *w = &r->hh_back[0];
    idx at_once = R(groups_at_once)(w, n_rows);
    const real *g = (const real *)s->gates + rows_before(s, t) * r->ldg;
    real *d_g = r->d_gates + rows_before(s, t) * r->ldg;
    const vec one = v_set1(1);
    for (idx u = share->u0; u < share->u1; u += at_once) {
        idx u1 = min_idx(u + at_once, share->u1), ld = (u1 - u) * VL;
        R(collect_d_h)(r, share, t, n_rows, u, u1, NULL);
        for (idx i = 0, n = share->n0; i < n_rows; i++, n += share->n_step) {
            const real *d_h_row = share->scratch + i * ld;
            const real *c_after = R(lstm_kept_c)(r, s->extra, t, n);
            const real *c_before = R(lstm_c_before)(r, t, n, R(lstm_kept_c)(r, s->extra, t - 1, n));
            const real *d_shown_c = s->d_c.at ? R(grid_row)(r, &s->d_c, t, n) : NULL;
            real *seen_d_c = s->d_c_all.at ? R(grid_row)(r, &s->d_c_all, t, n) : NULL;
            int restarted = restarts(s, t, n);
            for (idx v = u; v < u1; v++) {
                const real *gates = g + n * r->ldg + v * 4 * VL;
                real *d_gates = d_g + n * r->ldg + v * 4 * VL;
                idx unit = n * r->ldu + v * VL;
                vec i_ = v_load(gates), f = v_load(gates + VL), g_ = v_load(gates + 2 * VL);
                vec o = v_load(gates + 3 * VL);
                vec tanh_c = R(v_tanh)(v_load(c_after + v * VL));
                vec d_h = v_load(d_h_row + (v - u) * VL);
                vec carried = v_load(r->carry + unit);
                if (d_shown_c) carried = carried + R(load_units)(d_shown_c, v * VL, s->H);
                vec d_c = v_fma(d_h * o, v_fnma(tanh_c, tanh_c, one), carried);
                if (seen_d_c) R(store_units)(seen_d_c, v * VL, s->H, d_c);
                vec d_i = d_c * g_ * (i_ * (one - i_));
                vec d_f = d_c * v_load(c_before + v * VL) * (f * (one - f));
                vec d_g_ = d_c * i_ * v_fnma(g_, g_, one);
                vec d_o = d_h * tanh_c * (o * (one - o));
                R(pass_on)(r, 1, restarted, unit, R(valid_units)(d_c * f, v * VL, s->H));
                v_store(d_gates, R(valid_units)(d_i, v * VL, s->H));
                v_store(d_gates + VL, R(valid_units)(d_f, v * VL, s->H));
                v_store(d_gates + 2 * VL, R(valid_units)(d_g_, v * VL, s->H));
                v_store(d_gates + 3 * VL, R(valid_units)(d_o, v * VL, s->H));
            }
        }
    }
}

static void R(lstm_plan)(R(run) *r, const rk_sequence *s)
{
    R(plan)(r, s, 4, 4);
}

static void R(lstm_plan_forward)(R(run) *r, const rk_sequence *s, R(arena) *arena)
{
    R(lstm_plan)(r, s);
    R(plan_forward)(r, arena);
    r->state = s->gates ? (real *)s->extra : R(take)(arena, s->N * r->ldu);
}

static void R(lstm_plan_backward)(R(run) *r, const rk_sequence *s, R(arena) *arena)
{
    R(lstm_plan)(r, s);
    R(plan_backward)(r, arena);
    r->d_gates = s->d_gates;
}

static void R(lstm_forward_task)(void *arg, int tid, int n_threads)
{
    R(run) *r = arg;
    const rk_sequence *s = r->s;
    R(share) share = R(share_of)(r, tid, n_threads);
    if (!s->packed) R(pack_forward)(r, &share);
    if (tid == 0) R(gather_rows)(r, r->state, s->c_0, s->N);
    R(wait_all)(&share);
    R(forward_loop)(r, &share, R(lstm_forward_step));
    R(final_h)(r, &share);
    if (R(loop_was_stopped)(r, &share) || tid != 0) return;
    for (idx n = 0; n < s->N; n++) {
        idx last = s->gates ? steps_of_row(s, n) - 1 : -1;
        R(scatter_row)(r, s->c_n, R(lstm_kept_c)(r, r->state, last, n), n);
    }
}

static void R(lstm_backward_task)(void *arg, int tid, int n_threads)
{
    R(run) *r = arg;
    const rk_sequence *s = r->s;
    R(share) share = R(share_of)(r, tid, n_threads);
    R(pack_backward)(r, &share);
    if (tid == 0) R(gather_rows)(r, r->carry, s->d_c_n, s->N);
    R(wait_all)(&share);
    R(backward_loop)(r, &share, R(lstm_backward_step));
    if (R(loop_was_stopped)(r, &share)) return;
    for (idx n = 0; n < s->N && tid == 0 && s->d_c_0; n++)
        R(scatter_row)(r, s->d_c_0, r->carry + n * r->ldu, n);
    R(gradients_after_loop)(r, &share);
}

DEFINE_CELL(lstm)
