/* Breakthrough on boards of up to 128 cells: two rows of pawns a side, and who reaches the other end first wins.
 *
 * A pawn steps one row on: straight or diagonally onto an empty cell, or diagonally onto one of the other's pawns, which
 * it takes. Whoever has no pawn left has lost too. There is always a move, since the foremost pawn can step diagonally.
 *
 * A state shows the board to the side to move, whose pawns go up; it is turned upside down with every ply. So do
 * observations and actions: plane 0 steps to the upper left, plane 1 straight, plane 2 to the upper right, each a cell a
 * pawn, row by row from the top. Text is as in chess: "b2c3", and lines such as FEN's, "ppp/1P1/... w", white first.
 *
 * Up to 8x8 a set of cells is a word of 64 bits, a row a byte; other boards take 128. The rules stand in
 * breakthrough/rules.h, the rest of the table in breakthrough/table.h, both written once for either word.
 */
#ifndef PLAYOUT_BREAKTHROUGH_H
#define PLAYOUT_BREAKTHROUGH_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "playout_maker.h"
#include "playout_text.h"

#include "playout_bits.h"

#define BT_MAX_CELLS 128

typedef struct bt64_state {
    uint64_t own, other; /* pawns of the side to move, which go up, and of the one that waits */
    uint32_t turn, zero;
} bt64_state;

typedef struct bt128_state {
    playout_bits128 own, other;
    uint32_t turn, zero;
} bt128_state;

typedef struct bt_layout {
    playout_bits128 board, top, bottom, not_left, not_right;
    int32_t rows, columns, cells, stride;
    uint8_t bit[BT_MAX_CELLS];  /* of each cell */
    uint8_t cell[BT_MAX_CELLS]; /* of each bit on the board */
} bt_layout;

PLAYOUT_INLINE uint64_t bt_upset64(const bt_layout *layout, uint64_t set) {
    return __builtin_bswap64(set) >> (8 * (8 - layout->rows));
}

static inline playout_bits128 bt_upset128(const bt_layout *layout, unsigned __int128 set) {
    unsigned __int128 out = 0;
    for (int32_t row = 0; row < layout->rows; row++, set >>= layout->stride)
        out = (out << layout->stride) | (set & layout->top);
    return out;
}

static inline int32_t bt_mirrored_cell(const bt_layout *layout, int32_t cell) {
    return cell + layout->columns - 1 - 2 * (cell % layout->columns);
}

static int32_t bt_symmetry_action(const playout_game *game, int32_t k, int32_t action) {
    const bt_layout *layout = (const bt_layout *)game->context;
    const int32_t way = action / layout->cells;
    return k ? (2 - way) * layout->cells + bt_mirrored_cell(layout, action % layout->cells) : action;
}

/* "b2c3": from and to. Off the board, where no legal action leads, '<', '^' or '>' stands for the cell. */
static int32_t bt_write_step(const bt_layout *layout, uint32_t turn, int32_t action, char *text) {
    const int32_t way = action / layout->cells, cell = action % layout->cells;
    const int32_t row = cell / layout->columns, column = cell % layout->columns, to = column + way - 1;
    const int32_t rank = turn ? row + 1 : layout->rows - row;
    const int32_t length = sprintf(text, "%c%d", 'a' + column, rank);
    if (row == 0 || to < 0 || to >= layout->columns) return length + sprintf(text + length, "%c", "<^>"[way]);
    return length + sprintf(text + length, "%c%d", 'a' + to, turn ? rank - 1 : rank + 1);
}

/* Reads "b2" and moves on behind it; the cell as player 0 sees it, or -1. */
static int32_t bt_read_cell(const bt_layout *layout, const char **text) {
    const int32_t column = playout_lower(**text) - 'a';
    int32_t rank = 0;
    if (column < 0 || column >= layout->columns || *++*text == '0') return -1;
    while (**text >= '0' && **text <= '9' && rank <= layout->rows) rank = 10 * rank + (*(*text)++ - '0');
    return rank >= 1 && rank <= layout->rows ? (layout->rows - rank) * layout->columns + column : -1;
}

static int32_t bt_read_step(const bt_layout *layout, uint32_t turn, const char *text) {
    const int32_t from = bt_read_cell(layout, &text);
    if (from < 0) return -1;
    const int32_t column = from % layout->columns;
    int32_t row = from / layout->columns, way = (*text == '<') ? 0 : (*text == '^') ? 1 : (*text == '>') ? 2 : -1;
    const int off = way >= 0; /* as bt_write_step() writes what leads off the board, and nothing else */
    if (off) {
        text++;
    } else {
        const int32_t to = bt_read_cell(layout, &text);
        if (to < 0 || to / layout->columns != (turn ? row + 1 : row - 1)) return -1;
        way = to % layout->columns - column + 1;
        if (way < 0 || way > 2) return -1;
    }
    if (turn) row = layout->rows - 1 - row;
    const int32_t to = column + way - 1;
    if (*text || off != (row == 0 || to < 0 || to >= layout->columns)) return -1;
    return way * layout->cells + row * layout->columns + column;
}

/* Behind the side to move: nothing, or what FEN says there in this game, " - - 0 1". */
static int bt_counters(const char *text) {
    if (!*text) return 1;
    if (strncmp(text, " - -", 4) != 0) return 0;
    text += 4;
    for (int32_t number = 0; number < 2; number++) {
        if (*text++ != ' ' || *text < '0' || *text > '9') return 0;
        while (*text >= '0' && *text <= '9') text++;
    }
    return !*text;
}

#define BT_WORD uint64_t
#define BT_BITS(name) playout_##name##64
#define BT_STATE bt64_state
#define BT_STRIDE 8
#define BT_UPSET bt_upset64

#define BT(name) bt64_##name
#define BT_NEWER 0
#define BT_TARGET
#include "breakthrough/rules.h"

#define BT(name) bt64_newer_##name
#define BT_NEWER 1
#define BT_TARGET PLAYOUT_NEWER
#include "breakthrough/rules.h"

#undef BT_WORD
#undef BT_BITS
#undef BT_STATE
#undef BT_STRIDE
#undef BT_UPSET

#define BT_WORD playout_bits128
#define BT_BITS(name) playout_##name##128
#define BT_STATE bt128_state
#define BT_STRIDE layout->stride
#define BT_UPSET bt_upset128

#define BT(name) bt128_##name
#define BT_NEWER 0
#define BT_TARGET
#include "breakthrough/rules.h"

#define BT(name) bt128_newer_##name
#define BT_NEWER 1
#define BT_TARGET PLAYOUT_NEWER
#include "breakthrough/rules.h"

#undef BT_WORD
#undef BT_BITS
#undef BT_STATE
#undef BT_STRIDE
#undef BT_UPSET

static void bt_destroy(playout_game *game) { free(game->context); }

static int32_t bt_write_goal(const playout_game *game, char *text) {
    return snprintf(text, PLAYOUT_TEXT_SIZE,
                    "Pawns step one row on and take diagonally. Who first reaches the other end of the board, or takes "
                    "the last pawn of the other side, wins.");
}

static const char *bt_make(playout_game *game, const double *values) {
    const int32_t rows = (int32_t)values[0], columns = values[1] != 0 ? (int32_t)values[1] : rows;
    if (columns < 2 || rows * columns > BT_MAX_CELLS) return "it needs columns >= 2 and size * columns <= 128";
    const int narrow = rows <= 8 && columns <= 8;
    bt_layout *layout = (bt_layout *)calloc(1, sizeof *layout);
    if (layout == NULL) return PLAYOUT_NO_MEMORY;
    layout->rows = rows;
    layout->columns = columns;
    layout->cells = rows * columns;
    layout->stride = narrow ? 8 : columns;
    for (int32_t cell = 0; cell < layout->cells; cell++) {
        const int32_t row = cell / columns, column = cell % columns, at = row * layout->stride + column;
        const unsigned __int128 bit = (unsigned __int128)1 << at;
        layout->bit[cell] = (uint8_t)at;
        layout->cell[at] = (uint8_t)cell;
        layout->board |= bit;
        if (row == 0) layout->top |= bit;
        if (row == rows - 1) layout->bottom |= bit;
        if (column > 0) layout->not_left |= bit;
        if (column < columns - 1) layout->not_right |= bit;
    }
    playout_game_begin(game, "breakthrough");
    game->num_players = 2;
    game->num_actions = 3 * layout->cells;
    game->max_plies = 2 * columns * (2 * rows - 5) + 1; /* all steps that do not arrive, and one that does */
    game->obs_shape[0] = 2;                             /* own pawns, the other's */
    game->obs_shape[1] = rows;
    game->obs_shape[2] = columns;
    game->num_symmetries = 2;
    game->params[0] = rows;
    game->params[1] = columns;
    game->context = layout;
    game->destroy = bt_destroy;
    game->symmetry_action = bt_symmetry_action;
    game->write_goal = bt_write_goal;
    game->flags = PLAYOUT_ZERO_SUM;
    game->max_legal = 3 * 2 * columns; /* three steps for each of two rows of pawns */
    if (narrow)
        bt64_fill(game);
    else
        bt128_fill(game);
    if (playout_newer()) {
        game->apply = narrow ? bt64_newer_apply : bt128_newer_apply;
        game->playout = narrow ? bt64_newer_playout : bt128_newer_playout;
    }
    return NULL;
}

static const playout_param BT_PARAMS[] = {
    PLAYOUT_INTEGER_PARAM("size", 8, 4, 64),    /* rows */
    PLAYOUT_INTEGER_PARAM("columns", 0, 0, 26), /* 0: as many as rows */
    PLAYOUT_PARAMS_END,
};

static const playout_maker BREAKTHROUGH = {"breakthrough", BT_PARAMS, bt_make};

#endif
