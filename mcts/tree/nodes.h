/* How nodes come into being and go: edges laid out, opened on demand, sorted by prior; a subtree kept in place.
 *
 * A new state goes where the caller says: within the new node, or where states lie apart into a room of the caller's. An
 * edge of a sparse node is opened when it is followed for the first time, always the one with the highest prior of
 * those left, so that the edges with statistics are the first ones. The caller has made room: see mcts_shape.max_units.
 */
#ifndef MCTS_NODES_H
#define MCTS_NODES_H

#include "tree.h"

/* Rounded to half precision, to nearest even; x lies in (0, 1], and the result above 0. */
MCTS_INLINE uint16_t mcts_half(float x) {
    uint32_t bits;
    float small = x * 16777216.0f + 8388608.0f; /* a subnormal half counts in units of 2^-24 */
    memcpy(&bits, x < 6.103515625e-5f ? &small : &x, 4);
    if (x < 6.103515625e-5f) return (bits & 0xffff) ? (uint16_t)bits : 1;
    bits -= 112u << 23;
    return (uint16_t)((bits + 0xfff + (bits >> 13 & 1)) >> 13);
}

MCTS_INLINE float mcts_single(uint16_t half) {
    const uint32_t bits = ((uint32_t)half << 13) + (112u << 23);
    float x;
    memcpy(&x, &bits, 4);
    return half < 0x400 ? (float)half * 5.9604644775390625e-8f : x;
}

/* A block behind all others that belongs to a node. */
static inline uint32_t mcts_new_block(const mcts_shape *shape, mcts_tree *tree, const mcts_node *owner, int32_t capacity) {
    const uint32_t at = (uint32_t)tree->used;
    mcts_block *block = mcts_block_at(tree, at);
    memset(block, 0, MCTS_BLOCK_HEAD + (size_t)capacity * 19);
    block->owner = mcts_offset(tree, owner) | MCTS_NO_NODE;
    block->capacity = (uint32_t)capacity;
    tree->used += (uint64_t)mcts_block_units(shape, capacity);
    return at;
}

/* Gives a sparse node room for the statistics of `capacity` edges, more than it has. */
static void mcts_grow_stats(const mcts_shape *shape, mcts_tree *tree, mcts_node *node, int32_t capacity) {
    mcts_sparse *sparse = mcts_sparse_of(shape, node);
    const mcts_edges old = mcts_edges_of(shape, tree, node);
    const size_t n = sparse->open;
    sparse->stats = mcts_new_block(shape, tree, node, capacity);
    sparse->capacity = (uint16_t)capacity;
    if (!n) return;
    const mcts_edges e = mcts_edges_of(shape, tree, node);
    memcpy(e.total, old.total, 4 * n);
    memcpy(e.visits, old.visits, 4 * n);
    memcpy(e.prior, old.prior, 4 * n);
    memcpy(e.child, old.child, 4 * n);
    memcpy(e.pending, old.pending, 2 * n);
    memcpy(e.known, old.known, n);
}

/* Opens the next edge of a sparse node. */
static inline void mcts_open_edge(const mcts_shape *shape, mcts_tree *tree, mcts_node *node) {
    mcts_sparse *sparse = mcts_sparse_of(shape, node);
    const int32_t edge = sparse->open, most = mcts_padded(node->num_edges);
    if (edge == sparse->capacity) {
        const int32_t wanted = edge ? 2 * edge : 8;
        mcts_grow_stats(shape, tree, node, wanted < most ? wanted : most);
    }
    if (shape->prior_size) {
        const float prior = mcts_single(mcts_half_priors(shape, node)[edge]), rest = sparse->rest - prior;
        mcts_edges_of(shape, tree, node).prior[edge] = prior;
        sparse->rest = rest > 0.0f ? rest : 0.0f;
    }
    sparse->open++;
}

/* A root has statistics for all its edges. */
static inline void mcts_open_all(const mcts_shape *shape, mcts_tree *tree, mcts_node *node) {
    if (!(node->flags & MCTS_SPARSE)) return;
    const mcts_sparse *sparse = mcts_sparse_of(shape, node);
    const int32_t all = mcts_padded(node->num_edges);
    if (sparse->capacity < all) mcts_grow_stats(shape, tree, node, all);
    while (sparse->open < node->num_edges) mcts_open_edge(shape, tree, node);
}

/* Keeps these priors [num_edges], padded with zeros, and puts the actions in their order, the highest first. */
static void mcts_sort_priors(const mcts_shape *shape, mcts_tree *tree, mcts_node *node, const float *priors) {
    const int32_t n = node->num_edges, all = mcts_padded(n);
    const mcts_edges e = mcts_edges_of(shape, tree, node);
    uint16_t *half = mcts_half_priors(shape, node), halves[PLAYOUT_MAX_LEGAL], order[2][PLAYOUT_MAX_LEGAL];
    int sorted = 1;
    for (int32_t i = 0; i < n; i++) halves[i] = mcts_half(priors[i]);
    for (int32_t i = 1; i < n; i++) sorted &= halves[i] <= halves[i - 1];
    for (int32_t i = 0; i < n; i++) order[0][i] = (uint16_t)i;
    for (int32_t pass = 0; pass < 2 && !sorted; pass++) { /* by the low byte, then by the high one; equal ones as before */
        uint16_t first[257] = {0};
        for (int32_t i = 0; i < n; i++) first[256 - (halves[i] >> 8 * pass & 255)]++;
        for (int32_t k = 1; k < 257; k++) first[k] += first[k - 1];
        for (int32_t i = 0; i < n; i++) {
            const uint16_t edge = order[pass][i];
            order[1 - pass][first[255 - (halves[edge] >> 8 * pass & 255)]++] = edge;
        }
    }
    if (!sorted) {
        int32_t actions[PLAYOUT_MAX_LEGAL];
        for (int32_t i = 0; i < n; i++) actions[i] = mcts_action(&e, i);
        for (int32_t i = 0; i < n; i++) mcts_put_action(&e, i, actions[order[0][i]]);
    }
    for (int32_t i = 0; i < all; i++) half[i] = i < n ? halves[order[0][i]] : 0;
    vf sum = v_all(0.0f);
    for (int32_t i = 0; i < all; i += 8) {
        float eight[8];
        for (int32_t k = 0; k < 8; k++) eight[k] = mcts_single(half[i + k]);
        sum = v_add(sum, v_load(eight));
    }
    mcts_sparse_of(shape, node)->rest = v_sum(sum);
}

/* Lays out the edges of the block at the end. */
MCTS_INLINE mcts_edges mcts_lay_edges(const mcts_shape *shape, mcts_tree *tree, mcts_node *node, int32_t n,
                                      const int32_t *actions) {
    node->num_edges = (uint16_t)n;
    const size_t head = node->flags & MCTS_SPARSE ? sizeof(mcts_sparse) : 19 * (size_t)mcts_padded(n);
    memset(mcts_sparse_of(shape, node), 0, head + (size_t)(shape->action_size * mcts_padded(n)));
    const mcts_edges e = mcts_edges_of(shape, tree, node);
    for (int32_t i = 0; i < n; i++) mcts_put_action(&e, i, actions[i]);
    tree->used += (uint64_t)mcts_units(shape, n, node->flags);
    return e;
}

/* Keeps a node's state in a block of its own. */
static inline void mcts_keep_state(const mcts_shape *shape, mcts_tree *tree, mcts_node *node, const void *state) {
    const uint32_t at = mcts_new_block(shape, tree, node, 0);
    memcpy((uint8_t *)mcts_block_at(tree, at) + MCTS_BLOCK_HEAD, state, (size_t)shape->state_size);
    *mcts_state_block(node) = at;
}

/* Completes a chance node; 0 if the game gives no outcome. */
static int mcts_finish_chance(const playout_game *game, const mcts_shape *shape, mcts_tree *tree, mcts_node *node,
                              const void *state) {
    int32_t outcomes[PLAYOUT_MAX_LEGAL];
    double probs[PLAYOUT_MAX_LEGAL];
    const int32_t n = game->chance ? game->chance(game, state, outcomes, probs) : 0;
    if (n <= 0) return 0;
    node->to_play = PLAYOUT_CHANCE;
    node->flags = MCTS_CHANCE;
    const mcts_edges e = mcts_lay_edges(shape, tree, node, n, outcomes);
    for (int32_t i = 0; i < n; i++) e.prior[i] = (float)probs[i];
    if (shape->apart) mcts_keep_state(shape, tree, node, state);
    return 1;
}

/* An edge of a chance node, drawn by its probability. */
static inline int32_t mcts_draw_edge(const mcts_shape *shape, mcts_tree *tree, mcts_node *node) {
    const mcts_edges e = mcts_edges_of(shape, tree, node);
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

/* Where the state of the next node goes: within it, or where states lie apart into `room`. */
MCTS_INLINE void *mcts_next_state(const mcts_shape *shape, const mcts_tree *tree, void *room) {
    return shape->apart ? room : (uint8_t *)mcts_at(tree, (uint32_t)tree->used) + MCTS_STATE_AT;
}

/* Completes the node at the end, whose state is in place: finds the side to move and the legal moves, lays out the
 * edges. Returns the node; its edges have no priors yet.
 */
static inline mcts_node *mcts_finish_node(const playout_game *game, const mcts_shape *shape, mcts_tree *tree,
                                          uint32_t parent, int32_t parent_edge, const void *state) {
    mcts_node *node = mcts_at(tree, (uint32_t)tree->used);
    memset(node, 0, sizeof *node);
    if (shape->apart) *mcts_state_block(node) = 0;
    node->parent = parent;
    node->parent_edge = (uint16_t)parent_edge;
    const int32_t to_play = game->to_play(game, state);
    int32_t actions[PLAYOUT_MAX_LEGAL];
    const int32_t n = to_play < 0 ? 0 : game->legal(game, state, actions);
    tree->num_nodes++;
    if (n <= 0) {
        if (to_play == PLAYOUT_CHANCE && mcts_finish_chance(game, shape, tree, node, state)) return node;
        node->to_play = PLAYOUT_TERMINAL;
        node->flags = MCTS_TERMINAL;
        mcts_scaled_returns(game, shape, state, mcts_returns(shape, node));
        tree->used += (uint64_t)mcts_units(shape, 0, MCTS_TERMINAL);
        return node;
    }
    node->to_play = (int8_t)to_play;
    if (n > shape->dense_edges && parent) node->flags = MCTS_SPARSE;
    mcts_lay_edges(shape, tree, node, n, actions);
    return node;
}

/* The state of a node that is about to have a child: where states lie apart it is played again from the parent's. */
MCTS_INLINE void *mcts_need_state(const playout_game *game, const mcts_shape *shape, mcts_tree *tree, mcts_node *node) {
    if (shape->apart && !*mcts_state_block(node)) {
        mcts_node *above = mcts_at(tree, node->parent);
        const mcts_edges e = mcts_edges_of(shape, tree, above);
        mcts_keep_state(shape, tree, node, mcts_state(shape, tree, above));
        game->apply(game, mcts_state(shape, tree, node), mcts_action(&e, node->parent_edge));
    }
    return mcts_state(shape, tree, node);
}

/* Makes the child of an edge that has none yet; `room` gets its state where states lie apart. */
static inline mcts_node *mcts_new_child(const playout_game *game, const mcts_shape *shape, mcts_tree *tree,
                                        mcts_node *above, int32_t edge, void *room) {
    const void *from = mcts_need_state(game, shape, tree, above);
    const mcts_edges e = mcts_edges_of(shape, tree, above);
    void *state = mcts_next_state(shape, tree, room);
    memcpy(state, from, (size_t)shape->state_size);
    game->apply(game, state, mcts_action(&e, edge));
    e.child[edge] = (uint32_t)tree->used;
    return mcts_finish_node(game, shape, tree, mcts_offset(tree, above), edge, state);
}

/* Of the edges of a fresh root leaves those whose actions are allowed; there is one at least. */
static inline void mcts_limit_root(const mcts_shape *shape, mcts_tree *tree, mcts_node *node, const uint8_t *allowed) {
    const mcts_edges e = mcts_edges_of(shape, tree, node);
    int32_t kept[PLAYOUT_MAX_LEGAL], n = 0;
    for (int32_t i = 0; i < node->num_edges; i++)
        if (allowed[mcts_action(&e, i)]) kept[n++] = mcts_action(&e, i);
    tree->limited = n < node->num_edges;
    if (!tree->limited) return;
    tree->used = MCTS_ROOT;
    mcts_lay_edges(shape, tree, node, n, kept);
}

/* Begins a tree anew; `state` may lie in the arena. `room` has room for a state. `allowed`: the root's moves as uint8 by
 * action, or NULL for all.
 */
static inline mcts_node *mcts_new_root(const playout_game *game, const mcts_shape *shape, mcts_tree *tree,
                                       const void *state, void *room, const uint8_t *allowed) {
    tree->used = MCTS_ROOT;
    tree->num_nodes = 0;
    tree->limited = 0;
    tree->lowest = INFINITY;
    tree->highest = -INFINITY;
    tree->stretch = 1.0f;
    void *own = mcts_next_state(shape, tree, room);
    memmove(own, state, (size_t)shape->state_size);
    mcts_node *node = mcts_finish_node(game, shape, tree, 0, 0, own);
    if (allowed) mcts_limit_root(shape, tree, node, allowed);
    if (shape->apart && !*mcts_state_block(node)) mcts_keep_state(shape, tree, node, own);
    return node;
}

/* Marks a block of a node that moves to `to`. */
static inline void mcts_keep_block(const mcts_tree *tree, uint32_t at, uint64_t to) {
    if (!at) return;
    mcts_block_at(tree, at)->owner = (uint32_t)to | MCTS_NO_NODE;
    mcts_block_at(tree, at)->keep = 1;
}

/* Makes `kept` the root and slides its subtree to the front of the arena. One pass in address order: for each node that
 * is kept, what belongs to it, which comes later, is marked and learns where the node has gone.
 */
static inline void mcts_keep_subtree(const mcts_shape *shape, mcts_tree *tree, uint32_t kept) {
    uint64_t from = kept, to = MCTS_ROOT;
    mcts_at(tree, kept)->flags |= MCTS_KEEP;
    mcts_at(tree, kept)->parent = 0;
    tree->num_nodes = 0;
    tree->limited = 0;
    while (from < tree->used) {
        mcts_node *node = mcts_at(tree, (uint32_t)from);
        mcts_block *block = mcts_block_at(tree, (uint32_t)from);
        uint64_t units;
        uint32_t first;
        int keep;
        memcpy(&first, node, sizeof first);
        if (first & MCTS_NO_NODE) {
            units = (uint64_t)mcts_block_units(shape, (int32_t)block->capacity);
            keep = (int)block->keep;
            block->keep = 0;
            if (keep) {
                mcts_node *owner = mcts_at(tree, first & ~MCTS_NO_NODE);
                if (block->capacity) mcts_sparse_of(shape, owner)->stats = (uint32_t)to;
                else *mcts_state_block(owner) = (uint32_t)to;
            }
        } else {
            units = (uint64_t)mcts_units(shape, node->num_edges, node->flags);
            keep = (node->flags & MCTS_KEEP) != 0;
            if (keep) {
                const mcts_edges e = mcts_edges_of(shape, tree, node);
                node->flags &= (uint8_t)~MCTS_KEEP;
                if (shape->apart) mcts_keep_block(tree, *mcts_state_block(node), to);
                if (node->flags & MCTS_SPARSE) mcts_keep_block(tree, mcts_sparse_of(shape, node)->stats, to);
                for (int32_t i = 0; i < e.count; i++) {
                    if (!e.child[i]) continue;
                    mcts_at(tree, e.child[i])->flags |= MCTS_KEEP;
                    mcts_at(tree, e.child[i])->parent = (uint32_t)to;
                }
                if (node->parent)
                    mcts_edges_of(shape, tree, mcts_at(tree, node->parent)).child[node->parent_edge] = (uint32_t)to;
                tree->num_nodes++;
            }
        }
        if (keep) memmove(mcts_at(tree, (uint32_t)to), node, units * MCTS_UNIT);
        to += keep ? units : 0;
        from += units;
    }
    tree->used = to;
}

#endif
