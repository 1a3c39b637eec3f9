/* The Transformer's element-wise layers in one pass each, forward and backward, float32 or bfloat16.
 *
 * SwiGLU, RMS normalisation and the split into heads with rotary positions. A call works on rows
 * [begin, end) and writes nothing else, so callers may cut rows among threads: every row is
 * computed alone and results do not depend on the cut. Arithmetic is float32; bfloat16 is rounded
 * to nearest even and keeps NaN. Counters are 64 bits wide, or -fwrapv would prevent vectorising.
 */
#ifndef PLAYOUT_ELEMENTWISE_H
#define PLAYOUT_ELEMENTWISE_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "../../../agents/kernels/bf16.h"

static inline float playout_load_f32(float x) { return x; }
static inline float playout_store_f32(float x) { return x; }

/* e^x by 2^n e^r with |r| <= ln(2)/2 (Cody and Waite 1980); about 2 units in the last place, no branches. */
static inline float playout_exp(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float n = x * 1.44269504f + 12582912.0f;
    int32_t bits;
    memcpy(&bits, &n, sizeof bits);
    n -= 12582912.0f;
    float r = x - n * 0.693359375f;
    r -= n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    uint32_t scale = ((uint32_t)bits + 127u) << 23;
    float power;
    memcpy(&power, &scale, sizeof power);
    return p * power;
}

static inline float playout_sigmoid(float x) {
    /* The clamp in playout_exp would hide a NaN. */
    float y = 1.0f / (1.0f + playout_exp(-x));
    return x != x ? x : y;
}

/* Loops of a fixed length are vectorised whole; what is left of a row is the end of one more block, which
 * computes some numbers twice. Rows that are shorter go one by one. */
enum { PLAYOUT_BLOCK = 32 };

/* gate_up [rows, 2 inner] to silu(gate) * up [rows, inner], and back. */
#define PLAYOUT_SWIGLU(T, S)                                                                                    \
    static inline void playout_gate_##S(const T *restrict gate, const T *restrict up, T *restrict to, int64_t size) {\
        for (int64_t i = 0; i < size; i++) {                                                                    \
            float g = playout_load_##S(gate[i]);                                                                \
            to[i] = playout_store_##S(g * playout_sigmoid(g) * playout_load_##S(up[i]));                        \
        }                                                                                                       \
    }                                                                                                           \
    PLAYOUT_CLONES static void playout_swiglu_##S(const T *gate_up, T *out, int64_t inner, int64_t begin,       \
                                                  int64_t end) {                                                \
        int64_t whole = inner - inner % PLAYOUT_BLOCK, last = inner - PLAYOUT_BLOCK;                            \
        for (int64_t r = begin; r < end; r++) {                                                                 \
            const T *gate = gate_up + 2 * r * inner, *up = gate + inner;                                        \
            T *to = out + r * inner;                                                                            \
            for (int64_t i = 0; i < whole; i += PLAYOUT_BLOCK)                                                  \
                playout_gate_##S(gate + i, up + i, to + i, PLAYOUT_BLOCK);                                      \
            if (whole < inner && last >= 0) playout_gate_##S(gate + last, up + last, to + last, PLAYOUT_BLOCK); \
            if (last < 0) playout_gate_##S(gate, up, to, inner);                                                \
        }                                                                                                       \
    }                                                                                                           \
    static inline void playout_gate_back_##S(const T *restrict from, const T *restrict gate, const T *restrict up,\
                                             T *restrict to_gate, T *restrict to_up, int64_t size) {            \
        for (int64_t i = 0; i < size; i++) {                                                                    \
            float g = playout_load_##S(gate[i]), d = playout_load_##S(from[i]);                                 \
            float s = playout_sigmoid(g);                                                                       \
            to_gate[i] = playout_store_##S(d * playout_load_##S(up[i]) * s * (1.0f + g * (1.0f - s)));          \
            to_up[i] = playout_store_##S(d * g * s);                                                            \
        }                                                                                                       \
    }                                                                                                           \
    PLAYOUT_CLONES static void playout_swiglu_back_##S(const T *grad, const T *gate_up, T *out,                 \
                                                       int64_t inner, int64_t begin, int64_t end) {             \
        int64_t whole = inner - inner % PLAYOUT_BLOCK, last = inner - PLAYOUT_BLOCK;                            \
        for (int64_t r = begin; r < end; r++) {                                                                 \
            const T *gate = gate_up + 2 * r * inner, *up = gate + inner, *from = grad + r * inner;              \
            T *to_gate = out + 2 * r * inner, *to_up = to_gate + inner;                                         \
            for (int64_t i = 0; i < whole; i += PLAYOUT_BLOCK)                                                  \
                playout_gate_back_##S(from + i, gate + i, up + i, to_gate + i, to_up + i, PLAYOUT_BLOCK);       \
            if (whole < inner && last >= 0)                                                                     \
                playout_gate_back_##S(from + last, gate + last, up + last, to_gate + last, to_up + last,        \
                                      PLAYOUT_BLOCK);                                                           \
            if (last < 0) playout_gate_back_##S(from, gate, up, to_gate, to_up, inner);                         \
        }                                                                                                       \
    }

PLAYOUT_SWIGLU(float, f32)
PLAYOUT_SWIGLU(playout_bf16, bf16)

/* A sum in 16 lanes, always added up in the same order. */
static inline float playout_sum16(float *lanes) {
    for (int64_t j = 0; j < 8; j++) lanes[j] += lanes[j + 8];
    for (int64_t j = 0; j < 4; j++) lanes[j] += lanes[j + 4];
    return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
}

/* x [rows, n], X its type, to y = x / sqrt(mean(x^2) + eps) in type T; scale [rows] is kept. */
#define PLAYOUT_RMS(X, XS, T, S)                                                                            \
    PLAYOUT_CLONES static void playout_rms_##XS##_##S(const X *x, T *y, float *scale, int64_t n, float eps, \
                                                      int64_t begin, int64_t end) {                         \
        for (int64_t r = begin; r < end; r++) {                                                             \
            const X *from = x + r * n;                                                                      \
            T *to = y + r * n;                                                                              \
            float lanes[16] = {0};                                                                          \
            int64_t i = 0;                                                                                  \
            for (; i + 16 <= n; i += 16)                                                                    \
                for (int64_t j = 0; j < 16; j++) {                                                          \
                    float v = playout_load_##XS(from[i + j]);                                               \
                    lanes[j] += v * v;                                                                      \
                }                                                                                           \
            for (int64_t j = 0; i < n; i++, j++) lanes[j] += playout_load_##XS(from[i]) * playout_load_##XS(from[i]); \
            float s = 1.0f / sqrtf(playout_sum16(lanes) / (float)n + eps);                                  \
            scale[r] = s;                                                                                   \
            for (int64_t k = 0; k < n; k++) to[k] = playout_store_##S(playout_load_##XS(from[k]) * s);      \
        }                                                                                                   \
    }                                                                                                       \
    PLAYOUT_CLONES static void playout_rms_back_##XS##_##S(const T *grad, const T *y, const float *scale,   \
                                                           X *out, int64_t n, int64_t begin, int64_t end) { \
        for (int64_t r = begin; r < end; r++) {                                                             \
            const T *from = grad + r * n, *own = y + r * n;                                                 \
            float lanes[16] = {0};                                                                          \
            int64_t i = 0;                                                                                  \
            for (; i + 16 <= n; i += 16)                                                                    \
                for (int64_t j = 0; j < 16; j++)                                                            \
                    lanes[j] += playout_load_##S(from[i + j]) * playout_load_##S(own[i + j]);               \
            for (int64_t j = 0; i < n; i++, j++) lanes[j] += playout_load_##S(from[i]) * playout_load_##S(own[i]); \
            float along = playout_sum16(lanes) / (float)n, s = scale[r];                                    \
            for (int64_t k = 0; k < n; k++)                                                                 \
                out[r * n + k] =                                                                            \
                    playout_store_##XS((playout_load_##S(from[k]) - playout_load_##S(own[k]) * along) * s); \
        }                                                                                                   \
    }

PLAYOUT_RMS(float, f32, float, f32)
PLAYOUT_RMS(float, f32, playout_bf16, bf16)
PLAYOUT_RMS(playout_bf16, bf16, playout_bf16, bf16)

typedef struct {
    int64_t length, heads, kv_heads, half, table_rows;
    const float *cosines, *sines; /* [table_rows, half]; row b * length + l modulo table_rows */
} playout_rotary;

/* A row is a token. qkv [B * L, (heads + 2 kv_heads) * 2 half] to q, k, v [B, heads, L, 2 half], and back. */
#define PLAYOUT_ROTARY(T, S)                                                                                \
    static inline void playout_turn_##S(const T *from, T *to, const float *c, const float *s, float sign,   \
                                        int64_t half) {                                                     \
        for (int64_t i = 0; i < half; i++) {                                                                \
            float a = playout_load_##S(from[i]), b = playout_load_##S(from[half + i]), t = sign * s[i];     \
            to[i] = playout_store_##S(a * c[i] - b * t);                                                    \
            to[half + i] = playout_store_##S(b * c[i] + a * t);                                             \
        }                                                                                                   \
    }                                                                                                       \
    static inline T *playout_part_##S(const playout_rotary *m, T *q, T *k, T *v, int64_t h, int64_t row) {  \
        int64_t b = row / m->length, l = row % m->length, own = m->heads;                                   \
        T *base = q;                                                                                        \
        if (h >= m->heads + m->kv_heads)                                                                    \
            base = v, h -= m->heads + m->kv_heads, own = m->kv_heads;                                       \
        else if (h >= m->heads)                                                                             \
            base = k, h -= m->heads, own = m->kv_heads;                                                     \
        return base + ((b * own + h) * m->length + l) * 2 * m->half;                                        \
    }                                                                                                       \
    PLAYOUT_CLONES static void playout_rotary_##S(const playout_rotary *m, T *qkv, T *q, T *k, T *v,        \
                                                  int back, int64_t begin, int64_t end) {                   \
        int64_t rotated = m->heads + m->kv_heads, all = rotated + m->kv_heads, size = 2 * m->half;            \
        for (int64_t r = begin; r < end; r++) {                                                             \
            const float *c = m->cosines + r % m->table_rows * m->half;                                      \
            const float *s = m->sines + r % m->table_rows * m->half;                                        \
            for (int64_t h = 0; h < all; h++) {                                                             \
                T *whole = qkv + (r * all + h) * size, *part = playout_part_##S(m, q, k, v, h, r);          \
                T *from = back ? part : whole, *to = back ? whole : part;                                   \
                if (h < rotated)                                                                             \
                    playout_turn_##S(from, to, c, s, back ? -1.0f : 1.0f, m->half);                         \
                else                                                                                        \
                    memcpy(to, from, sizeof(T) * (size_t)size);                                             \
            }                                                                                               \
        }                                                                                                   \
    }

PLAYOUT_ROTARY(float, f32)
PLAYOUT_ROTARY(playout_bf16, bf16)

/* weight [rows, n] times gain [n] in type T, and from the gradient of that those of both. Rows are taken
 * by PLAYOUT_FOLD: each such part has its own sums for the gain's gradient, whoever computes it. */
enum { PLAYOUT_FOLD = 64 };
#define PLAYOUT_FOLDED(T, S)                                                                                \
    PLAYOUT_CLONES static void playout_fold_##S(const float *weight, const float *gain, T *y, int64_t n,    \
                                                int64_t begin, int64_t end) {                               \
        for (int64_t r = begin; r < end; r++)                                                               \
            for (int64_t i = 0; i < n; i++) y[r * n + i] = playout_store_##S(weight[r * n + i] * gain[i]);  \
    }                                                                                                       \
    PLAYOUT_CLONES static void playout_fold_back_##S(const T *grad, const float *weight, const float *gain, \
                                                     float *out, float *sums, int64_t n, int64_t rows,      \
                                                     int64_t begin, int64_t end) {                          \
        for (int64_t part = begin; part < end; part++) {                                                    \
            float *sum = sums + part * n;                                                                   \
            int64_t last = (part + 1) * PLAYOUT_FOLD < rows ? (part + 1) * PLAYOUT_FOLD : rows;             \
            for (int64_t i = 0; i < n; i++) sum[i] = 0.0f;                                                  \
            for (int64_t r = part * PLAYOUT_FOLD; r < last; r++) {                                          \
                const T *from = grad + r * n;                                                               \
                const float *own = weight + r * n;                                                          \
                float *to = out + r * n;                                                                    \
                for (int64_t i = 0; i < n; i++) {                                                           \
                    float g = playout_load_##S(from[i]);                                                    \
                    to[i] = g * gain[i];                                                                    \
                    sum[i] += g * own[i];                                                                   \
                }                                                                                           \
            }                                                                                               \
        }                                                                                                   \
    }

PLAYOUT_FOLDED(float, f32)
PLAYOUT_FOLDED(playout_bf16, bf16)

#endif
