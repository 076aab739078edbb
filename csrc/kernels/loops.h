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

/* Take the memory of the packed weights, but for those of which a thread packs the parts that it needs. */
static void R(plan_weights)(R(run) *r, R(arena) *arena, int ih_in_parts, int hh_in_parts)
{
    const rk_sequence *s = r->s;
    for (int i = 0; i < r->n_sections; i++) {
        int ng = r->sections[i].gates;
        int ug = ng == 1 ? r->units_per_panel : 1;
        R(matrix) w_ih = {.at = s->w_ih, .n_columns = s->I, .H = s->H, .gate0 = r->sections[i].gate0};
        R(matrix) w_hh = {.at = s->w_hh, .n_columns = s->H, .H = s->H, .gate0 = r->sections[i].gate0};
        r->ih[i] = R(plan_weight)(r, arena, s->I, r->U, ng, ug, w_ih, ih_in_parts, s->N * s->T);
        r->hh[i] = R(plan_weight)(r, arena, s->H, r->U, ng, ug, w_hh, hh_in_parts, s->N);
    }
    r->bias = R(take)(arena, r->ldg);
    r->late_bias = R(take)(arena, (r->n_gates - r->gates_with_b_hh) * r->ldu);
}

/* Take the memory that every forward pass needs. */
static void R(plan_forward)(R(run) *r, R(arena) *arena)
{
    const rk_sequence *s = r->s;
    R(arena) packed = {s->packed, 0};
    R(plan_chunk)(r);
    /* Weights that are read once, each part by one thread, are not written in another place first. */
    int in_parts = !s->packed && R(parts_are_apart)(r);
    R(plan_weights)(r, s->packed ? &packed : arena, in_parts && s->T == r->chunk, in_parts && s->T == 1);
    r->parts = R(take)(arena, r->n_threads * r->part_size);
    r->g = s->gates ? (real *)s->gates : R(take)(arena, r->chunk * s->N * r->ldg);
    R(plan_restarts)(r, arena);
}

/* Pack weights and biases. */
static void R(pack_forward)(R(run) *r, const R(share) *share)
{
    const rk_sequence *s = r->s;
    for (int i = 0; i < r->n_sections; i++) {
        idx u0, u1;
        int gate0 = r->sections[i].gate0;
        R(packing_share)(&r->ih[i], share->tid, share->n_threads, &u0, &u1);
        if (r->ih[i].data) R(pack)(&r->ih[i], u0, u1);
        if (r->hh[i].data) R(pack)(&r->hh[i], u0, u1);
        if (share->tid == 0)
            R(pack_bias)(r->bias + gate0 * r->ldu, s->b_ih, s->b_hh, s->H, r->sections[i].gates,
                         gate0, r->gates_with_b_hh);
    }
    if (share->tid == 0)
        R(pack_bias)(r->late_bias, s->b_hh, NULL, s->H, r->n_gates - r->gates_with_b_hh,
                     r->gates_with_b_hh, 0);
}

/* What all threads must have done before the loop begins. */
static void R(prepare_forward)(R(run) *r, const R(share) *share)
{
    if (!r->s->packed) R(pack_forward)(r, share);
    if (share->tid == 0) R(gather_restarts)(r);
}

/* out = bias + x . w_ih for `n_rows` rows of gates that begin at this thread's first group. */
static void R(multiply_input)(R(run) *r, const R(share) *share, idx n_rows, R(rows) x, R(rows) out)
{
    for (int i = 0; i < r->n_sections; i++) {
        R(section) section = r->sections[i];
        idx at_once = R(groups_at_once)(&r->ih[i], n_rows);
        FOR_PARTS_OF_STEP(r->s->turn, share->u0, share->u1, at_once, u, u1) {
            idx column = section.gate0 * r->ldu + u * section.gates * VL;
            R(rows) part = out;
            R(skip_columns)(&part, column);
            R(multiply_part)(r, share, &r->ih[i], u, u1, n_rows, x, R(rows_of)(r->bias + column, 0), part);
        }
    }
}

/* Where the gates of step t begin, of a chunk that begins with step t0. In a chunk's own memory a row has
   the same place in every chunk, because threads that own rows do not wait for each other in between. */
VEC_INLINE real *R(gates_of_step)(const R(run) *r, idx t0, idx t)
{
    const rk_sequence *s = r->s;
    return r->g + (s->gates ? rows_before(s, t) : (t - t0) * s->N) * r->ldg;
}

/* gates = bias + x . w_ih for this thread's part of the steps t0 .. t1-1. */
static void R(input_product)(R(run) *r, const R(share) *share, idx t0, idx t1)
{
    const rk_sequence *s = r->s;
    if (!s->schedule.order) {
        idx n_rows = share->n1 - share->n0;
        real *g = R(gates_of_step)(r, t0, t0) + share->n0 * r->ldg;
        R(rows) x = R(rows_of_grid)(R(grid_row)(r, &s->x, t0, share->n0), s->x.n, s->x.t, n_rows);
        R(rows) out = R(rows_of_grid)(g, r->ldg, s->N * r->ldg, n_rows);
        R(multiply_input)(r, share, (t1 - t0) * n_rows, x, out);
        return;
    }
    const real *x[LISTED_ROWS], *out[LISTED_ROWS];
    idx listed = 0;
    for (idx t = t0; t < t1; t++) {
        real *rows = R(gates_of_step)(r, t0, t);
        idx end = min_idx(active_rows(s, t), share->n1);
        for (idx n = share->n0; n < end; n++) {
            x[listed] = R(grid_row)(r, &s->x, t, n);
            out[listed++] = rows + n * r->ldg;
            if (listed < LISTED_ROWS) continue;
            R(multiply_input)(r, share, listed, R(rows_listed)(x), R(rows_listed)(out));
            listed = 0;
        }
    }
    if (listed) R(multiply_input)(r, share, listed, R(rows_listed)(x), R(rows_listed)(out));
}

/* Zero step t of a grid of outputs for this thread's rows that have ended, and its units. Of the reverse direction, which
   begins with the longest row, it is the step that has the same time as step t of the other. */
static void R(clear_ended)(const R(run) *r, const R(share) *share, const rk_grid *grid, idx t)
{
    const rk_sequence *s = r->s;
    const rk_schedule *schedule = &s->schedule;
    if (!grid->at || grid->of_run) return;
    idx at = schedule->lag ? schedule->length[0] - 1 - 2 * schedule->begins - t : t;
    idx j0 = share->u0 * VL, width = min_idx(share->u1 * VL, s->H) - j0;
    for (idx n = share->n0 + R(rows_of_share)(share, active_rows(s, t)); n < share->n1; n++)
        memset((real *)grid->at + at * grid->t + callers_row(s, n) * grid->n + j0, 0, (size_t)width * sizeof(real));
}

/* One step of a cell for this thread's `n_rows` rows. `g` are the step's rows of gates, which hold the
   input product; the step leaves there what backward needs. */
typedef void (*R(forward_step))(R(run) *r, const R(share) *share, idx t, idx n_rows, real *g);

/* `dense` runs a step of which no row of the thread's has ended and none restarts, `any` whatever step there is. */
VEC_INLINE void R(forward_loop)(R(run) *r, const R(share) *share, R(forward_step) dense, R(forward_step) any)
{
    const rk_sequence *s = r->s;
    for (idx t0 = 0; t0 < s->T; t0 += r->chunk) {
        idx t1 = min_idx(t0 + r->chunk, s->T);
        R(input_product)(r, share, t0, t1);
        for (idx t = t0; t < t1; t++) {
            idx n_rows = R(rows_of_share)(share, active_rows(s, t));
            real *g = R(gates_of_step)(r, t0, t);
            if (!s->schedule.order && !R(share_restarts)(r, share, t)) dense(r, share, t, n_rows, g);
            else if (n_rows) any(r, share, t, n_rows, g);
            if (s->schedule.order) {
                R(clear_ended)(r, share, &s->y, t);
                R(clear_ended)(r, share, &s->c, t);
            }
            if (R(end_of_step)(r, share, (long)t + 1, t + 1 == t1)) return;
        }
    }
}

/* h_n of this thread's part, once its loop has ended. */
static void R(final_h)(const R(run) *r, const R(share) *share)
{
    const rk_sequence *s = r->s;
    idx j0 = share->u0 * VL, width = min_idx(share->u1 * VL, s->H) - j0, n0 = share->n0;
    if (!s->schedule.order) {
        R(copy_out)((real *)s->h_n + n0 * s->H + j0, s->H, R(grid_row)(r, &s->y, s->T - 1, n0) + j0, s->y.n,
                    share->n1 - n0, width);
        return;
    }
    for (idx n = share->n0; n < share->n1; n++) {
        idx row = callers_row(s, n) * s->H, steps = steps_of_row(s, n);
        const real *last = steps ? R(grid_row)(r, &s->y, steps - 1, n) : (const real *)s->h_0 + row;
        memmove((real *)s->h_n + row + j0, last + j0, (size_t)width * sizeof(real));
    }
}

/* ---- backward: the loop ----------------------------------------------------------------------- */

/* Groups of d_h that are formed together. */
VEC_INLINE idx R(d_h_at_once)(const R(run) *r, idx n_rows)
{
    return r->loop_on_unit ? 2 : R(groups_at_once)(&r->hh_back[0], n_rows);
}

#if HAS_MATRIX_UNIT
/* Elements of d_h for all rows, in whole blocks, and groups that are formed together. */
VEC_INLINE idx R(d_h_on_unit)(const rk_sequence *s) { return round_up(s->N, UNIT_BLOCK) * 2 * VL; }

/* This thread's groups of the first section of w_hh, as the right operand of d_gates . w_hh. */
static void R(pack_loop_for_unit)(const R(run) *r, const R(share) *share)
{
    const rk_sequence *s = r->s;
    idx all = r->sections[0].gates * r->ldu, block = amx_groups(all) * AMX_BLOCK_BYTES;
    idx first = r->U * share->tid / share->n_threads, last = r->U * (share->tid + 1) / share->n_threads;
    for (idx k = 0; k < all; k += AMX_PIECE) {
        idx K = min_idx(AMX_PIECE, all - k);
        const real *rows[AMX_PIECE];
        R(list_weight_rows)(r, s->w_hh, s->H, k, K, rows);
        amx_pack_weights((char *)r->hh_back_on_unit + k / UNIT_DEPTH * AMX_BLOCK_BYTES, block, rows, K, s->H, first,
                         last);
    }
}

/* The next function on the matrix unit. */
static void R(carry_back_on_unit)(const R(run) *r, const R(share) *share, idx t, idx u, idx u1, idx n_rows,
                                  R(rows) later)
{
    int first = t % 2 ? u1 == share->u1 : u == share->u0; /* of the step's parts */
    idx K = r->sections[0].gates * r->ldu, groups = amx_groups(K), blocks = (n_rows + UNIT_BLOCK - 1) / UNIT_BLOCK;
    char *left = (char *)(share->scratch + R(d_h_on_unit)(r->s));
    if (first) amx_pack_left(left, later.base, later.inner, n_rows, K);
    amx_begin();
    amx_multiply_all(left, blocks, 0, (const char *)r->hh_back_on_unit + u * groups * AMX_BLOCK_BYTES, u1 - u,
                     groups, share->scratch, blocks * UNIT_BLOCK, 0);
    amx_end();
}
#endif

/* Groups u .. u1-1 of d_h of step t, in this thread's scratch: add what flows from the step after through w_hh, from
   the first section of its rows of gate gradients. They are a part of those that FOR_PARTS_OF_STEP goes over. */
VEC_INLINE void R(carry_back)(const R(run) *r, const R(share) *share, idx t, idx u, idx u1, idx n_rows, R(rows) later)
{
#if HAS_MATRIX_UNIT
    if (r->loop_on_unit) {
        R(carry_back_on_unit)(r, share, t, u, u1, n_rows, later);
        return;
    }
#else
    (void)t;
#endif
    R(rows) d_h = R(rows_of)(share->scratch, (u1 - u) * VL);
    R(multiply_part)(r, share, &r->hh_back[0], u, u1, n_rows, later, d_h, d_h);
}

/* The sums of a weight gradient take the place of the packed weights, if there are, once these have served. */
static real *R(plan_sums)(const R(run) *r, R(arena) *arena, size_t packed_at, const void *wanted, idx n_features)
{
    if (!wanted) return NULL;
    if (arena->used > packed_at) return R(place)(arena, packed_at);
    return R(take)(arena, R(rows_of_sums)(r, n_features) * r->ldg);
}

/* Take the memory that every backward pass needs. */
static void R(plan_backward)(R(run) *r, R(arena) *arena)
{
    const rk_sequence *s = r->s;
    size_t at = arena->used;
    /* Weights that are read once are packed on the way there, as in the forward pass. */
    int in_parts = s->T == 1 && R(parts_are_apart)(r);
    for (int i = 0; i < r->n_sections; i++) {
        idx K = r->sections[i].gates * r->ldu;
#if HAS_MATRIX_UNIT
        if (i == 0 && r->loop_on_unit) {
            r->hh_back_on_unit = R(take)(arena, amx_operand_size(r->ldu, K) / (idx)sizeof(real));
            continue;
        }
#endif
        R(matrix) w_hh = {.at = s->w_hh, .n_columns = s->H, .H = s->H, .sections = &r->sections[i], .n_sections = 1};
        r->hh_back[i] = R(plan_weight)(r, arena, K, r->U, 1, r->units_per_panel, w_hh, in_parts, s->N);
    }
    r->d_w[1] = R(plan_sums)(r, arena, at, s->d_w_hh, s->H);
    at = arena->used;
    idx input = s->d_x.at ? R(plan_input_gradient)(r, arena) : 0;
    r->d_w[0] = R(plan_sums)(r, arena, at, s->d_w_ih, s->I);
    r->parts = R(take)(arena, r->n_threads * r->part_size);
    for (int i = 0; i < 2; i++) r->d_bias[i] = R(take)(arena, r->ldg);
    r->carry = R(take)(arena, s->N * r->ldu);
    R(plan_restarts)(r, arena);
    if (s->schedule.restart && s->d_h_r) r->d_restart[0] = R(take)(arena, s->N * r->ldu);
    if (s->schedule.restart && s->d_c_r) r->d_restart[1] = R(take)(arena, s->N * r->ldu);

    R(plan_rounds)(r, arena);

    /* A thread's scratch serves in turn: d_h of up to 16 groups for all rows in the loop, or of two and packed
       gate gradients; columns of gate gradients; rows of d_x. */
    idx loop = s->N * 4 * 4 * VL;
#if HAS_MATRIX_UNIT
    if (r->loop_on_unit)
        loop = R(d_h_on_unit)(s) + amx_operand_size(s->N, r->sections[0].gates * r->ldu) / (idx)sizeof(real);
#endif
    idx weights = r->blocks_in_round * R(packed_columns)(r);
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
#if HAS_MATRIX_UNIT
        if (i == 0 && r->loop_on_unit) {
            R(pack_loop_for_unit)(r, share);
            continue;
        }
#endif
        if (!r->hh_back[i].data) continue;
        R(packing_share)(&r->hh_back[i], share->tid, share->n_threads, &u0, &u1);
        R(pack)(&r->hh_back[i], u0, u1);
    }
    if (s->d_x.at) R(pack_for_input_gradient)(r, share);
    if (share->tid != 0) return;
    R(gather_restarts)(r);
    const void *d[2] = {s->d_h_r, s->d_c_r};
    for (int i = 0; i < 2; i++)
        if (r->d_restart[i]) R(gather_rows)(r, r->d_restart[i], d[i], s->N);
}

/* The row of d_y that flows into h_t of row n, if any. */
VEC_INLINE const real *R(d_y_of)(const R(run) *r, idx t, idx n, idx going_on)
{
    const rk_sequence *s = r->s;
    int here = t < 0 ? s->d_y_before && n < going_on : t < s->T - 1 || n >= s->rows_after;
    return here && s->d_y.at ? R(grid_row)(r, &s->d_y, t, n) : NULL;
}

/* The part of d_h of this thread's rows first .. n_rows-1, groups u .. u1-1, that does not come through
   w_hh: d_y[t]; d_h_n of the rows that end here; of the others the carry, where the cell has one. Rows of
   `out` are ld long. */
static void R(start_d_h)(const R(run) *r, const R(share) *share, idx t, idx u, idx u1, idx first, idx n_rows,
                         const real *carry, real *out, idx ld)
{
    const rk_sequence *s = r->s;
    idx going_on = active_rows(s, t + 1);
    for (idx i = first; i < n_rows; i++) {
        idx n = share->n0 + i;
        const real *d_y = R(d_y_of)(r, t, n, going_on), *more = NULL;
        if (n < going_on) more = carry ? carry + n * r->ldu : NULL;
        else if (s->d_h_n) more = (const real *)s->d_h_n + callers_row(s, n) * s->H;
        R(add_units)(out + i * ld - u * VL, d_y, more, u, u1, s->H);
    }
}

/* The same for all of this thread's rows of a step t >= 0, where the rows are not ragged. */
VEC_INLINE void R(start_even_d_h)(const R(run) *r, const R(share) *share, idx t, idx u, idx u1, idx n_rows,
                                  const real *carry, real *out, idx ld)
{
    const rk_sequence *s = r->s;
    idx n0 = share->n0;
    int last = t + 1 == s->T;
    const real *d_y = last && s->rows_after ? NULL : s->d_y.at; /* of a cut's last step: see d_y_of */
    const real *more = last ? s->d_h_n : carry;
    idx more_ld = last ? s->H : r->ldu;
    if (d_y) d_y += t * s->d_y.t + n0 * s->d_y.n;
    if (more) more += n0 * more_ld;
    for (idx i = 0; i < n_rows; i++, out += ld) {
        R(add_units)(out - u * VL, d_y, more, u, u1, s->H);
        if (d_y) d_y += s->d_y.n;
        if (more) more += more_ld;
    }
}

/* d_h of a step, to those who want to see it. */
static void R(show_d_h)(const R(run) *r, const R(share) *share, idx t, idx n_rows, idx u, idx u1)
{
    const rk_sequence *s = r->s;
    idx ld = (u1 - u) * VL, width = min_idx(ld, s->H - u * VL);
    for (idx i = 0; i < n_rows; i++) {
        real *row = R(grid_row)(r, &s->d_h, t, share->n0 + i);
        memcpy(row + u * VL, share->scratch + i * ld, (size_t)width * sizeof(real));
    }
}

/* All of d_h of this thread's n_rows rows of step t (-1: of the initial state) and groups u..u1, into its
   scratch, whose rows are that long: the above, and the gate gradients of the step after through w_hh. With
   two sections the second's part comes in the carry. What flows to a row that restarts at the step after
   goes to where the restart begins. */
static void R(collect_any_d_h)(const R(run) *r, const R(share) *share, idx t, idx n_rows, idx u, idx u1,
                               const real *carry)
{
    const rk_sequence *s = r->s;
    idx ld = (u1 - u) * VL, going_on = R(rows_of_share)(share, active_rows(s, t + 1));
    const unsigned char *restarts = restarts_of_step(s, 0, t + 1);
    real *scratch = share->scratch;
    if (t >= 0 && !s->schedule.order) R(start_even_d_h)(r, share, t, u, u1, n_rows, carry, scratch, ld);
    else R(start_d_h)(r, share, t, u, u1, 0, going_on, carry, scratch, ld);
    if (going_on) {
        for (idx i = 0; restarts && i < going_on; i++)
            if (restarts[share->n0 + i])
                memset(scratch + i * ld, 0, (size_t)ld * sizeof(real));
        const real *later = r->d_gates + (rows_before(s, t + 1) + share->n0) * r->ldg;
        R(carry_back)(r, share, t, u, u1, going_on, R(rows_of)(later, r->ldg));
        for (idx i = 0; restarts && i < going_on; i++) {
            idx n = share->n0 + i;
            if (!restarts[n]) continue;
            for (idx j = 0; j < ld && r->d_restart[0]; j += VL) {
                real *to = r->d_restart[0] + n * r->ldu + u * VL + j;
                v_store(to, v_load(to) + v_load(scratch + i * ld + j));
            }
            R(start_d_h)(r, share, t, u, u1, i, i + 1, carry, scratch, ld);
        }
    }
    /* Last, since a product on the matrix unit takes whole blocks of rows. */
    if (s->schedule.order || t < 0) R(start_d_h)(r, share, t, u, u1, going_on, n_rows, carry, scratch, ld);
    if (t >= 0 && s->d_h.at) R(show_d_h)(r, share, t, n_rows, u, u1);
}

/* The same, at less expense where t >= 0 and no row ends or restarts on the way. */
VEC_INLINE void R(collect_d_h)(const R(run) *r, const R(share) *share, const int dense, idx t, idx n_rows,
                               idx u, idx u1, const real *carry)
{
    const rk_sequence *s = r->s;
    if (!dense && (s->schedule.order || R(share_restarts)(r, share, t + 1))) {
        R(collect_any_d_h)(r, share, t, n_rows, u, u1, carry);
        return;
    }
    idx ld = (u1 - u) * VL;
    R(start_even_d_h)(r, share, t, u, u1, n_rows, carry, share->scratch, ld);
    if (t + 1 < s->T) {
        R(rows) later = R(rows_of)(r->d_gates + ((t + 1) * s->N + share->n0) * r->ldg, r->ldg);
        R(carry_back)(r, share, t, u, u1, n_rows, later);
    }
    if (s->d_h.at) R(show_d_h)(r, share, t, n_rows, u, u1);
}

/* Store what flows to the state before: on to the step before, or, where the row restarts at this step, to
   state i (0: h, 1: c) of where the restart begins. `at` counts from the first row of units. */
VEC_INLINE void R(pass_on)(const R(run) *r, int i, int restarted, idx at, vec d)
{
    if (restarted) {
        if (r->d_restart[i]) v_store(r->d_restart[i] + at, v_load(r->d_restart[i] + at) + d);
        d = v_set1(0);
    }
    v_store(r->carry + at, d);
}

/* One step back for this thread's `n_rows` rows. */
typedef void (*R(backward_step))(R(run) *r, const R(share) *share, idx t, idx n_rows);

VEC_INLINE void R(backward_loop)(R(run) *r, const R(share) *share, R(backward_step) dense, R(backward_step) any)
{
    const rk_sequence *s = r->s;
    for (idx t = s->T - 1; t >= 0; t--) {
        idx n_rows = R(rows_of_share)(share, active_rows(s, t));
        if (!s->schedule.order && !R(share_restarts)(r, share, t) && !R(share_restarts)(r, share, t + 1))
            dense(r, share, t, n_rows);
        else if (n_rows) any(r, share, t, n_rows);
        if (R(end_of_step)(r, share, (long)(s->T - t), t % STEPS_BETWEEN_QUESTIONS == 0)) return;
    }
}

/* Of this thread's part: d_h_0, and what flowed to where restarts begin. */
static void R(d_initial_h)(R(run) *r, const R(share) *share, const real *carry)
{
    const rk_sequence *s = r->s;
    idx n_rows = R(rows_of_share)(share, s->N);
    if (!n_rows || (!s->d_h_0 && !r->d_restart[0] && !r->d_restart[1])) return;
    idx at_once = R(d_h_at_once)(r, n_rows);
    FOR_PARTS_OF_STEP(-1, share->u0, share->u1, at_once, u, u1) {
        idx ld = (u1 - u) * VL;
        idx width = min_idx(ld, s->H - u * VL);
        R(collect_any_d_h)(r, share, -1, n_rows, u, u1, carry);
        void *to[3] = {s->d_h_0, s->d_h_r, s->d_c_r};
        for (idx i = 0; i < n_rows; i++) {
            idx n = share->n0 + i;
            const real *from[3] = {share->scratch + i * ld - u * VL, NULL, NULL};
            for (int k = 0; k < 2; k++)
                if (r->d_restart[k]) from[1 + k] = r->d_restart[k] + n * r->ldu;
            for (int k = 0; k < 3; k++)
                if (to[k] && from[k])
                    memcpy((real *)to[k] + callers_row(s, n) * s->H + u * VL, from[k] + u * VL,
                           (size_t)width * sizeof(real));
        }
    }
}

/* What follows the loop of a cell with one section, whose two products receive the same gradients. */
static void R(gradients_after_loop)(R(run) *r, const R(share) *share)
{
    const rk_sequence *s = r->s;
    R(d_initial_h)(r, share, NULL);
    R(input_gradient)(r, share);
    R(begin_bias)(r, share, 0, 0);
    R(wait_all)(share);
    R(weight_gradients)(r, share, 0, R(of_both), NULL, s->d_b_ih || s->d_b_hh);
    R(finish_bias)(r, share, 0, 0);
}
