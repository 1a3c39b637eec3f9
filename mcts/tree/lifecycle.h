/* The life of a search: created, begun at a position, moved on by a played action, freed.
 *
 * Memory is taken here, for the whole budget at once; a step grows an arena only where positions have more moves than
 * the root has (ask.h). What a search found is read in result.h.
 */
#ifndef MCTS_LIFECYCLE_H
#define MCTS_LIFECYCLE_H

#include "tell.h"
#include "uct.h"

static inline void mcts_search_free(mcts_search *search) {
    mcts_pool_stop(&search->pool);
    mcts_cache_free(&search->cache);
    if (search->trees)
        for (int32_t i = 0; i < search->num_trees; i++) free(search->trees[i].arena);
    for (int32_t i = 0; i < search->num_plans; i++) free(search->plans[i].visits);
    free(search->plans), free(search->trees), free(search->root_rows), free(search->leaves);
    free(search->collisions), free(search->row_tree), free(search->row_leaf), free(search->scratch),
        free(search->leaf_states);
    free(search->seen_key), free(search->seen_leaf), free(search->tables.puct), free(search->tables.log);
    memset(search, 0, sizeof *search);
}

/* Everything but the trees' arenas; 0, or -1 when memory is short. */
static inline int mcts_search_create(mcts_search *search, const playout_game *game, const mcts_config *config,
                                     int32_t num_trees, int32_t threads, uint64_t seed, int64_t cache_size) {
    memset(search, 0, sizeof *search);
    const size_t rows = (size_t)num_trees * (size_t)config->leaves_per_step;
    search->game = game;
    search->config = *config;
    search->shape = mcts_shape_of(game, config);
    search->seed = seed;
    search->num_trees = num_trees;
    search->threads = threads;
    search->row_stride = mcts_padded(game->max_legal);
    search->trees = (mcts_tree *)calloc((size_t)num_trees, sizeof(mcts_tree));
    search->root_rows = (float *)calloc((size_t)num_trees * 4 * (size_t)search->row_stride, sizeof(float));
    search->leaves = (mcts_leaf *)calloc(rows, sizeof(mcts_leaf));
    search->collisions = (mcts_collision *)calloc(rows, sizeof(mcts_collision));
    search->scratch = (uint8_t *)calloc((size_t)(threads > 1 ? threads : 1), mcts_scratch_size(game));
    search->row_tree = (int32_t *)calloc(rows, sizeof(int32_t));
    search->row_leaf = (int32_t *)calloc(rows, sizeof(int32_t));
    if (search->shape.apart) {
        search->leaf_states = (uint8_t *)calloc(rows, (size_t)game->state_size);
        if (!search->leaf_states) return -1;
    }
    for (search->seen_size = 4; search->seen_size < 2 * rows; search->seen_size *= 2) {}
    search->seen_key = (_Atomic uint64_t *)calloc(search->seen_size, sizeof(uint64_t));
    search->seen_leaf = (atomic_int *)malloc(search->seen_size * sizeof(atomic_int));
    if (!search->trees || !search->root_rows || !search->leaves || !search->collisions || !search->scratch ||
        !search->row_tree || !search->row_leaf || !search->seen_key || !search->seen_leaf)
        return -1;
    for (uint64_t i = 0; i < search->seen_size; i++) atomic_store(&search->seen_leaf[i], MCTS_UNSEEN);
    return cache_size ? mcts_cache_create(&search->cache, game, cache_size, config->cache_symmetric) : 0;
}

/* Functions of all counts below `size`. */
static inline int mcts_grow_tables(mcts_search *search, int64_t size) {
    mcts_tables *tables = &search->tables;
    if (size <= tables->size) return 0;
    float *puct = (float *)realloc(tables->puct, (size_t)size * sizeof(float));
    if (puct) tables->puct = puct;
    float *logs = (float *)realloc(tables->log, (size_t)size * sizeof(float));
    if (logs) tables->log = logs;
    if (!puct || !logs) return -1;
    const double base = search->config.c_base, init = search->config.c_init, c = search->config.uct_c;
    for (int64_t n = tables->size; n < size; n++) {
        puct[n] = (float)((log((1.0 + (double)n + base) / base) + init) * sqrt((double)n));
        logs[n] = n ? (float)(c * c * log((double)n)) : 0.0f;
    }
    tables->size = size;
    return 0;
}

static inline const mcts_plan *mcts_plan_for(mcts_search *search, int32_t considered, int32_t size) {
    for (int32_t i = 0; i < search->num_plans; i++)
        if (search->plans[i].considered == considered && search->plans[i].size == size) return &search->plans[i];
    mcts_plan *plans = (mcts_plan *)realloc(search->plans, (size_t)(search->num_plans + 1) * sizeof(mcts_plan));
    if (!plans) return NULL;
    search->plans = plans;
    mcts_plan *plan = &plans[search->num_plans];
    plan->considered = considered;
    plan->size = size;
    plan->visits = (int32_t *)malloc((size_t)(size > 0 ? size : 1) * sizeof(int32_t));
    if (!plan->visits) return NULL;
    mcts_schedule(considered, size, plan->visits);
    search->num_plans++;
    return plan;
}

/* Starts a search from the root in place. Sizes the arena for the whole budget. */
static inline int mcts_start(mcts_search *search, int32_t index, int32_t budget, int32_t noise) {
    const mcts_config *config = &search->config;
    mcts_tree *tree = &search->trees[index];
    mcts_node *node = mcts_at(tree, MCTS_ROOT);
    tree->searches++;
    tree->budget = budget;
    tree->noise = (uint8_t)noise;
    tree->begun = 0; /* without memory there is nothing to go on with */
    tree->sims = tree->position = tree->num_leaves = tree->num_collisions = tree->schedule_size = 0;
    tree->reused = node->visits;
    tree->outcomes = mcts_stream(search->seed, index, tree->searches, MCTS_STREAM_OUTCOME);
    tree->done = (node->flags & (MCTS_TERMINAL | MCTS_PROVEN | MCTS_CHANCE)) != 0;
    tree->evaluated = (node->flags & (MCTS_TERMINAL | MCTS_CHANCE)) != 0;
    if (tree->evaluated) { /* nobody is to move */
        tree->begun = 1;
        return 0;
    }
    const int64_t visits = (int64_t)budget + (config->count_reused && tree->reused < (float)budget ? 0 : (int64_t)tree->reused);
    int64_t new_nodes = visits - (config->count_reused ? (int64_t)tree->reused : 0);
    if (config->algorithm == MCTS_UCT) new_nodes = new_nodes / 2 + 1; /* an edge gets its node at the second visit */
    if (mcts_grow_tables(search, visits + 2 * config->leaves_per_step + 2)) return -1;
    if (config->algorithm == MCTS_GUMBEL) {
        const int32_t m = node->num_edges < config->max_considered ? node->num_edges : config->max_considered;
        const mcts_plan *plan = mcts_plan_for(search, m, (int32_t)(config->count_reused ? budget : visits));
        if (!plan) return -1;
        tree->schedule = plan->visits;
        tree->schedule_size = plan->size;
    }
    /* Of large states about half are kept, and of sparse nodes about half have statistics, for a few edges. */
    const mcts_shape *shape = &search->shape;
    const int32_t sparse = node->num_edges > shape->dense_edges;
    int64_t units = new_nodes > 0 ? new_nodes * mcts_units(shape, node->num_edges, sparse ? MCTS_SPARSE : 0) : 0;
    if (new_nodes > 0 && sparse) units += new_nodes / 2 * mcts_block_units(shape, 8);
    if (new_nodes > 0 && shape->apart) units += new_nodes / 2 * mcts_block_units(shape, 0);
    if (mcts_reserve_for_search(tree, (uint64_t)units + 4 * (uint64_t)shape->max_units)) return -1;
    mcts_open_all(shape, tree, mcts_at(tree, MCTS_ROOT));
    tree->begun = 1;
    return 0;
}

/* `allowed`: the root's moves as uint8 by action, or NULL for all. */
static inline int mcts_begin_tree(mcts_search *search, int32_t index, const void *state, int32_t budget, int32_t noise,
                                  const uint8_t *allowed) {
    mcts_tree *tree = &search->trees[index];
    tree->used = MCTS_ROOT;
    tree->begun = 0;
    if (mcts_reserve(tree, 4 * (uint64_t)search->shape.max_units)) return -1;
    mcts_new_root(search->game, &search->shape, tree, state, mcts_scratch_of(search, 0).state, allowed);
    return mcts_start(search, index, budget, noise);
}

/* The edge of an action, or -1. */
static inline int32_t mcts_find_edge(const mcts_shape *shape, const mcts_tree *tree, mcts_node *node, int32_t action) {
    const mcts_edges e = mcts_edges_of(shape, tree, node);
    for (int32_t i = 0; i < node->num_edges; i++)
        if (mcts_action(&e, i) == action) return i;
    return -1;
}

static inline int mcts_may_play(const mcts_search *search, int32_t index, int32_t action) {
    const mcts_tree *tree = &search->trees[index];
    return mcts_find_edge(&search->shape, tree, mcts_at(tree, MCTS_ROOT), action) >= 0;
}

static inline void mcts_root_state(const mcts_search *search, int32_t index, void *out) {
    const mcts_tree *tree = &search->trees[index];
    memcpy(out, mcts_state(&search->shape, tree, mcts_at(tree, MCTS_ROOT)), (size_t)search->shape.state_size);
}

/* Plays a legal action at the root; keeps its subtree if the configuration says so and there is one. */
static inline int mcts_advance_tree(mcts_search *search, int32_t index, int32_t action, int32_t budget, int32_t noise) {
    mcts_tree *tree = &search->trees[index];
    const mcts_shape *shape = &search->shape;
    if (shape->apart && mcts_reserve(tree, 4 * (uint64_t)shape->max_units)) return -1;
    mcts_node *root = mcts_at(tree, MCTS_ROOT);
    const uint32_t child = mcts_edges_of(shape, tree, root).child[mcts_find_edge(shape, tree, root, action)];
    if (child && search->config.reuse) {
        mcts_need_state(search->game, shape, tree, mcts_at(tree, child));
        mcts_keep_subtree(shape, tree, child);
        if (mcts_start(search, index, budget, noise)) return -1;
        if (tree->evaluated) return 0;
        if (search->config.algorithm == MCTS_UCT) {
            mcts_uct_ready(search, index);
        } else {
            mcts_root rows = mcts_root_of(search, index);
            mcts_begin_root(&search->config, shape, tree, &rows, search->seed, index);
        }
        return 0;
    }
    void *state = mcts_state(shape, tree, root);
    search->game->apply(search->game, state, action);
    mcts_new_root(search->game, shape, tree, state, mcts_scratch_of(search, 0).state, NULL);
    return mcts_start(search, index, budget, noise);
}

#endif
