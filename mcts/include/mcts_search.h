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

/* One tree's descent under way. Several trees descend in turns, a level at a time: while one waits for the memory of its
 * next node, the others compute.
 */
typedef struct mcts_cursor {
    mcts_node *node; /* NULL: at the root, about to begin another descent */
    int32_t index, edge, root_edge;
} mcts_cursor;

#define MCTS_CURSORS 8

MCTS_INLINE void mcts_prefetch(const void *block) {
    __builtin_prefetch(block);
    __builtin_prefetch((const uint8_t *)block + MCTS_UNIT);
    __builtin_prefetch((const uint8_t *)block + 2 * MCTS_UNIT);
    __builtin_prefetch((const uint8_t *)block + 3 * MCTS_UNIT);
}

/* The edge to follow from a node; -1 when a Gumbel root's schedule is through. */
MCTS_INLINE int32_t mcts_select(const mcts_search *search, mcts_tree *tree, int32_t index, mcts_node *node,
                                const mcts_edges *e, int blocks, int gumbel, int several) {
    if (!gumbel) return mcts_select_puct(&search->config, &search->tables, node, e, blocks, several);
    if (node->parent) return mcts_select_gumbel(&search->config, node, e, blocks, several);
    const mcts_root root = mcts_root_of(search, index);
    return mcts_select_root(&search->config, tree, &root, node, e, blocks);
}

/* Chooses at `node` and sets the cursor to what was chosen. */
MCTS_INLINE int32_t mcts_choose(const mcts_search *search, mcts_tree *tree, mcts_cursor *cursor, mcts_node *node,
                                int gumbel, int several) {
    const mcts_edges e = mcts_edges_of(&search->shape, node);
    const int32_t edge = node->num_edges <= 8
                             ? mcts_select(search, tree, cursor->index, node, &e, 1, gumbel, several)
                             : mcts_select(search, tree, cursor->index, node, &e, (node->num_edges + 7) / 8, gumbel, several);
    if (edge < 0) return edge;
    if (several) e.pending[edge]++, node->pending++;
    if (e.child[edge]) mcts_prefetch(mcts_at(tree, e.child[edge]));
    cursor->node = node;
    cursor->edge = edge;
    return edge;
}

/* Ends a descent whose values are known. */
MCTS_INLINE void mcts_arrive(const mcts_search *search, const mcts_tree *tree, mcts_cursor *cursor, mcts_node *child,
                             float *values, int several) {
    mcts_backup(&search->config, &search->shape, tree, child, cursor->node, cursor->edge, values, several);
    cursor->node = NULL;
}

/* Begins a descent; 0 if the tree has its leaves for this step or its whole budget. */
MCTS_INLINE int mcts_depart(mcts_search *search, mcts_cursor *cursor, int gumbel, int several) {
    mcts_tree *tree = &search->trees[cursor->index];
    if (tree->num_leaves >= (several ? search->config.leaves_per_step : 1) || mcts_exhausted(search, tree)) return 0;
    /* The arena was sized for the whole search; only where positions have more moves than the root does it grow. */
    if (tree->used + 2 * (uint64_t)search->shape.max_units > tree->capacity &&
        mcts_reserve(tree, 2 * (uint64_t)search->shape.max_units)) {
        atomic_store(&search->out_of_memory, 1);
        return 0;
    }
    mcts_prefetch(mcts_at(tree, (uint32_t)tree->used));
    cursor->root_edge = mcts_choose(search, tree, cursor, mcts_at(tree, MCTS_ROOT), gumbel, several);
    if (cursor->root_edge < 0) return 0;
    tree->sims++;
    tree->all_sims++;
    return 1;
}

/* Follows the chosen edge and chooses again below; 0 if the tree is through with this step. */
MCTS_INLINE int mcts_follow(mcts_search *search, mcts_cursor *cursor, int gumbel, int several) {
    if (!cursor->node) return mcts_depart(search, cursor, gumbel, several);
    mcts_tree *tree = &search->trees[cursor->index];
    mcts_node *node = cursor->node;
    const uint32_t next = mcts_edges_of(&search->shape, node).child[cursor->edge];
    float values[PLAYOUT_MAX_PLAYERS];
    if (next) {
        mcts_node *child = mcts_at(tree, next);
        if (child->flags & (MCTS_TERMINAL | MCTS_PROVEN)) {
            mcts_known_values(&search->shape, child, values);
            mcts_arrive(search, tree, cursor, child, values, several);
            return 1;
        }
        if (several && child->flags & MCTS_WAITING) { /* two of this step's descents met: the step ends here */
            mcts_undo(&search->shape, tree, node, cursor->edge);
            if (gumbel) tree->position--, mcts_root_of(search, cursor->index).taken[cursor->root_edge] -= 1.0f;
            tree->sims--, tree->all_sims--;
            return 0;
        }
        mcts_choose(search, tree, cursor, child, gumbel, several);
        return 1;
    }
    mcts_node *child = mcts_new_child(search->game, &search->shape, tree, mcts_offset(tree, node), cursor->edge);
    if (child->flags & MCTS_TERMINAL) {
        if (search->config.prove) child->flags |= MCTS_PROVEN;
        mcts_known_values(&search->shape, child, values);
        mcts_arrive(search, tree, cursor, child, values, several);
        return 1;
    }
    mcts_leaf *leaf = search->leaves + (size_t)cursor->index * (size_t)search->config.leaves_per_step + (size_t)tree->num_leaves;
    leaf->node = mcts_offset(tree, child);
    if (mcts_remembered(search, tree, child, leaf, values)) {
        mcts_arrive(search, tree, cursor, child, values, several);
        return 1;
    }
    child->flags |= MCTS_WAITING;
    tree->num_leaves++;
    cursor->node = NULL;
    return several;
}

/* Before the first descent: 1 if the root is evaluated (or remembered), 0 if it waits or there is nothing to do. */
static inline int mcts_ready(mcts_search *search, int32_t index) {
    mcts_tree *tree = &search->trees[index];
    float values[PLAYOUT_MAX_PLAYERS];
    tree->num_leaves = 0;
    if (!tree->begun || tree->done) return 0;
    if (tree->evaluated) return 1;
    mcts_leaf *leaf = search->leaves + (size_t)index * (size_t)search->config.leaves_per_step;
    mcts_root root = mcts_root_of(search, index);
    leaf->node = MCTS_ROOT;
    if (mcts_remembered(search, tree, mcts_at(tree, MCTS_ROOT), leaf, values)) {
        mcts_begin_root(&search->config, &search->shape, tree, &root, search->seed, index);
        return 1;
    }
    mcts_at(tree, MCTS_ROOT)->flags |= MCTS_WAITING;
    tree->num_leaves = 1;
    return 0;
}

/* Collects the leaves of the trees from `from` to `to`. */
MCTS_INLINE void mcts_ask_range(mcts_search *search, int32_t from, int32_t to, int gumbel, int several) {
    mcts_cursor cursors[MCTS_CURSORS];
    int active = 0;
    while (from < to || active) {
        while (active < MCTS_CURSORS && from < to) {
            if (mcts_ready(search, from)) {
                mcts_prefetch(search->trees[from].arena + MCTS_UNIT);
                cursors[active++] = (mcts_cursor){NULL, from, 0, 0};
            }
            from++;
        }
        for (int i = 0; i < active;) {
            if (mcts_follow(search, &cursors[i], gumbel, several)) {
                i++;
                continue;
            }
            mcts_tree *tree = &search->trees[cursors[i].index];
            if (tree->num_leaves == 0 && !search->out_of_memory) tree->done = 1;
            cursors[i] = cursors[--active];
        }
    }
}

static void mcts_ask_trees(void *context, int32_t from, int32_t to) {
    mcts_search *search = (mcts_search *)context;
    const int gumbel = search->config.algorithm == MCTS_GUMBEL, several = search->config.leaves_per_step > 1;
    if (gumbel && several) mcts_ask_range(search, from, to, 1, 1);
    else if (gumbel) mcts_ask_range(search, from, to, 1, 0);
    else if (several) mcts_ask_range(search, from, to, 0, 1);
    else mcts_ask_range(search, from, to, 0, 0);
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
    mcts_pool_run(&search->pool, search->threads, mcts_ask_trees, search, search->num_trees, 2 * MCTS_CURSORS);
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
    float permuted[PLAYOUT_MAX_ACTIONS], values[PLAYOUT_MAX_PLAYERS];
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
                mcts_backup(config, &search->shape, tree, node, mcts_at(tree, node->parent), node->parent_edge, values, 1);
            } else {
                mcts_backup(config, &search->shape, tree, node, mcts_at(tree, node->parent), node->parent_edge, values, 0);
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
