/* One step of asking: every tree descends until it needs an evaluation.
 *
 * What ends in a finished, proven or remembered position is backed up at once. The leaves become rows in the order of
 * trees, whatever the number of threads.
 */
#ifndef MCTS_ASK_H
#define MCTS_ASK_H

#include "search.h"

/* One tree's descent under way. Several trees descend in turns, a level at a time: while one waits for the memory of its
 * next node, the others compute.
 */
typedef struct mcts_cursor {
    mcts_node *node; /* NULL: at the root, about to begin another descent */
    int32_t index, edge, root_edge, worker;
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
                                const mcts_edges *e, int blocks, int gumbel, int several, const mcts_rest *rest) {
    if (!gumbel) {
        if (search->config.forced_playouts > 0.0f && !node->parent && tree->noise) {
            const int32_t edge = mcts_select_forced(&search->config, node, e, several);
            if (edge >= 0) return edge;
        }
        return mcts_select_puct(&search->config, &search->tables, node, e, blocks, several, rest);
    }
    if (node->parent) return mcts_select_gumbel(&search->config, node, e, blocks, several, rest);
    const mcts_root root = mcts_root_of(search, index);
    return mcts_select_root(&search->config, tree, &root, node, e, blocks);
}

/* At a sparse node below the root. Opens the edge if it was not. */
static int32_t mcts_select_sparse(const mcts_search *search, mcts_tree *tree, int32_t index, mcts_node *node, int gumbel,
                                  int several) {
    const mcts_shape *shape = &search->shape;
    const mcts_edges e = mcts_edges_of(shape, tree, node);
    const int blocks = (e.count + 7) / 8;
    if (e.count == node->num_edges) return mcts_select(search, tree, index, node, &e, blocks, gumbel, several, NULL);
    const mcts_rest rest = {e.count, mcts_single(mcts_half_priors(shape, node)[e.count]), mcts_sparse_of(shape, node)->rest};
    const int32_t edge = mcts_select(search, tree, index, node, &e, blocks, gumbel, several, &rest);
    if (edge == rest.edge) mcts_open_edge(shape, tree, node);
    return edge;
}

/* Chooses at `node` and sets the cursor to what was chosen. */
MCTS_INLINE int32_t mcts_choose(const mcts_search *search, mcts_tree *tree, mcts_cursor *cursor, mcts_node *node,
                                int gumbel, int several) {
    mcts_edges e;
    int32_t edge;
    if ((node->flags & MCTS_SPARSE) && node->parent) {
        edge = mcts_select_sparse(search, tree, cursor->index, node, gumbel, several);
        e = mcts_edges_of(&search->shape, tree, node);
    } else {
        e = mcts_edges_of(&search->shape, tree, node);
        const int blocks = (node->num_edges + 7) / 8;
        edge = blocks == 1 ? mcts_select(search, tree, cursor->index, node, &e, 1, gumbel, several, NULL)
                           : mcts_select(search, tree, cursor->index, node, &e, blocks, gumbel, several, NULL);
    }
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
    mcts_backup(&search->shape, tree, child, cursor->node, cursor->edge, values, several);
    cursor->node = NULL;
}

/* At a chance node: draws the outcome to follow. A descent may pass several, and each may make a node: 0 without memory. */
static inline int mcts_roll(mcts_search *search, mcts_tree *tree, mcts_cursor *cursor, mcts_node *node, int several) {
    const uint32_t offset = mcts_offset(tree, node);
    if (tree->used + 2 * (uint64_t)search->shape.max_units > tree->capacity &&
        mcts_reserve(tree, 2 * (uint64_t)search->shape.max_units)) {
        if (several) mcts_undo(&search->shape, tree, cursor->node, cursor->edge);
        atomic_store(&search->out_of_memory, 1);
        return 0;
    }
    node = mcts_at(tree, offset);
    const int32_t edge = mcts_draw_edge(&search->shape, tree, node);
    const mcts_edges e = mcts_edges_of(&search->shape, tree, node);
    if (several) e.pending[edge]++, node->pending++;
    if (e.child[edge]) mcts_prefetch(mcts_at(tree, e.child[edge]));
    cursor->node = node;
    cursor->edge = edge;
    return 1;
}

/* Begins a descent; 0 if the tree has its leaves for this step, or has used its whole budget. */
MCTS_INLINE int mcts_depart(mcts_search *search, mcts_cursor *cursor, int gumbel, int several) {
    mcts_tree *tree = &search->trees[cursor->index];
    const int32_t most = several ? search->config.leaves_per_step : 1;
    if (tree->num_leaves >= most || tree->num_collisions >= most || mcts_exhausted(search, tree)) return 0;
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

/* Follows the chosen edge and chooses again below; 0 if the tree has finished this step. */
MCTS_INLINE int mcts_follow(mcts_search *search, mcts_cursor *cursor, int gumbel, int several) {
    if (!cursor->node) return mcts_depart(search, cursor, gumbel, several);
    mcts_tree *tree = &search->trees[cursor->index];
    mcts_node *node = cursor->node;
    const uint32_t next = mcts_edges_of(&search->shape, tree, node).child[cursor->edge];
    MCTS_VALUES(values);
    if (next) {
        mcts_node *child = mcts_at(tree, next);
        if (child->flags & (MCTS_TERMINAL | MCTS_PROVEN | MCTS_CHANCE)) {
            if (child->flags & MCTS_CHANCE) return mcts_roll(search, tree, cursor, child, several);
            mcts_known_values(&search->shape, child, values);
            mcts_arrive(search, tree, cursor, child, values, several);
            return 1;
        }
        if (several && child->flags & MCTS_WAITING) {
            /* Two of this step's descents met. This one is no simulation, but until the leaf has its value it stays a
             * visit under way, so that those who follow go elsewhere. */
            search->collisions[(size_t)cursor->index * (size_t)search->config.leaves_per_step +
                               (size_t)tree->num_collisions++] = (mcts_collision){mcts_offset(tree, node), cursor->edge};
            if (gumbel) tree->position--, mcts_root_of(search, cursor->index).taken[cursor->root_edge] -= 1.0f;
            tree->sims--, tree->all_sims--;
            cursor->node = NULL;
            return 1;
        }
        mcts_choose(search, tree, cursor, child, gumbel, several);
        return 1;
    }
    void *room = mcts_leaf_room(search, cursor->index, tree->num_leaves);
    mcts_node *child = mcts_new_child(search->game, &search->shape, tree, node, cursor->edge, room);
    if (child->flags & (MCTS_TERMINAL | MCTS_CHANCE)) {
        if (child->flags & MCTS_CHANCE) return mcts_roll(search, tree, cursor, child, several);
        mcts_prove_terminal(&search->config, &search->shape, child);
        mcts_known_values(&search->shape, child, values);
        mcts_arrive(search, tree, cursor, child, values, several);
        return 1;
    }
    mcts_leaf *leaf = search->leaves + (size_t)cursor->index * (size_t)search->config.leaves_per_step + (size_t)tree->num_leaves;
    const void *state = mcts_leaf_state(search, cursor->index, tree->num_leaves, child);
    leaf->node = mcts_offset(tree, child);
    if (mcts_remembered(search, tree, child, leaf, state, cursor->worker, values)) {
        mcts_arrive(search, tree, cursor, child, values, several);
        return 1;
    }
    child->flags |= MCTS_WAITING;
    tree->num_leaves++;
    cursor->node = NULL;
    return several;
}

/* Before the first descent: 1 if the root is evaluated (or remembered), 0 if it waits or there is nothing to do. */
static inline int mcts_ready(mcts_search *search, int32_t index, int32_t worker) {
    mcts_tree *tree = &search->trees[index];
    MCTS_VALUES(values);
    tree->num_leaves = 0;
    if (!tree->begun || tree->done) return 0;
    if (tree->evaluated) return 1;
    mcts_leaf *leaf = search->leaves + (size_t)index * (size_t)search->config.leaves_per_step;
    mcts_root root = mcts_root_of(search, index);
    leaf->node = MCTS_ROOT;
    const void *state = mcts_state(&search->shape, tree, mcts_at(tree, MCTS_ROOT));
    if (tree->limited) { /* what is remembered has the priors of all moves */
        leaf->key = 0, leaf->symmetry = 0;
    } else if (mcts_remembered(search, tree, mcts_at(tree, MCTS_ROOT), leaf, state, worker, values)) {
        mcts_begin_root(&search->config, &search->shape, tree, &root, search->seed, index);
        return 1;
    }
    mcts_at(tree, MCTS_ROOT)->flags |= MCTS_WAITING;
    tree->num_leaves = 1;
    return 0;
}

/* Collects the leaves of the trees from `from` to `to`. */
MCTS_INLINE void mcts_ask_range(mcts_search *search, int32_t from, int32_t to, int32_t worker, int gumbel, int several) {
    mcts_cursor cursors[MCTS_CURSORS];
    int active = 0;
    while (from < to || active) {
        while (active < MCTS_CURSORS && from < to) {
            if (mcts_ready(search, from, worker)) {
                mcts_prefetch(search->trees[from].arena + MCTS_UNIT);
                cursors[active++] = (mcts_cursor){NULL, from, 0, 0, worker};
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

static void mcts_ask_trees(void *context, int32_t from, int32_t to, int32_t worker) {
    mcts_search *search = (mcts_search *)context;
    const int gumbel = search->config.algorithm == MCTS_GUMBEL, several = search->config.leaves_per_step > 1;
    if (gumbel && several) mcts_ask_range(search, from, to, worker, 1, 1);
    else if (gumbel) mcts_ask_range(search, from, to, worker, 1, 0);
    else if (several) mcts_ask_range(search, from, to, worker, 0, 1);
    else mcts_ask_range(search, from, to, worker, 0, 0);
}

/* Gives leaves their rows; with a cache, equal positions of one step share a row. */
static inline void mcts_number_rows(mcts_search *search) {
    const int32_t per_tree = search->config.leaves_per_step;
    search->num_rows = search->num_leaves = 0;
    for (int32_t t = 0; t < search->num_trees; t++) {
        for (int32_t k = 0; k < search->trees[t].num_leaves; k++) {
            const int32_t at = t * per_tree + k;
            mcts_leaf *leaf = &search->leaves[at];
            search->num_leaves++;
            leaf->row = search->num_rows;
            if (leaf->key) {
                const int32_t first = atomic_load(&search->seen_leaf[leaf->seen]);
                if (first != at) {
                    leaf->row = search->leaves[first].row;
                    search->trees[t].hits++;
                    continue;
                }
            }
            search->row_tree[search->num_rows] = t;
            search->row_leaf[search->num_rows++] = at;
        }
    }
    for (int32_t row = 0; search->cache.keys && row < search->num_rows; row++) {
        const mcts_leaf *leaf = &search->leaves[search->row_leaf[row]];
        if (!leaf->key) continue;
        atomic_store(&search->seen_key[leaf->seen], 0);
        atomic_store(&search->seen_leaf[leaf->seen], MCTS_UNSEEN);
    }
}

static void mcts_write_rows(void *context, int32_t from, int32_t to, int32_t worker) {
    mcts_search *search = (mcts_search *)context;
    const playout_game *game = search->game;
    const size_t size = (size_t)game->obs_shape[0] * (size_t)game->obs_shape[1] * (size_t)game->obs_shape[2];
    for (int32_t row = from; row < to; row++) {
        const int32_t index = search->row_tree[row], at = search->row_leaf[row];
        const mcts_tree *tree = &search->trees[index];
        mcts_node *node = mcts_at(tree, search->leaves[at].node);
        const void *state = mcts_leaf_state(search, index, at % search->config.leaves_per_step, node);
        const mcts_edges e = mcts_edges_of(&search->shape, tree, node);
        uint8_t *mask = search->mask + (size_t)row * (size_t)game->num_actions;
        memset(mask, 0, (size_t)game->num_actions);
        for (int32_t i = 0; i < node->num_edges; i++) mask[mcts_action(&e, i)] = 1;
        memcpy(search->states + (size_t)row * (size_t)game->state_size, state, (size_t)game->state_size);
        search->to_play[row] = node->to_play;
        if (search->obs) game->observe(game, state, node->to_play, search->obs + (size_t)row * size);
    }
}

/* One step; returns the number of rows to evaluate. */
static inline int32_t mcts_ask(mcts_search *search) {
    const playout_game *game = search->game;
    const int32_t *plane = game->obs_shape;
    const int64_t bytes = game->num_actions + game->state_size + (search->obs ? 4 * plane[0] * plane[1] * plane[2] : 0);
    mcts_pool_run(&search->pool, search->threads, mcts_ask_trees, search, search->num_trees, 1, 2 * MCTS_CURSORS);
    mcts_number_rows(search);
    mcts_pool_run(&search->pool, search->threads, mcts_write_rows, search, search->num_rows, (int32_t)(1 + 4096 / bytes), 256);
    return search->num_rows;
}

#endif
