/* Many trees searched side by side: memory, one step of asking for leaves, one step of telling their evaluations.
 *
 * ask: every tree descends until it needs an evaluation; what ends in a finished, proven or remembered position is
 * backed up at once. The leaves become rows in the order of trees, whatever the number of threads. tell: priors and
 * values go into the trees. The rollout search, which asks nobody, stands in mcts_uct.h.
 */
#ifndef MCTS_SEARCH_H
#define MCTS_SEARCH_H

#include "mcts_cache.h"
#include "mcts_pool.h"
#include "mcts_root.h"

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
    if (node->flags & (MCTS_PROVEN | MCTS_TERMINAL)) return 1;
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
    float logits[PLAYOUT_MAX_ACTIONS];
    mcts_cache_read(&search->cache, place, leaf->symmetry, logits);
    mcts_evaluated(search, node, logits, search->cache.values + place * search->cache.num_players,
                   search->cache.num_players, values);
    return 1;
}

enum { MCTS_LEAF, MCTS_BACKED_UP, MCTS_COLLISION, MCTS_EXHAUSTED };

/* One descent. The rule and whether descents overlap are constants where this is called. */
MCTS_INLINE int mcts_descend(mcts_search *search, mcts_tree *tree, int32_t index, int gumbel, int several) {
    const mcts_config *config = &search->config;
    const mcts_shape *shape = &search->shape;
    float values[PLAYOUT_MAX_PLAYERS];
    mcts_node *node = mcts_at(tree, MCTS_ROOT), *child;
    mcts_edges e = mcts_edges_of(shape, node);
    int32_t edge, root_edge;
    if (gumbel) {
        const mcts_root root = mcts_root_of(search, index);
        edge = node->num_edges <= 8 ? mcts_select_root(config, tree, &root, node, &e, 1)
                                    : mcts_select_root(config, tree, &root, node, &e, (node->num_edges + 7) / 8);
        if (edge < 0) return MCTS_EXHAUSTED;
    } else {
        edge = node->num_edges <= 8 ? mcts_select_puct(config, &search->tables, node, &e, 1, several)
                                    : mcts_select_puct(config, &search->tables, node, &e, (node->num_edges + 7) / 8, several);
    }
    root_edge = edge;
    for (;;) {
        if (several) e.pending[edge]++, node->pending++;
        if (!e.child[edge]) break;
        child = mcts_at(tree, e.child[edge]);
        if (child->flags & (MCTS_TERMINAL | MCTS_PROVEN)) {
            mcts_known_values(shape, child, values);
            mcts_backup(config, shape, tree, child, node, edge, values, several);
            return MCTS_BACKED_UP;
        }
        if (several && child->flags & MCTS_WAITING) {
            mcts_undo(shape, tree, node, edge);
            if (gumbel) tree->position--, mcts_root_of(search, index).taken[root_edge] -= 1.0f;
            return MCTS_COLLISION;
        }
        node = child;
        e = mcts_edges_of(shape, node);
        if (gumbel)
            edge = node->num_edges <= 8 ? mcts_select_gumbel(config, node, &e, 1, several)
                                        : mcts_select_gumbel(config, node, &e, (node->num_edges + 7) / 8, several);
        else
            edge = node->num_edges <= 8
                       ? mcts_select_puct(config, &search->tables, node, &e, 1, several)
                       : mcts_select_puct(config, &search->tables, node, &e, (node->num_edges + 7) / 8, several);
    }
    child = mcts_new_child(search->game, shape, tree, mcts_offset(tree, node), edge);
    if (child->flags & MCTS_TERMINAL) {
        if (config->prove) child->flags |= MCTS_PROVEN;
        mcts_known_values(shape, child, values);
        mcts_backup(config, shape, tree, child, node, edge, values, several);
        return MCTS_BACKED_UP;
    }
    mcts_leaf *leaf = search->leaves + (size_t)index * (size_t)config->leaves_per_step + (size_t)tree->num_leaves;
    leaf->node = mcts_offset(tree, child);
    if (mcts_remembered(search, tree, child, leaf, values)) {
        mcts_backup(config, shape, tree, child, node, edge, values, several);
        return MCTS_BACKED_UP;
    }
    child->flags |= MCTS_WAITING;
    tree->num_leaves++;
    return MCTS_LEAF;
}

/* Collects one tree's leaves of this step. */
MCTS_INLINE void mcts_ask_tree(mcts_search *search, int32_t index, int gumbel, int several) {
    mcts_tree *tree = &search->trees[index];
    float values[PLAYOUT_MAX_PLAYERS];
    tree->num_leaves = 0;
    if (!tree->begun || tree->done) return;
    if (!tree->evaluated) {
        mcts_leaf *leaf = search->leaves + (size_t)index * (size_t)search->config.leaves_per_step;
        mcts_root root = mcts_root_of(search, index);
        leaf->node = MCTS_ROOT;
        if (!mcts_remembered(search, tree, mcts_at(tree, MCTS_ROOT), leaf, values)) {
            mcts_at(tree, MCTS_ROOT)->flags |= MCTS_WAITING;
            tree->num_leaves = 1;
            return;
        }
        mcts_begin_root(&search->config, &search->shape, tree, &root, search->seed, index);
    }
    while (tree->num_leaves < (several ? search->config.leaves_per_step : 1) && !mcts_exhausted(search, tree)) {
        /* The arena was sized for the whole search; only where positions have more moves than the root does it grow. */
        if (tree->used + 2 * (uint64_t)search->shape.max_units > tree->capacity &&
            mcts_reserve(tree, 2 * (uint64_t)search->shape.max_units)) {
            atomic_store(&search->out_of_memory, 1);
            return;
        }
        const int outcome = mcts_descend(search, tree, index, gumbel, several);
        if (outcome == MCTS_COLLISION || outcome == MCTS_EXHAUSTED) break;
        tree->sims++;
        tree->all_sims++;
    }
    if (tree->num_leaves == 0) tree->done = 1;
}

static void mcts_ask_trees(void *context, int32_t from, int32_t to) {
    mcts_search *search = (mcts_search *)context;
    const int gumbel = search->config.algorithm == MCTS_GUMBEL, several = search->config.leaves_per_step > 1;
    for (int32_t i = from; i < to; i++) {
        if (i + 1 < to && search->trees[i + 1].arena) __builtin_prefetch(search->trees[i + 1].arena + MCTS_UNIT);
        if (gumbel && several) mcts_ask_tree(search, i, 1, 1);
        else if (gumbel) mcts_ask_tree(search, i, 1, 0);
        else if (several) mcts_ask_tree(search, i, 0, 1);
        else mcts_ask_tree(search, i, 0, 0);
    }
}

/* Gives leaves their rows; with a cache, equal positions of one step share a row. */
static inline void mcts_number_rows(mcts_search *search) {
    const int32_t per_tree = search->config.leaves_per_step;
    search->num_rows = search->num_leaves = 0;
    if (search->cache.keys) memset(search->seen_key, 0, search->seen_size * sizeof(uint64_t));
    for (int32_t t = 0; t < search->num_trees; t++) {
        for (int32_t k = 0; k < search->trees[t].num_leaves; k++) {
            const int32_t at = t * per_tree + k;
            mcts_leaf *leaf = &search->leaves[at];
            search->num_leaves++;
            leaf->row = search->num_rows;
            if (leaf->key) {
                uint64_t i = playout_mix(leaf->key) & (search->seen_size - 1);
                while (search->seen_key[i] && search->seen_key[i] != leaf->key) i = (i + 1) & (search->seen_size - 1);
                if (search->seen_key[i]) {
                    leaf->row = search->seen_row[i];
                    search->trees[t].hits++;
                    continue;
                }
                search->seen_key[i] = leaf->key;
                search->seen_row[i] = leaf->row;
            }
            search->row_tree[search->num_rows] = t;
            search->row_leaf[search->num_rows++] = at;
        }
    }
}

static void mcts_write_rows(void *context, int32_t from, int32_t to) {
    mcts_search *search = (mcts_search *)context;
    const playout_game *game = search->game;
    const size_t size = (size_t)game->obs_shape[0] * (size_t)game->obs_shape[1] * (size_t)game->obs_shape[2];
    for (int32_t row = from; row < to; row++) {
        mcts_node *node = mcts_at(&search->trees[search->row_tree[row]], search->leaves[search->row_leaf[row]].node);
        const mcts_edges e = mcts_edges_of(&search->shape, node);
        uint8_t *mask = search->mask + (size_t)row * (size_t)game->num_actions;
        memset(mask, 0, (size_t)game->num_actions);
        for (int32_t i = 0; i < node->num_edges; i++) mask[e.action[i]] = 1;
        memcpy(search->states + (size_t)row * (size_t)game->state_size, mcts_state(node), (size_t)game->state_size);
        search->to_play[row] = node->to_play;
        if (search->obs) game->observe(game, mcts_state(node), node->to_play, search->obs + (size_t)row * size);
    }
}

/* One step; returns the number of rows to evaluate. */
static inline int32_t mcts_ask(mcts_search *search) {
    mcts_pool_run(&search->pool, search->threads, mcts_ask_trees, search, search->num_trees, 8);
    mcts_number_rows(search);
    mcts_pool_run(&search->pool, search->threads, mcts_write_rows, search, search->num_rows, 32);
    return search->num_rows;
}

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

static void mcts_tell_trees(void *context, int32_t from, int32_t to) {
    mcts_search *search = (mcts_search *)context;
    const mcts_config *config = &search->config;
    const size_t actions = (size_t)search->game->num_actions, width = (size_t)search->value_width;
    float permuted[PLAYOUT_MAX_ACTIONS], values[PLAYOUT_MAX_PLAYERS];
    for (int32_t i = from; i < to; i++) {
        mcts_tree *tree = &search->trees[i];
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
                mcts_backup(config, &search->shape, tree, node, mcts_at(tree, node->parent), node->parent_edge, values, 1);
            } else {
                mcts_backup(config, &search->shape, tree, node, mcts_at(tree, node->parent), node->parent_edge, values, 0);
            }
        }
        if (tree->num_leaves && mcts_exhausted(search, tree)) tree->done = 1;
        tree->num_leaves = 0;
    }
}

/* Puts the evaluations of the rows into the trees (and into the cache, in the order of rows). */
static inline void mcts_tell(mcts_search *search) {
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
    mcts_pool_run(&search->pool, search->threads, mcts_tell_trees, search, search->num_trees, 8);
    search->num_rows = search->num_leaves = 0;
}

#endif
