/*
 * The register tile: every product in the library runs through it.
 *
 *     out[r][c] = init[r][c] + sum over k = 0 .. K-1 of a[r][k] * b[k][c]
 *
 * for MR rows and NP panels of NV vectors of columns. All accumulators stay in registers; each output
 * is one chain of multiply-adds in the order of k, whatever the tile, so its bits do not depend on
 * which tile computed it.
 *
 *   a[r]      row pointers; element k is at a[r][k], or, where they are packed, at a[0][k * MR + r]
 *   b         panel q, element (k, c) at b[q * b_panel + k * b_k + c]
 *   init[r]   starting values (init NULL: zero), out[r] results; columns of the NP panels adjoin.
 *             init[r] may be out[r].
 */

/* What a tile of more than two rows fetches meanwhile: what will be read, two lines for each k, or the next rows, a number
   for each row and k (where rows are not packed); or what will be written, a line for four k's (where they are). */
typedef enum { R(fetch_nothing), R(fetch_to_read), R(fetch_rows), R(fetch_to_write) } R(fetch);

typedef struct {
    idx K;
    const real *const *a;
    int packed;
    const real *b;
    idx b_k, b_panel;
    const real *const *init;
    real *const *out;
    R(fetch) fetch;
    const real *ahead; /* from here on */
} R(tile);

typedef void (*R(tile_fn))(const R(tile) *);

/* acc += a . b, in the order of k. Of constant bounds and fully unrolled, as everything here that goes over acc: the
   compiler turns its elements into registers. Four k's are a turn of the loop: the fewer instructions there are beside
   the multiply-adds, the less it costs that somebody else runs on the core. */
VEC_INLINE void R(tile_loop)(const R(tile) *t, vec acc[8][16], const int MR, const int NV, const int NP,
                             const int packed, const R(fetch) fetch)
{
    const int cols = NV * NP;
    const real *a[8];
#pragma GCC unroll 8
    for (int r = 0; r < MR; r++) a[r] = packed ? t->a[0] + r : t->a[r];
    const real *b = t->b;
    const char *ahead = (const char *)t->ahead;
    const idx K = t->K, a_k = packed ? MR : 1, b_k = t->b_k, b_panel = t->b_panel;
#pragma GCC unroll 4
    for (idx k = 0; k < K; k++, b += b_k) {
        if (fetch == R(fetch_to_read)) {
            __builtin_prefetch(ahead, 0, 2);
            __builtin_prefetch(ahead + CACHE_LINE, 0, 2);
            ahead += 2 * CACHE_LINE;
        } else if (fetch == R(fetch_rows)) {
            __builtin_prefetch(ahead, 0, 3);
            ahead += MR * (int)sizeof(real);
        } else if (fetch == R(fetch_to_write)) {
            __builtin_prefetch(ahead, 1, 3);
            ahead += CACHE_LINE / 4;
        }
#if VEC_REGISTERS == 32
        vec bv[16];
#pragma GCC unroll 16
        for (int c = 0; c < cols; c++) bv[c] = v_load(b + (c / NV) * b_panel + (c % NV) * VL);
#pragma GCC unroll 8
        for (int r = 0; r < MR; r++) {
            vec av = v_set1(a[r][k * a_k]);
#pragma GCC unroll 16
            for (int c = 0; c < cols; c++) acc[r][c] = v_fma(av, bv[c], acc[r][c]);
        }
#else
        vec av[8];
#pragma GCC unroll 8
        for (int r = 0; r < MR; r++) av[r] = v_set1(a[r][k * a_k]);
#pragma GCC unroll 16
        for (int c = 0; c < cols; c++) {
            vec bv = v_load(b + (c / NV) * b_panel + (c % NV) * VL);
#pragma GCC unroll 8
            for (int r = 0; r < MR; r++) acc[r][c] = v_fma(av[r], bv, acc[r][c]);
        }
#endif
    }
}

VEC_INLINE void R(tile_body)(const R(tile) *t, const int MR, const int NV, const int NP)
{
    const int cols = NV * NP;
    vec acc[8][16];
    if (t->init) {
#pragma GCC unroll 8
        for (int r = 0; r < MR; r++)
#pragma GCC unroll 16
            for (int c = 0; c < cols; c++) acc[r][c] = v_load(t->init[r] + c * VL);
    } else {
#pragma GCC unroll 8
        for (int r = 0; r < MR; r++)
#pragma GCC unroll 16
            for (int c = 0; c < cols; c++) acc[r][c] = v_set1(0);
    }
    const int many = MR > 2;
    if (MR > 1 && t->packed) {
        if (many && t->fetch == R(fetch_to_write)) R(tile_loop)(t, acc, MR, NV, NP, 1, R(fetch_to_write));
        else R(tile_loop)(t, acc, MR, NV, NP, 1, R(fetch_nothing));
    } else {
        if (many && t->fetch == R(fetch_to_read)) R(tile_loop)(t, acc, MR, NV, NP, 0, R(fetch_to_read));
        else if (many && t->fetch == R(fetch_rows)) R(tile_loop)(t, acc, MR, NV, NP, 0, R(fetch_rows));
        else R(tile_loop)(t, acc, MR, NV, NP, 0, R(fetch_nothing));
    }
#pragma GCC unroll 8
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 16
        for (int c = 0; c < cols; c++) v_store(t->out[r] + c * VL, acc[r][c]);
}

/* Accumulators of a tile that leave registers for their operands. */
enum { R(MOST_ACCUMULATORS) = VEC_REGISTERS == 32 ? 24 : 12 };

/* Tiles that would need more are never called, and empty. */
#define TILE_NAME(mr, nv, np) R(tile_##mr##x##nv##x##np)
#define DEFINE_TILE(mr, nv, np)                                                                    \
    static void TILE_NAME(mr, nv, np)(const R(tile) *t)                                            \
    {                                                                                              \
        if (mr * nv * np <= R(MOST_ACCUMULATORS)) R(tile_body)(t, mr, nv, np);                     \
    }
#define DEFINE_TILES_OF_WIDTH(nv)                                                                  \
    DEFINE_TILE(1, nv, 1)                                                                          \
    DEFINE_TILE(1, nv, 2)                                                                          \
    DEFINE_TILE(1, nv, 4)                                                                          \
    DEFINE_TILE(2, nv, 1)                                                                          \
    DEFINE_TILE(2, nv, 2)                                                                          \
    DEFINE_TILE(3, nv, 1)                                                                          \
    DEFINE_TILE(4, nv, 1)                                                                          \
    DEFINE_TILE(5, nv, 1)                                                                          \
    DEFINE_TILE(6, nv, 1)                                                                          \
    DEFINE_TILE(7, nv, 1)                                                                          \
    DEFINE_TILE(8, nv, 1)
DEFINE_TILES_OF_WIDTH(1)
DEFINE_TILES_OF_WIDTH(2)
DEFINE_TILES_OF_WIDTH(3)
DEFINE_TILES_OF_WIDTH(4)

#define TILES_OF_WIDTH(nv)                                                                         \
    {                                                                                              \
        TILE_NAME(1, nv, 1), TILE_NAME(2, nv, 1), TILE_NAME(3, nv, 1), TILE_NAME(4, nv, 1),        \
        TILE_NAME(5, nv, 1), TILE_NAME(6, nv, 1), TILE_NAME(7, nv, 1), TILE_NAME(8, nv, 1),        \
    }

/* One panel: [NV - 1][MR - 1]. */
static const R(tile_fn) R(tiles)[4][8] = {
    TILES_OF_WIDTH(1), TILES_OF_WIDTH(2), TILES_OF_WIDTH(3), TILES_OF_WIDTH(4),
};
/* Several panels at once for one and two rows, where one panel has too few chains to keep the
   multiply-add units busy: [NV - 1]. */
static const R(tile_fn) R(tiles_1x4)[4] = {
    TILE_NAME(1, 1, 4), TILE_NAME(1, 2, 4), TILE_NAME(1, 3, 4), TILE_NAME(1, 4, 4),
};
static const R(tile_fn) R(tiles_1x2)[4] = {
    TILE_NAME(1, 1, 2), TILE_NAME(1, 2, 2), TILE_NAME(1, 3, 2), TILE_NAME(1, 4, 2),
};
static const R(tile_fn) R(tiles_2x2)[4] = {
    TILE_NAME(2, 1, 2), TILE_NAME(2, 2, 2), TILE_NAME(2, 3, 2), TILE_NAME(2, 4, 2),
};

#undef TILE_NAME
#undef DEFINE_TILE
#undef DEFINE_TILES_OF_WIDTH
#undef TILES_OF_WIDTH

/* Most rows of a one-panel tile. */
VEC_INLINE int R(tile_rows)(int nv)
{
    int rows = R(MOST_ACCUMULATORS) / nv;
    return rows > 8 ? 8 : rows;
}
