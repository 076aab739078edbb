/* The kernels for x86-64 processors with AVX-512 F and DQ, and for those that have AMX as well. */
#if defined(__x86_64__)
#include "rnnkit.h"

#define TARGET_OF(features) __attribute__((target("avx512f,avx512dq,avx2,fma,prfchw" features)))
#if defined(__clang__) && defined(RK_AMX_BUILT)
#pragma clang attribute push(TARGET_OF(",amx-tile,amx-bf16"), apply_to = function)
#elif defined(__clang__)
#pragma clang attribute push(TARGET_OF(""), apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx2,fma,prfchw,prefer-vector-width=512")
#ifdef RK_AMX_BUILT
#pragma GCC target("amx-tile,amx-bf16")
#endif
#endif

#include "vec/avx512.h"
#define ISA_NAME avx512
#define MATRIX_UNIT_NAME amx
#include "kernels/kernels.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int no_avx512_here;
#endif
