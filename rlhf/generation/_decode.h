/* One token through a Llama-shaped model, for a few rows: from the embedding to the logits.
 *
 * With so few rows a step is bound by reading the weights once, so they are read as they are held
 * (float32, bfloat16, int8) and widened in registers, each weight meets all rows, and torch's threads
 * share the outputs. A row's result depends neither on the rows beside it nor on the threads. Of a mixture
 * of experts only those are read that some row's router picks. No allocation, no Python; larger
 * batches are torch's business. Products are products.h's.
 */
#ifndef PLAYOUT_DECODE_H
#define PLAYOUT_DECODE_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "../../agents/kernels/team.h"
#include "../model/layers/_elementwise.h"

enum {
    PLAYOUT_MAX_ROWS = 16,
    PLAYOUT_MIN_SHARED = 1 << 15, /* multiply-adds of a product that are worth a thread */
};
enum { PLAYOUT_FLOAT, PLAYOUT_BFLOAT16, PLAYOUT_INT8 }; /* how weights are held */

/* What products.h computes: y [rows, outputs] of w [outputs, n] and x [rows, n]. */
typedef struct {
    const void *w;
    const float *scales; /* [outputs], or NULL for ones */
    const float *x;
    float *y;
    int64_t n, outputs, rows;
    int kind;
} playout_product;

static inline float playout_weight(int kind, const void *w, ptrdiff_t i) {
    if (kind == PLAYOUT_INT8) return ((const int8_t *)w)[i];
    return kind ? playout_load_bf16(((const playout_bf16 *)w)[i]) : ((const float *)w)[i];
}

static inline int64_t playout_size(int kind) { return kind == PLAYOUT_INT8 ? 1 : kind ? 2 : 4; }

#define MLP_BODY "../../../rlhf/generation/products.h"
#include "../../agents/kernels/mlp/isa.h"

/* [outputs, inputs], row-major; the matrices of experts follow each other. */
typedef struct {
    const void *w;
    const float *scales, *bias; /* [outputs], or NULL */
    int kind;
} playout_matrix;

typedef struct {
    playout_matrix qkv, out, gate_up, down;
    const float *router; /* [experts, hidden], or NULL */
    const float *input_gain, *inner_gain; /* [hidden] of the norms, or NULL where they lie in the weights */
    const float *gains; /* [heads + kv_heads, size] of the heads' norms, or NULL */
    int64_t window;     /* tokens that a query sees, itself included; 0 for all */
    int rotates;        /* whether queries and keys are rotated by their places */
    float *cache;                           /* [2, cache_rows, kv_heads, cache_length, size] */
} playout_layer;

typedef struct {
    int hidden, inner, layers, heads, kv_heads, size, vocab;
    int experts, active, normalise; /* of each layer, of each token; whether shares add up to 1 */
    float eps;
    const float *embed, *rotations; /* [vocab, hidden] and [positions, size / 2, 2] */
    playout_matrix head;        /* [vocab, hidden] */
    playout_layer *layer;
    int cache_rows, cache_length, threads;
    float *work; /* see playout_work_size */
} playout_model;

static inline int playout_qkv_size(const playout_model *m) {
    return (m->heads + 2 * m->kv_heads) * m->size;
}

/* Floats of scratch memory a row. */
static inline int64_t playout_work_size(const playout_model *m) {
    int64_t mixed = (int64_t)m->heads * m->size;
    int64_t routed = m->experts ? 2LL * (m->hidden + m->experts) : 0;
    int64_t weights = (int64_t)m->heads * m->cache_length;
    return 3LL * m->hidden + playout_qkv_size(m) + mixed + 3LL * m->inner + weights + routed;
}

static int playout_threads(const playout_model *m, int64_t work) {
    int64_t most = work / PLAYOUT_MIN_SHARED;
    return most < m->threads ? (int)most : m->threads;
}

/* y [rows, outputs] = x [rows, n] times the matrix, plus its bias. */
static void playout_project(const playout_model *m, const playout_matrix *matrix, const float *x, float *y,
                            int64_t outputs, int64_t n, int64_t rows) {
    static const playout_kernel products[3] = MLP_SETS(playout_products);
    playout_product job = {matrix->w, matrix->scales, x, y, n, outputs, rows, matrix->kind};
    playout_over_rows(products[mlp_best_isa()], &job, outputs, playout_threads(m, outputs * n * rows));
    for (int64_t r = 0; matrix->bias && r < rows; r++)
        for (int64_t o = 0; o < outputs; o++) y[r * outputs + o] += matrix->bias[o];
}

static void playout_normalize(const float *x, const float *gain, float *y, int64_t n, float eps) {
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    float scale = (float)(1.0 / sqrt(sum / n + eps));
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * scale * (gain ? gain[i] : 1.0f);
}

/* Queries and keys come interleaved, are normalised if the layer does so and rotated, all in place;
 * keys and values go to the cache. */
static void playout_rotate_and_store(const playout_model *m, playout_layer *layer, float *qkv,
                                   int64_t row, int64_t place) {
    const float *rotation = m->rotations + place * m->size;
    int64_t rotated = (m->heads + m->kv_heads) * m->size;
    for (int64_t h = 0; layer->gains && h < m->heads + m->kv_heads; h++) {
        float *head = qkv + h * m->size;
        playout_normalize(head, layer->gains + h * m->size, head, m->size, m->eps);
    }
    for (int64_t i = 0; layer->rotates && i < rotated; i += 2) {
        float c = rotation[i % m->size], s = rotation[i % m->size + 1], a = qkv[i], b = qkv[i + 1];
        qkv[i] = a * c - b * s;
        qkv[i + 1] = a * s + b * c;
    }
    int64_t line = (int64_t)m->cache_length * m->size;
    int64_t half = (int64_t)m->cache_rows * m->kv_heads * line;
    for (int64_t h = 0; h < m->kv_heads; h++) {
        float *at = layer->cache + (row * m->kv_heads + h) * line + place * m->size;
        memcpy(at, qkv + (m->heads + h) * m->size, sizeof(float) * m->size);
        memcpy(at + half, qkv + (m->heads + m->kv_heads + h) * m->size, sizeof(float) * m->size);
    }
}

/* What the cached values make of each head's query; work on rows [begin, end), heads of tokens. */
typedef struct {
    const playout_model *m;
    const playout_layer *layer;
    const float *qkv;
    float *mixed, *weights;
    const int64_t *places;
} playout_attention;

PLAYOUT_CLONES static void playout_attend(const void *job, int64_t begin, int64_t end) {
    const playout_attention *a = (const playout_attention *)job;
    const playout_model *m = a->m;
    int64_t size = m->size, line = m->cache_length * size;
    int64_t half = m->cache_rows * m->kv_heads * line;
    for (int64_t n = begin; n < end; n++) {
        int64_t row = n / m->heads, h = n % m->heads, count = a->places[row] + 1;
        int64_t first = a->layer->window && count > a->layer->window ? count - a->layer->window : 0;
        const float *query = a->qkv + row * playout_qkv_size(m) + h * size;
        const float *k = a->layer->cache + (row * m->kv_heads + h * m->kv_heads / m->heads) * line;
        const float *v = k + half;
        float *weights = a->weights + n * m->cache_length, *out = a->mixed + n * size;
        float top = -INFINITY, total = 0.0f;
        for (int64_t t = first; t < count; t++) {
            const float *key = k + t * size;
            float lanes[16] = {0};
            int64_t i = 0;
            for (; i + 16 <= size; i += 16)
                for (int64_t j = 0; j < 16; j++) lanes[j] += query[i + j] * key[i + j];
            for (int64_t j = 0; i < size; i++, j++) lanes[j] += query[i] * key[i];
            weights[t] = playout_sum16(lanes);
            if (weights[t] > top) top = weights[t];
        }
        for (int64_t t = first; t < count; t++) weights[t] = playout_exp(weights[t] - top);
        for (int64_t i = 0; i < size; i++) out[i] = 0.0f;
        for (int64_t t = first; t < count; t++) {
            float weight = weights[t];
            total += weight;
            for (int64_t i = 0; i < size; i++) out[i] += weight * v[t * size + i];
        }
        for (int64_t i = 0; i < size; i++) out[i] /= total;
    }
}

/* The share of each expert in a token, 0 for those that it does not go to: the softmax of the
 * router's logits, of the best `active`; of equal ones the first. Overwrites the logits. */
static void playout_route(const playout_model *m, float *logits, float *shares) {
    float top = 0.0f, total = 0.0f, kept = 0.0f;
    for (int64_t e = 0; e < m->experts; e++) {
        shares[e] = 0.0f;
        if (e == 0 || logits[e] > top) top = logits[e];
    }
    for (int64_t e = 0; e < m->experts; e++) total += logits[e] = expf(logits[e] - top);
    for (int64_t k = 0; k < m->active; k++) {
        int64_t best = -1;
        for (int64_t e = 0; e < m->experts; e++)
            if (logits[e] >= 0.0f && (best < 0 || logits[e] > logits[best])) best = e;
        if (best < 0) { /* not numbers: nor is what comes out */
            shares[0] = NAN;
            return;
        }
        kept += shares[best] = logits[best];
        logits[best] = -1.0f;
    }
    for (int64_t e = 0; e < m->experts; e++) shares[e] /= m->normalise ? kept : total;
}

/* What the experts of each row make of it, added up in the order of the experts: each that some row
 * goes to is read once, for all of these rows. */
static void playout_experts(const playout_model *m, const playout_layer *layer, const float *normed,
                            float *added, float *gate_up, float *act, float *scratch,
                            int64_t rows) {
    int64_t hidden = m->hidden, inner = m->inner, experts = m->experts;
    int64_t each = 2 * inner * hidden * playout_size(layer->gate_up.kind);
    playout_matrix router = {.w = layer->router}, up = layer->gate_up, down = layer->down;
    float *own = scratch, *made = own + rows * hidden, *shares = made + rows * hidden;
    float *logits = shares + rows * experts;
    playout_project(m, &router, normed, logits, experts, hidden, rows);
    for (int64_t r = 0; r < rows; r++)
        playout_route(m, logits + r * experts, shares + r * experts);
    for (int64_t i = 0; i < rows * hidden; i++) added[i] = 0.0f;
    for (int64_t e = 0; e < experts; e++) {
        int64_t count = 0, whose[PLAYOUT_MAX_ROWS];
        for (int64_t r = 0; r < rows; r++) {
            if (shares[r * experts + e] == 0.0f) continue;
            memcpy(own + count * hidden, normed + r * hidden, sizeof(float) * hidden);
            whose[count++] = r;
        }
        if (!count) continue;
        up.w = (const char *)layer->gate_up.w + e * each;
        down.w = (const char *)layer->down.w + e * each / 2;
        playout_project(m, &up, own, gate_up, 2 * inner, hidden, count);
        playout_swiglu_f32(gate_up, act, inner, 0, count);
        playout_project(m, &down, act, made, hidden, inner, count);
        for (int64_t n = 0; n < count; n++) {
            float share = shares[whose[n] * experts + e], *sum = added + whose[n] * hidden;
            for (int64_t i = 0; i < hidden; i++) sum[i] += share * made[n * hidden + i];
        }
    }
}

/* Appends token ids[r] at places[r] of row r and writes logits [rows, vocab]. */
static void playout_decode_step(playout_model *m, const int64_t *ids, const int64_t *places,
                                float *logits, int64_t rows) {
    int64_t hidden = m->hidden, inner = m->inner;
    int64_t qkv_size = playout_qkv_size(m), mixed_size = m->heads * m->size;
    float *x = m->work, *normed = x + rows * hidden, *added = normed + rows * hidden;
    float *qkv = added + rows * hidden, *mixed = qkv + rows * qkv_size;
    float *gate_up = mixed + rows * mixed_size, *act = gate_up + 2 * rows * inner;
    float *routed = act + rows * inner;
    float *weights = routed + (m->experts ? 2 * rows * (hidden + m->experts) : 0);
    for (int64_t r = 0; r < rows; r++)
        memcpy(x + r * hidden, m->embed + ids[r] * hidden, sizeof(float) * hidden);
    for (int64_t l = 0; l < m->layers; l++) {
        playout_layer *layer = m->layer + l;
        for (int64_t r = 0; r < rows; r++)
            playout_normalize(x + r * hidden, layer->input_gain, normed + r * hidden, hidden, m->eps);
        playout_project(m, &layer->qkv, normed, qkv, qkv_size, hidden, rows);
        int64_t seen = 0;
        for (int64_t r = 0; r < rows; r++) {
            playout_rotate_and_store(m, layer, qkv + r * qkv_size, r, places[r]);
            seen += places[r];
        }
        playout_attention job = {m, layer, qkv, mixed, weights, places};
        playout_over_rows(playout_attend, &job, rows * m->heads,
                          playout_threads(m, 2 * seen * mixed_size));
        playout_project(m, &layer->out, mixed, added, hidden, mixed_size, rows);
        for (int64_t i = 0; i < rows * hidden; i++) x[i] += added[i];
        for (int64_t r = 0; r < rows; r++)
            playout_normalize(x + r * hidden, layer->inner_gain, normed + r * hidden, hidden, m->eps);
        if (layer->router) {
            playout_experts(m, layer, normed, added, gate_up, act, routed, rows);
        } else {
            playout_project(m, &layer->gate_up, normed, gate_up, 2 * inner, hidden, rows);
            playout_swiglu_f32(gate_up, act, inner, 0, rows);
            playout_project(m, &layer->down, act, added, hidden, inner, rows);
        }
        for (int64_t i = 0; i < rows * hidden; i++) x[i] += added[i];
    }
    for (int64_t r = 0; r < rows; r++)
        playout_normalize(x + r * hidden, NULL, normed + r * hidden, hidden, m->eps);
    playout_project(m, &m->head, normed, logits, m->vocab, hidden, rows);
}

#endif
