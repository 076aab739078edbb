/*
 * The operations of a program (rk_op) on one row.
 *
 * Elementwise operations work on vectors, the last one in part. What NumPy says of NaN holds: maximum and
 * minimum hand it on, comparisons with it are false. Truth is 1 and 0.
 */

VEC_INLINE vec R(truth)(veci mask) { return (vec)(mask & (veci)v_set1(1)); }

VEC_INLINE veci R(is_true)(vec a) { return (veci)(a != v_set1(0)); }

/* Functions that have no vector form here: one lane after the other. */
#if REAL_BITS == 32
#define LIBM(name) name##f
#else
#define LIBM(name) name
#endif
#define DEFINE_BY_LANES(name, expression)                                                          \
    static vec R(v_##name)(vec v)                                                                  \
    {                                                                                              \
        for (int i = 0; i < VL; i++) {                                                             \
            real x = v[i];                                                                         \
            v[i] = expression;                                                                     \
        }                                                                                          \
        return v;                                                                                  \
    }
DEFINE_BY_LANES(floor, LIBM(floor)(x))
DEFINE_BY_LANES(expm1, LIBM(expm1)(x))
DEFINE_BY_LANES(sin, LIBM(sin)(x))
DEFINE_BY_LANES(cos, LIBM(cos)(x))
#undef DEFINE_BY_LANES

static vec R(v_power)(vec a, vec b)
{
    for (int i = 0; i < VL; i++) a[i] = LIBM(pow)(a[i], b[i]);
    return a;
}
#undef LIBM

#define V(x) v_set1((real)(x))
VEC_INLINE vec R(u_copy)(vec a) { return a; }
VEC_INLINE vec R(u_neg)(vec a) { return -a; }
VEC_INLINE vec R(u_abs)(vec a) { return v_abs(a); }
VEC_INLINE vec R(u_sign)(vec a)
{
    vec one = v_copysign(V(1), a);
    return R(choose)((veci)(a != a), a, R(choose)(R(is_true)(a), one, V(0)));
}
VEC_INLINE vec R(u_floor)(vec a) { return R(v_floor)(a); }
VEC_INLINE vec R(u_square)(vec a) { return a * a; }
VEC_INLINE vec R(u_sqrt)(vec a) { return v_sqrt(a); }
VEC_INLINE vec R(u_exp)(vec a) { return R(v_exp)(a); }
VEC_INLINE vec R(u_expm1)(vec a) { return R(v_expm1)(a); }
VEC_INLINE vec R(u_log)(vec a) { return R(v_log)(a); }
VEC_INLINE vec R(u_log1p)(vec a) { return R(v_log1p)(a); }
VEC_INLINE vec R(u_sin)(vec a) { return R(v_sin)(a); }
VEC_INLINE vec R(u_cos)(vec a) { return R(v_cos)(a); }
VEC_INLINE vec R(u_tanh)(vec a) { return R(v_tanh)(a); }
VEC_INLINE vec R(u_sigmoid)(vec a) { return R(v_sigmoid)(a); }
VEC_INLINE vec R(u_relu)(vec a) { return v_max(V(0), a); }
VEC_INLINE vec R(u_softplus)(vec a) { return v_max(V(0), a) + R(v_log1p)(R(v_exp)(-v_abs(a))); }
VEC_INLINE vec R(u_logical_not)(vec a) { return R(truth)((veci)(a == V(0))); }
VEC_INLINE vec R(u_isfinite)(vec a) { return R(truth)((veci)(a - a == V(0))); }
VEC_INLINE vec R(u_isnan)(vec a) { return R(truth)((veci)(a != a)); }

VEC_INLINE vec R(b_add)(vec a, vec b) { return a + b; }
VEC_INLINE vec R(b_sub)(vec a, vec b) { return a - b; }
VEC_INLINE vec R(b_mul)(vec a, vec b) { return a * b; }
VEC_INLINE vec R(b_div)(vec a, vec b) { return a / b; }
/* v_max and v_min give b where either is NaN. */
VEC_INLINE vec R(b_maximum)(vec a, vec b) { return R(choose)((veci)(a != a), a, v_max(a, b)); }
VEC_INLINE vec R(b_minimum)(vec a, vec b) { return R(choose)((veci)(a != a), a, v_min(a, b)); }
VEC_INLINE vec R(b_power)(vec a, vec b) { return R(v_power)(a, b); }
VEC_INLINE vec R(b_equal)(vec a, vec b) { return R(truth)((veci)(a == b)); }
VEC_INLINE vec R(b_not_equal)(vec a, vec b) { return R(truth)((veci)(a != b)); }
VEC_INLINE vec R(b_less)(vec a, vec b) { return R(truth)((veci)(a < b)); }
VEC_INLINE vec R(b_less_equal)(vec a, vec b) { return R(truth)((veci)(a <= b)); }
VEC_INLINE vec R(b_greater)(vec a, vec b) { return R(truth)((veci)(a > b)); }
VEC_INLINE vec R(b_greater_equal)(vec a, vec b) { return R(truth)((veci)(a >= b)); }
VEC_INLINE vec R(b_logical_and)(vec a, vec b) { return R(truth)(R(is_true)(a) & R(is_true)(b)); }
VEC_INLINE vec R(b_logical_or)(vec a, vec b) { return R(truth)(R(is_true)(a) | R(is_true)(b)); }
VEC_INLINE vec R(b_logical_xor)(vec a, vec b) { return R(truth)(R(is_true)(a) ^ R(is_true)(b)); }
/* a (1 - b^2) and a b (1 - b): the gradients of y = tanh x and y = sigmoid x, of d_y and y */
VEC_INLINE vec R(b_tanh_gradient)(vec a, vec b) { return a * v_fnma(b, b, V(1)); }
VEC_INLINE vec R(b_sigmoid_gradient)(vec a, vec b) { return a * (b * (V(1) - b)); }

VEC_INLINE vec R(t_where)(vec a, vec b, vec c) { return R(choose)(R(is_true)(a), b, c); }
VEC_INLINE vec R(t_clip)(vec a, vec b, vec c) { return R(b_minimum)(R(b_maximum)(a, b), c); }
VEC_INLINE vec R(t_muladd)(vec a, vec b, vec c) { return v_fma(a, b, c); }
VEC_INLINE vec R(t_mulsub)(vec a, vec b, vec c) { return v_fnma(a, b, c); }
#undef V

/* Elementwise operations on n elements of rows whose bases, n_bases each, follow each other. An operand has as many
   elements or, where its stride is 0, is one number for all. */
#define BEGIN_ROWS(name)                                                                           \
    static void R(rows_##name)(const rk_instruction *in, real *const *bases, int n_bases, idx n_rows) \
    {                                                                                              \
        const rk_operand *o = in->in;                                                              \
        const idx n = in->size[2];                                                                 \
        for (idx r = 0; r < n_rows; r++, bases += n_bases) {                                       \
            real *out = bases[in->out.base] + in->out.offset;
#define END_ROWS                                                                                   \
    }                                                                                              \
    }
#define OPERAND(i) (bases[o[i].base] + o[i].offset)
#define LOOP(value, of_last)                                                                       \
    do {                                                                                           \
        idx i = 0;                                                                                 \
        for (; i + VL <= n; i += VL) v_store(out + i, value);                                      \
        if (i < n) v_store_n(out + i, of_last, n - i);                                             \
    } while (0)
#define AT(x) v_load((x) + i)
#define LAST(x) v_load_n((x) + i, n - i)

#define DEFINE_UNARY(name)                                                                         \
    BEGIN_ROWS(name)                                                                               \
    const real *a = OPERAND(0);                                                                    \
    if (o[0].stride[2]) {                                                                          \
        LOOP(R(u_##name)(AT(a)), R(u_##name)(LAST(a)));                                            \
    } else {                                                                                       \
        vec all = R(u_##name)(v_set1(*a));                                                         \
        LOOP(all, all);                                                                            \
    }                                                                                              \
    END_ROWS
RK_UNARY_OPS(DEFINE_UNARY)
#undef DEFINE_UNARY

#define DEFINE_BINARY(name)                                                                        \
    BEGIN_ROWS(name)                                                                               \
    const real *a = OPERAND(0), *b = OPERAND(1);                                                   \
    if (o[0].stride[2] && o[1].stride[2]) {                                                        \
        LOOP(R(b_##name)(AT(a), AT(b)), R(b_##name)(LAST(a), LAST(b)));                            \
    } else if (o[0].stride[2]) {                                                                   \
        vec all = v_set1(*b);                                                                      \
        LOOP(R(b_##name)(AT(a), all), R(b_##name)(LAST(a), all));                                  \
    } else if (o[1].stride[2]) {                                                                   \
        vec all = v_set1(*a);                                                                      \
        LOOP(R(b_##name)(all, AT(b)), R(b_##name)(all, LAST(b)));                                  \
    } else {                                                                                       \
        vec all = R(b_##name)(v_set1(*a), v_set1(*b));                                             \
        LOOP(all, all);                                                                            \
    }                                                                                              \
    END_ROWS
RK_BINARY_OPS(DEFINE_BINARY)
#undef DEFINE_BINARY

#define DEFINE_TERNARY(name)                                                                       \
    BEGIN_ROWS(name)                                                                               \
    const real *a = OPERAND(0), *b = OPERAND(1), *c = OPERAND(2);                                  \
    if (o[2].stride[2] && o[0].stride[2] && o[1].stride[2]) {                                      \
        LOOP(R(t_##name)(AT(a), AT(b), AT(c)), R(t_##name)(LAST(a), LAST(b), LAST(c)));            \
    } else if (o[2].stride[2] && o[0].stride[2]) {                                                 \
        vec all = v_set1(*b);                                                                      \
        LOOP(R(t_##name)(AT(a), all, AT(c)), R(t_##name)(LAST(a), all, LAST(c)));                  \
    } else if (o[2].stride[2] && o[1].stride[2]) {                                                 \
        vec all = v_set1(*a);                                                                      \
        LOOP(R(t_##name)(all, AT(b), AT(c)), R(t_##name)(all, LAST(b), LAST(c)));                  \
    } else {                                                                                       \
        for (idx i = 0; i < n; i += VL) {                                                          \
            idx lanes = min_idx(VL, n - i);                                                        \
            vec va = o[0].stride[2] ? R(load_lanes)(a + i, lanes) : v_set1(*a);                    \
            vec vb = o[1].stride[2] ? R(load_lanes)(b + i, lanes) : v_set1(*b);                    \
            vec vc = o[2].stride[2] ? R(load_lanes)(c + i, lanes) : v_set1(*c);                    \
            R(store_lanes)(out + i, R(t_##name)(va, vb, vc), lanes);                               \
        }                                                                                          \
    }                                                                                              \
    END_ROWS
RK_TERNARY_OPS(DEFINE_TERNARY)
#undef DEFINE_TERNARY
#undef BEGIN_ROWS
#undef END_ROWS
#undef OPERAND
#undef LOOP
#undef AT
#undef LAST

typedef void (*R(rows_function))(const rk_instruction *in, real *const *bases, int n_bases, idx n_rows);

#define ROWS_FUNCTION(name) R(rows_##name),
static const R(rows_function) R(rows_functions)[] = {
    RK_UNARY_OPS(ROWS_FUNCTION) RK_BINARY_OPS(ROWS_FUNCTION) RK_TERNARY_OPS(ROWS_FUNCTION)};
#undef ROWS_FUNCTION

enum { R(ELEMENTWISE) = sizeof R(rows_functions) / sizeof R(rows_functions)[0] };

static real R(sum_of_row)(const real *a, idx n)
{
    vec sum[4] = {v_set1(0), v_set1(0), v_set1(0), v_set1(0)};
    idx i = 0;
    for (; i + 4 * VL <= n; i += 4 * VL)
        for (int k = 0; k < 4; k++) sum[k] = sum[k] + v_load(a + i + k * VL);
    for (; i + VL <= n; i += VL) sum[0] = sum[0] + v_load(a + i);
    if (i < n) sum[1] = sum[1] + v_load_n(a + i, n - i);
    return v_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

static real R(dot)(const real *a, idx a_step, const real *b, idx b_step, idx n)
{
    if (a_step == 1 && b_step == 1) {
        vec sum[2] = {v_set1(0), v_set1(0)};
        idx i = 0;
        for (; i + 2 * VL <= n; i += 2 * VL)
            for (int k = 0; k < 2; k++)
                sum[k] = v_fma(v_load(a + i + k * VL), v_load(b + i + k * VL), sum[k]);
        for (; i < n; i += VL) {
            idx lanes = min_idx(VL, n - i);
            sum[0] = v_fma(R(load_lanes)(a + i, lanes), R(load_lanes)(b + i, lanes), sum[0]);
        }
        return v_sum(sum[0] + sum[1]);
    }
    real sum = 0;
    for (idx i = 0; i < n; i++) sum += a[i * a_step] * b[i * b_step];
    return sum;
}

/* out[k] += factor * b[k] */
static void R(add_scaled)(real *out, real factor, const real *b, idx n)
{
    vec f = v_set1(factor);
    idx i = 0;
    for (; i + VL <= n; i += VL) v_store(out + i, v_fma(f, v_load(b + i), v_load(out + i)));
    if (i < n)
        v_store_n(out + i, v_fma(f, v_load_n(b + i, n - i), v_load_n(out + i, n - i)), n - i);
}

static void R(reduce_row)(const rk_instruction *in, real *out, const real *a)
{
    const int32_t *size = in->size, *from = in->in[0].stride, *to = in->out.stride;
    for (idx i = 0; i < size[0]; i++)
        for (idx k = 0; k < size[2]; k++) {
            const real *p = a + i * from[0] + k * from[2];
            real total = *p;
            if (in->op == RK_OP_reduce_sum) {
                if (from[1] == 1) {
                    total = R(sum_of_row)(p, size[1]);
                } else {
                    for (idx j = 1; j < size[1]; j++) total += p[j * from[1]];
                }
            } else {
                for (idx j = 1; j < size[1]; j++) {
                    real x = p[j * from[1]];
                    int wins = in->op == RK_OP_reduce_max ? x > total : x < total;
                    if (wins || x != x) total = x;
                    if (total != total) break;
                }
            }
            out[i * to[0] + k * to[2]] = total;
        }
}

static void R(row_product)(const rk_instruction *in, real *out, const real *a, const real *b)
{
    const int32_t *size = in->size, *to = in->out.stride;
    const int32_t *sa = in->in[0].stride, *sb = in->in[1].stride;
    for (idx i = 0; i < size[0]; i++) {
        real *row = out + i * to[0];
        const real *left = a + i * sa[0];
        if (sb[1] == 1 && to[2] == 1) {
            memset(row, 0, (size_t)size[2] * sizeof(real));
            for (idx j = 0; j < size[1]; j++)
                R(add_scaled)(row, left[j * sa[1]], b + j * sb[0], size[2]);
            continue;
        }
        for (idx k = 0; k < size[2]; k++)
            row[k * to[2]] = R(dot)(left, sa[1], b + k * sb[1], sb[0], size[1]);
    }
}

/* Any operation that is not elementwise, on one row. */
static void R(run_on_row)(const rk_instruction *in, real *const *bases)
{
    real *out = bases[in->out.base] + in->out.offset;
    const rk_operand *o = in->in;
    const real *a = bases[o[0].base] + o[0].offset;
    const int32_t *size = in->size;
    switch (in->op) {
    case RK_OP_row_product: R(row_product)(in, out, a, bases[o[1].base] + o[1].offset); return;
    case RK_OP_gather:
    case RK_OP_fill:
        for (idx i = 0; i < size[0]; i++)
            for (idx j = 0; j < size[1]; j++) {
                real *to = out + i * in->out.stride[0] + j * in->out.stride[1];
                const real *from = a + i * o[0].stride[0] + j * o[0].stride[1];
                for (idx k = 0; k < size[2]; k++)
                    to[k * in->out.stride[2]] =
                        in->op == RK_OP_fill ? 0 : from[k * o[0].stride[2]];
            }
        return;
    default: R(reduce_row)(in, out, a); return;
    }
}

/* An elementwise operation over size[0] * size[1] parts of a row. */
static void R(run_in_parts)(const rk_instruction *in, real *const *bases, int n_bases, idx n_rows)
{
    for (int32_t i = 0; i < in->size[0]; i++)
        for (int32_t j = 0; j < in->size[1]; j++) {
            rk_instruction part = *in;
            part.out.offset += i * in->out.stride[0] + j * in->out.stride[1];
            for (int k = 0; k < 3; k++)
                part.in[k].offset += i * in->in[k].stride[0] + j * in->in[k].stride[1];
            R(rows_functions)[in->op](&part, bases, n_bases, n_rows);
        }
}

/* On rows whose bases, n_bases each, follow each other. */
VEC_INLINE void R(run_operation)(const rk_instruction *in, real *const *bases, int n_bases, idx n_rows)
{
    if (in->op >= (int32_t)R(ELEMENTWISE))
        for (idx r = 0; r < n_rows; r++, bases += n_bases) R(run_on_row)(in, bases);
    else if (in->size[0] == 1 && in->size[1] == 1)
        R(rows_functions)[in->op](in, bases, n_bases, n_rows);
    else
        R(run_in_parts)(in, bases, n_bases, n_rows);
}
