/* Batch normalisation, an optional addition and ReLU in one pass, forward and backward.
 *
 * x is bfloat16 [rows, channels], a channel a column; sums and arithmetic are float32. Columns are
 * taken 16 at a time, so that their sums stay in registers, in blocks of rows that stay in the nearest
 * cache; blocks' sums are added up in order, so rounding hardly grows with the number of rows.
 */
#ifndef PLAYOUT_NORM_RELU_H
#define PLAYOUT_NORM_RELU_H

#include "bf16.h"

#define NORM_LANES 8
#define NORM_COLUMNS 16
#define NORM_BLOCK 64 /* rows */

typedef float norm_floats __attribute__((vector_size(32)));
typedef uint32_t norm_bits __attribute__((vector_size(32)));

/* 16 columns: those of even and of odd number apart, since two bfloat16 that share 32 bits come apart by
 * a shift and a mask, while any other order needs shuffles, which cost more than the arithmetic. */
typedef struct norm_v {
    norm_floats even, odd;
} norm_v;

/* Vectors never cross a real call. */
#define NORM_INLINE static inline __attribute__((always_inline))

NORM_INLINE norm_v norm_load(const playout_bf16 *from) {
    norm_bits pairs;
    memcpy(&pairs, from, sizeof pairs);
    return (norm_v){(norm_floats)(pairs << 16), (norm_floats)(pairs & 0xFFFF0000u)};
}

/* Rounds to nearest even. Results that are not numbers stay so: their lower half is empty. */
NORM_INLINE norm_bits norm_round(norm_floats x) {
    norm_bits bits = (norm_bits)x;
    return bits + 0x7FFFu + ((bits >> 16) & 1u);
}

NORM_INLINE void norm_store(playout_bf16 *to, norm_v x) {
    norm_bits pairs = (norm_round(x.even) >> 16) | (norm_round(x.odd) & 0xFFFF0000u);
    memcpy(to, &pairs, sizeof pairs);
}

NORM_INLINE norm_v norm_read(const float *from) {
    norm_v x;
    for (int j = 0; j < NORM_LANES; j++) {
        x.even[j] = from[2 * j];
        x.odd[j] = from[2 * j + 1];
    }
    return x;
}

NORM_INLINE void norm_add(float *to, norm_v x) {
    for (int j = 0; j < NORM_LANES; j++) {
        to[2 * j] += x.even[j];
        to[2 * j + 1] += x.odd[j];
    }
}

/* a x + b */
NORM_INLINE norm_v norm_madd(norm_v a, norm_v x, norm_v b) {
    return (norm_v){a.even * x.even + b.even, a.odd * x.odd + b.odd};
}

NORM_INLINE norm_v norm_plus(norm_v a, norm_v b) { return (norm_v){a.even + b.even, a.odd + b.odd}; }

NORM_INLINE norm_v norm_minus(norm_v a, norm_v b) { return (norm_v){a.even - b.even, a.odd - b.odd}; }

/* x where `where` is positive, else 0. */
NORM_INLINE norm_floats norm_mask(norm_floats x, norm_floats where) {
    return (norm_floats)((norm_bits)x & (norm_bits)(where > 0.0f));
}

NORM_INLINE norm_v norm_gate(norm_v x, norm_v where) {
    return (norm_v){norm_mask(x.even, where.even), norm_mask(x.odd, where.odd)};
}

/* Not a number stays so. */
NORM_INLINE norm_floats norm_positive(norm_floats x) {
    return (norm_floats)((norm_bits)x & ~(norm_bits)(x < 0.0f));
}

/* Every block of rows in turn, and in it 16 columns at a time; `at` runs down them. */
#define NORM_BLOCKS                                                                                        \
    for (int64_t begin = 0, end = NORM_BLOCK; begin < rows; begin = end, end += NORM_BLOCK)                \
        for (int64_t c = 0, last = (end < rows ? end : rows) * channels; c < channels; c += NORM_COLUMNS)
#define NORM_ROWS for (int64_t at = begin * channels + c; at < last; at += channels)

/* Means and variances (biased) of the columns. */
PLAYOUT_CLONES static void norm_moments(const playout_bf16 *x, float *mean, float *variance, int64_t rows,
                                        int64_t channels) {
    memset(mean, 0, sizeof(float) * (size_t)channels);
    memset(variance, 0, sizeof(float) * (size_t)channels);
    NORM_BLOCKS {
        norm_v sum = {{0}, {0}};
        NORM_ROWS sum = norm_plus(sum, norm_load(x + at));
        norm_add(mean + c, sum);
    }
    for (int64_t c = 0; c < channels; c++) mean[c] /= (float)rows;
    NORM_BLOCKS {
        norm_v sum = {{0}, {0}}, center = norm_read(mean + c);
        NORM_ROWS {
            norm_v value = norm_minus(norm_load(x + at), center);
            sum = norm_madd(value, value, sum);
        }
        norm_add(variance + c, sum);
    }
    for (int64_t c = 0; c < channels; c++) variance[c] /= (float)rows;
}

/* y = max(0, scale x + shift + residual), where residual may be NULL. */
PLAYOUT_CLONES static void norm_relu_apply(const playout_bf16 *x, const playout_bf16 *residual, const float *scale,
                                           const float *shift, playout_bf16 *y, int64_t rows, int64_t channels) {
    NORM_BLOCKS {
        norm_v times = norm_read(scale + c), plus = norm_read(shift + c);
        NORM_ROWS {
            norm_v value = norm_madd(times, norm_load(x + at), plus);
            if (residual) value = norm_plus(value, norm_load(residual + at));
            norm_store(y + at, (norm_v){norm_positive(value.even), norm_positive(value.odd)});
        }
    }
}

/* With g the gradient where y > 0: the columns' sums of g and of g (x - mean). */
PLAYOUT_CLONES static void norm_relu_sums(const playout_bf16 *grad, const playout_bf16 *x, const playout_bf16 *y,
                                          const float *mean, float *sum_g, float *sum_gx, int64_t rows,
                                          int64_t channels) {
    memset(sum_g, 0, sizeof(float) * (size_t)channels);
    memset(sum_gx, 0, sizeof(float) * (size_t)channels);
    NORM_BLOCKS {
        norm_v sum = {{0}, {0}}, product = sum, center = norm_read(mean + c);
        NORM_ROWS {
            norm_v g = norm_gate(norm_load(grad + at), norm_load(y + at));
            sum = norm_plus(sum, g);
            product = norm_madd(g, norm_minus(norm_load(x + at), center), product);
        }
        norm_add(sum_g + c, sum);
        norm_add(sum_gx + c, product);
    }
}

/* The gradient of x, a g + b x + d, and that of the residual, g, where it is wanted. */
PLAYOUT_CLONES static void norm_relu_back(const playout_bf16 *grad, const playout_bf16 *x, const playout_bf16 *y,
                                          const float *a, const float *b, const float *d, playout_bf16 *grad_x,
                                          playout_bf16 *grad_residual, int64_t rows, int64_t channels) {
    NORM_BLOCKS {
        norm_v of_g = norm_read(a + c), of_x = norm_read(b + c), plus = norm_read(d + c);
        NORM_ROWS {
            norm_v g = norm_gate(norm_load(grad + at), norm_load(y + at));
            if (grad_residual) norm_store(grad_residual + at, g);
            norm_store(grad_x + at, norm_madd(of_g, g, norm_madd(of_x, norm_load(x + at), plus)));
        }
    }
}

#endif
