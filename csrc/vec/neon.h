/* AArch64 Advanced SIMD: 16-byte vectors with fused multiply-add. */
#include <arm_neon.h>

#include "vec/common.h"

#define VF_LANES 4
#define VD_LANES 2
#define VEC_REGISTERS 32
#define VEC_HAS_FMA 1

typedef float32x4_t vf;
typedef int32x4_t vfi;
typedef float64x2_t vd;
typedef int64x2_t vdi;

VEC_INLINE vf vf_load(const float *p) { return vld1q_f32(p); }
VEC_INLINE vd vd_load(const double *p) { return vld1q_f64(p); }
VEC_INLINE vd vf_load_wide(const float *p) { return vcvt_f64_f32(vld1_f32(p)); }
VEC_INLINE void vf_store(float *p, vf v) { vst1q_f32(p, v); }
VEC_INLINE void vd_store(double *p, vd v) { vst1q_f64(p, v); }
VEC_INLINE vf vf_set1(float x) { return vdupq_n_f32(x); }
VEC_INLINE vd vd_set1(double x) { return vdupq_n_f64(x); }
VEC_INLINE vf vf_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
VEC_INLINE vd vd_fma(vd a, vd b, vd c) { return vfmaq_f64(c, a, b); }
VEC_INLINE vf vf_fnma(vf a, vf b, vf c) { return vfmsq_f32(c, a, b); }
VEC_INLINE vd vd_fnma(vd a, vd b, vd c) { return vfmsq_f64(c, a, b); }
VEC_INLINE vf vf_sqrt(vf a) { return vsqrtq_f32(a); }
VEC_INLINE vd vd_sqrt(vd a) { return vsqrtq_f64(a); }

VEC_DEFINE_BITS(vf, vf, vfi, float, -0.0f)
VEC_DEFINE_BITS(vd, vd, vdi, double, -0.0)
/* Not vminq/vmaxq: those return NaN where either operand is NaN. */
VEC_DEFINE_MIN_MAX(vf, vf)
VEC_DEFINE_MIN_MAX(vd, vd)
VEC_DEFINE_CONDITIONS(vf, vf)
VEC_DEFINE_CONDITIONS(vd, vd)
VEC_DEFINE_SCALE(vf, vf, vfi, 23, 0x1.8p23f)
VEC_DEFINE_SCALE(vd, vd, vdi, 52, 0x1.8p52)
VEC_DEFINE_PARTIAL(vf, vf, float, VF_LANES)
VEC_DEFINE_PARTIAL(vd, vd, double, VD_LANES)
VEC_DEFINE_FIRST(vf, vf, float, VF_LANES)
VEC_DEFINE_FIRST(vd, vd, double, VD_LANES)
VEC_DEFINE_SUM(vf, vf, float, VF_LANES)
VEC_DEFINE_SUM(vd, vd, double, VD_LANES)
VEC_DEFINE_ZIP(vf, vf, VF_LANES)
VEC_DEFINE_ZIP(vd, vd, VD_LANES)
