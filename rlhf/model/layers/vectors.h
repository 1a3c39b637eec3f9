/* Sixteen floats as one vector, for loops that compilers do not make vectors of: choices and exponentials in sums.
 *
 * Whatever the processor has in place of such a vector, the numbers are the same.
 */
#ifndef PLAYOUT_VECTORS_H
#define PLAYOUT_VECTORS_H

#include "_elementwise.h"

#define PLAYOUT_INLINE static inline __attribute__((always_inline))
typedef float playout_v __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t playout_vi __attribute__((vector_size(64)));
typedef uint16_t playout_vh __attribute__((vector_size(32), aligned(2), may_alias));

PLAYOUT_INLINE playout_v playout_pick(playout_vi where, playout_v yes, playout_v no) {
    return (playout_v)((where & (playout_vi)yes) | (~where & (playout_vi)no));
}

PLAYOUT_INLINE playout_v playout_get_f32(const float *p) { return *(const playout_v *)p; }
PLAYOUT_INLINE void playout_put_f32(float *p, playout_v x) { *(playout_v *)p = x; }
PLAYOUT_INLINE playout_v playout_get_bf16(const playout_bf16 *p) {
    return (playout_v)(__builtin_convertvector(*(const playout_vh *)p, playout_vi) << 16);
}
PLAYOUT_INLINE void playout_put_bf16(playout_bf16 *p, playout_v x) {
    playout_vi bits = (playout_vi)x, rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    rounded = (playout_vi)playout_pick((playout_vi)(x == x), (playout_v)rounded, (playout_v)(0x7FC0u - (playout_vi){0}));
    *(playout_vh *)p = __builtin_convertvector(rounded, playout_vh);
}

/* playout_exp of 16 numbers, none above 88. */
PLAYOUT_INLINE playout_v playout_exps(playout_v x) {
    const playout_v least = -87.0f - (playout_v){0};
    x = playout_pick((playout_vi)(x < least), least, x);
    playout_v n = x * 1.44269504f + 12582912.0f;
    playout_vi bits = (playout_vi)n;
    n -= 12582912.0f;
    playout_v r = x - n * 0.693359375f;
    r -= n * -2.12194440e-4f;
    playout_v p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * (playout_v)((bits + 127u) << 23);
}

static inline float playout_most_of(playout_v x) {
    float lanes[16];
    memcpy(lanes, &x, sizeof lanes);
    for (int i = 1; i < 16; i++) lanes[0] = lanes[i] > lanes[0] ? lanes[i] : lanes[0];
    return lanes[0];
}

static inline float playout_sum_of(playout_v x) {
    float lanes[16];
    memcpy(lanes, &x, sizeof lanes);
    return playout_sum16(lanes);
}

#endif
