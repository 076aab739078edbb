/*
 * The matrix unit of x86-64 (AMX, with bfloat16 operands): eight tile registers of 16 rows of 64 bytes.
 *
 * A product of tiles takes 16 rows of 32 numbers (`left`) and 16 rows of 16 pairs (`right`): lane c of row p of
 * `right` holds the two numbers that meet numbers 2p and 2p + 1 of a row of `left`. Into each of the 16 x 16
 * floats of the result go the sums over the even and over the odd ones, each a chain of multiply-adds, added to
 * each other and then to what was there. Subnormal numbers count as zero.
 */
#ifndef RNNKIT_VEC_AMX_H
#define RNNKIT_VEC_AMX_H

enum { AMX_ROWS = 16, AMX_TILE_BYTES = 1024 };

/* Prepare this thread's tile registers, all of full size; and give them back, so that the system need not save
   them any longer. */
VEC_INLINE void amx_begin(void)
{
#define AMX_EIGHT(x) {x, x, x, x, x, x, x, x}
    static const struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } shapes = {.palette = 1, .row_bytes = AMX_EIGHT(64), .rows = AMX_EIGHT(AMX_ROWS)};
#undef AMX_EIGHT
    _tile_loadconfig(&shapes);
}

VEC_INLINE void amx_end(void) { _tile_release(); }

/* The compiler does not know that tiles are loaded from memory. */
VEC_INLINE void amx_memory_is_read(void) { __asm__ volatile("" ::: "memory"); }

/*
 * A float as the sum of three numbers of 8 bits, in the upper halves of three integers: the first two are
 * rounded, the third is what remains, so that the sum is exact. One that is not finite has a part that is not.
 */
VEC_INLINE void amx_split(vf x, __m512i part[3])
{
    const __m512i half = _mm512_set1_epi32(0x8000), upper = _mm512_set1_epi32((int)0xffff0000);
    for (int i = 0; i < 2; i++) {
        part[i] = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(x), half), upper);
        x = x - _mm512_castsi512_ps(part[i]);
    }
    part[2] = _mm512_and_si512(_mm512_castps_si512(x), upper);
}

/* Each part of x and y as pairs of bfloat16, x first. */
VEC_INLINE void amx_split_pair(vf x, vf y, __m512i pair[3])
{
    __m512i lower[3], upper[3];
    amx_split(x, lower);
    amx_split(y, upper);
    for (int i = 0; i < 3; i++) pair[i] = _mm512_or_si512(_mm512_srli_epi32(lower[i], 16), upper[i]);
}

#endif
