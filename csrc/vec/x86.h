/* Sums of the lanes of vectors of x86, halves onto each other. */
#ifndef RNNKIT_VEC_X86_H
#define RNNKIT_VEC_X86_H

#include <immintrin.h>

#include "vec/common.h"

VEC_INLINE float sum_of_8_floats(__m256 v)
{
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_shuffle_ps(sum, sum, 1)));
}

VEC_INLINE double sum_of_4_doubles(__m256d v)
{
    __m128d sum = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_add_sd(sum, _mm_unpackhi_pd(sum, sum)));
}

#endif
