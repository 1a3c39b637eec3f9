/* Moves of Go, and which of them would repeat a former position.
 *
 * Superko asks about all positions of the game, and a state keeps none of them: it keeps its moves. Three steps answer
 * exactly. A stone can only complete a former position where one of its side was captured before, so that few points
 * are asked about at all; a filter (Bloom's: three bits a position, four bits of room a ply) says "never seen" for
 * nearly all of those; for the rest the game is played through again and stones are compared.
 */
#ifndef PLAYOUT_GO_REPETITION_H
#define PLAYOUT_GO_REPETITION_H

#include "../go.h"

/* What superko compares: the stones, and under the situational rule who is to move. */
GO_INLINE uint64_t go_situation(const go_tables *t, uint64_t hash, int32_t to_move) {
    return t->ko == GO_SITUATIONAL && to_move ? hash ^ t->white_key : hash;
}

GO_INLINE int32_t go_filter_bit(int32_t n, uint64_t situation, int32_t probe) {
    return (int32_t)(((situation >> (20 * probe)) & 0xFFFFF) * (uint64_t)(64 * go_filter_words(n)) >> 20);
}

GO_INLINE int go_maybe_seen(int32_t n, const uint64_t *filter, uint64_t situation) {
    return go_has(filter, go_filter_bit(n, situation, 0)) && go_has(filter, go_filter_bit(n, situation, 1)) &&
           go_has(filter, go_filter_bit(n, situation, 2));
}

GO_INLINE void go_remember(int32_t n, const go_tables *t, go_state *s) {
    const uint64_t situation = go_situation(t, s->hash, go_turn(s));
    if (t->ko == GO_SIMPLE) return;
    s->past += playout_mix(situation + UINT64_C(0x9E3779B97F4A7C15));
    for (int32_t probe = 0; probe < 3; probe++) go_put(go_filter(n, s), go_filter_bit(n, situation, probe));
}

/* One ply without go_ban(), which must follow the last of them. Returns the point of a possible ko. */
GO_INLINE int32_t go_push(int32_t n, const go_tables *t, go_state *s, int32_t move) {
    int32_t lone = GO_NONE;
    go_add_move(n, s, move);
    if (move == n * n) {
        s->passes++;
    } else {
        lone = go_place(n, t, go_stones(s), move, go_turn(s), &s->hash, go_taken(n, s));
        s->passes = 0;
    }
    s->ply++;
    if (move != n * n || t->ko == GO_SITUATIONAL) go_remember(n, t, s);
    return lone;
}

/* The position after a stone of the side to move at an empty point. */
GO_INLINE uint64_t go_after(int32_t n, const go_tables *t, const go_state *s, int32_t point, uint64_t *stones) {
    uint64_t taken[2 * GO_MAX_WORDS] = {0}, hash = s->hash;
    memcpy(stones, s->sets, 16 * (size_t)go_words(n));
    go_place(n, t, stones, point, go_turn(s), &hash, taken);
    return go_situation(t, hash, 1 - go_turn(s));
}

/* Plays the game through, and bans those of `count` points where a stone would complete one of its positions.
 * situations: [count], as go_after() gives them. */
static __attribute__((noinline)) void go_compare(const go_tables *t, go_state *s, int32_t count, const uint16_t *points,
                                                 const uint64_t *situations) {
    const int32_t n = t->size, words = go_words(n);
    uint64_t board[2 * GO_MAX_WORDS], after[2 * GO_MAX_WORDS], taken[2 * GO_MAX_WORDS] = {0}, hash;
    memcpy(board, go_setup(n, s), 16 * (size_t)words);
    hash = go_hash_of(t, board);
    for (int32_t ply = 0;; ply++) {
        const uint64_t situation = go_situation(t, hash, (s->first + ply) & 1);
        for (int32_t i = 0; i < count; i++) {
            if (situations[i] != situation) continue;
            go_after(n, t, s, points[i], after);
            if (!memcmp(board, after, 16 * (size_t)words)) go_put(go_banned(n, s), points[i]);
        }
        if (ply == s->ply) return;
        const int32_t move = go_move_at(n, s, ply);
        if (move < n * n) go_place(n, t, board, move, (s->first + ply) & 1, &hash, taken);
    }
}

/* A ko: the stone just played took one stone at `lone`, stands alone and could be taken there at once. Taking it back
 * repeats the position before, whatever the rule. */
GO_INLINE int go_is_ko(const go_tables *t, const uint64_t *own, const uint64_t *empty, int32_t played, int32_t lone) {
    if (lone == GO_NONE) return 0;
    for (int32_t k = 0; k < t->degree[played]; k++) {
        const int32_t at = t->near[played][k];
        if (at != lone && (go_has(own, at) || go_has(empty, at))) return 0;
    }
    return 1;
}

/* Notes the points that the side to move may not play because a position would be repeated. */
GO_INLINE void go_ban(int32_t n, const go_tables *t, go_state *s, int32_t played, int32_t lone) {
    const int32_t words = go_words(n), side = go_turn(s);
    uint64_t *banned = go_banned(n, s), empty[GO_MAX_WORDS], asked[GO_MAX_WORDS], any = 0;
    memset(banned, 0, 8 * (size_t)words);
    if (go_over(n, s)) return;
    go_empty(n, t, s->sets, empty);
    if (go_is_ko(t, s->sets + (1 - side) * words, empty, played, lone)) go_put(banned, lone);
    if (t->ko == GO_SIMPLE) return;
    for (int32_t i = 0; i < words; i++) {
        asked[i] = empty[i] & go_taken(n, s)[side * words + i] & ~banned[i];
        any |= asked[i];
    }
    if (t->suicide) { /* a suicide may complete a position wherever it happens */
        uint64_t beside[GO_MAX_WORDS];
        go_grow(n, t, empty, beside);
        for (int32_t i = 0; i < words; i++) any |= asked[i] |= empty[i] & ~beside[i] & ~banned[i];
    }
    if (!any) return;
    uint16_t points[GO_MAX_POINTS];
    uint64_t situations[GO_MAX_POINTS], after[2 * GO_MAX_WORDS];
    int32_t count = 0;
    for (int32_t i = 0; i < words; i++)
        for (uint64_t left = asked[i]; left; left &= left - 1) {
            const int32_t point = 64 * i + __builtin_ctzll(left);
            if (!go_can(n, t, s->sets, empty, point, side)) continue;
            points[count] = (uint16_t)point;
            situations[count] = go_after(n, t, s, point, after);
            count += go_maybe_seen(n, go_filter(n, s), situations[count]);
        }
    if (count) go_compare(t, s, count, points, situations);
}

GO_INLINE void go_apply(int32_t n, const go_tables *t, go_state *s, int32_t move) {
    const int32_t lone = go_push(n, t, s, move);
    go_ban(n, t, s, move, lone);
}

/* A game that begins from these stones, which all have liberties. */
static void go_begin(const go_tables *t, go_state *s, const uint64_t *stones, int32_t first) {
    const int32_t n = t->size, words = go_words(n);
    memset(s, 0, (size_t)go_state_size(n));
    s->first = (uint8_t)first;
    if (stones) {
        memcpy(go_stones(s), stones, 16 * (size_t)words);
        memcpy(go_setup(n, s), stones, 16 * (size_t)words);
    }
    s->hash = go_hash_of(t, go_stones(s));
    go_remember(n, t, s);
}

/* Only stones with liberties, on the board, no two on one point? */
static int go_proper(const go_tables *t, const uint64_t *stones) {
    const int32_t n = t->size, words = go_words(n);
    uint64_t empty[GO_MAX_WORDS], group[GO_MAX_WORDS];
    for (int32_t i = 0; i < words; i++)
        if (((stones[i] | stones[words + i]) & ~t->board[i]) || (stones[i] & stones[words + i])) return 0;
    go_empty(n, t, stones, empty);
    for (int32_t side = 0; side < 2; side++)
        for (int32_t point = 0; point < n * n; point++)
            if (go_has(stones + side * words, point) && !go_breathes(n, t, stones + side * words, empty, point, group))
                return 0;
    return 1;
}

static int32_t go_legal(int32_t n, const go_tables *t, const go_state *s, int32_t *actions) {
    uint64_t open[GO_MAX_WORDS];
    int32_t count = 0;
    if (go_over(n, s)) return 0;
    go_open(n, t, s->sets, go_turn(s), open);
    for (int32_t i = 0; i < go_words(n); i++)
        for (uint64_t left = open[i] & ~go_banned(n, (go_state *)s)[i]; left; left &= left - 1)
            actions[count++] = 64 * i + __builtin_ctzll(left);
    actions[count++] = n * n;
    return count;
}

static int32_t go_is_legal(const go_tables *t, const go_state *s, int32_t move) {
    const int32_t n = t->size;
    uint64_t empty[GO_MAX_WORDS];
    if (go_over(n, s) || move < 0 || move > n * n) return 0;
    if (move == n * n) return 1;
    go_empty(n, t, s->sets, empty);
    return go_has(empty, move) && !go_has(go_banned(n, (go_state *)s), move) &&
           go_can(n, t, s->sets, empty, move, go_turn(s));
}

#endif
