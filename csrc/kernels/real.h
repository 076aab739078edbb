/*
 * Names of the element type for which kernels.h is being compiled: REAL_BITS is 32 or 64.
 * `real` is the scalar, `vec` the vector of VL lanes, v_* its operations (vec/common.h), and
 * R(name) gives each function of a kernel source a name of its own per type.
 */
#undef real
#undef vec
#undef veci
#undef VL
#undef R
#undef VOP
#undef v_load_wide
#undef HAS_MATRIX_UNIT

#if REAL_BITS == 32
#define real float
#define vec vf
#define veci vfi
#define VL VF_LANES
#define R(name) name##_f32
#define VOP(name) vf_##name
#define v_load_wide vf_load_wide
#else
#define real double
#define vec vd
#define veci vdi
#define VL VD_LANES
#define R(name) name##_f64
#define VOP(name) vd_##name
#define v_load_wide vd_load
#endif

#ifndef v_load
#define v_load VOP(load)
#define v_store VOP(store)
#define v_load_n VOP(load_n)
#define v_store_n VOP(store_n)
#define v_set1 VOP(set1)
#define v_fma VOP(fma)
#define v_fnma VOP(fnma)
#define v_max VOP(max)
#define v_min VOP(min)
#define v_abs VOP(abs)
#define v_copysign VOP(copysign)
#define v_if_negative VOP(if_negative)
#define v_unless_positive VOP(unless_positive)
#define v_scale VOP(scale)
#define v_sqrt VOP(sqrt)
#define v_sum VOP(sum)
#define v_first VOP(first)
#define v_zip_lower VOP(zip_lower)
#define v_zip_upper VOP(zip_upper)
#endif

/* Whether there are products on the matrix unit (amx.h) for this type. */
#if defined(VEC_HAS_MATRIX_UNIT) && REAL_BITS == 32
#define HAS_MATRIX_UNIT 1
#else
#define HAS_MATRIX_UNIT 0
#endif
