/*
 * The vanilla RNN (Elman 1990).
 *
 *     h_t = f(b_ih + b_hh + W_ih x_t + W_hh h_{t-1}),    f = tanh or relu
 *
 * Backward, with a_t the argument of f and d_h_t all that flows into h_t:
 *     d_a_t = d_h_t f'(a_t),  f' = 1 - h_t^2  or  [h_t > 0]
 *     d_h_{t-1} += W_hh^T d_a_t
 *
 * Kept for backward: nothing but y.
 */

static void R(rnn_stored)(const rk_sequence *s, size_t *gates, size_t *extra)
{
    (void)s;
    *gates = *extra = 0;
}

VEC_INLINE void R(rnn_forward_step)(R(run) *r, const R(share) *share, const int dense, idx t, idx n_rows,
                                    real *g)
{
    const rk_sequence *s = r->s;
    const R(panels) *w = &r->hh[0];
    idx at_once = R(groups_at_once)(w, n_rows);
    R(rows) h = R(rows_of_h_before)(r, share, dense, t, n_rows);
    R(rows) h_after = R(rows_of_step)(r, share, dense, LIST_OF_Y, &s->y, t, n_rows);
    FOR_PARTS_OF_STEP(t + s->turn, share->u0, share->u1, at_once, u, u1) {
        R(rows) a = R(rows_of)(g + share->n0 * r->ldg + u * VL, r->ldg);
        R(multiply_part)(r, share, w, u, u1, n_rows, h, a, a);
        for (idx i = 0, n = share->n0; i < n_rows; i++, n++) {
            const real *row = g + n * r->ldg;
            real *y = (real *)R(row_of_step)(&h_after, dense, i);
            for (idx v = u; v < u1; v++) {
                vec arg = v_load(row + v * VL);
                vec out = s->variant == RK_RNN_RELU ? v_max(v_set1(0), arg) : R(v_tanh)(arg);
                R(store_units)(y, v * VL, s->H, out);
            }
        }
    }
}

VEC_INLINE void R(rnn_backward_step)(R(run) *r, const R(share) *share, const int dense, idx t, idx n_rows)
{
    const rk_sequence *s = r->s;
    idx at_once = R(d_h_at_once)(r, n_rows);
    real *d_g = r->d_gates + rows_before_step(s, dense, t) * r->ldg;
    R(rows) h_after = R(rows_of_step)(r, share, dense, LIST_OF_H, &s->y, t, n_rows);
    FOR_PARTS_OF_STEP(t, share->u0, share->u1, at_once, u, u1) {
        idx ld = (u1 - u) * VL;
        R(collect_d_h)(r, share, dense, t, n_rows, u, u1, NULL);
        for (idx i = 0, n = share->n0; i < n_rows; i++, n++) {
            const real *y = R(row_of_step)(&h_after, dense, i);
            const real *d_h_row = share->scratch + i * ld;
            for (idx v = u; v < u1; v++) {
                vec h = R(load_units)(y, v * VL, s->H);
                vec d_h = v_load(d_h_row + (v - u) * VL);
                vec d_a = d_h * v_fnma(h, h, v_set1(1));
                if (s->variant == RK_RNN_RELU) d_a = v_unless_positive(h, v_set1(0), d_h);
                v_store(d_g + n * r->ldg + v * VL, R(valid_units)(d_a, v * VL, s->H));
            }
        }
    }
}

DEFINE_STEPS(rnn_forward_step, rnn_backward_step)

static void R(rnn_plan)(R(run) *r, const rk_sequence *s)
{
    R(plan)(r, s, 1, 1);
}

static void R(rnn_plan_forward)(R(run) *r, const rk_sequence *s, R(arena) *arena)
{
    R(rnn_plan)(r, s);
    R(plan_forward)(r, arena);
}

static void R(rnn_plan_backward)(R(run) *r, const rk_sequence *s, R(arena) *arena)
{
    R(rnn_plan)(r, s);
    R(plan_backward)(r, arena);
    r->d_gates = R(take)(arena, rk_all_rows(s) * r->ldg);
}

static void R(rnn_forward_task)(void *arg, int tid, int n_threads)
{
    R(run) *r = arg;
    R(share) share = R(share_of)(r, tid, n_threads);
    R(prepare_forward)(r, &share);
    R(wait_all)(&share);
    FORWARD_LOOP(r, &share, rnn_forward_step);
    R(final_h)(r, &share);
}

static void R(rnn_backward_task)(void *arg, int tid, int n_threads)
{
    R(run) *r = arg;
    R(share) share = R(share_of)(r, tid, n_threads);
    R(pack_backward)(r, &share);
    R(wait_all)(&share);
    BACKWARD_LOOP(r, &share, rnn_backward_step);
    if (R(loop_was_stopped)(r, &share)) return;
    R(gradients_after_loop)(r, &share);
}

DEFINE_CELL(rnn)
