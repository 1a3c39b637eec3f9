/* Virtual connections of Hex by H-search (Anshelevich, "A hierarchical approach to computer Hex", 2002).
 *
 * Two places, each an empty cell or a group of stones, are virtually connected if their side joins them even when the
 * other side moves first, and half connected if it joins them when it moves first itself; the carrier is the empty cells
 * that this takes. Neighbours are connected by an empty carrier. Two connections that share one end and no cell make a
 * third, or a half connection if the shared end is empty; half connections without a cell common to all make a
 * connection. Lists of carriers are short, so not every connection is found, but each one found is there.
 */
#ifndef PLAYOUT_HEX_CONNECTIONS_H
#define PLAYOUT_HEX_CONNECTIONS_H

#include "board.h"

#define HEXS_PLACES (HEXS_MAX_CELLS + 2)
#define HEXS_PAIRS (HEXS_PLACES * (HEXS_PLACES - 1) / 2)
#define HEXS_FULL 6        /* carriers kept a pair */
#define HEXS_HALF 12       /* half connections kept a pair */
#define HEXS_OR_DEPTH 4    /* half connections that are put together */
#define HEXS_QUEUE 16384

typedef struct hexs_pair {
    uint8_t num_full, num_half;
    uint8_t done[HEXS_FULL], full_size[HEXS_FULL], half_size[HEXS_HALF]; /* sizes in cells */
    uint64_t full[HEXS_FULL], half[HEXS_HALF];
} hexs_pair;

typedef struct hexs_links {
    int32_t places; /* 0 and 1 are the edges, then groups, then empty cells */
    int32_t groups; /* places below this number are groups */
    uint64_t bit[HEXS_PLACES]; /* of empty cells; 0 for groups */
    hexs_pair pair[HEXS_PAIRS];
    struct {
        uint8_t a, b;
        uint64_t carrier;
    } queue[HEXS_QUEUE];
    uint32_t head, tail;
    uint64_t steps; /* pairs of connections looked at, a measure of work */
} hexs_links;

static inline hexs_pair *hexs_pair_of(hexs_links *h, int32_t a, int32_t b) {
    return a > b ? &h->pair[a * (a - 1) / 2 + b] : &h->pair[b * (b - 1) / 2 + a];
}

/* The largest of the carriers with more than `size` cells, the first of equals; -1 if there is none. */
static inline int32_t hexs_largest(const uint8_t *sizes, int32_t count, int32_t size) {
    int32_t at = -1;
    for (int32_t i = 0; i < count; i++)
        if (sizes[i] > size) {
            size = sizes[i];
            at = i;
        }
    return at;
}

/* Forgets half connections that take all of `carrier` and perhaps more. */
static inline void hexs_drop_halves(hexs_pair *p, uint64_t carrier) {
    int32_t kept = 0;
    for (int32_t i = 0; i < p->num_half; i++) {
        if ((carrier & ~p->half[i]) == 0) continue;
        p->half[kept] = p->half[i];
        p->half_size[kept++] = p->half_size[i];
    }
    p->num_half = (uint8_t)kept;
}

static void hexs_add_full(hexs_links *h, int32_t a, int32_t b, uint64_t carrier) {
    hexs_pair *p = hexs_pair_of(h, a, b);
    int32_t kept = 0, at = -1;
    for (int32_t i = 0; i < p->num_full; i++)
        if ((p->full[i] & ~carrier) == 0) return;
    for (int32_t i = 0; i < p->num_full; i++) {
        if ((carrier & ~p->full[i]) == 0) continue;
        p->full[kept] = p->full[i];
        p->full_size[kept] = p->full_size[i];
        p->done[kept++] = p->done[i];
    }
    p->num_full = (uint8_t)kept;
    hexs_drop_halves(p, carrier);
    const int32_t size = __builtin_popcountll(carrier);
    at = p->num_full < HEXS_FULL ? p->num_full : hexs_largest(p->full_size, HEXS_FULL, size);
    if (at < 0 || h->tail - h->head == HEXS_QUEUE) return;
    p->num_full += at == p->num_full;
    p->full[at] = carrier;
    p->full_size[at] = (uint8_t)size;
    p->done[at] = 0;
    h->queue[h->tail % HEXS_QUEUE].a = (uint8_t)a;
    h->queue[h->tail % HEXS_QUEUE].b = (uint8_t)b;
    h->queue[h->tail++ % HEXS_QUEUE].carrier = carrier;
}

/* Tries to leave no cell common to all by taking in half connections from number `from` on. */
static void hexs_or(hexs_links *h, int32_t a, int32_t b, int32_t from, uint64_t common, uint64_t used, int32_t depth) {
    hexs_pair *p = hexs_pair_of(h, a, b);
    uint64_t least = common;
    for (int32_t i = from; i < p->num_half; i++) least &= p->half[i];
    if (least) return; /* all of them together would not do */
    for (int32_t i = from; i < p->num_half; i++) {
        const uint64_t left = common & p->half[i];
        if (left == common) continue;
        if (left == 0)
            hexs_add_full(h, a, b, used | p->half[i]);
        else if (depth > 1)
            hexs_or(h, a, b, i + 1, left, used | p->half[i], depth - 1);
    }
}

static void hexs_add_half(hexs_links *h, int32_t a, int32_t b, uint64_t carrier) {
    hexs_pair *p = hexs_pair_of(h, a, b);
    for (int32_t i = 0; i < p->num_full; i++)
        if ((p->full[i] & ~carrier) == 0) return;
    for (int32_t i = 0; i < p->num_half; i++)
        if ((p->half[i] & ~carrier) == 0) return;
    hexs_drop_halves(p, carrier);
    const int32_t size = __builtin_popcountll(carrier);
    const int32_t at = p->num_half < HEXS_HALF ? p->num_half : hexs_largest(p->half_size, HEXS_HALF, size);
    if (at >= 0) {
        p->num_half += at == p->num_half;
        p->half[at] = carrier;
        p->half_size[at] = (uint8_t)size;
    }
    hexs_or(h, a, b, 0, carrier, carrier, HEXS_OR_DEPTH - 1);
}

/* Numbers the places; 1 if the edges are one group already. */
static int hexs_places(const hexs_board *g, hexs_links *h, uint64_t own, uint64_t other) {
    uint64_t group[HEXS_PLACES] = {hexs_flood(g, own, g->first), hexs_flood(g, own, g->last)};
    uint64_t rest = own & ~(group[0] | group[1]);
    const uint64_t empty = g->all & ~(own | other);
    if (group[0] & g->last) return 1;
    h->groups = 2;
    for (; rest; rest &= ~group[h->groups++]) group[h->groups] = hexs_flood(g, rest, rest & (UINT64_C(0) - rest));
    h->places = h->groups;
    for (int32_t i = 0; i < h->groups; i++) h->bit[i] = 0;
    for (uint64_t left = empty; left; left &= left - 1) h->bit[h->places++] = left & (UINT64_C(0) - left);
    for (int32_t i = 0; i < h->places * (h->places - 1) / 2; i++) h->pair[i].num_full = h->pair[i].num_half = 0;
    h->head = h->tail = 0;
    for (int32_t b = h->groups; b < h->places; b++) {
        const uint64_t near = g->near[__builtin_ctzll(h->bit[b])];
        for (int32_t a = 0; a < b; a++) {
            const int at_edge = (a == 0 && (h->bit[b] & g->first)) || (a == 1 && (h->bit[b] & g->last));
            if (at_edge || (near & (a < h->groups ? group[a] : h->bit[a]))) hexs_add_full(h, a, b, 0);
        }
    }
    return 0;
}

/* Puts a new connection from `middle` to `end` together with all known ones that start at `middle`. */
static void hexs_and(hexs_links *h, int32_t middle, int32_t end, uint64_t carrier) {
    const uint64_t taken = carrier | h->bit[end];
    for (int32_t far = 0; far < h->places; far++) {
        if (far == middle || far == end || (h->bit[far] & carrier)) continue;
        const hexs_pair *p = hexs_pair_of(h, middle, far);
        h->steps += p->num_full;
        for (int32_t i = 0; i < p->num_full; i++) {
            const uint64_t second = p->full[i];
            if (!p->done[i] || (second & taken)) continue;
            if (middle < h->groups)
                hexs_add_full(h, end, far, carrier | second);
            else
                hexs_add_half(h, end, far, carrier | second | h->bit[middle]);
        }
    }
}

/* Finds connections of the side that owns `own` and joins top and bottom. Returns 2 if its edges are connected, 1 if they
 * are half connected, else 0; the carriers then are those of the pair (0, 1). Stops as soon as it has `enough`. */
static int hexs_connect(const hexs_board *g, hexs_links *h, uint64_t own, uint64_t other, int enough) {
    hexs_pair *edges = hexs_pair_of(h, 0, 1);
    if (hexs_places(g, h, own, other)) {
        edges->num_full = 1;
        edges->full[0] = 0;
        return 2;
    }
    while (h->head != h->tail) {
        const int32_t a = h->queue[h->head % HEXS_QUEUE].a, b = h->queue[h->head % HEXS_QUEUE].b;
        const uint64_t carrier = h->queue[h->head++ % HEXS_QUEUE].carrier;
        hexs_pair *p = hexs_pair_of(h, a, b);
        int32_t at = 0;
        while (at < p->num_full && p->full[at] != carrier) at++;
        if (at == p->num_full) continue; /* a smaller carrier took its place */
        p->done[at] = 1;
        hexs_and(h, a, b, carrier);
        hexs_and(h, b, a, carrier);
        if (edges->num_full) return 2;
        if (edges->num_half && enough == 1) return 1;
    }
    return edges->num_half ? 1 : 0;
}

#endif
