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
    int32_t *best;  /* over information sets: the chosen action, -1 not yet */
    int32_t *stack; /* histories still to judge, as ~id where what follows is judged */
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

/* What an end is worth to `player`, times `others`. */
static inline double cfr_end(const cfr_tree *t, int32_t player, const cfr_scratch *s, int32_t id) {
    return s->others[id] * t->results[(int64_t)t->nodes[id].info * t->game->num_players + player];
}

/* Is a decision of `player` made for its whole information set? Without hidden information each history is for itself. */
static inline int cfr_shares(const cfr_tree *t, int32_t player, const cfr_node *node) {
    return node->player == player && t->game->flags & PLAYOUT_HIDDEN;
}

/* Judges what ends after a history, and lists what else follows it; how many. */
static inline int64_t cfr_list_after(const cfr_tree *t, int32_t player, cfr_scratch *s, const cfr_node *node, int32_t *out) {
    int64_t found = 0;
    for (int32_t i = node->count; i-- > 0;) { /* the first is judged first, as they lie in memory */
        const int32_t child = t->edges[node->edge + i].child;
        if (t->nodes[child].player == PLAYOUT_TERMINAL)
            s->value[child] = cfr_end(t, player, s, child);
        else
            out[found++] = child;
    }
    return found;
}

/* Lists the histories that have to be judged before this one; how many. Each is listed once in all: where an information
 * set is decided already, whatever follows its histories is judged. */
static int64_t cfr_list_before(const cfr_tree *t, int32_t player, cfr_scratch *s, int32_t id, int32_t *out) {
    const cfr_node *node = &t->nodes[id];
    int64_t found = 0;
    if (!cfr_shares(t, player, node)) return cfr_list_after(t, player, s, node, out);
    if (s->best[node->info] >= 0) return 0;
    const cfr_info *info = &t->infos[node->info];
    for (int32_t k = info->nodes; k-- > 0;)
        found += cfr_list_after(t, player, s, &t->nodes[t->members[info->first + k]], out + found);
    return found;
}

/* The action of an information set that is worth most to its player, over all its histories. */
static int32_t cfr_choose(const cfr_tree *t, const cfr_info *info, const double *value) {
    int32_t best = 0;
    double most = -INFINITY;
    for (int32_t i = 0; i < info->count; i++) {
        double sum = 0;
        for (int32_t k = 0; k < info->nodes; k++) {
            const cfr_node *member = &t->nodes[t->members[info->first + k]];
            sum += value[t->edges[member->edge + i].child];
        }
        if (sum > most) {
            most = sum;
            best = i;
        }
    }
    return best;
}

/* What follows a history is worth to `player` at its best, times `others`; what has to be judged before is. */
static double cfr_judge(const cfr_tree *t, int32_t player, cfr_scratch *s, int32_t id) {
    const cfr_node *node = &t->nodes[id];
    const cfr_edge *edges = &t->edges[node->edge];
    double found = 0;
    if (node->player == PLAYOUT_TERMINAL) return cfr_end(t, player, s, id);
    if (cfr_shares(t, player, node)) {
        int32_t *best = &s->best[node->info];
        if (*best < 0) *best = cfr_choose(t, &t->infos[node->info], s->value);
        return s->value[edges[*best].child];
    }
    if (node->player != player) {
        for (int32_t i = 0; i < node->count; i++) found += s->value[edges[i].child];
        return found;
    }
    found = -INFINITY;
    for (int32_t i = 0; i < node->count; i++)
        if (s->value[edges[i].child] > found) found = s->value[edges[i].child];
    return found;
}

/* The result of `player` where it answers a policy of the others as well as can be. */
static double cfr_best_response(const cfr_tree *t, int32_t player, const double *policy, cfr_scratch *s) {
    cfr_reach(t, player, policy, s);
    for (int64_t k = 0; k < t->num_infos; k++) s->best[k] = -1;
    if (!(t->game->flags & PLAYOUT_HIDDEN)) {
        for (int64_t id = t->num_nodes - 1; id >= 0; id--) s->value[id] = cfr_judge(t, player, s, (int32_t)id);
        return s->value[0];
    }
    s->stack[0] = 0;
    for (int64_t height = 1; height > 0;) { /* no recursion: trees may be deep */
        int32_t *top = &s->stack[height - 1];
        if (*top < 0) {
            s->value[~*top] = cfr_judge(t, player, s, ~*top);
            height--;
        } else {
            height += cfr_list_before(t, player, s, *top, top + 1);
            *top = ~*top;
        }
    }
    return s->value[0];
}

#endif
