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
    double work;          /* multiply-adds, or what takes as long */
    atomic_long stop_at;
    R(panels) *weights;
    real *zeros;          /* a row, where a restart begins that was not given */
    idx *restarted;       /* per row, where a state is handed on: the step of its last restart so far, -1 where
                             there was none, PTRDIFF_MAX where that is not known yet; NULL: not needed */
    real *states;         /* forward: rows of RK_NEXT; backward: of RK_FLOWING and RK_FLOWED; twice (N, size) */
    real *scratch;        /* per thread: rows of RK_TEMP that are worked on at once, then rows of RK_WIDE */
    idx scratch_size;
    const real **pointers; /* per thread and row: two for a product, and one for each base */
    idx n_pointers;        /* of a thread: whole cache lines, which no other writes to */
} R(execution);

/* What a thread works on. */
typedef struct {
    R(execution) *e;
    R(share) share;
    real *temp, *wide;
    const real **in, **out;  /* of a product */
    real **bases;            /* [row][base], as it stands at the step under way */
    int parity;              /* which half of `states` the step writes */
} R(worker);

static idx R(widest_state)(const rk_program *program)
{
    idx widest = 1;
    for (int i = 0; i < program->n_states; i++)
        if (program->states[i].width > widest) widest = program->states[i].width;
    return widest;
}

/* Whether a state is the same after every step as before. */
static int R(hands_on)(const rk_program_run *p)
{
    for (int i = 0; i < p->program->n_states; i++)
        if (p->kept_states[i].base_kind == RK_STATE) return 1;
    return 0;
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
    return 2 + program->n_bases;
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
    e->work = row_work * (double)rk_all_rows(s);
    e->n_threads = e->work < WORK_FOR_ONE_AT_HAND ? 1 : s->n_threads;
    e->n_threads = (int)min_idx(e->n_threads < 1 ? 1 : e->n_threads, s->N);

    e->weights = (R(panels) *)(void *)R(take)(
        arena, (program->n_weights + 1) * (idx)(sizeof(R(panels)) / sizeof(real)));
    R(arena) packed = {p->packed, 0};
    R(plan_program_weights)(program, p->packed ? &packed : arena, arena->base ? e->weights : NULL);
    idx widest = R(widest_state)(program);
    e->zeros = R(take)(arena, round_up(widest, VL));
    if (s->schedule.restart && R(hands_on)(p))
        e->restarted = (idx *)(void *)R(take)(arena, round_up(s->N, 2) * (idx)sizeof(idx) / (idx)sizeof(real));
    e->states = R(take)(arena, 2 * s->N * program->states_size);
    idx rows_each = most_rows_of_thread(s, e->n_threads);
    e->scratch_size = round_up(ROWS_AT_ONCE * program->temp_size + rows_each * program->wide_size, 64);
    e->scratch = R(take)(arena, e->n_threads * e->scratch_size);
    e->n_pointers = round_up(R(pointers_of_row)(program) * rows_each, CACHE_LINE / (idx)sizeof(real *));
    idx pointers = e->n_threads * e->n_pointers * (idx)sizeof(real *);
    e->pointers = (const real **)(void *)R(take)(arena, pointers / (idx)sizeof(real));
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
    R(worker) w = {.e = e, .share = {.tid = tid, .n_threads = n_threads}};
    w.share.n0 = first_row_of_thread(e->s, tid, n_threads);
    w.share.n1 = first_row_of_thread(e->s, tid + 1, n_threads);
    idx n_rows = w.share.n1 - w.share.n0;
    /* A thread that runs alone, since the pool is taken, has all rows: it needs all of the scratch. */
    w.temp = e->scratch + (n_threads > 1 ? tid * e->scratch_size : 0);
    w.wide = w.temp + ROWS_AT_ONCE * program->temp_size;
    w.in = e->pointers + (n_threads > 1 ? tid * e->n_pointers : 0);
    w.out = w.in + n_rows;
    w.bases = (real **)(w.out + n_rows);
    return w;
}

VEC_INLINE idx R(row_of)(const R(worker) *w, idx i) { return w->share.n0 + i; }

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

/* Rows at even distances, one of this thread's after the other. */
typedef struct {
    real *first;
    idx apart;
} R(even_rows);

/* Set base b of the thread's first n_rows rows. */
VEC_INLINE void R(set_base)(const R(worker) *w, int b, idx n_rows, R(even_rows) rows)
{
    int n_bases = w->e->p->program->n_bases;
    real **to = w->bases + b;
    for (idx i = 0; i < n_rows; i++, to += n_bases, rows.first += rows.apart) *to = rows.first;
}

/* Its rows of a matrix that has a row for each of the batch, in the order of the schedule. */
VEC_INLINE R(even_rows) R(rows_of_worker)(const R(worker) *w, const void *matrix, idx ld)
{
    return (R(even_rows)){(real *)matrix + w->share.n0 * ld, ld};
}

/* Set base b to the rows of step t of an input or output. */
static void R(set_base_in_steps)(const R(worker) *w, int b, const rk_steps *steps, idx t, idx n_rows)
{
    const rk_sequence *s = w->e->s;
    const rk_grid *grid = &steps->grid;
    if (steps->packed || !s->schedule.order) {
        idx start = steps->packed ? rows_before(s, t) * grid->n : t * grid->t;
        R(set_base)(w, b, n_rows, R(rows_of_worker)(w, (real *)grid->at + start, grid->n));
        return;
    }
    real **to = w->bases + b;
    for (idx i = 0; i < n_rows; i++, to += w->e->p->program->n_bases)
        *to = (real *)grid->at + place_in_grid(s, grid, t, R(row_of)(w, i));
}

/* The row n of state i where a restart begins. */
VEC_INLINE const real *R(restart_row)(const R(worker) *w, int i, idx n)
{
    const rk_program_run *p = w->e->p;
    const real *restart = p->restart[i];
    return restart ? restart + callers_row(w->e->s, n) * p->program->states[i].width : w->e->zeros;
}

/* The row n of state i, which every step hands on: where it began, or restarted last, up to the step under way. */
VEC_INLINE const real *R(row_handed_on)(const R(worker) *w, int i, idx n)
{
    const rk_program_run *p = w->e->p;
    const idx *restarted = w->e->restarted;
    if (restarted && restarted[n] >= 0) return R(restart_row)(w, i, n);
    return (const real *)p->initial[i] + callers_row(w->e->s, n) * p->program->states[i].width;
}

/* Note the last restarts of the thread's rows up to step t, which comes after the one before or ahead of it. */
static void R(note_restarts)(const R(worker) *w, idx t, idx n_rows)
{
    const rk_sequence *s = w->e->s;
    idx *restarted = w->e->restarted;
    for (idx r = 0; restarted && r < n_rows; r++) {
        idx n = R(row_of)(w, r), last = t;
        /* Forward, all is known up to the step before; backward, until the last restart lies ahead. */
        int is_known = restarted[n] <= t;
        idx first = is_known ? t : 0;
        while (last >= first && !(restarts_of_step(s, 0, last) && restarts_of_step(s, 0, last)[n])) last--;
        if (last >= first) restarted[n] = last;
        else if (!is_known) restarted[n] = -1;
    }
}

/* Set base b to the rows of state i before step t. */
static void R(set_base_to_state)(const R(worker) *w, int b, int i, idx t, idx n_rows)
{
    const rk_program_run *p = w->e->p;
    const rk_sequence *s = w->e->s;
    const rk_state_place *at = &p->kept_states[i];
    idx width = p->program->states[i].width;
    real **to = w->bases + b;
    int n_bases = p->program->n_bases;
    if (at->base_kind == RK_STATE) {
        for (idx r = 0; r < n_rows; r++) to[r * n_bases] = (real *)R(row_handed_on)(w, i, R(row_of)(w, r));
        return;
    }
    if (t && at->base_kind == RK_KEPT)
        R(set_base)(w, b, n_rows, R(rows_of_worker)(w, R(kept_row)(w, t - 1, 0) + at->offset, p->kept_size));
    else if (t)
        R(set_base)(w, b, n_rows, R(rows_of_worker)(w, R(states_row)(w, !w->parity, 0) + at->offset,
                                                    p->program->states_size));
    else
        for (idx r = 0; r < n_rows; r++)
            to[r * n_bases] = (real *)p->initial[i] + callers_row(s, R(row_of)(w, r)) * width;
    const unsigned char *restarts = restarts_of_step(s, 0, t);
    for (idx r = 0; restarts && r < n_rows; r++) {
        idx n = R(row_of)(w, r);
        if (restarts[n]) to[r * n_bases] = (real *)R(restart_row)(w, i, n);
    }
}

/* Set the bases of the thread's first n_rows rows: those that are the same at every step (`at_every` step), or
   the others, for step t. */
static void R(set_bases)(const R(worker) *w, int at_every, idx t, idx n_rows)
{
    const rk_program_run *p = w->e->p;
    const rk_program *program = p->program;
    const rk_sequence *s = w->e->s;
    for (int b = 0; b < program->n_bases; b++) {
        int index = program->bases[b].index;
        rk_base_kind kind = (rk_base_kind)program->bases[b].kind;
        R(even_rows) rows = {NULL, 0};
        if ((kind == RK_TEMP || kind == RK_INVARIANT || kind == RK_WIDE || kind == RK_SUMS) != at_every) continue;
        switch (kind) {
        case RK_TEMP:
            for (idx i = 0; i < n_rows; i++)
                w->bases[i * program->n_bases + b] = w->temp + i % ROWS_AT_ONCE * program->temp_size;
            continue;
        case RK_SEQUENCE: R(set_base_in_steps)(w, b, &p->sequences[index], t, n_rows); continue;
        case RK_OUTPUT: R(set_base_in_steps)(w, b, &p->outputs[index], t, n_rows); continue;
        case RK_STATE: R(set_base_to_state)(w, b, index, t, n_rows); continue;
        case RK_INVARIANT: rows.first = (real *)p->invariants[index]; break;
        case RK_WIDE: rows = (R(even_rows)){w->wide, program->wide_size}; break;
        case RK_SUMS: rows = R(rows_of_worker)(w, p->sums, program->sums_size); break;
        case RK_KEPT: rows = R(rows_of_worker)(w, R(kept_row)(w, t, 0), p->kept_size); break;
        case RK_SUMMANDS: {
            idx later = rows_before(s, s->T) - rows_before(s, t + 1);
            rows = R(rows_of_worker)(w, (real *)p->summands + later * program->summands_size,
                                     program->summands_size);
            break;
        }
        case RK_NEXT:
        case RK_FLOWED:
        case RK_FLOWING:
            rows = R(rows_of_worker)(w, R(states_row)(w, kind == RK_FLOWING ? !w->parity : w->parity, 0),
                                     program->states_size);
        }
        R(set_base)(w, b, n_rows, rows);
    }
}

/* The program, for the thread's n_rows rows of step t. */
static void R(run_step)(R(worker) *w, idx t, idx n_rows)
{
    const rk_program *program = w->e->p->program;
    int n_bases = program->n_bases;
    real **bases;
    R(note_restarts)(w, t, n_rows);
    R(set_bases)(w, 0, t, n_rows);
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
            idx at_once = R(groups_at_once)(weight, n_rows);
            FOR_PARTS_OF_STEP(t, 0, weight->U, at_once, u, u1) {
                R(rows) out = R(rows_listed)(w->out);
                R(skip_columns)(&out, u * VL);
                R(multiply)(weight, u, u1, n_rows, R(rows_listed)(w->in),
                            product->adds ? out : (R(rows)){0}, out);
            }
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
    R(set_bases)(&w, 1, 0, R(rows_of_share)(&w.share, e->s->N));
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
                const real *row = at->base_kind == RK_STATE  ? R(row_handed_on)(&w, i, n)
                                  : at->base_kind == RK_KEPT ? R(kept_row)(&w, t, n)
                                                             : R(states_row)(&w, w.parity, n);
                real *to = (real *)p->final[i] + callers_row(s, n) * at->width;
                /* A stepper's state is where it was. */
                if (row + at->offset != to) memcpy(to, row + at->offset, (size_t)at->width * sizeof(real));
            }
        }
        if (R(step_ends)(&w, t + 1)) return;
    }
    /* Rows without steps. */
    for (idx n = w.share.n0; n < w.share.n1; n++) {
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
        const unsigned char *restarts = restarts_of_step(s, 0, t);
        for (idx r = 0; restarts && r < n_rows; r++)
            if (restarts[R(row_of)(&w, r)]) R(cut_flow)(&w, R(row_of)(&w, r));
        if (R(step_ends)(&w, s->T - t)) return;
    }
    for (idx n = w.share.n0; n < w.share.n1; n++)
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
    int forward = task == R(program_forward_task);
    for (idx n = 0; e.restarted && n < p->run.N; n++) e.restarted[n] = forward ? -1 : PTRDIFF_MAX;
    parallel_for_work(e.n_threads, e.work, task, &e);
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
