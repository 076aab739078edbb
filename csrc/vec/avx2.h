/* AVX2 with FMA: 32-byte vectors. */
#include "vec/x86.h"

#define VF_LANES 8
#define VD_LANES 4
#define VEC_REGISTERS 16
#define VEC_HAS_FMA 1

typedef __m256 vf;
typedef int32_t vfi __attribute__((vector_size(32)));
typedef __m256d vd;
typedef int64_t vdi __attribute__((vector_size(32)));

VEC_INLINE vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
VEC_INLINE vd vd_load(const double *p) { return _mm256_loadu_pd(p); }
VEC_INLINE vd vf_load_wide(const float *p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
VEC_INLINE void vf_store(float *p, vf v) { _mm256_storeu_ps(p, v); }
VEC_INLINE void vd_store(double *p, vd v) { _mm256_storeu_pd(p, v); }
VEC_INLINE vf vf_set1(float x) { return _mm256_set1_ps(x); }
VEC_INLINE vd vd_set1(double x) { return _mm256_set1_pd(x); }
VEC_INLINE vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
VEC_INLINE vd vd_fma(vd a, vd b, vd c) { return _mm256_fmadd_pd(a, b, c); }
VEC_INLINE vf vf_fnma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); }
VEC_INLINE vd vd_fnma(vd a, vd b, vd c) { return _mm256_fnmadd_pd(a, b, c); }
VEC_INLINE vf vf_max(vf a, vf b) { return _mm256_max_ps(a, b); }
VEC_INLINE vd vd_max(vd a, vd b) { return _mm256_max_pd(a, b); }
VEC_INLINE vf vf_min(vf a, vf b) { return _mm256_min_ps(a, b); }
VEC_INLINE vd vd_min(vd a, vd b) { return _mm256_min_pd(a, b); }

VEC_INLINE vf vf_sqrt(vf a) { return _mm256_sqrt_ps(a); }
VEC_INLINE vd vd_sqrt(vd a) { return _mm256_sqrt_pd(a); }

VEC_INLINE __m256i vf_lane_mask(idx n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
VEC_INLINE __m256i vd_lane_mask(idx n)
{
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
VEC_INLINE vf vf_load_n(const float *p, idx n) { return _mm256_maskload_ps(p, vf_lane_mask(n)); }
VEC_INLINE vd vd_load_n(const double *p, idx n) { return _mm256_maskload_pd(p, vd_lane_mask(n)); }
VEC_INLINE void vf_store_n(float *p, vf v, idx n) { _mm256_maskstore_ps(p, vf_lane_mask(n), v); }
VEC_INLINE void vd_store_n(double *p, vd v, idx n) { _mm256_maskstore_pd(p, vd_lane_mask(n), v); }

VEC_DEFINE_BITS(vf, vf, vfi, float, -0.0f)
VEC_DEFINE_BITS(vd, vd, vdi, double, -0.0)
VEC_DEFINE_CONDITIONS(vf, vf)
VEC_DEFINE_CONDITIONS(vd, vd)
VEC_DEFINE_SCALE(vf, vf, vfi, 23, 0x1.8p23f)
VEC_DEFINE_SCALE(vd, vd, vdi, 52, 0x1.8p52)
VEC_DEFINE_FIRST(vf, vf, float, VF_LANES)
VEC_DEFINE_FIRST(vd, vd, double, VD_LANES)
VEC_INLINE float vf_sum(vf v) { return sum_of_8_floats(v); }
VEC_INLINE double vd_sum(vd v) { return sum_of_4_doubles(v); }
VEC_DEFINE_ZIP(vf, vf, VF_LANES)
VEC_DEFINE_ZIP(vd, vd, VD_LANES)
