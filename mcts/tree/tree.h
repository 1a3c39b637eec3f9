/* Trees as arenas of plain bytes: the layout of a node, and the memory it lies in.
 *
 * A node is one block: head, state, then its edges as parallel arrays padded to whole vectors of eight, so that one
 * selection reads three or four neighbouring cache lines. An edge takes 21 bytes; with its share of head and state a
 * Connect Four edge takes 37. Where many moves are legal (more than `dense_edges`) a node is sparse: it keeps its
 * actions and their priors in half precision, the best first, and statistics for a growing part of them in a block of
 * their own. Large states lie apart as well, and only where children need them (nodes.h).
 *
 * Blocks are named by their offset in units of 64 bytes. What belongs to a node, children too, lies behind it; the root
 * is the first block. Nothing here allocates but mcts_resize().
 */
#ifndef MCTS_TREE_H
#define MCTS_TREE_H

#include <stdlib.h>

#include "vec.h"
#include "playout_game.h"

#define MCTS_UNIT 64
#define MCTS_MAX_UNITS 0x7fffffffu /* of an arena: 128 GiB; also keeps the highest bit of an offset free */
#define MCTS_SPACIOUS_SEARCHES 16
#define MCTS_ROOT 1u       /* offset of the root; 0 means "no node" */
#define MCTS_BLOCK_HEAD 16 /* bytes before the contents of a block that is no node */
#define MCTS_LARGE_STATE 256 /* bytes from which states lie apart */

enum { MCTS_PUCT = 0, MCTS_GUMBEL = 1, MCTS_UCT = 2 };

/* Flags of a node. */
enum {
    MCTS_TERMINAL = 1,
    MCTS_PROVEN = 2,  /* `exact` is the value for the side to move */
    MCTS_WAITING = 4, /* handed out by ask, not yet evaluated */
    MCTS_KEEP = 8,    /* only while a subtree is moved */
    MCTS_LOSSES = 16, /* has edges that are proven lost */
    MCTS_CHANCE = 32, /* its edges are outcomes, `prior` their probabilities; it has no values */
    MCTS_SPARSE = 64,
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

typedef struct mcts_sparse { /* follows the state of a sparse node; then come actions and half-precision priors */
    uint32_t stats;          /* the block with the statistics, or 0 */
    uint16_t open, capacity; /* edges that have statistics, the first ones; and room for them */
    float rest;              /* prior of the others together */
    uint32_t unused;
} mcts_sparse;

typedef struct mcts_block { /* statistics, or a state; `owner` tells it from a node */
    uint32_t owner; /* the node, with MCTS_NO_NODE */
    uint32_t capacity; /* edges; 0 for a state */
    uint32_t keep, unused;
} mcts_block;

#define MCTS_NO_NODE 0x80000000u

typedef struct mcts_edges {
    float *total;  /* sum of values for the side to move */
    float *visits;
    float *prior;
    uint32_t *child;
    uint16_t *pending;
    uint8_t *known;
    uint16_t *action; /* read by mcts_action() */
    int32_t count;    /* edges that have statistics */
    int32_t wide;     /* actions have four bytes */
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
    float lowest, highest; /* UCT with rewards along the way: of all results so far, in units of the scale */
    float stretch;         /* the square of half of what lies between them, see mcts_note_results() */
    uint8_t begun, evaluated, done, noise;
    uint8_t limited;       /* has the root fewer moves than are legal? */
    playout_rng rollouts, outcomes;
} mcts_tree;

typedef struct mcts_config {
    int32_t algorithm, leaves_per_step, max_considered, num_rollouts;
    int32_t prove, reuse, count_reused, fpu_parent, rescale;
    int32_t cache_symmetric, dense_edges;
    float c_base, c_init, fpu, virtual_loss;
    float dirichlet_alpha, dirichlet_fraction, forced_playouts;
    float gumbel_scale, c_visit, c_scale;
    float uct_c;
} mcts_config;

typedef struct mcts_shape { /* the sizes that follow from a game */
    int32_t edges_at;       /* bytes from the head to the edges */
    int32_t state_size, num_players;
    int32_t max_units;   /* that one more node may take, with what belongs to it */
    int32_t dense_edges; /* nodes with more are sparse */
    int32_t apart;       /* do states lie apart? */
    int32_t action_size; /* bytes */
    int32_t prior_size;  /* bytes of a sparse node's prior; 0 without priors */
    int32_t collected;   /* are there rewards along the way? */
    float scale;         /* results are divided by it */
} mcts_shape;

#define MCTS_STATE_AT ((int32_t)sizeof(mcts_node))

MCTS_INLINE int32_t mcts_padded(int32_t n) { return (n + 7) & ~7; }

static inline int32_t mcts_whole_units(int32_t bytes) { return (bytes + MCTS_UNIT - 1) / MCTS_UNIT; }

static inline int32_t mcts_units(const mcts_shape *shape, int32_t num_edges, int32_t flags) {
    const int32_t n = mcts_padded(num_edges);
    int32_t tail = (19 + shape->action_size) * n;
    if (flags & MCTS_TERMINAL) tail = 4 * shape->num_players;
    else if (flags & MCTS_SPARSE) tail = (int32_t)sizeof(mcts_sparse) + (shape->action_size + shape->prior_size) * n;
    return mcts_whole_units(shape->edges_at + tail);
}

/* Of a block with statistics of `capacity` edges, or of one with a state. */
static inline int32_t mcts_block_units(const mcts_shape *shape, int32_t capacity) {
    return mcts_whole_units(MCTS_BLOCK_HEAD + (capacity ? 19 * capacity : shape->state_size));
}

static inline mcts_shape mcts_shape_of(const playout_game *game, const mcts_config *config) {
    mcts_shape shape;
    shape.state_size = game->state_size;
    shape.num_players = game->num_players;
    shape.collected = (game->flags & PLAYOUT_STEP_REWARDS) != 0;
    shape.scale = (float)game->value_scale;
    shape.dense_edges = config->dense_edges;
    shape.apart = game->state_size >= MCTS_LARGE_STATE && config->algorithm != MCTS_UCT;
    shape.action_size = game->num_actions > 65536 ? 4 : 2;
    shape.prior_size = config->algorithm == MCTS_UCT ? 0 : 2;
    shape.edges_at = (MCTS_STATE_AT + (shape.apart ? 8 : game->state_size) + 31) & ~31;
    shape.max_units = mcts_units(&shape, game->max_legal, 0);
    if (game->max_legal > config->dense_edges) shape.max_units += mcts_block_units(&shape, mcts_padded(game->max_legal));
    if (shape.apart) shape.max_units += 2 * mcts_block_units(&shape, 0);
    return shape;
}

MCTS_INLINE mcts_node *mcts_at(const mcts_tree *tree, uint32_t offset) {
    return (mcts_node *)(void *)(tree->arena + (uint64_t)offset * MCTS_UNIT);
}

MCTS_INLINE mcts_block *mcts_block_at(const mcts_tree *tree, uint32_t offset) {
    return (mcts_block *)(void *)(tree->arena + (uint64_t)offset * MCTS_UNIT);
}

MCTS_INLINE uint32_t mcts_offset(const mcts_tree *tree, const mcts_node *node) {
    return (uint32_t)((uint64_t)((const uint8_t *)node - tree->arena) / MCTS_UNIT);
}

/* Where states lie apart: the block with the node's, or 0. */
MCTS_INLINE uint32_t *mcts_state_block(mcts_node *node) { return (uint32_t *)(void *)((uint8_t *)node + MCTS_STATE_AT); }

/* The state of a node that has one: the root, one with children, one that was just made where states lie within. */
MCTS_INLINE void *mcts_state(const mcts_shape *shape, const mcts_tree *tree, mcts_node *node) {
    if (shape->apart) return (uint8_t *)mcts_block_at(tree, *mcts_state_block(node)) + MCTS_BLOCK_HEAD;
    return (uint8_t *)node + MCTS_STATE_AT;
}

MCTS_INLINE float *mcts_returns(const mcts_shape *shape, mcts_node *node) {
    return (float *)(void *)((uint8_t *)node + shape->edges_at);
}

MCTS_INLINE mcts_sparse *mcts_sparse_of(const mcts_shape *shape, mcts_node *node) {
    return (mcts_sparse *)(void *)((uint8_t *)node + shape->edges_at);
}

/* Half-precision priors of a sparse node. */
MCTS_INLINE uint16_t *mcts_half_priors(const mcts_shape *shape, mcts_node *node) {
    uint8_t *at = (uint8_t *)node + shape->edges_at + sizeof(mcts_sparse);
    return (uint16_t *)(void *)(at + shape->action_size * mcts_padded(node->num_edges));
}

MCTS_INLINE mcts_edges mcts_edges_of(const mcts_shape *shape, const mcts_tree *tree, mcts_node *node) {
    uint8_t *at = (uint8_t *)node + shape->edges_at;
    size_t n = (size_t)mcts_padded(node->num_edges);
    mcts_edges e;
    e.count = node->num_edges;
    e.wide = shape->action_size == 4;
    e.action = (uint16_t *)(void *)(at + 19 * n);
    if (node->flags & MCTS_SPARSE) {
        const mcts_sparse *sparse = (const mcts_sparse *)(const void *)at;
        e.count = sparse->open;
        e.action = (uint16_t *)(void *)(at + sizeof *sparse);
        at = (uint8_t *)mcts_block_at(tree, sparse->stats) + MCTS_BLOCK_HEAD;
        n = sparse->capacity;
    }
    e.total = (float *)(void *)at;
    e.visits = (float *)(void *)(at + 4 * n);
    e.prior = (float *)(void *)(at + 8 * n);
    e.child = (uint32_t *)(void *)(at + 12 * n);
    e.pending = (uint16_t *)(void *)(at + 16 * n);
    e.known = at + 18 * n;
    return e;
}

MCTS_INLINE int32_t mcts_action(const mcts_edges *e, int32_t edge) {
    if (!e->wide) return e->action[edge];
    int32_t action;
    memcpy(&action, (const uint8_t *)e->action + 4 * (size_t)edge, 4);
    return action;
}

MCTS_INLINE void mcts_put_action(const mcts_edges *e, int32_t edge, int32_t action) {
    if (!e->wide) e->action[edge] = (uint16_t)action;
    else memcpy((uint8_t *)e->action + 4 * (size_t)edge, &action, 4);
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

#endif
