/* Many trees side by side: what a search holds, and what asking and telling share.
 *
 * Asking stands in tree/ask.h, telling in tree/tell.h, the rollout search, which asks nobody, in tree/uct.h.
 */
#ifndef MCTS_SEARCH_H
#define MCTS_SEARCH_H

#include "cache.h"
#include "pool.h"
#include "root.h"

typedef struct mcts_leaf {
    uint32_t node;
    int32_t symmetry, row;
    uint64_t key; /* 0 without a cache */
} mcts_leaf;

typedef struct mcts_plan { /* a visit schedule, shared by all trees with the same numbers */
    int32_t considered, size;
    int32_t *visits;
} mcts_plan;

typedef struct mcts_search {
    const playout_game *game;
    mcts_config config;
    mcts_shape shape;
    mcts_tables tables;
    mcts_cache cache;
    mcts_pool pool;
    uint64_t seed;
    int32_t num_trees, threads, row_stride;
    mcts_tree *trees;
    float *root_rows; /* [num_trees, 4, row_stride] */
    mcts_leaf *leaves; /* [num_trees, leaves_per_step] */
    int32_t num_rows, num_leaves;
    int32_t *row_tree;    /* [rows] tree whose leaf the row shows */
    int32_t *row_leaf;    /* [rows] its place in leaves */
    uint64_t *seen_key;   /* this step's positions, open addressing */
    int32_t *seen_row;
    uint64_t seen_size;
    mcts_plan *plans;
    int32_t num_plans;
    atomic_int out_of_memory;
    /* buffers of the step under way */
    float *obs;
    uint8_t *mask, *states;
    int32_t *to_play;
    const float *logits, *values;
    int32_t value_width; /* 1: for the side to move; else one a player */
} mcts_search;

MCTS_INLINE mcts_root mcts_root_of(const mcts_search *search, int32_t index) {
    float *row = search->root_rows + (size_t)index * 4 * (size_t)search->row_stride;
    mcts_root root = {row, row + search->row_stride, row + 2 * search->row_stride, row + 3 * search->row_stride};
    return root;
}

/* Has the tree all that it was asked for? (Gumbel may also find out on its way that the rest of its steps is free.) */
MCTS_INLINE int mcts_exhausted(const mcts_search *search, const mcts_tree *tree) {
    const mcts_node *node = mcts_at(tree, MCTS_ROOT);
    if (node->flags & (MCTS_PROVEN | MCTS_TERMINAL | MCTS_CHANCE)) return 1;
    if (search->config.algorithm == MCTS_GUMBEL && tree->position >= tree->schedule_size) return 1;
    if (search->config.algorithm != MCTS_GUMBEL && search->config.count_reused)
        return node->visits + (float)node->pending >= (float)tree->budget;
    return tree->sims >= tree->budget;
}

/* An evaluation becomes priors and values; `values` are for the side to move (width 1) or for every player. */
MCTS_INLINE void mcts_evaluated(const mcts_search *search, mcts_node *node, const float *logits, const float *given,
                                int32_t width, float *values) {
    mcts_set_priors(&search->shape, node, logits);
    if (width > 1) {
        memcpy(values, given, (size_t)width * sizeof(float));
    } else {
        if (search->shape.num_players == 2) values[1 - node->to_play] = -given[0];
        values[node->to_play] = given[0];
    }
    node->raw_value = values[node->to_play];
    node->flags &= (uint8_t)~MCTS_WAITING;
}

/* Looks the position up; 1 if it was remembered and the node is evaluated, else 0 and the leaf has its name. */
static inline int mcts_remembered(mcts_search *search, mcts_tree *tree, mcts_node *node, mcts_leaf *leaf, float *values) {
    leaf->key = 0;
    leaf->symmetry = 0;
    if (!search->cache.keys) return 0;
    void *scratch = mcts_state(mcts_at(tree, (uint32_t)tree->used));
    leaf->key = mcts_canonical(&search->cache, search->game, mcts_state(node), scratch, &leaf->symmetry);
    const int64_t place = mcts_cache_find(&search->cache, leaf->key);
    if (place < 0) return 0;
    tree->hits++;
    float logits[search->game->num_actions];
    mcts_cache_read(&search->cache, place, leaf->symmetry, logits);
    mcts_evaluated(search, node, logits, search->cache.values + place * search->cache.num_players,
                   search->cache.num_players, values);
    return 1;
}

#endif
