/* The rules of Hex on a rhombus of size x size cells: the first player joins top and bottom, the second left and right.
 *
 * Cells count from 0 at the top left, row by row; the neighbours of (row, column) are those left and right, above and
 * above right, below and below left. With the swap rule the second player may answer the first stone by playing on it:
 * the stone then becomes one of the second player's, mirrored so that rows and columns change places.
 *
 * A state keeps, beside the stones, those of each side that are joined to its first edge, the top or the left one. Each
 * stone enters that set once, so that a game costs one search of the board in all, and a side has won when its set
 * reaches the far edge.
 */
#ifndef PLAYOUT_HEX_H
#define PLAYOUT_HEX_H

#include <stdlib.h>
#include <string.h>

#include "playout_maker.h"
#include "playout_text.h"

#define HEX_MAX_SIZE 19
#define HEX_MAX_CELLS (HEX_MAX_SIZE * HEX_MAX_SIZE)
#define HEX_MAX_WORDS ((HEX_MAX_CELLS + 63) / 64)

typedef struct hex_layout {
    int32_t size, cells, words, swap;
    uint8_t row[HEX_MAX_CELLS], column[HEX_MAX_CELLS];
    int16_t neighbor[HEX_MAX_CELLS][8]; /* up to six, ended by -1 */
} hex_layout;

/* Four sets of layout.words words follow: the stones of both sides, then their stones joined to the first edge. */
typedef struct hex_state {
    int16_t stones; /* how many lie on the board */
    int8_t turn;    /* who moves, or would if the game went on */
    int8_t won;     /* 1 where the last stone joined both edges of its side */
    int32_t zero;
    uint64_t sets[];
} hex_state;

static inline const hex_layout *hex_of(const playout_game *game) { return (const hex_layout *)game->context; }

static inline int hex_bit(const uint64_t *set, int32_t cell) { return (int)(set[cell >> 6] >> (cell & 63) & 1); }
static inline void hex_add(uint64_t *set, int32_t cell) { set[cell >> 6] |= UINT64_C(1) << (cell & 63); }

static void hex_layout_set(hex_layout *g, int32_t size, int32_t swap) {
    static const int8_t steps[6][2] = {{-1, 0}, {-1, 1}, {0, -1}, {0, 1}, {1, -1}, {1, 0}};
    memset(g, 0, sizeof *g);
    g->size = size;
    g->cells = size * size;
    g->words = (g->cells + 63) / 64;
    g->swap = swap;
    for (int32_t cell = 0; cell < g->cells; cell++) {
        int32_t count = 0;
        g->row[cell] = (uint8_t)(cell / size);
        g->column[cell] = (uint8_t)(cell % size);
        for (int32_t i = 0; i < 6; i++) {
            const int32_t row = cell / size + steps[i][0], column = cell % size + steps[i][1];
            if (row < 0 || column < 0 || row >= size || column >= size) continue;
            g->neighbor[cell][count++] = (int16_t)(row * size + column);
        }
        g->neighbor[cell][count] = -1;
    }
}

/* How far a cell lies from the first edge of a side. */
static inline int32_t hex_depth(const hex_layout *g, int32_t side, int32_t cell) {
    return side ? g->column[cell] : g->row[cell];
}

/* Adds a stone that joins the first edge, and all that hang on it, to `joined`; 1 if they reach the far edge. */
static int hex_join(const hex_layout *g, const uint64_t *own, uint64_t *joined, int32_t side, int32_t cell) {
    int16_t stack[HEX_MAX_CELLS];
    int32_t height = 0;
    int won = 0;
    stack[height++] = (int16_t)cell;
    hex_add(joined, cell);
    while (height) {
        const int32_t here = stack[--height];
        won |= hex_depth(g, side, here) == g->size - 1;
        for (const int16_t *next = g->neighbor[here]; *next >= 0; next++) {
            if (!hex_bit(own, *next) || hex_bit(joined, *next)) continue;
            hex_add(joined, *next);
            stack[height++] = *next;
        }
    }
    return won;
}

/* Puts a stone down; 1 if it joins both edges. */
static int hex_put(const hex_layout *g, hex_state *s, int32_t side, int32_t cell) {
    uint64_t *own = s->sets + side * g->words, *joined = s->sets + (2 + side) * g->words;
    int touches = hex_depth(g, side, cell) == 0;
    hex_add(own, cell);
    s->stones++;
    for (const int16_t *next = g->neighbor[cell]; *next >= 0; next++) touches |= hex_bit(joined, *next);
    return touches && hex_join(g, own, joined, side, cell);
}

static void hex_init(const playout_game *game, void *state) { memset(state, 0, (size_t)game->state_size); }

static int32_t hex_to_play(const playout_game *game, const void *state) {
    const hex_state *s = (const hex_state *)state;
    return s->won ? PLAYOUT_TERMINAL : s->turn;
}

/* May the side to move take over the stone on the board? */
static inline int hex_may_swap(const hex_layout *g, const hex_state *s) { return g->swap && s->stones == 1 && s->turn == 1; }

static int32_t hex_legal(const playout_game *game, const void *state, int32_t *actions) {
    const hex_layout *g = hex_of(game);
    const hex_state *s = (const hex_state *)state;
    const int32_t last = g->cells & 63;
    const int swap = hex_may_swap(g, s);
    int32_t count = 0;
    if (s->won) return 0;
    for (int32_t word = 0; word < g->words; word++) {
        uint64_t free = swap ? ~UINT64_C(0) : ~(s->sets[word] | s->sets[g->words + word]);
        if (word == g->words - 1 && last) free &= (UINT64_C(1) << last) - 1;
        for (; free; free &= free - 1) actions[count++] = 64 * word + __builtin_ctzll(free);
    }
    return count;
}

static int32_t hex_is_legal(const playout_game *game, const void *state, int32_t action) {
    const hex_layout *g = hex_of(game);
    const hex_state *s = (const hex_state *)state;
    if (s->won) return 0;
    return (!hex_bit(s->sets, action) && !hex_bit(s->sets + g->words, action)) || hex_may_swap(g, s);
}

static void hex_apply(const playout_game *game, void *state, int32_t action) {
    const hex_layout *g = hex_of(game);
    hex_state *s = (hex_state *)state;
    const int32_t side = s->turn;
    if (hex_may_swap(g, s) && hex_bit(s->sets, action)) {
        hex_init(game, state);
        action = g->column[action] * g->size + g->row[action];
    }
    s->won = (int8_t)hex_put(g, s, side, action);
    s->turn = (int8_t)(1 - side);
}

static void hex_returns(const playout_game *game, const void *state, float *values) {
    const hex_state *s = (const hex_state *)state;
    values[s->turn] = 0.0f - (float)s->won;
    values[1 - s->turn] = (float)s->won;
}

/* The player's stones, the other's, and a plane of ones for the second player, whose edges are left and right. */
static void hex_observe(const playout_game *game, const void *state, int32_t player, float *obs) {
    const hex_layout *g = hex_of(game);
    const hex_state *s = (const hex_state *)state;
    const uint64_t *own = s->sets + player * g->words, *other = s->sets + (1 - player) * g->words;
    for (int32_t cell = 0; cell < g->cells; cell++) {
        obs[cell] = (float)hex_bit(own, cell);
        obs[g->cells + cell] = (float)hex_bit(other, cell);
        obs[2 * g->cells + cell] = (float)player;
    }
}

/* The half turn is the only symmetry that leaves each side its edges. */
static int32_t hex_symmetry_action(const playout_game *game, int32_t k, int32_t action) {
    return k ? hex_of(game)->cells - 1 - action : action;
}

/* The stones of each side that join its first edge, from the stones alone; returns the side that joins both, or -1. */
static int32_t hex_rejoin(const hex_layout *g, hex_state *s) {
    int32_t winner = -1;
    memset(s->sets + 2 * g->words, 0, (size_t)g->words * 16);
    for (int32_t side = 0; side < 2; side++) {
        const uint64_t *own = s->sets + side * g->words;
        uint64_t *joined = s->sets + (2 + side) * g->words;
        for (int32_t cell = 0; cell < g->cells; cell++)
            if (hex_depth(g, side, cell) == 0 && hex_bit(own, cell) && !hex_bit(joined, cell) &&
                hex_join(g, own, joined, side, cell))
                winner = side;
    }
    return winner;
}

static void hex_symmetry(const playout_game *game, const void *state, int32_t k, void *out) {
    const hex_layout *g = hex_of(game);
    const hex_state *s = (const hex_state *)state;
    hex_state *t = (hex_state *)out;
    memcpy(out, state, (size_t)game->state_size);
    if (!k) return;
    memset(t->sets, 0, (size_t)g->words * 32);
    for (int32_t side = 0; side < 2; side++)
        for (int32_t cell = 0; cell < g->cells; cell++)
            if (hex_bit(s->sets + side * g->words, cell)) hex_add(t->sets + side * g->words, g->cells - 1 - cell);
    hex_rejoin(g, t);
}

static int32_t hex_plies_left(const playout_game *game, const void *state) {
    const hex_layout *g = hex_of(game);
    const hex_state *s = (const hex_state *)state;
    if (s->won) return 0;
    return g->cells - s->stones + (g->swap && (s->stones == 0 || hex_may_swap(g, s)));
}

#endif
