/*
 * The GRU (Cho et al. 2014) in its two dialects. Gate order r, z, n.
 *
 *     r, z = sigmoid(a_r, a_z),   a = b_ih + b_hh + W_ih x_t + W_hh h_{t-1}
 *     n    = tanh(W_in x_t + b_in + r (W_hn h_{t-1} + b_hn))      reset after the product (cuDNN, PyTorch)
 *     n    = tanh(W_in x_t + b_in + W_hn (r h_{t-1}) + b_hn)      reset before it (the paper)
 *     h_t  = (1 - z) n + z h_{t-1}
 *
 * Backward, with d_h all that flows into h_t:
 *     d_a_n = d_h (1 - z) (1 - n^2)      d_a_z = d_h (h_{t-1} - n) z (1 - z)
 *   reset after, with m = W_hn h_{t-1} + b_hn:
 *     d_a_r = d_a_n m r (1 - r)
 *     d_h_{t-1} = d_h z + W_hr^T d_a_r + W_hz^T d_a_z + W_hn^T (d_a_n r)
 *   reset before, with q = W_hn^T d_a_n:
 *     d_a_r = q h_{t-1} r (1 - r)
 *     d_h_{t-1} = d_h z + q r + W_hr^T d_a_r + W_hz^T d_a_z
 *
 * Kept for backward, of the rows that each step has: gates (T, N, 3U), and extra (T, N, U): m, or r h_{t-1}.
 * Reset after, a row of gates is one section of three gates a group; reset before, one of two (r, z) and one
 * of one (n), since their products follow each other.
 */

#ifndef GRU_GATES_NAMED
#define GRU_GATES_NAMED
enum { GATE_R = 0, GATE_Z = 1, GATE_N = 2 };
#endif

static void R(gru_stored)(const rk_sequence *s, size_t *gates, size_t *extra)
{
    idx ldu = (s->H + VL - 1) / VL * VL;
    *gates = (size_t)(rk_all_rows(s) * 3 * ldu);
    *extra = (size_t)(rk_all_rows(s) * ldu);
}

VEC_INLINE int R(gru_is_reset_before)(const R(run) *r)
{
    return r->s->variant == RK_GRU_RESET_BEFORE;
}

/* ---- reset after the product ------------------------------------------------------------------ */

VEC_INLINE void R(gru_after_forward_step)(R(run) *r, const R(share) *share, const int dense, idx t,
                                          idx n_rows, real *g)
{
    const rk_sequence *s = r->s;
    const R(panels) *w = &r->hh[0];
    idx at_once = R(groups_at_once)(w, n_rows);
    real *kept = s->extra ? (real *)s->extra + rows_before_step(s, dense, t) * r->ldu : NULL;
    const real *b_m = r->late_bias;
    R(rows) h = R(rows_of_h_before)(r, share, dense, t, n_rows);
    R(rows) h_after = R(rows_of_step)(r, share, dense, LIST_OF_Y, &s->y, t, n_rows);
    FOR_PARTS_OF_STEP(t + s->turn, share->u0, share->u1, at_once, u, u1) {
        idx ld = (u1 - u) * 3 * VL;
        for (idx i = 0, n = share->n0; i < n_rows; i++, n++)
            for (idx v = u; v < u1; v++) {
                const real *gates = g + n * r->ldg + v * 3 * VL;
                real *product = share->scratch + i * ld + (v - u) * 3 * VL;
                v_store(product, v_load(gates));
                v_store(product + VL, v_load(gates + VL));
                v_store(product + 2 * VL, v_load(b_m + v * VL));
            }
        R(rows) products = R(rows_of)(share->scratch, ld);
        R(multiply_part)(r, share, w, u, u1, n_rows, h, products, products);
        for (idx i = 0, n = share->n0; i < n_rows; i++, n++) {
            const real *h_row = R(row_of_step)(&h, dense, i);
            real *y = (real *)R(row_of_step)(&h_after, dense, i);
            for (idx v = u; v < u1; v++) {
                real *gates = g + n * r->ldg + v * 3 * VL;
                const real *product = share->scratch + i * ld + (v - u) * 3 * VL;
                vec reset = R(v_sigmoid)(v_load(product));
                vec z = R(v_sigmoid)(v_load(product + VL));
                vec m = v_load(product + 2 * VL);
                vec new = R(v_tanh)(v_fma(reset, m, v_load(gates + 2 * VL)));
                vec h_before = R(load_units)(h_row, v * VL, s->H);
                if (kept) {
                    v_store(gates, reset);
                    v_store(gates + VL, z);
                    v_store(gates + 2 * VL, new);
                    v_store(kept + n * r->ldu + v * VL, m);
                }
                R(store_units)(y, v * VL, s->H, v_fma(z, h_before - new, new));
            }
        }
    }
}

VEC_INLINE void R(gru_after_backward_step)(R(run) *r, const R(share) *share, const int dense, idx t,
                                           idx n_rows)
{
    const rk_sequence *s = r->s;
    idx at_once = R(d_h_at_once)(r, n_rows);
    const real *g = (const real *)s->gates + rows_before_step(s, dense, t) * r->ldg;
    const real *kept = (const real *)s->extra + rows_before_step(s, dense, t) * r->ldu;
    real *d_g = r->d_gates + rows_before_step(s, dense, t) * r->ldg;
    real *d_new = (real *)s->d_extra + rows_before_step(s, dense, t) * r->ldu;
    R(rows) h = R(rows_of_h_before)(r, share, dense, t, n_rows);
    const unsigned char *restarts = restarts_of_step(s, dense, t);
    const vec one = v_set1(1);
    FOR_PARTS_OF_STEP(t, share->u0, share->u1, at_once, u, u1) {
        idx ld = (u1 - u) * VL;
        R(collect_d_h)(r, share, dense, t, n_rows, u, u1, r->carry);
        for (idx i = 0, n = share->n0; i < n_rows; i++, n++) {
            const real *d_h_row = share->scratch + i * ld;
            int restarted = restarts && restarts[n];
            for (idx v = u; v < u1; v++) {
                const real *gates = g + n * r->ldg + v * 3 * VL;
                real *d_gates = d_g + n * r->ldg + v * 3 * VL;
                idx unit = n * r->ldu + v * VL;
                vec reset = v_load(gates), z = v_load(gates + VL), new = v_load(gates + 2 * VL);
                vec h_before = R(load_units)(R(row_of_step)(&h, dense, i), v * VL, s->H);
                vec d_h = v_load(d_h_row + (v - u) * VL);
                vec d_n = d_h * (one - z) * v_fnma(new, new, one);
                vec d_z = d_h * (h_before - new) * (z * (one - z));
                vec d_r = d_n * v_load(kept + unit) * (reset * (one - reset));
                R(pass_on)(r, 0, restarted, unit, R(valid_units)(d_h * z, v * VL, s->H));
                v_store(d_new + unit, R(valid_units)(d_n, v * VL, s->H));
                v_store(d_gates, R(valid_units)(d_r, v * VL, s->H));
                v_store(d_gates + VL, R(valid_units)(d_z, v * VL, s->H));
                v_store(d_gates + 2 * VL, R(valid_units)(d_n * reset, v * VL, s->H));
            }
        }
    }
}

/* In this thread's part of all rows, replace what the recurrent product received for n (d_a_n r) by
   what the input product received (d_a_n). */
static void R(gru_after_use_d_n)(R(run) *r, const R(share) *share)
{
    const rk_sequence *s = r->s;
    idx all = rk_all_rows(s);
    idx first = all * share->tid / share->n_threads, last = all * (share->tid + 1) / share->n_threads;
    for (idx row = first; row < last; row++)
        for (idx u = 0; u < r->U; u++)
            v_store(r->d_gates + row * r->ldg + (u * 3 + GATE_N) * VL,
                    v_load((const real *)s->d_extra + row * r->ldu + u * VL));
}

/* ---- reset before the product ----------------------------------------------------------------- */

VEC_INLINE void R(gru_before_forward_step)(R(run) *r, const R(share) *share, const int dense, idx t,
                                          idx n_rows, real *g)
{
    const rk_sequence *s = r->s;
    idx at_once = R(groups_at_once)(&r->hh[0], n_rows);
    real *reset_h = s->extra ? (real *)s->extra + rows_before_step(s, dense, t) * r->ldu : r->state;
    real *g_new = g + 2 * r->ldu;
    R(rows) h = R(rows_of_h_before)(r, share, dense, t, n_rows);
    R(rows) h_after = R(rows_of_step)(r, share, dense, LIST_OF_Y, &s->y, t, n_rows);
    FOR_PARTS_OF_STEP(t + s->turn, share->u0, share->u1, at_once, u, u1) {
        R(rows) a = R(rows_of)(g + share->n0 * r->ldg + u * 2 * VL, r->ldg);
        R(multiply_part)(r, share, &r->hh[0], u, u1, n_rows, h, a, a);
        for (idx i = 0, n = share->n0; i < n_rows; i++, n++)
            for (idx v = u; v < u1; v++) {
                real *gates = g + n * r->ldg + v * 2 * VL;
                vec reset = R(v_sigmoid)(v_load(gates));
                v_store(gates, reset);
                v_store(gates + VL, R(v_sigmoid)(v_load(gates + VL)));
                const real *h_row = R(row_of_step)(&h, dense, i);
                vec h_before = R(load_units)(h_row, v * VL, s->H);
                v_store(reset_h + n * r->ldu + v * VL, reset * h_before);
            }
    }
    R(wait_step)(r, share);
    at_once = R(groups_at_once)(&r->hh[1], n_rows);
    FOR_PARTS_OF_STEP(t + s->turn, share->u0, share->u1, at_once, u, u1) {
        R(rows) a = R(rows_of)(g_new + share->n0 * r->ldg + u * VL, r->ldg);
        R(rows) reset_rows = R(rows_of)(reset_h + share->n0 * r->ldu, r->ldu);
        R(multiply_part)(r, share, &r->hh[1], u, u1, n_rows, reset_rows, a, a);
        for (idx i = 0, n = share->n0; i < n_rows; i++, n++) {
            const real *h_row = R(row_of_step)(&h, dense, i);
            real *y = (real *)R(row_of_step)(&h_after, dense, i);
            for (idx v = u; v < u1; v++) {
                vec z = v_load(g + n * r->ldg + (v * 2 + GATE_Z) * VL);
                vec new = R(v_tanh)(v_load(g_new + n * r->ldg + v * VL));
                v_store(g_new + n * r->ldg + v * VL, new);
                vec h_before = R(load_units)(h_row, v * VL, s->H);
                R(store_units)(y, v * VL, s->H, v_fma(z, h_before - new, new));
            }
        }
    }
}

VEC_INLINE void R(gru_before_backward_step)(R(run) *r, const R(share) *share, const int dense, idx t,
                                           idx n_rows)
{
    const rk_sequence *s = r->s;
    idx at_once = R(d_h_at_once)(r, n_rows);
    const real *g = (const real *)s->gates + rows_before_step(s, dense, t) * r->ldg, *g_new = g + 2 * r->ldu;
    real *d_g = r->d_gates + rows_before_step(s, dense, t) * r->ldg, *d_g_new = d_g + 2 * r->ldu;
    R(rows) h = R(rows_of_h_before)(r, share, dense, t, n_rows);
    const unsigned char *restarts = restarts_of_step(s, dense, t);
    const vec one = v_set1(1);
    FOR_PARTS_OF_STEP(t, share->u0, share->u1, at_once, u, u1) {
        idx ld = (u1 - u) * VL;
        R(collect_d_h)(r, share, dense, t, n_rows, u, u1, r->carry);
        for (idx i = 0, n = share->n0; i < n_rows; i++, n++) {
            const real *d_h_row = share->scratch + i * ld;
            for (idx v = u; v < u1; v++) {
                idx unit = n * r->ldu + v * VL;
                vec z = v_load(g + n * r->ldg + (v * 2 + GATE_Z) * VL);
                vec new = v_load(g_new + n * r->ldg + v * VL);
                vec h_before = R(load_units)(R(row_of_step)(&h, dense, i), v * VL, s->H);
                vec d_h = v_load(d_h_row + (v - u) * VL);
                vec d_n = d_h * (one - z) * v_fnma(new, new, one);
                vec d_z = d_h * (h_before - new) * (z * (one - z));
                v_store(r->carry + unit, R(valid_units)(d_h * z, v * VL, s->H));
                v_store(d_g_new + n * r->ldg + v * VL, R(valid_units)(d_n, v * VL, s->H));
                v_store(d_g + n * r->ldg + (v * 2 + GATE_Z) * VL,
                        R(valid_units)(d_z, v * VL, s->H));
            }
        }
    }
    R(wait_step)(r, share);
    const R(panels) *w = &r->hh_back[1];
    at_once = R(groups_at_once)(w, n_rows);
    FOR_PARTS_OF_STEP(t, share->u0, share->u1, at_once, u, u1) {
        idx ld = (u1 - u) * VL;
        R(rows) q = R(rows_of)(share->scratch, ld);
        R(multiply_part)(r, share, w, u, u1, n_rows, R(rows_of)(d_g_new + share->n0 * r->ldg, r->ldg),
                         (R(rows)){0}, q);
        for (idx i = 0, n = share->n0; i < n_rows; i++, n++) {
            const real *q_row = share->scratch + i * ld;
            int restarted = restarts && restarts[n];
            for (idx v = u; v < u1; v++) {
                idx unit = n * r->ldu + v * VL;
                vec reset = v_load(g + n * r->ldg + (v * 2 + GATE_R) * VL);
                vec h_before = R(load_units)(R(row_of_step)(&h, dense, i), v * VL, s->H);
                vec d_reset_h = v_load(q_row + (v - u) * VL);
                vec d_r = d_reset_h * h_before * (reset * (one - reset));
                vec carry = v_fma(d_reset_h, reset, v_load(r->carry + unit));
                R(pass_on)(r, 0, restarted, unit, R(valid_units)(carry, v * VL, s->H));
                v_store(d_g + n * r->ldg + (v * 2 + GATE_R) * VL,
                        R(valid_units)(d_r, v * VL, s->H));
            }
        }
    }
}

DEFINE_STEPS(gru_after_forward_step, gru_after_backward_step)
DEFINE_STEPS(gru_before_forward_step, gru_before_backward_step)

/* ---- both ------------------------------------------------------------------------------------- */

static void R(gru_plan)(R(run) *r, const rk_sequence *s)
{
    R(plan)(r, s, 3, s->variant == RK_GRU_RESET_BEFORE ? 3 : 2);
    if (R(gru_is_reset_before)(r)) {
        r->sections[0] = (R(section)){2, GATE_R};
        r->sections[1] = (R(section)){1, GATE_N};
        r->n_sections = 2;
    }
}

static void R(gru_plan_forward)(R(run) *r, const rk_sequence *s, R(arena) *arena)
{
    R(gru_plan)(r, s);
    R(plan_forward)(r, arena);
    if (R(gru_is_reset_before)(r)) {
        if (!s->extra) r->state = R(take)(arena, s->N * r->ldu); /* r h_{t-1} of one step */
    } else {
        r->scratch_size = s->N * 4 * 3 * VL;
        r->scratch = R(take)(arena, r->n_threads * r->scratch_size);
    }
}

static void R(gru_plan_backward)(R(run) *r, const rk_sequence *s, R(arena) *arena)
{
    R(gru_plan)(r, s);
    R(plan_backward)(r, arena);
    r->d_gates = s->d_gates;
}

static void R(gru_forward_task)(void *arg, int tid, int n_threads)
{
    R(run) *r = arg;
    R(share) share = R(share_of)(r, tid, n_threads);
    int before = R(gru_is_reset_before)(r);
    R(prepare_forward)(r, &share);
    R(wait_all)(&share);
    if (before) FORWARD_LOOP(r, &share, gru_before_forward_step);
    else FORWARD_LOOP(r, &share, gru_after_forward_step);
    R(final_h)(r, &share);
}

static void R(gru_backward_task)(void *arg, int tid, int n_threads)
{
    R(run) *r = arg;
    const rk_sequence *s = r->s;
    R(share) share = R(share_of)(r, tid, n_threads);
    int before = R(gru_is_reset_before)(r), want_bias = s->d_b_ih || s->d_b_hh;
    R(pack_backward)(r, &share);
    R(wait_all)(&share);
    if (before) BACKWARD_LOOP(r, &share, gru_before_backward_step);
    else BACKWARD_LOOP(r, &share, gru_after_backward_step);
    if (R(loop_was_stopped)(r, &share)) return;
    R(d_initial_h)(r, &share, r->carry);
    R(begin_bias)(r, &share, 0, before ? 0 : 1);
    R(wait_all)(&share);
    if (!before) {
        R(weight_gradients)(r, &share, 0, R(of_hidden), NULL, want_bias);
        R(wait_all)(&share);
        R(gru_after_use_d_n)(r, &share);
        R(wait_all)(&share);
    }
    R(input_gradient)(r, &share);
    R(wait_all)(&share);
    if (before) {
        R(weight_gradients)(r, &share, 0, R(of_both), NULL, want_bias);
        R(wait_all)(&share);
        R(weight_gradients)(r, &share, 1, R(of_both), s->extra, want_bias);
    } else {
        R(weight_gradients)(r, &share, 0, R(of_input), NULL, want_bias);
    }
    R(finish_bias)(r, &share, 0, before ? 0 : 1);
}

DEFINE_CELL(gru)
