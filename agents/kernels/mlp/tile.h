/* Vectors of floats, tanh, and matrix products in register tiles, for one instruction set; see mlp/isa.h.
 *
 * Every element of a product is summed on its own, in order of depth, by multiply-adds that round once, which is
 * written out where the processor has none: its bits depend on neither the processor, the tile nor the number of rows.
 */

typedef float MLP_V __attribute__((vector_size(4 * MLP_LANES), aligned(4), may_alias));
typedef int MLP_VI __attribute__((vector_size(4 * MLP_LANES)));

MLP_INLINE MLP_V MLP_N(mlp_load)(const float *p) { return *(const MLP_V *)p; }
MLP_INLINE void MLP_N(mlp_store)(float *p, MLP_V v) { *(MLP_V *)p = v; }
MLP_INLINE MLP_V MLP_N(mlp_all)(float x) { return x - (MLP_V){0}; }
MLP_INLINE MLP_V MLP_N(mlp_pick)(MLP_VI where, MLP_V yes, MLP_V no) {
    return (MLP_V)((where & (MLP_VI)yes) | (~where & (MLP_VI)no));
}

/* tanh(x) = x P(x^2) / Q(x^2), fitted to a relative error of 1.2e-8 on [-8.5, 8.5]; 3.3e-7 after rounding. */
MLP_INLINE MLP_V MLP_N(mlp_tanh)(MLP_V x) {
    const MLP_V limit = MLP_N(mlp_all)(8.5f), one = MLP_N(mlp_all)(1.0f);
    x = MLP_N(mlp_pick)(x > limit, limit, x);
    x = MLP_N(mlp_pick)(x < -limit, -limit, x);
    MLP_V y = x * x;
    MLP_V p = (((1.426961070111621e-08f * y + 2.125133933888973e-05f) * y + 0.003534045635961451f) * y +
               0.13413263026090136f) * y + 0.9999999882181551f;
    MLP_V q = (((8.145285561605469e-07f * y + 0.00033488949095398086f) * y + 0.026022823682751297f) * y +
               0.4674658577455465f) * y + 1.0f;
    MLP_V r = x * p / q;
    r = MLP_N(mlp_pick)(r > one, one, r);
    return MLP_N(mlp_pick)(r < -one, -one, r);
}

MLP_INLINE MLP_V MLP_N(mlp_madd)(MLP_V x, MLP_V y, MLP_V z) { return MLP_MADD(x, y, z); }

/* One register tile: C[r, c] = start[r, c] + sum over k of A[r * ars + k * aks] * B[k * ldb + c]; no start is 0. */
MLP_INLINE void MLP_N(mlp_tile)(int rows, int vectors, ptrdiff_t depth, const float *a, ptrdiff_t ars, ptrdiff_t aks,
                                const float *b, ptrdiff_t ldb, float *c, ptrdiff_t ldc, const float *start,
                                ptrdiff_t lds) {
    MLP_V sum[MLP_ROWS][2];
    for (int r = 0; r < rows; r++) {
        for (int j = 0; j < vectors; j++) {
            sum[r][j] = start ? MLP_N(mlp_load)(start + r * lds + j * MLP_LANES) : (MLP_V){0};
        }
    }
    for (ptrdiff_t k = 0; k < depth; k++) {
        MLP_V row[2];
        for (int j = 0; j < vectors; j++) {
            row[j] = MLP_N(mlp_load)(b + k * ldb + j * MLP_LANES);
        }
        for (int r = 0; r < rows; r++) {
            MLP_V x = MLP_N(mlp_all)(a[r * ars + k * aks]);
            for (int j = 0; j < vectors; j++) {
                sum[r][j] = MLP_N(mlp_madd)(x, row[j], sum[r][j]);
            }
        }
    }
    for (int r = 0; r < rows; r++) {
        for (int j = 0; j < vectors; j++) {
            MLP_N(mlp_store)(c + r * ldc + j * MLP_LANES, sum[r][j]);
        }
    }
}

MLP_INLINE void MLP_N(mlp_tiles)(int vectors, ptrdiff_t m, ptrdiff_t depth, const float *a, ptrdiff_t ars, ptrdiff_t aks,
                                 const float *b, ptrdiff_t ldb, float *c, ptrdiff_t ldc, const float *start,
                                 ptrdiff_t lds) {
    ptrdiff_t i = 0;
#define MLP_STEP(rows)                                                                                            \
    MLP_N(mlp_tile)(rows, vectors, depth, a + i * ars, ars, aks, b, ldb, c + i * ldc, ldc,                        \
                    start ? start + i * lds : NULL, lds);                                                         \
    i += rows
    while (i + MLP_ROWS <= m) {
        MLP_STEP(MLP_ROWS);
    }
    if (i + 4 <= m) {
        MLP_STEP(4);
    }
    if (i + 2 <= m) {
        MLP_STEP(2);
    }
    if (i < m) {
        MLP_STEP(1);
    }
#undef MLP_STEP
}

/* C [m, width] = start + A [m, depth] B [depth, width] for a panel of 16 or 32 columns of B, which should lie where its
 * rows do not displace each other in the cache. A may be transposed by its strides; start may be C, or a bias (lds 0). */
MLP_FUNCTION void MLP_N(mlp_panel)(ptrdiff_t m, ptrdiff_t width, ptrdiff_t depth, const float *a, ptrdiff_t ars,
                                   ptrdiff_t aks, const float *b, ptrdiff_t ldb, float *c, ptrdiff_t ldc,
                                   const float *start, ptrdiff_t lds) {
    for (ptrdiff_t j = 0; j < width; j += 2 * MLP_LANES) {
        const float *from = start ? start + j : NULL;
        if (j + 2 * MLP_LANES <= width) {
            MLP_N(mlp_tiles)(2, m, depth, a, ars, aks, b + j, ldb, c + j, ldc, from, lds);
        } else {
            MLP_N(mlp_tiles)(1, m, depth, a, ars, aks, b + j, ldb, c + j, ldc, from, lds);
        }
    }
}
