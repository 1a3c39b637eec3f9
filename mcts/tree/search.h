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
    uint64_t seen; /* its place in the table of this step's positions */
} mcts_leaf;

typedef struct mcts_collision { /* a descent that met a leaf under way: the edge above */
    uint32_t node;
    int32_t edge;
} mcts_collision;

#define MCTS_UNSEEN INT32_MAX

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
    mcts_collision *collisions; /* [num_trees, leaves_per_step] */
    uint8_t *scratch; /* [threads] of mcts_scratch_size() */
    uint8_t *leaf_states; /* [num_trees, leaves_per_step, state_size] where states lie apart, else NULL */
    int32_t num_rows, num_leaves;
    int32_t *row_tree;    /* [rows] tree whose leaf the row shows */
    int32_t *row_leaf;    /* [rows] its place in leaves */
    _Atomic uint64_t *seen_key; /* this step's positions, open addressing */
    atomic_int *seen_leaf;      /* the first leaf that shows the position */
    uint64_t seen_size;
    mcts_plan *plans;
    int32_t num_plans;
    atomic_int out_of_memory, bad_row;
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

/* Where the state of a tree's k-th leaf of this step goes, where states lie apart. */
MCTS_INLINE void *mcts_leaf_room(const mcts_search *search, int32_t index, int32_t k) {
    const size_t at = (size_t)index * (size_t)search->config.leaves_per_step + (size_t)k;
    return search->leaf_states ? search->leaf_states + at * (size_t)search->shape.state_size : NULL;
}

/* The state of a leaf of this step, which may be the root. */
MCTS_INLINE const void *mcts_leaf_state(const mcts_search *search, int32_t index, int32_t k, mcts_node *node) {
    const mcts_tree *tree = &search->trees[index];
    return search->shape.apart && node->parent ? mcts_leaf_room(search, index, k) : mcts_state(&search->shape, tree, node);
}

/* Has the tree all that it was asked for? (Gumbel may also find out on its way that the rest of its steps is free.) */
MCTS_INLINE int mcts_exhausted(const mcts_search *search, const mcts_tree *tree) {
    const mcts_node *node = mcts_at(tree, MCTS_ROOT);
    if (node->flags & (MCTS_PROVEN | MCTS_TERMINAL | MCTS_CHANCE)) return 1;
    if (search->config.algorithm == MCTS_GUMBEL && tree->position >= tree->schedule_size) return 1;
    if (search->config.algorithm != MCTS_GUMBEL && search->config.count_reused)
        return node->visits + (float)(node->pending - tree->num_collisions) >= (float)tree->budget;
    return tree->sims >= tree->budget;
}

/* Room for one thread's work on one position. */
typedef struct mcts_scratch {
    float *logits;   /* [max_legal], padded */
    uint16_t *ranks; /* [max_legal], padded */
    void *bits, *state;
} mcts_scratch;

static inline size_t mcts_scratch_size(const playout_game *game) {
    const size_t n = (size_t)mcts_padded(game->max_legal);
    return (6 * n + mcts_ranks_size(game->num_actions) + 8 + (size_t)game->state_size + 63) & ~(size_t)63;
}

static inline mcts_scratch mcts_scratch_of(const mcts_search *search, int32_t worker) {
    const size_t n = (size_t)mcts_padded(search->game->max_legal);
    const size_t bits = (mcts_ranks_size(search->game->num_actions) + 7) & ~(size_t)7;
    uint8_t *at = search->scratch + (size_t)worker * mcts_scratch_size(search->game);
    mcts_scratch scratch;
    scratch.bits = at;
    scratch.state = at + bits;
    scratch.logits = (float *)(void *)(at + bits + search->game->state_size);
    scratch.ranks = (uint16_t *)(void *)(scratch.logits + n);
    return scratch;
}

/* What an evaluation says of every player: `given` is for the side to move (width 1) or for all; it is about what is
 * still to come, so that rewards collected on the way are added. The node has its priors already.
 */
MCTS_INLINE void mcts_take_values(const mcts_search *search, mcts_node *node, const void *state, const float *given,
                                  int32_t width, float *values) {
    if (width > 1) {
        memcpy(values, given, (size_t)width * sizeof(float));
    } else {
        if (search->shape.num_players == 2) values[1 - node->to_play] = -given[0];
        values[node->to_play] = given[0];
    }
    if (search->shape.collected) {
        float collected[PLAYOUT_MAX_PLAYERS];
        mcts_scaled_returns(search->game, &search->shape, state, collected);
        for (int32_t p = 0; p < search->shape.num_players; p++) values[p] += collected[p];
    }
    node->raw_value = values[node->to_play];
    node->flags &= (uint8_t)~MCTS_WAITING;
}

/* Enters the leaf among the positions of this step; the first leaf of equal ones will have the row. */
static inline void mcts_note(mcts_search *search, mcts_leaf *leaf) {
    const int32_t at = (int32_t)(leaf - search->leaves);
    uint64_t i = playout_mix(leaf->key) & (search->seen_size - 1);
    for (;;) {
        uint64_t found = 0;
        if (atomic_compare_exchange_strong(&search->seen_key[i], &found, leaf->key) || found == leaf->key) break;
        i = (i + 1) & (search->seen_size - 1);
    }
    int first = atomic_load(&search->seen_leaf[i]);
    while (at < first && !atomic_compare_exchange_weak(&search->seen_leaf[i], &first, at)) {}
    leaf->seen = i;
}

/* Looks the position up; 1 if it was remembered and the node is evaluated, else 0 and the leaf has its name. */
static inline int mcts_remembered(mcts_search *search, mcts_tree *tree, mcts_node *node, mcts_leaf *leaf,
                                  const void *state, int32_t worker, float *values) {
    const mcts_cache *cache = &search->cache;
    leaf->key = 0;
    leaf->symmetry = 0;
    if (!cache->keys) return 0;
    const mcts_scratch scratch = mcts_scratch_of(search, worker);
    leaf->key = mcts_canonical(cache, search->game, state, scratch.state, &leaf->symmetry);
    const int64_t place = mcts_cache_find(cache, leaf->key);
    if (place < 0) {
        mcts_note(search, leaf);
        return 0;
    }
    const float *kept = cache->logits + (size_t)place * (size_t)cache->max_legal;
    tree->hits++;
    if (leaf->symmetry) {
        const mcts_edges e = mcts_edges_of(&search->shape, tree, node);
        mcts_ranks(cache, leaf->symmetry, &e, node->num_edges, scratch.bits, scratch.ranks);
        for (int32_t i = 0; i < node->num_edges; i++) scratch.logits[i] = kept[scratch.ranks[i]];
    } else {
        memcpy(scratch.logits, kept, (size_t)node->num_edges * sizeof(float));
    }
    mcts_set_priors(&search->shape, tree, node, scratch.logits, 0);
    mcts_take_values(search, node, state, cache->values + place * cache->num_players, cache->num_players, values);
    return 1;
}

#endif
