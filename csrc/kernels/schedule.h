/*
 * Which rows a step has, and where they are kept (rk_schedule in rnnkit.h). Steps are counted in the order
 * in which a direction takes them, rows in the order of the schedule.
 */

/* Rows of step t: all of them before the first step, none after the last. */
VEC_INLINE idx active_rows(const rk_sequence *s, idx t)
{
    if (t >= s->T) return 0;
    return s->schedule.active && t >= 0 ? s->schedule.active[t] : s->N;
}

/* Where the rows of step t begin in what is kept. */
VEC_INLINE idx rows_before(const rk_sequence *s, idx t)
{
    const idx *before = s->schedule.rows_before;
    return before ? before[t] - before[0] : t * s->N;
}

/* Row n as the caller counts. */
VEC_INLINE idx callers_row(const rk_sequence *s, idx n)
{
    return s->schedule.order ? s->schedule.order[n] : n;
}

/* Where row (t, n) of a grid begins, in elements. */
VEC_INLINE idx place_in_grid(const rk_sequence *s, const rk_grid *grid, idx t, idx n)
{
    if (grid->of_run) return t * grid->t + n * grid->n;
    if (s->schedule.lag) t += s->schedule.lag[n];
    return t * grid->t + callers_row(s, n) * grid->n;
}

/* Steps that row n takes in this run. */
VEC_INLINE idx steps_of_row(const rk_sequence *s, idx n)
{
    if (!s->schedule.length) return s->T;
    idx steps = s->schedule.length[n] - s->schedule.begins;
    return steps < 0 ? 0 : min_idx(steps, s->T);
}

/* The first row of a thread, where rows are shared out: to each as many steps in all, so that of ragged rows, which come
   longest first, one has few long ones and another many short ones. */
static inline idx first_row_of_thread(const rk_sequence *s, int tid, int n_threads)
{
    if (!s->schedule.order || tid == n_threads) return s->N * tid / n_threads;
    idx all = rk_all_rows(s), begun = 0, n = 0;
    for (; n < s->N; n++) {
        idx steps = steps_of_row(s, n);
        if ((begun + steps / 2) * n_threads >= all * tid) break;
        begun += steps;
    }
    return n;
}

/* Rows of the thread that has the most. */
static inline idx most_rows_of_thread(const rk_sequence *s, int n_threads)
{
    idx most = 0;
    for (int tid = 0; tid < n_threads; tid++) {
        idx rows = first_row_of_thread(s, tid + 1, n_threads) - first_row_of_thread(s, tid, n_threads);
        if (rows > most) most = rows;
    }
    return most;
}

VEC_INLINE int any_restarts(const rk_sequence *s, idx t)
{
    return s->schedule.restarting && t < s->T && s->schedule.restarting[t];
}

/* Whether all rows take all steps and none restarts. */
VEC_INLINE int is_dense(const rk_sequence *s) { return !s->schedule.order && !s->schedule.restart; }

/* What runs at each step is compiled twice: its constant `dense` tells that all rows take the step and none of a
   thread's restarts on the way. */
VEC_INLINE idx rows_before_step(const rk_sequence *s, const int dense, idx t)
{
    return dense ? t * s->N : rows_before(s, t);
}

/* One for each row of step t, not 0 where it restarts; NULL: none does. */
VEC_INLINE const unsigned char *restarts_of_step(const rk_sequence *s, const int dense, idx t)
{
    return !dense && any_restarts(s, t) ? s->schedule.restart + rows_before(s, t) : NULL;
}

/* A row of a step. */
typedef struct {
    idx t, n;
} place;

/* The place that row `row` of what is kept belongs to. */
static inline place place_of_kept(const rk_sequence *s, idx row)
{
    if (!s->schedule.rows_before) return (place){row / s->N, row % s->N};
    idx t = 0, end = s->T; /* the last step that begins at or before the row is in t .. end-1 */
    while (end - t > 1) {
        idx middle = t + (end - t) / 2;
        if (rows_before(s, middle) <= row) t = middle;
        else end = middle;
    }
    return (place){t, row - rows_before(s, t)};
}

/* Steps whose rows a weight gradient on the matrix unit takes together, in groups of UNIT_DEPTH, from a step that
   such steps divide: so many that little of the last group is wasted. */
static inline idx steps_together(idx N)
{
    idx most = UNIT_ROWS > N ? UNIT_ROWS / N : 1, best = most;
    double least = 2;
    for (idx steps = most; steps > most / 2; steps--) {
        double padded = (double)round_up(steps * N, UNIT_DEPTH) / (double)(steps * N);
        if (padded >= least) continue;
        least = padded;
        best = steps;
    }
    return best;
}
