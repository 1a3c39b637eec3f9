/* Clobber as a capsule game: rules in C, in a package of its own, built against playout_game.h alone.
 *
 * The board starts full, stones of both sides in turns. A move takes a stone of the other side that lies beside one's
 * own, above, below, left or right, by stepping onto it. Whoever cannot move has lost.
 *
 * Cell = columns * row + column; action = cells * way + cell, with way 0 up, 1 left, 2 right, 3 down. Six functions are
 * the game; check() guards against bytes from files, write_board() shows it to people, and all else has defaults.
 */
#include <Python.h>

#include "playout_game.h"

typedef struct { uint64_t stones[2], turn; } board; /* plain bytes, a multiple of 8 of them */
enum { ROWS, COLUMNS };                             /* places in the table's params */

static int32_t cells(const playout_game *game) { return game->params[ROWS] * game->params[COLUMNS]; }

/* The stones of the side to move that can step this way. */
static uint64_t movers(const playout_game *game, const board *b, int way) {
    const int32_t columns = game->params[COLUMNS];
    const uint64_t own = b->stones[b->turn], other = b->stones[1 - b->turn];
    uint64_t left = 0; /* the first column, where steps to the left and right must not go round */
    for (int32_t row = 0; row < game->params[ROWS]; row++) left |= UINT64_C(1) << (row * columns);
    if (way == 0) return own & (other << columns);
    if (way == 1) return own & ~left & (other << 1);
    if (way == 2) return own & ((other & ~left) >> 1);
    return own & (other >> columns);
}

static void init(const playout_game *game, void *state) {
    board b = {{0, 0}, 0};
    for (int32_t cell = 0; cell < cells(game); cell++)
        b.stones[(cell / game->params[COLUMNS] + cell % game->params[COLUMNS]) % 2] |= UINT64_C(1) << cell;
    memcpy(state, &b, sizeof b);
}

static int32_t to_play(const playout_game *game, const void *state) {
    const board *b = state;
    for (int way = 0; way < 4; way++)
        if (movers(game, b, way)) return (int32_t)b->turn;
    return PLAYOUT_TERMINAL;
}

static int32_t legal(const playout_game *game, const void *state, int32_t *actions) {
    int32_t count = 0;
    for (int way = 0; way < 4; way++)
        for (uint64_t left = movers(game, state, way), cell = 0; left; left >>= 1, cell++)
            if (left & 1) actions[count++] = cells(game) * way + (int32_t)cell;
    return count;
}

static void apply(const playout_game *game, void *state, int32_t action) {
    board *b = state;
    const int32_t columns = game->params[COLUMNS], step[4] = {-columns, -1, 1, columns};
    const int32_t from = action % cells(game), to = from + step[action / cells(game)];
    b->stones[b->turn] ^= UINT64_C(1) << from | UINT64_C(1) << to;
    b->stones[1 - b->turn] ^= UINT64_C(1) << to;
    b->turn = 1 - b->turn;
}

static void returns(const playout_game *game, const void *state, float *values) {
    const uint64_t loser = ((const board *)state)->turn;
    values[loser] = -1.0f;
    values[1 - loser] = 1.0f;
}

static void observe(const playout_game *game, const void *state, int32_t player, float *obs) {
    for (int32_t plane = 0; plane < 2; plane++) /* the player's stones, then the other's */
        for (int32_t cell = 0; cell < cells(game); cell++)
            *obs++ = (float)(((const board *)state)->stones[plane ? 1 - player : player] >> cell & 1);
}

static int32_t check(const playout_game *game, const void *state) {
    const board *b = state;
    const uint64_t all = b->stones[0] | b->stones[1];
    return b->turn > 1 || (b->stones[0] & b->stones[1]) || (cells(game) < 64 && all >> cells(game)) ? -1 : 0;
}

static int32_t write_board(const playout_game *game, const void *state, char *text) {
    const board *b = state;
    int32_t length = 0;
    for (int32_t cell = 0; cell < cells(game); cell++) {
        text[length++] = b->stones[0] >> cell & 1 ? 'X' : b->stones[1] >> cell & 1 ? 'O' : '.';
        text[length++] = (cell + 1) % game->params[COLUMNS] ? ' ' : '\n';
    }
    text[--length] = 0;
    return length;
}
static int32_t write_goal(const playout_game *game, char *text) { return sprintf(text, "Who moves last wins."); }

static const playout_param PARAMETERS[] = {
    {"rows", PLAYOUT_INTEGER, 5, 1, 8, NULL}, {"columns", PLAYOUT_INTEGER, 6, 2, 8, NULL}, {NULL, 0, 0, 0, 0, NULL}};

static PyObject *make(PyObject *module, PyObject *args, PyObject *keywords) {
    static char *names[] = {"rows", "columns", NULL};
    int rows = 5, columns = 6;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|ii", names, &rows, &columns)) return NULL;
    if (rows < 1 || rows > 8 || columns < 2 || columns > 8)
        return PyErr_Format(PyExc_ValueError, "clobber has 1 to 8 rows and 2 to 8 columns, not %dx%d", rows, columns);
    playout_game game;
    playout_game_begin(&game, "clobber");
    game.parameters = PARAMETERS;
    game.params[ROWS] = game.values[ROWS] = rows;
    game.params[COLUMNS] = game.values[COLUMNS] = columns;
    game.num_players = 2;
    game.num_actions = 4 * rows * columns;
    game.max_plies = rows * columns - 1; /* each takes a stone, and the last one stays */
    game.obs_shape[0] = 2, game.obs_shape[1] = rows, game.obs_shape[2] = columns;
    game.state_size = sizeof(board);
    game.init = init, game.to_play = to_play, game.legal = legal;
    game.apply = apply, game.returns = returns, game.observe = observe;
    game.check = check, game.write_board = write_board, game.write_goal = write_goal;
    return playout_game_capsule(&game);
}

static PyMethodDef METHODS[] = {
    {"make", (PyCFunction)(void (*)(void))make, METH_VARARGS | METH_KEYWORDS, "A capsule of Clobber."}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "clobber_game", NULL, 0, METHODS, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit_clobber_game(void) { return PyModule_Create(&MODULE); }
