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
 */

static void R(lstm_stored)(const rk_sequence *s, size_t *gates, size_t *extra)
{
    idx ldu = (s->H + VL - 1) / VL * VL;
    *gates = (size_t)(s->T * s->N * 4 * ldu);
    *extra = (size_t)((s->T + 1) * s->N * ldu);
}

static void R(lstm_forward_step)(R(run) *r, const R(share) *share, idx t, real *g)
{
    const rk_sequence *s = r->s;
    const R(panels) *w = &r->hh[0];
    idx n_rows = share->n1 - share->n0, at_once = R(groups_at_once)(w, n_rows);
    int keep = s->gates != NULL;
    real *c_before = r->state + (keep ? t * s->N * r->ldu : 0);
    real *c_after = keep ? c_before + s->N * r->ldu : c_before;
    R(rows) h = R(previous_h)(r, t);
    h.base += share->n0 * h.inner;
    for (idx u = share->u0; u < share->u1; u += at_once) {
        idx u1 = min_idx(u + at_once, share->u1);
        R(rows) a = R(rows_of)(g + share->n0 * r->ldg + u * 4 * VL, r->ldg);
        R(multiply)(w, u, u1, n_rows, h, a, a);
        for (idx n = share->n0; n < share->n1; n++) {
            real *y = (real *)s->y + t * s->y_t + n * s->y_n;
            for (idx v = u; v < u1; v++) {
                real *gates = g + n * r->ldg + v * 4 * VL;
                vec i = R(v_sigmoid)(v_load(gates));
                vec f = R(v_sigmoid)(v_load(gates + VL));
                vec g_ = R(v_tanh)(v_load(gates + 2 * VL));
                vec o = R(v_sigmoid)(v_load(gates + 3 * VL));
                vec c = v_fma(f, v_load(c_before + n * r->ldu + v * VL), i * g_);
                if (keep) {
                    v_store(gates, i);
                    v_store(gates + VL, f);
                    v_store(gates + 2 * VL, g_);
                    v_store(gates + 3 * VL, o);
                }
                v_store(c_after + n * r->ldu + v * VL, c);
                R(store_units)(y, v * VL, s->H, o * R(v_tanh)(c));
            }
        }
    }
}

static void R(lstm_backward_step)(R(run) *r, const R(share) *share, idx t)
{
    const rk_sequence *s = r->s;
    const R(panels) *w = &r->hh_back[0];
    idx n_rows = share->n1 - share->n0, at_once = R(groups_at_once)(w, n_rows);
    const real *g = (const real *)s->gates + t * s->N * r->ldg;
    real *d_g = r->d_gates + t * s->N * r->ldg;
    const real *c_before = (const real *)s->extra + t * s->N * r->ldu;
    const real *c_after = c_before + s->N * r->ldu;
    const vec one = v_set1(1);
    for (idx u = share->u0; u < share->u1; u += at_once) {
        idx u1 = min_idx(u + at_once, share->u1), ld = (u1 - u) * VL;
        R(collect_d_h)(r, share, t, u, u1, NULL);
        for (idx n = share->n0; n < share->n1; n++) {
            const real *d_h_row = share->scratch + (n - share->n0) * ld;
            for (idx v = u; v < u1; v++) {
                const real *gates = g + n * r->ldg + v * 4 * VL;
                real *d_gates = d_g + n * r->ldg + v * 4 * VL;
                idx unit = n * r->ldu + v * VL;
                vec i = v_load(gates), f = v_load(gates + VL), g_ = v_load(gates + 2 * VL);
                vec o = v_load(gates + 3 * VL);
                vec tanh_c = R(v_tanh)(v_load(c_after + unit));
                vec d_h = v_load(d_h_row + (v - u) * VL);
                vec d_c = v_fma(d_h * o, v_fnma(tanh_c, tanh_c, one), v_load(r->carry + unit));
                vec d_i = d_c * g_ * (i * (one - i));
                vec d_f = d_c * v_load(c_before + unit) * (f * (one - f));
                vec d_g_ = d_c * i * v_fnma(g_, g_, one);
                vec d_o = d_h * tanh_c * (o * (one - o));
                v_store(r->carry + unit, R(valid_units)(d_c * f, v * VL, s->H));
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
    if (tid == 0) R(copy_in)(r->state, r->ldu, s->c_0, s->H, s->N, s->H);
    R(wait_all)(&share);
    R(forward_loop)(r, &share, R(lstm_forward_step));
    R(final_h)(r, &share);
    if (R(loop_was_stopped)(r, &share) || tid != 0) return;
    const real *last = r->state + (s->gates ? s->T * s->N * r->ldu : 0);
    R(copy_out)(s->c_n, s->H, last, r->ldu, s->N, s->H);
}

static void R(lstm_backward_task)(void *arg, int tid, int n_threads)
{
    R(run) *r = arg;
    const rk_sequence *s = r->s;
    R(share) share = R(share_of)(r, tid, n_threads);
    R(pack_backward)(r, &share);
    if (tid == 0) {
        if (s->d_c_n) R(copy_in)(r->carry, r->ldu, s->d_c_n, s->H, s->N, s->H);
        else memset(r->carry, 0, (size_t)(s->N * r->ldu) * sizeof(real));
    }
    R(wait_all)(&share);
    R(backward_loop)(r, &share, R(lstm_backward_step));
    if (R(loop_was_stopped)(r, &share)) return;
    if (tid == 0 && s->d_c_0) R(copy_out)(s->d_c_0, s->H, r->carry, r->ldu, s->N, s->H);
    R(gradients_after_loop)(r, &share);
}

DEFINE_CELL(lstm)
