/* Othello on 4x4, 6x6, 8x8 and 10x10: a disc turns what it encloses; whoever cannot move passes, which is a ply.
 *
 * Cells count from 0 at the top left, row by row; in text "a1" to "h8", "pass" after the last cell. X moves first. One
 * line of text is all cells, "X", "O" or "-", a blank and the side to move. The result is who has more discs, and the
 * score by how many: empty cells count for nobody.
 *
 * A state holds the discs of both sides, and the legal moves, which are found once, when it is made. Up to 8x8 a set of
 * cells is a word of 64 bits, and boards below 8x8 lie in its middle; 10x10 takes 128. The rules stand in
 * othello/rules.h, the rest of the table in othello/table.h, both written once for either word.
 */
#ifndef PLAYOUT_OTHELLO_H
#define PLAYOUT_OTHELLO_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "playout_maker.h"
#include "playout_text.h"

#include "playout_bits.h"

#define OTH_MAX_CELLS 100

typedef struct oth64_state {
    uint64_t own, other; /* discs of the side to move, and of the one that waits */
    uint64_t moves;      /* where the side to move may lay a disc; none: it passes */
    uint32_t turn, over;
} oth64_state;

typedef struct oth128_state {
    playout_bits128 own, other, moves;
    uint32_t turn, over;
} oth128_state;

typedef struct oth_layout {
    playout_bits128 board;
    int32_t side, cells, first; /* first: the bit of cell 0 */
    uint8_t bit[OTH_MAX_CELLS]; /* of each cell */
    uint8_t cell[128];          /* of each bit on the board */
} oth_layout;

/* Where symmetry k takes a cell of a board: columns mirrored, rows mirrored, then rows and columns exchanged. */
static inline int32_t oth_mapped_cell(int32_t cell, int32_t side, int32_t k) {
    const int32_t row = k & 2 ? side - 1 - cell / side : cell / side;
    const int32_t column = k & 1 ? side - 1 - cell % side : cell % side;
    return k & 4 ? column * side + row : row * side + column;
}

static int32_t oth_symmetry_action(const playout_game *game, int32_t k, int32_t action) {
    const oth_layout *layout = (const oth_layout *)game->context;
    return action == layout->cells ? action : oth_mapped_cell(action, layout->side, k);
}

static int32_t oth_write_action(const playout_game *game, const void *state, int32_t action, char *text) {
    const oth_layout *layout = (const oth_layout *)game->context;
    if (action == layout->cells) return sprintf(text, "pass");
    return sprintf(text, "%c%d", 'a' + action % layout->side, 1 + action / layout->side);
}

static int32_t oth_read_action(const playout_game *game, const void *state, const char *text) {
    const oth_layout *layout = (const oth_layout *)game->context;
    int32_t row;
    const int32_t column = playout_read_cell(text, &row);
    if (playout_same_word(text, "pass")) return layout->cells;
    if (column < 0 || column >= layout->side || row > layout->side) return -1;
    return (row - 1) * layout->side + column;
}

#define OTH_WORD uint64_t
#define OTH_BITS(name) playout_##name##64
#define OTH_STATE oth64_state
#define OTH_STRIDE 8
#define OTH_INNER UINT64_C(0x7E7E7E7E7E7E7E7E)
#define OTH_FIRST UINT64_C(0x0101010101010101)

#define OTH(name) oth64_##name
#define OTH_NEWER 0
#define OTH_TARGET
#include "othello/rules.h"

#define OTH(name) oth64_newer_##name
#define OTH_NEWER 1
#define OTH_TARGET PLAYOUT_NEWER
#include "othello/rules.h"

#undef OTH_WORD
#undef OTH_BITS
#undef OTH_STATE
#undef OTH_STRIDE
#undef OTH_INNER
#undef OTH_FIRST

/* Column 0 of ten rows of ten. */
#define OTH_FIRST_128 (((unsigned __int128)UINT64_C(0x4010040) << 64) | UINT64_C(0x1004010040100401))

#define OTH_WORD playout_bits128
#define OTH_BITS(name) playout_##name##128
#define OTH_STATE oth128_state
#define OTH_STRIDE 10
#define OTH_INNER (OTH_FIRST_128 * 0x1FE)
#define OTH_FIRST OTH_FIRST_128

#define OTH(name) oth128_##name
#define OTH_NEWER 0
#define OTH_TARGET
#include "othello/rules.h"

#define OTH(name) oth128_newer_##name
#define OTH_NEWER 1
#define OTH_TARGET PLAYOUT_NEWER
#include "othello/rules.h"

#undef OTH_WORD
#undef OTH_BITS
#undef OTH_STATE
#undef OTH_STRIDE
#undef OTH_INNER
#undef OTH_FIRST

/* A bound of the number of moves. Each ends, in some direction, a run of the other's discs that starts at an own disc: an
 * own disc starts at most 8 runs, and one of the other's ends at most one run along each of its 4 lines. */
static int32_t oth_max_legal(int32_t cells) {
    int32_t most = 1;
    for (int32_t own = 1; own < cells; own++)
        for (int32_t other = 1; own + other < cells; other++) {
            int32_t bound = cells - own - other;
            if (bound > 8 * own) bound = 8 * own;
            if (bound > 4 * other) bound = 4 * other;
            if (bound > most) most = bound;
        }
    return most;
}

static void oth_destroy(playout_game *game) { free(game->context); }

static int32_t oth_write_goal(const playout_game *game, char *text) {
    return snprintf(text, PLAYOUT_TEXT_SIZE,
                    "A disc turns the other side's discs that it encloses in a line, and who encloses none passes. When "
                    "nobody can move, more discs win; as many are a draw.");
}

static const char *oth_make(playout_game *game, const double *values) {
    const int32_t side = (int32_t)values[0], stride = side > 8 ? 10 : 8;
    oth_layout *layout;
    if (side % 2) return "the size must be even";
    layout = (oth_layout *)calloc(1, sizeof *layout);
    if (layout == NULL) return PLAYOUT_NO_MEMORY;
    layout->side = side;
    layout->cells = side * side;
    layout->first = (stride - side) / 2 * (stride + 1);
    for (int32_t cell = 0; cell < layout->cells; cell++) {
        const int32_t bit = layout->first + cell / side * stride + cell % side;
        layout->bit[cell] = (uint8_t)bit;
        layout->cell[bit] = (uint8_t)cell;
        layout->board |= (unsigned __int128)1 << bit;
    }
    playout_game_begin(game, "othello");
    game->num_players = 2;
    game->num_actions = layout->cells + 1;
    game->max_plies = 2 * (layout->cells - 4) - 1; /* a pass before every disc but the first */
    game->obs_shape[0] = 2;                        /* own discs, the other's */
    game->obs_shape[1] = side;
    game->obs_shape[2] = side;
    game->num_symmetries = 8;
    game->params[0] = side;
    game->context = layout;
    game->destroy = oth_destroy;
    game->symmetry_action = oth_symmetry_action;
    game->write_action = oth_write_action;
    game->read_action = oth_read_action;
    game->write_goal = oth_write_goal;
    game->flags = PLAYOUT_ZERO_SUM;
    game->max_legal = oth_max_legal(layout->cells);
    game->target_planes = 1; /* whose disc lies on each cell */
    if (side > 8)
        oth128_fill(game);
    else
        oth64_fill(game);
    if (playout_newer()) {
        game->apply = side > 8 ? oth128_newer_apply : oth64_newer_apply;
        game->playout = side > 8 ? oth128_newer_playout : oth64_newer_playout;
    }
    return NULL;
}

static const playout_param OTH_PARAMS[] = {
    PLAYOUT_INTEGER_PARAM("size", 8, 4, 10),
    PLAYOUT_PARAMS_END,
};

static const playout_maker OTHELLO = {"othello", OTH_PARAMS, oth_make};

#endif
