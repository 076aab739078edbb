/* Which kernels were built, and which of them this processor can run. */
#include "rnnkit.h"

#include <string.h>

extern const rk_kernels rk_kernels_generic;
#if defined(__x86_64__)
#include <cpuid.h>
extern const rk_kernels rk_kernels_avx2, rk_kernels_avx512;
#ifdef RK_AMX_BUILT
#include <sys/syscall.h>
#include <unistd.h>
extern const rk_kernels rk_kernels_amx;
#endif
#elif defined(__aarch64__)
extern const rk_kernels rk_kernels_neon;
#endif

const rk_kernels *const *rk_kernels_built(void)
{
    static const rk_kernels *const built[] = {
#if defined(__x86_64__)
        &rk_kernels_avx512,
#ifdef RK_AMX_BUILT
        &rk_kernels_amx, /* faster on a core of one's own, slower on one that others share: for those who ask */
#endif
        &rk_kernels_avx2,
#elif defined(__aarch64__)
        &rk_kernels_neon,
#endif
        &rk_kernels_generic,
        NULL,
    };
    return built;
}

#if defined(__x86_64__)
/* What the processor has and the system saves, by CPUID and XGETBV: the runtime libraries of some compilers
   leave __builtin_cpu_supports without an answer. */
enum { AVX2_WITH_FMA = 1, AVX512_WITH_DQ = 2 };

static int vector_units(void)
{
    enum { FMA = 1 << 12, SYSTEM_SAVES = 1 << 27, AVX2 = 1 << 5, AVX512F = 1 << 16, AVX512DQ = 1 << 17 };
    enum { YMM = 0x6, ZMM = 0xe6 }; /* registers, of those that the system saves */
    unsigned a, b, c, d, saved, high, units = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & SYSTEM_SAVES) || !(c & FMA)) return 0;
    __asm__ __volatile__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    if ((saved & YMM) != YMM || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
#ifdef __APPLE__
    saved |= ZMM; /* from their first use on */
#endif
    if (b & AVX2) units |= AVX2_WITH_FMA;
    if ((b & AVX512F) && (b & AVX512DQ) && (saved & ZMM) == ZMM) units |= AVX512_WITH_DQ;
    return (int)units;
}
#endif

#ifdef RK_AMX_BUILT
/* Of arch_prctl: ARCH_GET_XCOMP_SUPP, ARCH_REQ_XCOMP_PERM, and the state of the tile registers. */
enum { GET_SUPPORTED = 0x1021, REQUEST = 0x1023, TILE_DATA = 18 };

/* AMX with bfloat16, whose registers Linux can save. */
static int has_amx(void)
{
    enum { LEAF = 7, BFLOAT16 = 1 << 22, TILES = 1 << 24 };
    unsigned a, b, c, d;
    uint64_t states = 0;
    return __get_cpuid_count(LEAF, 0, &a, &b, &c, &d) && (d & BFLOAT16) && (d & TILES) &&
           syscall(SYS_arch_prctl, GET_SUPPORTED, &states) == 0 && (states >> TILE_DATA & 1);
}
#endif

int rk_isa_supported(const char *isa)
{
#if defined(__x86_64__)
#ifdef RK_AMX_BUILT
    if (!strcmp(isa, "amx")) return rk_isa_supported("avx512") && has_amx();
#endif
    if (!strcmp(isa, "avx512")) return vector_units() & AVX512_WITH_DQ;
    if (!strcmp(isa, "avx2")) return vector_units() & AVX2_WITH_FMA;
#elif defined(__aarch64__)
    if (!strcmp(isa, "neon")) return 1;
#endif
    return !strcmp(isa, "generic");
}

int rk_isa_granted(const char *isa)
{
#ifdef RK_AMX_BUILT
    if (!strcmp(isa, "amx")) return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
#endif
    (void)isa;
    return 1;
}

#define OP_STRING(name) #name,
const char *const rk_op_names[] = {
    RK_UNARY_OPS(OP_STRING) RK_BINARY_OPS(OP_STRING) RK_TERNARY_OPS(OP_STRING) RK_OTHER_OPS(OP_STRING)
    NULL,
};
#undef OP_STRING

const char *rk_compiler(void)
{
#if defined(__clang__)
    return "clang " __clang_version__;
#elif defined(__GNUC__)
    return "gcc " __VERSION__;
#else
    return "unknown";
#endif
}
