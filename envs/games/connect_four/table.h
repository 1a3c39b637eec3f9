/* Connect Four's function table: text, the check of foreign bytes, and the rules twice, once for any layout and once
 * with the standard layout known to the compiler. One line of text is the rows from the top, "X" for the first player,
 * "O" for the second, "." for empty, joined by "/"; whose turn it is follows from the number of stones.
 */
#ifndef PLAYOUT_CONNECT_FOUR_TABLE_H
#define PLAYOUT_CONNECT_FOUR_TABLE_H

#include <stdio.h>

#include "../connect_four.h"
#include "playout_maker.h"

#define C4_CHECK_BUDGET 20000 /* positions looked at to find an order of moves */

static inline const c4_layout *c4_of(const playout_game *game) { return (const c4_layout *)game->context; }

/* Can the stones up to heights[] be laid in turns, the last by `mover`? Takes stones off the tops again, at most
 * `budget` times; positions too hard to decide pass. */
static int c4_order_exists(const c4_layout *g, uint64_t first, int32_t *heights, int32_t count, int32_t *budget) {
    const int32_t mover = (count - 1) & 1;
    if (count == 0 || --*budget <= 0) return 1;
    for (int32_t x = 0; x < g->width; x++) {
        if (heights[x] == 0) continue;
        const int32_t bit = x * (g->height + 1) + heights[x] - 1;
        if ((int32_t)((first >> bit) & 1) == mover) continue;
        heights[x]--;
        const int found = c4_order_exists(g, first, heights, count - 1, budget);
        heights[x]++;
        if (found) return 1;
    }
    return 0;
}

static int32_t c4_check(const playout_game *game, const void *state) {
    const c4_layout *g = c4_of(game);
    const c4_state *s = (const c4_state *)state;
    const uint64_t other = s->own ^ s->all;
    const uint64_t first = c4_turn(s) ? other : s->own;
    const int32_t count = __builtin_popcountll(s->all);
    int32_t heights[C4_MAX_WIDTH], budget = C4_CHECK_BUDGET;
    if ((s->all & ~g->board) || (s->own & ~s->all) || ((s->all + g->bottom) & s->all)) return -1;
    if (__builtin_popcountll(first) != (count + 1) / 2 || c4_line(g, s->own)) return -1;
    for (int32_t x = 0; x < g->width; x++) heights[x] = __builtin_popcountll(s->all & g->column[x]);
    if (!c4_line(g, other)) return c4_order_exists(g, first, heights, count, &budget) ? 0 : -1;
    /* The line must be the last move's: some top stone of the winner breaks every line when taken off. */
    for (int32_t x = 0; x < g->width; x++) {
        if (heights[x] == 0) continue;
        const uint64_t top = UINT64_C(1) << (x * (g->height + 1) + heights[x] - 1);
        if (!(other & top) || c4_line(g, other ^ top)) continue;
        heights[x]--;
        if (c4_order_exists(g, first, heights, count - 1, &budget)) return 0;
        heights[x]++;
    }
    return -1;
}

static int32_t c4_write_action(const playout_game *game, const void *state, int32_t action, char *text) {
    return (int32_t)sprintf(text, "%d", action + 1);
}

static int32_t c4_read_action(const playout_game *game, const void *state, const char *text) {
    int32_t column = 0;
    if (text[0] < '1' || text[0] > '9') return -1;
    for (const char *c = text; *c; c++) {
        if (*c < '0' || *c > '9' || c - text > 1) return -1;
        column = 10 * column + (*c - '0');
    }
    return column <= c4_of(game)->width ? column - 1 : -1;
}

static int32_t c4_write_rows(const c4_layout *g, const c4_state *s, const char *gap, const char *end, char *text) {
    const uint64_t first = c4_turn(s) ? s->own ^ s->all : s->own;
    char *out = text;
    for (int32_t y = g->height - 1; y >= 0; y--) {
        for (int32_t x = 0; x < g->width; x++) {
            const uint64_t cell = UINT64_C(1) << (x * (g->height + 1) + y);
            if (x) out += strlen(strcpy(out, gap));
            *out++ = !(s->all & cell) ? '.' : (first & cell) ? 'X' : 'O';
        }
        if (y) out += strlen(strcpy(out, end));
    }
    *out = 0;
    return (int32_t)(out - text);
}

static int32_t c4_write_state(const playout_game *game, const void *state, char *text) {
    return c4_write_rows(c4_of(game), (const c4_state *)state, "", "/", text);
}

static int32_t c4_write_board(const playout_game *game, const void *state, char *text) {
    const c4_layout *g = c4_of(game);
    const int wide = g->width > 9;
    int32_t length = c4_write_rows(g, (const c4_state *)state, wide ? "  " : " ", "\n", text);
    for (int32_t x = 0; x < g->width; x++)
        length += (int32_t)sprintf(text + length, "%s%-*d", x ? " " : "\n", wide && x + 1 < g->width ? 2 : 1, x + 1);
    return length;
}

static int32_t c4_read_state(const playout_game *game, void *state, const char *text) {
    const c4_layout *g = c4_of(game);
    c4_state *s = (c4_state *)state;
    uint64_t stones[2] = {0, 0};
    for (int32_t y = g->height - 1; y >= 0; y--) {
        for (int32_t x = 0; x < g->width; x++, text++) {
            const uint64_t cell = UINT64_C(1) << (x * (g->height + 1) + y);
            if (*text == 'X')
                stones[0] |= cell;
            else if (*text == 'O')
                stones[1] |= cell;
            else if (*text != '.')
                return -1;
        }
        if (*text++ != (y ? '/' : 0)) return -1;
    }
    s->all = stones[0] | stones[1];
    s->own = stones[c4_turn(s)];
    return c4_check(game, state);
}

static int32_t c4_plies_left(const playout_game *game, const void *state) {
    const c4_state *s = (const c4_state *)state;
    return game->to_play(game, state) < 0 ? 0 : game->max_plies - __builtin_popcountll(s->all);
}

static void c4_init_state(const playout_game *game, void *state) { memset(state, 0, sizeof(c4_state)); }
static uint64_t c4_hash_state(const playout_game *game, const void *state) { return c4_hash((const c4_state *)state); }
static int32_t c4_symmetry_action(const playout_game *game, int32_t k, int32_t action) {
    return k ? c4_of(game)->width - 1 - action : action;
}

#define C4_TABLE(KIND, LAYOUT, OBSERVE)                                                                                 \
    static int32_t c4_to_play_##KIND(const playout_game *game, const void *s) {                                       \
        return c4_to_play(LAYOUT, (const c4_state *)s);                                                                \
    }                                                                                                                  \
    static int32_t c4_legal_##KIND(const playout_game *game, const void *s, int32_t *actions) {                       \
        return c4_legal(LAYOUT, (const c4_state *)s, actions);                                                         \
    }                                                                                                                  \
    static void c4_apply_##KIND(const playout_game *game, void *s, int32_t action) {                                  \
        c4_apply(LAYOUT, (c4_state *)s, action);                                                                       \
    }                                                                                                                  \
    static void c4_returns_##KIND(const playout_game *game, const void *s, float *values) {                           \
        c4_returns(LAYOUT, (const c4_state *)s, values);                                                               \
    }                                                                                                                  \
    static void c4_observe_##KIND(const playout_game *game, const void *s, int32_t player, float *obs) {              \
        OBSERVE(LAYOUT, (const c4_state *)s, player, obs);                                                             \
    }                                                                                                                  \
    static void c4_symmetry_##KIND(const playout_game *game, const void *s, int32_t k, void *out) {                   \
        c4_symmetry(LAYOUT, (const c4_state *)s, k, (c4_state *)out);                                                  \
    }                                                                                                                  \
    static void c4_playout_##KIND(const playout_game *game, const void *s, playout_rng *rng, float *values) {         \
        c4_playout(LAYOUT, (const c4_state *)s, rng, values);                                                          \
    }                                                                                                                  \
    static void c4_fill_##KIND(playout_game *game) {                                                                   \
        game->to_play = c4_to_play_##KIND;                                                                             \
        game->legal = c4_legal_##KIND;                                                                                 \
        game->apply = c4_apply_##KIND;                                                                                 \
        game->returns = c4_returns_##KIND;                                                                             \
        game->observe = c4_observe_##KIND;                                                                             \
        game->symmetry = c4_symmetry_##KIND;                                                                           \
        game->playout = c4_playout_##KIND;                                                                             \
    }

#define C4_OBSERVE_ROWS(LAYOUT, s, player, obs) c4_observe_rows(s, player, obs)

C4_TABLE(standard, &C4_STANDARD, C4_OBSERVE_ROWS)
C4_TABLE(any, c4_of(game), c4_observe)

static void c4_destroy(playout_game *game) { free(game->context); }

static int32_t c4_write_goal(const playout_game *game, char *text) {
    return snprintf(text, PLAYOUT_TEXT_SIZE,
                    "Stones fall to the lowest empty cell of a column. Who first has %d in a row, level, upright or "
                    "diagonal, wins; a full board is a draw.",
                    c4_of(game)->run);
}

static const char *c4_make(playout_game *game, const double *values) {
    const int32_t width = (int32_t)values[0], height = (int32_t)values[1], run = (int32_t)values[2];
    c4_layout *layout = (c4_layout *)malloc(sizeof *layout);
    if (layout == NULL) return PLAYOUT_NO_MEMORY;
    if (c4_layout_set(layout, width, height, run) != 0) {
        free(layout);
        return "it needs width * (height + 1) <= 64, run >= 2 and run <= the longer side";
    }
    playout_game_begin(game, "connect_four");
    game->num_players = 2;
    game->num_actions = width;
    game->max_plies = width * height;
    game->obs_shape[0] = 2;
    game->obs_shape[1] = height;
    game->obs_shape[2] = width;
    game->state_size = (int32_t)sizeof(c4_state);
    game->num_symmetries = 2;
    game->params[0] = width;
    game->params[1] = height;
    game->params[2] = run;
    game->context = layout;
    game->destroy = c4_destroy;
    game->init = c4_init_state;
    game->hash = c4_hash_state;
    game->symmetry_action = c4_symmetry_action;
    game->write_action = c4_write_action;
    game->read_action = c4_read_action;
    game->write_state = c4_write_state;
    game->read_state = c4_read_state;
    game->write_board = c4_write_board;
    game->write_goal = c4_write_goal;
    game->check = c4_check;
    game->flags = PLAYOUT_ZERO_SUM;
    game->max_legal = width;
    game->side_planes[0] = 0; /* the mover's stones; as many as the other's, or one less */
    game->side_planes[1] = 1;
    game->plies_left = c4_plies_left;
    if (width == 7 && height == 6 && run == 4)
        c4_fill_standard(game);
    else
        c4_fill_any(game);
    return NULL;
}

static const playout_param C4_PARAMS[] = {
    PLAYOUT_INTEGER_PARAM("width", 7, 1, 32),
    PLAYOUT_INTEGER_PARAM("height", 6, 1, 63),
    PLAYOUT_INTEGER_PARAM("run", 4, 2, 63),
    PLAYOUT_PARAMS_END,
};

static const playout_maker CONNECT_FOUR = {"connect_four", C4_PARAMS, c4_make};

#endif
