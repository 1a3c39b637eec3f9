/* The rules of Connect Four on bitboards: any width x height with width * (height + 1) <= 64, any run length.
 *
 * A column is height + 1 bits from the bottom up; the top bit stays empty, so that lines cannot wrap into the next
 * column. A state is the stones of the side to move and all stones; whose turn it is follows from their number, and
 * only the side that has just moved can have a line. Rules only: search and scores stand elsewhere.
 */
#ifndef PLAYOUT_CONNECT_FOUR_H
#define PLAYOUT_CONNECT_FOUR_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "playout_game.h"

#define C4_INLINE static inline __attribute__((always_inline))
#define C4_MAX_WIDTH 32

typedef struct c4_state {
    uint64_t own; /* stones of the side to move */
    uint64_t all;
} c4_state;

typedef struct c4_layout {
    int32_t width, height, run;
    int32_t digits;         /* random columns taken from one 64-bit number */
    int32_t num_directions; /* those along which a line fits */
    int32_t direction[4];   /* distance in bits between neighbours */
    uint64_t bottom, board;
    uint64_t column[C4_MAX_WIDTH];
} c4_layout;

static const c4_layout C4_STANDARD = {
    .width = 7,
    .height = 6,
    .run = 4,
    .digits = 11,
    .num_directions = 4,
    .direction = {1, 7, 6, 8},
    .bottom = UINT64_C(0x40810204081),
    .board = UINT64_C(0x40810204081) * 63,
    .column = {UINT64_C(63), UINT64_C(63) << 7, UINT64_C(63) << 14, UINT64_C(63) << 21, UINT64_C(63) << 28,
               UINT64_C(63) << 35, UINT64_C(63) << 42},
};

/* Fills in the layout; 0, or -1 if the sizes cannot be played. */
static inline int c4_layout_set(c4_layout *g, int32_t width, int32_t height, int32_t run) {
    memset(g, 0, sizeof *g);
    if (width < 1 || height < 1 || run < 2 || width > C4_MAX_WIDTH || height > 63) return -1;
    if (width * (height + 1) > 64 || (run > width && run > height)) return -1;
    g->width = width;
    g->height = height;
    g->run = run;
    for (int32_t x = 0; x < width; x++) {
        g->bottom |= UINT64_C(1) << (x * (height + 1));
        g->column[x] = ((UINT64_C(1) << height) - 1) << (x * (height + 1));
        g->board |= g->column[x];
    }
    if (run <= height) g->direction[g->num_directions++] = 1;
    if (run <= width) g->direction[g->num_directions++] = height + 1;
    if (run <= width && run <= height) {
        g->direction[g->num_directions++] = height;
        g->direction[g->num_directions++] = height + 2;
    }
    /* width ^ digits stays below 2^32, so that no column is favoured by more than 2^-32. */
    for (uint64_t span = (uint64_t)width; span < (UINT64_C(1) << 32) && g->digits < 32; span *= (uint64_t)width) g->digits++;
    return 0;
}

/* Is there a line of `run` stones? Pairs, fours, eights by doubling; the last step overlaps. */
C4_INLINE int c4_line(const c4_layout *g, uint64_t stones) {
    uint64_t found = 0;
    for (int32_t i = 0; i < g->num_directions; i++) {
        const int32_t step = g->direction[i];
        uint64_t starts = stones;
        int32_t length = 1;
        for (; 2 * length <= g->run; length *= 2) starts &= starts >> (length * step);
        if (length < g->run) starts &= starts >> ((g->run - length) * step);
        found |= starts;
    }
    return found != 0;
}

C4_INLINE int32_t c4_turn(const c4_state *s) { return __builtin_parityll(s->all); }

C4_INLINE int32_t c4_to_play(const c4_layout *g, const c4_state *s) {
    if (s->all == g->board || c4_line(g, s->own ^ s->all)) return PLAYOUT_TERMINAL;
    return c4_turn(s);
}

C4_INLINE int32_t c4_legal(const c4_layout *g, const c4_state *s, int32_t *actions) {
    const uint64_t free = (s->all + g->bottom) & g->board;
    int32_t count = 0;
    if (c4_line(g, s->own ^ s->all)) return 0;
    for (int32_t x = 0; x < g->width; x++) {
        actions[count] = x;
        count += (free & g->column[x]) != 0;
    }
    return count;
}

C4_INLINE void c4_apply(const c4_layout *g, c4_state *s, int32_t column) {
    const uint64_t stone = (s->all + g->bottom) & g->column[column];
    s->own ^= s->all; /* the other side's stones: it moves next */
    s->all |= stone;
}

C4_INLINE void c4_returns(const c4_layout *g, const c4_state *s, float *values) {
    const float won = (float)c4_line(g, s->own ^ s->all);
    const int32_t mover = c4_turn(s);
    values[mover] = 0.0f - won;
    values[1 - mover] = won;
}

/* Own stones, the other's stones; row 0 is the top row. */
C4_INLINE void c4_observe(const c4_layout *g, const c4_state *s, int32_t player, float *obs) {
    const uint64_t other = s->own ^ s->all;
    const uint64_t first = player == c4_turn(s) ? s->own : other;
    const uint64_t second = first ^ s->all;
    float *out = obs;
    for (int32_t plane = 0; plane < 2; plane++) {
        const uint64_t stones = plane == 0 ? first : second;
        for (int32_t y = g->height - 1; y >= 0; y--)
            for (int32_t x = 0; x < g->width; x++) *out++ = (float)((stones >> (x * (g->height + 1) + y)) & 1);
    }
}

/* Seven bits as seven numbers, for the rows of the standard board. */
#define C4_ROW(i) {(i) & 1, (i) >> 1 & 1, (i) >> 2 & 1, (i) >> 3 & 1, (i) >> 4 & 1, (i) >> 5 & 1, (i) >> 6 & 1}
#define C4_ROWS4(i) C4_ROW(i), C4_ROW((i) + 1), C4_ROW((i) + 2), C4_ROW((i) + 3)
#define C4_ROWS16(i) C4_ROWS4(i), C4_ROWS4((i) + 4), C4_ROWS4((i) + 8), C4_ROWS4((i) + 12)
#define C4_ROWS64(i) C4_ROWS16(i), C4_ROWS16((i) + 16), C4_ROWS16((i) + 32), C4_ROWS16((i) + 48)
static const float C4_ROW_OF[128][7] = {C4_ROWS64(0), C4_ROWS64(64)};

/* The same on 7 x 6, a row at a time: the multiplication moves bit 7 x of a row to bit 42 + x, and no two bits meet. */
static inline void c4_observe_rows(const c4_state *s, int32_t player, float *obs) {
    const uint64_t first = player == c4_turn(s) ? s->own : s->own ^ s->all;
    const uint64_t gather = UINT64_C(0x41041041040);
    for (int32_t plane = 0; plane < 2; plane++) {
        const uint64_t stones = plane == 0 ? first : first ^ s->all;
        for (int32_t y = 5; y >= 0; y--, obs += 7) {
            const uint64_t row = (stones >> y) & C4_STANDARD.bottom;
            memcpy(obs, C4_ROW_OF[(row * gather >> 42) & 127], sizeof C4_ROW_OF[0]);
        }
    }
}

/* own + all is unique: in every column the sum tells the height and the colours. */
C4_INLINE uint64_t c4_hash(const c4_state *s) { return playout_mix(s->own + s->all + UINT64_C(0x9E3779B97F4A7C15)); }

C4_INLINE uint64_t c4_mirror_stones(const c4_layout *g, uint64_t stones) {
    const int32_t step = g->height + 1;
    uint64_t out = 0;
    for (int32_t x = 0; x < g->width; x++) out |= ((stones >> (x * step)) & g->column[0]) << ((g->width - 1 - x) * step);
    return out;
}

C4_INLINE void c4_symmetry(const c4_layout *g, const c4_state *s, int32_t k, c4_state *out) {
    out->own = k ? c4_mirror_stones(g, s->own) : s->own;
    out->all = k ? c4_mirror_stones(g, s->all) : s->all;
}

/* One random game. Columns are the digits, in base `width`, of a random fraction: they do not depend on the board, so
 * the processor runs ahead of the dependent part; a full column is drawn again, which keeps legal moves equally likely.
 */
C4_INLINE void c4_playout(const c4_layout *g, const c4_state *s, playout_rng *rng, float *values) {
    uint64_t own = s->own, all = s->all, fraction = 0;
    /* No line can be there before one side has `run` stones. */
    int32_t safe = 2 * g->run - 2 - (int32_t)__builtin_popcountll(all);
    int32_t left = 0, winner;
    values[0] = values[1] = 0.0f;
    if (c4_line(g, own ^ all)) {
        c4_returns(g, s, values);
        return;
    }
    while (all != g->board) {
        if (left-- == 0) {
            fraction = playout_rng_next(rng);
            left = g->digits - 1;
        }
        const unsigned __int128 product = (unsigned __int128)fraction * (uint64_t)g->width;
        const uint64_t stone = (all + g->bottom) & g->column[(uint64_t)(product >> 64)];
        fraction = (uint64_t)product;
        if (!stone) continue;
        own ^= all; /* from here on the stones of the side that waits */
        all |= stone;
        if (safe-- > 0) continue;
        if (c4_line(g, own ^ all)) {
            winner = 1 - __builtin_parityll(all);
            values[winner] = 1.0f;
            values[1 - winner] = -1.0f;
            return;
        }
    }
}

#endif
