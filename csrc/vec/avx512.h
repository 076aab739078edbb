/* AVX-512 (F and DQ): 64-byte vectors, masks, and scalef, which builds subnormals in one rounding. */
#include "vec/x86.h"

#define VF_LANES 16
#define VD_LANES 8
#define VEC_REGISTERS 32
#define VEC_HAS_FMA 1

typedef __m512 vf;
typedef int32_t vfi __attribute__((vector_size(64)));
typedef __m512d vd;
typedef int64_t vdi __attribute__((vector_size(64)));

VEC_INLINE vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
VEC_INLINE vd vd_load(const double *p) { return _mm512_loadu_pd(p); }
VEC_INLINE vd vf_load_wide(const float *p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
VEC_INLINE void vf_store(float *p, vf v) { _mm512_storeu_ps(p, v); }
VEC_INLINE void vd_store(double *p, vd v) { _mm512_storeu_pd(p, v); }
VEC_INLINE vf vf_set1(float x) { return _mm512_set1_ps(x); }
VEC_INLINE vd vd_set1(double x) { return _mm512_set1_pd(x); }
VEC_INLINE vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
VEC_INLINE vd vd_fma(vd a, vd b, vd c) { return _mm512_fmadd_pd(a, b, c); }
VEC_INLINE vf vf_fnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }
VEC_INLINE vd vd_fnma(vd a, vd b, vd c) { return _mm512_fnmadd_pd(a, b, c); }
VEC_INLINE vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
VEC_INLINE vd vd_max(vd a, vd b) { return _mm512_max_pd(a, b); }
VEC_INLINE vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
VEC_INLINE vd vd_min(vd a, vd b) { return _mm512_min_pd(a, b); }
VEC_INLINE vf vf_sqrt(vf a) { return _mm512_sqrt_ps(a); }
VEC_INLINE vd vd_sqrt(vd a) { return _mm512_sqrt_pd(a); }

VEC_INLINE vf vf_abs(vf a) { return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), a); }
VEC_INLINE vd vd_abs(vd a) { return _mm512_andnot_pd(_mm512_set1_pd(-0.0), a); }
/* 0xCA: bit by bit, the first operand chooses the second where it is 1 and the third where 0. */
VEC_INLINE vf vf_copysign(vf a, vf s)
{
    return (vf)_mm512_ternarylogic_epi32((__m512i)vf_set1(-0.0f), (__m512i)s, (__m512i)a, 0xCA);
}
VEC_INLINE vd vd_copysign(vd a, vd s)
{
    return (vd)_mm512_ternarylogic_epi64((__m512i)vd_set1(-0.0), (__m512i)s, (__m512i)a, 0xCA);
}

VEC_INLINE vf vf_if_negative(vf x, vf a, vf b)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ), b, a);
}
VEC_INLINE vd vd_if_negative(vd x, vd a, vd b)
{
    return _mm512_mask_blend_pd(_mm512_cmp_pd_mask(x, _mm512_setzero_pd(), _CMP_LT_OQ), b, a);
}
VEC_INLINE vf vf_unless_positive(vf x, vf a, vf b)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LE_OQ), b, a);
}
VEC_INLINE vd vd_unless_positive(vd x, vd a, vd b)
{
    return _mm512_mask_blend_pd(_mm512_cmp_pd_mask(x, _mm512_setzero_pd(), _CMP_LE_OQ), b, a);
}

VEC_INLINE vf vf_scale(vf a, vf n) { return _mm512_scalef_ps(a, n); }
VEC_INLINE vd vd_scale(vd a, vd n) { return _mm512_scalef_pd(a, n); }

VEC_INLINE __mmask16 vf_lane_mask(idx n) { return (__mmask16)((1u << n) - 1); }
VEC_INLINE __mmask8 vd_lane_mask(idx n) { return (__mmask8)((1u << n) - 1); }
VEC_INLINE vf vf_load_n(const float *p, idx n) { return _mm512_maskz_loadu_ps(vf_lane_mask(n), p); }
VEC_INLINE vd vd_load_n(const double *p, idx n) { return _mm512_maskz_loadu_pd(vd_lane_mask(n), p); }
VEC_INLINE void vf_store_n(float *p, vf v, idx n) { _mm512_mask_storeu_ps(p, vf_lane_mask(n), v); }
VEC_INLINE void vd_store_n(double *p, vd v, idx n) { _mm512_mask_storeu_pd(p, vd_lane_mask(n), v); }
VEC_INLINE vf vf_first(vf v, idx n) { return _mm512_maskz_mov_ps(vf_lane_mask(n), v); }
VEC_INLINE vd vd_first(vd v, idx n) { return _mm512_maskz_mov_pd(vd_lane_mask(n), v); }
VEC_INLINE float vf_sum(vf v)
{
    return sum_of_8_floats(_mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)));
}
VEC_INLINE double vd_sum(vd v)
{
    return sum_of_4_doubles(_mm256_add_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd(v, 1)));
}
VEC_DEFINE_ZIP(vf, vf, VF_LANES)
VEC_DEFINE_ZIP(vd, vd, VD_LANES)

#ifdef RK_AMX_BUILT
#define VEC_HAS_MATRIX_UNIT 1
#include "vec/amx.h"
#endif
