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

/* What was taken when so much was in use. */
VEC_INLINE real *R(place)(const R(arena) *arena, size_t used)
{
    return arena->base ? (real *)(arena->base + used) : NULL;
}

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

    int n_threads;            /* wanted, */
    double work;              /* and multiply-adds that they share */
    int split_units;
    int units_per_panel;      /* groups per panel where a panel holds one vector a group */
    atomic_long stop_at;      /* loop iteration after which to stop; 0: go on */

    /* forward */
    idx chunk;                /* steps whose input product is computed together */
    R(panels) ih[MAX_SECTIONS], hh[MAX_SECTIONS]; /* one per section */
    real *bias;               /* row of gates: what the input product starts from */
    real *late_bias;          /* b_hh of the gates beyond gates_with_b_hh */
    real *parts;              /* per thread: a part of weights that are packed when they are needed, */
    idx part_size;            /* of so many elements */
    real *g;                  /* gates: of a chunk, or of all steps where they are kept */
    real *state;              /* cell's own state rows (LSTM: c) */
    real *restart[2];         /* rows of h and c where a restart begins, restart_ld apart */
    idx restart_ld;
    real *scratch;            /* per thread */
    idx scratch_size;
    const real **lists;       /* per thread N_LISTS of N rows each; NULL where nothing is listed */

    /* backward */
    real *d_gates;                   /* rows of gate gradients of all steps */
    R(panels) hh_back[MAX_SECTIONS]; /* one per section: d_h += d_gates . w_hh */
    R(panels) ih_back;               /* d_x = d_gates . w_ih */
    int on_matrix_unit;              /* that product, and those of the weights' gradients */
    int loop_on_unit;                /* and that of the loop, of the first section */
    idx steps_together;              /* then: whose rows a weight gradient takes in one block */
    void *ih_back_on_unit;           /* then: in place of ih_back, */
    void *hh_back_on_unit;           /* and of the first of hh_back */
    real *d_w[2];                    /* sums of gradients of w_ih (I * ldg) and w_hh (H * ldg) */
    real *d_bias[2];                 /* rows of gates */
    real *features;                  /* of blocks of rows, packed for the weights' gradients */
    int blocks_in_round;             /* of those gradients; threads wait for each other between two rounds */
    work_left *left[2];              /* of what threads take as they come to it, of each second round */
    idx rows_of_d_x;                 /* that a thread forms at once, */
    atomic_long rows_taken;          /* and how many are taken */
    real *carry;                     /* per row: what flows to the step before (LSTM d_c, GRU d_h) */
    real *d_restart[2];              /* rows of gradients of where a restart begins; NULL: not wanted */
} R(run);

/* Lists of the rows of a step, where they do not lie at even distances. */
#ifndef LISTS_NAMED
#define LISTS_NAMED
enum { LIST_OF_H, LIST_OF_Y, LIST_OF_C, N_LISTS };
#endif

/* A thread's share of the rows, n0 .. n1-1, and of the groups of units. */
typedef struct {
    int tid, n_threads;
    idx n0, n1, u0, u1;
    real *scratch;
    const real **lists;
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
    r->work = step_work / (double)s->N * (double)rk_all_rows(s);
    /* Few rows repay a second thread sooner where their weights leave a second cache, or half of it if they have to
       be packed: each thread's own then holds a part. */
    double all_weights = (double)s->H * n_gates * (double)(s->H + s->I) * sizeof(real);
    int few_rows = s->N < 4 * threads;
    int from_afar = few_rows && all_weights > (s->packed ? SECOND_CACHE : SECOND_CACHE / 2);
    if (r->work < WORK_FOR_A_REGION && !from_afar) threads = 1;
    /* Weights are read once a step by each thread that owns rows, but by one thread only where units are
       shared out: worth a barrier a step for few rows, and for weights that leave a second cache no room for
       anything else, or that it does not hold where units don't come out even. */
    double weight_bytes = (double)s->H * n_gates * (double)s->H * sizeof(real);
    double barrier = s->barrier_time > 0 ? s->barrier_time : USUAL_BARRIER_TIME;
    double repays = (s->N < threads ? WORK_FOR_A_BARRIER : WORK_FOR_A_SPLIT) * barrier;
    int split = (int)min_idx(threads, r->U);
    int uneven = round_up(r->U, split) > r->U + r->U / 16;
    if (split > 1 && ((few_rows && step_work >= repays * split) ||
                      (weight_bytes > (uneven ? SECOND_CACHE : SECOND_CACHE / 2) && r->U >= 4 * threads &&
                       step_work >= WORK_FROM_AFAR * threads))) {
        r->split_units = 1;
        threads = split;
    } else if (few_rows) {
        threads = (int)min_idx(threads, s->N);
    }
    r->n_threads = threads;
    r->on_matrix_unit = HAS_MATRIX_UNIT && s->matrix_unit && s->N >= ROWS_FOR_THE_UNIT &&
                        step_work >= WORK_FOR_THE_UNIT * (double)s->N;
    /* Weights take half as much memory again there. */
    r->loop_on_unit = r->on_matrix_unit && s->N >= UNIT_BLOCK &&
                      (1.5 * weight_bytes <= 4 * SECOND_CACHE || s->N >= 4 * UNIT_BLOCK);
    r->steps_together = r->on_matrix_unit ? steps_together(s->N) : 1;
    /* Weights packed beforehand serve any number of threads. */
    idx panel = r->split_units && !s->packed ? (r->U + threads - 1) / threads : r->U;
    r->units_per_panel = (int)min_idx(4, panel);
    if (r->loop_on_unit) r->units_per_panel = (int)round_up(r->units_per_panel, 2); /* two blocks at a time */
}

/* Features that a weight gradient has rows for: whole blocks where the matrix unit forms it. */
VEC_INLINE idx R(rows_of_sums)(const R(run) *r, idx n_features)
{
    return r->on_matrix_unit ? round_up(n_features, UNIT_BLOCK) : n_features;
}

/* Panels of a product whose columns are hidden units (or, for ih_back, input features). */
static R(panels) R(plan_panels)(R(arena) *arena, idx K, idx U, int ng, int ug)
{
    R(panels) w = {.K = K, .U = U, .ng = ng, .ug = ug};
    w.data = R(take)(arena, R(panels_size)(&w));
    return w;
}

/* Panels of weights of the run, all at once or in parts, each of which so many rows meet. */
static R(panels) R(plan_weight)(R(run) *r, R(arena) *arena, idx K, idx U, int ng, int ug, R(matrix) source,
                                int in_parts, idx n_rows)
{
    R(panels) w = {.K = K, .U = U, .ng = ng, .ug = ug};
    if (!in_parts) w = R(plan_panels)(arena, K, U, ng, ug);
    w.source = source;
    idx part = in_parts ? R(groups_at_once)(&w, n_rows) * ng * VL * K : 0;
    if (part > r->part_size) r->part_size = part;
    return w;
}

/* Whether one thread alone reads a part of weights in a step: it may pack it then. */
VEC_INLINE int R(parts_are_apart)(const R(run) *r)
{
    return !r->s->schedule.order && (r->split_units || r->n_threads == 1);
}

static R(share) R(share_of)(const R(run) *r, int tid, int n_threads)
{
    idx N = r->s->N;
    R(share) share = {
        tid, n_threads, 0, N, 0, r->U, r->scratch + tid * r->scratch_size,
        r->lists ? r->lists + tid * N_LISTS * N : NULL,
    };
    if (n_threads == 1) return share;
    if (r->split_units) {
        idx panels = (r->U + r->units_per_panel - 1) / r->units_per_panel;
        share.u0 = panels * tid / n_threads * r->units_per_panel;
        share.u1 = min_idx(panels * (tid + 1) / n_threads * r->units_per_panel, r->U);
    } else {
        share.n0 = first_row_of_thread(r->s, tid, n_threads);
        share.n1 = first_row_of_thread(r->s, tid + 1, n_threads);
    }
    return share;
}

/* How many of a thread's rows are among the first `active`. */
VEC_INLINE idx R(rows_of_share)(const R(share) *share, idx active)
{
    idx rows = min_idx(active, share->n1) - share->n0;
    return rows < 0 ? 0 : rows;
}

/* Whether one of this thread's rows restarts before step t; those of a ragged batch are not looked at. */
VEC_INLINE int R(share_restarts)(const R(run) *r, const R(share) *share, idx t)
{
    const unsigned char *restarts = restarts_of_step(r->s, 0, t);
    if (!restarts || r->s->schedule.order) return restarts != NULL;
    for (idx n = share->n0; n < share->n1; n++)
        if (restarts[n]) return 1;
    return 0;
}

/* Panels for one thread to pack, when all threads pack together. */
VEC_INLINE void R(packing_share)(const R(panels) *w, int tid, int n_threads, idx *u0, idx *u1)
{
    idx panels = (w->U + w->ug - 1) / w->ug;
    *u0 = panels * tid / n_threads * w->ug;
    *u1 = min_idx(panels * (tid + 1) / n_threads * w->ug, w->U);
}

/* `multiply` by groups u .. u1-1 of weights, which are packed now if they have not been. */
VEC_INLINE void R(multiply_part)(const R(run) *r, const R(share) *share, const R(panels) *w, idx u, idx u1, idx n_rows,
                                 R(rows) a, R(rows) init, R(rows) out)
{
    R(panels) part;
    if (!w->data) {
        part = *w;
        part.data = r->parts + share->tid * r->part_size;
        part.first = u;
        R(pack)(&part, u, u1);
        w = &part;
    }
    R(multiply)(w, u, u1, n_rows, a, init, out);
}

static void R(wait_all)(const R(share) *share)
{
    rk_barrier_wait(share->tid, share->n_threads);
}

/* Between two phases of a step: threads that own all units of their rows need not wait. */
VEC_INLINE void R(wait_step)(R(run) *r, const R(share) *share)
{
    if (r->split_units) R(wait_all)(share);
}

/* The end of loop iteration i (counted from 1): wait where units are split, and learn whether to
   stop. The first thread asks the caller now and then. */
VEC_INLINE int R(end_of_step)(R(run) *r, const R(share) *share, long i, int ask)
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

/* Where the rows of h_{t-1} are: those of step t - 1 in it. */
VEC_INLINE rk_grid R(grid_of_h_before)(const rk_sequence *s, idx t)
{
    return t ? s->y : (rk_grid){(void *)s->h_0, 0, s->H, 0};
}

/* Where rows n, n + 1, ... of step t begin in a grid. */
static void R(list_some_rows)(const R(run) *r, const rk_grid *grid, idx t, idx n, const real **rows, idx count)
{
    if (r->s->schedule.order && !grid->of_run) {
        for (idx i = 0; i < count; i++) rows[i] = R(grid_row)(r, grid, t, n + i);
        return;
    }
    const real *row = (const real *)grid->at + t * grid->t + n * grid->n;
    for (idx i = 0; i < count; i++, row += grid->n) rows[i] = row;
}

/* This thread's rows of step t in a grid, one by one, in its list `list`. */
static R(rows) R(list_rows)(const R(run) *r, const R(share) *share, int list, const rk_grid *grid, idx t,
                            idx n_rows)
{
    const real **rows = share->lists + list * r->s->N;
    R(list_some_rows)(r, grid, t, share->n0, rows, n_rows);
    return R(rows_listed)(rows);
}

/* The same, listed unless the step is dense. */
VEC_INLINE R(rows) R(rows_of_step)(const R(run) *r, const R(share) *share, const int dense, int list,
                                   const rk_grid *grid, idx t, idx n_rows)
{
    if (dense) return R(rows_of)((const real *)grid->at + t * grid->t + share->n0 * grid->n, grid->n);
    return R(list_rows)(r, share, list, grid, t, n_rows);
}

/* One of those. */
VEC_INLINE const real *R(row_of_step)(const R(rows) *rows, const int dense, idx i)
{
    return dense ? rows->base + i * rows->inner : rows->list[i];
}

/* Of rows n, n + 1, ..., which are listed, those that restart before step t: where the restart of state i (0: h, 1: c)
   begins. */
static void R(list_restarts)(const R(run) *r, int i, idx t, idx n, const real **rows, idx count)
{
    const unsigned char *restarts = restarts_of_step(r->s, 0, t);
    for (idx j = 0; restarts && j < count; j++)
        if (restarts[n + j]) rows[j] = r->restart[i] + (n + j) * r->restart_ld;
}

/* What step t takes for state i of this thread's rows: what `rows` has, or where a restart begins. Listed in
   `list` unless the step is dense. */
VEC_INLINE R(rows) R(rows_or_restarts)(const R(run) *r, const R(share) *share, const int dense, int list,
                                       int i, idx t, idx n_rows, R(rows) rows)
{
    if (dense) return rows;
    const real **listed = share->lists + list * r->s->N;
    if (rows.base)
        for (idx j = 0; j < n_rows; j++) listed[j] = rows.base + j * rows.inner;
    R(list_restarts)(r, i, t, share->n0, listed, n_rows);
    return R(rows_listed)(listed);
}

/* What step t takes for h_{t-1} of this thread's rows. */
VEC_INLINE R(rows) R(rows_of_h_before)(const R(run) *r, const R(share) *share, const int dense, idx t,
                                       idx n_rows)
{
    rk_grid h = R(grid_of_h_before)(r->s, t);
    R(rows) rows = R(rows_of_step)(r, share, dense, LIST_OF_H, &h, t - 1, n_rows);
    return R(rows_or_restarts)(r, share, dense, LIST_OF_H, 0, t, n_rows, rows);
}

/* Rows of h and c where a restart begins: what the caller gave, or one row of zeros for all. */
static void R(plan_restarts)(R(run) *r, R(arena) *arena)
{
    const rk_sequence *s = r->s;
    if (is_dense(s)) return;
    idx lists = r->n_threads * N_LISTS * s->N * (idx)sizeof(real *);
    r->lists = (const real **)(void *)R(take)(arena, lists / (idx)sizeof(real));
    if (!s->schedule.restart) return;
    int given = s->h_r || s->c_r;
    r->restart_ld = given ? r->ldu : 0;
    for (int i = 0; i < 2; i++) r->restart[i] = R(take)(arena, given ? s->N * r->ldu : r->ldu);
}

/* Rows (N, H) of the caller to padded rows in the order of the schedule; NULL: zeros. */
static void R(gather_rows)(const R(run) *r, real *to, const void *from, idx n_rows)
{
    idx H = r->s->H, ldu = r->ldu;
    const idx *order = r->s->schedule.order;
    if (!from) memset(to, 0, (size_t)(n_rows * ldu) * sizeof(real));
    else if (!order) R(copy_in)(to, ldu, from, H, n_rows, H);
    else
        for (idx n = 0; n < n_rows; n++)
            R(copy_in)(to + n * ldu, ldu, (const real *)from + order[n] * H, H, 1, H);
}

/* And back. */
static void R(scatter_rows)(const R(run) *r, void *to, const real *from, idx n_rows)
{
    idx H = r->s->H, ldu = r->ldu;
    const idx *order = r->s->schedule.order;
    if (!order) R(copy_out)(to, H, from, ldu, n_rows, H);
    else
        for (idx n = 0; n < n_rows; n++) R(copy_out)((real *)to + order[n] * H, H, from + n * ldu, ldu, 1, H);
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

/* Groups u .. u1-1 of a row: to = a + b, either of which may be NULL for zero. */
VEC_INLINE void R(add_units)(real *to, const real *a, const real *b, idx u, idx u1, idx H)
{
    if (!a) a = b, b = NULL;
    idx whole = min_idx(u1, H / VL), v = u;
    if (b)
        for (; v < whole; v++) v_store(to + v * VL, v_load(a + v * VL) + v_load(b + v * VL));
    else if (a)
        for (; v < whole; v++) v_store(to + v * VL, v_load(a + v * VL));
    for (; v < u1; v++) {
        vec sum = a ? R(load_units)(a, v * VL, H) : v_set1(0);
        if (b) sum = sum + R(load_units)(b, v * VL, H);
        v_store(to + v * VL, sum);
    }
}

/* A vector of gate gradients as it is stored: padding lanes are zero even where NaN arose there, since
   they take part in products. */
VEC_INLINE vec R(valid_units)(vec v, idx unit, idx H)
{
    return unit + VL <= H ? v : v_first(v, H - unit);
}
