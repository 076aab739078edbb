/*
 * Connectionist temporal classification (Graves et al., ICML 2006): the forward and backward
 * recursions over all alignments of a labelling with the frames of a row, in log space.
 *
 * A row has labels l_0 .. l_{S-1}, and the states of an alignment are its blanks b_0 .. b_S and its
 * labels y_0 .. y_{S-1}; b_i stands before y_i. With x_t the log probabilities of frame t,
 *     a_t(b_i) = x_t(blank) + log(exp a_{t-1}(b_i) + exp a_{t-1}(y_{i-1}))
 *     a_t(y_i) = x_t(l_i) + log(exp a_{t-1}(y_i) + exp a_{t-1}(b_i) [+ exp a_{t-1}(y_{i-1})])
 * the last term only where l_i is not l_{i-1}, from a_{-1} = 0 in b_0 and log 0 elsewhere; the loss is
 * -log(exp a_{T-1}(b_S) + exp a_{T-1}(y_{S-1})). The other way
 *     c_t(b_i) = log(exp (c_{t+1}(b_i) + x_{t+1}(blank)) + exp (c_{t+1}(y_i) + x_{t+1}(l_i)))
 * and so on, and a state's share of frame t is exp(a_t + c_t) over the sum of all states' of that frame:
 *     d_x_t(k) = -d_loss (sum of the shares of the states that show k)
 *
 * Both recursions take off the largest of the frame before at each frame, so that the numbers stay small
 * and a long row loses no digits; what was taken off is added up in double. The shares need none of it.
 *
 * A row belongs to one thread. Blanks and labels are two arrays of whole vectors each, padded with log 0,
 * from which nothing but log 0 ever comes. Frames past a row's length and labels past its own are not
 * read, nor are log probabilities of anything but blank and its labels. A NaN or +inf among those makes
 * the loss NaN.
 */

#if REAL_BITS == 32
#define LOG1P_TERMS 7
static const float R(log1p_q)[LOG1P_TERMS] = {
    0x1.555556p-2f, 0x1.999630p-3f, 0x1.249fc4p-3f, 0x1.c4a45ap-4f,
    0x1.8f7082p-4f, 0x1.4f2f8ep-5f, 0x1.4015d6p-3f,
};
#define LOWEST (-3.4028234663852886e38f)
#else
#define LOG1P_TERMS 14
static const double R(log1p_q)[LOG1P_TERMS] = {
    0x1.5555555555555p-2, 0x1.9999999999ad1p-3, 0x1.249249247e911p-3, 0x1.c71c71d6cc5d1p-4,
    0x1.745d1406b992ep-4, 0x1.3b1417e6e07dfp-4, 0x1.1108e26d64a6dp-4, 0x1.e2c342108eb1fp-5,
    0x1.a6c53053bf30cp-5, 0x1.bdcd3cefa72cep-5, 0x1.92cc88a36f708p-7, 0x1.15aa7698edf42p-3,
    -0x1.27f230f3831a3p-3, 0x1.b016cba23eee4p-3,
};
#define LOWEST (-1.7976931348623157e308)
#endif

/* log(1 + r) for r from 0 to 2: with s = r / (2 + r) it is r - s (r - 2 s^2 q(s^2)), where q is a minimax
   polynomial of (atanh(s) / s - 1) / s^2, whose error is 2^-29 (float), 2^-57 (double). */
VEC_INLINE vec R(v_log1p_to_2)(vec r)
{
    const vec s = r / (r + v_set1(2)), w = s * s;
    vec q = v_set1(R(log1p_q)[LOG1P_TERMS - 1]);
    for (int i = LOG1P_TERMS - 2; i >= 0; i--) q = v_fma(q, w, v_set1(R(log1p_q)[i]));
    return v_fnma(s, v_fnma(w + w, q, r), r);
}

/* log(exp a + exp b); nothing but numbers and log 0 comes here. */
VEC_INLINE vec R(log_sum_2)(vec a, vec b)
{
    const vec most = v_max(a, b);
    return most + R(v_log1p_to_2)(R(v_exp)(v_min(a, b) - v_max(most, v_set1(LOWEST))));
}

VEC_INLINE vec R(log_sum_3)(vec a, vec b, vec c)
{
    const vec upper = v_max(a, b), lower = v_min(a, b), most = v_max(upper, c);
    const vec base = v_max(most, v_set1(LOWEST));
    return most + R(v_log1p_to_2)(R(v_exp)(v_max(lower, v_min(upper, c)) - base) +
                                  R(v_exp)(v_min(lower, c) - base));
}
#undef LOG1P_TERMS

VEC_INLINE real R(largest_lane)(vec v)
{
    real lanes[VL];
    v_store(lanes, v);
    for (int half = VL / 2; half; half /= 2)
        for (int i = 0; i < half; i++) lanes[i] = lanes[i + half] > lanes[i] ? lanes[i + half] : lanes[i];
    return lanes[0] > LOWEST ? lanes[0] : LOWEST;
}

/* The parts of a thread's work space, each with room for one vector of padding behind its labels or
   blanks. */
typedef struct {
    real *shown;      /* (width) log probabilities of a frame's labels */
    real *no_skip;    /* (width) 0 where a label may follow the one before it at once, else log 0 */
    real *states[2];  /* (2 width) each */
} R(ctc_space);

VEC_INLINE idx R(ctc_space_size)(idx labels) { return 6 * (rk_ctc_width(labels) + RK_CTC_GRAIN); }

static size_t R(ctc_workspace)(const rk_ctc *c)
{
    idx threads = min_idx(c->n_threads, c->N);
    return (size_t)(threads < 1 ? 1 : threads) * (size_t)R(ctc_space_size)(c->labels) * sizeof(real);
}

VEC_INLINE void R(fill)(real *p, idx n, real value)
{
    for (idx i = 0; i < n; i++) p[i] = value;
}

/* The space of one thread, set up for a row: all of it log 0 but for the labels that may be skipped to. */
static R(ctc_space) R(ctc_prepare)(const rk_ctc *c, int tid, idx n)
{
    const idx part = rk_ctc_width(c->labels) + RK_CTC_GRAIN;
    real *p = (real *)c->workspace + tid * R(ctc_space_size)(c->labels);
    R(ctc_space) space = {p, p + part, {p + 2 * part, p + 4 * part}};
    const int64_t *label = c->target + n * c->labels;
    R(fill)(p, 6 * part, -(real)INFINITY);
    for (idx i = 1; i < c->target_length[n]; i++)
        if (label[i] != label[i - 1]) space.no_skip[i] = 0;
    return space;
}

/* The log probabilities that a frame gives to the labels; 0 where one is no such number. */
static int R(ctc_gather)(const real *x, const int64_t *label, idx n, idx blank, real *shown)
{
    int good = x[blank] < (real)INFINITY;
    for (idx i = 0; i < n; i++) {
        shown[i] = x[label[i]];
        good &= shown[i] < (real)INFINITY;
    }
    return good;
}

static real R(ctc_forward_row)(const rk_ctc *c, int tid, idx n)
{
    const idx labels = c->target_length[n], width = rk_ctc_width(labels);
    const idx stride = 2 * rk_ctc_width(c->labels);
    const int64_t *label = c->target + n * c->labels;
    R(ctc_space) space = R(ctc_prepare)(c, tid, n);
    real *before = space.states[0], *alphas = NULL, top = 0;
    double taken_off = 0;
    if (c->alphas) alphas = (real *)c->alphas + n * c->T * stride;
    before[0] = 0;
    for (idx t = 0; t < c->input_length[n]; t++) {
        const real *x = (const real *)c->x + (t * c->N + n) * c->C;
        real *now = alphas ? alphas + t * stride : space.states[(t + 1) % 2];
        if (!R(ctc_gather)(x, label, labels, c->blank, space.shown)) return (real)NAN;
        const vec blank = v_set1(x[c->blank]), off = v_set1(top);
        vec most = v_set1(-(real)INFINITY);
        taken_off += top;
        for (idx i = 0; i < width; i += VL) {
            /* Before the first label stands the padding of the blanks. */
            const vec b = v_load(before + i), y = v_load(before + width + i);
            const vec y_before = v_load(before + width + i - 1);
            const vec to_blank = R(log_sum_2)(b, y_before) - off + blank;
            const vec to_label = R(log_sum_3)(y, b, y_before + v_load(space.no_skip + i)) - off +
                                 v_load(space.shown + i);
            v_store(now + i, to_blank);
            v_store(now + width + i, to_label);
            most = v_max(v_max(to_blank, to_label), most);
        }
        top = R(largest_lane)(most);
        before = now;
    }
    real lanes[VL];
    const real last = labels ? before[width + labels - 1] : -(real)INFINITY;
    v_store(lanes, R(log_sum_2)(v_set1(before[labels]), v_set1(last)));
    return (real)-(taken_off + lanes[0]);
}

static void R(ctc_forward_task)(void *arg, int tid, int n_threads)
{
    const rk_ctc *c = arg;
    /* Every n_threads-th row: batches that are sorted by length share the work more evenly so. */
    for (idx n = tid; n < c->N; n += n_threads) ((real *)c->loss)[n] = R(ctc_forward_row)(c, tid, n);
}

static void R(ctc_backward_row)(const rk_ctc *c, int tid, idx n, real d_loss)
{
    const idx labels = c->target_length[n], width = rk_ctc_width(labels);
    const idx stride = 2 * rk_ctc_width(c->labels), part = width + RK_CTC_GRAIN;
    const int64_t *label = c->target + n * c->labels;
    R(ctc_space) space = R(ctc_prepare)(c, tid, n);
    real *blanks = space.states[0], *of_labels = blanks + part, *share = space.states[1], top = 0;
    blanks[labels] = 0; /* behind the last frame: both the last blank and the last label lead there */
    for (idx t = c->input_length[n] - 1; t >= 0; t--) {
        const idx row = t * c->N + n;
        const real *x = (const real *)c->x + row * c->C;
        const real *alphas = (const real *)c->alphas + (n * c->T + t) * stride;
        real *d_x = (real *)c->d_x + row * c->C;
        R(ctc_gather)(x, label, labels, c->blank, space.shown);
        const vec blank = v_set1(x[c->blank]), off = v_set1(top);
        vec most = v_set1(-(real)INFINITY), most_share = most;
        for (idx i = 0; i < width; i += VL) {
            /* In place: what follows state i is read before anything is written behind it. */
            const vec b = v_load(blanks + i), b_next = v_load(blanks + i + 1);
            const vec y = v_load(of_labels + i);
            const vec y_next = v_load(of_labels + i + 1) + v_load(space.no_skip + i + 1);
            const vec from_blank = R(log_sum_2)(b, y) - off;
            const vec from_label = R(log_sum_3)(y, b_next, y_next) - off;
            const vec of_b = from_blank + v_load(alphas + i);
            const vec of_y = from_label + v_load(alphas + width + i);
            const vec b_now = from_blank + blank, y_now = from_label + v_load(space.shown + i);
            v_store(share + i, of_b);
            v_store(share + width + i, of_y);
            v_store(blanks + i, b_now);
            v_store(of_labels + i, y_now);
            most_share = v_max(v_max(of_b, of_y), most_share);
            most = v_max(v_max(b_now, y_now), most);
        }
        top = R(largest_lane)(most);
        const vec base = v_set1(R(largest_lane)(most_share));
        vec sum_b = v_set1(0), sum_y = sum_b;
        for (idx i = 0; i < width; i += VL) {
            const vec y = R(v_exp)(v_load(share + width + i) - base);
            sum_b += R(v_exp)(v_load(share + i) - base);
            sum_y += y;
            v_store(share + width + i, y);
        }
        const real of_blank = v_sum(sum_b);
        const real scale = -d_loss / (of_blank + v_sum(sum_y));
        memset(d_x, 0, (size_t)c->C * sizeof(real));
        d_x[c->blank] = scale * of_blank;
        for (idx i = 0; i < labels; i++) d_x[label[i]] += scale * share[width + i];
    }
}

static void R(ctc_backward_task)(void *arg, int tid, int n_threads)
{
    const rk_ctc *c = arg;
    for (idx n = tid; n < c->N; n += n_threads) {
        const real d_loss = ((const real *)c->d_loss)[n], loss = ((const real *)c->loss)[n];
        idx constant_from = c->input_length[n];
        if (d_loss == 0) constant_from = 0;
        for (idx t = constant_from; t < c->T; t++)
            memset((real *)c->d_x + (t * c->N + n) * c->C, 0, (size_t)c->C * sizeof(real));
        if (loss - loss == 0 && constant_from) R(ctc_backward_row)(c, tid, n, d_loss);
        else
            for (idx t = 0; t < constant_from; t++)
                R(fill)((real *)c->d_x + (t * c->N + n) * c->C, c->C, (real)NAN);
    }
}
#undef LOWEST

/* Each state of a frame costs about as much as a dozen elements of simpler work. */
VEC_INLINE int R(ctc_threads)(const rk_ctc *c)
{
    double states = (double)c->T * (double)c->N * 2.0 * (double)rk_ctc_width(c->labels);
    return threads_for((int)min_idx(c->n_threads, c->N), 12.0 * states);
}

static void R(ctc_forward)(const rk_ctc *c)
{
    rk_parallel(R(ctc_threads)(c), R(ctc_forward_task), (void *)c);
}

static void R(ctc_backward)(const rk_ctc *c)
{
    rk_parallel(R(ctc_threads)(c), R(ctc_backward_task), (void *)c);
}
