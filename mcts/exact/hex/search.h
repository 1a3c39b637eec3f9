/* Who wins a position of Hex: depth-first search over the moves that virtual connections leave.
 *
 * A move can only save the side to move if it meets every connection by which the other side would win, found by
 * H-search or by searching an earlier move; the cells common to all of these are what must be played. So every answer
 * carries the empty cells that its proof needs, and the winner keeps the win with all others given away.
 */
#ifndef PLAYOUT_HEX_SEARCH_H
#define PLAYOUT_HEX_SEARCH_H

#include <stdlib.h>

#include "connections.h"

#define HEXS_BUCKET 4 /* entries looked at for a position */
#define HEXS_SWEEPS 24
#define HEXS_STEPS 32 /* steps of H-search that take about as long as a position of alpha-beta */
#define HEXS_POLL (1 << 17) /* nodes from one question to the next, some hundredths of a second */

/* A position with the side to move joining top and bottom; own and other both 0 is an entry that is free. */
typedef struct hexs_entry {
    uint64_t own, other, carrier;
    uint32_t work; /* nodes below; the least is replaced */
    uint32_t wins;
} hexs_entry;

typedef struct hexs_solver {
    hexs_board board;
    hexs_links links;
    hexs_entry *table;
    uint64_t mask; /* buckets less 1 */
    uint64_t nodes, max_nodes; /* in units of HEXS_STEPS; 0 for no limit */
    int stopped;
    int (*poll)(void *data); /* asked now and then whether to stop; may be NULL */
    void *poll_data;
} hexs_solver;

static int hexs_open(hexs_solver *s, int32_t size, uint64_t entries) {
    uint64_t buckets = 1;
    memset(s, 0, sizeof *s);
    hexs_board_set(&s->board, size);
    while (2 * buckets * HEXS_BUCKET <= entries) buckets *= 2;
    s->table = (hexs_entry *)calloc(buckets * HEXS_BUCKET, sizeof *s->table);
    s->mask = buckets - 1;
    return s->table == NULL ? -1 : 0;
}

static void hexs_close(hexs_solver *s) { free(s->table); }

static void hexs_clear(hexs_solver *s) { memset(s->table, 0, (s->mask + 1) * HEXS_BUCKET * sizeof *s->table); }

static inline uint64_t hexs_mix(uint64_t x) {
    x = (x ^ x >> 32) * UINT64_C(0xD6E8FEB86659FD93);
    x = (x ^ x >> 32) * UINT64_C(0xD6E8FEB86659FD93);
    return x ^ x >> 32;
}

static inline hexs_entry *hexs_bucket(const hexs_solver *s, uint64_t own, uint64_t other) {
    return s->table + (hexs_mix(hexs_mix(own) + other) & s->mask) * HEXS_BUCKET;
}

static const hexs_entry *hexs_find(const hexs_solver *s, uint64_t own, uint64_t other) {
    const hexs_entry *bucket = hexs_bucket(s, own, other);
    for (int32_t i = 0; i < HEXS_BUCKET; i++)
        if (bucket[i].own == own && bucket[i].other == other && (own | other)) return &bucket[i];
    return NULL;
}

static void hexs_store(hexs_solver *s, uint64_t own, uint64_t other, uint64_t carrier, uint64_t work, int wins) {
    hexs_entry *bucket = hexs_bucket(s, own, other), *least = bucket;
    for (int32_t i = 1; i < HEXS_BUCKET; i++)
        if (bucket[i].work < least->work) least = &bucket[i];
    least->own = own;
    least->other = other;
    least->carrier = carrier;
    least->work = work > UINT32_MAX ? UINT32_MAX : (uint32_t)work;
    least->wins = (uint32_t)wins;
}

/* Counts the work done since the last call; 1 if the limit is reached or somebody asks to stop. */
static int hexs_must_stop(hexs_solver *s) {
    const uint64_t before = s->nodes;
    s->nodes += 1 + s->links.steps / HEXS_STEPS;
    s->links.steps = 0;
    if (s->max_nodes && s->nodes > s->max_nodes) s->stopped = 1;
    if (s->poll != NULL && s->nodes / HEXS_POLL != before / HEXS_POLL && s->poll(s->poll_data)) s->stopped = 1;
    return s->stopped;
}

/* Adds to `flow` the current that runs through each cell from the top to the bottom, with stones of `own` as wires. */
static void hexs_currents(const hexs_board *g, uint64_t own, uint64_t other, float *flow) {
    float level[HEXS_MAX_CELLS], resist[HEXS_MAX_CELLS];
    for (int32_t cell = 0; cell < g->cells; cell++) {
        level[cell] = 0.5f;
        resist[cell] = own >> cell & 1 ? 0.05f : 1.0f;
    }
    for (int32_t sweep = 0; sweep <= HEXS_SWEEPS; sweep++)
        for (uint64_t left = g->all & ~other; left; left &= left - 1) {
            const int32_t cell = __builtin_ctzll(left);
            float sum = 0, weights = 0, current = 0;
            for (int32_t i = 0; i < 6; i++) {
                const int32_t place = g->ring[cell][i];
                if (place == HEXS_OTHER_EDGE || (place < HEXS_MAX_CELLS && (other >> place & 1))) continue;
                const int edge = place == HEXS_OWN_EDGE;
                const float weight = 1.0f / (resist[cell] + (edge ? 0.0f : resist[place]));
                const float there = !edge ? level[place] : (i < 2 && (g->first >> cell & 1)) ? 1.0f : 0.0f;
                weights += weight;
                sum += weight * there;
                current += weight * (there > level[cell] ? there - level[cell] : level[cell] - there);
            }
            if (sweep == HEXS_SWEEPS)
                flow[cell] += current;
            else if (weights > 0)
                level[cell] = sum / weights;
        }
}

/* The cells of `choices` in the order in which they are tried: where most current of both sides runs first. */
static int32_t hexs_order(const hexs_board *g, uint64_t own, uint64_t other, uint64_t choices, uint8_t *order) {
    float flow[HEXS_MAX_CELLS] = {0}, flow_t[HEXS_MAX_CELLS] = {0};
    int32_t count = 0;
    hexs_currents(g, own, other, flow);
    hexs_currents(g, hexs_transpose(g, other), hexs_transpose(g, own), flow_t);
    for (int32_t cell = 0; cell < g->cells; cell++) flow[cell] += flow_t[g->transposed[cell]];
    for (; choices; choices &= choices - 1) {
        const int32_t cell = __builtin_ctzll(choices);
        int32_t at = count++;
        for (; at > 0 && flow[order[at - 1]] < flow[cell]; at--) order[at] = order[at - 1];
        order[at] = (uint8_t)cell;
    }
    return count;
}

/* What the other side threatens: the cells common to half connections of its edges, each taken in only if it leaves
 * fewer; `used` receives all of their cells. A connection that is whole leaves none. */
static uint64_t hexs_must_play(hexs_solver *s, uint64_t own, uint64_t other, uint64_t *used) {
    const hexs_board *g = &s->board;
    uint64_t must = g->all & ~(own | other);
    const int found = hexs_connect(g, &s->links, hexs_transpose(g, other), hexs_transpose(g, own), 2);
    const hexs_pair *edges = hexs_pair_of(&s->links, 0, 1);
    *used = 0;
    if (found == 2) {
        *used = hexs_transpose(g, edges->full[0]);
        return 0;
    }
    for (int32_t i = 0; i < edges->num_half; i++) {
        const uint64_t half = hexs_transpose(g, edges->half[i]);
        if ((must & ~half) == 0) continue;
        must &= half;
        *used |= half;
    }
    return must;
}

/* A position as the table has it, and what fill-in has changed. */
typedef struct hexs_reduced {
    uint64_t own, other, captured[2];
    int turned; /* the table has its half turn */
} hexs_reduced;

/* 1 or 0 if it is known without a search that the side to move wins or loses, else -1. `carrier` receives what the proof
 * needs; r the position with dead and captured cells filled in. */
static int hexs_known(const hexs_solver *s, uint64_t own, uint64_t other, hexs_reduced *r, uint64_t *carrier) {
    const hexs_board *g = &s->board;
    hexs_fill_in(g, &own, &other, r->captured);
    r->own = own;
    r->other = other;
    if (hexs_joined(g, own) || hexs_joined(g, hexs_transpose(g, other))) {
        const int wins = hexs_joined(g, own);
        *carrier = r->captured[!wins];
        return wins;
    }
    const uint64_t own_t = hexs_turn(g, own), other_t = hexs_turn(g, other);
    r->turned = own_t < own || (own_t == own && other_t < other);
    const hexs_entry *entry = r->turned ? hexs_find(s, own_t, other_t) : hexs_find(s, own, other);
    if (entry == NULL) return -1;
    *carrier = (r->turned ? hexs_turn(g, entry->carrier) : entry->carrier) | r->captured[!entry->wins];
    return (int)entry->wins;
}

static int hexs_solve(hexs_solver *s, uint64_t own, uint64_t other, uint64_t *carrier);

/* The search of a position that is filled in and not known. Answers that the table has for moves come first: they cost
 * nothing and leave fewer moves to be searched. */
static int hexs_search(hexs_solver *s, uint64_t own, uint64_t other, uint64_t *carrier) {
    const hexs_board *g = &s->board;
    const int found = hexs_connect(g, &s->links, own, other, 1);
    const hexs_pair *edges = hexs_pair_of(&s->links, 0, 1);
    const uint64_t own_t = hexs_transpose(g, own), other_t = hexs_transpose(g, other);
    uint8_t order[HEXS_MAX_CELLS];
    uint64_t used, searched = 0;
    if (found) {
        *carrier = found == 2 ? edges->full[0] : edges->half[0];
        return 1;
    }
    uint64_t must = hexs_must_play(s, own, other, &used);
    const int32_t count = must ? hexs_order(g, own, other, must, order) : 0;
    for (int32_t pass = 0; pass < 2; pass++)
        for (int32_t i = 0; i < count; i++) {
            const uint64_t move = UINT64_C(1) << order[i], moved_t = own_t | UINT64_C(1) << g->transposed[order[i]];
            hexs_reduced reduced;
            uint64_t needed;
            if (!(must & ~searched & move)) continue;
            const int reply = pass == 0 ? hexs_known(s, other_t, moved_t, &reduced, &needed)
                                        : hexs_solve(s, other_t, moved_t, &needed);
            if (s->stopped) return 0;
            if (reply < 0) continue;
            needed = hexs_transpose(g, needed);
            if (reply == 0) {
                *carrier = needed | move;
                return 1;
            }
            searched |= move;
            must &= needed;
            used |= needed;
        }
    *carrier = used;
    return 0;
}

/* 1 if the side to move, which joins top and bottom, wins; `carrier` receives what the proof needs. */
static int hexs_solve(hexs_solver *s, uint64_t own, uint64_t other, uint64_t *carrier) {
    const hexs_board *g = &s->board;
    const uint64_t before = s->nodes;
    hexs_reduced r;
    int wins = hexs_known(s, own, other, &r, carrier);
    if (wins >= 0) return wins;
    if (hexs_must_stop(s)) return 0;
    wins = hexs_search(s, r.own, r.other, carrier);
    if (s->stopped) return 0;
    if (r.turned)
        hexs_store(s, hexs_turn(g, r.own), hexs_turn(g, r.other), hexs_turn(g, *carrier), s->nodes - before, wins);
    else
        hexs_store(s, r.own, r.other, *carrier, s->nodes - before, wins);
    *carrier |= r.captured[!wins];
    return wins;
}

/* Writes 1 or -1 for every empty cell, or `unknown` where the search was stopped before; the side to move joins top and
 * bottom. Cells that are not empty are left as they are. */
static void hexs_score_moves(hexs_solver *s, uint64_t own, uint64_t other, int8_t unknown, int8_t *out) {
    const hexs_board *g = &s->board;
    uint8_t order[HEXS_MAX_CELLS];
    uint64_t used;
    uint64_t must = hexs_must_play(s, own, other, &used);
    const int32_t count = hexs_order(g, own, other, g->all & ~(own | other), order);
    for (int32_t i = 0; i < count; i++) {
        const uint64_t move = UINT64_C(1) << order[i];
        uint64_t needed = 0;
        int8_t *score = &out[order[i]];
        *score = -1;
        if (!(must & move)) continue;
        if (hexs_joined(g, own | move)) {
            *score = 1;
            continue;
        }
        const int lost = !s->stopped && !hexs_solve(s, hexs_transpose(g, other), hexs_transpose(g, own | move), &needed);
        if (s->stopped)
            *score = unknown;
        else if (lost)
            *score = 1;
        else
            must &= hexs_transpose(g, needed);
    }
}

/* The same on the board as it lies, for either side, with the swap rule if `swap`: out[cells] receives `illegal` where a
 * stone lies. Once stones may be swapped, the second player wins by taking the better side. */
static void hexs_score_state(hexs_solver *s, uint64_t first, uint64_t second, int32_t turn, int swap, int8_t illegal,
                             int8_t unknown, int8_t *out) {
    const hexs_board *g = &s->board;
    int8_t scores[HEXS_MAX_CELLS];
    memset(scores, illegal, sizeof scores);
    if (swap && !(first | second)) {
        memset(out, -1, (size_t)g->cells);
        return;
    }
    if (turn)
        hexs_score_moves(s, hexs_transpose(g, second), hexs_transpose(g, first), unknown, scores);
    else
        hexs_score_moves(s, first, second, unknown, scores);
    for (int32_t cell = 0; cell < g->cells; cell++) out[cell] = turn ? scores[g->transposed[cell]] : scores[cell];
    if (!swap || !turn || (first & (first - 1)) || second) return;
    /* The stone that is taken over wins if no move wins against it. */
    int8_t best = -1;
    for (uint64_t left = g->all & ~first; left; left &= left - 1) {
        const int8_t score = out[__builtin_ctzll(left)];
        if (score == 1 || best == -1) best = score;
        if (best == 1) break;
    }
    out[__builtin_ctzll(first)] = best == unknown ? unknown : (int8_t)-best;
}

#endif
