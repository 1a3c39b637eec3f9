/* The m,n,k games: m columns, n rows, stones in turn, and k of one's own in a row wins; gomoku is 15,15,5.
 *
 * By the rule "freestyle" longer rows win too, by "exact" a row must have exactly k. Cells count from 0 at the top left,
 * row by row, and are bits of as many words as that takes; in text "a1" is the bottom left. One line of text is the rows
 * from the top, "X" for the first player, "O" for the second, "." for empty, joined by "/".
 */
#ifndef PLAYOUT_MNK_H
#define PLAYOUT_MNK_H

#include <stdio.h>
#include <string.h>

#include "playout_maker.h"
#include "playout_text.h"

#define MNK_MAX_SIDE 26
#define MNK_MAX_CELLS (MNK_MAX_SIDE * MNK_MAX_SIDE)
#define MNK_MAX_WORDS ((MNK_MAX_CELLS + 63) / 64)

/* The stones of player 0 and then of player 1 follow, mnk_words(game) words each. */
typedef struct mnk_state {
    int32_t plies;
    int32_t won; /* 1 where the last stone made a row */
    uint64_t stones[];
} mnk_state;

static inline int32_t mnk_width(const playout_game *game) { return game->params[0]; }
static inline int32_t mnk_height(const playout_game *game) { return game->params[1]; }
static inline int32_t mnk_run(const playout_game *game) { return game->params[2]; }
static inline int32_t mnk_exact(const playout_game *game) { return game->params[3]; }
static inline int32_t mnk_words(const playout_game *game) { return game->params[4]; }
static inline int32_t mnk_cells(const playout_game *game) { return mnk_width(game) * mnk_height(game); }

static inline int mnk_bit(const uint64_t *stones, int32_t cell) { return (int)(stones[cell >> 6] >> (cell & 63) & 1); }
static inline int32_t mnk_lesser(int32_t a, int32_t b) { return a < b ? a : b; }

/* How many stones lie in line from `cell` on, not counting its own, at most `most`. */
static inline int32_t mnk_reach(const uint64_t *stones, int32_t cell, int32_t step, int32_t most) {
    int32_t count = 0;
    while (count < most && mnk_bit(stones, cell + (count + 1) * step)) count++;
    return count;
}

/* Does the stone at `cell` stand in a row that wins? Nothing longer than k + 1 needs to be counted. */
static int mnk_wins(const playout_game *game, const uint64_t *stones, int32_t cell) {
    const int32_t width = mnk_width(game), run = mnk_run(game), most = mnk_exact(game) ? run : run - 1;
    const int32_t x = cell % width, y = cell / width;
    const int32_t left = mnk_lesser(x, most), right = mnk_lesser(width - 1 - x, most);
    const int32_t up = mnk_lesser(y, most), down = mnk_lesser(mnk_height(game) - 1 - y, most);
    const int32_t lengths[4] = {
        1 + mnk_reach(stones, cell, -1, left) + mnk_reach(stones, cell, 1, right),
        1 + mnk_reach(stones, cell, -width, up) + mnk_reach(stones, cell, width, down),
        1 + mnk_reach(stones, cell, -width - 1, mnk_lesser(left, up)) +
            mnk_reach(stones, cell, width + 1, mnk_lesser(right, down)),
        1 + mnk_reach(stones, cell, -width + 1, mnk_lesser(right, up)) +
            mnk_reach(stones, cell, width - 1, mnk_lesser(left, down)),
    };
    for (int32_t i = 0; i < 4; i++)
        if (lengths[i] == run || (lengths[i] > run && !mnk_exact(game))) return 1;
    return 0;
}

/* Does any of the stones stand in a row that wins? */
static int mnk_line(const playout_game *game, const uint64_t *stones) {
    for (int32_t cell = 0; cell < mnk_cells(game); cell++)
        if (mnk_bit(stones, cell) && mnk_wins(game, stones, cell)) return 1;
    return 0;
}

static void mnk_init(const playout_game *game, void *state) { memset(state, 0, (size_t)game->state_size); }

static int32_t mnk_to_play(const playout_game *game, const void *state) {
    const mnk_state *s = (const mnk_state *)state;
    return s->won || s->plies == mnk_cells(game) ? PLAYOUT_TERMINAL : s->plies & 1;
}

static int32_t mnk_legal(const playout_game *game, const void *state, int32_t *actions) {
    const mnk_state *s = (const mnk_state *)state;
    const int32_t words = mnk_words(game), last = mnk_cells(game) & 63;
    int32_t count = 0;
    if (s->won) return 0;
    for (int32_t word = 0; word < words; word++) {
        uint64_t free = ~(s->stones[word] | s->stones[words + word]);
        if (word == words - 1 && last) free &= (UINT64_C(1) << last) - 1;
        for (; free; free &= free - 1) actions[count++] = 64 * word + __builtin_ctzll(free);
    }
    return count;
}

static int32_t mnk_is_legal(const playout_game *game, const void *state, int32_t action) {
    const mnk_state *s = (const mnk_state *)state;
    return !s->won && !mnk_bit(s->stones, action) && !mnk_bit(s->stones + mnk_words(game), action);
}

static void mnk_apply(const playout_game *game, void *state, int32_t action) {
    mnk_state *s = (mnk_state *)state;
    uint64_t *own = s->stones + (s->plies & 1) * mnk_words(game);
    own[action >> 6] |= UINT64_C(1) << (action & 63);
    s->plies++;
    s->won = mnk_wins(game, own, action);
}

static void mnk_returns(const playout_game *game, const void *state, float *values) {
    const mnk_state *s = (const mnk_state *)state;
    values[s->plies & 1] = 0.0f - (float)s->won;
    values[1 - (s->plies & 1)] = (float)s->won;
}

/* The player's stones and the other's; row 0 is the top row. */
static void mnk_observe(const playout_game *game, const void *state, int32_t player, float *obs) {
    const mnk_state *s = (const mnk_state *)state;
    const uint64_t *own = s->stones + player * mnk_words(game), *other = s->stones + (1 - player) * mnk_words(game);
    const int32_t cells = mnk_cells(game);
    for (int32_t cell = 0; cell < cells; cell++) {
        obs[cell] = (float)mnk_bit(own, cell);
        obs[cells + cell] = (float)mnk_bit(other, cell);
    }
}

/* Bit 0 of k mirrors columns, bit 1 rows, bit 2 swaps rows and columns, which only square boards have. */
static int32_t mnk_symmetry_action(const playout_game *game, int32_t k, int32_t action) {
    const int32_t width = mnk_width(game), row = action / width, column = action % width;
    int32_t x = k & 4 ? row : column, y = k & 4 ? column : row;
    if (k & 1) x = width - 1 - x;
    if (k & 2) y = mnk_height(game) - 1 - y;
    return y * width + x;
}

static void mnk_symmetry(const playout_game *game, const void *state, int32_t k, void *out) {
    const mnk_state *s = (const mnk_state *)state;
    mnk_state *t = (mnk_state *)out;
    memset(out, 0, (size_t)game->state_size);
    t->plies = s->plies;
    t->won = s->won;
    for (int32_t word = 0; word < 2 * mnk_words(game); word++)
        for (uint64_t left = s->stones[word]; left; left &= left - 1) {
            const int32_t side = word >= mnk_words(game) ? mnk_words(game) : 0;
            const int32_t to = mnk_symmetry_action(game, k, 64 * (word - side) + __builtin_ctzll(left));
            t->stones[side + (to >> 6)] |= UINT64_C(1) << (to & 63);
        }
}

/* The stones of one side as four sets of lines; a row of `run` shows within its own line. */
typedef struct mnk_lines {
    uint32_t row[MNK_MAX_SIDE], column[MNK_MAX_SIDE], falling[2 * MNK_MAX_SIDE], rising[2 * MNK_MAX_SIDE];
} mnk_lines;

static inline uint32_t mnk_starts(uint32_t line, int32_t run) {
    int32_t length = 1;
    for (; 2 * length <= run; length *= 2) line &= line >> length;
    return length < run ? line & (line >> (run - length)) : line;
}

/* A run of exactly k has one start, a longer one several side by side. */
static inline int mnk_lines_put(mnk_lines *lines, int32_t x, int32_t y, int32_t run, int exact) {
    uint32_t *line[4] = {&lines->row[y], &lines->column[x], &lines->falling[x - y + MNK_MAX_SIDE], &lines->rising[x + y]};
    uint32_t found = 0;
    for (int32_t i = 0; i < 4; i++) {
        *line[i] |= 1u << (i == 1 ? y : x);
        const uint32_t starts = mnk_starts(*line[i], run);
        found |= exact ? starts & ~(starts << 1) & ~(starts >> 1) : starts;
    }
    return found != 0;
}

/* One random game: free cells are drawn from a list that shrinks, and rows are looked for line by line. */
static void mnk_playout(const playout_game *game, const void *state, playout_rng *rng, float *values) {
    const mnk_state *s = (const mnk_state *)state;
    const int32_t width = mnk_width(game), cells = mnk_cells(game), run = mnk_run(game), exact = mnk_exact(game);
    mnk_lines lines[2];
    uint8_t free[MNK_MAX_CELLS][2];
    int32_t count = 0, plies = s->plies;
    values[0] = values[1] = 0.0f;
    if (s->won) {
        mnk_returns(game, state, values);
        return;
    }
    memset(lines, 0, sizeof lines);
    for (int32_t y = 0, cell = 0; cell < cells; y++)
        for (int32_t x = 0; x < width; x++, cell++) {
            const int first = mnk_bit(s->stones, cell);
            if (first || mnk_bit(s->stones + mnk_words(game), cell)) {
                mnk_lines_put(&lines[!first], x, y, run, exact);
            } else {
                free[count][0] = (uint8_t)x;
                free[count++][1] = (uint8_t)y;
            }
        }
    for (; count; plies++) {
        const uint32_t drawn = playout_rng_below(rng, (uint32_t)count--);
        const int32_t x = free[drawn][0], y = free[drawn][1];
        memcpy(free[drawn], free[count], 2);
        if (!mnk_lines_put(&lines[plies & 1], x, y, run, exact)) continue;
        values[plies & 1] = 1.0f;
        values[1 - (plies & 1)] = -1.0f;
        return;
    }
}

static int32_t mnk_plies_left(const playout_game *game, const void *state) {
    const mnk_state *s = (const mnk_state *)state;
    return s->won ? 0 : mnk_cells(game) - s->plies;
}

static int32_t mnk_write_action(const playout_game *game, const void *state, int32_t action, char *text) {
    const int32_t width = mnk_width(game);
    return sprintf(text, "%c%d", 'a' + action % width, mnk_height(game) - action / width);
}

static int32_t mnk_read_action(const playout_game *game, const void *state, const char *text) {
    int32_t row;
    const int32_t x = playout_read_cell(text, &row);
    if (x < 0 || x >= mnk_width(game) || row > mnk_height(game)) return -1;
    return (mnk_height(game) - row) * mnk_width(game) + x;
}

static inline char mnk_letter(const playout_game *game, const mnk_state *s, int32_t cell) {
    return mnk_bit(s->stones, cell) ? 'X' : mnk_bit(s->stones + mnk_words(game), cell) ? 'O' : '.';
}

static int32_t mnk_write_state(const playout_game *game, const void *state, char *text) {
    char *out = text;
    for (int32_t cell = 0; cell < mnk_cells(game); cell++) {
        if (cell && cell % mnk_width(game) == 0) *out++ = '/';
        *out++ = mnk_letter(game, (const mnk_state *)state, cell);
    }
    *out = 0;
    return (int32_t)(out - text);
}

static int32_t mnk_write_board(const playout_game *game, const void *state, char *text) {
    const int32_t width = mnk_width(game), height = mnk_height(game), digits = height > 9 ? 2 : 1;
    char *out = text;
    for (int32_t y = 0; y < height; y++) {
        out += sprintf(out, "%*d", digits, height - y);
        for (int32_t x = 0; x < width; x++) {
            *out++ = ' ';
            *out++ = mnk_letter(game, (const mnk_state *)state, y * width + x);
        }
        *out++ = '\n';
    }
    out += sprintf(out, "%*s", digits, "");
    for (int32_t x = 0; x < width; x++) out += sprintf(out, " %c", 'a' + x);
    return (int32_t)(out - text);
}

/* A row must be the last stone's: without some stone of its side there is none. By the exact rule, in which further
 * stones can undo a row, whether an earlier one had ended the game is not asked. */
static int32_t mnk_check(const playout_game *game, const void *state) {
    const mnk_state *s = (const mnk_state *)state;
    const int32_t words = mnk_words(game), cells = mnk_cells(game), last = cells & 63;
    int32_t counts[2] = {0, 0};
    for (int32_t word = 0; word < words; word++) {
        const uint64_t first = s->stones[word], second = s->stones[words + word];
        if ((first & second) || (word == words - 1 && last && (first | second) >> last)) return -1;
        counts[0] += __builtin_popcountll(first);
        counts[1] += __builtin_popcountll(second);
    }
    if (s->plies != counts[0] + counts[1] || counts[0] - counts[1] != (s->plies & 1)) return -1;
    const int32_t waiting = 1 - (s->plies & 1);
    if (mnk_line(game, s->stones + (1 - waiting) * words)) return -1;
    if (!mnk_line(game, s->stones + waiting * words)) return s->won ? -1 : 0;
    if (s->won != 1) return -1;
    uint64_t stones[MNK_MAX_WORDS];
    memcpy(stones, s->stones + waiting * words, (size_t)words * 8);
    for (int32_t cell = 0; cell < cells; cell++) {
        if (!mnk_bit(stones, cell) || !mnk_wins(game, stones, cell)) continue;
        stones[cell >> 6] ^= UINT64_C(1) << (cell & 63);
        const int before = mnk_line(game, stones);
        stones[cell >> 6] ^= UINT64_C(1) << (cell & 63);
        if (!before) return 0;
    }
    return -1;
}

static int32_t mnk_read_state(const playout_game *game, void *state, const char *text) {
    mnk_state *s = (mnk_state *)state;
    mnk_init(game, state);
    for (int32_t cell = 0; cell < mnk_cells(game); cell++, text++) {
        if (cell && cell % mnk_width(game) == 0 && *text++ != '/') return -1;
        if (*text != 'X' && *text != 'O' && *text != '.') return -1;
        if (*text == '.') continue;
        s->stones[(*text == 'O') * mnk_words(game) + (cell >> 6)] |= UINT64_C(1) << (cell & 63);
        s->plies++;
    }
    if (*text) return -1;
    s->won = mnk_line(game, s->stones + (1 - (s->plies & 1)) * mnk_words(game));
    return mnk_check(game, state);
}

static int32_t mnk_write_goal(const playout_game *game, char *text) {
    return snprintf(text, PLAYOUT_TEXT_SIZE,
                    "Who first has %s%d%s in a row, level, upright or diagonal, wins; a full board is a draw.",
                    mnk_exact(game) ? "exactly " : "", mnk_run(game), mnk_exact(game) ? "" : " or more");
}

static const char *mnk_fill(playout_game *game, const char *name, int32_t width, int32_t height, int32_t run, int exact) {
    if (run > width && run > height) return "k must not be more than both m and n";
    playout_game_begin(game, name);
    game->params[0] = width;
    game->params[1] = height;
    game->params[2] = run;
    game->params[3] = exact;
    game->params[4] = (width * height + 63) / 64;
    game->num_players = 2;
    game->num_actions = game->max_plies = game->max_legal = width * height;
    game->obs_shape[0] = 2;
    game->obs_shape[1] = height;
    game->obs_shape[2] = width;
    game->state_size = (int32_t)sizeof(mnk_state) + 16 * mnk_words(game);
    game->num_symmetries = width == height ? 8 : 4;
    game->init = mnk_init;
    game->to_play = mnk_to_play;
    game->legal = mnk_legal;
    game->is_legal = mnk_is_legal;
    game->apply = mnk_apply;
    game->returns = mnk_returns;
    game->observe = mnk_observe;
    game->symmetry = mnk_symmetry;
    game->symmetry_action = mnk_symmetry_action;
    game->write_action = mnk_write_action;
    game->read_action = mnk_read_action;
    game->write_state = mnk_write_state;
    game->read_state = mnk_read_state;
    game->write_board = mnk_write_board;
    game->write_goal = mnk_write_goal;
    game->check = mnk_check;
    game->playout = mnk_playout;
    game->flags = PLAYOUT_ZERO_SUM;
    game->side_planes[0] = 0; /* the mover's stones; as many as the other's, or one less */
    game->side_planes[1] = 1;
    game->plies_left = mnk_plies_left;
    return NULL;
}

static const char *mnk_make(playout_game *game, const double *values) {
    return mnk_fill(game, "mnk", (int32_t)values[0], (int32_t)values[1], (int32_t)values[2], values[3] != 0);
}

static const char *mnk_make_gomoku(playout_game *game, const double *values) {
    return mnk_fill(game, "gomoku", (int32_t)values[0], (int32_t)values[0], 5, values[1] != 0);
}

static const playout_param MNK_PARAMS[] = {
    PLAYOUT_INTEGER_PARAM("m", 3, 1, MNK_MAX_SIDE),
    PLAYOUT_INTEGER_PARAM("n", 3, 1, MNK_MAX_SIDE),
    PLAYOUT_INTEGER_PARAM("k", 3, 2, MNK_MAX_SIDE),
    PLAYOUT_CHOICE_PARAM("rule", 0, 2, "freestyle exact"),
    PLAYOUT_PARAMS_END,
};

static const playout_param MNK_GOMOKU_PARAMS[] = {
    PLAYOUT_INTEGER_PARAM("size", 15, 5, MNK_MAX_SIDE),
    PLAYOUT_CHOICE_PARAM("rule", 0, 2, "freestyle exact"),
    PLAYOUT_PARAMS_END,
};

static const playout_maker MNK = {"mnk", MNK_PARAMS, mnk_make};
static const playout_maker GOMOKU = {"gomoku", MNK_GOMOKU_PARAMS, mnk_make_gomoku};

#endif
