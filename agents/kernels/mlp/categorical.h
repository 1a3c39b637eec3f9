/* A categorical distribution over a row of logits: log-probabilities, entropy, draws and gradients.
 *
 * Masked actions have a log-probability of -1e30. A row whose mask is all 0 counts as uniform, and has no gradient.
 * The formulas are those of networks/distributions.py.
 */
#ifndef PLAYOUT_MLP_CATEGORICAL_H
#define PLAYOUT_MLP_CATEGORICAL_H

#include <math.h>
#include <stddef.h>

#define MLP_MASKED -1e30f
#define MLP_LEGAL(logp) ((logp) > -1e29f)

static inline int mlp_any_legal(const unsigned char *mask, int count) {
    for (int a = 0; mask && a < count; a++) {
        if (mask[a]) {
            return 1;
        }
    }
    return !mask;
}

static inline void mlp_log_softmax(const float *logits, const unsigned char *mask, int count, float *logp) {
    float high = MLP_MASKED, total = 0.0f;
    if (!mlp_any_legal(mask, count)) {
        for (int a = 0; a < count; a++) {
            logp[a] = -logf((float)count);
        }
        return;
    }
    for (int a = 0; a < count; a++) {
        if ((!mask || mask[a]) && logits[a] > high) {
            high = logits[a];
        }
    }
    for (int a = 0; a < count; a++) {
        if (!mask || mask[a]) {
            total += expf(logits[a] - high);
        }
    }
    total = high + logf(total);
    for (int a = 0; a < count; a++) {
        logp[a] = !mask || mask[a] ? logits[a] - total : MLP_MASKED;
    }
}

static inline float mlp_entropy(const float *logp, int count) {
    float total = 0.0f;
    for (int a = 0; a < count; a++) {
        if (MLP_LEGAL(logp[a])) {
            total -= expf(logp[a]) * logp[a];
        }
    }
    return total;
}

/* The action that a uniform number in [0, 1) stands for. */
static inline int mlp_draw(const float *logp, int count, float uniform) {
    int chosen = 0;
    for (int a = 0; a < count; a++) {
        if (MLP_LEGAL(logp[a])) {
            chosen = a;
            uniform -= expf(logp[a]);
            if (uniform < 0.0f) {
                break;
            }
        }
    }
    return chosen;
}

/* The most likely action, the first among equals. */
static inline int mlp_mode(const float *logp, int count) {
    int chosen = 0;
    float best = -1e38f;
    for (int a = 0; a < count; a++) {
        if (logp[a] > best) {
            best = logp[a];
            chosen = a;
        }
    }
    return chosen;
}

/* d [count], which holds 0, becomes the gradient of the logits, given those of an action's log-probability and of the
 * entropy. */
static inline void mlp_categorical_grad(const float *logp, const unsigned char *mask, int count, ptrdiff_t action,
                                        float logp_grad, float entropy_grad, float *d) {
    if (!mlp_any_legal(mask, count)) {
        return;
    }
    float entropy = entropy_grad != 0.0f ? mlp_entropy(logp, count) : 0.0f;
    for (int a = 0; a < count; a++) {
        if (MLP_LEGAL(logp[a])) {
            float p = expf(logp[a]);
            d[a] = -logp_grad * p;
            if (entropy_grad != 0.0f) {
                d[a] -= entropy_grad * p * (logp[a] + entropy);
            }
        }
    }
    d[action] += logp_grad;
}

#endif
