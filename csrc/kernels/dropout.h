/*
 * Dropout with a mask that a seed fixes, whatever the threads and the instruction set.
 *
 * SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014)
 * as a function of the place: word k, k = 0, 1, ..., is
 *     z = seed + (k + 1) g;  z = (z ^ z >> 30) a;  z = (z ^ z >> 27) b;  z ^ z >> 31    (mod 2^64)
 * and its lower and upper 32 bits belong to the elements 2k and 2k + 1.
 *     y_i = x_i scale  where the bits of i, an unsigned number, are at least the threshold, else x_i 0
 * so that NaN and inf show even where they are dropped.
 */

/* A vector of words is as many numbers as a vector of floats has lanes, two of doubles. */
#define WORDS VD_LANES
#if REAL_BITS == 32
typedef uint32_t bits32 __attribute__((vector_size(4 * VF_LANES)));
typedef uint64_t bits64 __attribute__((vector_size(8 * VD_LANES)));

VEC_INLINE bits64 all_words(uint64_t x) { return (bits64){0} + x; }

VEC_INLINE bits64 mixed(bits64 z)
{
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

#define GOLDEN_GAMMA 0x9E3779B97F4A7C15u

/* The seeds of words 0 .. WORDS-1; those of the words from k on are k g more. */
VEC_INLINE bits64 first_words(uint64_t seed)
{
    bits64 z = all_words(seed);
    for (int lane = 0; lane < WORDS; lane++) z[lane] += (uint64_t)(lane + 1) * GOLDEN_GAMMA;
    return z;
}
#endif

/* scale or 0 for 2 * WORDS elements */
VEC_INLINE void R(mask_of)(bits64 word, uint32_t threshold, vec scale, vec *mask)
{
#if REAL_BITS == 32
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = word << 32 | word >> 32;
#endif
    bits32 kept = (bits32)((bits32)word >= (bits32){0} + threshold);
    mask[0] = (vf)(kept & (bits32)scale);
#else
    bits64 least = all_words(threshold);
    vec lower = (vec)((bits64)((word & all_words(0xFFFFFFFFu)) >= least) & (bits64)scale);
    vec upper = (vec)((bits64)(word >> 32 >= least) & (bits64)scale);
    mask[0] = v_zip_lower(lower, upper);
    mask[1] = v_zip_upper(lower, upper);
#endif
}

static void R(dropout_task)(void *arg, int tid, int n_threads)
{
    const rk_dropout *d = arg;
    const real *x = d->x;
    real *y = d->y;
    const vec scale = v_set1((real)d->scale);
    const idx per_step = 2 * WORDS, end = share_start(d->size, 256, tid + 1, n_threads);
    const bits64 start = first_words(d->seed);
    idx i = share_start(d->size, 256, tid, n_threads);
    for (; i < end; i += per_step) {
        vec mask[2 * WORDS / VL];
        bits64 word = mixed(start + all_words((uint64_t)(i / 2) * GOLDEN_GAMMA));
        R(mask_of)(word, d->threshold, scale, mask);
        for (idx k = 0; k < 2 * WORDS / VL; k++) {
            idx at = i + k * VL;
            if (at + VL <= end) v_store(y + at, v_load(x + at) * mask[k]);
            else if (at < end) v_store_n(y + at, v_load_n(x + at, end - at) * mask[k], end - at);
        }
    }
}

static void R(dropout)(const rk_dropout *d)
{
    rk_parallel(threads_for(d->n_threads, (double)d->size), R(dropout_task), (void *)d);
}
#undef WORDS
