/* Hex's function table: text, and the check of foreign bytes. Cells are written as "a1", the column's letter and the
 * row's number from the top left, and the swap as "swap". One line of text is the rows from the top, "X" for the first
 * player, "O" for the second, "." for empty, joined by "/"; with the swap rule the side to move follows after a blank.
 */
#ifndef PLAYOUT_HEX_TABLE_H
#define PLAYOUT_HEX_TABLE_H

#include <stdio.h>

#include "random.h"

static int32_t hex_write_action(const playout_game *game, const void *state, int32_t action, char *text) {
    const hex_layout *g = hex_of(game);
    const hex_state *s = (const hex_state *)state;
    if (hex_may_swap(g, s) && hex_bit(s->sets, action)) return sprintf(text, "swap");
    return sprintf(text, "%c%d", 'a' + g->column[action], g->row[action] + 1);
}

/* "swap-pieces" is what GTP says for it. */
static int32_t hex_read_action(const playout_game *game, const void *state, const char *text) {
    const hex_layout *g = hex_of(game);
    const hex_state *s = (const hex_state *)state;
    int32_t row;
    const int32_t column = playout_read_cell(text, &row);
    if (hex_may_swap(g, s) && (playout_same_word(text, "swap") || playout_same_word(text, "swap-pieces")))
        for (int32_t cell = 0; cell < g->cells; cell++)
            if (hex_bit(s->sets, cell)) return cell;
    return column < 0 || column >= g->size || row > g->size ? -1 : (row - 1) * g->size + column;
}

static inline char hex_letter(const hex_layout *g, const hex_state *s, int32_t cell) {
    return hex_bit(s->sets, cell) ? 'X' : hex_bit(s->sets + g->words, cell) ? 'O' : '.';
}

static int32_t hex_write_state(const playout_game *game, const void *state, char *text) {
    const hex_layout *g = hex_of(game);
    const hex_state *s = (const hex_state *)state;
    char *out = text;
    for (int32_t cell = 0; cell < g->cells; cell++) {
        if (cell && g->column[cell] == 0) *out++ = '/';
        *out++ = hex_letter(g, s, cell);
    }
    if (g->swap) out += sprintf(out, " %c", s->turn ? 'O' : 'X');
    *out = 0;
    return (int32_t)(out - text);
}

/* Each row stands half a cell to the right of the one above it, so that neighbours look like neighbours. */
static int32_t hex_write_board(const playout_game *game, const void *state, char *text) {
    const hex_layout *g = hex_of(game);
    char *out = text + sprintf(text, "  ");
    for (int32_t x = 0; x < g->size; x++) out += sprintf(out, " %c", 'a' + x);
    for (int32_t cell = 0; cell < g->cells; cell++) {
        if (g->column[cell] == 0) out += sprintf(out, "\n%*s%2d", g->row[cell], "", g->row[cell] + 1);
        out += sprintf(out, " %c", hex_letter(g, (const hex_state *)state, cell));
    }
    return (int32_t)(out - text);
}

/* Counts, the joined sets and the winner must follow from the stones, and a winner needs its last stone: taken off,
 * some stone breaks the chain. */
static int32_t hex_check(const playout_game *game, const void *state) {
    const hex_layout *g = hex_of(game);
    const hex_state *s = (const hex_state *)state;
    const int32_t words = g->words, last = g->cells & 63;
    uint64_t copy[1 + 4 * HEX_MAX_WORDS];
    hex_state *t = (hex_state *)copy;
    if (s->zero || (s->turn != 0 && s->turn != 1) || (s->won != 0 && s->won != 1)) return -1;
    for (int32_t word = 0; word < words; word++) {
        const uint64_t first = s->sets[word], second = s->sets[words + word];
        if ((first & second) || (word == words - 1 && last && (first | second) >> last)) return -1;
    }
    const int32_t first = hex_count(s->sets, words), second = hex_count(s->sets + words, words);
    /* After a swap the first player has moved once less than the second, or as often, instead of once more. */
    const int plain = first == second + s->turn, swapped = g->swap && second > 0 && first + 1 == second + s->turn;
    if (s->stones != first + second || (!plain && !swapped)) return -1;
    memcpy(copy, state, (size_t)game->state_size);
    const int32_t winner = hex_rejoin(g, t);
    if (memcmp(t->sets, s->sets, (size_t)words * 32) != 0 || s->won != (winner >= 0)) return -1;
    if (winner < 0) return 0;
    if (winner == s->turn) return -1;
    for (int32_t cell = 0; cell < g->cells; cell++) {
        uint64_t *own = t->sets + winner * words;
        if (!hex_bit(own, cell)) continue;
        own[cell >> 6] ^= UINT64_C(1) << (cell & 63);
        if (hex_rejoin(g, t) < 0) return 0;
        hex_add(own, cell);
    }
    return -1;
}

static int32_t hex_read_state(const playout_game *game, void *state, const char *text) {
    const hex_layout *g = hex_of(game);
    hex_state *s = (hex_state *)state;
    int32_t counts[2] = {0, 0};
    hex_init(game, state);
    for (int32_t cell = 0; cell < g->cells; cell++, text++) {
        if (cell && g->column[cell] == 0 && *text++ != '/') return -1;
        if (*text != 'X' && *text != 'O' && *text != '.') return -1;
        if (*text == '.') continue;
        hex_add(s->sets + (*text == 'O') * g->words, cell);
        counts[*text == 'O']++;
    }
    if (g->swap) {
        if (text[0] != ' ' || (text[1] != 'X' && text[1] != 'O')) return -1;
        s->turn = text[1] == 'O';
        text += 2;
    } else {
        s->turn = counts[0] > counts[1];
    }
    if (*text) return -1;
    s->stones = (int16_t)(counts[0] + counts[1]);
    s->won = hex_rejoin(g, s) >= 0;
    return hex_check(game, state);
}

static void hex_destroy(playout_game *game) { free(game->context); }

static int32_t hex_write_goal(const playout_game *game, char *text) {
    return snprintf(text, PLAYOUT_TEXT_SIZE,
                    "Player 1 wins by joining top and bottom of the board by a chain of stones, player 2 by joining left "
                    "and right; there is no draw.%s",
                    hex_of(game)->swap ? " Player 2 may answer the first stone by taking it over." : "");
}

static const char *hex_make(playout_game *game, const double *values) {
    hex_layout *g = (hex_layout *)malloc(sizeof *g);
    if (g == NULL) return PLAYOUT_NO_MEMORY;
    hex_layout_set(g, (int32_t)values[0], (int32_t)values[1]);
    playout_game_begin(game, "hex");
    game->params[0] = g->size;
    game->params[1] = g->swap;
    game->context = g;
    game->destroy = hex_destroy;
    game->num_players = 2;
    game->num_actions = game->max_legal = g->cells;
    game->max_plies = g->cells + g->swap;
    game->obs_shape[0] = 3;
    game->obs_shape[1] = game->obs_shape[2] = g->size;
    game->state_size = (int32_t)sizeof(hex_state) + 32 * g->words;
    game->num_symmetries = 2;
    game->init = hex_init;
    game->to_play = hex_to_play;
    game->legal = hex_legal;
    game->is_legal = hex_is_legal;
    game->apply = hex_apply;
    game->returns = hex_returns;
    game->observe = hex_observe;
    game->symmetry = hex_symmetry;
    game->symmetry_action = hex_symmetry_action;
    game->write_action = hex_write_action;
    game->read_action = hex_read_action;
    game->write_state = hex_write_state;
    game->read_state = hex_read_state;
    game->write_board = hex_write_board;
    game->write_goal = hex_write_goal;
    game->check = hex_check;
    game->playout = hex_playout;
    game->flags = PLAYOUT_ZERO_SUM;
    game->side_planes[0] = 2;
    game->side_planes[1] = -1;
    game->plies_left = hex_plies_left;
    return NULL;
}

static const playout_param HEX_PARAMS[] = {
    PLAYOUT_INTEGER_PARAM("size", 11, 2, HEX_MAX_SIZE),
    PLAYOUT_INTEGER_PARAM("swap", 0, 0, 1),
    PLAYOUT_PARAMS_END,
};

static const playout_maker HEX = {"hex", HEX_PARAMS, hex_make};

#endif
