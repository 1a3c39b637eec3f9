/* Random games of Hex without playing them: the free cells are dealt out at once, and one look finds the winner.
 *
 * A game of Hex that goes on after it is won ends with a full board and the same winner, and never in a draw. So the
 * cells that the side to move still gets are a random half of the free ones, all halves equally likely.
 */
#ifndef PLAYOUT_HEX_RANDOM_H
#define PLAYOUT_HEX_RANDOM_H

#include "../hex.h"

/* Adds the neighbours to left and right, as far as `row` reaches without a gap, to the cells of `seeds`. */
static inline uint32_t hex_spread(uint32_t row, uint32_t seeds, int32_t size) {
    uint32_t up = row, down = row;
    for (int32_t step = 1; step < size; step *= 2) {
        seeds |= (up & (seeds << step)) | (down & (seeds >> step));
        up &= up << step;
        down &= down >> step;
    }
    return seeds;
}

/* Do the stones join top and bottom? Sweeps down and up again until nothing new is reached. */
static int hex_crosses(const hex_layout *g, const uint64_t *stones) {
    uint32_t row[HEX_MAX_SIZE + 1], reached[HEX_MAX_SIZE + 1];
    const int32_t size = g->size;
    for (int32_t r = 0; r < size; r++) {
        const int32_t at = r * size, word = at >> 6, shift = at & 63;
        uint64_t bits = stones[word] >> shift;
        if (shift + size > 64) bits |= stones[word + 1] << (64 - shift);
        row[r] = (uint32_t)bits & ((1u << size) - 1);
        reached[r] = 0;
    }
    reached[0] = row[0];
    for (;;) {
        uint32_t grown = 0;
        for (int32_t r = 1; r < size; r++) {
            const uint32_t seeds = reached[r] | (row[r] & (reached[r - 1] | reached[r - 1] >> 1));
            if (seeds != reached[r]) {
                reached[r] = hex_spread(row[r], seeds, size);
                grown = 1;
            }
        }
        if (reached[size - 1]) return 1;
        if (!grown) return 0;
        grown = 0;
        for (int32_t r = size - 2; r > 0; r--) {
            const uint32_t seeds = reached[r] | (row[r] & (reached[r + 1] | reached[r + 1] << 1));
            if (seeds != reached[r]) {
                reached[r] = hex_spread(row[r], seeds, size);
                grown = 1;
            }
        }
        if (!grown) return 0;
    }
}

static inline int32_t hex_count(const uint64_t *set, int32_t words) {
    int32_t count = 0;
    for (int32_t word = 0; word < words; word++) count += __builtin_popcountll(set[word]);
    return count;
}

/* Takes single cells, each equally likely, out of `set` until it has `target`. */
static void hex_thin(const hex_layout *g, uint64_t *set, int32_t count, int32_t target, playout_rng *rng) {
    while (count > target) {
        const int32_t cell = (int32_t)playout_rng_below(rng, (uint32_t)g->cells);
        const uint64_t bit = UINT64_C(1) << (cell & 63);
        count -= (set[cell >> 6] & bit) != 0;
        set[cell >> 6] &= ~bit;
    }
}

/* A coin for every free cell comes near to half of them; the few too many of one side are drawn back one by one. */
static void hex_deal(const hex_layout *g, const uint64_t *free, playout_rng *rng, uint64_t *mine) {
    const int32_t count = hex_count(free, g->words), target = (count + 1) / 2;
    int32_t got = 0;
    for (int32_t word = 0; word < g->words; word++) {
        mine[word] = playout_rng_next(rng) & free[word];
        got += __builtin_popcountll(mine[word]);
    }
    if (got >= target) {
        hex_thin(g, mine, got, target, rng);
        return;
    }
    for (int32_t word = 0; word < g->words; word++) mine[word] ^= free[word];
    hex_thin(g, mine, count - got, count - target, rng);
    for (int32_t word = 0; word < g->words; word++) mine[word] ^= free[word];
}

static void hex_playout(const playout_game *game, const void *state, playout_rng *rng, float *values) {
    const hex_layout *g = hex_of(game);
    const hex_state *s = (const hex_state *)state;
    const int32_t words = g->words, last = g->cells & 63;
    uint64_t copy[1 + 4 * HEX_MAX_WORDS], free[HEX_MAX_WORDS], mine[HEX_MAX_WORDS];
    if (s->won) {
        hex_returns(game, state, values);
        return;
    }
    if (g->swap && s->stones < 2) { /* the first two moves one by one: any cell may be named for the second */
        memcpy(copy, state, (size_t)game->state_size);
        s = (const hex_state *)copy;
        if (s->stones == 0) hex_apply(game, copy, (int32_t)playout_rng_below(rng, (uint32_t)g->cells));
        if (hex_may_swap(g, s)) hex_apply(game, copy, (int32_t)playout_rng_below(rng, (uint32_t)g->cells));
    }
    for (int32_t word = 0; word < words; word++) {
        free[word] = ~(s->sets[word] | s->sets[words + word]);
        if (word == words - 1 && last) free[word] &= (UINT64_C(1) << last) - 1;
    }
    hex_deal(g, free, rng, mine);
    for (int32_t word = 0; word < words; word++) {
        if (s->turn == 1) mine[word] ^= free[word];
        mine[word] |= s->sets[word];
    }
    values[0] = hex_crosses(g, mine) ? 1.0f : -1.0f;
    values[1] = 0.0f - values[0];
}

#endif
