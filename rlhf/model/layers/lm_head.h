/* Log-probabilities of tokens and their gradients, from rows of logits in float32 or bfloat16.
 *
 * Two passes over a row that lies in the cache give its largest logit, the sum of exponentials and the
 * entropy; one more turns the logits into the gradient where they lie. Arithmetic is float32 in 16
 * lanes, always added up in the same order, and written as vectors: compilers do not make them of a
 * choice or an exponential in a sum. A call works on rows [begin, end) and writes nothing else.
 */
#ifndef PLAYOUT_LM_HEAD_H
#define PLAYOUT_LM_HEAD_H

#include "vectors.h"

/* logits [rows, n]; for each row log p of its target, the entropy of p and log sum exp. */
#define PLAYOUT_LIKELIHOOD(T, S)                                                                            \
    PLAYOUT_CLONES static void playout_likelihood_##S(const T *logits, const int64_t *targets,              \
                                                      float *logprobs, float *entropies, float *lse,        \
                                                      int64_t n, int64_t begin, int64_t end) {              \
        for (int64_t r = begin; r < end; r++) {                                                             \
            const T *row = logits + r * n;                                                                  \
            float first = playout_load_##S(row[0]), lanes[16];                                              \
            playout_v most = first - (playout_v){0}, sum = {0}, mean = {0};                                 \
            int64_t i = 0;                                                                                  \
            for (; i + 16 <= n; i += 16) {                                                                  \
                playout_v x = playout_get_##S(row + i);                                                     \
                most = playout_pick((playout_vi)(x > most), x, most);                                       \
            }                                                                                               \
            memcpy(lanes, &most, sizeof lanes);                                                             \
            float top = first;                                                                              \
            for (int64_t j = 0; j < 16; j++) top = lanes[j] > top ? lanes[j] : top;                         \
            for (; i < n; i++) top = playout_load_##S(row[i]) > top ? playout_load_##S(row[i]) : top;       \
            for (i = 0; i + 16 <= n; i += 16) {                                                             \
                playout_v x = playout_get_##S(row + i) - top, e = playout_exps(x);                          \
                sum += e;                                                                                   \
                mean += e * x;                                                                              \
            }                                                                                               \
            memcpy(lanes, &sum, sizeof lanes);                                                              \
            float total = playout_sum16(lanes);                                                             \
            memcpy(lanes, &mean, sizeof lanes);                                                             \
            float weighted = playout_sum16(lanes);                                                          \
            for (; i < n; i++) {                                                                            \
                float x = playout_load_##S(row[i]) - top, e = playout_exp(x);                               \
                total += e;                                                                                 \
                weighted += e * x;                                                                          \
            }                                                                                               \
            float log_total = logf(total);                                                                  \
            lse[r] = top + log_total;                                                                       \
            logprobs[r] = playout_load_##S(row[targets[r]]) - top - log_total;                              \
            entropies[r] = log_total - weighted / total;                                                    \
        }                                                                                                   \
    }                                                                                                       \
    /* From logits to the gradient of sum(outer * log p(target) + spread * entropy), in their place:        \
     * d log p(target) = onehot - p, d entropy = -p (log p + entropy). */                                   \
    PLAYOUT_CLONES static void playout_likelihood_back_##S(                                                 \
        T *logits, const int64_t *targets, const float *logprobs, const float *entropies, const float *lse, \
        const float *outer, const float *spread, int64_t n, int64_t begin, int64_t end) {                   \
        for (int64_t r = begin; r < end; r++) {                                                             \
            T *row = logits + r * n;                                                                        \
            float whole = lse[r], a = outer[r], b = spread[r], h = entropies[r], own = logprobs[r];         \
            int64_t i = 0;                                                                                  \
            for (; i + 16 <= n; i += 16) {                                                                  \
                playout_v x = playout_get_##S(row + i) - whole;                                             \
                playout_put_##S(row + i, -playout_exps(x) * (b * (x + h) + a));                             \
            }                                                                                               \
            for (; i < n; i++) {                                                                            \
                float x = playout_load_##S(row[i]) - whole;                                                 \
                row[i] = playout_store_##S(-playout_exp(x) * (b * (x + h) + a));                            \
            }                                                                                               \
            /* The target's entry anew: 1 - p is lost where p was rounded to nearly 1. */                   \
            row[targets[r]] = playout_store_##S(-expm1f(own) * a - expf(own) * b * (own + h));              \
        }                                                                                                   \
    }

PLAYOUT_LIKELIHOOD(float, f32)
PLAYOUT_LIKELIHOOD(playout_bf16, bf16)

#endif
