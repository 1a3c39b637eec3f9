/* The root: noise, the visit schedule of sequential halving, and what the search concluded.
 *
 * Gumbel: gumbel + log prior is fixed when the search begins; each simulation visits the best-scored action among those
 * that have been considered as often as the schedule says. Visits kept from the last search count: where an action
 * already has the visit that the schedule asks for, the step is free. Noise is a pure function of (seed, tree, search).
 */
#ifndef MCTS_ROOT_H
#define MCTS_ROOT_H

#include "backup.h"

enum { MCTS_STREAM_NOISE = 0, MCTS_STREAM_ACTION = 1, MCTS_STREAM_ROLLOUT = 2, MCTS_STREAM_OUTCOME = 3 };

typedef struct mcts_root { /* one row of each per tree, by edge, padded */
    float *base;      /* Gumbel: noise + log prior */
    float *log_prior; /* of the clean prior */
    float *taken;     /* Gumbel: visits counted by the schedule */
    float *reused;    /* visits at the beginning */
} mcts_root;

static inline playout_rng mcts_stream(uint64_t seed, int64_t tree, uint64_t searches, uint64_t purpose) {
    return playout_rng_stream(seed, ((uint64_t)tree << 40) + (searches << 2) + purpose);
}

/* A double in (0, 1). */
static inline double mcts_open_unit(playout_rng *rng) { return ((double)(playout_rng_next(rng) >> 12) + 0.5) * 0x1.0p-52; }

static inline double mcts_gumbel(playout_rng *rng) { return -log(-log(mcts_open_unit(rng))); }

static inline double mcts_normal(playout_rng *rng) {
    const double radius = sqrt(-2.0 * log(mcts_open_unit(rng)));
    return radius * cos(6.283185307179586 * mcts_open_unit(rng));
}

/* Marsaglia and Tsang (2000), with their power trick below 1. */
static inline double mcts_gamma(playout_rng *rng, double shape) {
    const double d = (shape < 1.0 ? shape + 1.0 : shape) - 1.0 / 3.0, c = 1.0 / sqrt(9.0 * d);
    for (;;) {
        const double x = mcts_normal(rng), t = 1.0 + c * x, v = t * t * t;
        const double u = mcts_open_unit(rng);
        if (t <= 0.0 || log(u) >= 0.5 * x * x + d - d * v + d * log(v)) continue;
        return shape < 1.0 ? d * v * pow(mcts_open_unit(rng), 1.0 / shape) : d * v;
    }
}

/* The visit counts considered at each of n simulations when m actions are (Karnin et al. 2013). */
static inline void mcts_schedule(int32_t m, int32_t n, int32_t *out) {
    int32_t phases = 0, considered = m, visits = 0, at = 0;
    if (m <= 1) {
        for (; at < n; at++) out[at] = at;
        return;
    }
    while ((1 << phases) < m) phases++;
    while (at < n) {
        int32_t extra = n / (phases * considered);
        if (extra < 1) extra = 1;
        for (; extra > 0; extra--, visits++)
            for (int32_t i = 0; i < considered && at < n; i++) out[at++] = visits;
        considered = considered / 2 > 2 ? considered / 2 : 2;
    }
}

/* Called once the root has its priors: fresh noise, and the counters of this search. */
static inline void mcts_begin_root(const mcts_config *config, const mcts_shape *shape, mcts_tree *tree, mcts_root *root,
                                   uint64_t seed, int64_t index) {
    mcts_node *node = mcts_at(tree, MCTS_ROOT);
    const mcts_edges e = mcts_edges_of(shape, tree, node);
    const int32_t n = node->num_edges;
    playout_rng rng = mcts_stream(seed, index, tree->searches, MCTS_STREAM_NOISE);
    for (int32_t i = 0; i < mcts_padded(n); i++) {
        root->log_prior[i] = i < n ? (float)log((double)e.prior[i]) : 0.0f;
        root->base[i] = root->log_prior[i];
        root->taken[i] = 0.0f;
        root->reused[i] = e.visits[i];
    }
    tree->evaluated = 1;
    if (!tree->noise) return;
    if (config->algorithm == MCTS_GUMBEL) {
        if (config->gumbel_scale != 0.0f)
            for (int32_t i = 0; i < n; i++)
                root->base[i] = (float)((double)config->gumbel_scale * mcts_gumbel(&rng)) + root->log_prior[i];
    } else if (config->algorithm == MCTS_PUCT && config->dirichlet_fraction > 0.0f) {
        const double f = config->dirichlet_fraction;
        double sum = 0.0;
        /* `base` holds the draws for a moment */
        for (int32_t i = 0; i < n; i++) {
            root->base[i] = (float)mcts_gamma(&rng, (double)config->dirichlet_alpha);
            sum += (double)root->base[i];
        }
        if (sum <= 0.0) return;
        node->prior_visited = 0.0f;
        for (int32_t i = 0; i < n; i++) {
            e.prior[i] = (float)((1.0 - f) * (double)e.prior[i] + f * ((double)root->base[i] / sum));
            if (e.prior[i] < MCTS_LEAST_PRIOR) e.prior[i] = MCTS_LEAST_PRIOR;
            if (e.visits[i] > 0.0f) node->prior_visited += e.prior[i];
        }
    }
}

/* Scores of the root's edges for Gumbel: noise + log prior + sigma(q). */
MCTS_INLINE void mcts_root_scores(const mcts_config *config, mcts_node *node, const mcts_edges *e, const float *base,
                                    int blocks, vf *score) {
    mcts_sigma(config, node, e, blocks, config->leaves_per_step > 1, NULL, score);
    for (int b = 0; b < blocks; b++) score[b] = v_add(v_load(base + 8 * b), score[b]);
}

/* The best-scored allowed edge among those considered `count` times; where proofs have left none, among those
 * considered at all, then among all.
 */
MCTS_INLINE int32_t mcts_best_taken(const mcts_node *node, const mcts_edges *e, const float *taken, float count,
                                      const vf *score, int blocks) {
    vf masked[MCTS_MAX_BLOCKS];
    for (int pass = 0; pass < 3; pass++) {
        int any = 0;
        for (int b = 0; b < blocks; b++) {
            const vf t = v_load(taken + 8 * b);
            vm allowed = mcts_allowed(node, e, b);
            if (pass == 0) allowed = v_and(allowed, v_eq(t, v_all(count)));
            if (pass == 1) allowed = v_and(allowed, v_gt(t, v_all(0.0f)));
            any |= v_bits(allowed);
            masked[b] = v_if(allowed, score[b], v_all(MCTS_WORST));
        }
        if (any) return mcts_argmax(masked, blocks);
    }
    return 0;
}

/* Sequential halving: the edge of the next simulation, or -1 when the schedule is through. */
MCTS_INLINE int32_t mcts_select_root(const mcts_config *config, mcts_tree *tree, const mcts_root *root, mcts_node *node,
                                     const mcts_edges *e, int blocks) {
    vf score[MCTS_MAX_BLOCKS];
    mcts_root_scores(config, node, e, root->base, blocks, score);
    while (tree->position < tree->schedule_size) {
        const float count = (float)tree->schedule[tree->position++];
        const int32_t edge = mcts_best_taken(node, e, root->taken, count, score, blocks);
        root->taken[edge] += 1.0f;
        if (root->taken[edge] > root->reused[edge]) return edge;
    }
    return -1;
}

#endif
