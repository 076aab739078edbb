/*
 * Vectors of float (vf) and double (vd) and what the kernels do with them, for any instruction set.
 *
 * An instruction set's header defines the types
 *     vf, vfi (as many int32 lanes), vd, vdi (as many int64 lanes),  VF_LANES, VD_LANES,
 *     VEC_REGISTERS, VEC_HAS_FMA (whether fma rounds once)
 * and the functions that have an instruction of their own; everything that the compiler's vector
 * operators express (+ - * / << & | on whole vectors) is written with those. Results of every
 * function are the correctly rounded ones of its definition, except `fma` without hardware for it,
 * which rounds twice.
 *
 *     load(p) store(p, v)              unaligned
 *     vf_load_wide(p)                  VD_LANES floats as a vector of doubles
 *     load_n(p, n) store_n(p, v, n)    the first n lanes, 0 < n < lanes; absent lanes load as 0
 *     first(v, n)                      the first n lanes, the others 0; 0 < n < lanes
 *     set1(x)
 *     fma(a, b, c)    a*b + c          fnma(a, b, c)   c - a*b
 *     max(a, b)       a > b ? a : b    min(a, b)       a < b ? a : b    (b where either is NaN)
 *     abs(a)          copysign(a, s)   |a| with the sign of s
 *     if_negative(x, a, b)             x < 0 ? a : b
 *     unless_positive(x, a, b)         x <= 0 ? a : b
 *     zip_lower(a, b) zip_upper(a, b)  interleave the lower, the upper halves of two vectors
 *     sqrt(a)                          NaN where a < 0
 *     sum(v)                           of the lanes, halves onto each other
 *     scale(a, n)     a * 2^n rounded once, for 1/2 < a < 2 and a whole number n, |n| < 1200
 */
#ifndef RNNKIT_VEC_COMMON_H
#define RNNKIT_VEC_COMMON_H

#include <math.h>
#include <string.h>

#define VEC_INLINE static inline __attribute__((always_inline, unused))

/* Stand-ins made of the compiler's vector operators, for sets that lack an instruction. P is the
   prefix (vf or vd), V the vector type, I its integer twin, S the scalar type. */
#define VEC_DEFINE_BITS(P, V, I, S, SIGN)                                                          \
    VEC_INLINE V P##_select(I mask, V a, V b)                                                      \
    {                                                                                              \
        return (V)((mask & (I)a) | (~mask & (I)b));                                                \
    }                                                                                              \
    VEC_INLINE V P##_abs(V a) { return (V)((I)a & ~(I)P##_set1(SIGN)); }                           \
    VEC_INLINE V P##_copysign(V a, V s)                                                            \
    {                                                                                              \
        I sign = (I)P##_set1(SIGN);                                                                \
        return (V)(((I)a & ~sign) | ((I)s & sign));                                                \
    }

#define VEC_DEFINE_CONDITIONS(P, V)                                                                \
    VEC_INLINE V P##_if_negative(V x, V a, V b) { return P##_select(x < (V){0}, a, b); }           \
    VEC_INLINE V P##_unless_positive(V x, V a, V b) { return P##_select(x <= (V){0}, a, b); }

#define VEC_DEFINE_MIN_MAX(P, V)                                                                   \
    VEC_INLINE V P##_max(V a, V b) { return P##_select(a > b, a, b); }                             \
    VEC_INLINE V P##_min(V a, V b) { return P##_select(a < b, a, b); }

/* ROUND is 1.5 * 2^MANTISSA_BITS: adding it rounds to a whole number and leaves that number in the
   low bits, from where a shift brings it into the exponent. */
#define VEC_DEFINE_SCALE(P, V, I, MANTISSA_BITS, ROUND)                                            \
    VEC_INLINE V P##_scale(V a, V n)                                                               \
    {                                                                                              \
        /* Two factors, since 2^n itself may be out of range; only the last product rounds. */     \
        V round = P##_set1(ROUND), one = P##_set1(1);                                              \
        V half_bits = n * P##_set1(0.5) + round;                                                   \
        V rest_bits = n - (half_bits - round) + round;                                             \
        V first = (V)(((I)half_bits << MANTISSA_BITS) + (I)one);                                   \
        V second = (V)(((I)rest_bits << MANTISSA_BITS) + (I)one);                                  \
        return a * first * second;                                                                 \
    }

#define VEC_DEFINE_PARTIAL(P, V, S, LANES)                                                         \
    VEC_INLINE V P##_load_n(const S *p, idx n)                                                     \
    {                                                                                              \
        S lanes[LANES] = {0};                                                                      \
        for (idx i = 0; i < n; i++) lanes[i] = p[i];                                               \
        return P##_load(lanes);                                                                    \
    }                                                                                              \
    VEC_INLINE void P##_store_n(S *p, V v, idx n)                                                  \
    {                                                                                              \
        S lanes[LANES];                                                                            \
        P##_store(lanes, v);                                                                       \
        for (idx i = 0; i < n; i++) p[i] = lanes[i];                                               \
    }

#define VEC_DEFINE_FIRST(P, V, S, LANES)                                                           \
    VEC_INLINE V P##_first(V v, idx n)                                                             \
    {                                                                                              \
        S lanes[LANES];                                                                            \
        P##_store(lanes, v);                                                                       \
        return P##_load_n(lanes, n);                                                               \
    }

#define VEC_DEFINE_SUM(P, V, S, LANES)                                                             \
    VEC_INLINE S P##_sum(V v)                                                                      \
    {                                                                                              \
        S lanes[LANES];                                                                            \
        P##_store(lanes, v);                                                                       \
        for (int half = LANES / 2; half; half /= 2)                                                \
            for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];                            \
        return lanes[0];                                                                           \
    }

#define VEC_DEFINE_SQRT(P, V, S, LANES, ROOT)                                                      \
    VEC_INLINE V P##_sqrt(V v)                                                                     \
    {                                                                                              \
        S lanes[LANES];                                                                            \
        P##_store(lanes, v);                                                                       \
        for (idx i = 0; i < LANES; i++) lanes[i] = ROOT(lanes[i]);                                 \
        return P##_load(lanes);                                                                    \
    }

/* Loads and stores through memcpy, which is what an unaligned vector access compiles to. */
#define VEC_DEFINE_MEMORY(P, V, S)                                                                 \
    VEC_INLINE V P##_load(const S *p)                                                              \
    {                                                                                              \
        V v;                                                                                       \
        memcpy(&v, p, sizeof v);                                                                   \
        return v;                                                                                  \
    }                                                                                              \
    VEC_INLINE void P##_store(S *p, V v) { memcpy(p, &v, sizeof v); }

/* Interleave the lower or the upper halves of two vectors: zip_lower(a, b) = a0 b0 a1 b1 ... */
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define VEC_HAS_SHUFFLE 1
#endif
#endif
#ifdef VEC_HAS_SHUFFLE
#define VEC_ZIP_LOWER_2(a, b)                                                                      \
    __builtin_shufflevector(a, b, 0, 2)
#define VEC_ZIP_UPPER_2(a, b)                                                                      \
    __builtin_shufflevector(a, b, 1, 3)
#define VEC_ZIP_LOWER_4(a, b)                                                                      \
    __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define VEC_ZIP_UPPER_4(a, b)                                                                      \
    __builtin_shufflevector(a, b, 2, 6, 3, 7)
#define VEC_ZIP_LOWER_8(a, b)                                                                      \
    __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define VEC_ZIP_UPPER_8(a, b)                                                                      \
    __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#define VEC_ZIP_LOWER_16(a, b)                                                                     \
    __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define VEC_ZIP_UPPER_16(a, b)                                                                     \
    __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define VEC_DEFINE_ZIP_OF(P, V, LANES)                                                             \
    VEC_INLINE V P##_zip_lower(V a, V b) { return (V)VEC_ZIP_LOWER_##LANES(a, b); }                \
    VEC_INLINE V P##_zip_upper(V a, V b) { return (V)VEC_ZIP_UPPER_##LANES(a, b); }
#else
#define VEC_DEFINE_ZIP_OF(P, V, LANES)                                                             \
    VEC_INLINE V P##_zip_lower(V a, V b)                                                           \
    {                                                                                              \
        V out = a;                                                                                 \
        for (int i = 0; i < LANES / 2; i++) out[2 * i] = a[i], out[2 * i + 1] = b[i];              \
        return out;                                                                                \
    }                                                                                              \
    VEC_INLINE V P##_zip_upper(V a, V b)                                                           \
    {                                                                                              \
        V out = a;                                                                                 \
        for (int i = 0; i < LANES / 2; i++)                                                        \
            out[2 * i] = a[LANES / 2 + i], out[2 * i + 1] = b[LANES / 2 + i];                      \
        return out;                                                                                \
    }
#endif
/* LANES may be a macro: expand it first. */
#define VEC_DEFINE_ZIP(P, V, LANES) VEC_DEFINE_ZIP_OF(P, V, LANES)

#endif
