/*
 * Programs over time (rk_program_run). Threads share out the rows of the batch and never wait for each other
 * inside the loop; a row's numbers come from its own operations and, in products, from one chain of
 * multiply-adds in the order of k, so they depend neither on the threads nor on the other rows.
 */

#ifndef ROWS_AT_ONCE
/* Rows that take each operation one after the other: so many that finding out what the operation is hardly
   counts, and so few that their temporary values stay in the first cache. */
#define ROWS_AT_ONCE 4
#endif

typedef struct {
    const rk_program_run *p;
    const rk_sequence *s; /* p->run */
    int n_threads;
    atomic_long stop_at;
    R(panels) *weights;
    real *zeros;          /* a row, where a restart begins that was not given */
    real *states;         /* forward: rows of RK_NEXT; backward: of RK_FLOWING and RK_FLOWED; twice (N, size) */
    real *scratch;        /* per thread: rows of RK_TEMP that are worked on at once, then rows of RK_WIDE */
    idx scratch_size;
    const real **pointers; /* per thread: of each state, one for each row; then two for a product; then of
                              each row, one for each base */
} R(execution);

/* What a thread works on. */
typedef struct {
    R(execution) *e;
    R(share) share;
    real *temp, *wide;
    idx rows_each;
    const real **states;     /* [state][row] */
    const real **in, **out;  /* of a product */
    real **bases;            /* [row][base], at the step under way */
    int parity;              /* which half of `states` the step writes */
} R(worker);

static idx R(widest_state)(const rk_program *program)
{
    idx widest = 1;
    for (int i = 0; i < program->n_states; i++)
        if (program->states[i].width > widest) widest = program->states[i].width;
    return widest;
}

/* Where the weights are packed; `panels` may be NULL, where only the room is wanted. */
static void R(plan_program_weights)(const rk_program *program, R(arena) *arena, R(panels) *panels)
{
    for (int i = 0; i < program->n_weights; i++) {
        const rk_weight *w = &program->weights[i];
        idx groups = (w->M + VL - 1) / VL;
        R(panels) planned = R(plan_panels)(arena, w->K, groups, 1, (int)min_idx(4, groups));
        if (panels) panels[i] = planned;
    }
}

static size_t R(program_packed_size)(const rk_program *program)
{
    R(arena) arena = {NULL, 0};
    R(plan_program_weights)(program, &arena, NULL);
    return arena.used;
}

VEC_INLINE idx R(pointers_of_row)(const rk_program *program)
{
    return program->n_states + 2 + program->n_bases;
}

static void R(plan_program)(R(execution) *e, const rk_program_run *p, R(arena) *arena)
{
    const rk_program *program = p->program;
    const rk_sequence *s = &p->run;
    memset(e, 0, sizeof *e);
    e->p = p;
    e->s = s;
    double row_work = 0;
    for (int i = 0; i < program->n_instructions; i++) {
        const int32_t *size = program->instructions[i].size;
        row_work += 8.0 * size[0] * size[1] * size[2];
    }
    for (int i = 0; i < program->n_products; i++) {
        const rk_weight *w = &program->weights[program->products[i].weight];
        row_work += (double)w->K * w->M;
    }
    e->n_threads = row_work * (double)rk_all_rows(s) < WORK_FOR_A_REGION ? 1 : s->n_threads;
    e->n_threads = (int)min_idx(e->n_threads < 1 ? 1 : e->n_threads, s->N);

    e->weights = (R(panels) *)(void *)R(take)(
        arena, (program->n_weights + 1) * (idx)(sizeof(R(panels)) / sizeof(real)));
    R(arena) packed = {p->packed, 0};
    R(plan_program_weights)(program, p->packed ? &packed : arena, arena->base ? e->weights : NULL);
    idx widest = R(widest_state)(program);
    e->zeros = R(take)(arena, round_up(widest, VL));
    e->states = R(take)(arena, 2 * s->N * program->states_size);
    idx rows_each = (s->N + e->n_threads - 1) / e->n_threads;
    e->scratch_size = round_up(ROWS_AT_ONCE * program->temp_size + rows_each * program->wide_size, 64);
    e->scratch = R(take)(arena, e->n_threads * e->scratch_size);
    idx pointers = e->n_threads * R(pointers_of_row)(program) * rows_each * (idx)sizeof(real *);
    e->pointers = (const real **)(void *)R(take)(
        arena, (pointers + (idx)sizeof(real) - 1) / (idx)sizeof(real) + 1);
}

static size_t R(program_workspace)(const rk_program_run *p)
{
    R(execution) e;
    R(arena) arena = {NULL, 0};
    R(plan_program)(&e, p, &arena);
    return arena.used;
}

static R(worker) R(worker_of)(R(execution) *e, int tid, int n_threads)
{
    const rk_program *program = e->p->program;
    idx N = e->s->N, rows_each = (N + e->n_threads - 1) / e->n_threads;
    R(worker) w = {.e = e, .share = {.tid = tid, .n_threads = n_threads, .n1 = N, .n_step = 1}};
    if (n_threads > 1) {
        if (e->s->schedule.order) {
            w.share.n0 = tid;
            w.share.n_step = n_threads;
        } else {
            w.share.n0 = N * tid / n_threads;
            w.share.n1 = N * (tid + 1) / n_threads;
        }
    } else {
        rows_each = N;
    }
    /* A thread that runs alone, since the pool is taken, has all rows: it needs all of the scratch. */
    w.temp = e->scratch + (n_threads > 1 ? tid * e->scratch_size : 0);
    w.wide = w.temp + ROWS_AT_ONCE * program->temp_size;
    w.states = e->pointers + (n_threads > 1 ? tid * R(pointers_of_row)(program) * rows_each : 0);
    w.rows_each = rows_each;
    w.in = w.states + program->n_states * rows_each;
    w.out = w.in + rows_each;
    w.bases = (real **)(w.out + rows_each);
    return w;
}

VEC_INLINE idx R(row_of)(const R(worker) *w, idx i) { return w->share.n0 + i * w->share.n_step; }

static void R(pack_weights)(R(worker) *w)
{
    const rk_program_run *p = w->e->p;
    for (int i = 0; i < p->program->n_weights && !p->is_packed; i++) {
        const rk_weight *weight = &p->program->weights[i];
        const R(panels) *panels = &w->e->weights[i];
        const real *from = p->invariants[weight->invariant];
        idx u0, u1;
        R(packing_share)(panels, w->share.tid, w->share.n_threads, &u0, &u1);
        if (weight->k_stride == 1) R(pack_rows)(panels, from, weight->m_stride, weight->M, 0, u0, u1);
        else R(pack_plain_columns)(panels, from, weight->k_stride, weight->M, u0, u1);
    }
}

VEC_INLINE real *R(row_in)(const R(worker) *w, const rk_steps *rows, idx t, idx n)
{
    const rk_sequence *s = w->e->s;
    if (rows->packed) return (real *)rows->grid.at + (rows_before(s, t) + n) * rows->grid.n;
    return (real *)rows->grid.at + place_in_grid(s, &rows->grid, t, n);
}

VEC_INLINE real *R(kept_row)(const R(worker) *w, idx t, idx n)
{
    const rk_program_run *p = w->e->p;
    return (real *)p->kept + (rows_before(w->e->s, t) + n) * p->kept_size;
}

/* Rows of all states: those of the step of this parity, or of the one before. */
VEC_INLINE real *R(states_row)(const R(worker) *w, int parity, idx n)
{
    const R(execution) *e = w->e;
    return e->states + (parity * e->s->N + n) * e->p->program->states_size;
}

/* State i of row n before step t. */
static const real *R(state_before)(const R(worker) *w, int i, idx t, idx n)
{
    const rk_program_run *p = w->e->p;
    const rk_state_place *at = &p->kept_states[i];
    idx row = callers_row(w->e->s, n) * p->program->states[i].width;
    if (restarts(w->e->s, t, n))
        return p->restart[i] ? (const real *)p->restart[i] + row : w->e->zeros;
    if (t == 0) return (const real *)p->initial[i] + row;
    if (at->base_kind == RK_KEPT) return R(kept_row)(w, t - 1, n) + at->offset;
    return R(states_row)(w, !w->parity, n) + at->offset;
}

/* Where a base stands for the thread's row i, which is row n of step t. */
VEC_INLINE real *R(find_base)(const R(worker) *w, const rk_base *base, idx t, idx i, idx n)
{
    const rk_program_run *p = w->e->p;
    const rk_program *program = p->program;
    const rk_sequence *s = w->e->s;
    int index = base->index;
    switch ((rk_base_kind)base->kind) {
    case RK_TEMP: return w->temp + i % ROWS_AT_ONCE * program->temp_size;
    case RK_INVARIANT: return (real *)p->invariants[index];
    case RK_SEQUENCE: return R(row_in)(w, &p->sequences[index], t, n);
    case RK_STATE: return (real *)w->states[index * w->rows_each + i];
    case RK_KEPT: return R(kept_row)(w, t, n);
    case RK_SUMMANDS: {
        idx later = rows_before(s, s->T) - rows_before(s, t + 1);
        return (real *)p->summands + (later + n) * program->summands_size;
    }
    case RK_WIDE: return w->wide + i * program->wide_size;
    case RK_OUTPUT: return R(row_in)(w, &p->outputs[index], t, n);
    case RK_NEXT:
    case RK_FLOWED: return R(states_row)(w, w->parity, n);
    case RK_FLOWING: return R(states_row)(w, !w->parity, n);
    case RK_SUMS: return (real *)p->sums + n * program->sums_size;
    }
    return NULL;
}

/* The program, for the thread's n_rows rows of step t. */
static void R(run_step)(R(worker) *w, idx t, idx n_rows)
{
    const rk_program *program = w->e->p->program;
    for (int i = 0; i < program->n_states; i++)
        for (idx r = 0; r < n_rows; r++)
            w->states[i * w->rows_each + r] = R(state_before)(w, i, t, R(row_of)(w, r));
    int n_bases = program->n_bases;
    real **bases = w->bases;
    for (idx r = 0; r < n_rows; r++)
        for (int b = 0; b < n_bases; b++)
            *bases++ = R(find_base)(w, &program->bases[b], t, r, R(row_of)(w, r));
    for (int k = 0; k < program->n_stages; k++) {
        const rk_stage *stage = &program->stages[k];
        bases = w->bases;
        for (idx r = 0; r < n_rows; r += ROWS_AT_ONCE, bases += ROWS_AT_ONCE * n_bases)
            for (int i = stage->row_first; i < stage->row_last; i++)
                R(run_operation)(&program->instructions[i], bases, n_bases,
                                 min_idx(ROWS_AT_ONCE, n_rows - r));
        for (int i = stage->product_first; i < stage->product_last; i++) {
            const rk_row_product *product = &program->products[i];
            const R(panels) *weight = &w->e->weights[product->weight];
            bases = w->bases;
            for (idx r = 0; r < n_rows; r++, bases += n_bases) {
                w->in[r] = bases[product->in_base] + product->in_offset;
                w->out[r] = bases[product->out_base] + product->out_offset;
            }
            R(rows) out = R(rows_listed)(w->out);
            R(multiply)(weight, 0, weight->U, n_rows, R(rows_listed)(w->in),
                        product->adds ? out : (R(rows)){0}, out);
        }
    }
}

static int R(step_ends)(R(worker) *w, idx done)
{
    R(execution) *e = w->e;
    if (done % STEPS_BETWEEN_QUESTIONS == 0 && w->share.tid == 0 && e->s->interrupted &&
        e->s->interrupted())
        atomic_store(&e->stop_at, 1);
    return atomic_load_explicit(&e->stop_at, memory_order_relaxed) != 0;
}

/* A thread's worker, once every thread has packed its part of the weights. */
static R(worker) R(begin_work)(R(execution) *e, int tid, int n_threads)
{
    R(worker) w = R(worker_of)(e, tid, n_threads);
    R(pack_weights)(&w);
    rk_barrier_wait(tid, n_threads);
    return w;
}

static void R(program_forward_task)(void *arg, int tid, int n_threads)
{
    R(worker) w = R(begin_work)(arg, tid, n_threads);
    const rk_program_run *p = w.e->p;
    const rk_program *program = p->program;
    const rk_sequence *s = w.e->s;
    for (idx t = 0; t < s->T; t++, w.parity = !w.parity) {
        idx n_rows = R(rows_of_share)(&w.share, active_rows(s, t));
        if (n_rows) R(run_step)(&w, t, n_rows);
        /* States of the rows that end here. */
        idx going_on = R(rows_of_share)(&w.share, active_rows(s, t + 1));
        for (idx r = going_on; r < n_rows; r++) {
            idx n = R(row_of)(&w, r);
            for (int i = 0; i < program->n_states; i++) {
                const rk_state_place *at = &program->states[i];
                const real *row = at->base_kind == RK_KEPT ? R(kept_row)(&w, t, n)
                                                           : R(states_row)(&w, w.parity, n);
                memcpy((real *)p->final[i] + callers_row(s, n) * at->width, row + at->offset,
                       (size_t)at->width * sizeof(real));
            }
        }
        if (R(step_ends)(&w, t + 1)) return;
    }
    /* Rows without steps. */
    for (idx n = w.share.n0; n < w.share.n1; n += w.share.n_step) {
        if (steps_of_row(s, n)) continue;
        for (int i = 0; i < program->n_states; i++) {
            idx width = program->states[i].width, row = callers_row(s, n) * width;
            memmove((real *)p->final[i] + row, (const real *)p->initial[i] + row,
                    (size_t)width * sizeof(real));
        }
    }
}

/* Gradients of the states after the step for the thread's rows from `first` on, which end with it. */
static void R(begin_flow)(const R(worker) *w, idx first, idx n_rows)
{
    const rk_program_run *p = w->e->p;
    const rk_program *program = p->program;
    for (idx r = first; r < n_rows; r++) {
        idx n = R(row_of)(w, r);
        for (int i = 0; i < program->n_states; i++) {
            const rk_state_place *at = &program->states[i];
            real *to = R(states_row)(w, !w->parity, n) + at->offset;
            size_t bytes = (size_t)at->width * sizeof(real);
            const real *from = p->d_final[i];
            if (from) memcpy(to, from + callers_row(w->e->s, n) * at->width, bytes);
            else memset(to, 0, bytes);
        }
    }
}

/* What flowed to the state of a row that restarts at this step goes to where the restart begins. */
static void R(cut_flow)(const R(worker) *w, idx n)
{
    const rk_program_run *p = w->e->p;
    const rk_program *program = p->program;
    for (int i = 0; i < program->n_states; i++) {
        const rk_state_place *at = &program->states[i];
        real *flowed = R(states_row)(w, w->parity, n) + at->offset;
        real *to = p->d_restart[i];
        if (to) {
            to += callers_row(w->e->s, n) * at->width;
            for (idx j = 0; j < at->width; j++) to[j] += flowed[j];
        }
        memset(flowed, 0, (size_t)at->width * sizeof(real));
    }
}

static void R(program_backward_task)(void *arg, int tid, int n_threads)
{
    R(worker) w = R(begin_work)(arg, tid, n_threads);
    const rk_program_run *p = w.e->p;
    const rk_program *program = p->program;
    const rk_sequence *s = w.e->s;
    for (idx t = s->T - 1; t >= 0; t--, w.parity = !w.parity) {
        idx n_rows = R(rows_of_share)(&w.share, active_rows(s, t));
        R(begin_flow)(&w, R(rows_of_share)(&w.share, active_rows(s, t + 1)), n_rows);
        if (n_rows) R(run_step)(&w, t, n_rows);
        if (any_restarts(s, t))
            for (idx r = 0; r < n_rows; r++)
                if (restarts(s, t, R(row_of)(&w, r))) R(cut_flow)(&w, R(row_of)(&w, r));
        if (R(step_ends)(&w, s->T - t)) return;
    }
    for (idx n = w.share.n0; n < w.share.n1; n += w.share.n_step)
        for (int i = 0; i < program->n_states; i++) {
            const rk_state_place *at = &program->states[i];
            real *to = p->d_initial[i];
            if (!to) continue;
            idx row = callers_row(s, n) * at->width;
            size_t bytes = (size_t)at->width * sizeof(real);
            if (steps_of_row(s, n)) memcpy(to + row, R(states_row)(&w, !w.parity, n) + at->offset, bytes);
            else if (p->d_final[i]) memcpy(to + row, (const real *)p->d_final[i] + row, bytes);
            else memset(to + row, 0, bytes);
        }
}

static rk_status R(run_program)(const rk_program_run *p, rk_task task)
{
    R(execution) e;
    R(arena) arena = {p->workspace, 0};
    R(plan_program)(&e, p, &arena);
    memset(e.zeros, 0, (size_t)R(widest_state)(p->program) * sizeof(real));
    rk_parallel(e.n_threads, task, &e);
    return atomic_load(&e.stop_at) ? RK_INTERRUPTED : RK_OK;
}

static rk_status R(program_forward)(const rk_program_run *p)
{
    return R(run_program)(p, R(program_forward_task));
}

static rk_status R(program_backward)(const rk_program_run *p)
{
    return R(run_program)(p, R(program_backward_task));
}
