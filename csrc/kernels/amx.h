/*
 * Products on the matrix unit (vec/amx.h), for gradients: float32 results from bfloat16 operands.
 *
 * Each number is split into three of 8 bits, x = x1 + x2 + x3, and
 *
 *     x y  =  x1 y1 + (x1 y2 + x2 y1) + (x1 y3 + x2 y2 + x3 y1)    + less than 2^-24 |x y|
 *
 * (Henry, Tang and Heinecke 2019, arXiv 1904.06376): six products of the unit, which are still much faster than
 * one multiply-add of floats. Sums have the precision of float32. Each element of a result is one fixed sequence
 * of operations for each group of UNIT_DEPTH k's, so its bits depend on where these groups begin, but neither
 * on the tile nor on the thread.
 *
 * An operand is made of blocks of 16 columns (or rows) by UNIT_DEPTH k's, its three parts one after the other. In
 * a block, k's i and i + 16 are a pair.
 */

enum {
    AMX_BLOCK_BYTES = 3 * AMX_TILE_BYTES,
    AMX_PIECE = 128,         /* k's of a product that are packed together */
    AMX_COLUMNS = 8,         /* blocks of columns that are packed together, which stay in the second cache */
    AMX_FETCHED = 3,         /* cache lines fetched between two products of tiles */
    AMX_RESULTS = 256 << 10, /* floats of a product that are formed together, and stay in the second cache */
};

VEC_INLINE idx amx_groups(idx K) { return (K + UNIT_DEPTH - 1) / UNIT_DEPTH; }

/* Bytes of an operand of so many rows, or columns. */
VEC_INLINE idx amx_operand_size(idx rows, idx K)
{
    return (rows + UNIT_BLOCK - 1) / UNIT_BLOCK * amx_groups(K) * AMX_BLOCK_BYTES;
}

VEC_INLINE idx amx_rows_at_once(idx columns)
{
    idx rows = AMX_RESULTS / columns / UNIT_BLOCK * UNIT_BLOCK;
    return rows < 2 * UNIT_BLOCK ? 2 * UNIT_BLOCK : min_idx(rows, MOST_ROWS_OF_D_X);
}

/* ---- operands --------------------------------------------------------------------------------- */

VEC_INLINE void amx_store_block(char *block, idx row, const __m512i pair[3])
{
    for (int part = 0; part < 3; part++)
        _mm512_store_si512(block + part * AMX_TILE_BYTES + row * 64, pair[part]);
}

/* The `width` floats, UNIT_BLOCK or fewer, from `column` on of row k: zero from row n_rows on, and of a row that is
   not there (NULL). */
VEC_INLINE vf amx_row(const float *const *rows, idx n_rows, idx k, idx column, idx width)
{
    if (k >= n_rows || !rows[k]) return vf_set1(0);
    return width < UNIT_BLOCK ? vf_load_n(rows[k] + column, width) : vf_load(rows[k] + column);
}

/* Columns of the rows as the right operand of a product whose k's the rows are. */
static void amx_pack_right(char *to, const float *const *rows, idx n_rows, idx column, idx n_blocks)
{
    idx groups = amx_groups(n_rows);
    for (idx g = 0; g < groups; g++)
        for (idx i = 0; i < UNIT_BLOCK; i++)
            for (idx b = 0; b < n_blocks; b++) {
                idx k = g * UNIT_DEPTH + i, c = column + b * UNIT_BLOCK;
                __m512i pair[3];
                amx_split_pair(amx_row(rows, n_rows, k, c, UNIT_BLOCK),
                               amx_row(rows, n_rows, k + UNIT_BLOCK, c, UNIT_BLOCK), pair);
                amx_store_block(to + (b * groups + g) * AMX_BLOCK_BYTES, i, pair);
            }
}

/* Columns i0 .. i1-1 of the rows as the left operand of a product whose k's the rows are. */
static void amx_pack_left_turned(char *to, const float *const *rows, idx n_rows, idx i0, idx i1)
{
    _Alignas(64) char block[AMX_BLOCK_BYTES];
    idx groups = amx_groups(n_rows);
    for (idx g = 0; g < groups; g++)
        for (idx c = i0; c < i1; c += UNIT_BLOCK) {
            idx width = min_idx(UNIT_BLOCK, i1 - c);
            for (idx i = 0; i < UNIT_BLOCK; i++) {
                __m512i pair[3];
                idx k = g * UNIT_DEPTH + i;
                amx_split_pair(amx_row(rows, n_rows, k, c, width),
                               amx_row(rows, n_rows, k + UNIT_BLOCK, c, width), pair);
                amx_store_block(block, i, pair);
            }
            char *turned = to + ((c - i0) / UNIT_BLOCK * groups + g) * AMX_BLOCK_BYTES;
            for (idx part = 0; part < AMX_BLOCK_BYTES; part += AMX_TILE_BYTES)
                transpose_block_f32((const float *)(block + part), UNIT_BLOCK, UNIT_BLOCK, UNIT_BLOCK,
                                    (float *)(turned + part), UNIT_BLOCK);
        }
}

/* Rows of K floats, ld apart, as the left operand of a product over them. K is a multiple of UNIT_BLOCK. */
static void amx_pack_left(char *to, const float *from, idx ld, idx n_rows, idx K)
{
    idx groups = amx_groups(K);
    for (idx row = 0; row < round_up(n_rows, UNIT_BLOCK); row++) {
        char *block = to + row / UNIT_BLOCK * groups * AMX_BLOCK_BYTES;
        for (idx k = 0; k < K; k += UNIT_DEPTH, block += AMX_BLOCK_BYTES) {
            vf x = vf_set1(0), y = x;
            if (row < n_rows) {
                x = vf_load(from + row * ld + k);
                if (k + UNIT_BLOCK < K) y = vf_load(from + row * ld + k + UNIT_BLOCK);
            }
            __m512i pair[3];
            amx_split_pair(x, y, pair);
            amx_store_block(block, row % UNIT_BLOCK, pair);
        }
    }
}

/* Blocks first .. last-1 of the columns of weights as the right operand of a product whose k's are its rows, NULL
   for those that are not there. A block is `block` bytes behind the one before. */
static void amx_pack_weights(char *to, idx block, const float *const *rows, idx K, idx n_columns, idx first,
                             idx last)
{
    for (idx b = first; b < last; b++) {
        idx c = b * UNIT_BLOCK, width = min_idx(UNIT_BLOCK, n_columns - c);
        for (idx k = 0; k < K; k += UNIT_DEPTH)
            for (idx i = 0; i < UNIT_BLOCK; i++) {
                __m512i pair[3];
                amx_split_pair(amx_row(rows, K, k + i, c, width),
                               amx_row(rows, K, k + UNIT_BLOCK + i, c, width), pair);
                amx_store_block(to + b * block + k / UNIT_DEPTH * AMX_BLOCK_BYTES, i, pair);
            }
    }
}

/* ---- products --------------------------------------------------------------------------------- */

/* Of amx_multiply: tiles 0 to 3 grow by the product of tiles 4 and 5, of a part of the left operand, with 6 and 7,
   of a part of the right one. */
#define AMX_TERM                                                                                   \
    do {                                                                                           \
        _tile_dpbf16ps(0, 4, 6);                                                                   \
        if (two_columns) _tile_dpbf16ps(1, 4, 7);                                                  \
        if (two_rows) _tile_dpbf16ps(2, 5, 6);                                                     \
        if (two_rows && two_columns) _tile_dpbf16ps(3, 5, 7);                                      \
    } while (0)
#define AMX_LEFT(part)                                                                             \
    do {                                                                                           \
        _tile_loadd(4, left + (part) * AMX_TILE_BYTES, 64);                                        \
        if (two_rows) _tile_loadd(5, left + left_block + (part) * AMX_TILE_BYTES, 64);             \
    } while (0)
#define AMX_RIGHT(part)                                                                            \
    do {                                                                                           \
        _tile_loadd(6, right + (part) * AMX_TILE_BYTES, 64);                                       \
        if (two_columns) _tile_loadd(7, right + right_block + (part) * AMX_TILE_BYTES, 64);        \
    } while (0)

/* Some of what will be written later is fetched between two products, so that it is there in time and nothing
   waits for it here. */
#define AMX_FETCH                                                                                  \
    do {                                                                                           \
        for (int line = 0; then && line < AMX_FETCHED; line++, then += CACHE_LINE)                 \
            __builtin_prefetch(then, 1, 3);                                                        \
    } while (0)

/* out = (begins ? 0 : out) + left . right: one or two blocks of rows by one or two of columns, `groups` groups
   of k's. Rows of `out` are as long as the columns. */
VEC_INLINE void amx_multiply(const char *left, idx left_block, const char *right, idx right_block, idx groups,
                             float *out, const char *then, int begins, const int two_rows, const int two_columns)
{
    const idx ld = (two_columns ? 2 : 1) * UNIT_BLOCK, bytes = ld * (idx)sizeof(float);
    float *below = out + UNIT_BLOCK * ld;
    amx_memory_is_read();
    if (begins) {
        _tile_zero(0);
        if (two_columns) _tile_zero(1);
        if (two_rows) _tile_zero(2);
        if (two_rows && two_columns) _tile_zero(3);
    } else {
        _tile_loadd(0, out, bytes);
        if (two_columns) _tile_loadd(1, out + UNIT_BLOCK, bytes);
        if (two_rows) _tile_loadd(2, below, bytes);
        if (two_rows && two_columns) _tile_loadd(3, below + UNIT_BLOCK, bytes);
    }
    for (idx i = 0; i < groups; i++, left += AMX_BLOCK_BYTES, right += AMX_BLOCK_BYTES) {
        /* The small terms first; in an order that loads few tiles. */
        AMX_LEFT(2);
        AMX_RIGHT(0);
        AMX_TERM;
        AMX_FETCH;
        AMX_LEFT(1);
        AMX_TERM;
        AMX_FETCH;
        AMX_RIGHT(1);
        AMX_TERM;
        AMX_FETCH;
        AMX_LEFT(0);
        AMX_TERM;
        AMX_FETCH;
        AMX_RIGHT(2);
        AMX_TERM;
        AMX_FETCH;
        AMX_RIGHT(0);
        AMX_TERM;
        AMX_FETCH;
    }
    _tile_stored(0, out, bytes);
    if (two_columns) _tile_stored(1, out + UNIT_BLOCK, bytes);
    if (two_rows) _tile_stored(2, below, bytes);
    if (two_rows && two_columns) _tile_stored(3, below + UNIT_BLOCK, bytes);
}

/*
 * The same for any number of blocks, between amx_begin and amx_end. Block i of an operand is i * groups *
 * AMX_BLOCK_BYTES behind its first. The result is made of panels of two blocks of columns (the last may have one)
 * and `ld` rows each, of which `rows` blocks are formed, from row `first` on: rows of a panel adjoin, and so do
 * panels.
 *
 * A piece of two blocks of rows stays in the first cache while those of all columns go by, if there are several;
 * results of all pieces stay in the second.
 */
static void amx_multiply_all(const char *left, idx rows, idx first, const char *right, idx columns, idx groups,
                             float *out, idx ld, int begins)
{
    const idx block = groups * AMX_BLOCK_BYTES, piece = columns <= 2 ? groups : AMX_PIECE / UNIT_DEPTH;
    for (idx r = 0; r < rows; r += 2)
        for (idx g = 0; g < groups; g += piece)
            for (idx c = 0; c < columns; c += 2) {
                const char *a = left + r * block + g * AMX_BLOCK_BYTES, *b = right + c * block + g * AMX_BLOCK_BYTES;
                idx n = min_idx(piece, groups - g);
                int two_rows = r + 1 < rows, two_columns = c + 1 < columns, anew = begins && g == 0;
                idx width = (1 + two_columns) * UNIT_BLOCK;
                float *o = out + c * UNIT_BLOCK * ld + (first + r * UNIT_BLOCK) * width;
                const char *then = g + piece < groups || r + 2 >= rows ? NULL : (char *)(o + 2 * UNIT_BLOCK * width);
                if (two_rows && two_columns) amx_multiply(a, block, b, block, n, o, then, anew, 1, 1);
                else if (two_rows) amx_multiply(a, block, b, block, n, o, then, anew, 1, 0);
                else if (two_columns) amx_multiply(a, block, b, block, n, o, then, anew, 0, 1);
                else amx_multiply(a, block, b, block, n, o, then, anew, 0, 0);
            }
}
