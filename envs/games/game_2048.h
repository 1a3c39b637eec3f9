/* The rules of 2048 and its function table: slide all tiles to a side, equal ones that meet merge; then a tile appears.
 *
 * Cells count from 0 at the top left, row by row; a cell holds the power of its tile, 0 for none. Actions 0 to 3 slide
 * up, right, down, left; 4 + 2 * cell puts a 2 there and 5 + 2 * cell a 4: the outcomes of chance, after each move on
 * any empty cell, a 4 one time in ten. A game begins with two such tiles. A merged tile's number is the move's reward.
 * One line of text is the rows from the top, tiles with commas between, "." for empty, joined by "/"; then the score, and
 * how many tiles chance is about to add.
 */
#ifndef PLAYOUT_GAME_2048_H
#define PLAYOUT_GAME_2048_H

#include <stdio.h>
#include <stdlib.h>

#include "playout_maker.h"
#include "playout_text.h"

#define G2_MAX_SIDE 5
#define G2_MAX_CELLS (G2_MAX_SIDE * G2_MAX_SIDE)
#define G2_MOVES 4
#define G2_FOURS 0.1 /* how often a new tile is a 4 */

typedef struct g2_state {
    uint8_t cells[G2_MAX_CELLS];
    uint8_t coming; /* tiles that chance adds before the next move */
    uint8_t moves;  /* bit m: move m is legal; 0 while tiles are coming */
    uint8_t zero;
    uint32_t score;
} g2_state;

static inline int32_t g2_rows(const playout_game *game) { return game->params[0]; }
static inline int32_t g2_columns(const playout_game *game) { return game->params[1]; }
static inline int32_t g2_cells(const playout_game *game) { return game->params[0] * game->params[1]; }

/* The moves that change something, by neighbours: where a gap or a pair is anywhere, it is between two of them. */
static inline uint8_t g2_moves(const uint8_t *cells, int32_t rows, int32_t columns) {
    uint32_t left = 0, right = 0, up = 0, down = 0;
    for (int32_t y = 0; y < rows; y++, cells += columns)
        for (int32_t x = 0; x < columns; x++) {
            const uint32_t a = cells[x];
            if (x + 1 < columns) {
                const uint32_t b = cells[x + 1], pair = (a == b) & (a != 0);
                left |= pair | ((a == 0) & (b != 0));
                right |= pair | ((a != 0) & (b == 0));
            }
            if (y + 1 < rows) {
                const uint32_t b = cells[x + columns], pair = (a == b) & (a != 0);
                up |= pair | ((a == 0) & (b != 0));
                down |= pair | ((a != 0) & (b == 0));
            }
        }
    return (uint8_t)(up | right << 1 | down << 2 | left << 3);
}

/* Slides one line towards its first cell, each tile merging once at most; returns the sum of merged tiles. */
static inline uint32_t g2_slide_line(uint8_t *line, int32_t step, int32_t count) {
    uint32_t gained = 0, held = 0;
    int32_t to = 0;
    for (int32_t i = 0; i < count; i++) {
        const uint32_t tile = line[i * step];
        if (tile == 0) continue;
        line[i * step] = 0;
        if (tile == held) {
            line[(to - 1) * step] = (uint8_t)(tile + 1);
            gained += 2u << tile;
            held = 0;
        } else {
            line[to++ * step] = (uint8_t)tile;
            held = tile;
        }
    }
    return gained;
}

static inline uint32_t g2_slide(uint8_t *cells, int32_t rows, int32_t columns, int32_t move) {
    const int32_t last = rows * columns - 1, sideways = move & 1, lines = sideways ? rows : columns;
    const int32_t step = sideways ? 1 : columns, next = sideways ? columns : 1, count = sideways ? columns : rows;
    const int32_t back = move == 1 || move == 2; /* right and down: lines begin at the last cell */
    uint32_t gained = 0;
    for (int32_t i = 0; i < lines; i++)
        gained += g2_slide_line(cells + (back ? last - i * next : i * next), back ? -step : step, count);
    return gained;
}

static void g2_init(const playout_game *game, void *state) {
    memset(state, 0, sizeof(g2_state));
    ((g2_state *)state)->coming = 2;
}

static int32_t g2_to_play(const playout_game *game, const void *state) {
    const g2_state *s = (const g2_state *)state;
    return s->coming ? PLAYOUT_CHANCE : s->moves ? 0 : PLAYOUT_TERMINAL;
}

static int32_t g2_legal(const playout_game *game, const void *state, int32_t *actions) {
    int32_t count = 0;
    for (uint32_t moves = ((const g2_state *)state)->moves; moves; moves &= moves - 1)
        actions[count++] = __builtin_ctz(moves);
    return count;
}

static int32_t g2_chance(const playout_game *game, const void *state, int32_t *actions, double *probs) {
    const g2_state *s = (const g2_state *)state;
    int32_t count = 0, empty = 0;
    for (int32_t cell = 0; cell < g2_cells(game); cell++) empty += s->cells[cell] == 0;
    for (int32_t cell = 0; cell < g2_cells(game); cell++) {
        if (s->cells[cell]) continue;
        for (int32_t four = 0; four < 2; four++, count++) {
            actions[count] = G2_MOVES + 2 * cell + four;
            probs[count] = (four ? G2_FOURS : 1 - G2_FOURS) / empty;
        }
    }
    return count;
}

static int32_t g2_is_legal(const playout_game *game, const void *state, int32_t action) {
    const g2_state *s = (const g2_state *)state;
    if (action < 0 || action >= game->num_actions) return 0;
    if (action < G2_MOVES) return (s->moves >> action) & 1;
    return s->coming && s->cells[(action - G2_MOVES) / 2] == 0;
}

static void g2_apply(const playout_game *game, void *state, int32_t action) {
    g2_state *s = (g2_state *)state;
    if (action < G2_MOVES) {
        s->score += g2_slide(s->cells, g2_rows(game), g2_columns(game), action);
        s->coming = 1;
        s->moves = 0;
        return;
    }
    s->cells[(action - G2_MOVES) / 2] = (uint8_t)(1 + ((action - G2_MOVES) & 1));
    if (--s->coming == 0) s->moves = g2_moves(s->cells, g2_rows(game), g2_columns(game));
}

static void g2_returns(const playout_game *game, const void *state, float *values) {
    values[0] = (float)((const g2_state *)state)->score;
}

static void g2_observe(const playout_game *game, const void *state, int32_t player, float *obs) {
    const g2_state *s = (const g2_state *)state;
    const int32_t cells = g2_cells(game);
    memset(obs, 0, (size_t)(game->obs_shape[0] * cells) * sizeof *obs);
    for (int32_t cell = 0; cell < cells; cell++)
        if (s->cells[cell]) obs[(s->cells[cell] - 1) * cells + cell] = 1.0f;
}

static uint64_t g2_hash(const playout_game *game, const void *state) {
    return playout_hash_bytes(state, sizeof(g2_state));
}

/* What is still to be gained does not depend on what was. */
static uint64_t g2_eval_key(const playout_game *game, const void *state) {
    g2_state s = *(const g2_state *)state;
    s.score = 0;
    return playout_hash_bytes(&s, sizeof s);
}

/* Bit 2 of k (of a square board) transposes; then bit 0 mirrors left and right, bit 1 up and down. */
static inline int32_t g2_moved_cell(const playout_game *game, int32_t k, int32_t cell) {
    const int32_t columns = g2_columns(game);
    int32_t y = cell / columns, x = cell % columns;
    if (k & 4) {
        const int32_t kept = y;
        y = x;
        x = kept;
    }
    if (k & 1) x = columns - 1 - x;
    if (k & 2) y = g2_rows(game) - 1 - y;
    return y * columns + x;
}

static int32_t g2_symmetry_action(const playout_game *game, int32_t k, int32_t action) {
    if (action >= G2_MOVES) {
        const int32_t cell = (action - G2_MOVES) / 2;
        return G2_MOVES + 2 * g2_moved_cell(game, k, cell) + ((action - G2_MOVES) & 1);
    }
    if (k & 4) action = 3 - action; /* up and left change places, and right and down */
    if (k & 1 && action & 1) action ^= 2;
    if (k & 2 && !(action & 1)) action ^= 2;
    return action;
}

static void g2_symmetry(const playout_game *game, const void *state, int32_t k, void *out) {
    const g2_state *s = (const g2_state *)state;
    g2_state t = *s;
    t.moves = 0;
    for (int32_t cell = 0; cell < g2_cells(game); cell++) t.cells[g2_moved_cell(game, k, cell)] = s->cells[cell];
    for (int32_t move = 0; move < G2_MOVES; move++)
        t.moves |= (uint8_t)(((s->moves >> move) & 1) << g2_symmetry_action(game, k, move));
    memcpy(out, &t, sizeof t);
}

static const char *const G2_NAMES[G2_MOVES] = {"up", "right", "down", "left"};

/* Moves by name; a new tile as "b3=2": column, row from the top, tile. */
static int32_t g2_write_action(const playout_game *game, const void *state, int32_t action, char *text) {
    if (action < G2_MOVES) return sprintf(text, "%s", G2_NAMES[action]);
    const int32_t cell = (action - G2_MOVES) / 2, columns = g2_columns(game);
    return sprintf(text, "%c%d=%c", 'a' + cell % columns, 1 + cell / columns, action & 1 ? '4' : '2');
}

static int32_t g2_read_action(const playout_game *game, const void *state, const char *text) {
    for (int32_t move = 0; move < G2_MOVES; move++)
        if (playout_same_word(text, G2_NAMES[move])) return move;
    if (strlen(text) != 4 || text[2] != '=' || (text[3] != '2' && text[3] != '4')) return -1;
    const int32_t x = playout_lower(text[0]) - 'a', y = text[1] - '1';
    if (x < 0 || x >= g2_columns(game) || y < 0 || y >= g2_rows(game)) return -1;
    return G2_MOVES + 2 * (y * g2_columns(game) + x) + (text[3] == '4');
}

static int32_t g2_write_rows(const playout_game *game, const g2_state *s, const char *gap, const char *end, int32_t width,
                             char *text) {
    char *out = text;
    for (int32_t cell = 0; cell < g2_cells(game); cell++) {
        if (cell) out += sprintf(out, "%s", cell % g2_columns(game) ? gap : end);
        if (s->cells[cell])
            out += sprintf(out, "%*u", width, 1u << s->cells[cell]);
        else
            out += sprintf(out, "%*s", width, ".");
    }
    return (int32_t)(out - text);
}

static int32_t g2_write_state(const playout_game *game, const void *state, char *text) {
    const g2_state *s = (const g2_state *)state;
    const int32_t length = g2_write_rows(game, s, ",", "/", 0, text);
    return length + sprintf(text + length, " %u %d", s->score, s->coming);
}

static int32_t g2_write_board(const playout_game *game, const void *state, char *text) {
    const g2_state *s = (const g2_state *)state;
    uint8_t largest = 1;
    for (int32_t cell = 0; cell < g2_cells(game); cell++)
        if (s->cells[cell] > largest) largest = s->cells[cell];
    const int32_t width = snprintf(NULL, 0, "%u", 1u << largest);
    const int32_t length = g2_write_rows(game, s, " ", "\n", width, text);
    return length + sprintf(text + length, "\nscore %u", s->score);
}

/* Tiles, score and number of tiles to come must fit. A tile 2^k made of 2s alone has earned (k - 1) * 2^k; each 4 that
 * chance gave has saved 4 of it. */
static int32_t g2_check(const playout_game *game, const void *state) {
    const g2_state *s = (const g2_state *)state;
    const int32_t cells = g2_cells(game);
    uint64_t most = 0, fours = 0;
    int32_t tiles = 0;
    for (int32_t cell = 0; cell < G2_MAX_CELLS; cell++) {
        const uint64_t tile = s->cells[cell];
        if (cell >= cells ? tile != 0 : tile > (uint64_t)cells + 1) return -1;
        if (tile == 0) continue;
        tiles++;
        most += (tile - 1) << tile;
        if (tile > 1) fours += UINT64_C(1) << (tile - 2);
    }
    if (s->zero || s->coming > 2 || s->score > most || (most - s->score) % 4 || (most - s->score) / 4 > fours) return -1;
    if (s->coming) return s->moves || tiles == cells || (s->coming == 2) != (tiles == 0) ? -1 : 0;
    return tiles >= 2 && s->moves == g2_moves(s->cells, g2_rows(game), g2_columns(game)) ? 0 : -1;
}

/* A number without sign and leading zeros, moving `text` behind it; -1 if there is none. */
static int64_t g2_number(const char **text) {
    int64_t number = 0;
    const char *c = *text;
    if (*c < '0' || *c > '9' || (*c == '0' && c[1] >= '0' && c[1] <= '9')) return -1;
    for (; *c >= '0' && *c <= '9'; c++)
        if ((number = 10 * number + (*c - '0')) > UINT32_MAX) return -1;
    *text = c;
    return number;
}

static int32_t g2_read_state(const playout_game *game, void *state, const char *text) {
    g2_state s;
    memset(&s, 0, sizeof s);
    for (int32_t cell = 0; cell < g2_cells(game); cell++) {
        if (cell && *text++ != (cell % g2_columns(game) ? ',' : '/')) return -1;
        if (*text == '.') {
            text++;
            continue;
        }
        const int64_t tile = g2_number(&text);
        if (tile < 2 || tile & (tile - 1)) return -1;
        s.cells[cell] = (uint8_t)__builtin_ctzll((uint64_t)tile);
    }
    if (*text++ != ' ') return -1;
    const int64_t score = g2_number(&text);
    if (score < 0 || *text++ != ' ' || *text < '0' || *text > '2' || text[1]) return -1;
    s.score = (uint32_t)score;
    s.coming = (uint8_t)(*text - '0');
    if (s.coming == 0) s.moves = g2_moves(s.cells, g2_rows(game), g2_columns(game));
    memcpy(state, &s, sizeof s);
    return g2_check(game, state);
}

static inline __attribute__((always_inline)) uint32_t g2_random_game(g2_state s, int32_t rows, int32_t columns,
                                                                     playout_rng *rng) {
    for (;;) {
        while (s.coming) {
            uint8_t empty[G2_MAX_CELLS];
            uint32_t count = 0;
            for (int32_t cell = 0; cell < rows * columns; cell++) {
                empty[count] = (uint8_t)cell;
                count += s.cells[cell] == 0;
            }
            const uint8_t cell = empty[playout_rng_below(rng, count)];
            s.cells[cell] = (uint8_t)(1 + (playout_rng_double(rng) < G2_FOURS));
            s.coming--;
        }
        uint32_t moves = g2_moves(s.cells, rows, columns);
        if (moves == 0) return s.score;
        for (uint32_t skip = playout_rng_below(rng, (uint32_t)__builtin_popcount(moves)); skip; skip--) moves &= moves - 1;
        s.score += g2_slide(s.cells, rows, columns, __builtin_ctz(moves));
        s.coming = 1;
    }
}

/* The usual size is known to the compiler, which unrolls its loops. */
static void g2_playout(const playout_game *game, const void *state, playout_rng *rng, float *values) {
    const g2_state s = *(const g2_state *)state;
    if (!s.coming && !s.moves)
        values[0] = (float)s.score;
    else if (g2_rows(game) == 4 && g2_columns(game) == 4)
        values[0] = (float)g2_random_game(s, 4, 4, rng);
    else
        values[0] = (float)g2_random_game(s, g2_rows(game), g2_columns(game), rng);
}

/* The sum of all tiles grows by 2 at least with every tile that comes, and is less than 2^(cells + 2). */
static int32_t g2_plies_left(const playout_game *game, const void *state) {
    const g2_state *s = (const g2_state *)state;
    int64_t sum = 0;
    if (g2_to_play(game, state) == PLAYOUT_TERMINAL) return 0;
    for (int32_t cell = 0; cell < g2_cells(game); cell++) sum += s->cells[cell] ? INT64_C(1) << s->cells[cell] : 0;
    const int64_t tiles = ((INT64_C(1) << (g2_cells(game) + 2)) - 4 - sum) / 2;
    return (int32_t)(s->coming ? 2 * tiles - (s->coming == 2) : 2 * tiles + 1);
}

static int32_t g2_write_goal(const playout_game *game, char *text) {
    return snprintf(text, PLAYOUT_TEXT_SIZE, "Equal tiles that meet merge, and their sum is won; the game is over when nothing moves.");
}

static const char *g2_make(playout_game *game, const double *values) {
    const int32_t rows = (int32_t)values[0], columns = values[1] == 0 ? rows : (int32_t)values[1], cells = rows * columns;
    /* About what good play reaches: on small boards the best, on 4x4 what a few hours of learning do. */
    const double usual = cells <= 4 ? 100 : cells <= 6 ? 500 : cells <= 9 ? 5000 : 20000;
    if (values[1] == 1) return "it needs at least two columns";
    playout_game_begin(game, "game_2048");
    game->params[0] = rows;
    game->params[1] = columns;
    game->num_players = 1;
    game->num_actions = G2_MOVES + 2 * cells;
    game->max_plies = 1 << (cells + 2);
    game->obs_shape[0] = cells + 1;
    game->obs_shape[1] = rows;
    game->obs_shape[2] = columns;
    game->state_size = (int32_t)sizeof(g2_state);
    game->num_symmetries = rows == columns ? 8 : 4;
    game->init = g2_init;
    game->to_play = g2_to_play;
    game->legal = g2_legal;
    game->is_legal = g2_is_legal;
    game->apply = g2_apply;
    game->returns = g2_returns;
    game->observe = g2_observe;
    game->hash = g2_hash;
    game->eval_key = g2_eval_key;
    game->symmetry = g2_symmetry;
    game->symmetry_action = g2_symmetry_action;
    game->write_action = g2_write_action;
    game->read_action = g2_read_action;
    game->write_state = g2_write_state;
    game->read_state = g2_read_state;
    game->write_board = g2_write_board;
    game->write_goal = g2_write_goal;
    game->check = g2_check;
    game->chance = g2_chance;
    game->playout = g2_playout;
    game->flags = PLAYOUT_GENERAL_SUM | PLAYOUT_STEP_REWARDS;
    game->max_legal = 2 * cells;
    game->plies_left = g2_plies_left;
    game->value_scale = values[2] > 0 ? values[2] : usual;
    return NULL;
}

static const playout_param G2_PARAMS[] = {
    PLAYOUT_INTEGER_PARAM("size", 4, 2, G2_MAX_SIDE),
    PLAYOUT_INTEGER_PARAM("columns", 0, 0, G2_MAX_SIDE), /* 0: as many as rows */
    PLAYOUT_REAL_PARAM("value_scale", 0, 0, 1e9),        /* a score that learning takes for 1; 0: by size */
    PLAYOUT_PARAMS_END,
};

static const playout_maker GAME_2048 = {"game_2048", G2_PARAMS, g2_make};

#endif
