/* Breakthrough on 5x5 as a capsule game: rules in C, in a package of its own, built against playout_game.h alone.
 *
 * Each side has two rows of pawns. A pawn steps one row forward, straight onto an empty cell, or diagonally onto a cell
 * that holds no pawn of its own side, taking what stands there. Whoever reaches the last row, or takes every pawn, wins.
 * There is always a move: the foremost pawn can step diagonally.
 *
 * Cell = 5 * row + column, row 0 at the bottom; the first player moves up. Action = 3 * cell + 0 left, 1 straight, 2 right.
 */
#include <Python.h>
#include <stdio.h>

#include "playout_game.h"

enum { SIDE = 5, CELLS = SIDE * SIDE };

typedef struct {
    uint32_t pawns[2];
    uint32_t turn;
    uint32_t zero; /* the size is a multiple of 8 */
} board;

static const uint32_t HOME[2] = {0x3FFu, 0x3FFu << 15};
static const uint32_t GOAL[2] = {0x1Fu << 20, 0x1Fu};

static int over(const board *b) {
    return (b->pawns[0] & GOAL[0]) || (b->pawns[1] & GOAL[1]) || !b->pawns[0] || !b->pawns[1];
}

/* Where the pawn would land, or -1 outside the board. */
static int target(uint32_t turn, int32_t action) {
    const int cell = action / 3, column = cell % SIDE + action % 3 - 1, row = cell / SIDE + (turn ? -1 : 1);
    return column < 0 || column >= SIDE || row < 0 || row >= SIDE ? -1 : SIDE * row + column;
}

static void init(const playout_game *game, void *state) {
    const board start = {{HOME[0], HOME[1]}, 0, 0};
    memcpy(state, &start, sizeof start);
}

static int32_t to_play(const playout_game *game, const void *state) {
    const board *b = state;
    return over(b) ? PLAYOUT_TERMINAL : (int32_t)b->turn;
}

static int32_t legal(const playout_game *game, const void *state, int32_t *actions) {
    const board *b = state;
    int32_t count = 0;
    if (over(b)) return 0;
    for (int32_t action = 0; action < 3 * CELLS; action++) {
        const int to = target(b->turn, action);
        if (!(b->pawns[b->turn] >> (action / 3) & 1) || to < 0) continue;
        if (b->pawns[b->turn] >> to & 1) continue;
        if (action % 3 == 1 && (b->pawns[1 - b->turn] >> to & 1)) continue;
        actions[count++] = action;
    }
    return count;
}

static void apply(const playout_game *game, void *state, int32_t action) {
    board *b = state;
    const uint32_t to = 1u << target(b->turn, action);
    b->pawns[b->turn] ^= (1u << (action / 3)) | to;
    b->pawns[1 - b->turn] &= ~to;
    b->turn = 1 - b->turn;
}

/* The side that has just moved has won: nobody loses by moving. */
static void returns(const playout_game *game, const void *state, float *values) {
    const board *b = state;
    values[b->turn] = -1.0f;
    values[1 - b->turn] = 1.0f;
}

/* Own pawns, the other's pawns, and a plane of ones for the first player, who moves up. */
static void observe(const playout_game *game, const void *state, int32_t player, float *obs) {
    const board *b = state;
    for (int row = 0; row < SIDE; row++)
        for (int column = 0; column < SIDE; column++) {
            const int cell = SIDE * (SIDE - 1 - row) + column, at = SIDE * row + column;
            obs[at] = (float)(b->pawns[player] >> cell & 1);
            obs[CELLS + at] = (float)(b->pawns[1 - player] >> cell & 1);
            obs[2 * CELLS + at] = (float)(player == 0);
        }
}

static uint64_t hash(const playout_game *game, const void *state) { return playout_hash_bytes(state, sizeof(board)); }

static void symmetry(const playout_game *game, const void *state, int32_t k, void *out) {
    board mirrored = *(const board *)state;
    if (k == 1) {
        const board *b = state;
        mirrored.pawns[0] = mirrored.pawns[1] = 0;
        for (int cell = 0; cell < CELLS; cell++)
            for (int side = 0; side < 2; side++)
                mirrored.pawns[side] |= (b->pawns[side] >> cell & 1) << (cell - cell % SIDE + SIDE - 1 - cell % SIDE);
    }
    memcpy(out, &mirrored, sizeof mirrored);
}

static int32_t symmetry_action(const playout_game *game, int32_t k, int32_t action) {
    const int32_t cell = action / 3;
    return k == 0 ? action : 3 * (cell - cell % SIDE + SIDE - 1 - cell % SIDE) + 2 - action % 3;
}

/* "b2c3": from and to. Off the board, where no legal action leads, "-" and the direction. */
static int32_t write_action(const playout_game *game, const void *state, int32_t action, char *text) {
    const int cell = action / 3, to = target(((const board *)state)->turn, action);
    if (to < 0) return sprintf(text, "%c%d-%d", 'a' + cell % SIDE, 1 + cell / SIDE, action % 3);
    return sprintf(text, "%c%d%c%d", 'a' + cell % SIDE, 1 + cell / SIDE, 'a' + to % SIDE, 1 + to / SIDE);
}

static int32_t read_action(const playout_game *game, const void *state, const char *text) {
    char written[PLAYOUT_TEXT_SIZE];
    for (int32_t action = 0; action < 3 * CELLS; action++) {
        write_action(game, state, action, written);
        if (strcmp(written, text) == 0) return action;
    }
    return -1;
}

static int32_t write_rows(const board *b, char end, char *text) {
    char *out = text;
    for (int row = SIDE - 1; row >= 0; row--) {
        for (int column = 0; column < SIDE; column++) {
            const int cell = SIDE * row + column;
            *out++ = b->pawns[0] >> cell & 1 ? 'X' : b->pawns[1] >> cell & 1 ? 'O' : '.';
        }
        *out++ = end;
    }
    *out++ = b->turn ? 'O' : 'X';
    *out = 0;
    return (int32_t)(out - text);
}

static int32_t write_state(const playout_game *game, const void *state, char *text) { return write_rows(state, '/', text); }
static int32_t write_board(const playout_game *game, const void *state, char *text) {
    const int32_t length = write_rows(state, '\n', text);
    return length + sprintf(text + length, " to move");
}

/* Necessary conditions: enough to keep bytes from a file from doing harm. */
static int32_t check(const playout_game *game, const void *state) {
    const board *b = state;
    if ((b->pawns[0] | b->pawns[1]) >> CELLS || (b->pawns[0] & b->pawns[1]) || b->turn > 1 || b->zero) return -1;
    /* Only the side that has just moved can have won, with one pawn on its goal. */
    if (b->pawns[b->turn] & GOAL[b->turn]) return -1;
    const uint32_t home = b->pawns[1 - b->turn] & GOAL[1 - b->turn];
    if ((home & (home - 1)) || !b->pawns[1 - b->turn]) return -1;
    for (int side = 0; side < 2; side++) {
        int count = 0;
        for (uint32_t left = b->pawns[side]; left; left &= left - 1) count++;
        if (count > 10) return -1;
    }
    return 0;
}

static int32_t read_state(const playout_game *game, void *state, const char *text) {
    board b = {{0, 0}, 0, 0};
    for (int row = SIDE - 1; row >= 0; row--) {
        for (int column = 0; column < SIDE; column++, text++) {
            if (*text == 'X' || *text == 'O')
                b.pawns[*text == 'O'] |= 1u << (SIDE * row + column);
            else if (*text != '.')
                return -1;
        }
        if (*text++ != '/') return -1;
    }
    if ((*text != 'X' && *text != 'O') || text[1] != 0) return -1;
    b.turn = *text == 'O';
    memcpy(state, &b, sizeof b);
    return check(game, state);
}

static PyObject *make(PyObject *module, PyObject *unused) {
    playout_game game;
    playout_game_begin(&game, "breakthrough");
    game.num_players = 2;
    game.num_actions = 3 * CELLS;
    game.max_plies = 2 * SIDE * SIDE + 2; /* every move brings a pawn one row on: at most 25 steps a side, and one */
    game.obs_shape[0] = 3;
    game.obs_shape[1] = SIDE;
    game.obs_shape[2] = SIDE;
    game.state_size = sizeof(board);
    game.num_symmetries = 2;
    game.init = init;
    game.to_play = to_play;
    game.legal = legal;
    game.apply = apply;
    game.returns = returns;
    game.observe = observe;
    game.hash = hash;
    game.symmetry = symmetry;
    game.symmetry_action = symmetry_action;
    game.write_action = write_action;
    game.read_action = read_action;
    game.write_state = write_state;
    game.read_state = read_state;
    game.write_board = write_board;
    game.check = check;
    game.flags = PLAYOUT_ZERO_SUM;
    game.max_legal = 3 * 2 * SIDE; /* two rows of pawns, three moves each */
    return playout_game_capsule(&game);
}

static PyMethodDef METHODS[] = {
    {"make", make, METH_NOARGS, "A capsule of Breakthrough on 5x5 cells."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "breakthrough_game", NULL, 0, METHODS, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_breakthrough_game(void) { return PyModule_Create(&MODULE); }
