/* Softmax attention with grouped key heads, forward and backward, without the matrix of weights in memory.
 *
 * A unit of work is one head of keys with the query heads that share it; units may be cut among threads.
 * Queries go in blocks whose weights stay in the cache (Dao et al. 2022); the backward pass computes
 * them again from the log of each query's sum. Sums are float32, whatever the tensors' type.
 * The functions stand in attention_body.h, for each instruction set.
 */
#ifndef PLAYOUT_ATTENTION_H
#define PLAYOUT_ATTENTION_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../../agents/kernels/mlp/transpose.h"
#include "vectors.h"

typedef struct {
    const void *q, *k, *v;     /* [B, heads, length, size] and [B, kv_heads, length, size], twice */
    void *out;                 /* like q */
    float *lse;                /* [B, heads, length]: log of a query's sum, infinite where it sees nothing */
    const void *grad;          /* like q; backward only, as what follows */
    void *by_q, *by_k, *by_v;
    const unsigned char *mask; /* [B, mask_rows, length], 0 where a query may not look, or NULL */
    int64_t heads, kv_heads, length, size, mask_rows, window;
    float scale;
    int bf16, causal;
    int failed; /* set where there was no memory */
} playout_attention;

enum { PLAYOUT_QUERIES = 32, PLAYOUT_PANEL = 32 };

static inline int64_t playout_padded(int64_t n) { return (n + PLAYOUT_PANEL - 1) / PLAYOUT_PANEL * PLAYOUT_PANEL; }

/* Columns to compute of a panel of which so many are asked for: one vector of 16, or two. */
static inline int64_t playout_columns(int64_t left) { return left <= PLAYOUT_PANEL / 2 ? PLAYOUT_PANEL / 2 : PLAYOUT_PANEL; }

/* Rows of scores and weights: they must not displace each other in the cache. */
static inline int64_t playout_score_row(int64_t length) { return playout_padded(length) + 16; }

static inline float *playout_floats(int64_t count) {
    size_t bytes = ((size_t)count * sizeof(float) + 63) / 64 * 64;
    return (float *)aligned_alloc(64, bytes);
}

/* What a query does not see of a row of scores gets this value, to the end of its last vector. */
static inline void playout_limit(float *x, int64_t first, int64_t end, int64_t keys, float value) {
    for (int64_t j = 0; j < first; j++) x[j] = value;
    for (int64_t j = end; j < (keys + 15) / 16 * 16; j++) x[j] = value;
}

#define MLP_BODY "attention_body.h"
#include "../../../agents/kernels/mlp/isa.h"
#undef MLP_BODY

typedef void (*playout_attention_t)(playout_attention *, int64_t, int64_t);
static const playout_attention_t playout_attention_forward[3] = MLP_SETS(playout_forward);
static const playout_attention_t playout_attention_backward[3] = MLP_SETS(playout_backward);

#endif
