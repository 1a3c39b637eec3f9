/* Which edge to follow: PUCT, Gumbel's deterministic improved policy, and UCB1.
 *
 * Each rule is written over blocks of eight edges; with seven moves a node is one block and the loops vanish. Descents
 * under way (several leaves a step) count as visits, and `virtual_loss` of each as a lost one. The arithmetic is float32
 * in a fixed order; reference.py repeats it operation by operation. At a sparse node the edges not yet open have the
 * same value and differ by their priors alone: the first of them stands for all (`rest`).
 */
#ifndef MCTS_SELECT_H
#define MCTS_SELECT_H

#include "nodes.h"

#define MCTS_MAX_BLOCKS (PLAYOUT_MAX_LEGAL / 8)
#define MCTS_WORST (-3.0e38f)

/* Functions of a count, computed once: no logarithm or root of a count is taken inside a search. */
typedef struct mcts_tables {
    float *puct; /* (log((1 + n + c_base) / c_base) + c_init) * sqrt(n) */
    float *log;  /* uct_c^2 * log(n) */
    int64_t size;
} mcts_tables;

typedef struct mcts_rest { /* the edges of a sparse node that are not open */
    int32_t edge;      /* the first, which has the highest prior */
    float prior, mass; /* its prior, and that of all together */
} mcts_rest;

/* The edges of one block that may be followed: those that exist and are not proven lost. */
MCTS_INLINE vm mcts_allowed(const mcts_node *node, const mcts_edges *e, int block) {
    const int left = e->count - 8 * block;
    vm allowed = v_lanes(left < 8 ? left : 8);
    if (node->flags & MCTS_LOSSES) allowed = v_andnot(allowed, v_byte_is(e->known + 8 * block, MCTS_LOST));
    return allowed;
}

/* The first of the highest scores. */
MCTS_INLINE int mcts_argmax(const vf *score, int blocks) {
    vf best = score[0];
    for (int b = 1; b < blocks; b++) best = v_max(best, score[b]);
    const vf top = v_all(v_highest(best));
    for (int b = 0; b < blocks; b++) {
        const int bits = v_bits(v_eq(score[b], top));
        if (bits) return 8 * b + __builtin_ctz((unsigned)bits);
    }
    return 0;
}

/* The same, but `rest` where its score is higher; NULL for none. */
MCTS_INLINE int mcts_argmax_or(const vf *score, int blocks, const mcts_rest *rest, float other) {
    if (!rest) return mcts_argmax(score, blocks);
    vf best = v_all(MCTS_WORST);
    for (int b = 0; b < blocks; b++) best = v_max(best, score[b]);
    return other > v_highest(best) || !blocks ? rest->edge : mcts_argmax(score, blocks);
}

MCTS_INLINE float mcts_node_value(const mcts_node *node) {
    return (node->raw_value + node->total) / (node->visits + 1.0f);
}

MCTS_INLINE int mcts_select_puct(const mcts_config *config, const mcts_tables *tables, mcts_node *node,
                                 const mcts_edges *e, int blocks, int several, const mcts_rest *rest) {
    vf score[MCTS_MAX_BLOCKS];
    const float count = node->visits + 1.0f + (several ? (float)node->pending : 0.0f);
    const vf explore = v_all(tables->puct[(int64_t)count]);
    const float fpu = config->fpu_parent ? mcts_node_value(node) - config->fpu * sqrtf(node->prior_visited) : config->fpu;
    for (int b = 0; b < blocks; b++) {
        vf visits = v_load(e->visits + 8 * b), total = v_load(e->total + 8 * b), weight = visits;
        if (several && node->pending) {
            const vf pending = v_from_u16(e->pending + 8 * b), lost = v_mul(pending, v_all(config->virtual_loss));
            total = v_sub(total, lost);
            weight = v_add(visits, lost);
            visits = v_add(visits, pending);
        }
        const vm seen = v_gt(weight, v_all(0.0f));
        const vf q = v_if(seen, v_div(total, v_if(seen, weight, v_all(1.0f))), v_all(fpu));
        const vf u = v_div(v_mul(explore, v_load(e->prior + 8 * b)), v_add(visits, v_all(1.0f)));
        score[b] = v_if(mcts_allowed(node, e, b), v_add(q, u), v_all(MCTS_WORST));
    }
    return mcts_argmax_or(score, blocks, rest, rest ? fpu + tables->puct[(int64_t)count] * rest->prior : 0.0f);
}

/* Forced playouts (Wu 2019, section 3.2), at a root with noise: the first edge that was visited, but fewer times than
 * the root of forced_playouts * prior * all visits; -1 for none.
 */
MCTS_INLINE int32_t mcts_select_forced(const mcts_config *config, const mcts_node *node, const mcts_edges *e,
                                       int several) {
    const float all = node->visits + (several ? (float)node->pending : 0.0f);
    for (int32_t i = 0; i < e->count; i++) {
        const float visits = e->visits[i] + (several ? (float)e->pending[i] : 0.0f);
        if (e->visits[i] > 0.0f && e->known[i] != MCTS_LOST && visits * visits < config->forced_playouts * e->prior[i] * all)
            return i;
    }
    return -1;
}

/* Completed Q-values (Danihelka et al. 2022, appendix D): unvisited edges get the mixed value. Writes
 * sigma(q) - max sigma(q), at most 0, for the edges allowed; the others' lanes are meaningless. Returns that of `rest`.
 */
MCTS_INLINE float mcts_sigma(const mcts_config *config, const mcts_node *node, const mcts_edges *e, int blocks,
                             int several, const mcts_rest *rest, vf *sigma) {
    vf weighted = v_all(0.0f), top = v_all(MCTS_WORST), low = v_all(-MCTS_WORST);
    const int all_seen = node->num_visited == node->num_edges;
    float mixed = node->raw_value;
    for (int b = 0; b < blocks; b++) {
        vf weight = v_load(e->visits + 8 * b), total = v_load(e->total + 8 * b);
        if (several && node->pending) {
            const vf lost = v_mul(v_from_u16(e->pending + 8 * b), v_all(config->virtual_loss));
            const vm seen = v_gt(weight, v_all(0.0f));
            total = v_sub(total, v_keep(seen, lost));
            weight = v_add(weight, v_keep(seen, lost));
        }
        const vm seen = v_gt(weight, v_all(0.0f));
        sigma[b] = v_div(total, v_if(seen, weight, v_all(1.0f))); /* q; 0 where unvisited */
        weighted = v_add(weighted, v_mul(v_load(e->prior + 8 * b), sigma[b]));
    }
    if (!all_seen && node->num_visited)
        mixed = (node->raw_value + node->visits * (v_sum(weighted) / node->prior_visited)) / (node->visits + 1.0f);
    if (rest) top = v_all(mixed), low = top;
    for (int b = 0; b < blocks; b++) {
        const vm allowed = mcts_allowed(node, e, b);
        if (!all_seen) sigma[b] = v_if(v_gt(v_load(e->visits + 8 * b), v_all(0.0f)), sigma[b], v_all(mixed));
        top = v_max(top, v_if(allowed, sigma[b], v_all(MCTS_WORST)));
        if (config->rescale) low = v_min(low, v_if(allowed, sigma[b], v_all(-MCTS_WORST)));
    }
    const float highest = v_highest(top);
    float scale = (config->c_visit + node->max_visits) * config->c_scale;
    if (config->rescale) {
        const float range = highest - v_lowest(low);
        scale = scale / (range > 1e-8f ? range : 1e-8f);
    }
    for (int b = 0; b < blocks; b++) sigma[b] = v_mul(v_all(scale), v_sub(sigma[b], v_all(highest)));
    return scale * (mixed - highest);
}

/* Interior nodes: visits follow the improved policy, argmax of softmax(logits + sigma(q)) - visits / (1 + all visits),
 * here multiplied by (1 + all visits) * sum of exponentials, both positive.
 */
MCTS_INLINE int mcts_select_gumbel(const mcts_config *config, mcts_node *node, const mcts_edges *e, int blocks,
                                   int several, const mcts_rest *rest) {
    vf score[MCTS_MAX_BLOCKS], sum = v_all(0.0f);
    const float count = node->visits + (several ? (float)node->pending : 0.0f);
    if (count == 0.0f) { /* nothing visited: the highest prior */
        for (int b = 0; b < blocks; b++)
            score[b] = v_if(mcts_allowed(node, e, b), v_load(e->prior + 8 * b), v_all(MCTS_WORST));
        return mcts_argmax_or(score, blocks, rest, rest ? rest->prior : 0.0f);
    }
    const float below = mcts_sigma(config, node, e, blocks, several, rest, score);
    const float unseen = rest ? v_sum(v_keep(v_lanes(1), v_exp(v_all(below)))) : 0.0f;
    for (int b = 0; b < blocks; b++) {
        score[b] = v_keep(mcts_allowed(node, e, b), v_mul(v_load(e->prior + 8 * b), v_exp(score[b])));
        sum = v_add(sum, score[b]);
    }
    const vf total = v_all(rest ? v_sum(sum) + rest->mass * unseen : v_sum(sum)), all = v_all(count + 1.0f);
    for (int b = 0; b < blocks; b++) {
        vf visits = v_load(e->visits + 8 * b);
        if (several && node->pending) visits = v_add(visits, v_from_u16(e->pending + 8 * b));
        const vf balance = v_sub(v_mul(score[b], all), v_mul(visits, total));
        score[b] = v_if(mcts_allowed(node, e, b), balance, v_all(MCTS_WORST));
    }
    return mcts_argmax_or(score, blocks, rest, rest ? rest->prior * unseen * (count + 1.0f) : 0.0f);
}

/* UCB1: unvisited edges first, in their order (they were shuffled), then the best bound. `stretch` is the square of
 * what stands for 1 in values that do not fill [-1, 1].
 */
MCTS_INLINE int mcts_select_uct(const mcts_tables *tables, mcts_node *node, const mcts_edges *e, int blocks,
                                float stretch) {
    vf score[MCTS_MAX_BLOCKS];
    if (node->num_visited < node->num_edges) return node->num_visited;
    const vf log = v_all(tables->log[(int64_t)(node->visits + 1.0f)] * stretch);
    for (int b = 0; b < blocks; b++) {
        const vf part = v_div(v_all(1.0f), v_load(e->visits + 8 * b));
        const vf bound = v_add(v_mul(v_load(e->total + 8 * b), part), v_sqrt(v_mul(log, part)));
        score[b] = v_if(mcts_allowed(node, e, b), bound, v_all(MCTS_WORST));
    }
    return mcts_argmax(score, blocks);
}

#endif
