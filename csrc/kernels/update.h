/*
 * Optimisers, over all parameters in one pass. For each element, with gradient g:
 *
 * sgd: c = (decay, keep, gain, ahead, rate), state = (b: optional)
 *     g += decay p                       where decay is not 0
 *     b = keep b + gain g                where there is b; d = b, or b ahead + g where ahead is not 0
 *     p -= rate d                        d = g without b
 * adam: c = (decay, shrink, 1 - beta1, beta2, correction, eps, rate), state = (m, v)
 *     p *= shrink;  g += decay p         where decay is not 0
 *     m += (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g^2
 *     p -= rate m / (sqrt(v) / correction + eps)
 * rmsprop: c = (decay, alpha, eps, momentum, rate), state = (v, a: optional, b: optional)
 *     g += decay p                       where decay is not 0
 *     v = alpha v + (1 - alpha) g^2;  a += (1 - alpha) (g - a)
 *     d = g / (sqrt(v) + eps)            or with a: g / (sqrt(max(v - a^2, 0)) + eps)
 *     p -= rate d                        or with b: b = momentum b + d, p -= rate b
 * adagrad: c = (decay, eps, rate), state = (s)
 *     g += decay p                       where decay is not 0
 *     s += g^2;  p -= rate g / (sqrt(s) + eps)
 *
 * Products and sums are rounded one by one, in the order of the Python path, whose bits these are:
 * memory is the limit here, so that fusing them would gain nothing.
 */

typedef struct {
    const rk_parameters *all;
    idx total;
    void (*range)(const rk_parameter *q, idx from, idx to);
} R(update_run);

/* The parameters are one long row of elements, which the threads share. */
static void R(update_task)(void *arg, int tid, int n_threads)
{
    const R(update_run) *run = arg;
    idx from = share_start(run->total, 4 * VL, tid, n_threads);
    idx to = share_start(run->total, 4 * VL, tid + 1, n_threads);
    idx start = 0;
    for (idx k = 0; k < run->all->count && start < to; k++) {
        const rk_parameter *q = &run->all->parameters[k];
        idx first = from > start ? from - start : 0;
        idx last = min_idx(to - start, q->size);
        if (first < last) run->range(q, first, last);
        start += q->size;
    }
}

static void R(update)(const rk_parameters *all, void (*range)(const rk_parameter *, idx, idx))
{
    R(update_run) run = {all, 0, range};
    for (idx k = 0; k < all->count; k++) run.total += all->parameters[k].size;
    rk_parallel(threads_for(all->n_threads, (double)run.total), R(update_task), &run);
}

/* The gradient with weight decay; g itself without, which 0 p would not leave alone where p is inf. */
VEC_INLINE vec R(decayed)(vec g, vec p, real decay)
{
    if (decay == 0) return g;
    return p * v_set1(decay) + g;
}

static void R(sgd_range)(const rk_parameter *q, idx from, idx to)
{
    real *p = q->p, *b = q->state[0];
    const real *d_p = q->d_p;
    const real decay = (real)q->c[0], ahead = (real)q->c[3];
    const vec keep = v_set1((real)q->c[1]), gain = v_set1((real)q->c[2]);
    const vec rate = v_set1((real)q->c[4]);
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vec value = R(load_lanes)(p + (i), n);                                                     \
        vec g = R(decayed)(R(load_lanes)(d_p + (i), n), value, decay);                             \
        vec change = g;                                                                            \
        if (b) {                                                                                   \
            change = R(load_lanes)(b + (i), n) * keep + g * gain;                                  \
            R(store_lanes)(b + (i), change, n);                                                    \
            if (ahead != 0) change = change * v_set1(ahead) + g;                                   \
        }                                                                                          \
        R(store_lanes)(p + (i), value - change * rate, n);                                         \
    } while (0)
    FOR_EACH_VECTOR(from, to, STEP);
#undef STEP
}

static void R(adam_range)(const rk_parameter *q, idx from, idx to)
{
    real *p = q->p, *m = q->state[0], *v = q->state[1];
    const real *d_p = q->d_p;
    const real decay = (real)q->c[0];
    const vec shrink = v_set1((real)q->c[1]), toward = v_set1((real)q->c[2]);
    const vec keep = v_set1((real)q->c[3]), gain = v_set1((real)(1 - q->c[3]));
    const vec correction = v_set1((real)q->c[4]), eps = v_set1((real)q->c[5]);
    const vec rate = v_set1((real)q->c[6]);
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vec value = R(load_lanes)(p + (i), n) * shrink;                                            \
        vec g = R(decayed)(R(load_lanes)(d_p + (i), n), value, decay);                             \
        vec mean = R(load_lanes)(m + (i), n);                                                      \
        mean += (g - mean) * toward;                                                               \
        vec square = R(load_lanes)(v + (i), n) * keep + g * gain * g;                              \
        R(store_lanes)(m + (i), mean, n);                                                          \
        R(store_lanes)(v + (i), square, n);                                                        \
        vec change = mean / (v_sqrt(square) / correction + eps);                                   \
        R(store_lanes)(p + (i), value - change * rate, n);                                         \
    } while (0)
    FOR_EACH_VECTOR(from, to, STEP);
#undef STEP
}

static void R(rmsprop_range)(const rk_parameter *q, idx from, idx to)
{
    real *p = q->p, *v = q->state[0], *a = q->state[1], *b = q->state[2];
    const real *d_p = q->d_p;
    const real decay = (real)q->c[0];
    const vec keep = v_set1((real)q->c[1]), gain = v_set1((real)(1 - q->c[1]));
    const vec eps = v_set1((real)q->c[2]), momentum = v_set1((real)q->c[3]);
    const vec rate = v_set1((real)q->c[4]);
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vec value = R(load_lanes)(p + (i), n);                                                     \
        vec g = R(decayed)(R(load_lanes)(d_p + (i), n), value, decay);                             \
        vec square = R(load_lanes)(v + (i), n) * keep + g * gain * g;                              \
        R(store_lanes)(v + (i), square, n);                                                        \
        if (a) {                                                                                   \
            vec mean = R(load_lanes)(a + (i), n);                                                  \
            mean += (g - mean) * gain;                                                             \
            R(store_lanes)(a + (i), mean, n);                                                      \
            square = v_max(v_set1(0), square - mean * mean);                                       \
        }                                                                                          \
        vec change = g / (v_sqrt(square) + eps);                                                   \
        if (b) {                                                                                   \
            change = R(load_lanes)(b + (i), n) * momentum + change;                                \
            R(store_lanes)(b + (i), change, n);                                                    \
        }                                                                                          \
        R(store_lanes)(p + (i), value - change * rate, n);                                         \
    } while (0)
    FOR_EACH_VECTOR(from, to, STEP);
#undef STEP
}

static void R(adagrad_range)(const rk_parameter *q, idx from, idx to)
{
    real *p = q->p, *s = q->state[0];
    const real *d_p = q->d_p;
    const real decay = (real)q->c[0];
    const vec eps = v_set1((real)q->c[1]), rate = v_set1((real)q->c[2]);
#define STEP(i, n)                                                                                 \
    do {                                                                                           \
        vec value = R(load_lanes)(p + (i), n);                                                     \
        vec g = R(decayed)(R(load_lanes)(d_p + (i), n), value, decay);                             \
        vec total = R(load_lanes)(s + (i), n) + g * g;                                             \
        R(store_lanes)(s + (i), total, n);                                                         \
        R(store_lanes)(p + (i), value - g / (v_sqrt(total) + eps) * rate, n);                      \
    } while (0)
    FOR_EACH_VECTOR(from, to, STEP);
#undef STEP
}

#define DEFINE_RULE(rule)                                                                          \
    static void R(rule##_update)(const rk_parameters *all) { R(update)(all, R(rule##_range)); }
DEFINE_RULE(sgd)
DEFINE_RULE(adam)
DEFINE_RULE(rmsprop)
DEFINE_RULE(adagrad)
#undef DEFINE_RULE

static const rk_rule R(rules)[] = {
    {"sgd", 1, 5, 1u << 0, R(sgd_update)},
    {"adam", 2, 7, 0, R(adam_update)},
    {"rmsprop", 3, 5, 1u << 1 | 1u << 2, R(rmsprop_update)},
    {"adagrad", 1, 3, 0, R(adagrad_update)},
    {0},
};
