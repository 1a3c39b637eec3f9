/* Trees as arenas of plain bytes: the layout of a node, its allocation, and keeping a subtree in place.
 *
 * A node is one block: head, state, then its edges as parallel arrays padded to whole vectors of eight, so that one
 * selection reads three or four neighbouring cache lines. Blocks are named by their offset in units of 64 bytes and a
 * child always lies after its parent; the root is the first block. Nothing here allocates but mcts_reserve(). An edge takes 21 bytes; with its share of head and state a Connect Four edge takes 37.
 */
#ifndef MCTS_TREE_H
#define MCTS_TREE_H

#include <stdlib.h>

#include "vec.h"
#include "playout_game.h"

#define MCTS_UNIT 64
#define MCTS_MAX_UNITS 0x7fffffffu /* of an arena: 128 GiB */
#define MCTS_SPACIOUS_SEARCHES 16
#define MCTS_ROOT 1u /* offset of the root; 0 means "no node" */

enum { MCTS_PUCT = 0, MCTS_GUMBEL = 1, MCTS_UCT = 2 };

/* Flags of a node. */
enum {
    MCTS_TERMINAL = 1,
    MCTS_PROVEN = 2,  /* `exact` is the value for the side to move */
    MCTS_WAITING = 4, /* handed out by ask, not yet evaluated */
    MCTS_KEEP = 8,    /* only while a subtree is moved */
    MCTS_LOSSES = 16, /* has edges that are proven lost */
    MCTS_CHANCE = 32, /* its edges are outcomes, `prior` their probabilities; it has no values */
};

/* What is known of an edge. */
enum { MCTS_OPEN = 0, MCTS_KNOWN = 1, MCTS_LOST = 2 };

typedef struct mcts_node {
    uint32_t parent;
    uint16_t parent_edge;
    uint16_t num_edges;
    int8_t to_play; /* PLAYOUT_TERMINAL at an end, PLAYOUT_CHANCE at a chance node */
    uint8_t flags;
    uint16_t num_visited; /* edges with a visit */
    uint16_t num_known;   /* edges proven */
    uint16_t pending;     /* descents under way through this node's edges */
    float visits;         /* all edges together; counts are floats, exact up to 2^24 */
    float total;          /* value sums of all edges together */
    float raw_value;      /* the evaluator's, for the side to move */
    float exact;
    float prior_visited; /* prior of the visited edges */
    float max_visits;    /* of the most visited edge */
} mcts_node;

typedef struct mcts_edges {
    float *total;  /* sum of values for the side to move */
    float *visits;
    float *prior;
    uint32_t *child;
    uint16_t *action;
    uint16_t *pending;
    uint8_t *known;
} mcts_edges;

typedef struct mcts_tree {
    uint8_t *arena;
    uint64_t used, capacity; /* in units */
    uint64_t searches;       /* names the random stream of this search */
    const int32_t *schedule; /* Gumbel: the visit count considered at each simulation */
    int32_t schedule_size, position;
    int32_t budget;      /* simulations wanted */
    int32_t sims;        /* simulations begun in this search */
    int32_t num_nodes;
    int32_t num_leaves; /* handed out by the last ask */
    int32_t num_collisions; /* descents of this step that met a leaf under way */
    int32_t spacious; /* searches in a row that needed a small part of the arena only */
    int64_t all_sims;   /* in all searches so far */
    int64_t hits;       /* evaluations that the cache or another tree's row gave */
    float reused;       /* visits that the root had at the beginning */
    uint8_t begun, evaluated, done, noise;
    playout_rng rollouts, outcomes;
} mcts_tree;

typedef struct mcts_config {
    int32_t algorithm, leaves_per_step, max_considered, num_rollouts;
    int32_t prove, reuse, count_reused, fpu_parent, rescale;
    int32_t cache_symmetric;
    float c_base, c_init, fpu, virtual_loss;
    float dirichlet_alpha, dirichlet_fraction;
    float gumbel_scale, c_visit, c_scale;
    float uct_c;
} mcts_config;

typedef struct mcts_shape { /* the sizes that follow from a game */
    int32_t edges_at;       /* bytes from the head to the edges */
    int32_t state_size, num_players;
    int32_t max_units; /* of a node with as many moves as can be */
    int32_t collected; /* are there rewards along the way? */
    float scale;       /* results are divided by it */
} mcts_shape;

#define MCTS_STATE_AT ((int32_t)sizeof(mcts_node))

MCTS_INLINE int32_t mcts_padded(int32_t n) { return (n + 7) & ~7; }

static inline int32_t mcts_units(const mcts_shape *shape, int32_t num_edges, int32_t terminal) {
    const int32_t tail = terminal ? 4 * shape->num_players : 21 * mcts_padded(num_edges);
    return (shape->edges_at + tail + MCTS_UNIT - 1) / MCTS_UNIT;
}

static inline mcts_shape mcts_shape_of(const playout_game *game) {
    mcts_shape shape;
    shape.state_size = game->state_size;
    shape.num_players = game->num_players;
    shape.collected = (game->flags & PLAYOUT_STEP_REWARDS) != 0;
    shape.scale = (float)game->value_scale;
    shape.edges_at = (MCTS_STATE_AT + game->state_size + 31) & ~31;
    shape.max_units = mcts_units(&shape, game->max_legal, 0);
    return shape;
}

MCTS_INLINE mcts_node *mcts_at(const mcts_tree *tree, uint32_t offset) {
    return (mcts_node *)(void *)(tree->arena + (uint64_t)offset * MCTS_UNIT);
}

MCTS_INLINE uint32_t mcts_offset(const mcts_tree *tree, const mcts_node *node) {
    return (uint32_t)((uint64_t)((const uint8_t *)node - tree->arena) / MCTS_UNIT);
}

MCTS_INLINE void *mcts_state(mcts_node *node) { return (uint8_t *)node + MCTS_STATE_AT; }

MCTS_INLINE float *mcts_returns(const mcts_shape *shape, mcts_node *node) {
    return (float *)(void *)((uint8_t *)node + shape->edges_at);
}

MCTS_INLINE mcts_edges mcts_edges_of(const mcts_shape *shape, mcts_node *node) {
    uint8_t *at = (uint8_t *)node + shape->edges_at;
    const size_t n = (size_t)mcts_padded(node->num_edges);
    mcts_edges e;
    e.total = (float *)(void *)at;
    e.visits = (float *)(void *)(at + 4 * n);
    e.prior = (float *)(void *)(at + 8 * n);
    e.child = (uint32_t *)(void *)(at + 12 * n);
    e.action = (uint16_t *)(void *)(at + 16 * n);
    e.pending = (uint16_t *)(void *)(at + 18 * n);
    e.known = at + 20 * n;
    return e;
}

/* What each player has, in units of the game's value_scale. */
static inline void mcts_scaled_returns(const playout_game *game, const mcts_shape *shape, const void *state, float *values) {
    game->returns(game, state, values);
    if (shape->scale != 1.0f)
        for (int32_t p = 0; p < shape->num_players; p++) values[p] /= shape->scale;
}

/* Moves the arena to one of `capacity` units; 0, or -1 when memory is short. */
static inline int mcts_resize(mcts_tree *tree, uint64_t capacity) {
    if (capacity > MCTS_MAX_UNITS) return -1;
    uint8_t *arena = (uint8_t *)aligned_alloc(MCTS_UNIT, capacity * MCTS_UNIT);
    if (!arena) return -1;
    if (tree->arena) memcpy(arena, tree->arena, tree->used * MCTS_UNIT);
    free(tree->arena);
    tree->arena = arena;
    tree->capacity = capacity;
    return 0;
}

/* Makes room for `units` more; 0, or -1 when memory is short. May move the arena: pointers to nodes are void then. */
static inline int mcts_reserve(mcts_tree *tree, uint64_t units) {
    if (tree->arena && tree->used + units <= tree->capacity) return 0;
    uint64_t capacity = tree->used + units;
    if (tree->arena && capacity < tree->capacity + tree->capacity / 2) capacity = tree->capacity + tree->capacity / 2;
    return mcts_resize(tree, capacity);
}

/* Called when a search that needs `units` more begins: reserves them, and gives memory back where several searches in
 * a row could have done with a quarter of what there is (a larger one in between, as with budgets that are drawn, keeps
 * it).
 */
static inline int mcts_reserve_for_search(mcts_tree *tree, uint64_t units) {
    const uint64_t needed = tree->used + units;
    tree->spacious = tree->arena && tree->capacity / 4 > needed ? tree->spacious + 1 : 0;
    if (tree->spacious < MCTS_SPACIOUS_SEARCHES) return mcts_reserve(tree, units);
    tree->spacious = 0;
    return mcts_resize(tree, needed);
}

/* Lays out the edges of the block at the end. */
MCTS_INLINE mcts_edges mcts_lay_edges(const mcts_shape *shape, mcts_tree *tree, mcts_node *node, int32_t n,
                                      const int32_t *actions) {
    node->num_edges = (uint16_t)n;
    const mcts_edges e = mcts_edges_of(shape, node);
    memset(e.total, 0, (size_t)mcts_padded(n) * 21);
    for (int32_t i = 0; i < n; i++) e.action[i] = (uint16_t)actions[i];
    tree->used += (uint64_t)mcts_units(shape, n, 0);
    return e;
}

/* Completes a chance node; 0 if the game gives no outcome. */
static int mcts_finish_chance(const playout_game *game, const mcts_shape *shape, mcts_tree *tree, mcts_node *node) {
    int32_t outcomes[PLAYOUT_MAX_LEGAL];
    double probs[PLAYOUT_MAX_LEGAL];
    const int32_t n = game->chance ? game->chance(game, mcts_state(node), outcomes, probs) : 0;
    if (n <= 0) return 0;
    const mcts_edges e = mcts_lay_edges(shape, tree, node, n, outcomes);
    for (int32_t i = 0; i < n; i++) e.prior[i] = (float)probs[i];
    node->to_play = PLAYOUT_CHANCE;
    node->flags = MCTS_CHANCE;
    return 1;
}

/* An edge of a chance node, drawn by its probability. */
static inline int32_t mcts_draw_edge(const mcts_shape *shape, mcts_tree *tree, mcts_node *node) {
    const mcts_edges e = mcts_edges_of(shape, node);
    double point = playout_rng_double(&tree->outcomes);
    int32_t last = 0;
    for (int32_t i = 0; i < node->num_edges; i++) {
        if (!(e.prior[i] > 0.0f)) continue;
        last = i;
        if (point < (double)e.prior[i]) break;
        point -= (double)e.prior[i];
    }
    return last;
}

/* Completes the block whose state is already in place: finds the side to move and the legal moves, lays out the edges.
 * Returns the node; its edges have no priors yet.
 */
static inline mcts_node *mcts_finish_node(const playout_game *game, const mcts_shape *shape, mcts_tree *tree,
                                          uint32_t parent, int32_t parent_edge) {
    mcts_node *node = mcts_at(tree, (uint32_t)tree->used);
    memset(node, 0, sizeof *node);
    node->parent = parent;
    node->parent_edge = (uint16_t)parent_edge;
    const int32_t to_play = game->to_play(game, mcts_state(node));
    int32_t actions[PLAYOUT_MAX_LEGAL];
    const int32_t n = to_play < 0 ? 0 : game->legal(game, mcts_state(node), actions);
    tree->num_nodes++;
    if (n <= 0) {
        if (to_play == PLAYOUT_CHANCE && mcts_finish_chance(game, shape, tree, node)) return node;
        node->to_play = PLAYOUT_TERMINAL;
        node->flags = MCTS_TERMINAL;
        mcts_scaled_returns(game, shape, mcts_state(node), mcts_returns(shape, node));
        tree->used += (uint64_t)mcts_units(shape, 0, 1);
        return node;
    }
    node->to_play = (int8_t)to_play;
    mcts_lay_edges(shape, tree, node, n, actions);
    return node;
}

/* Makes the child of an edge that has none yet. */
static inline mcts_node *mcts_new_child(const playout_game *game, const mcts_shape *shape, mcts_tree *tree,
                                        uint32_t parent, int32_t edge) {
    mcts_node *above = mcts_at(tree, parent);
    const mcts_edges e = mcts_edges_of(shape, above);
    mcts_node *node = mcts_at(tree, (uint32_t)tree->used);
    memcpy(mcts_state(node), mcts_state(above), (size_t)shape->state_size);
    game->apply(game, mcts_state(node), e.action[edge]);
    e.child[edge] = (uint32_t)tree->used;
    return mcts_finish_node(game, shape, tree, parent, edge);
}

static inline mcts_node *mcts_new_root(const playout_game *game, const mcts_shape *shape, mcts_tree *tree,
                                       const void *state) {
    tree->used = MCTS_ROOT;
    tree->num_nodes = 0;
    memmove(mcts_state(mcts_at(tree, MCTS_ROOT)), state, (size_t)shape->state_size);
    return mcts_finish_node(game, shape, tree, 0, 0);
}

/* Makes `kept` the root and slides its subtree to the front of the arena. One pass in address order: for each block
 * that is kept, its children, which come later, are marked and get its new offset as their parent.
 */
static inline void mcts_keep_subtree(const mcts_shape *shape, mcts_tree *tree, uint32_t kept) {
    uint64_t from = kept, to = MCTS_ROOT;
    mcts_at(tree, kept)->flags |= MCTS_KEEP;
    mcts_at(tree, kept)->parent = 0;
    tree->num_nodes = 0;
    while (from < tree->used) {
        mcts_node *node = mcts_at(tree, (uint32_t)from);
        const uint64_t units = (uint64_t)mcts_units(shape, node->num_edges, node->flags & MCTS_TERMINAL);
        if (node->flags & MCTS_KEEP) {
            const mcts_edges e = mcts_edges_of(shape, node);
            node->flags &= (uint8_t)~MCTS_KEEP;
            for (int32_t i = 0; i < node->num_edges; i++) {
                if (!e.child[i]) continue;
                mcts_at(tree, e.child[i])->flags |= MCTS_KEEP;
                mcts_at(tree, e.child[i])->parent = (uint32_t)to;
            }
            if (node->parent) mcts_edges_of(shape, mcts_at(tree, node->parent)).child[node->parent_edge] = (uint32_t)to;
            memmove(mcts_at(tree, (uint32_t)to), node, units * MCTS_UNIT);
            to += units;
            tree->num_nodes++;
        }
        from += units;
    }
    tree->used = to;
}

#endif
