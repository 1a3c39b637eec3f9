/* Backgammon's function table: text, observations, the check of foreign bytes.
 *
 * A state is written as an XGID: 26 letters for the bar of O, the points 1 to 24 as X counts them and the bar of X
 * (A is one man of X, a of O, - none), the cube (always 0:0), the turn (1 for X, who is player 0, -1 for O, 0 before the
 * opening roll), the dice, and what only matches need. Dice are 00 where a roll is due, 31 or 33 after it; 3x2 are two
 * threes left, which XGID cannot say. Moves are "24/18", "bar/20*", "6/off"; "3/off(5)" bears off with a higher die.
 */
#ifndef PLAYOUT_BACKGAMMON_TABLE_H
#define PLAYOUT_BACKGAMMON_TABLE_H

#include <stdio.h>
#include <stdlib.h>

#include "../backgammon.h"
#include "playout_text.h"

#define BG_PLANES 19

static void bg_init(const playout_game *game, void *state) { bg_begin((bg_state *)state); }

static int32_t bg_to_play(const playout_game *game, const void *state) {
    const bg_state *s = (const bg_state *)state;
    return bg_is_over(s) ? PLAYOUT_TERMINAL : s->left ? s->turn : PLAYOUT_CHANCE;
}

static inline int32_t bg_write_sources(uint32_t sources, int32_t die, int32_t *actions, int32_t count) {
    for (; sources; sources &= sources - 1) actions[count++] = bg_action(die, __builtin_ctz(sources));
    return count;
}

static int32_t bg_legal(const playout_game *game, const void *state, int32_t *actions) {
    const bg_state *s = (const bg_state *)state;
    uint32_t high, low;
    if (s->left == 0) return 0;
    bg_legal_sources(s, &high, &low);
    return bg_write_sources(high, s->dice[0], actions, bg_write_sources(low, s->dice[1], actions, 0));
}

static int32_t bg_chance(const playout_game *game, const void *state, int32_t *actions, double *probs) {
    const int opening = ((const bg_state *)state)->turn == BG_OPENING;
    int32_t count = 0;
    for (int32_t first = 1; first <= 6; first++)
        for (int32_t second = 1; second <= (opening ? 6 : first); second++) {
            if (opening && first == second) continue;
            actions[count] = bg_roll(first, second);
            probs[count++] = opening ? 1.0 / 30 : (first == second ? 1.0 : 2.0) / 36;
        }
    return count;
}

static int32_t bg_is_legal(const playout_game *game, const void *state, int32_t action) {
    const bg_state *s = (const bg_state *)state;
    uint32_t high, low;
    if (action < 0 || action >= BG_ACTIONS || bg_is_over(s)) return 0;
    if (s->left == 0) {
        const int32_t first = action / 6, second = action % 6;
        return action < BG_OUTCOMES && (s->turn == BG_OPENING ? first != second : first >= second);
    }
    bg_legal_sources(s, &high, &low);
    const int32_t die = bg_die(action);
    const uint32_t sources = die == s->dice[0] ? high : die == s->dice[1] ? low : 0;
    return sources >> bg_from(action) & 1;
}

static void bg_apply(const playout_game *game, void *state, int32_t action) {
    bg_state *s = (bg_state *)state;
    if (s->left == 0)
        bg_apply_roll(s, action / 6 + 1, action % 6 + 1);
    else
        bg_apply_move(s, bg_die(action), bg_from(action));
}

static void bg_returns(const playout_game *game, const void *state, float *values) {
    int32_t points = bg_points_won((const bg_state *)state);
    if (game->params[0] == 0) points = (points > 0) - (points < 0);
    values[0] = (float)points;
    values[1] = (float)-points;
}

/* As the player counts points, 24 cells in a row. Planes 0 to 3: own men, at least 1, 2, 3, and how many more; 4 to 7:
 * the other's; 8 to 11: own and the other's on the bar, own and the other's off; 12 to 17: the dice that are left, by
 * number; 18: is it the player's turn? Numbers of men are in fifteenths, of dice in quarters. */
static void bg_observe(const playout_game *game, const void *state, int32_t player, float *obs) {
    const bg_state *s = (const bg_state *)state;
    const uint8_t *own = s->men[player], *other = s->men[1 - player];
    float even[BG_PLANES] = {0};
    even[8] = (float)own[BG_BAR] / BG_MEN;
    even[9] = (float)other[BG_BAR] / BG_MEN;
    even[10] = (float)own[BG_OFF] / BG_MEN;
    even[11] = (float)other[BG_OFF] / BG_MEN;
    if (s->left) even[11 + s->dice[0]] = s->dice[1] ? 0.25f : 0.25f * (float)s->left;
    if (s->dice[1]) even[11 + s->dice[1]] = 0.25f;
    even[18] = (float)(s->turn == player);
    for (int32_t p = 1; p <= 24; p++) {
        const int32_t mine = own[p], theirs = other[BG_BAR - p];
        for (int32_t i = 0; i < 3; i++) {
            obs[i * 24 + p - 1] = (float)(mine > i);
            obs[(4 + i) * 24 + p - 1] = (float)(theirs > i);
        }
        obs[3 * 24 + p - 1] = mine > 3 ? (float)(mine - 3) / BG_MEN : 0.0f;
        obs[7 * 24 + p - 1] = theirs > 3 ? (float)(theirs - 3) / BG_MEN : 0.0f;
    }
    for (int32_t plane = 8; plane < BG_PLANES; plane++)
        for (int32_t p = 0; p < 24; p++) obs[plane * 24 + p] = even[plane];
}

/* How many rolls there were counts only once there were too many. */
static uint64_t bg_hash(const playout_game *game, const void *state) {
    bg_state s = *(const bg_state *)state;
    s.rolls = s.left == 0 && s.rolls >= BG_MAX_ROLLS;
    return playout_hash_bytes(&s, sizeof s);
}

static int32_t bg_write_action(const playout_game *game, const void *state, int32_t action, char *text) {
    const bg_state *s = (const bg_state *)state;
    if (s->left == 0 && action < BG_OUTCOMES) return sprintf(text, "%d%d", action / 6 + 1, action % 6 + 1);
    const int32_t from = bg_from(action), to = from - bg_die(action);
    char *out = text;
    out += from == BG_BAR ? sprintf(out, "bar/") : sprintf(out, "%d/", from);
    if (to > 0)
        out += sprintf(out, "%d%s", to, s->turn < 2 && s->men[1 - s->turn][BG_BAR - to] ? "*" : "");
    else
        out += to == 0 ? sprintf(out, "off") : sprintf(out, "off(%d)", bg_die(action));
    return (int32_t)(out - text);
}

/* A number from 1 to `most`, moving `text` behind it; -1 if there is none. */
static int32_t bg_number(const char **text, int32_t most) {
    int32_t number = 0;
    if (**text < '1' || **text > '9') return -1;
    for (; **text >= '0' && **text <= '9' && number <= most; ++*text) number = 10 * number + (**text - '0');
    return number <= most ? number : -1;
}

/* Does the text begin with this word, in letters of either case? Then `text` is moved behind it. */
static int bg_word(const char **text, const char *word) {
    const char *c = *text;
    while (*word && playout_lower(*c) == *word) c++, word++;
    if (*word == 0) *text = c;
    return *word == 0;
}

static int32_t bg_read_action(const playout_game *game, const void *state, const char *text) {
    const bg_state *s = (const bg_state *)state;
    int32_t from = BG_BAR, die;
    if (s->left == 0) {
        if (text[0] < '1' || text[0] > '6' || text[1] < '1' || text[1] > '6' || text[2]) return -1;
        return bg_roll(text[0] - '0', text[1] - '0');
    }
    if (!bg_word(&text, "bar")) from = bg_number(&text, 24);
    if (from < 1 || *text++ != '/') return -1;
    if (bg_word(&text, "off")) {
        die = from;
        if (*text == '(') {
            text++;
            die = bg_number(&text, 6);
            if (die <= from || *text++ != ')') return -1;
        }
    } else {
        const int32_t to = bg_number(&text, 24);
        if (to < 1) return -1;
        die = from - to;
        if (*text == '*') text++;
    }
    return *text == 0 && die >= 1 && die <= 6 ? bg_action(die, from) : -1;
}

static int32_t bg_write_state(const playout_game *game, const void *state, char *text) {
    const bg_state *s = (const bg_state *)state;
    char *out = text + sprintf(text, "XGID=");
    for (int32_t p = 0; p <= BG_BAR; p++) {
        const int32_t x = p ? s->men[0][p] : 0, o = p < BG_BAR ? s->men[1][BG_BAR - p] : 0;
        *out++ = (char)(x ? 'A' + x - 1 : o ? 'a' + o - 1 : '-');
    }
    out += sprintf(out, ":0:0:%d:", s->turn == BG_OPENING ? 0 : s->turn ? -1 : 1);
    if (s->dice[1] || s->left == 0)
        out += sprintf(out, "%d%d", s->dice[0], s->dice[1]);
    else if (s->left == 4)
        out += sprintf(out, "%d%d", s->dice[0], s->dice[0]);
    else
        out += sprintf(out, "%dx%d", s->dice[0], s->left);
    out += sprintf(out, ":0:0:0:0:10");
    return (int32_t)(out - text);
}

/* The board as X sees it; above, points 13 to 24, the bar between 18 and 19. */
static int32_t bg_write_board(const playout_game *game, const void *state, char *text) {
    const bg_state *s = (const bg_state *)state;
    char *out = text;
    for (int32_t half = 0; half < 2; half++) {
        for (int32_t line = 0; line < 6; line++) {
            const int32_t row = half ? 5 - line : line; /* row 0 is the rim */
            for (int32_t column = 0; column < 13; column++) {
                if (column == 6) {
                    out += sprintf(out, " |");
                    continue;
                }
                const int32_t p = half ? 12 - column + (column > 6) : 13 + column - (column > 6);
                const int32_t x = s->men[0][p], o = s->men[1][BG_BAR - p], count = x + o;
                if (row == 0)
                    out += sprintf(out, "%3d", p);
                else if (row == 5 && count > 5)
                    out += sprintf(out, "%3d", count);
                else
                    out += sprintf(out, "  %c", count < row ? '.' : x ? 'X' : 'O');
            }
            *out++ = '\n';
        }
        if (half == 0) *out++ = '\n';
    }
    out += sprintf(out, "on the bar: X %d, O %d; off: X %d, O %d", s->men[0][BG_BAR], s->men[1][BG_BAR],
                   s->men[0][BG_OFF], s->men[1][BG_OFF]);
    if (s->left) out += sprintf(out, "\n%c to move:", s->turn ? 'O' : 'X');
    for (int32_t i = 0; i < s->left; i++) out += sprintf(out, " %d", s->dice[s->dice[1] ? i : 0]);
    return (int32_t)(out - text);
}

static int bg_is_first(const bg_state *s) {
    bg_state first;
    bg_begin(&first);
    return memcmp(first.men, s->men, sizeof first.men) == 0;
}

static int32_t bg_check(const playout_game *game, const void *state) {
    const bg_state *s = (const bg_state *)state;
    uint32_t high, low;
    if (s->turn > BG_OPENING || s->left > 4 || s->dice[0] > 6 || s->zero || s->rolls > BG_MAX_ROLLS) return -1;
    for (int32_t player = 0; player < 2; player++) {
        int32_t count = 0;
        for (int32_t p = 0; p <= BG_BAR; p++) {
            count += s->men[player][p];
            if (p && p < BG_BAR && s->men[player][p] && s->men[1 - player][BG_BAR - p]) return -1;
        }
        if (count != BG_MEN) return -1;
    }
    if (s->turn == BG_OPENING) return s->left == 0 && s->dice[0] == 0 && s->dice[1] == 0 && s->rolls == 0 && bg_is_first(s) ? 0 : -1;
    if (s->men[s->turn][BG_OFF] == BG_MEN) return -1; /* who has won does not move next */
    if (s->left == 0) return s->dice[0] == 0 && s->dice[1] == 0 ? 0 : -1;
    if (s->dice[0] == 0 || s->men[1 - s->turn][BG_OFF] == BG_MEN) return -1;
    if (s->dice[1] && (s->left != 2 || s->dice[1] >= s->dice[0])) return -1;
    bg_legal_sources(s, &high, &low);
    return high | low ? 0 : -1; /* a turn without a move has ended */
}

/* The dice of an XGID; 0, or -1. */
static int32_t bg_read_dice(bg_state *s, const char *text, size_t length) {
    const int32_t first = text[0] - '0', last = length ? text[length - 1] - '0' : 0;
    if (length < 2 || first < 0 || first > 6 || last < 0 || last > 6) return -1;
    if (length == 3 && text[1] == 'x' && first && last >= 1 && last <= 3) {
        s->dice[0] = (uint8_t)first;
        s->left = (uint8_t)last;
        return 0;
    }
    if (length != 2 || (first == 0) != (last == 0)) return -1;
    if (first) bg_set_dice(s, first, last);
    return 0;
}

/* Fields behind the dice may be left out; what they say of a match is not kept. Dice that cannot be played end the turn. */
static int32_t bg_read_state(const playout_game *game, void *state, const char *text) {
    bg_state s;
    memset(&s, 0, sizeof s);
    int32_t left[2] = {BG_MEN, BG_MEN};
    if (strncmp(text, "XGID=", 5)) return -1;
    text += 5;
    for (int32_t p = 0; p <= BG_BAR; p++, text++) {
        const int32_t x = *text >= 'A' && *text <= 'O', o = *text >= 'a' && *text <= 'o';
        if ((!x && !o && *text != '-') || (x && p == 0) || (o && p == BG_BAR)) return -1;
        const int32_t count = x ? *text - 'A' + 1 : o ? *text - 'a' + 1 : 0;
        s.men[o][o ? BG_BAR - p : p] = (uint8_t)count;
        if ((left[o] -= count) < 0) return -1;
    }
    s.men[0][BG_OFF] = (uint8_t)left[0];
    s.men[1][BG_OFF] = (uint8_t)left[1];
    if (strncmp(text, ":0:0:", 5)) return -1;
    text += 5;
    s.turn = *text == '1' ? 0 : *text == '-' ? 1 : BG_OPENING;
    if (s.turn == 1) text++;
    if ((*text != '0' && *text != '1') || (s.turn == 1 && *text != '1') || text[1] != ':') return -1;
    text += 2;
    const size_t length = strcspn(text, ":");
    if (bg_read_dice(&s, text, length)) return -1;
    int32_t fields = 0;
    for (text += length; *text; text++) {
        fields += *text == ':';
        if (*text != ':' && (*text < '0' || *text > '9')) return -1;
    }
    if (fields > 5) return -1;
    if (s.left && s.turn != BG_OPENING && !bg_is_over(&s)) bg_pass_if_stuck(&s);
    memcpy(state, &s, sizeof s);
    return bg_check(game, state);
}

static void bg_playout(const playout_game *game, const void *state, playout_rng *rng, float *values) {
    bg_state s = *(const bg_state *)state;
    while (!bg_is_over(&s)) {
        uint32_t high, low;
        if (s.left == 0) {
            int32_t first, second;
            do {
                first = 1 + (int32_t)playout_rng_below(rng, 6);
                second = 1 + (int32_t)playout_rng_below(rng, 6);
            } while (s.turn == BG_OPENING && first == second);
            bg_apply_roll(&s, first, second);
            continue;
        }
        bg_legal_sources(&s, &high, &low);
        const uint32_t highs = (uint32_t)__builtin_popcount(high), count = highs + (uint32_t)__builtin_popcount(low);
        uint32_t skip = count > 1 ? playout_rng_below(rng, count) : 0;
        const int32_t die = skip < highs ? s.dice[0] : s.dice[1];
        uint32_t sources = skip < highs ? high : low;
        for (skip -= skip < highs ? 0 : highs; skip; skip--) sources &= sources - 1;
        bg_apply_move(&s, die, __builtin_ctz(sources));
    }
    bg_returns(game, &s, values);
}

static int32_t bg_plies_left(const playout_game *game, const void *state) {
    const bg_state *s = (const bg_state *)state;
    return bg_is_over(s) ? 0 : s->left + 5 * (int32_t)(BG_MAX_ROLLS - s->rolls);
}

static int32_t bg_write_goal(const playout_game *game, char *text) {
    return snprintf(text, PLAYOUT_TEXT_SIZE, "Who first bears off all %d men wins%s.", BG_MEN,
                    game->params[0] ? ", twice as much if the other has borne off none, and three times if one of these "
                                      "is still on the bar or in the winner's home"
                                    : "");
}

static const char *bg_make(playout_game *game, const double *values) {
    playout_game_begin(game, "backgammon");
    game->params[0] = (int32_t)values[0];
    game->num_players = 2;
    game->num_actions = BG_ACTIONS;
    game->max_plies = 5 * BG_MAX_ROLLS;
    game->obs_shape[0] = BG_PLANES;
    game->obs_shape[1] = 1;
    game->obs_shape[2] = 24;
    game->state_size = (int32_t)sizeof(bg_state);
    game->init = bg_init;
    game->to_play = bg_to_play;
    game->legal = bg_legal;
    game->is_legal = bg_is_legal;
    game->apply = bg_apply;
    game->returns = bg_returns;
    game->observe = bg_observe;
    game->hash = bg_hash;
    game->eval_key = bg_hash;
    game->write_action = bg_write_action;
    game->read_action = bg_read_action;
    game->write_state = bg_write_state;
    game->read_state = bg_read_state;
    game->write_board = bg_write_board;
    game->write_goal = bg_write_goal;
    game->check = bg_check;
    game->chance = bg_chance;
    game->playout = bg_playout;
    game->flags = PLAYOUT_ZERO_SUM | PLAYOUT_HISTORY; /* the text leaves out how many rolls there were */
    game->max_legal = 30; /* opening rolls; of moves two dice from 15 points each are the most */
    game->plies_left = bg_plies_left;
    game->value_scale = game->params[0] ? 3 : 1;
    return NULL;
}

static const playout_param BG_PARAMS[] = {
    PLAYOUT_INTEGER_PARAM("gammons", 1, 0, 1), /* do a gammon and a backgammon count 2 and 3 points? */
    PLAYOUT_PARAMS_END,
};

static const playout_maker BACKGAMMON = {"backgammon", BG_PARAMS, bg_make};

#endif
