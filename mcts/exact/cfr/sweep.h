/* Passes over a flat tree (tree.h): CFR+ (Tammelin 2014), expected values, best responses.
 *
 * CFR+ as published: players in turn, regrets cut at 0 after each pass (regret matching+), and policies averaged with the
 * number of the iteration as weight. A policy is one probability a slot.
 */
#ifndef PLAYOUT_CFR_SWEEP_H
#define PLAYOUT_CFR_SWEEP_H

#include <math.h>

#include "tree.h"

/* Arrays over nodes that passes write. */
typedef struct cfr_scratch {
    double *others; /* probability that chance and the other players come to a history */
    double *own;    /* ... and that the player comes to it */
    double *value;
    int32_t *best; /* over information sets: the chosen action, -1 not yet */
} cfr_scratch;

/* The policy of an information set by its regrets: in proportion, or even where there is none. */
static void cfr_match(const cfr_info *info, const double *regrets, double *policy) {
    double total = 0;
    for (int32_t i = info->slot; i < info->slot + info->count; i++) total += regrets[i];
    for (int32_t i = info->slot; i < info->slot + info->count; i++)
        policy[i] = total > 0 ? regrets[i] / total : 1.0 / info->count;
}

/* Fills `others` and `own` from the root down. */
static void cfr_reach(const cfr_tree *t, int32_t player, const double *policy, cfr_scratch *s) {
    s->others[0] = s->own[0] = 1;
    for (int64_t id = 0; id < t->num_nodes; id++) {
        const cfr_node *node = &t->nodes[id];
        for (int32_t i = 0; i < node->count; i++) {
            const cfr_edge *edge = &t->edges[node->edge + i];
            const double p = node->player == PLAYOUT_CHANCE ? edge->prob : policy[t->infos[node->info].slot + i];
            s->others[edge->child] = s->others[id] * (node->player == player ? 1 : p);
            s->own[edge->child] = s->own[id] * (node->player == player ? p : 1);
        }
    }
}

/* The expected result of `player`, and as `value` that from every history, children first. */
static double cfr_expect(const cfr_tree *t, int32_t player, const double *policy, cfr_scratch *s) {
    for (int64_t id = t->num_nodes - 1; id >= 0; id--) {
        const cfr_node *node = &t->nodes[id];
        double sum = 0;
        if (node->player == PLAYOUT_TERMINAL) sum = t->results[(int64_t)node->info * t->game->num_players + player];
        for (int32_t i = 0; i < node->count; i++) {
            const cfr_edge *edge = &t->edges[node->edge + i];
            const double p = node->player == PLAYOUT_CHANCE ? edge->prob : policy[t->infos[node->info].slot + i];
            sum += p * s->value[edge->child];
        }
        s->value[id] = sum;
    }
    return s->value[0];
}

/* One iteration: every player in turn learns against the others' newest policies. */
static void cfr_iterate(const cfr_tree *t, double weight, double *policy, double *regrets, double *sums, cfr_scratch *s) {
    for (int32_t player = 0; player < t->game->num_players; player++) {
        cfr_reach(t, player, policy, s);
        cfr_expect(t, player, policy, s);
        for (int64_t id = 0; id < t->num_nodes; id++) {
            const cfr_node *node = &t->nodes[id];
            if (node->player != player) continue;
            const int32_t slot = t->infos[node->info].slot;
            for (int32_t i = 0; i < node->count; i++) {
                const double gain = s->value[t->edges[node->edge + i].child] - s->value[id];
                regrets[slot + i] += s->others[id] * gain;
                sums[slot + i] += weight * s->own[id] * policy[slot + i];
            }
        }
        for (int64_t k = 0; k < t->num_infos; k++) {
            const cfr_info *info = &t->infos[k];
            if (info->player != player) continue;
            for (int32_t i = info->slot; i < info->slot + info->count; i++)
                if (regrets[i] < 0) regrets[i] = 0;
            cfr_match(info, regrets, policy);
        }
    }
}

/* What follows a history is worth to `player` at its best, times `others`; decides information sets as it meets them.
 * Without hidden information every history is decided for itself. */
static double cfr_best(const cfr_tree *t, int32_t player, cfr_scratch *s, int32_t id) {
    const cfr_node *node = &t->nodes[id];
    if (!isnan(s->value[id])) return s->value[id];
    double found = 0;
    if (node->player == PLAYOUT_TERMINAL) {
        found = s->others[id] * t->results[(int64_t)node->info * t->game->num_players + player];
    } else if (node->player != player) {
        for (int32_t i = 0; i < node->count; i++) found += cfr_best(t, player, s, t->edges[node->edge + i].child);
    } else if (!(t->game->flags & PLAYOUT_HIDDEN)) {
        found = -INFINITY;
        for (int32_t i = 0; i < node->count; i++) {
            const double worth = cfr_best(t, player, s, t->edges[node->edge + i].child);
            if (worth > found) found = worth;
        }
    } else {
        const cfr_info *info = &t->infos[node->info];
        if (s->best[node->info] < 0) {
            double most = -INFINITY;
            for (int32_t i = 0; i < info->count; i++) {
                double sum = 0;
                for (int32_t k = 0; k < info->nodes; k++) {
                    const cfr_node *member = &t->nodes[t->members[info->first + k]];
                    sum += cfr_best(t, player, s, t->edges[member->edge + i].child);
                }
                if (sum > most) {
                    most = sum;
                    s->best[node->info] = i;
                }
            }
        }
        found = cfr_best(t, player, s, t->edges[node->edge + s->best[node->info]].child);
    }
    return s->value[id] = found;
}

/* The result of `player` where it answers a policy of the others as well as can be. */
static double cfr_best_response(const cfr_tree *t, int32_t player, const double *policy, cfr_scratch *s) {
    cfr_reach(t, player, policy, s);
    for (int64_t id = 0; id < t->num_nodes; id++) s->value[id] = NAN;
    for (int64_t k = 0; k < t->num_infos; k++) s->best[k] = -1;
    return cfr_best(t, player, s, 0);
}

#endif
