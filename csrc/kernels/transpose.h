/* Rows whose columns become the rows of a product. */

/*
 * dst[j][i] = src[i][j] for i < rows, j < cols, both at most VL: one block of a transposition, in
 * registers. Rows of dst are written whole (VL values): those past `rows` in a row become zero.
 */
static void R(transpose_block)(const real *src, idx src_ld, int rows, int cols, real *dst, idx dst_ld)
{
    vec block[VL], zipped[VL];
    if (rows == VL && cols == VL) {
#pragma GCC unroll 16
        for (int i = 0; i < VL; i++) block[i] = v_load(src + i * src_ld);
    } else {
        for (int i = 0; i < VL; i++) {
            if (i >= rows) block[i] = v_set1(0);
            else if (cols == VL) block[i] = v_load(src + i * src_ld);
            else block[i] = v_load_n(src + i * src_ld, cols);
        }
    }
    /* log2(VL) perfect shuffles of the rows transpose the block. */
#pragma GCC unroll 4
    for (int half = VL; half > 1; half /= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < VL / 2; i++) {
            zipped[2 * i] = v_zip_lower(block[i], block[i + VL / 2]);
            zipped[2 * i + 1] = v_zip_upper(block[i], block[i + VL / 2]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < VL; i++) block[i] = zipped[i];
    }
    if (cols == VL) {
#pragma GCC unroll 16
        for (int j = 0; j < VL; j++) v_store(dst + j * dst_ld, block[j]);
    } else {
        for (int j = 0; j < cols; j++) v_store(dst + j * dst_ld, block[j]);
    }
}

/* Columns i0 .. i1-1 of n_rows rows, of n_columns, as the rows of packed tiles: [tile][row][row of the tile]. A few
   rows at a time, which stay in the first cache while all tiles take from them; whole vectors where the tile's next
   rows overwrite what is too much. */
static void R(pack_turned)(real *dst, const real *const *rows, idx n_rows, idx n_columns, idx i0, idx i1,
                           int tile_rows)
{
    for (idx k0 = 0; k0 < n_rows; k0 += ROWS_TURNED_TOGETHER) {
        idx k1 = min_idx(k0 + ROWS_TURNED_TOGETHER, n_rows);
        for (idx i = i0; i < i1; i += tile_rows) {
            idx count = min_idx(tile_rows, i1 - i), k = k0, whole = 0;
            real *to = dst + (i - i0) * n_rows + k0 * count;
            if (count <= VL && n_rows * count >= VL) whole = min_idx(k1, n_rows - (VL - 1) / count);
            if (i + VL > n_columns)
                for (; k < whole; k++, to += count) v_store(to, v_load_n(rows[k] + i, n_columns - i));
            else
                for (; k < whole; k++, to += count) v_store(to, v_load(rows[k] + i));
            for (; k < k1; k++, to += count)
                for (idx c = 0; c < count; c++) to[c] = rows[k][i + c];
        }
    }
}
