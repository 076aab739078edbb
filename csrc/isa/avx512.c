/* The kernels for x86-64 processors with AVX-512 F and DQ. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx2,fma,prefer-vector-width=512")
#endif
#include "rnnkit.h"

#include "vec/avx512.h"
#define ISA_NAME avx512
#include "kernels/kernels.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int no_avx512_here;
#endif
