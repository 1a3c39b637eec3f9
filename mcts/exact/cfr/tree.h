/* The whole tree of a small game laid out flat, with players' information sets: what CFR+ and best responses walk over.
 *
 * Nodes are histories in preorder, so that a loop forwards meets parents first and a loop backwards children first. The
 * edges of a node lie side by side. Information sets are told apart by info_key() and player; each has a slot for each
 * of its actions, and policies, regrets and sums are arrays over all slots. Building stops at an error, named by a code.
 */
#ifndef PLAYOUT_CFR_TREE_H
#define PLAYOUT_CFR_TREE_H

#include <stdlib.h>

#include "playout_random.h"

enum {
    CFR_OK,
    CFR_NO_MEMORY,
    CFR_TOO_LARGE,  /* more histories than allowed */
    CFR_ACTIONS,    /* one information set, different legal actions */
    CFR_RECALL,     /* a player forgets what it knew or did */
    CFR_PYTHON,     /* a game written in Python has raised */
};

typedef struct cfr_node {
    int32_t player; /* or PLAYOUT_TERMINAL, PLAYOUT_CHANCE */
    int32_t info;   /* its information set; of a terminal node its row of results */
    int32_t edge;   /* the first; the last ends where the next node's begin */
    int32_t count;
} cfr_node;

typedef struct cfr_edge {
    int32_t child, action;
    double prob; /* of a chance outcome */
} cfr_edge;

typedef struct cfr_info {
    uint64_t key;
    int32_t player, slot, count;
    int32_t before; /* the slot of the player's last action before, or -1 */
    int32_t nodes, first; /* how many histories it holds, and where they begin in `members` */
} cfr_info;

typedef struct cfr_tree {
    const playout_game *game;
    int64_t limit; /* histories */
    int64_t num_nodes, num_edges, num_infos, num_slots, num_ends, num_chance;
    int64_t room_nodes, room_edges, room_infos, room_slots, room_ends;
    cfr_node *nodes;
    cfr_edge *edges;
    cfr_info *infos;
    int32_t *slot_actions;
    uint8_t *info_states; /* one state of each information set */
    double *results;      /* [num_ends, num_players] */
    int32_t *members;     /* nodes by information set */
    uint64_t table_mask;
    int32_t *table; /* 1 + information set by hashed key */
    uint8_t *states; /* scratch: a state for each depth */
    int32_t *before; /* scratch: each player's last slot for each depth */
    int32_t *path;   /* scratch: the node at each depth, and how many of its children are built */
    int32_t *actions;
    double *probs;
} cfr_tree;

/* Makes room for `more` items; 0 if there is no memory. */
static int cfr_grow(void **items, int64_t *room, int64_t needed, size_t size) {
    if (needed <= *room) return 1;
    const int64_t bigger = needed + *room + 1024;
    void *found = realloc(*items, (size_t)bigger * size);
    if (found == NULL) return 0;
    *items = found;
    *room = bigger;
    return 1;
}

static void cfr_free(cfr_tree *t) {
    void *parts[] = {t->nodes,   t->edges, t->infos,  t->slot_actions, t->info_states, t->results,
                     t->members, t->table, t->states, t->before,       t->path,        t->actions, t->probs};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) free(parts[i]);
    memset(t, 0, sizeof *t);
}

static inline uint64_t cfr_key(uint64_t info_key, int32_t player) {
    return info_key + (uint64_t)player * UINT64_C(0x9E3779B97F4A7C15);
}

/* Doubles the table of keys when it is half full. */
static int cfr_rehash(cfr_tree *t) {
    if (t->table != NULL && 2 * (uint64_t)t->num_infos < t->table_mask) return 1;
    const uint64_t mask = t->table == NULL ? 4095 : 2 * t->table_mask + 1;
    int32_t *table = (int32_t *)calloc(mask + 1, sizeof *table);
    if (table == NULL) return 0;
    for (int64_t i = 0; i < t->num_infos; i++) {
        uint64_t at = playout_mix(t->infos[i].key) & mask;
        while (table[at]) at = (at + 1) & mask;
        table[at] = (int32_t)i + 1;
    }
    free(t->table);
    t->table = table;
    t->table_mask = mask;
    return 1;
}

/* Finds or makes the information set of a state with `count` legal actions in t->actions. */
static int cfr_find_info(cfr_tree *t, const void *state, int32_t player, int32_t count, int32_t before, int32_t *found) {
    const uint64_t key = cfr_key(t->game->info_key(t->game, state, player), player);
    if (!cfr_rehash(t)) return CFR_NO_MEMORY;
    uint64_t at = playout_mix(key) & t->table_mask;
    for (; t->table[at]; at = (at + 1) & t->table_mask) {
        cfr_info *info = &t->infos[t->table[at] - 1];
        if (info->key != key) continue;
        *found = t->table[at] - 1;
        if (info->count != count) return CFR_ACTIONS;
        for (int32_t i = 0; i < count; i++)
            if (t->slot_actions[info->slot + i] != t->actions[i]) return CFR_ACTIONS;
        if (t->game->flags & PLAYOUT_HIDDEN && info->before != before) return CFR_RECALL;
        info->nodes++;
        return CFR_OK;
    }
    const size_t size = (size_t)t->game->state_size;
    const int64_t room = t->room_infos;
    if (!cfr_grow((void **)&t->infos, &t->room_infos, t->num_infos + 1, sizeof *t->infos)) return CFR_NO_MEMORY;
    if (t->room_infos > room) {
        uint8_t *states = (uint8_t *)realloc(t->info_states, (size_t)t->room_infos * size);
        if (states == NULL) return CFR_NO_MEMORY;
        t->info_states = states;
    }
    if (!cfr_grow((void **)&t->slot_actions, &t->room_slots, t->num_slots + count, sizeof(int32_t))) return CFR_NO_MEMORY;
    *found = (int32_t)t->num_infos++;
    t->table[at] = *found + 1;
    t->infos[*found] = (cfr_info){key, player, (int32_t)t->num_slots, count, before, 1, 0};
    memcpy(t->info_states + (size_t)*found * size, state, size);
    memcpy(t->slot_actions + t->num_slots, t->actions, (size_t)count * sizeof(int32_t));
    t->num_slots += count;
    return CFR_OK;
}

/* Adds the history whose state lies at `depth` of the scratch, with edges that lead nowhere yet. */
static int cfr_visit(cfr_tree *t, int64_t depth) {
    const playout_game *game = t->game;
    const int32_t players = game->num_players;
    uint8_t *state = t->states + (size_t)depth * (size_t)game->state_size;
    const int32_t *before = t->before + depth * players;
    if (t->num_nodes >= t->limit || depth > game->max_plies) return CFR_TOO_LARGE;
    if (!cfr_grow((void **)&t->nodes, &t->room_nodes, t->num_nodes + 1, sizeof *t->nodes)) return CFR_NO_MEMORY;
    const int32_t id = (int32_t)t->num_nodes++;
    t->path[2 * depth] = id;
    t->path[2 * depth + 1] = 0;
    cfr_node node = {game->to_play(game, state), 0, (int32_t)t->num_edges, 0};
    if (node.player == PLAYOUT_TERMINAL) {
        float values[PLAYOUT_MAX_PLAYERS];
        if (!cfr_grow((void **)&t->results, &t->room_ends, t->num_ends + 1, (size_t)players * sizeof(double)))
            return CFR_NO_MEMORY;
        game->returns(game, state, values);
        for (int32_t p = 0; p < players; p++) t->results[t->num_ends * players + p] = values[p];
        node.info = (int32_t)t->num_ends++;
        t->nodes[id] = node;
        return CFR_OK;
    }
    if (node.player == PLAYOUT_CHANCE) {
        node.count = game->chance(game, state, t->actions, t->probs);
        t->num_chance++;
    } else {
        node.count = game->legal(game, state, t->actions);
        const int code = cfr_find_info(t, state, node.player, node.count, before[node.player], &node.info);
        if (code != CFR_OK) return code;
    }
    if (!cfr_grow((void **)&t->edges, &t->room_edges, t->num_edges + node.count, sizeof *t->edges)) return CFR_NO_MEMORY;
    for (int32_t i = 0; i < node.count; i++)
        t->edges[node.edge + i] = (cfr_edge){0, t->actions[i], node.player == PLAYOUT_CHANCE ? t->probs[i] : 0};
    t->num_edges += node.count;
    t->nodes[id] = node;
    return CFR_OK;
}

/* Adds all histories, the first state lying at depth 0 of the scratch. A loop: games may be as deep as they have plies. */
static int cfr_visit_all(cfr_tree *t) {
    const playout_game *game = t->game;
    const size_t size = (size_t)game->state_size, players = (size_t)game->num_players;
    int code = cfr_visit(t, 0);
    for (int64_t depth = 0; depth >= 0 && code == CFR_OK;) {
        const cfr_node node = t->nodes[t->path[2 * depth]];
        const int32_t i = t->path[2 * depth + 1]++;
        uint8_t *state = t->states + (size_t)depth * size;
        int32_t *before = t->before + (size_t)depth * players;
        if (i == node.count) {
            depth--;
            continue;
        }
        memcpy(state + size, state, size);
        memcpy(before + players, before, players * sizeof *before);
        if (node.player >= 0) before[players + (size_t)node.player] = t->infos[node.info].slot + i;
        game->apply(game, state + size, t->edges[node.edge + i].action);
        t->edges[node.edge + i].child = (int32_t)t->num_nodes;
        code = cfr_visit(t, ++depth);
    }
    return code;
}

/* Lists the histories of each information set. */
static int cfr_list_members(cfr_tree *t) {
    int32_t first = 0;
    t->members = (int32_t *)malloc((size_t)(t->num_nodes + 1) * sizeof(int32_t));
    if (t->members == NULL) return CFR_NO_MEMORY;
    for (int64_t i = 0; i < t->num_infos; first += t->infos[i++].nodes) t->infos[i].first = first;
    for (int64_t i = 0; i < t->num_infos; i++) t->infos[i].nodes = 0;
    for (int64_t id = 0; id < t->num_nodes; id++) {
        if (t->nodes[id].player < 0) continue;
        cfr_info *info = &t->infos[t->nodes[id].info];
        t->members[info->first + info->nodes++] = (int32_t)id;
    }
    return CFR_OK;
}

/* Builds the tree of `game`, of at most `limit` histories; free it whatever comes back. */
static int cfr_build(cfr_tree *t, const playout_game *game, int64_t limit) {
    const int64_t deepest = game->max_plies < limit ? game->max_plies : limit; /* each level is a history */
    const size_t depths = (size_t)deepest + 2;
    memset(t, 0, sizeof *t);
    t->game = game;
    t->limit = limit;
    t->states = (uint8_t *)calloc(depths, (size_t)game->state_size);
    t->before = (int32_t *)malloc(depths * (size_t)game->num_players * sizeof(int32_t));
    t->path = (int32_t *)malloc(depths * 2 * sizeof(int32_t));
    t->actions = (int32_t *)malloc(PLAYOUT_MAX_LEGAL * sizeof(int32_t));
    t->probs = (double *)malloc(PLAYOUT_MAX_LEGAL * sizeof(double));
    if (t->states == NULL || t->before == NULL || t->path == NULL || t->actions == NULL || t->probs == NULL) return CFR_NO_MEMORY;
    for (int32_t p = 0; p < game->num_players; p++) t->before[p] = -1;
    game->init(game, t->states);
    const int code = cfr_visit_all(t);
    return code == CFR_OK ? cfr_list_members(t) : code;
}

#endif
