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
