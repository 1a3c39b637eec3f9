/* Products of a few rows with a matrix, for one instruction set; see agents/kernels/mlp/isa.h.
 *
 * y[r][o] = sum_i w[o][i] x[r][i], w in float32, bfloat16 or integers with a scale for each output,
 * widened in registers. A tile of a few outputs and rows reads each weight once; each sum is one
 * vector of lanes whatever the tile, so that a row's result does not depend on the rows beside it.
 */

typedef float MLP_V __attribute__((vector_size(4 * MLP_LANES), aligned(4), may_alias));
typedef uint16_t MLP_N(playout_half) __attribute__((vector_size(2 * MLP_LANES), aligned(2), may_alias));
typedef int8_t MLP_N(playout_byte) __attribute__((vector_size(MLP_LANES), aligned(1), may_alias));
typedef uint32_t MLP_N(playout_word) __attribute__((vector_size(4 * MLP_LANES)));

/* Compilers widen 16 numbers of few bits by halves, at twice the cost of the instruction for it. */
MLP_INLINE MLP_V MLP_N(playout_weights)(int kind, const void *w, ptrdiff_t i) {
    if (kind == PLAYOUT_FLOAT) return *(const MLP_V *)((const float *)w + i);
#if defined(__x86_64__) && MLP_LANES == 16
    if (kind == PLAYOUT_INT8)
        return (MLP_V)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)((const int8_t *)w + i))));
    const __m256i bits = _mm256_loadu_si256((const __m256i *)((const uint16_t *)w + i));
    return (MLP_V)_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16);
#else
    if (kind == PLAYOUT_INT8)
        return __builtin_convertvector(*(const MLP_N(playout_byte) *)((const int8_t *)w + i), MLP_V);
    MLP_N(playout_half) bits = *(const MLP_N(playout_half) *)((const uint16_t *)w + i);
    return (MLP_V)(__builtin_convertvector(bits, MLP_N(playout_word)) << 16);
#endif
}

#if MLP_LANES == 16
#define PLAYOUT_PAIR(k) \
    k, k + 2, k + 4, k + 6, k + 8, k + 10, k + 12, k + 14, k + 16, k + 18, k + 20, k + 22, k + 24, k + 26, k + 28, k + 30
#elif MLP_LANES == 8
#define PLAYOUT_PAIR(k) k, k + 2, k + 4, k + 6, k + 8, k + 10, k + 12, k + 14
#else
#define PLAYOUT_PAIR(k) k, k + 2, k + 4, k + 6
#endif

/* Sums of neighbours in a, then of those in b. */
MLP_INLINE MLP_V MLP_N(playout_pairs)(MLP_V a, MLP_V b) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, PLAYOUT_PAIR(0)) + __builtin_shufflevector(a, b, PLAYOUT_PAIR(1));
#else
    const MLP_N(playout_word) even = {PLAYOUT_PAIR(0)}, odd = {PLAYOUT_PAIR(1)};
    return __builtin_shuffle(a, b, even) + __builtin_shuffle(a, b, odd);
#endif
}
#undef PLAYOUT_PAIR

/* The sum of each of `count` vectors, a power of two; they are overwritten, sum k then stands at place k. */
MLP_INLINE void MLP_N(playout_sums)(MLP_V *v, int count) {
    for (int lanes = MLP_LANES; lanes > 1; lanes /= 2) {
        if (count == 1) v[0] = MLP_N(playout_pairs)(v[0], v[0]);
        for (int k = 0; k < count / 2; k++) v[k] = MLP_N(playout_pairs)(v[2 * k], v[2 * k + 1]);
        count = count > 1 ? count / 2 : 1;
    }
}

/* `outputs` times `rows` must be a power of two. */
MLP_INLINE void MLP_N(playout_tile)(int kind, int outputs, int rows, const void *w, const float *scales,
                                    const float *x, float *y, ptrdiff_t n, ptrdiff_t ldy) {
    MLP_V sum[16];
    for (int k = 0; k < outputs * rows; k++) sum[k] = (MLP_V){0};
    ptrdiff_t i = 0, ahead = outputs * n; /* where the next tile's weights lie */
    for (; i + MLP_LANES <= n; i += MLP_LANES) {
        MLP_V v[4];
        for (int r = 0; r < rows; r++) v[r] = *(const MLP_V *)(x + r * n + i);
        for (int o = 0; o < outputs; o++) {
            __builtin_prefetch((const char *)w + (o * n + i + ahead) * playout_size(kind));
            MLP_V weights = MLP_N(playout_weights)(kind, w, o * n + i);
            for (int r = 0; r < rows; r++)
                sum[o * rows + r] = MLP_MADD(weights, v[r], sum[o * rows + r]);
        }
    }
    MLP_N(playout_sums)(sum, outputs * rows);
    float sums[16];
    memcpy(sums, sum, sizeof(float) * outputs * rows);
    for (int o = 0; o < outputs; o++)
        for (int r = 0; r < rows; r++) {
            float rest = 0.0f;
            for (ptrdiff_t k = i; k < n; k++) rest += playout_weight(kind, w, o * n + k) * x[r * n + k];
            y[r * ldy + o] = (sums[o * rows + r] + rest) * (scales ? scales[o] : 1.0f);
        }
}

/* Outputs [begin, end) of all rows; more outputs in a tile where there are registers for them. */
MLP_INLINE void MLP_N(playout_outputs)(int kind, const playout_product *p, int64_t begin, int64_t end) {
    const int tall = MLP_LANES < 16 ? 2 : 4;
    ptrdiff_t n = p->n, size = n * playout_size(kind);
    for (int64_t o = begin; o < end;) {
        const char *w = (const char *)p->w + o * size;
        const float *scales = p->scales ? p->scales + o : NULL;
        int count = o + tall <= end ? tall : 1;
        int64_t r = 0;
#define PLAYOUT_TILE(wide, high)                                                                               \
    MLP_N(playout_tile)(kind, wide, high, w, scales, p->x + r * n, p->y + r * p->outputs + o, n, p->outputs);      \
    r += high
        while (r + 4 <= p->rows) {
            if (count == 1) {
                PLAYOUT_TILE(1, 4);
            } else {
                PLAYOUT_TILE(tall, 4);
            }
        }
        while (r < p->rows) {
            if (count == 1) {
                PLAYOUT_TILE(1, 1);
            } else {
                PLAYOUT_TILE(tall, 1);
            }
        }
#undef PLAYOUT_TILE
        o += count;
    }
}

static MLP_TARGET void MLP_N(playout_products)(const void *job, int64_t begin, int64_t end) {
    const playout_product *p = (const playout_product *)job;
    if (p->kind == PLAYOUT_FLOAT)
        MLP_N(playout_outputs)(PLAYOUT_FLOAT, p, begin, end);
    else if (p->kind == PLAYOUT_BFLOAT16)
        MLP_N(playout_outputs)(PLAYOUT_BFLOAT16, p, begin, end);
    else
        MLP_N(playout_outputs)(PLAYOUT_INT8, p, begin, end);
}
