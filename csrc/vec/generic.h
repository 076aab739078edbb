/* 16-byte vectors in the compiler's own vector language: every processor. No fused multiply-add. */
#include "vec/common.h"

#define VF_LANES 4
#define VD_LANES 2
#define VEC_REGISTERS 16
#define VEC_HAS_FMA 0

typedef float vf __attribute__((vector_size(16)));
typedef int32_t vfi __attribute__((vector_size(16)));
typedef double vd __attribute__((vector_size(16)));
typedef int64_t vdi __attribute__((vector_size(16)));

VEC_INLINE vf vf_set1(float x) { return (vf){x, x, x, x}; }
VEC_INLINE vd vd_set1(double x) { return (vd){x, x}; }
VEC_INLINE vd vf_load_wide(const float *p) { return (vd){p[0], p[1]}; }
VEC_INLINE vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
VEC_INLINE vd vd_fma(vd a, vd b, vd c) { return a * b + c; }
VEC_INLINE vf vf_fnma(vf a, vf b, vf c) { return c - a * b; }
VEC_INLINE vd vd_fnma(vd a, vd b, vd c) { return c - a * b; }

VEC_DEFINE_MEMORY(vf, vf, float)
VEC_DEFINE_MEMORY(vd, vd, double)
VEC_DEFINE_BITS(vf, vf, vfi, float, -0.0f)
VEC_DEFINE_BITS(vd, vd, vdi, double, -0.0)
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
VEC_DEFINE_SQRT(vf, vf, float, VF_LANES, sqrtf)
VEC_DEFINE_SQRT(vd, vd, double, VD_LANES, sqrt)
VEC_DEFINE_SUM(vf, vf, float, VF_LANES)
VEC_DEFINE_SUM(vd, vd, double, VD_LANES)
VEC_DEFINE_ZIP(vf, vf, VF_LANES)
VEC_DEFINE_ZIP(vd, vd, VD_LANES)
