/* Liar's dice: everybody throws dice that the others do not see, and bids in turn how many of one face lie under all cups.
 *
 * A bid names more dice than the last, or as many of a higher face; the highest face counts for every face. Instead of
 * bidding a player may call "liar": if there are fewer dice than bid the bidder loses and the caller wins, else the other
 * way round; players beside these two gain nothing and lose nothing. A bid's text is "2-5" (two fives); one line of text
 * is the dice by player and the bids: "35|26:1-5,2-6,liar". Once somebody has called, everybody sees all dice.
 */
#ifndef PLAYOUT_LIARS_DICE_H
#define PLAYOUT_LIARS_DICE_H

#include <stdio.h>
#include <string.h>

#include "playout_maker.h"
#include "playout_text.h"

#define LIARS_MAX_DICE 24
#define LIARS_MAX_SIDES 9 /* 24 * 9 bids fit into four words */

typedef struct liars_state {
    uint64_t bids[4];            /* bit (dice - 1) * sides + face - 1: that bid was made; bids only rise */
    uint8_t die[LIARS_MAX_DICE]; /* faces by player, each player's own in rising order; 0: not thrown */
    uint8_t thrown, called;
    uint16_t last; /* 1 + the highest bid; 0: none */
    uint32_t zero;
} liars_state;

static inline int32_t liars_dice_each(const playout_game *game) { return game->params[0]; }
static inline int32_t liars_sides(const playout_game *game) { return game->params[1]; }
static inline int32_t liars_total(const playout_game *game) { return game->num_players * game->params[0]; }
static inline int32_t liars_bids(const playout_game *game) { return liars_total(game) * liars_sides(game); }

static inline int32_t liars_turn(const playout_game *game, const liars_state *s) {
    int32_t made = 0;
    for (int32_t i = 0; i < 4; i++) made += __builtin_popcountll(s->bids[i]);
    return made % game->num_players;
}

static void liars_init(const playout_game *game, void *state) { memset(state, 0, sizeof(liars_state)); }

static int32_t liars_to_play(const playout_game *game, const void *state) {
    const liars_state *s = (const liars_state *)state;
    if (s->thrown < liars_total(game)) return PLAYOUT_CHANCE;
    return s->called ? PLAYOUT_TERMINAL : liars_turn(game, s);
}

static int32_t liars_legal(const playout_game *game, const void *state, int32_t *actions) {
    const liars_state *s = (const liars_state *)state;
    int32_t count = 0;
    if (liars_to_play(game, state) < 0) return 0;
    for (int32_t bid = s->last; bid < liars_bids(game) + (s->last > 0); bid++) actions[count++] = bid;
    return count;
}

static int32_t liars_is_legal(const playout_game *game, const void *state, int32_t action) {
    const liars_state *s = (const liars_state *)state;
    const int32_t turn = liars_to_play(game, state);
    if (turn == PLAYOUT_CHANCE) return action >= 0 && action < liars_sides(game);
    return turn >= 0 && action >= s->last && action < liars_bids(game) + (s->last > 0);
}

static int32_t liars_chance(const playout_game *game, const void *state, int32_t *actions, double *probs) {
    for (int32_t face = 0; face < liars_sides(game); face++) {
        actions[face] = face;
        probs[face] = 1.0 / liars_sides(game);
    }
    return liars_sides(game);
}

/* Puts a die among the `count` that a player has, in rising order. */
static inline void liars_put(uint8_t *dice, int32_t count, uint8_t face) {
    for (; count > 0 && dice[count - 1] > face; count--) dice[count] = dice[count - 1];
    dice[count] = face;
}

static void liars_apply(const playout_game *game, void *state, int32_t action) {
    liars_state *s = (liars_state *)state;
    if (s->thrown < liars_total(game)) {
        const int32_t each = liars_dice_each(game);
        liars_put(s->die + s->thrown / each * each, s->thrown % each, (uint8_t)(action + 1));
        s->thrown++;
    } else if (action == liars_bids(game)) {
        s->called = 1;
    } else {
        s->bids[action / 64] |= UINT64_C(1) << (action % 64);
        s->last = (uint16_t)(action + 1);
    }
}

static void liars_returns(const playout_game *game, const void *state, float *values) {
    const liars_state *s = (const liars_state *)state;
    const int32_t n = game->num_players, sides = liars_sides(game);
    const int32_t bid = s->last - 1, wanted = bid / sides + 1, face = bid % sides + 1;
    const int32_t caller = liars_turn(game, s), bidder = (caller + n - 1) % n;
    int32_t found = 0;
    for (int32_t i = 0; i < liars_total(game); i++) found += s->die[i] == face || s->die[i] == sides;
    for (int32_t i = 0; i < n; i++) values[i] = 0;
    values[bidder] = found >= wanted ? 1.0f : -1.0f;
    values[caller] = -values[bidder];
}

/* Who looks, the own dice (of each face as many ones as there are), and the bids made. */
static void liars_observe(const playout_game *game, const void *state, int32_t player, float *obs) {
    const liars_state *s = (const liars_state *)state;
    const int32_t n = game->num_players, each = liars_dice_each(game);
    memset(obs, 0, (size_t)game->obs_shape[2] * sizeof(float));
    obs[player] = 1;
    obs += n;
    for (int32_t i = 0, same = 0; i < each; i++) {
        const uint8_t *dice = s->die + player * each;
        same = i && dice[i] == dice[i - 1] ? same + 1 : 0;
        if (dice[i]) obs[(dice[i] - 1) * each + same] = 1;
    }
    obs += each * liars_sides(game);
    for (int32_t bid = 0; bid < s->last; bid++) obs[bid] = (float)((s->bids[bid / 64] >> (bid % 64)) & 1);
}

/* The state without the dice that the player does not see. */
static liars_state liars_known(const playout_game *game, const void *state, int32_t player) {
    liars_state s = *(const liars_state *)state;
    const int32_t each = liars_dice_each(game);
    for (int32_t i = 0; i < LIARS_MAX_DICE && !s.called; i++)
        if (i / each != player) s.die[i] = 0;
    return s;
}

static uint64_t liars_info_key(const playout_game *game, const void *state, int32_t player) {
    liars_state s = liars_known(game, state, player);
    s.zero = (uint32_t)player;
    return playout_hash_bytes(&s, sizeof s);
}

static uint64_t liars_eval_key(const playout_game *game, const void *state) {
    const int32_t player = liars_to_play(game, state);
    return liars_info_key(game, state, player < 0 ? 0 : player);
}

static void liars_resample(const playout_game *game, const void *state, int32_t player, playout_rng *rng, void *out) {
    liars_state *s = (liars_state *)out;
    const int32_t each = liars_dice_each(game);
    *s = liars_known(game, state, player);
    for (int32_t i = 0; i < s->thrown && !s->called; i++) {
        const uint8_t face = i / each == player ? 0 : (uint8_t)(1 + playout_rng_below(rng, (uint32_t)liars_sides(game)));
        if (face) liars_put(s->die + i / each * each, i % each, face);
    }
}

static int32_t liars_check(const playout_game *game, const void *state) {
    const liars_state *s = (const liars_state *)state;
    const int32_t total = liars_total(game), each = liars_dice_each(game), bids = liars_bids(game);
    int32_t highest = 0;
    if (s->thrown > total || s->called > 1 || s->zero || s->last > bids) return -1;
    for (int32_t i = 0; i < LIARS_MAX_DICE; i++) {
        if ((s->die[i] != 0) != (i < s->thrown) || s->die[i] > liars_sides(game)) return -1;
        if (i % each && i < s->thrown && s->die[i] < s->die[i - 1]) return -1;
    }
    for (int32_t bid = 0; bid < 256; bid++)
        if ((s->bids[bid / 64] >> (bid % 64)) & 1) highest = bid + 1;
    if (highest != s->last || (highest && s->thrown < total)) return -1;
    return s->called && !s->last ? -1 : 0;
}

static int32_t liars_write_action(const playout_game *game, const void *state, int32_t action, char *text) {
    const liars_state *s = (const liars_state *)state;
    if (s->thrown < liars_total(game)) return sprintf(text, "%d", action + 1);
    if (action == liars_bids(game)) return sprintf(text, "liar");
    return sprintf(text, "%d-%d", action / liars_sides(game) + 1, action % liars_sides(game) + 1);
}

/* Reads a bid or "liar" and moves *text behind it; -1 if there is none. */
static int32_t liars_read_bid(const playout_game *game, const char **text) {
    const char *c = *text;
    int32_t dice = 0;
    if (strncmp(c, "liar", 4) == 0) {
        *text += 4;
        return liars_bids(game);
    }
    for (; *c >= '0' && *c <= '9' && c - *text < 2; c++) dice = 10 * dice + (*c - '0');
    if (**text == '0' || dice < 1 || dice > liars_total(game) || c[0] != '-') return -1;
    if (c[1] < '1' || c[1] > '0' + liars_sides(game)) return -1;
    *text = c + 2;
    return (dice - 1) * liars_sides(game) + (c[1] - '1');
}

static int32_t liars_read_action(const playout_game *game, const void *state, const char *text) {
    const liars_state *s = (const liars_state *)state;
    if (s->thrown < liars_total(game))
        return text[0] >= '1' && text[0] <= '0' + liars_sides(game) && !text[1] ? text[0] - '1' : -1;
    if (playout_same_word(text, "liar")) return liars_bids(game);
    const int32_t action = liars_read_bid(game, &text);
    return *text ? -1 : action;
}

static int32_t liars_write_bids(const playout_game *game, const liars_state *s, const char *gap, char *text) {
    char *out = text;
    for (int32_t bid = 0; bid < s->last; bid++) {
        if (!((s->bids[bid / 64] >> (bid % 64)) & 1)) continue;
        if (out > text) out += sprintf(out, "%s", gap);
        out += liars_write_action(game, s, bid, out);
    }
    if (s->called) out += sprintf(out, "%sliar", gap);
    *out = 0;
    return (int32_t)(out - text);
}

static int32_t liars_write_state(const playout_game *game, const void *state, char *text) {
    const liars_state *s = (const liars_state *)state;
    char *out = text;
    for (int32_t i = 0; i < s->thrown; i++) {
        if (i && i % liars_dice_each(game) == 0) *out++ = '|';
        *out++ = (char)('0' + s->die[i]);
    }
    *out++ = ':';
    return (int32_t)(out - text) + liars_write_bids(game, s, ",", out);
}

static int32_t liars_read_state(const playout_game *game, void *state, const char *text) {
    liars_state *s = (liars_state *)state;
    memset(s, 0, sizeof *s);
    for (; *text && *text != ':'; text++) {
        if (s->thrown == liars_total(game)) return -1;
        if (s->thrown && s->thrown % liars_dice_each(game) == 0 && *text++ != '|') return -1;
        if (*text < '1' || *text > '0' + liars_sides(game)) return -1;
        s->die[s->thrown++] = (uint8_t)(*text - '0');
    }
    if (*text++ != ':') return -1;
    while (*text) {
        const int32_t action = s->thrown < liars_total(game) ? -1 : liars_read_bid(game, &text);
        if (action < 0 || !liars_is_legal(game, state, action)) return -1;
        liars_apply(game, s, action);
        if (*text == ',' && text[1])
            text++;
        else if (*text)
            return -1;
    }
    return liars_check(game, state);
}

static int32_t liars_write_seen(const playout_game *game, const liars_state *s, int32_t player, char *text) {
    const int32_t each = liars_dice_each(game);
    char *out = text;
    for (int32_t i = 0; i < game->num_players; i++) {
        out += sprintf(out, "player %d:", i + 1);
        for (int32_t d = i * each; d < (i + 1) * each; d++) {
            const int seen = player < 0 || player == i || s->called;
            out += sprintf(out, " %c", s->die[d] == 0 ? '-' : seen ? '0' + s->die[d] : '?');
        }
        *out++ = '\n';
    }
    out += sprintf(out, "bids: ");
    return (int32_t)(out - text) + liars_write_bids(game, s, " ", out);
}

static int32_t liars_write_board(const playout_game *game, const void *state, char *text) {
    return liars_write_seen(game, (const liars_state *)state, -1, text);
}

static int32_t liars_write_view(const playout_game *game, const void *state, int32_t player, char *text) {
    return liars_write_seen(game, (const liars_state *)state, player, text);
}

static int32_t liars_plies_left(const playout_game *game, const void *state) {
    const liars_state *s = (const liars_state *)state;
    return s->called ? 0 : liars_total(game) - s->thrown + liars_bids(game) - s->last + 1;
}

static int32_t liars_write_goal(const playout_game *game, char *text) {
    return snprintf(text, PLAYOUT_TEXT_SIZE,
                    "Bids say how many dice of a face all have together, and rise; face %d counts for every face. Who bids "
                    "loses to who calls liar if there are fewer, and wins otherwise.",
                    liars_sides(game));
}

static const char *liars_make(playout_game *game, const double *values) {
    const int32_t n = (int32_t)values[0], each = (int32_t)values[1], sides = (int32_t)values[2];
    if (n * each > LIARS_MAX_DICE) return "it needs players * dice <= 24";
    playout_game_begin(game, "liars_dice");
    game->params[0] = each;
    game->params[1] = sides;
    game->num_players = n;
    game->num_actions = n * each * sides + 1;
    game->max_plies = n * each + n * each * sides + 1;
    game->obs_shape[0] = game->obs_shape[1] = 1;
    game->obs_shape[2] = n + each * sides + n * each * sides;
    game->state_size = (int32_t)sizeof(liars_state);
    game->init = liars_init;
    game->to_play = liars_to_play;
    game->legal = liars_legal;
    game->is_legal = liars_is_legal;
    game->chance = liars_chance;
    game->apply = liars_apply;
    game->returns = liars_returns;
    game->observe = liars_observe;
    game->info_key = liars_info_key;
    game->eval_key = liars_eval_key;
    game->resample = liars_resample;
    game->check = liars_check;
    game->write_action = liars_write_action;
    game->read_action = liars_read_action;
    game->write_state = liars_write_state;
    game->read_state = liars_read_state;
    game->write_board = liars_write_board;
    game->write_goal = liars_write_goal;
    game->write_view = liars_write_view;
    game->plies_left = liars_plies_left;
    game->flags = PLAYOUT_ZERO_SUM | PLAYOUT_HIDDEN;
    game->max_legal = n * each * sides;
    return NULL;
}

static const playout_param LIARS_PARAMS[] = {
    PLAYOUT_INTEGER_PARAM("players", 2, 2, PLAYOUT_MAX_PLAYERS),
    PLAYOUT_INTEGER_PARAM("dice", 1, 1, LIARS_MAX_DICE / 2),
    PLAYOUT_INTEGER_PARAM("sides", 6, 2, LIARS_MAX_SIDES),
    PLAYOUT_PARAMS_END,
};

static const playout_maker LIARS_DICE = {"liars_dice", LIARS_PARAMS, liars_make};

#endif
