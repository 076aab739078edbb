/*
 * A run: one layer, one direction, forward or backward. Its plan (threads and memory), and what all
 * cells use inside it.
 *
 * A run is one parallel region. Its work is split by rows of the batch (threads never wait for each
 * other inside the loop) or, when there are few rows and much work a step, by hidden units (one
 * barrier a step). K is never split, so every split gives the same bits.
 */

typedef struct {
    char *base; /* NULL: only measure */
    size_t used;
} R(arena);

static real *R(take)(R(arena) *arena, idx count)
{
    size_t at = arena->used;
    arena->used = (at + (size_t)count * sizeof(real) + 63) & ~(size_t)63;
    return arena->base ? (real *)(arena->base + at) : NULL;
}

typedef struct {
    const rk_sequence *s;
    idx U;                    /* groups of VL hidden units */
    idx ldu;                  /* U * VL: length of a padded row of hidden units */
    int n_gates;
    idx ldg;                  /* n_gates * ldu: length of a row of gates */
    R(section) sections[MAX_SECTIONS]; /* the order of a row of gates */
    int n_sections;
    int gates_with_b_hh;      /* the first gates, whose b_hh joins b_ih; that of the others is late */

    int n_threads;            /* wanted */
    int split_units;
    int units_per_panel;      /* groups per panel where a panel holds one vector a group */
    atomic_long stop_at;      /* loop iteration after which to stop; 0: go on */

    /* forward */
    idx chunk;                /* steps whose input product is computed together */
    R(panels) ih[MAX_SECTIONS], hh[MAX_SECTIONS]; /* one per section */
    real *bias;               /* row of gates: what the input product starts from */
    real *late_bias;          /* b_hh of the gates beyond gates_with_b_hh */
    real *g;                  /* gates: of a chunk, or of all steps where they are kept */
    real *state;              /* cell's own state rows (LSTM: c) */
    real *restart[2];         /* rows of h and c where a restart begins, restart_ld apart */
    idx restart_ld;
    real *scratch;            /* per thread */
    idx scratch_size;
    const real **pointers;    /* per thread, one for each row */

    /* backward */
    real *d_gates;                   /* rows of gate gradients of all steps */
    R(panels) hh_back[MAX_SECTIONS]; /* one per section: d_h += d_gates . w_hh */
    R(panels) ih_back;               /* d_x = d_gates . w_ih */
    real *d_w[2];                    /* transposed gradients (I, ldg) and (H, ldg) */
    real *d_bias[2];                 /* rows of gates */
    real *carry;                     /* per row: what flows to the step before (LSTM d_c, GRU d_h) */
    real *d_restart[2];              /* rows of gradients of where a restart begins; NULL: not wanted */
} R(run);

/* A thread's share of the rows, which are n0, n0 + n_step, ... below n1, and of the groups of units. */
typedef struct {
    int tid, n_threads;
    idx n0, n1, n_step, u0, u1;
    real *scratch;
    const real **pointers; /* room for one to each of its rows */
} R(share);

static void R(plan)(R(run) *r, const rk_sequence *s, int n_gates, int gates_with_b_hh)
{
    memset(r, 0, sizeof *r);
    r->s = s;
    r->U = (s->H + VL - 1) / VL;
    r->ldu = r->U * VL;
    r->n_gates = n_gates;
    r->ldg = n_gates * r->ldu;
    r->sections[0] = (R(section)){n_gates, 0};
    r->n_sections = 1;
    r->gates_with_b_hh = gates_with_b_hh;

    double step_work = (double)s->N * (double)s->H * n_gates * (double)(s->H + s->I);
    int threads = s->n_threads < 1 ? 1 : s->n_threads;
    if (step_work / (double)s->N * (double)rk_all_rows(s) < WORK_FOR_A_REGION) threads = 1;
    /* Weights are read once a step by each thread that owns rows, but by one thread only where units are
       shared out: worth a barrier a step for few rows, and for weights that no second cache holds. */
    double weight_bytes = (double)s->H * n_gates * (double)s->H * sizeof(real);
    double barrier = s->barrier_time > 0 ? s->barrier_time : USUAL_BARRIER_TIME;
    double repays = (s->N < threads ? WORK_FOR_A_BARRIER : WORK_FOR_A_SPLIT) * barrier;
    int few_rows = s->N < 4 * threads, split = (int)min_idx(threads, r->U);
    if (split > 1 && ((few_rows && step_work >= repays * split) ||
                      (weight_bytes > SECOND_CACHE / 2 && r->U >= 4 * threads &&
                       step_work >= WORK_FROM_AFAR * threads))) {
        r->split_units = 1;
        threads = split;
    } else if (few_rows) {
        threads = (int)min_idx(threads, s->N);
    }
    r->n_threads = threads;
    /* Weights packed beforehand serve any number of threads. */
    idx panel = r->split_units && !s->packed ? (r->U + threads - 1) / threads : r->U;
    r->units_per_panel = (int)min_idx(4, panel);
}

/* Panels of a product whose columns are hidden units (or, for ih_back, input features). */
static R(panels) R(plan_panels)(R(arena) *arena, idx K, idx U, int ng, int ug)
{
    R(panels) w = {NULL, K, U, ng, ug};
    w.data = R(take)(arena, R(panels_size)(&w));
    return w;
}

static R(share) R(share_of)(const R(run) *r, int tid, int n_threads)
{
    idx N = r->s->N;
    R(share) share = {
        tid, n_threads, 0, N, 1, 0, r->U, r->scratch + tid * r->scratch_size,
        r->pointers ? r->pointers + tid * N : NULL,
    };
    if (n_threads == 1) return share;
    if (r->split_units) {
        idx panels = (r->U + r->units_per_panel - 1) / r->units_per_panel;
        share.u0 = panels * tid / n_threads * r->units_per_panel;
        share.u1 = min_idx(panels * (tid + 1) / n_threads * r->units_per_panel, r->U);
    } else if (r->s->schedule.order) {
        /* The longest come first: dealt out, so that all threads have as many of them. */
        share.n0 = tid;
        share.n_step = n_threads;
    } else {
        share.n0 = N * tid / n_threads;
        share.n1 = N * (tid + 1) / n_threads;
    }
    return share;
}

/* How many of a thread's rows are among the first `active`. */
VEC_INLINE idx R(rows_of_share)(const R(share) *share, idx active)
{
    idx rows = min_idx(active, share->n1) - share->n0;
    return rows <= 0 ? 0 : (rows + share->n_step - 1) / share->n_step;
}

/* Panels for one thread to pack, when all threads pack together. */
VEC_INLINE void R(packing_share)(const R(panels) *w, int tid, int n_threads, idx *u0, idx *u1)
{
    idx panels = (w->U + w->ug - 1) / w->ug;
    *u0 = panels * tid / n_threads * w->ug;
    *u1 = min_idx(panels * (tid + 1) / n_threads * w->ug, w->U);
}

static void R(wait_all)(const R(share) *share)
{
    rk_barrier_wait(share->tid, share->n_threads);
}

/* Between two phases of a step: threads that own all units of their rows need not wait. */
static void R(wait_step)(R(run) *r, const R(share) *share)
{
    if (r->split_units) R(wait_all)(share);
}

/* The end of loop iteration i (counted from 1): wait where units are split, and learn whether to
   stop. The first thread asks the caller now and then. */
static int R(end_of_step)(R(run) *r, const R(share) *share, long i, int ask)
{
    if (ask && share->tid == 0 && r->s->interrupted && r->s->interrupted())
        atomic_store(&r->stop_at, i);
    R(wait_step)(r, share);
    long stop_at = atomic_load_explicit(&r->stop_at, memory_order_relaxed);
    /* Split by units, all threads must leave at the same step; an order for a later one waits. */
    return r->split_units && share->n_threads > 1 ? stop_at == i : stop_at != 0;
}

/* After a loop, once every thread is here: whether any left early. */
static int R(loop_was_stopped)(R(run) *r, const R(share) *share)
{
    R(wait_all)(share);
    return atomic_load(&r->stop_at) != 0;
}

VEC_INLINE real *R(grid_row)(const R(run) *r, const rk_grid *grid, idx t, idx n)
{
    return (real *)grid->at + place_in_grid(r->s, grid, t, n);
}

/* What step t takes for h_{t-1} of row n. */
VEC_INLINE const real *R(h_before)(const R(run) *r, idx t, idx n)
{
    const rk_sequence *s = r->s;
    if (restarts(s, t, n)) return r->restart[0] + n * r->restart_ld;
    if (t == 0) return (const real *)s->h_0 + callers_row(s, n) * s->H;
    return R(grid_row)(r, &s->y, t - 1, n);
}

/* The same for this thread's rows of the step. */
static R(rows) R(rows_of_h_before)(const R(run) *r, const R(share) *share, idx t, idx n_rows)
{
    const rk_sequence *s = r->s;
    if (s->schedule.order || any_restarts(s, t)) {
        for (idx i = 0; i < n_rows; i++)
            share->pointers[i] = R(h_before)(r, t, share->n0 + i * share->n_step);
        return R(rows_listed)(share->pointers);
    }
    return R(rows_of)(R(h_before)(r, t, share->n0), t == 0 ? s->H : s->y.n);
}

/* Rows of h and c where a restart begins: what the caller gave, or one row of zeros for all. */
static void R(plan_restarts)(R(run) *r, R(arena) *arena)
{
    const rk_sequence *s = r->s;
    if (s->schedule.order || s->schedule.restart)
        r->pointers = (const real **)(void *)R(take)(
            arena, (r->n_threads * s->N * (idx)sizeof(real *) + (idx)sizeof(real) - 1) / (idx)sizeof(real));
    if (!s->schedule.restart) return;
    int given = s->h_r || s->c_r;
    r->restart_ld = given ? r->ldu : 0;
    for (int i = 0; i < 2; i++) r->restart[i] = R(take)(arena, given ? s->N * r->ldu : r->ldu);
}

/* Rows (N, H) of the caller to padded rows in the order of the schedule; NULL: zeros. */
static void R(gather_rows)(const R(run) *r, real *to, const void *from, idx n_rows)
{
    const rk_sequence *s = r->s;
    for (idx n = 0; n < n_rows; n++) {
        if (from)
            R(copy_in)(to + n * r->ldu, r->ldu, (const real *)from + callers_row(s, n) * s->H, s->H, 1, s->H);
        else memset(to + n * r->ldu, 0, (size_t)r->ldu * sizeof(real));
    }
}

/* And back, one row. */
VEC_INLINE void R(scatter_row)(const R(run) *r, void *to, const real *from, idx n)
{
    const rk_sequence *s = r->s;
    memcpy((real *)to + callers_row(s, n) * s->H, from, (size_t)s->H * sizeof(real));
}

static void R(gather_restarts)(R(run) *r)
{
    const rk_sequence *s = r->s;
    if (!s->schedule.restart) return;
    idx n_rows = r->restart_ld ? s->N : 1;
    R(gather_rows)(r, r->restart[0], s->h_r, n_rows);
    R(gather_rows)(r, r->restart[1], s->c_r, n_rows);
}

VEC_INLINE vec R(load_units)(const real *row, idx unit, idx H)
{
    return unit + VL <= H ? v_load(row + unit) : v_load_n(row + unit, H - unit);
}

VEC_INLINE void R(store_units)(real *row, idx unit, idx H, vec v)
{
    if (unit + VL <= H) v_store(row + unit, v);
    else v_store_n(row + unit, v, H - unit);
}

/* A vector of gate gradients as it is stored: padding lanes are zero even where NaN arose there, since
   they take part in products. */
VEC_INLINE vec R(valid_units)(vec v, idx unit, idx H)
{
    return unit + VL <= H ? v : v_first(v, H - unit);
}
