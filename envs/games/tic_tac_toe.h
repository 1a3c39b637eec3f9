/* The rules of tic-tac-toe and its function table. Cells count from 0 at the top left, row by row; in text from 1.
 *
 * One line of text is the three rows, "X" for the first player, "O" for the second, "." for empty, joined by "/".
 */
#ifndef PLAYOUT_TIC_TAC_TOE_H
#define PLAYOUT_TIC_TAC_TOE_H

#include <stdio.h>
#include <string.h>

#include "playout_maker.h"

#define TTT_FULL 0x1FFu

typedef struct ttt_state {
    uint32_t own; /* stones of the side to move */
    uint32_t all;
} ttt_state;

/* The eight symmetries: TTT_MAP[k][cell] is where the cell goes. Rotations first, then the mirrored ones. */
static const uint8_t TTT_MAP[8][9] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8}, {2, 5, 8, 1, 4, 7, 0, 3, 6}, {8, 7, 6, 5, 4, 3, 2, 1, 0}, {6, 3, 0, 7, 4, 1, 8, 5, 2},
    {2, 1, 0, 5, 4, 3, 8, 7, 6}, {8, 5, 2, 7, 4, 1, 6, 3, 0}, {6, 7, 8, 3, 4, 5, 0, 1, 2}, {0, 3, 6, 1, 4, 7, 2, 5, 8},
};

/* Does the set of cells hold a row, a column or a diagonal? */
static inline int ttt_line(uint32_t stones) {
    const uint32_t rows = stones & (stones >> 1) & (stones >> 2) & 0x49u;
    const uint32_t columns = stones & (stones >> 3) & (stones >> 6) & 0x7u;
    const uint32_t diagonals = ((stones & 0x111u) == 0x111u) | ((stones & 0x54u) == 0x54u);
    return (rows | columns | diagonals) != 0;
}

static inline int32_t ttt_turn(const ttt_state *s) { return __builtin_parity(s->all); }

static void ttt_init(const playout_game *game, void *state) { memset(state, 0, sizeof(ttt_state)); }

static int32_t ttt_to_play(const playout_game *game, const void *state) {
    const ttt_state *s = (const ttt_state *)state;
    return s->all == TTT_FULL || ttt_line(s->own ^ s->all) ? PLAYOUT_TERMINAL : ttt_turn(s);
}

static int32_t ttt_legal(const playout_game *game, const void *state, int32_t *actions) {
    const ttt_state *s = (const ttt_state *)state;
    int32_t count = 0;
    if (ttt_line(s->own ^ s->all)) return 0;
    for (uint32_t free = ~s->all & TTT_FULL; free; free &= free - 1) actions[count++] = __builtin_ctz(free);
    return count;
}

static void ttt_apply(const playout_game *game, void *state, int32_t action) {
    ttt_state *s = (ttt_state *)state;
    s->own ^= s->all;
    s->all |= 1u << action;
}

static void ttt_returns(const playout_game *game, const void *state, float *values) {
    const ttt_state *s = (const ttt_state *)state;
    const float won = (float)ttt_line(s->own ^ s->all);
    const int32_t mover = ttt_turn(s);
    values[mover] = 0.0f - won;
    values[1 - mover] = won;
}

static void ttt_observe(const playout_game *game, const void *state, int32_t player, float *obs) {
    const ttt_state *s = (const ttt_state *)state;
    const uint32_t mine = player == ttt_turn(s) ? s->own : s->own ^ s->all;
    for (int32_t cell = 0; cell < 9; cell++) {
        obs[cell] = (float)((mine >> cell) & 1);
        obs[9 + cell] = (float)(((mine ^ s->all) >> cell) & 1);
    }
}

static uint64_t ttt_hash(const playout_game *game, const void *state) {
    return playout_hash_bytes(state, sizeof(ttt_state));
}

static void ttt_symmetry(const playout_game *game, const void *state, int32_t k, void *out) {
    const ttt_state *s = (const ttt_state *)state;
    ttt_state t = {0, 0};
    for (int32_t cell = 0; cell < 9; cell++) {
        t.own |= ((s->own >> cell) & 1u) << TTT_MAP[k][cell];
        t.all |= ((s->all >> cell) & 1u) << TTT_MAP[k][cell];
    }
    memcpy(out, &t, sizeof t);
}

static int32_t ttt_symmetry_action(const playout_game *game, int32_t k, int32_t action) { return TTT_MAP[k][action]; }

static int32_t ttt_write_action(const playout_game *game, const void *state, int32_t action, char *text) {
    text[0] = (char)('1' + action);
    text[1] = 0;
    return 1;
}

static int32_t ttt_read_action(const playout_game *game, const void *state, const char *text) {
    return text[0] >= '1' && text[0] <= '9' && text[1] == 0 ? text[0] - '1' : -1;
}

static int32_t ttt_write_rows(const ttt_state *s, int spaced, char end, char *text) {
    const uint32_t first = ttt_turn(s) ? s->own ^ s->all : s->own;
    char *out = text;
    for (int32_t cell = 0; cell < 9; cell++) {
        if (cell && cell % 3 == 0)
            *out++ = end;
        else if (cell && spaced)
            *out++ = ' ';
        *out++ = !((s->all >> cell) & 1u) ? '.' : ((first >> cell) & 1u) ? 'X' : 'O';
    }
    *out = 0;
    return (int32_t)(out - text);
}

static int32_t ttt_write_state(const playout_game *game, const void *state, char *text) {
    return ttt_write_rows((const ttt_state *)state, 0, '/', text);
}

static int32_t ttt_write_board(const playout_game *game, const void *state, char *text) {
    return ttt_write_rows((const ttt_state *)state, 1, '\n', text);
}

/* Counts and lines decide: two lines of one side always share the cell that was played last. */
static int32_t ttt_check(const playout_game *game, const void *state) {
    const ttt_state *s = (const ttt_state *)state;
    const int32_t count = __builtin_popcount(s->all);
    if ((s->all & ~TTT_FULL) || (s->own & ~s->all)) return -1;
    return __builtin_popcount(s->own) == count / 2 && !ttt_line(s->own) ? 0 : -1;
}

static int32_t ttt_read_state(const playout_game *game, void *state, const char *text) {
    ttt_state *s = (ttt_state *)state;
    uint32_t stones[2] = {0, 0};
    for (int32_t cell = 0; cell < 9; cell++, text++) {
        if (cell && cell % 3 == 0 && *text++ != '/') return -1;
        if (*text == 'X')
            stones[0] |= 1u << cell;
        else if (*text == 'O')
            stones[1] |= 1u << cell;
        else if (*text != '.')
            return -1;
    }
    if (*text) return -1;
    s->all = stones[0] | stones[1];
    s->own = stones[ttt_turn(s)];
    return ttt_check(game, state);
}

/* Cells are drawn from base-9 digits; an occupied one is drawn again, which keeps free cells equally likely. */
static void ttt_playout(const playout_game *game, const void *state, playout_rng *rng, float *values) {
    ttt_state s = *(const ttt_state *)state;
    uint64_t fraction = 0;
    int32_t left = 0;
    while (s.all != TTT_FULL && !ttt_line(s.own ^ s.all)) {
        uint32_t cell;
        do {
            if (left-- == 0) {
                fraction = playout_rng_next(rng);
                left = 9;
            }
            const unsigned __int128 product = (unsigned __int128)fraction * 9;
            cell = 1u << (uint32_t)(product >> 64);
            fraction = (uint64_t)product;
        } while (s.all & cell);
        s.own ^= s.all;
        s.all |= cell;
    }
    ttt_returns(game, &s, values);
}

static int32_t ttt_plies_left(const playout_game *game, const void *state) {
    const ttt_state *s = (const ttt_state *)state;
    return ttt_to_play(game, state) < 0 ? 0 : 9 - __builtin_popcount(s->all);
}

static int32_t ttt_write_goal(const playout_game *game, char *text) {
    return snprintf(text, PLAYOUT_TEXT_SIZE,
                    "Who first has three in a row, level, upright or diagonal, wins; a full board is a draw.");
}

static const char *ttt_make(playout_game *game, const double *values) {
    playout_game_begin(game, "tic_tac_toe");
    game->num_players = 2;
    game->num_actions = 9;
    game->max_plies = 9;
    game->obs_shape[0] = 2;
    game->obs_shape[1] = 3;
    game->obs_shape[2] = 3;
    game->state_size = (int32_t)sizeof(ttt_state);
    game->num_symmetries = 8;
    game->init = ttt_init;
    game->to_play = ttt_to_play;
    game->legal = ttt_legal;
    game->apply = ttt_apply;
    game->returns = ttt_returns;
    game->observe = ttt_observe;
    game->hash = ttt_hash;
    game->symmetry = ttt_symmetry;
    game->symmetry_action = ttt_symmetry_action;
    game->write_action = ttt_write_action;
    game->read_action = ttt_read_action;
    game->write_state = ttt_write_state;
    game->read_state = ttt_read_state;
    game->write_board = ttt_write_board;
    game->write_goal = ttt_write_goal;
    game->check = ttt_check;
    game->playout = ttt_playout;
    game->flags = PLAYOUT_ZERO_SUM;
    game->max_legal = 9;
    game->side_planes[0] = 0; /* the mover's stones; as many as the other's, or one less */
    game->side_planes[1] = 1;
    game->plies_left = ttt_plies_left;
    return NULL;
}

static const playout_param TTT_PARAMS[] = {PLAYOUT_PARAMS_END};

static const playout_maker TIC_TAC_TOE = {"tic_tac_toe", TTT_PARAMS, ttt_make};

#endif
