/* What players and learners of Go are shown: planes, result, score and ownership, and the keys of a state.
 *
 * Planes of an observation: own stones, the other's, groups with one liberty, groups with two, empty points that the
 * side to move may not play; then three that are the same everywhere: the last ply was a pass, the player is White, and
 * komi from the player's side in fortieths from 0.5, cut to 0 and 1. Earlier moves are left out: all that they change of
 * the rules is in the fifth plane, and an evaluation serves every order of moves.
 */
#ifndef PLAYOUT_GO_OBSERVE_H
#define PLAYOUT_GO_OBSERVE_H

#include "repetition.h"

enum { GO_OWN, GO_OTHER, GO_ATARI, GO_TWO_LIBERTIES, GO_FORBIDDEN, GO_PASSED, GO_WHITE, GO_KOMI, GO_PLANES };

/* Draws a set into a plane of zeros. */
GO_INLINE void go_draw(int32_t n, const uint64_t *set, float *plane) {
    for (int32_t i = 0; i < go_words(n); i++)
        for (uint64_t left = set[i]; left; left &= left - 1) plane[64 * i + __builtin_ctzll(left)] = 1;
}

/* Points beside three or four of the empty ones: no group with such a stone is short of liberties. */
GO_INLINE void go_rich(int32_t n, const go_tables *t, const uint64_t *empty, uint64_t *rich) {
    uint64_t beside[4][GO_MAX_WORDS];
    go_shifts(n, t, empty, beside);
    for (int32_t i = 0; i < go_words(n); i++) {
        const uint64_t a = beside[0][i], b = beside[1][i], c = beside[2][i], d = beside[3][i];
        rich[i] = (a & b & (c | d)) | (c & d & (a | b));
    }
}

/* Adds every group with one liberty to few[0], with two to few[1]. */
GO_INLINE void go_short_of_liberties(int32_t n, const go_tables *t, const uint64_t *stones,
                                     uint64_t few[2][GO_MAX_WORDS]) {
    const int32_t words = go_words(n);
    uint64_t empty[GO_MAX_WORDS], rich[GO_MAX_WORDS], left[GO_MAX_WORDS], group[GO_MAX_WORDS], beside[GO_MAX_WORDS];
    go_empty(n, t, stones, empty);
    go_rich(n, t, empty, rich);
    for (int32_t side = 0; side < 2; side++) {
        for (int32_t i = 0; i < words; i++) group[i] = rich[i] & stones[side * words + i];
        go_flood(n, t, group, stones + side * words);
        for (int32_t i = 0; i < words; i++) left[i] = stones[side * words + i] & ~group[i];
        for (int32_t seed = go_lowest(n, left); seed != GO_NONE; seed = go_lowest(n, left)) {
            memset(group, 0, 8 * (size_t)words);
            go_put(group, seed);
            go_flood(n, t, group, left);
            go_grow(n, t, group, beside);
            for (int32_t i = 0; i < words; i++) {
                left[i] &= ~group[i];
                beside[i] &= empty[i];
            }
            const int32_t liberties = go_count(n, beside);
            if (liberties > 2) continue;
            for (int32_t i = 0; i < words; i++) few[liberties - 1][i] |= group[i];
        }
    }
}

GO_INLINE void go_observe(int32_t n, const go_tables *t, const go_state *s, int32_t player, float *obs) {
    const int32_t words = go_words(n), points = n * n;
    uint64_t few[2][GO_MAX_WORDS] = {{0}}, open[GO_MAX_WORDS], forbidden[GO_MAX_WORDS];
    go_empty(n, t, s->sets, forbidden);
    if (go_over(n, s)) {
        memset(forbidden, 0, sizeof forbidden);
    } else {
        go_open(n, t, s->sets, go_turn(s), open);
        for (int32_t i = 0; i < words; i++) forbidden[i] &= ~open[i] | go_banned(n, (go_state *)s)[i];
    }
    go_short_of_liberties(n, t, s->sets, few);
    memset(obs, 0, GO_PASSED * (size_t)points * sizeof(float));
    go_draw(n, s->sets + player * words, obs + GO_OWN * points);
    go_draw(n, s->sets + (1 - player) * words, obs + GO_OTHER * points);
    go_draw(n, few[0], obs + GO_ATARI * points);
    go_draw(n, few[1], obs + GO_TWO_LIBERTIES * points);
    go_draw(n, forbidden, obs + GO_FORBIDDEN * points);
    const float shown = 0.5f + (float)(player ? t->komi : -t->komi) / 40;
    const float komi = shown < 0 ? 0 : shown > 1 ? 1 : shown;
    for (int32_t point = 0; point < points; point++) {
        obs[GO_PASSED * points + point] = (float)(s->passes > 0);
        obs[GO_WHITE * points + point] = (float)player;
        obs[GO_KOMI * points + point] = komi;
    }
}

GO_INLINE void go_returns(int32_t n, const go_tables *t, const uint64_t *stones, float *values) {
    const double margin = go_margin(n, t, stones);
    values[0] = (float)((margin > 0) - (margin < 0));
    values[1] = 0.0f - values[0];
}

/* 1 where the player owns a point in the end, -1 where the other does, 0 where nobody does. */
GO_INLINE void go_targets(int32_t n, const go_tables *t, const go_state *s, int32_t player, float *planes) {
    uint64_t area[2][GO_MAX_WORDS];
    go_area(n, t, s->sets, area);
    for (int32_t point = 0; point < n * n; point++)
        planes[point] = (float)(go_has(area[player], point) - go_has(area[1 - player], point));
}

/* Stones, turn, passes and forbidden points: what observations and legal moves depend on. */
GO_INLINE uint64_t go_key(int32_t n, const go_state *s, uint64_t stones, const uint64_t *banned) {
    const int32_t turn = 1 + 4 * s->passes + 2 * go_over(n, s) + go_turn(s);
    uint64_t key = stones + UINT64_C(0x9E3779B97F4A7C15) * (uint64_t)turn;
    for (int32_t i = 0; i < go_words(n); i++) key = playout_mix(key) + banned[i];
    return playout_mix(key);
}

GO_INLINE uint64_t go_eval_key(int32_t n, const go_state *s) {
    return go_key(n, s, s->hash, go_banned(n, (go_state *)s));
}

/* The set as symmetry k shows it. */
GO_INLINE void go_turn_set(int32_t n, const go_tables *t, const uint64_t *set, int32_t k, uint64_t *image) {
    memset(image, 0, 8 * (size_t)go_words(n));
    for (int32_t i = 0; i < go_words(n); i++)
        for (uint64_t left = set[i]; left; left &= left - 1) go_put(image, t->image[k][64 * i + __builtin_ctzll(left)]);
}

/* go_eval_key() of the symmetric state: that state would take a whole game to make. */
GO_INLINE uint64_t go_symmetry_key(int32_t n, const go_tables *t, const go_state *s, int32_t k) {
    uint64_t stones[2 * GO_MAX_WORDS], banned[GO_MAX_WORDS];
    for (int32_t side = 0; side < 2; side++)
        go_turn_set(n, t, s->sets + side * go_words(n), k, stones + side * go_words(n));
    go_turn_set(n, t, go_banned(n, (go_state *)s), k, banned);
    return go_key(n, s, go_hash_of(t, stones), banned);
}

/* The same, all former positions, and how many plies are left. */
GO_INLINE uint64_t go_hash(int32_t n, const go_state *s) {
    return playout_mix(go_eval_key(n, s) ^ playout_mix(s->past + s->ply));
}

#endif
