/* What a search concluded about its root: weights, the move, values, the principal variation.
 *
 * Proofs come first: at a root proven won (or drawn) only moves that keep the result have weight, and a move proven lost
 * has none while another is left.
 */
#ifndef MCTS_RESULT_H
#define MCTS_RESULT_H

#include "lifecycle.h"

typedef struct mcts_result { /* one row of each; arrays by action are zeroed beforehand */
    float *weights, *q, *log_prior;
    int32_t *visits;
    float value;
    int32_t action, nodes, proven;
} mcts_result;

/* May the edge be played, given what is proven? */
static inline int mcts_playable(const mcts_shape *shape, const mcts_tree *tree, const mcts_node *node,
                                const mcts_edges *e, int32_t edge) {
    float values[PLAYOUT_MAX_PLAYERS];
    if (!(node->flags & MCTS_PROVEN)) return e->known[edge] != MCTS_LOST;
    if (!e->known[edge]) return node->exact <= -1.0f;
    mcts_known_values(shape, mcts_at(tree, e->child[edge]), values);
    return values[node->to_play] >= node->exact;
}

/* The best playable edge: Gumbel's score among the most considered, else most visits, then the higher value. */
static inline int32_t mcts_best_edge(const mcts_search *search, const mcts_tree *tree, mcts_node *node,
                                     const mcts_edges *e, const mcts_root *root) {
    float scores[PLAYOUT_MAX_LEGAL];
    const int32_t n = e->count; /* one that is not open has no visits */
    const float *counts = e->visits;
    for (int32_t i = 0; i < n; i++) scores[i] = e->visits[i] > 0.0f ? e->total[i] / e->visits[i] : MCTS_WORST;
    if (search->config.algorithm == MCTS_GUMBEL && root && node->num_known < n) {
        vf score[MCTS_MAX_BLOCKS];
        mcts_root_scores(&search->config, node, e, root->base, (n + 7) / 8, score);
        for (int b = 0; b < (n + 7) / 8; b++) v_store(scores + 8 * b, score[b]);
        counts = root->taken;
    }
    int32_t best = -1;
    for (int32_t i = 0; i < n; i++) {
        if (!mcts_playable(&search->shape, tree, node, e, i)) continue;
        if (best < 0 || counts[i] > counts[best] || (counts[i] == counts[best] && scores[i] > scores[best])) best = i;
    }
    return best < 0 ? 0 : best;
}

/* Leaves out of visit counts what forced playouts alone may have brought (Wu 2019, section 3.2): of every edge but the
 * best as many as that may be, while PUCT would still prefer the best; where one visit is left, that too.
 */
static inline void mcts_prune_forced(const mcts_search *search, const mcts_node *node, const mcts_edges *e, int32_t best,
                                     float *counts) {
    const float explore = search->tables.puct[(int64_t)(node->visits + 1.0f)];
    const float limit = e->total[best] / e->visits[best] + explore * e->prior[best] / (e->visits[best] + 1.0f);
    for (int32_t i = 0; i < node->num_edges; i++) {
        if (i == best || e->visits[i] == 0.0f) continue;
        const float q = e->total[i] / e->visits[i], u = explore * e->prior[i];
        const float most = search->config.forced_playouts * e->prior[i] * node->visits;
        for (float taken = 1.0f; taken * taken <= most && counts[i] > 1.0f && q + u / counts[i] < limit; taken += 1.0f)
            counts[i] -= 1.0f;
        if (counts[i] <= 1.0f) counts[i] = 0.0f;
    }
}

/* Improved policy (Gumbel) or visit shares, by edge, over the playable edges. */
static inline void mcts_weights(const mcts_search *search, const mcts_tree *tree, mcts_node *node, const mcts_edges *e,
                                float *weights) {
    const int32_t n = node->num_edges;
    const int gumbel = search->config.algorithm == MCTS_GUMBEL, blocks = (n + 7) / 8;
    double sum = 0.0;
    for (int32_t i = 0; i < n; i++) weights[i] = e->visits[i];
    if (gumbel && node->num_known < n) { /* with all known, sigma() has nothing to compare: visits serve */
        vf sigma[MCTS_MAX_BLOCKS];
        mcts_sigma(&search->config, node, e, blocks, 0, NULL, sigma);
        for (int b = 0; b < blocks; b++)
            v_store(weights + 8 * b, v_keep(mcts_allowed(node, e, b), v_mul(v_load(e->prior + 8 * b), v_exp(sigma[b]))));
    }
    if (search->config.algorithm == MCTS_PUCT && search->config.forced_playouts > 0.0f && tree->noise &&
        !(node->flags & MCTS_PROVEN)) {
        const int32_t best = mcts_best_edge(search, tree, node, e, NULL);
        if (e->visits[best] > 0.0f) mcts_prune_forced(search, node, e, best, weights);
    }
    for (int pass = 0; pass < 2 && sum <= 0.0; pass++) { /* nothing visited: the prior */
        for (int32_t i = 0; i < n; i++) {
            if (pass) weights[i] = e->prior[i];
            if (!mcts_playable(&search->shape, tree, node, e, i)) weights[i] = 0.0f;
            sum += (double)weights[i];
        }
    }
    for (int32_t i = 0; i < n; i++) weights[i] = (float)((double)weights[i] / sum);
}

static inline int32_t mcts_sample_edge(const float *weights, int32_t n, double temperature, playout_rng rng) {
    double sum = 0.0, top = 0.0;
    for (int32_t i = 0; i < n; i++) top = weights[i] > top ? (double)weights[i] : top;
    for (int32_t i = 0; i < n; i++) sum += weights[i] > 0.0f ? pow((double)weights[i] / top, 1.0 / temperature) : 0.0;
    double left = playout_rng_double(&rng) * sum;
    int32_t last = 0;
    for (int32_t i = 0; i < n; i++) {
        if (!(weights[i] > 0.0f)) continue;
        last = i;
        left -= pow((double)weights[i] / top, 1.0 / temperature);
        if (left < 0.0) break;
    }
    return last;
}

static inline void mcts_read_result(const mcts_search *search, int32_t index, double temperature, mcts_result *out) {
    const mcts_tree *tree = &search->trees[index];
    mcts_node *node = mcts_at(tree, MCTS_ROOT);
    const mcts_root root = mcts_root_of(search, index);
    out->nodes = tree->num_nodes;
    out->action = -1;
    out->value = 0.0f;
    out->proven = -128;
    if (node->flags & (MCTS_TERMINAL | MCTS_CHANCE)) return;
    const mcts_edges e = mcts_edges_of(&search->shape, tree, node);
    float weights[PLAYOUT_MAX_LEGAL];
    mcts_weights(search, tree, node, &e, weights);
    for (int32_t i = 0; i < node->num_edges; i++) {
        const int32_t a = mcts_action(&e, i);
        out->weights[a] = weights[i];
        out->visits[a] = (int32_t)e.visits[i];
        out->q[a] = e.visits[i] > 0.0f ? e.total[i] / e.visits[i] : 0.0f;
        out->log_prior[a] = root.log_prior[i];
    }
    int32_t edge = temperature > 0.0 ? mcts_sample_edge(weights, node->num_edges, temperature,
                                                        mcts_stream(search->seed, index, tree->searches, MCTS_STREAM_ACTION))
                                     : mcts_best_edge(search, tree, node, &e, &root);
    out->action = mcts_action(&e, edge);
    if (node->flags & MCTS_PROVEN) {
        out->value = node->exact;
        out->proven = node->exact > 0.0f ? 1 : node->exact < 0.0f ? -1 : 0;
    } else if (search->config.algorithm == MCTS_UCT) {
        out->value = node->visits > 0.0f ? node->total / node->visits : 0.0f;
    } else {
        out->value = mcts_node_value(node);
    }
}

/* The line expected after `action`, up to the next chance node; returns its length. */
static inline int32_t mcts_variation(const mcts_search *search, int32_t index, int32_t action, int32_t *line, int32_t size) {
    const mcts_tree *tree = &search->trees[index];
    const mcts_shape *shape = &search->shape;
    mcts_node *node = mcts_at(tree, MCTS_ROOT);
    int32_t length = 0, edge = mcts_find_edge(shape, tree, node, action);
    while (edge >= 0 && length < size) {
        const mcts_edges e = mcts_edges_of(shape, tree, node);
        line[length++] = mcts_action(&e, edge);
        if (!e.child[edge]) break;
        node = mcts_at(tree, e.child[edge]);
        if (node->flags & (MCTS_TERMINAL | MCTS_CHANCE) || node->visits == 0.0f) break;
        const mcts_edges below = mcts_edges_of(shape, tree, node);
        edge = mcts_best_edge(search, tree, node, &below, NULL);
        if (below.visits[edge] == 0.0f) break;
    }
    return length;
}

#endif
