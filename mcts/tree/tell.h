/* One step of telling: priors and values of the leaves go into the trees, and into the cache in the order of rows.
 *
 * Every part is cut among the threads: the look for bad numbers by rows, the cache by its sets, the rest by trees, or
 * where there are few trees the priors by leaves.
 */
#ifndef MCTS_TELL_H
#define MCTS_TELL_H

#include "ask.h"

#define MCTS_CACHE_PARTS 64

/* Too few trees for the threads, but leaves to share out? */
MCTS_INLINE int mcts_by_leaves(const mcts_search *search) {
    return search->config.leaves_per_step > 1 && search->num_trees < 4 * search->threads;
}

static inline int mcts_finite(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (bits & 0x7f800000u) != 0x7f800000u;
}

/* Notes the first row with a value or a legal logit that is not a finite number. */
static void mcts_check_rows(void *context, int32_t from, int32_t to, int32_t worker) {
    mcts_search *search = (mcts_search *)context;
    const size_t actions = (size_t)search->game->num_actions, width = (size_t)search->value_width;
    for (int32_t row = from; row < to; row++) {
        const float *logits = search->logits + (size_t)row * actions, *values = search->values + (size_t)row * width;
        const uint8_t *mask = search->mask + (size_t)row * actions;
        int bad = 0, any = 0;
        for (size_t p = 0; p < width; p++) bad |= !mcts_finite(values[p]);
        for (size_t a = 0; a < actions; a++) any |= !mcts_finite(logits[a]);
        if (any)
            for (size_t a = 0; a < actions; a++) bad |= !mcts_finite(logits[a]) & (mask[a] != 0);
        if (!bad) continue;
        int first = atomic_load(&search->bad_row);
        while (row < first && !atomic_compare_exchange_weak(&search->bad_row, &first, row)) {}
        return;
    }
}

/* The first row with a number that cannot be taken, or -1. */
static inline int32_t mcts_bad_row(mcts_search *search) {
    atomic_store(&search->bad_row, MCTS_UNSEEN);
    mcts_pool_run(&search->pool, search->threads, mcts_check_rows, search, search->num_rows,
                  1 + 65536 / search->game->num_actions, 4096);
    const int32_t row = atomic_load(&search->bad_row);
    return row == MCTS_UNSEEN ? -1 : row;
}

/* Puts the rows whose sets belong to these parts into the cache. */
static void mcts_remember_rows(void *context, int32_t from, int32_t to, int32_t worker) {
    mcts_search *search = (mcts_search *)context;
    mcts_cache *cache = &search->cache;
    const mcts_scratch scratch = mcts_scratch_of(search, worker);
    const int32_t players = search->game->num_players;
    for (int32_t row = 0; row < search->num_rows; row++) {
        const mcts_leaf *leaf = &search->leaves[search->row_leaf[row]];
        if (!leaf->key) continue; /* a limited root */
        const int32_t part = (int32_t)(mcts_cache_set(cache, leaf->key) % MCTS_CACHE_PARTS);
        if (part < from || part >= to) continue;
        const mcts_tree *tree = &search->trees[search->row_tree[row]];
        mcts_node *node = mcts_at(tree, leaf->node);
        const mcts_edges e = mcts_edges_of(&search->shape, tree, node);
        const float *given = search->values + (size_t)row * (size_t)search->value_width;
        float values[PLAYOUT_MAX_PLAYERS];
        if (search->value_width > 1) {
            memcpy(values, given, (size_t)players * sizeof(float));
        } else {
            if (players == 2) values[1 - search->to_play[row]] = -given[0];
            values[search->to_play[row]] = given[0];
        }
        mcts_ranks(cache, leaf->symmetry, &e, node->num_edges, scratch.bits, scratch.ranks);
        mcts_cache_insert(cache, leaf->key, cache->inserted + (uint64_t)row + 1, &e, scratch.ranks, node->num_edges,
                          search->logits + (size_t)row * (size_t)search->game->num_actions, values);
    }
}

/* The leaf's priors, from the row that it shares with equal positions. */
MCTS_INLINE void mcts_take_logits(const mcts_search *search, mcts_tree *tree, const mcts_leaf *leaf, int32_t worker) {
    const size_t actions = (size_t)search->game->num_actions;
    const mcts_leaf *shown = &search->leaves[search->row_leaf[leaf->row]];
    const float *logits = search->logits + (size_t)leaf->row * actions;
    mcts_node *node = mcts_at(tree, leaf->node);
    if (leaf->symmetry == shown->symmetry && search->shape.action_size == 2) {
        mcts_set_priors(&search->shape, tree, node, logits, 1);
        return;
    }
    const mcts_scratch scratch = mcts_scratch_of(search, worker);
    const mcts_edges e = mcts_edges_of(&search->shape, tree, node);
    if (leaf->symmetry == shown->symmetry) {
        for (int32_t i = 0; i < node->num_edges; i++) scratch.logits[i] = logits[mcts_action(&e, i)];
    } else {
        const int32_t *there = search->cache.to_canonical + (size_t)leaf->symmetry * actions;
        const int32_t *back = search->cache.from_canonical + (size_t)shown->symmetry * actions;
        for (int32_t i = 0; i < node->num_edges; i++) scratch.logits[i] = logits[back[there[mcts_action(&e, i)]]];
    }
    mcts_set_priors(&search->shape, tree, node, scratch.logits, 0);
}

/* Priors of the leaves numbered from .. to-1. */
static void mcts_tell_leaves(void *context, int32_t from, int32_t to, int32_t worker) {
    mcts_search *search = (mcts_search *)context;
    const int32_t per_tree = search->config.leaves_per_step;
    for (int32_t at = from; at < to; at++) {
        mcts_tree *tree = &search->trees[at / per_tree];
        if (at % per_tree < tree->num_leaves) mcts_take_logits(search, tree, &search->leaves[at], worker);
    }
}

/* Asks for the memory of a tree's first leaf, later for that of its parent. */
MCTS_INLINE void mcts_prefetch_leaf(const mcts_search *search, int32_t index, int32_t end, int parent) {
    if (index >= end || !search->trees[index].num_leaves) return;
    const mcts_leaf *leaf = &search->leaves[(size_t)index * (size_t)search->config.leaves_per_step];
    const mcts_node *node = mcts_at(&search->trees[index], leaf->node);
    mcts_prefetch(parent ? mcts_at(&search->trees[index], node->parent) : node);
}

static void mcts_tell_trees(void *context, int32_t from, int32_t to, int32_t worker) {
    mcts_search *search = (mcts_search *)context;
    const mcts_config *config = &search->config;
    const size_t width = (size_t)search->value_width;
    MCTS_VALUES(values);
    for (int32_t i = from; i < to; i++) {
        mcts_tree *tree = &search->trees[i];
        const size_t first = (size_t)i * (size_t)config->leaves_per_step;
        mcts_prefetch_leaf(search, i + 8, to, 0);
        mcts_prefetch_leaf(search, i + 4, to, 1);
        for (int32_t k = 0; k < tree->num_collisions; k++) {
            const mcts_collision *met = &search->collisions[first + (size_t)k];
            mcts_undo(&search->shape, tree, mcts_at(tree, met->node), met->edge);
        }
        tree->num_collisions = 0;
        for (int32_t k = 0; k < tree->num_leaves; k++) {
            const mcts_leaf *leaf = &search->leaves[first + (size_t)k];
            mcts_node *node = mcts_at(tree, leaf->node);
            if (!mcts_by_leaves(search)) mcts_take_logits(search, tree, leaf, worker);
            const void *state = mcts_leaf_state(search, i, k, node);
            mcts_take_values(search, node, state, search->values + (size_t)leaf->row * width, search->value_width, values);
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
    mcts_pool *pool = &search->pool;
    const int32_t threads = search->threads, slots = search->num_trees * search->config.leaves_per_step;
    if (search->cache.keys) {
        const int32_t parts = search->num_rows < 64 ? MCTS_CACHE_PARTS : MCTS_CACHE_PARTS / 16;
        mcts_pool_run(pool, threads, mcts_remember_rows, search, MCTS_CACHE_PARTS, parts, MCTS_CACHE_PARTS);
        search->cache.inserted += (uint64_t)search->num_rows;
    }
    if (mcts_by_leaves(search)) mcts_pool_run(pool, threads, mcts_tell_leaves, search, slots, 4, 64);
    mcts_pool_run(pool, threads, mcts_tell_trees, search, search->num_trees, 1, 2 * MCTS_CURSORS);
    search->num_rows = search->num_leaves = 0;
    int32_t left = 0;
    for (int32_t i = 0; i < search->num_trees; i++) left += search->trees[i].begun && !search->trees[i].done;
    return left;
}

#endif
