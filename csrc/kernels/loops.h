/*
 * The loops over time, and what all cells do around them: packing, the input product of a chunk of
 * steps, the start of d_h, h_n and d_h_0.
 */

/* ---- forward ---------------------------------------------------------------------------------- */

/* Chunks are long enough to use each packed weight often and short enough to stay in the second cache. */
static void R(plan_chunk)(R(run) *r)
{
    const rk_sequence *s = r->s;
    idx step_bytes = s->N * r->ldg * (idx)sizeof(real);
    idx chunk = (CHUNK_BYTES + step_bytes - 1) / step_bytes;
    idx enough_rows = (CHUNK_ROWS + s->N - 1) / s->N;
    if (chunk < enough_rows) chunk = enough_rows;
    if (chunk > CHUNK_MOST_STEPS) chunk = CHUNK_MOST_STEPS;
    r->chunk = min_idx(chunk, s->T);
}

/* Take the memory of the packed weights. */
static void R(plan_weights)(R(run) *r, R(arena) *arena)
{
    const rk_sequence *s = r->s;
    for (int i = 0; i < r->n_sections; i++) {
        int ng = r->sections[i].gates;
        int ug = ng == 1 ? r->units_per_panel : 1;
        r->ih[i] = R(plan_panels)(arena, s->I, r->U, ng, ug);
        r->hh[i] = R(plan_panels)(arena, s->H, r->U, ng, ug);
    }
    r->bias = R(take)(arena, r->ldg);
    r->late_bias = R(take)(arena, (r->n_gates - r->gates_with_b_hh) * r->ldu);
}

/* Take the memory that every forward pass needs. */
static void R(plan_forward)(R(run) *r, R(arena) *arena)
{
    const rk_sequence *s = r->s;
    R(arena) packed = {s->packed, 0};
    R(plan_weights)(r, s->packed ? &packed : arena);
    R(plan_chunk)(r);
    r->g = s->gates ? (real *)s->gates : R(take)(arena, r->chunk * s->N * r->ldg);
}

/* Pack weights and biases. */
static void R(pack_forward)(R(run) *r, const R(share) *share)
{
    const rk_sequence *s = r->s;
    for (int i = 0; i < r->n_sections; i++) {
        idx u0, u1;
        int gate0 = r->sections[i].gate0;
        R(packing_share)(&r->ih[i], share->tid, share->n_threads, &u0, &u1);
        R(pack_rows)(&r->ih[i], s->w_ih, s->I, s->H, gate0, u0, u1);
        R(pack_rows)(&r->hh[i], s->w_hh, s->H, s->H, gate0, u0, u1);
        if (share->tid == 0)
            R(pack_bias)(r->bias + gate0 * r->ldu, s->b_ih, s->b_hh, s->H, r->sections[i].gates,
                         gate0, r->gates_with_b_hh);
    }
    if (share->tid == 0)
        R(pack_bias)(r->late_bias, s->b_hh, NULL, s->H, r->n_gates - r->gates_with_b_hh,
                     r->gates_with_b_hh, 0);
}

/* g = bias + x . w_ih for this thread's part of the steps t0 .. t1-1. */
static void R(input_product)(R(run) *r, const R(share) *share, idx t0, idx t1, real *g)
{
    const rk_sequence *s = r->s;
    idx n_rows = share->n1 - share->n0;
    R(rows) x = {(const real *)s->x + t0 * s->x_t + share->n0 * s->x_n, s->x_n, s->x_t, n_rows};
    for (int i = 0; i < r->n_sections; i++) {
        idx column = r->sections[i].gate0 * r->ldu + share->u0 * r->sections[i].gates * VL;
        R(rows) out = {g + share->n0 * r->ldg + column, r->ldg, s->N * r->ldg, n_rows};
        R(rows) bias = R(rows_of)(r->bias + column, 0);
        R(multiply)(&r->ih[i], share->u0, share->u1, (t1 - t0) * n_rows, x, bias, out);
    }
}

/* One step of a cell for this thread's part. `g` are the step's rows of gates, which hold the input
   product; the step leaves there what backward needs. */
typedef void (*R(forward_step))(R(run) *r, const R(share) *share, idx t, real *g);

static void R(forward_loop)(R(run) *r, const R(share) *share, R(forward_step) step)
{
    const rk_sequence *s = r->s;
    for (idx t0 = 0; t0 < s->T; t0 += r->chunk) {
        idx t1 = min_idx(t0 + r->chunk, s->T);
        real *g = s->gates ? r->g + t0 * s->N * r->ldg : r->g;
        R(input_product)(r, share, t0, t1, g);
        for (idx t = t0; t < t1; t++) {
            step(r, share, t, g + (t - t0) * s->N * r->ldg);
            if (R(end_of_step)(r, share, (long)t + 1, t + 1 == t1)) return;
        }
    }
}

/* h_n of this thread's part, once its loop has ended. */
static void R(final_h)(const R(run) *r, const R(share) *share)
{
    const rk_sequence *s = r->s;
    idx j0 = share->u0 * VL, width = min_idx(share->u1 * VL, s->H) - j0;
    R(copy_out)((real *)s->h_n + share->n0 * s->H + j0, s->H,
                (const real *)s->y + (s->T - 1) * s->y_t + share->n0 * s->y_n + j0, s->y_n,
                share->n1 - share->n0, width);
}

/* ---- backward: the loop ----------------------------------------------------------------------- */

/* Take the memory that every backward pass needs. */
static void R(plan_backward)(R(run) *r, R(arena) *arena)
{
    const rk_sequence *s = r->s;
    for (int i = 0; i < r->n_sections; i++)
        r->hh_back[i] =
            R(plan_panels)(arena, r->sections[i].gates * r->ldu, r->U, 1, r->units_per_panel);
    if (s->d_x) {
        idx groups = (s->I + VL - 1) / VL;
        r->ih_back = R(plan_panels)(arena, r->ldg, groups, 1, (int)min_idx(4, groups));
    }
    /* A transposed gradient takes the place of the packed weights, once these have served. */
    if (s->d_w_ih) r->d_w[0] = s->d_x ? r->ih_back.data : R(take)(arena, s->I * r->ldg);
    if (s->d_w_hh) r->d_w[1] = r->hh_back[0].data;
    for (int i = 0; i < 2; i++) r->d_bias[i] = R(take)(arena, r->ldg);
    r->carry = R(take)(arena, s->N * r->ldu);

    /* A thread's scratch serves in turn: d_h of up to 16 groups for all rows in the loop; packed
       features and gate gradients; rows of d_x. */
    idx widest = s->I > s->H ? s->I : s->H;
    idx loop = s->N * 4 * 4 * VL;
    idx weights = GRADIENT_BLOCK * (round_up(widest, 8) + 4 * VL) + VL;
    idx input = INPUT_ROWS_AT_ONCE * 4 * VL;
    r->scratch_size = loop > weights ? loop : weights;
    if (input > r->scratch_size) r->scratch_size = input;
    r->scratch_size = round_up(r->scratch_size, 64);
    r->scratch = R(take)(arena, r->n_threads * r->scratch_size);
}

static void R(pack_backward)(R(run) *r, const R(share) *share)
{
    const rk_sequence *s = r->s;
    idx u0, u1;
    for (int i = 0; i < r->n_sections; i++) {
        R(packing_share)(&r->hh_back[i], share->tid, share->n_threads, &u0, &u1);
        R(pack_columns)(&r->hh_back[i], s->w_hh, s->H, s->H, &r->sections[i], 1, u0, u1);
    }
    if (s->d_x) {
        R(packing_share)(&r->ih_back, share->tid, share->n_threads, &u0, &u1);
        R(pack_columns)(&r->ih_back, s->w_ih, s->I, s->H, r->sections, r->n_sections, u0, u1);
    }
}

/* The part of d_h (rows n0..n1, groups u..u1) that does not come through w_hh, into `out` with row
   length ld: d_y[t], d_h_n at the last step, and the carry where the cell has one. */
static void R(start_d_h)(const R(run) *r, const R(share) *share, idx t, idx u, idx u1,
                         const real *carry, real *out, idx ld)
{
    const rk_sequence *s = r->s;
    for (idx n = share->n0; n < share->n1; n++, out += ld)
        for (idx j = u; j < u1; j++) {
            vec d = v_set1(0);
            if (s->d_y)
                d = R(load_units)((const real *)s->d_y + t * s->d_y_t + n * s->d_y_n, j * VL, s->H);
            if (t == s->T - 1) {
                if (s->d_h_n)
                    d = d + R(load_units)((const real *)s->d_h_n + n * s->H, j * VL, s->H);
            } else if (carry) {
                d = d + v_load(carry + n * r->ldu + j * VL);
            }
            v_store(out + (j - u) * VL, d);
        }
}

/* All of d_h of this thread's rows and groups u..u1, into its scratch, whose rows are that long: the above,
   and the gate gradients of the step after through w_hh. With two sections the second's part comes in
   the carry. */
static void R(collect_d_h)(const R(run) *r, const R(share) *share, idx t, idx u, idx u1,
                           const real *carry)
{
    const rk_sequence *s = r->s;
    idx ld = (u1 - u) * VL;
    R(start_d_h)(r, share, t, u, u1, carry, share->scratch, ld);
    if (t == s->T - 1) return;
    const real *later = r->d_gates + ((t + 1) * s->N + share->n0) * r->ldg;
    R(rows) d_h = R(rows_of)(share->scratch, ld);
    R(multiply)(&r->hh_back[0], u, u1, share->n1 - share->n0, R(rows_of)(later, r->ldg), d_h, d_h);
}

typedef void (*R(backward_step))(R(run) *r, const R(share) *share, idx t);

static void R(backward_loop)(R(run) *r, const R(share) *share, R(backward_step) step)
{
    idx T = r->s->T;
    for (idx t = T - 1; t >= 0; t--) {
        step(r, share, t);
        if (R(end_of_step)(r, share, (long)(T - t), t % STEPS_BETWEEN_QUESTIONS == 0)) return;
    }
}

/* d_h_0 of this thread's part: d_gates of step 0 through w_hh, plus the carry. */
static void R(d_initial_h)(R(run) *r, const R(share) *share, const real *carry)
{
    const rk_sequence *s = r->s;
    if (!s->d_h_0) return;
    idx n_rows = share->n1 - share->n0;
    idx at_once = R(groups_at_once)(&r->hh_back[0], n_rows);
    for (idx u = share->u0; u < share->u1; u += at_once) {
        idx u1 = min_idx(u + at_once, share->u1), ld = (u1 - u) * VL;
        real *out = share->scratch;
        for (idx n = 0; n < n_rows; n++)
            for (idx j = 0; j < ld; j++)
                out[n * ld + j] = carry ? carry[(share->n0 + n) * r->ldu + u * VL + j] : 0;
        const real *d_g = r->d_gates + share->n0 * r->ldg;
        R(rows) rows = R(rows_of)(out, ld);
        /* With two sections the second's part is already in the carry. */
        R(multiply)(&r->hh_back[0], u, u1, n_rows, R(rows_of)(d_g, r->ldg), rows, rows);
        R(copy_out)((real *)s->d_h_0 + share->n0 * s->H + u * VL, s->H, out, ld, n_rows,
                    min_idx(ld, s->H - u * VL));
    }
}
