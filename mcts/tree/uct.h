/* UCT with random rollouts, wholly in C: a leaf is valued by playing random moves to the end.
 *
 * An edge gets a node at its second visit (then its moves are shuffled and tried in that order), so most leaves cost no
 * memory. Runs in slices of time, so that the caller can look for signals; where a slice ends changes nothing, for each
 * tree draws from its own stream.
 */
#ifndef MCTS_UCT_H
#define MCTS_UCT_H

#include <time.h>

#include "playout_random.h"
#include "search.h"

/* The mean of several random games from `state`, which is overwritten; `scratch` has room for one more state. */
static inline void mcts_rollouts(const playout_game *game, void *state, void *scratch, int32_t count, float scale,
                                 playout_rng *rng, float *values) {
    float once[PLAYOUT_MAX_PLAYERS];
    playout_finish(game, count > 1 ? memcpy(scratch, state, (size_t)game->state_size) : state, rng, values);
    for (int32_t k = 1; k < count; k++) {
        playout_finish(game, k + 1 < count ? memcpy(scratch, state, (size_t)game->state_size) : state, rng, once);
        for (int32_t p = 0; p < game->num_players; p++) values[p] += once[p];
    }
    if (count > 1)
        for (int32_t p = 0; p < game->num_players; p++) values[p] /= (float)count;
    if (scale != 1.0f)
        for (int32_t p = 0; p < game->num_players; p++) values[p] /= scale;
}

static inline void mcts_shuffle(const mcts_shape *shape, const mcts_tree *tree, mcts_node *node, playout_rng *rng) {
    const mcts_edges e = mcts_edges_of(shape, tree, node);
    for (uint32_t i = node->num_edges; i > 1; i--) {
        const uint32_t j = playout_rng_below(rng, i);
        const int32_t kept = mcts_action(&e, (int32_t)i - 1);
        mcts_put_action(&e, (int32_t)i - 1, mcts_action(&e, (int32_t)j));
        mcts_put_action(&e, (int32_t)j, kept);
    }
}

MCTS_INLINE int32_t mcts_uct_choose(const mcts_search *search, mcts_tree *tree, mcts_node *node) {
    if (node->num_visited < node->num_edges && (node->flags & MCTS_SPARSE) &&
        node->num_visited == mcts_sparse_of(&search->shape, node)->open)
        mcts_open_edge(&search->shape, tree, node);
    const mcts_edges e = mcts_edges_of(&search->shape, tree, node);
    return node->num_edges <= 8
               ? mcts_select_uct(&search->tables, node, &e, 1, tree->stretch)
               : mcts_select_uct(&search->tables, node, &e, (node->num_edges + 7) / 8, tree->stretch);
}

/* Rewards along the way add up to results of any size: a bonus made for results from -1 to 1 would be all that counts
 * where they differ by hundredths, and nothing where they differ by thousands. It is stretched to the results seen.
 */
static inline void mcts_note_results(const mcts_shape *shape, mcts_tree *tree, const float *values) {
    for (int32_t p = 0; p < shape->num_players; p++) {
        if (values[p] < tree->lowest) tree->lowest = values[p];
        if (values[p] > tree->highest) tree->highest = values[p];
    }
    const float half = (tree->highest - tree->lowest) * 0.5f;
    tree->stretch = half > 0.0f ? half * half : 1.0f;
}

static inline void mcts_uct_simulation(mcts_search *search, mcts_tree *tree) {
    const playout_game *game = search->game;
    const mcts_config *config = &search->config;
    const mcts_shape *shape = &search->shape;
    MCTS_VALUES(values);
    mcts_node *node = mcts_at(tree, MCTS_ROOT), *child = NULL;
    int32_t edge = mcts_uct_choose(search, tree, node);
    for (;;) {
        const mcts_edges e = mcts_edges_of(shape, tree, node);
        if (e.child[edge]) {
            child = mcts_at(tree, e.child[edge]);
        } else if (e.visits[edge] > 0.0f) {
            child = mcts_new_child(game, shape, tree, node, edge, NULL);
            if (child->flags & MCTS_TERMINAL) mcts_prove_terminal(config, shape, child);
            else if (!(child->flags & MCTS_CHANCE)) mcts_shuffle(shape, tree, child, &tree->rollouts);
        } else {
            void *state = mcts_next_state(shape, tree, NULL);
            memcpy(state, mcts_state(shape, tree, node), (size_t)shape->state_size);
            game->apply(game, state, mcts_action(&e, edge));
            if (config->prove && game->to_play(game, state) < 0) {
                e.child[edge] = (uint32_t)tree->used;
                child = mcts_finish_node(game, shape, tree, mcts_offset(tree, node), edge, state);
                mcts_prove_terminal(config, shape, child);
            } else {
                void *scratch = (uint8_t *)state + (size_t)shape->max_units * MCTS_UNIT;
                mcts_rollouts(game, state, scratch, config->num_rollouts, shape->scale, &tree->rollouts, values);
                child = NULL;
                break;
            }
        }
        if (child->flags & (MCTS_TERMINAL | MCTS_PROVEN | MCTS_CHANCE)) {
            if (!(child->flags & MCTS_CHANCE)) {
                mcts_known_values(shape, child, values);
                break;
            }
            edge = mcts_draw_edge(shape, tree, child);
        } else {
            edge = mcts_uct_choose(search, tree, child);
        }
        node = child;
    }
    if (shape->collected) mcts_note_results(shape, tree, values);
    mcts_backup(shape, tree, child, node, edge, values, 0);
    tree->sims++;
    tree->all_sims++;
}

/* Before the first simulation: the tree's random stream, and a uniform prior to report. */
static inline void mcts_uct_ready(mcts_search *search, int32_t index) {
    mcts_tree *tree = &search->trees[index];
    mcts_root root = mcts_root_of(search, index);
    mcts_node *node = mcts_at(tree, MCTS_ROOT);
    tree->rollouts = mcts_stream(search->seed, index, tree->searches, MCTS_STREAM_ROLLOUT);
    if (node->visits == 0.0f) mcts_shuffle(&search->shape, tree, node, &tree->rollouts);
    for (int32_t k = 0; k < node->num_edges; k++)
        mcts_edges_of(&search->shape, tree, node).prior[k] = 1.0f / (float)node->num_edges;
    mcts_begin_root(&search->config, &search->shape, tree, &root, search->seed, index);
}

static inline double mcts_clock(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

typedef struct mcts_slice {
    mcts_search *search;
    double deadline;
} mcts_slice;

static void mcts_uct_trees(void *context, int32_t from, int32_t to, int32_t worker) {
    mcts_slice *slice = (mcts_slice *)context;
    mcts_search *search = slice->search;
    const uint64_t room = 3 * (uint64_t)search->shape.max_units;
    for (int32_t i = from; i < to; i++) {
        mcts_tree *tree = &search->trees[i];
        if (!tree->begun || tree->done) continue;
        if (!tree->evaluated) mcts_uct_ready(search, i);
        while (!mcts_exhausted(search, tree)) {
            if (tree->sims % 64 == 0 && mcts_clock() > slice->deadline) return;
            if (tree->used + room > tree->capacity && mcts_reserve(tree, room)) {
                atomic_store(&search->out_of_memory, 1);
                return;
            }
            mcts_uct_simulation(search, tree);
        }
        tree->done = 1;
    }
}

/* Searches for about `seconds`; returns how many trees are left to do. */
static inline int32_t mcts_uct(mcts_search *search, double seconds) {
    mcts_slice slice = {search, mcts_clock() + seconds};
    int32_t left = 0;
    mcts_pool_run(&search->pool, search->threads, mcts_uct_trees, &slice, search->num_trees, 1, 1);
    for (int32_t i = 0; i < search->num_trees; i++) left += search->trees[i].begun && !search->trees[i].done;
    return left;
}

#endif
