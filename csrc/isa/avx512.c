/* The kernels for x86-64 processors with AVX-512 F and DQ, and for those that have AMX as well. */
#if defined(__x86_64__)
#include "rnnkit.h"

#if defined(__clang__)
#ifdef RK_AMX_BUILT
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx2,fma,prfchw,amx-tile,amx-bf16"))), apply_to = function)
#else
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx2,fma,prfchw"))), apply_to = function)
#endif
#else
#ifdef RK_AMX_BUILT
#pragma GCC target("avx512f,avx512dq,avx2,fma,prfchw,prefer-vector-width=512,amx-tile,amx-bf16")
#else
#pragma GCC target("avx512f,avx512dq,avx2,fma,prfchw,prefer-vector-width=512")
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
