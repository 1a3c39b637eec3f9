/* One step of telling: priors and values of the leaves go into the trees, and into the cache in the order of rows.
 */
#ifndef MCTS_TELL_H
#define MCTS_TELL_H

#include "ask.h"

static inline int mcts_finite(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (bits & 0x7f800000u) != 0x7f800000u;
}

/* The first row with a value or a legal logit that is not a finite number, or -1. */
static inline int32_t mcts_bad_row(const mcts_search *search) {
    const size_t actions = (size_t)search->game->num_actions, width = (size_t)search->value_width;
    for (int32_t row = 0; row < search->num_rows; row++) {
        const float *logits = search->logits + (size_t)row * actions, *values = search->values + (size_t)row * width;
        int bad = 0;
        for (size_t p = 0; p < width; p++) bad |= !mcts_finite(values[p]);
        for (size_t a = 0; a < actions; a++) bad |= !mcts_finite(logits[a]) && search->mask[(size_t)row * actions + a];
        if (bad) return row;
    }
    return -1;
}

/* Asks for the memory of a tree's first leaf, later for that of its parent. */
MCTS_INLINE void mcts_prefetch_leaf(const mcts_search *search, int32_t index, int32_t end, int parent) {
    if (index >= end || !search->trees[index].num_leaves) return;
    const mcts_leaf *leaf = &search->leaves[(size_t)index * (size_t)search->config.leaves_per_step];
    const mcts_node *node = mcts_at(&search->trees[index], leaf->node);
    mcts_prefetch(parent ? mcts_at(&search->trees[index], node->parent) : node);
}

static void mcts_tell_trees(void *context, int32_t from, int32_t to) {
    mcts_search *search = (mcts_search *)context;
    const mcts_config *config = &search->config;
    const size_t actions = (size_t)search->game->num_actions, width = (size_t)search->value_width;
    float permuted[actions];
    MCTS_VALUES(values);
    for (int32_t i = from; i < to; i++) {
        mcts_tree *tree = &search->trees[i];
        mcts_prefetch_leaf(search, i + 8, to, 0);
        mcts_prefetch_leaf(search, i + 4, to, 1);
        for (int32_t k = 0; k < tree->num_leaves; k++) {
            const mcts_leaf *leaf = &search->leaves[(size_t)i * (size_t)config->leaves_per_step + (size_t)k];
            const mcts_leaf *shown = &search->leaves[search->row_leaf[leaf->row]];
            const float *logits = search->logits + (size_t)leaf->row * actions;
            mcts_node *node = mcts_at(tree, leaf->node);
            if (leaf->symmetry != shown->symmetry) {
                const int32_t *there = search->cache.to_canonical + (size_t)leaf->symmetry * actions;
                const int32_t *back = search->cache.from_canonical + (size_t)shown->symmetry * actions;
                for (size_t a = 0; a < actions; a++) permuted[a] = logits[back[there[a]]];
                logits = permuted;
            }
            mcts_evaluated(search, node, logits, search->values + (size_t)leaf->row * width, search->value_width, values);
            if (leaf->node == MCTS_ROOT) {
                mcts_root root = mcts_root_of(search, i);
                mcts_begin_root(config, &search->shape, tree, &root, search->seed, i);
            } else if (config->leaves_per_step > 1) {
                mcts_backup(&search->shape, tree, node, mcts_at(tree, node->parent), node->parent_edge, values, 1);
            } else {
                mcts_backup(&search->shape, tree, node, mcts_at(tree, node->parent), node->parent_edge, values, 0);
            }
        }
        if (tree->num_leaves && mcts_exhausted(search, tree)) tree->done = 1;
        tree->num_leaves = 0;
    }
}

/* Puts the evaluations of the rows into the trees (and into the cache, in the order of rows); returns how many trees
 * have more to do.
 */
static inline int32_t mcts_tell(mcts_search *search) {
    const int32_t players = search->game->num_players;
    if (search->cache.keys) {
        for (int32_t row = 0; row < search->num_rows; row++) {
            const mcts_leaf *leaf = &search->leaves[search->row_leaf[row]];
            const float *given = search->values + (size_t)row * (size_t)search->value_width;
            float values[PLAYOUT_MAX_PLAYERS];
            if (search->value_width > 1) {
                memcpy(values, given, (size_t)players * sizeof(float));
            } else {
                if (players == 2) values[1 - search->to_play[row]] = -given[0];
                values[search->to_play[row]] = given[0];
            }
            mcts_cache_insert(&search->cache, leaf->key, leaf->symmetry,
                              search->logits + (size_t)row * (size_t)search->game->num_actions, values);
        }
    }
    int32_t left = 0;
    mcts_pool_run(&search->pool, search->threads, mcts_tell_trees, search, search->num_trees, 2 * MCTS_CURSORS);
    search->num_rows = search->num_leaves = 0;
    for (int32_t i = 0; i < search->num_trees; i++) left += search->trees[i].begun && !search->trees[i].done;
    return left;
}

#endif
