/* What happens at the end of a descent: priors for a new node, value sums along the path, proofs.
 *
 * Values travel as one number per player, so a path through any order of moves (double moves, three players, one) is
 * backed up alike. A finished position is proven; a node is proven won when an edge is, and proven at the best of its
 * edges when all are. Proofs need one player, or two of whom one wins what the other loses: else what the others prefer
 * does not follow from the mover's value. They need a game without dice, too. Chance nodes have no values of their own:
 * those of their children go to the edges above, each as often as it was drawn.
 */
#ifndef MCTS_BACKUP_H
#define MCTS_BACKUP_H

#include "select.h"

/* Room for the values of all players. Index PLAYOUT_CHANCE is there too and stays 0, so that a chance node on the path
 * needs no question: its edges add up nothing. */
#define MCTS_VALUES(values)                         \
    float values##_room[PLAYOUT_MAX_PLAYERS + 2];   \
    float *const values = values##_room + 2;        \
    values[PLAYOUT_CHANCE] = 0.0f

#define MCTS_LEAST_PRIOR 1e-35f /* keeps sums of priors above zero */

/* Softmax of the legal logits: a row [num_actions], or those of the node's edges in their order, padded. `prior` gets a
 * number an edge, padded with zeros; actions have two bytes if they are looked up.
 */
MCTS_INLINE void mcts_softmax(const uint16_t *action, int32_t n, const float *logits, int by_action, int blocks,
                              float *prior) {
    vf p[MCTS_MAX_BLOCKS], top = v_all(MCTS_WORST), sum = v_all(0.0f);
    for (int b = 0; b < blocks; b++) {
        p[b] = by_action ? v_gather(logits, action + 8 * b) : v_load(logits + 8 * b);
        p[b] = v_if(v_lanes(n - 8 * b < 8 ? n - 8 * b : 8), p[b], v_all(MCTS_WORST));
        top = v_max(top, p[b]);
    }
    const vf highest = v_all(v_highest(top));
    for (int b = 0; b < blocks; b++) {
        p[b] = v_keep(v_lanes(n - 8 * b < 8 ? n - 8 * b : 8), v_exp(v_sub(p[b], highest)));
        sum = v_add(sum, p[b]);
    }
    const vf total = v_all(v_sum(sum));
    for (int b = 0; b < blocks; b++) {
        p[b] = v_max(v_div(p[b], total), v_all(MCTS_LEAST_PRIOR));
        v_store(prior + 8 * b, v_keep(v_lanes(n - 8 * b < 8 ? n - 8 * b : 8), p[b]));
    }
}

/* Gives a node that has none its priors. Actions of four bytes are not looked up here. */
static inline void mcts_set_priors(const mcts_shape *shape, mcts_tree *tree, mcts_node *node, const float *logits,
                                   int by_action) {
    const mcts_edges e = mcts_edges_of(shape, tree, node);
    const int32_t n = node->num_edges, blocks = (n + 7) / 8;
    if (node->flags & MCTS_SPARSE) {
        float priors[PLAYOUT_MAX_LEGAL];
        mcts_softmax(e.action, n, logits, by_action, blocks, priors);
        mcts_sort_priors(shape, tree, node, priors);
    } else if (!by_action) {
        mcts_softmax(e.action, n, logits, 0, blocks, e.prior);
    } else if (blocks == 1) {
        mcts_softmax(e.action, n, logits, 1, 1, e.prior);
    } else {
        mcts_softmax(e.action, n, logits, 1, blocks, e.prior);
    }
}

/* The value of a proven or finished node for every player. */
MCTS_INLINE void mcts_known_values(const mcts_shape *shape, mcts_node *node, float *values) {
    if (node->flags & MCTS_TERMINAL) {
        memcpy(values, mcts_returns(shape, node), (size_t)shape->num_players * sizeof(float));
    } else {
        if (shape->num_players == 2) values[1 - node->to_play] = -node->exact;
        values[node->to_play] = node->exact;
    }
}

/* Marks a finished position as proven, unless proofs are off or do not apply to its result. */
MCTS_INLINE void mcts_prove_terminal(const mcts_config *config, const mcts_shape *shape, mcts_node *node) {
    const float *returns = mcts_returns(shape, node);
    if (config->prove && (shape->num_players == 1 || returns[0] + returns[1] == 0.0f)) node->flags |= MCTS_PROVEN;
}

/* An edge has become known: is its node proven by that? */
static inline void mcts_prove(const mcts_shape *shape, const mcts_tree *tree, mcts_node *node, const mcts_edges *e,
                              int32_t edge, float value) {
    e->known[edge] = value <= -1.0f ? MCTS_LOST : MCTS_KNOWN;
    node->num_known++;
    if (value <= -1.0f) node->flags |= MCTS_LOSSES;
    if (value >= 1.0f) {
        node->exact = value;
        node->flags |= MCTS_PROVEN;
    } else if (node->num_known == node->num_edges) {
        float values[PLAYOUT_MAX_PLAYERS];
        for (int32_t i = 0; i < node->num_edges; i++) {
            mcts_known_values(shape, mcts_at(tree, e->child[i]), values);
            if (i == 0 || values[node->to_play] > node->exact) node->exact = values[node->to_play];
        }
        node->flags |= MCTS_PROVEN;
    }
}

/* Adds `values` to every edge from the one given up to the root. `child` is the edge's child, or NULL where a
 * first visit made none. `values` is overwritten by what is proven on the way.
 */
MCTS_INLINE void mcts_backup(const mcts_shape *shape, const mcts_tree *tree, mcts_node *child, mcts_node *node,
                             int32_t edge, float *values, int several) {
    for (;;) {
        const mcts_edges e = mcts_edges_of(shape, tree, node);
        const int known = child && (child->flags & MCTS_PROVEN);
        if (known) mcts_known_values(shape, child, values);
        const float value = values[node->to_play], visits = e.visits[edge] + 1.0f;
        e.visits[edge] = visits;
        node->visits += 1.0f;
        if (visits == 1.0f) {
            node->num_visited++;
            node->prior_visited += e.prior[edge];
        }
        if (visits > node->max_visits) node->max_visits = visits;
        if (known) { /* the mean becomes the proven value */
            const float total = value * visits;
            node->total += total - e.total[edge];
            e.total[edge] = total;
            if (!e.known[edge]) mcts_prove(shape, tree, node, &e, edge, value);
        } else {
            e.total[edge] += value;
            node->total += value;
        }
        if (several) {
            e.pending[edge]--;
            node->pending--;
        }
        if (!node->parent) return;
        child = node;
        edge = node->parent_edge;
        node = mcts_at(tree, node->parent);
    }
}

/* Takes back a descent that led nowhere new. */
static inline void mcts_undo(const mcts_shape *shape, const mcts_tree *tree, mcts_node *node, int32_t edge) {
    for (;;) {
        mcts_edges_of(shape, tree, node).pending[edge]--;
        node->pending--;
        if (!node->parent) return;
        edge = node->parent_edge;
        node = mcts_at(tree, node->parent);
    }
}

#endif
