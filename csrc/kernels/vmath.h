/*
 * exp, tanh, sigmoid and logarithms of a vector, accurate over the whole range.
 *
 * One reduction serves the first three: x = n ln2 + r and
 *     expm1(r) = r + r^2 q(r),  q a minimax polynomial on [-ln2/2, 3 ln2/4] with q(0) = 1/2,
 * whose relative error is 2^-29 (float), 2^-63 (double).
 *
 *     exp(x)     = 2^n (1 + expm1(r)),        r in [-ln2/2, ln2/2]
 *     tanh(x)    = sign(x) m / (m + 2),       m = expm1(2|x|) = 2^n expm1(r) + (2^n - 1)
 *     sigmoid(x) = (x < 0 ? e : 1) / (1 + e), e = exp(-|x|)
 *
 * For tanh, r lies in [-ln2/4, 3 ln2/4], so that the sum for m never cancels badly. ln2 is split in
 * two so that n times its upper part is exact with or without a fused multiply-add.
 *
 * A logarithm takes x = 2^k (1 + f) with 1 + f between sqrt(1/2) and sqrt(2), and
 *     log(1 + f) = 2 atanh(s) = f - (f^2/2 - s (f^2/2 + s^2 g(s^2))),   s = f / (2 + f)
 * with g a minimax polynomial, whose relative error is 2^-29 (float), 2^-50 (double): of the result,
 * 2^-35 and 2^-57.
 *
 * NaN gives NaN, and +-inf, +-0 and subnormals give what the function's limit says.
 */

#if REAL_BITS == 32
#define EXPM1_TERMS 6
static const float R(expm1_q)[EXPM1_TERMS] = {
    0x1p-1f, 0x1.555564p-3f, 0x1.5554f2p-5f, 0x1.10fa54p-7f, 0x1.6d3274p-10f, 0x1.c0632ap-13f,
};
#define LOG_TERMS 4
static const float R(log_g)[LOG_TERMS] = {0x1.555556p-1f, 0x1.9999fp-2f, 0x1.2459f8p-2f, 0x1.de4a18p-3f};
#define ROOT_OF_HALF 0x1.6a09e6p-1f
#define MANTISSA_BITS 23
#define ROUNDING_CONSTANT 0x1.8p23f
#define LOG2E 0x1.715476p0f
#define LN2_UPPER 0x1.63p-1f
#define LN2_LOWER -0x1.bd0106p-13f
#define EXP_IS_INF_ABOVE 89.0f
#define EXP_IS_ZERO_BELOW -104.0f
#define TANH_IS_ONE_ABOVE 9.1f
#else
#define EXPM1_TERMS 12
static const double R(expm1_q)[EXPM1_TERMS] = {
    0x1p-1, 0x1.5555555555555p-3, 0x1.5555555555546p-5,
    0x1.111111111137dp-7, 0x1.6c16c16c1da3ap-10, 0x1.a01a019ec0442p-13,
    0x1.a01a01816e589p-16, 0x1.71de3fc6c6026p-19, 0x1.27e52840e9427p-22,
    0x1.ae4fe7fb8de85p-26, 0x1.1f0314918cd7ap-29, 0x1.7e479c0aaacd1p-33,
};
#define LOG_TERMS 7
static const double R(log_g)[LOG_TERMS] = {
    0x1.5555555555558p-1, 0x1.999999999498bp-2, 0x1.2492492ef65eap-2, 0x1.c71c619cd719dp-3,
    0x1.7463110df4fb5p-3, 0x1.39f285f0288c7p-3, 0x1.2be91e0cc04bfp-3,
};
#define ROOT_OF_HALF 0x1.6a09e667f3bcdp-1
#define MANTISSA_BITS 52
#define ROUNDING_CONSTANT 0x1.8p52
#define LOG2E 0x1.71547652b82fep0
#define LN2_UPPER 0x1.62e42feep-1
#define LN2_LOWER 0x1.a39ef35793c76p-33
#define EXP_IS_INF_ABOVE 710.0
#define EXP_IS_ZERO_BELOW -746.0
#define TANH_IS_ONE_ABOVE 19.1
#endif

VEC_INLINE vec R(choose)(veci mask, vec a, vec b) { return (vec)((mask & (veci)a) | (~mask & (veci)b)); }

typedef struct {
    vec expm1_r; /* expm1(r) */
    vec n;       /* the power of two */
    vec n_bits;  /* n + the rounding constant: its low bits are n as an integer */
} R(reduced);

/* `lean` moves the interval of r: it is [-ln2/2, ln2/2] plus lean * ln2. */
VEC_INLINE R(reduced) R(reduce)(vec x, real lean)
{
    R(reduced) out;
    vec rounding = v_set1(ROUNDING_CONSTANT);
    out.n_bits = v_fma(x, v_set1(LOG2E), v_set1(-lean)) + rounding;
    out.n = out.n_bits - rounding;
    vec r = v_fnma(out.n, v_set1(LN2_UPPER), x);
    r = v_fnma(out.n, v_set1(LN2_LOWER), r);
    vec q = v_set1(R(expm1_q)[EXPM1_TERMS - 1]);
    for (int i = EXPM1_TERMS - 2; i >= 0; i--) q = v_fma(q, r, v_set1(R(expm1_q)[i]));
    out.expm1_r = v_fma(r * r, q, r);
    return out;
}

/* numerator / (b + m), b a constant no greater than 2 and m >= 0. In double, with a fused
   multiply-add, the rounding of the sum and of the quotient are made good, which halves the error. */
VEC_INLINE vec R(quotient)(vec numerator, vec m, real b)
{
    vec sum = m + v_set1(b);
#if REAL_BITS == 64 && VEC_HAS_FMA
    vec lost = m - (sum - v_set1(b));
    vec inverse = v_set1(1) / sum;
    vec q = numerator * inverse;
    vec rest = v_fnma(q, lost, v_fnma(q, sum, numerator));
    return v_fma(rest, inverse, q);
#else
    return numerator / sum;
#endif
}

VEC_INLINE vec R(v_exp)(vec x)
{
    x = v_min(v_set1(EXP_IS_INF_ABOVE), v_max(v_set1(EXP_IS_ZERO_BELOW), x));
    R(reduced) e = R(reduce)(x, 0);
    return v_scale(v_set1(1) + e.expm1_r, e.n);
}

VEC_INLINE vec R(v_tanh)(vec x)
{
    vec a = v_min(v_set1(TANH_IS_ONE_ABOVE), v_abs(x));
    R(reduced) e = R(reduce)(a + a, (real)0.25);
    /* 2^n by shifting n into the exponent: n is small here and not negative. */
    vec power = (vec)(((veci)e.n_bits << MANTISSA_BITS) + (veci)v_set1(1));
    vec m = v_fma(power, e.expm1_r, power - v_set1(1));
    return v_copysign(R(quotient)(m, m, 2), x);
}

VEC_INLINE vec R(v_sigmoid)(vec x)
{
    vec a = v_min(v_set1(-(EXP_IS_ZERO_BELOW)), v_abs(x));
    R(reduced) r = R(reduce)(-a, 0);
    vec e = v_scale(v_set1(1) + r.expm1_r, r.n);
    return R(quotient)(v_if_negative(x, e, v_set1(1)), e, 1);
}

/* log(2^scale (u + lost)) for a normal u > 0. `lost` is what rounding took from u, and `less_one` is u + lost - 1,
   exactly so where u is near 1. */
VEC_INLINE vec R(log_of)(vec u, vec lost, vec less_one, vec scale)
{
    veci k_bits = ((veci)u - (veci)v_set1(ROOT_OF_HALF)) >> MANTISSA_BITS;
    veci near_one = k_bits == 0;
    vec f = R(choose)(near_one, less_one, (vec)((veci)u - (k_bits << MANTISSA_BITS)) - v_set1(1));
    lost = R(choose)(near_one, v_set1(0), lost / u);
    vec k = (vec)(k_bits + (veci)v_set1(ROUNDING_CONSTANT)) - v_set1(ROUNDING_CONSTANT) + scale;
    vec half = v_set1((real)0.5) * f * f, s = f / (v_set1(2) + f), z = s * s;
    vec g = v_set1(R(log_g)[LOG_TERMS - 1]);
    for (int i = LOG_TERMS - 2; i >= 0; i--) g = v_fma(g, z, v_set1(R(log_g)[i]));
    vec rest = s * (half + z * g) + (k * v_set1(LN2_LOWER) + lost);
    return k * v_set1(LN2_UPPER) - ((half - rest) - f);
}

/* What a logarithm is of `x`, where that is `zero` or below, infinite or no number. */
VEC_INLINE vec R(log_at_end)(vec x, vec zero)
{
    vec inf = v_set1((real)INFINITY);
    return R(choose)((veci)(x < zero), inf - inf, R(choose)((veci)(x == zero), -inf, x));
}

VEC_INLINE vec R(v_log)(vec x)
{
    const real up = REAL_BITS == 32 ? (real)0x1p32 : (real)0x1p64;
    veci inside = (veci)(x > v_set1(0)) & (veci)(x < v_set1((real)INFINITY));
    vec u = R(choose)(inside, x, v_set1(1));
    veci is_small = (veci)(u < v_set1(1 / up));
    u = R(choose)(is_small, u * v_set1(up), u);
    vec scale = R(choose)(is_small, v_set1(REAL_BITS == 32 ? -32 : -64), v_set1(0));
    vec y = R(log_of)(u, v_set1(0), u - v_set1(1), scale);
    return R(choose)(inside, y, R(log_at_end)(x, v_set1(0)));
}

VEC_INLINE vec R(v_log1p)(vec x)
{
    vec one = v_set1(1);
    veci inside = (veci)(x > -one) & (veci)(x < v_set1((real)INFINITY));
    vec v = R(choose)(inside, x, v_set1(0)), u = one + v;
    vec lost = R(choose)((veci)(v > one), one - (u - v), v - (u - one));
    vec y = R(log_of)(u, lost, v, v_set1(0));
    /* Also keeps the sign of zero. */
    y = R(choose)((veci)(v_abs(x) < v_set1(REAL_BITS == 32 ? (real)0x1p-25 : (real)0x1p-54)), x, y);
    return R(choose)(inside, y, R(log_at_end)(x, -one));
}

#undef EXPM1_TERMS
#undef LOG_TERMS
#undef ROOT_OF_HALF
#undef MANTISSA_BITS
#undef ROUNDING_CONSTANT
#undef LOG2E
#undef LN2_UPPER
#undef LN2_LOWER
#undef EXP_IS_INF_ABOVE
#undef EXP_IS_ZERO_BELOW
#undef TANH_IS_ONE_ABOVE

/* The same functions over arrays. */
#define DEFINE_MAP(name)                                                                           \
    static void R(map_##name)(const void *in, void *out, idx n)                                    \
    {                                                                                              \
        const real *x = in;                                                                        \
        real *y = out;                                                                             \
        idx i = 0;                                                                                 \
        for (; i + VL <= n; i += VL) v_store(y + i, R(v_##name)(v_load(x + i)));                   \
        if (i < n) v_store_n(y + i, R(v_##name)(v_load_n(x + i, n - i)), n - i);                   \
    }
DEFINE_MAP(exp)
DEFINE_MAP(tanh)
DEFINE_MAP(sigmoid)
DEFINE_MAP(log)
DEFINE_MAP(log1p)
#undef DEFINE_MAP
