/* The rules of Go on bitboards: points, stones, captures, and what a state holds.
 *
 * A point is row * size + column from the top left, bit by bit in words of 64; action size * size is a pass. A state is
 * the stones, the position that the game began from, and its moves: everything else in it (hash, filter of former
 * positions, points that repetition forbids) follows from these and is kept only because it is needed often. No groups
 * are stored: almost every question about liberties is answered next to the stone it is asked of, and a state is copied
 * at every node of a search.
 */
#ifndef PLAYOUT_GO_H
#define PLAYOUT_GO_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "playout_game.h"

#define GO_INLINE static inline __attribute__((always_inline))
#define GO_MAX_SIZE 19
#define GO_MAX_POINTS 361
#define GO_MAX_WORDS 6
#define GO_BORDERED ((GO_MAX_SIZE + 1) * (GO_MAX_SIZE + 2) + 1) /* points with a border above, below and left */
#define GO_NONE (-1)

enum { GO_POSITIONAL, GO_SITUATIONAL, GO_SIMPLE }; /* what may not be repeated */

/* What depends on the size and the rules alone. */
typedef struct go_tables {
    int32_t size, ko, suicide;
    double komi;
    uint64_t board[GO_MAX_WORDS], not_first[GO_MAX_WORDS], not_last[GO_MAX_WORDS]; /* all but a column at the edge */
    uint64_t key[2][GO_MAX_POINTS], white_key, empty_key;
    uint16_t near[GO_MAX_POINTS][4];
    uint16_t bordered[GO_BORDERED]; /* a point's number, from that on a board with a border (playout.h) */
    uint8_t degree[GO_MAX_POINTS]; /* how many of near are there */
    uint16_t image[8][GO_MAX_POINTS + 1];
} go_tables;

/* Behind the head lie, in words: stones of Black and White, the first position's, where stones of either have ever been
 * captured, points forbidden by repetition, the filter, and the moves (see go_move_at). */
typedef struct go_state {
    uint64_t hash; /* of the stones */
    uint64_t past; /* of all positions so far, in any order */
    uint16_t ply;
    uint8_t first;  /* who moved, or moves, first */
    uint8_t passes; /* in a row, up to this one */
    uint32_t zero;
    uint64_t sets[];
} go_state;

GO_INLINE int32_t go_words(int32_t n) { return (n * n + 63) / 64; }
/* A game ends here at the latest: most last half as long, and tiny boards, where repetition forbids much, fit too. */
GO_INLINE int32_t go_max_plies(int32_t n) { return n < 5 ? 50 : 2 * n * n; }
GO_INLINE int32_t go_filter_words(int32_t n) { return (go_max_plies(n) * 4 + 63) / 64; }
GO_INLINE int32_t go_low_words(int32_t n) { return (go_max_plies(n) + 7) / 8; }
GO_INLINE int32_t go_high_words(int32_t n) { return n * n < 256 ? 0 : (go_max_plies(n) + 63) / 64; }
GO_INLINE int32_t go_sets(int32_t n) {
    return 7 * go_words(n) + go_filter_words(n) + go_low_words(n) + go_high_words(n);
}
GO_INLINE int32_t go_state_size(int32_t n) { return (int32_t)sizeof(go_state) + 8 * go_sets(n); }

GO_INLINE uint64_t *go_stones(go_state *s) { return s->sets; }
GO_INLINE uint64_t *go_setup(int32_t n, go_state *s) { return s->sets + 2 * go_words(n); }
GO_INLINE uint64_t *go_taken(int32_t n, go_state *s) { return s->sets + 4 * go_words(n); }
GO_INLINE uint64_t *go_banned(int32_t n, go_state *s) { return s->sets + 6 * go_words(n); }
GO_INLINE uint64_t *go_filter(int32_t n, go_state *s) { return s->sets + 7 * go_words(n); }
GO_INLINE int32_t go_turn(const go_state *s) { return (s->first + s->ply) & 1; }
GO_INLINE int go_over(int32_t n, const go_state *s) { return s->passes == 2 || s->ply >= go_max_plies(n); }

GO_INLINE int go_has(const uint64_t *set, int32_t point) { return (int)(set[point >> 6] >> (point & 63)) & 1; }
GO_INLINE void go_put(uint64_t *set, int32_t point) { set[point >> 6] |= UINT64_C(1) << (point & 63); }
GO_INLINE int32_t go_count(int32_t n, const uint64_t *set) {
    int32_t count = 0;
    for (int32_t i = 0; i < go_words(n); i++) count += __builtin_popcountll(set[i]);
    return count;
}
GO_INLINE int32_t go_lowest(int32_t n, const uint64_t *set) {
    for (int32_t i = 0; i < go_words(n); i++)
        if (set[i]) return 64 * i + __builtin_ctzll(set[i]);
    return GO_NONE;
}

/* A move takes a byte, and from 16 x 16 on a ninth bit in words behind all bytes. */
GO_INLINE int32_t go_move_at(int32_t n, const go_state *s, int32_t ply) {
    const uint64_t *moves = go_filter(n, (go_state *)s) + go_filter_words(n);
    const int32_t low = ((const uint8_t *)moves)[ply];
    return go_high_words(n) && go_has(moves + go_low_words(n), ply) ? low + 256 : low;
}
GO_INLINE void go_add_move(int32_t n, go_state *s, int32_t move) {
    uint64_t *moves = go_filter(n, s) + go_filter_words(n);
    ((uint8_t *)moves)[s->ply] = (uint8_t)move;
    if (go_high_words(n) && move > 255) go_put(moves + go_low_words(n), s->ply);
}

/* The neighbours of a set's points in one direction after the other. */
GO_INLINE void go_shifts(int32_t n, const go_tables *t, const uint64_t *set, uint64_t out[4][GO_MAX_WORDS]) {
    const int32_t words = go_words(n);
    for (int32_t i = 0; i < words; i++) {
        const uint64_t before = i ? set[i - 1] : 0, here = set[i], after = i + 1 < words ? set[i + 1] : 0;
        out[0][i] = here >> n | after << (64 - n);
        out[1][i] = (here << n | before >> (64 - n)) & t->board[i];
        out[2][i] = (here >> 1 | after << 63) & t->not_last[i];
        out[3][i] = (here << 1 | before >> 63) & t->not_first[i];
    }
}

GO_INLINE void go_grow(int32_t n, const go_tables *t, const uint64_t *set, uint64_t *out) {
    uint64_t shifts[4][GO_MAX_WORDS];
    go_shifts(n, t, set, shifts);
    for (int32_t i = 0; i < go_words(n); i++) out[i] = shifts[0][i] | shifts[1][i] | shifts[2][i] | shifts[3][i];
}

/* The points of `within` that are connected to those of `set`, which grows to them. */
GO_INLINE void go_flood(int32_t n, const go_tables *t, uint64_t *set, const uint64_t *within) {
    uint64_t grown[GO_MAX_WORDS], more;
    do {
        go_grow(n, t, set, grown);
        more = 0;
        for (int32_t i = 0; i < go_words(n); i++) {
            more |= grown[i] & within[i] & ~set[i];
            set[i] |= grown[i] & within[i];
        }
    } while (more);
}

/* Does the group of `point` touch one of `liberties`? If not, `group` is all of it. */
GO_INLINE int go_breathes(int32_t n, const go_tables *t, const uint64_t *stones, const uint64_t *liberties,
                          int32_t point, uint64_t *group) {
    uint64_t grown[GO_MAX_WORDS], more, found;
    for (int32_t k = 0; k < t->degree[point]; k++)
        if (go_has(liberties, t->near[point][k])) return 1;
    for (int32_t i = 0; i < go_words(n); i++) group[i] = 0;
    go_put(group, point);
    do {
        go_grow(n, t, group, grown);
        more = found = 0;
        for (int32_t i = 0; i < go_words(n); i++) {
            found |= grown[i] & liberties[i];
            more |= grown[i] & stones[i] & ~group[i];
            group[i] |= grown[i] & stones[i];
        }
        if (found) return 1;
    } while (more);
    return 0;
}

GO_INLINE void go_empty(int32_t n, const go_tables *t, const uint64_t *stones, uint64_t *empty) {
    const int32_t words = go_words(n);
    for (int32_t i = 0; i < words; i++) empty[i] = t->board[i] & ~(stones[i] | stones[words + i]);
}

/* May `side` play at this empty point, repetition aside? A lone stone without liberties is never allowed: it would be a
 * pass that repeats the position. */
GO_INLINE int go_can(int32_t n, const go_tables *t, const uint64_t *stones, const uint64_t *empty, int32_t point,
                     int32_t side) {
    uint64_t elsewhere[GO_MAX_WORDS] = {0}, group[GO_MAX_WORDS];
    const uint64_t *own = stones + side * go_words(n), *other = stones + (1 - side) * go_words(n);
    int friends = 0;
    for (int32_t k = 0; k < t->degree[point]; k++)
        if (go_has(empty, t->near[point][k])) return 1;
    for (int32_t i = 0; i < go_words(n); i++) elsewhere[i] = empty[i];
    elsewhere[point >> 6] &= ~(UINT64_C(1) << (point & 63));
    for (int32_t k = 0; k < t->degree[point]; k++) {
        const int32_t at = t->near[point][k];
        if (!go_has(own, at)) {
            if (!go_breathes(n, t, other, elsewhere, at, group)) return 1;
        } else if (go_breathes(n, t, own, elsewhere, at, group)) {
            return 1;
        } else {
            friends = 1;
        }
    }
    return t->suicide && friends;
}

/* Removes a group and its part of the hash. */
GO_INLINE int32_t go_remove(int32_t n, const go_tables *t, uint64_t *stones, int32_t side, const uint64_t *group,
                            uint64_t *hash) {
    int32_t count = 0;
    for (int32_t i = 0; i < go_words(n); i++) {
        stones[side * go_words(n) + i] &= ~group[i];
        for (uint64_t left = group[i]; left; left &= left - 1, count++)
            *hash ^= t->key[side][64 * i + __builtin_ctzll(left)];
    }
    return count;
}

/* The hash of stones; that of the empty board is not 0. */
static uint64_t go_hash_of(const go_tables *t, const uint64_t *stones) {
    uint64_t hash = t->empty_key;
    for (int32_t side = 0; side < 2; side++)
        for (int32_t i = 0; i < go_words(t->size); i++)
            for (uint64_t left = stones[side * go_words(t->size) + i]; left; left &= left - 1)
                hash ^= t->key[side][64 * i + __builtin_ctzll(left)];
    return hash;
}

/* Puts a stone and takes off what has no liberties: those of the other side, else the stone's own group. Adds them to
 * `taken`; returns the point where one stone alone was captured, which may be a ko, or GO_NONE. */
GO_INLINE int32_t go_place(int32_t n, const go_tables *t, uint64_t *stones, int32_t point, int32_t side, uint64_t *hash,
                           uint64_t *taken) {
    const int32_t words = go_words(n), other = 1 - side;
    uint64_t empty[GO_MAX_WORDS], group[GO_MAX_WORDS];
    int32_t count = 0, lone = GO_NONE;
    go_put(stones + side * words, point);
    *hash ^= t->key[side][point];
    go_empty(n, t, stones, empty);
    for (int32_t k = 0; k < t->degree[point]; k++) {
        const int32_t at = t->near[point][k];
        if (!go_has(stones + other * words, at)) continue;
        if (go_breathes(n, t, stones + other * words, empty, at, group)) continue;
        count += go_remove(n, t, stones, other, group, hash);
        for (int32_t i = 0; i < words; i++) taken[other * words + i] |= group[i];
        lone = at;
    }
    if (t->suicide && count == 0 && !go_breathes(n, t, stones + side * words, empty, point, group)) {
        go_remove(n, t, stones, side, group, hash);
        for (int32_t i = 0; i < words; i++) taken[side * words + i] |= group[i];
    }
    return count == 1 ? lone : GO_NONE;
}

/* Legal points, repetition aside: all beside an empty point or beside a stone with another liberty of its own, found at
 * once; the few that are left one by one. */
GO_INLINE void go_open(int32_t n, const go_tables *t, const uint64_t *stones, int32_t side, uint64_t *open) {
    uint64_t empty[GO_MAX_WORDS], shifts[4][GO_MAX_WORDS], two[GO_MAX_WORDS], beside[GO_MAX_WORDS];
    go_empty(n, t, stones, empty);
    go_shifts(n, t, empty, shifts);
    for (int32_t i = 0; i < go_words(n); i++) {
        const uint64_t a = shifts[0][i], b = shifts[1][i], c = shifts[2][i], d = shifts[3][i];
        open[i] = empty[i] & (a | b | c | d);
        two[i] = stones[side * go_words(n) + i] & ((a & b) | (c & d) | ((a | b) & (c | d)));
    }
    go_grow(n, t, two, beside);
    for (int32_t i = 0; i < go_words(n); i++) {
        open[i] |= empty[i] & beside[i];
        for (uint64_t left = empty[i] & ~open[i]; left; left &= left - 1) {
            const int32_t point = 64 * i + __builtin_ctzll(left);
            if (go_can(n, t, stones, empty, point, side)) go_put(open, point);
        }
    }
}

/* Area by Tromp and Taylor: a side's stones, and empty regions that touch no others. Nothing is taken for dead. */
GO_INLINE void go_area(int32_t n, const go_tables *t, const uint64_t *stones, uint64_t area[2][GO_MAX_WORDS]) {
    uint64_t empty[GO_MAX_WORDS];
    go_empty(n, t, stones, empty);
    for (int32_t side = 0; side < 2; side++) {
        memcpy(area[side], stones + side * go_words(n), 8 * (size_t)go_words(n));
        go_flood(n, t, area[side], empty);
    }
    for (int32_t i = 0; i < go_words(n); i++) {
        const uint64_t both = area[0][i] & area[1][i];
        area[0][i] &= ~both;
        area[1][i] &= ~both;
    }
}

/* Black's points less White's and the komi. */
GO_INLINE double go_margin(int32_t n, const go_tables *t, const uint64_t *stones) {
    uint64_t area[2][GO_MAX_WORDS];
    go_area(n, t, stones, area);
    return go_count(n, area[0]) - go_count(n, area[1]) - t->komi;
}

static void go_tables_set(go_tables *t, int32_t n, double komi, int32_t ko, int32_t suicide) {
    memset(t, 0, sizeof *t);
    t->size = n;
    t->komi = komi;
    t->ko = ko;
    t->suicide = suicide;
    t->white_key = playout_mix(UINT64_C(0x9E3779B97F4A7C15));
    t->empty_key = playout_mix(t->white_key);
    for (int32_t row = 0; row < n; row++) {
        for (int32_t column = 0; column < n; column++) {
            const int32_t point = row * n + column, last = n - 1;
            uint16_t *near = t->near[point];
            t->bordered[(row + 1) * (n + 1) + column + 1] = (uint16_t)point;
            go_put(t->board, point);
            if (column) go_put(t->not_first, point);
            if (column < last) go_put(t->not_last, point);
            for (int32_t side = 0; side < 2; side++)
                t->key[side][point] = playout_mix((uint64_t)(1000 + 2 * point + side) * UINT64_C(0xD1342543DE82EF95));
            if (row) near[t->degree[point]++] = (uint16_t)(point - n);
            if (row < last) near[t->degree[point]++] = (uint16_t)(point + n);
            if (column) near[t->degree[point]++] = (uint16_t)(point - 1);
            if (column < last) near[t->degree[point]++] = (uint16_t)(point + 1);
            for (int32_t k = 0; k < 8; k++) { /* quarter turns, then the mirror image */
                int32_t y = row, x = column;
                for (int32_t turn = 0; turn < (k & 3); turn++) {
                    const int32_t kept = y;
                    y = x;
                    x = last - kept;
                }
                t->image[k][point] = (uint16_t)(y * n + (k & 4 ? last - x : x));
            }
        }
    }
    for (int32_t k = 0; k < 8; k++) t->image[k][n * n] = (uint16_t)(n * n);
}

#endif
