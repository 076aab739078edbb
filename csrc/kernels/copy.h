/* Copy rows of H values between padded and plain arrays; padding reads as zero. */
static void R(copy_in)(real *dst, idx dst_ld, const real *src, idx src_ld, idx n_rows, idx H)
{
    for (idx n = 0; n < n_rows; n++)
        for (idx j = 0; j < dst_ld; j++) dst[n * dst_ld + j] = j < H ? src[n * src_ld + j] : 0;
}

static void R(copy_out)(real *dst, idx dst_ld, const real *src, idx src_ld, idx n_rows, idx H)
{
    for (idx n = 0; n < n_rows; n++)
        memcpy(dst + n * dst_ld, src + n * src_ld, (size_t)H * sizeof(real));
}
