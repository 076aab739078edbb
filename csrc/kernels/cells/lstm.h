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

/* The same for this thread's rows. */
VEC_INLINE R(rows) R(lstm_rows_of_c)(const R(run) *r, const R(share) *share, const int dense, real *kept,
                                     idx t)
{
    real *first = dense ? kept + ((t + 1) * r->s->N + share->n0) * r->ldu
                        : R(lstm_kept_c)(r, kept, t, share->n0);
    return R(rows_of)(first, r->ldu);
}

/* Groups u .. u1-1 of this thread's rows of c_t, to those who want to see it. */
static void R(lstm_show_c)(const R(run) *r, const R(share) *share, idx t, idx n_rows, idx u, idx u1,
                           const R(rows) *c)
{
    const rk_sequence *s = r->s;
    idx width = min_idx(u1 * VL, s->H) - u * VL;
    for (idx i = 0; i < n_rows; i++) {
        real *to = R(grid_row)(r, &s->c, t, share->n0 + i);
        memcpy(to + u * VL, c->base + i * c->inner + u * VL, (size_t)width * sizeof(real));
    }
}

/* And their gradients of it, which join what flows from the step after. */
static void R(lstm_collect_d_c)(const R(run) *r, const R(share) *share, idx t, idx n_rows, idx u, idx u1)
{
    for (idx i = 0; i < n_rows; i++) {
        idx n = share->n0 + i;
        real *d_c = r->carry + n * r->ldu;
        R(add_units)(d_c, d_c, R(grid_row)(r, &r->s->d_c, t, n), u, u1, r->s->H);
    }
}

VEC_INLINE void R(lstm_forward_step)(R(run) *r, const R(share) *share, const int dense, idx t, idx n_rows,
                                     real *g)
{
    const rk_sequence *s = r->s;
    const R(panels) *w = &r->hh[0];
    idx at_once = R(groups_at_once)(w, n_rows);
    int keep = s->gates != NULL;
    R(rows) h = R(rows_of_h_before)(r, share, dense, t, n_rows);
    R(rows) y = R(rows_of_step)(r, share, dense, LIST_OF_Y, &s->y, t, n_rows);
    R(rows) after = R(lstm_rows_of_c)(r, share, dense, r->state, keep ? t : -1);
    R(rows) before = R(lstm_rows_of_c)(r, share, dense, r->state, keep ? t - 1 : -1);
    before = R(rows_or_restarts)(r, share, dense, LIST_OF_C, 1, t, n_rows, before);
    FOR_PARTS_OF_STEP(t + s->turn, share->u0, share->u1, at_once, u, u1) {
        R(rows) a = R(rows_of)(g + share->n0 * r->ldg + u * 4 * VL, r->ldg);
        R(multiply_part)(r, share, w, u, u1, n_rows, h, a, a);
        for (idx i = 0, n = share->n0; i < n_rows; i++, n++) {
            real *h_after = (real *)R(row_of_step)(&y, dense, i);
            real *c_after = (real *)after.base + i * after.inner;
            const real *c_before = R(row_of_step)(&before, dense, i);
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
                R(store_units)(h_after, v * VL, s->H, o * R(v_tanh)(c));
            }
        }
        if (s->c.at) R(lstm_show_c)(r, share, t, n_rows, u, u1, &after);
    }
}

VEC_INLINE void R(lstm_backward_step)(R(run) *r, const R(share) *share, const int dense, idx t, idx n_rows)
{
    const rk_sequence *s = r->s;
    idx at_once = R(d_h_at_once)(r, n_rows);
    idx first = rows_before_step(s, dense, t);
    const real *g = (const real *)s->gates + first * r->ldg;
    real *d_g = r->d_gates + first * r->ldg;
    R(rows) after = R(lstm_rows_of_c)(r, share, dense, s->extra, t);
    R(rows) before = R(lstm_rows_of_c)(r, share, dense, s->extra, t - 1);
    before = R(rows_or_restarts)(r, share, dense, LIST_OF_C, 1, t, n_rows, before);
    const unsigned char *restarts = restarts_of_step(s, dense, t);
    const vec one = v_set1(1);
    FOR_PARTS_OF_STEP(t, share->u0, share->u1, at_once, u, u1) {
        idx ld = (u1 - u) * VL;
        R(collect_d_h)(r, share, dense, t, n_rows, u, u1, NULL);
        if (s->d_c.at) R(lstm_collect_d_c)(r, share, t, n_rows, u, u1);
        for (idx i = 0, n = share->n0; i < n_rows; i++, n++) {
            const real *d_h_row = share->scratch + i * ld;
            const real *c_after = after.base + i * after.inner;
            const real *c_before = R(row_of_step)(&before, dense, i);
            real *seen_d_c = s->d_c_all.at ? R(grid_row)(r, &s->d_c_all, t, n) : NULL;
            int restarted = restarts && restarts[n];
            for (idx v = u; v < u1; v++) {
                const real *gates = g + n * r->ldg + v * 4 * VL;
                real *d_gates = d_g + n * r->ldg + v * 4 * VL;
                idx unit = n * r->ldu + v * VL;
                vec i_ = v_load(gates), f = v_load(gates + VL), g_ = v_load(gates + 2 * VL);
                vec o = v_load(gates + 3 * VL);
                vec tanh_c = R(v_tanh)(v_load(c_after + v * VL));
                vec d_h = v_load(d_h_row + (v - u) * VL);
                vec d_c = v_fma(d_h * o, v_fnma(tanh_c, tanh_c, one), v_load(r->carry + unit));
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

DEFINE_STEPS(lstm_forward_step, lstm_backward_step)

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
    R(prepare_forward)(r, &share);
    if (tid == 0) R(gather_rows)(r, r->state, s->c_0, s->N);
    R(wait_all)(&share);
    FORWARD_LOOP(r, &share, lstm_forward_step);
    R(final_h)(r, &share);
    if (R(loop_was_stopped)(r, &share) || tid != 0) return;
    if (!s->gates || !s->schedule.order) {
        R(scatter_rows)(r, s->c_n, R(lstm_kept_c)(r, r->state, s->gates ? s->T - 1 : -1, 0), s->N);
        return;
    }
    for (idx n = 0; n < s->N; n++)
        memcpy((real *)s->c_n + callers_row(s, n) * s->H,
               R(lstm_kept_c)(r, r->state, steps_of_row(s, n) - 1, n), (size_t)s->H * sizeof(real));
}

static void R(lstm_backward_task)(void *arg, int tid, int n_threads)
{
    R(run) *r = arg;
    const rk_sequence *s = r->s;
    R(share) share = R(share_of)(r, tid, n_threads);
    R(pack_backward)(r, &share);
    if (tid == 0) R(gather_rows)(r, r->carry, s->d_c_n, s->N);
    R(wait_all)(&share);
    BACKWARD_LOOP(r, &share, lstm_backward_step);
    if (R(loop_was_stopped)(r, &share)) return;
    if (tid == 0 && s->d_c_0) R(scatter_rows)(r, s->d_c_0, r->carry, s->N);
    R(gradients_after_loop)(r, &share);
}

DEFINE_CELL(lstm)
