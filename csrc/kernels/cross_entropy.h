/*
 * Cross entropy of softmax(x) against class ids, with class weights and label smoothing.
 *
 * For one row with logits x, target t, h = hit, Q = total, r = rest and R its sum:
 *     m = max x,  S = sum of exp(x_j - m) over all classes but one that has m
 *     loss = h (m - x_t) + sum_j r_j (m - x_j) + Q log(1 + S)
 *     d_x_j = d_loss (Q e_j / (1 + S) - r_j),  e_j = exp(x_j - m)
 *     d_x_t = d_loss ((R e_t - h (1 + S - e_t)) / (1 + S) - r_t)
 * so that nothing cancels where the loss or a gradient is far below 1. Rows that are not kept have
 * loss and gradient 0, whatever their logits are.
 *
 * A row belongs to one thread, and nothing of its size is stored but d_x. Backward
 * takes m and S as forward found them.
 */

/* The largest of n > 0 values. Where some are NaN it may be any: S will be NaN. */
static real R(largest)(const real *x, idx n)
{
    real lanes[VL];
    real most = x[0];
    idx i = 0;
    if (n >= VL) {
        vec best[4];
        for (int k = 0; k < 4; k++) best[k] = v_load(x);
        for (; i + 4 * VL <= n; i += 4 * VL)
            for (int k = 0; k < 4; k++) best[k] = v_max(v_load(x + i + k * VL), best[k]);
        for (; i + VL <= n; i += VL) best[0] = v_max(v_load(x + i), best[0]);
        v_store(lanes, v_max(v_max(best[0], best[1]), v_max(best[2], best[3])));
        for (int half = VL / 2; half; half /= 2)
            for (int k = 0; k < half; k++)
                lanes[k] = lanes[k + half] > lanes[k] ? lanes[k + half] : lanes[k];
        most = lanes[0];
    }
    for (; i < n; i++) most = x[i] > most ? x[i] : most;
    return most;
}

/* Vectors that are summed before their sum is added to others: the rounding stays small however many
   classes there are. */
enum { R(block) = 32 };

/* S. What has m is counted rather than added up, so that a small S is not lost next to it. */
static real R(sum_of_others)(const real *x, idx n, real m)
{
    const vec top = v_set1(m), zero = v_set1(0), one = v_set1(1);
    vec total = zero, equal = zero;
    for (idx start = 0; start < n; start += R(block) * VL) {
        idx end = min_idx(start + R(block) * VL, n);
        vec sum = zero;
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vec below = R(load_lanes)(x + (i), n) - top; /* 0 where x is m; NaN stays NaN */           \
        sum += R(first_lanes)(v_if_negative(below, R(v_exp)(below), below), n);                    \
        equal += R(first_lanes)(v_if_negative(below, zero, one), n);                               \
    } while (0)
        FOR_EACH_VECTOR(start, end, STEP);
#undef STEP
        total += sum;
    }
    return v_sum(total) + (v_sum(equal) - 1);
}

/* sum_j r_j (m - x_j) */
static real R(spread_loss)(const real *x, const real *r, idx n, real m)
{
    vec total = v_set1(0), top = v_set1(m);
#define STEP(i, n)                                                                                 \
    total += R(first_lanes)(R(load_lanes)(r + (i), n) * (top - R(load_lanes)(x + (i), n)), n)
    FOR_EACH_VECTOR(0, n, STEP);
#undef STEP
    return v_sum(total);
}

static void R(cross_entropy_forward_task)(void *arg, int tid, int n_threads)
{
    const rk_cross_entropy *c = arg;
    const real *hit = c->hit, *total = c->total, *rest = c->rest;
    real *loss = c->loss, *top = c->top, *others = c->others;
    idx end = share_start(c->rows, 1, tid + 1, n_threads);
    for (idx n = share_start(c->rows, 1, tid, n_threads); n < end; n++) {
        loss[n] = top[n] = others[n] = 0;
        if (!c->kept[n]) continue;
        const real *x = (const real *)c->x + n * c->classes;
        top[n] = R(largest)(x, c->classes);
        others[n] = R(sum_of_others)(x, c->classes, top[n]);
        real value = hit[n] * (top[n] - x[c->target[n]]);
        if (rest) value += R(spread_loss)(x, rest, c->classes, top[n]);
        loss[n] = value + total[n] * (real)log1p((double)others[n]);
    }
}

static void R(cross_entropy_backward_task)(void *arg, int tid, int n_threads)
{
    const rk_cross_entropy *c = arg;
    const real *hit = c->hit, *total = c->total, *rest = c->rest, *d_loss = c->d_loss;
    const real *top = c->top, *others = c->others;
    idx end = share_start(c->rows, 1, tid + 1, n_threads);
    for (idx n = share_start(c->rows, 1, tid, n_threads); n < end; n++) {
        real *d_x = (real *)c->d_x + n * c->classes;
        if (!c->kept[n]) {
            memset(d_x, 0, (size_t)c->classes * sizeof(real));
            continue;
        }
        const real *x = (const real *)c->x + n * c->classes;
        const idx t = c->target[n];
        const real S = others[n], scale = d_loss[n] / (1 + S);
        const vec m = v_set1(top[n]), of_exp = v_set1(scale * total[n]), d = v_set1(d_loss[n]);
        real lanes[VL];
        v_store(lanes, R(v_exp)(v_set1(x[t]) - m));
        const real e_t = lanes[0], others_of_t = x[t] == top[n] ? S : 1 + (S - e_t);
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vec e = R(v_exp)(R(load_lanes)(x + (i), n) - m) * of_exp;                                  \
        if (rest) e = v_fnma(d, R(load_lanes)(rest + (i), n), e);                                  \
        R(store_lanes)(d_x + (i), e, n);                                                           \
    } while (0)
        FOR_EACH_VECTOR(0, c->classes, STEP);
#undef STEP
        d_x[t] = scale * ((real)c->spread * e_t - hit[n] * others_of_t);
        if (rest) d_x[t] -= d_loss[n] * rest[t];
    }
}

/* An exponential is worth several elements of simpler work. */
VEC_INLINE int R(cross_entropy_threads)(const rk_cross_entropy *c)
{
    return threads_for((int)min_idx(c->n_threads, c->rows), 4.0 * (double)c->rows * (double)c->classes);
}

static void R(cross_entropy_forward)(const rk_cross_entropy *c)
{
    rk_parallel(R(cross_entropy_threads)(c), R(cross_entropy_forward_task), (void *)c);
}

static void R(cross_entropy_backward)(const rk_cross_entropy *c)
{
    rk_parallel(R(cross_entropy_threads)(c), R(cross_entropy_backward_task), (void *)c);
}
