/* The kernels for AArch64, whose Advanced SIMD every such processor has. */
#if defined(__aarch64__)
#include "rnnkit.h"

#include "vec/neon.h"
#define ISA_NAME neon
#include "kernels/kernels.h"
#else
typedef int no_neon_here;
#endif
