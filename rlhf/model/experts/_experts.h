/* What a mixture of experts does besides products: the router's choice, and rows to the experts and back.
 *
 * As in _elementwise.h a call works on rows [begin, end) of tokens, computed each alone in float32;
 * bfloat16 is rounded to nearest even.
 */
#ifndef PLAYOUT_EXPERTS_H
#define PLAYOUT_EXPERTS_H

#include "../layers/_elementwise.h"

typedef struct {
    int64_t experts, count; /* of them a token goes to so many */
    int normalise;          /* whether its weights add up to 1 */
} playout_router;

/* logits [rows, experts] to their softmax, the logarithm of its sum, and the best `count` with their
 * weights [rows, count]; of equal ones the first. What is no number is taken along. */
PLAYOUT_CLONES static void playout_route_rows(const playout_router *m, const float *logits, float *probabilities,
                                              float *log_sums, float *weights, int64_t *chosen, int64_t begin,
                                              int64_t end) {
    int64_t experts = m->experts, count = m->count;
    for (int64_t r = begin; r < end; r++) {
        const float *from = logits + r * experts;
        float *p = probabilities + r * experts, *w = weights + r * count;
        int64_t *to = chosen + r * count;
        float top = -INFINITY, total = 0.0f, kept = 0.0f;
        for (int64_t e = 0; e < experts; e++) top = from[e] > top ? from[e] : top;
        for (int64_t e = 0; e < experts; e++) {
            float x = from[e] - top, y = playout_exp(x);
            p[e] = x != x ? x : y; /* the clamp in playout_exp would hide a NaN */
        }
        for (int64_t e = 0; e < experts; e++) total += p[e];
        for (int64_t e = 0; e < experts; e++) p[e] /= total;
        log_sums[r] = top + logf(total);
        for (int64_t j = 0; j < count; j++) {
            int64_t best = -1, last = j ? to[j - 1] : -1;
            for (int64_t e = 0; e < experts; e++) {
                int left = last < 0 || p[e] < p[last] || (p[e] == p[last] && e > last);
                if (left && p[e] >= 0.0f && (best < 0 || p[e] > p[best])) best = e;
            }
            to[j] = best < 0 ? j : best;
            kept += w[j] = p[to[j]];
        }
        for (int64_t j = 0; j < count; j++) w[j] /= m->normalise ? kept : 1.0f;
    }
}

/* The gradient of the logits from those of what came of them, each NULL where there is none. */
PLAYOUT_CLONES static void playout_route_back(const playout_router *m, const float *probabilities,
                                              const float *weights, const int64_t *chosen, const float *by_weights,
                                              const float *by_probabilities, const float *by_log_sums, float *grad,
                                              int64_t begin, int64_t end) {
    int64_t experts = m->experts, count = m->count;
    for (int64_t r = begin; r < end; r++) {
        const float *p = probabilities + r * experts, *w = weights + r * count;
        const int64_t *to = chosen + r * count;
        float *out = grad + r * experts;
        for (int64_t e = 0; e < experts; e++) out[e] = by_probabilities ? by_probabilities[r * experts + e] : 0.0f;
        if (by_weights) {
            const float *by = by_weights + r * count;
            float kept = 0.0f, along = 0.0f;
            for (int64_t j = 0; j < count; j++) kept += p[to[j]], along += by[j] * w[j];
            for (int64_t j = 0; j < count; j++) out[to[j]] += m->normalise ? (by[j] - along) / kept : by[j];
        }
        float along = 0.0f, whole = by_log_sums ? by_log_sums[r] : 0.0f;
        for (int64_t e = 0; e < experts; e++) along += out[e] * p[e];
        for (int64_t e = 0; e < experts; e++) out[e] = p[e] * (out[e] - along + whole);
    }
}

/* Where each pair of token and expert has its row, if those of expert e begin at next[e]; in their order. */
static void playout_places(const int64_t *chosen, int64_t *next, int64_t *places, int64_t pairs) {
    for (int64_t i = 0; i < pairs; i++) places[i] = next[chosen[i]]++;
}

/* x [tokens, n] to the rows [.., n] of its pairs; back to the tokens, added up by weights [tokens, count]
 * or, where they are NULL, as they are; and from the gradient of that sum those of rows and weights. */
#define PLAYOUT_EXPERT_ROWS(T, S)                                                                           \
    PLAYOUT_CLONES static void playout_spread_##S(const T *x, const int64_t *places, T *rows, int64_t count, \
                                                  int64_t n, int64_t begin, int64_t end) {                  \
        for (int64_t i = begin * count; i < end * count; i++)                                               \
            memcpy(rows + places[i] * n, x + i / count * n, sizeof(T) * (size_t)n);                         \
    }                                                                                                       \
    PLAYOUT_CLONES static void playout_collect_##S(const T *rows, const float *weights,                     \
                                                   const int64_t *places, T *out, int64_t count, int64_t n, \
                                                   int64_t begin, int64_t end) {                            \
        for (int64_t r = begin; r < end; r++)                                                               \
            for (int64_t at = 0; at < n; at += 64) {                                                        \
                float sums[64] = {0};                                                                       \
                int64_t size = n - at < 64 ? n - at : 64;                                                   \
                for (int64_t j = r * count; j < (r + 1) * count; j++) {                                     \
                    const T *from = rows + places[j] * n + at;                                              \
                    float w = weights ? weights[j] : 1.0f;                                                  \
                    for (int64_t i = 0; i < size; i++) sums[i] += w * playout_load_##S(from[i]);            \
                }                                                                                           \
                for (int64_t i = 0; i < size; i++) out[r * n + at + i] = playout_store_##S(sums[i]);        \
            }                                                                                               \
    }                                                                                                       \
    PLAYOUT_CLONES static void playout_collect_back_##S(const T *grad, const T *rows, const float *weights, \
                                                        const int64_t *places, T *by_rows, float *by_weights, \
                                                        int64_t count, int64_t n, int64_t begin, int64_t end) { \
        for (int64_t j = begin * count; j < end * count; j++) {                                             \
            const T *given = grad + j / count * n, *own = rows + places[j] * n;                             \
            T *to = by_rows + places[j] * n;                                                                \
            float w = weights[j], lanes[PLAYOUT_BLOCK] = {0};                                               \
            int64_t i = 0;                                                                                  \
            for (; i + PLAYOUT_BLOCK <= n; i += PLAYOUT_BLOCK)                                              \
                for (int64_t k = 0; k < PLAYOUT_BLOCK; k++)                                                 \
                    lanes[k] += playout_load_##S(given[i + k]) * playout_load_##S(own[i + k]);              \
            for (int64_t k = 0; i < n; i++, k++) lanes[k] += playout_load_##S(given[i]) * playout_load_##S(own[i]);\
            for (int64_t k = 0; k < 16; k++) lanes[k] += lanes[k + 16];                                     \
            by_weights[j] = playout_sum16(lanes);                                                           \
            for (i = 0; i < n; i++) to[i] = playout_store_##S(w * playout_load_##S(given[i]));              \
        }                                                                                                   \
    }

PLAYOUT_EXPERT_ROWS(float, f32)
PLAYOUT_EXPERT_ROWS(playout_bf16, bf16)

#endif
