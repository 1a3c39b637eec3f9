/* Kuhn poker (Kuhn 1950) for two and more players: one card each from a deck of one more, one chip in the pot, one bet.
 *
 * In turn everybody passes, or bets one chip; after a bet each other player has one move: to pass is to fold, to bet is to
 * call. Of those who are still in, the highest card takes the pot. Results are chips won. A move's text is "p" or "b", a
 * card's its rank; one line of text is the moves and the cards by player, "pb:J|Q". The deck of two players is J, Q, K, of
 * more its ranks end with the ace. At a showdown the cards of those still in are shown to everybody.
 */
#ifndef PLAYOUT_KUHN_POKER_H
#define PLAYOUT_KUHN_POKER_H

#include <stdio.h>
#include <string.h>

#include "cards.h"
#include "playout_maker.h"

typedef struct kuhn_state {
    uint8_t card[PLAYOUT_MAX_PLAYERS]; /* 1 + its place in the deck; 0: not dealt */
    uint8_t dealt, moves;
    uint16_t bets; /* bit i: move i was a bet */
    uint32_t zero;
} kuhn_state;

/* How many moves the game has, as far as it is known: all have one, and after the first bet all others another one. */
static inline int32_t kuhn_length(int32_t players, const kuhn_state *s) {
    return s->bets ? __builtin_ctz(s->bets) + players : players;
}

static inline int kuhn_over(int32_t players, const kuhn_state *s) {
    return s->dealt == players && s->moves == kuhn_length(players, s);
}

/* Players who have not folded, as bits; of a game that is over. */
static uint32_t kuhn_in(int32_t players, const kuhn_state *s) {
    uint32_t in = 0;
    if (!s->bets) return (1u << players) - 1;
    for (int32_t move = 0; move < s->moves; move++)
        if ((s->bets >> move) & 1) in |= 1u << (move % players);
    return in;
}

/* Players whose cards `player` sees, as bits. */
static uint32_t kuhn_seen(int32_t players, const kuhn_state *s, int32_t player) {
    const uint32_t in = kuhn_over(players, s) ? kuhn_in(players, s) : 0;
    return 1u << player | (in & (in - 1) ? in : 0);
}

static void kuhn_init(const playout_game *game, void *state) { memset(state, 0, sizeof(kuhn_state)); }

static int32_t kuhn_to_play(const playout_game *game, const void *state) {
    const kuhn_state *s = (const kuhn_state *)state;
    if (s->dealt < game->num_players) return PLAYOUT_CHANCE;
    return kuhn_over(game->num_players, s) ? PLAYOUT_TERMINAL : s->moves % game->num_players;
}

static int32_t kuhn_legal(const playout_game *game, const void *state, int32_t *actions) {
    if (kuhn_to_play(game, state) < 0) return 0;
    actions[0] = 0;
    actions[1] = 1;
    return 2;
}

static int32_t kuhn_chance(const playout_game *game, const void *state, int32_t *actions, double *probs) {
    const kuhn_state *s = (const kuhn_state *)state;
    uint32_t used = 0;
    int32_t count = 0;
    for (int32_t i = 0; i < s->dealt; i++) used |= 1u << (s->card[i] - 1);
    for (int32_t card = 0; card <= game->num_players; card++)
        if (!((used >> card) & 1)) actions[count++] = card;
    for (int32_t i = 0; i < count; i++) probs[i] = 1.0 / count;
    return count;
}

static void kuhn_apply(const playout_game *game, void *state, int32_t action) {
    kuhn_state *s = (kuhn_state *)state;
    if (s->dealt < game->num_players) {
        s->card[s->dealt++] = (uint8_t)(action + 1);
        return;
    }
    s->bets |= (uint16_t)(action << s->moves);
    s->moves++;
}

static inline int32_t kuhn_pot(const playout_game *game, const kuhn_state *s) {
    return game->num_players + __builtin_popcount(s->bets);
}

static void kuhn_returns(const playout_game *game, const void *state, float *values) {
    const kuhn_state *s = (const kuhn_state *)state;
    const uint32_t in = kuhn_in(game->num_players, s);
    int32_t winner = -1;
    for (int32_t i = 0; i < game->num_players; i++) {
        values[i] = s->bets && ((in >> i) & 1) ? -2.0f : -1.0f;
        if (((in >> i) & 1) && (winner < 0 || s->card[i] > s->card[winner])) winner = i;
    }
    values[winner] += (float)kuhn_pot(game, s);
}

/* Who looks, the own card, and each move: passed or bet. */
static void kuhn_observe(const playout_game *game, const void *state, int32_t player, float *obs) {
    const kuhn_state *s = (const kuhn_state *)state;
    const int32_t n = game->num_players;
    memset(obs, 0, (size_t)game->obs_shape[2] * sizeof(float));
    obs[player] = 1;
    if (s->card[player]) obs[n + s->card[player] - 1] = 1;
    for (int32_t move = 0; move < s->moves; move++) obs[2 * n + 1 + 2 * move + ((s->bets >> move) & 1)] = 1;
}

/* The state without the cards that the player does not see. */
static kuhn_state kuhn_known(const playout_game *game, const void *state, int32_t player) {
    kuhn_state s = *(const kuhn_state *)state;
    const uint32_t seen = kuhn_seen(game->num_players, &s, player);
    for (int32_t i = 0; i < PLAYOUT_MAX_PLAYERS; i++) /* nobody's card is 0 already */
        if (!((seen >> i) & 1)) s.card[i] = 0;
    return s;
}

static uint64_t kuhn_info_key(const playout_game *game, const void *state, int32_t player) {
    kuhn_state s = kuhn_known(game, state, player);
    s.zero = (uint32_t)player;
    return playout_hash_bytes(&s, sizeof s);
}

static uint64_t kuhn_eval_key(const playout_game *game, const void *state) {
    const int32_t player = kuhn_to_play(game, state);
    return kuhn_info_key(game, state, player < 0 ? 0 : player);
}

static void kuhn_resample(const playout_game *game, const void *state, int32_t player, playout_rng *rng, void *out) {
    kuhn_state *s = (kuhn_state *)out;
    uint8_t deck[PLAYOUT_MAX_PLAYERS + 1];
    int32_t left = 0;
    *s = kuhn_known(game, state, player);
    for (int32_t card = 1; card <= game->num_players + 1; card++)
        if (memchr(s->card, card, sizeof s->card) == NULL) deck[left++] = (uint8_t)card;
    for (int32_t i = 0; i < s->dealt; i++) {
        if (s->card[i]) continue;
        const uint32_t drawn = playout_rng_below(rng, (uint32_t)left);
        s->card[i] = deck[drawn];
        deck[drawn] = deck[--left];
    }
}

static int32_t kuhn_check(const playout_game *game, const void *state) {
    const kuhn_state *s = (const kuhn_state *)state;
    const int32_t n = game->num_players;
    uint32_t used = 0;
    if (s->dealt > n || s->zero || s->moves >= 2 * n || s->bets >> s->moves) return -1;
    if (s->moves > (s->dealt < n ? 0 : kuhn_length(n, s))) return -1;
    for (int32_t i = 0; i < PLAYOUT_MAX_PLAYERS; i++) {
        if ((s->card[i] != 0) != (i < s->dealt) || s->card[i] > n + 1) return -1;
        if (s->card[i] && ((used >> s->card[i]) & 1)) return -1;
        used |= 1u << s->card[i];
    }
    return 0;
}

static int32_t kuhn_write_action(const playout_game *game, const void *state, int32_t action, char *text) {
    const kuhn_state *s = (const kuhn_state *)state;
    if (s->dealt < game->num_players) return sprintf(text, "%c", cards_letter(game->num_players, action));
    return sprintf(text, "%c", action < 2 ? "pb"[action] : '?');
}

static int32_t kuhn_read_action(const playout_game *game, const void *state, const char *text) {
    const kuhn_state *s = (const kuhn_state *)state;
    if (text[0] == 0 || text[1] != 0) return -1;
    if (s->dealt < game->num_players) return cards_rank(game->num_players, text[0]);
    const char move = playout_lower(text[0]);
    return move == 'p' ? 0 : move == 'b' ? 1 : -1;
}

static int32_t kuhn_write_state(const playout_game *game, const void *state, char *text) {
    const kuhn_state *s = (const kuhn_state *)state;
    char *out = text;
    for (int32_t move = 0; move < s->moves; move++) *out++ = "pb"[(s->bets >> move) & 1];
    *out++ = ':';
    for (int32_t i = 0; i < s->dealt; i++) {
        if (i) *out++ = '|';
        *out++ = cards_letter(game->num_players, s->card[i] - 1);
    }
    *out = 0;
    return (int32_t)(out - text);
}

static int32_t kuhn_read_state(const playout_game *game, void *state, const char *text) {
    kuhn_state *s = (kuhn_state *)state;
    memset(s, 0, sizeof *s);
    for (; *text == 'p' || *text == 'b'; text++) {
        if (s->moves == 2 * PLAYOUT_MAX_PLAYERS - 1) return -1;
        s->bets |= (uint16_t)((*text == 'b') << s->moves++);
    }
    if (*text++ != ':') return -1;
    for (; *text; text++) {
        if (s->dealt == game->num_players || (s->dealt && *text++ != '|')) return -1;
        const int32_t card = cards_rank(game->num_players, *text);
        if (card < 0) return -1;
        s->card[s->dealt++] = (uint8_t)(card + 1);
    }
    return kuhn_check(game, state);
}

static int32_t kuhn_write_seen(const playout_game *game, const kuhn_state *s, uint32_t seen, char *text) {
    char *out = text;
    for (int32_t i = 0; i < game->num_players; i++) {
        const char card = s->card[i] ? cards_letter(game->num_players, s->card[i] - 1) : '-';
        out += sprintf(out, "player %d: %c\n", i + 1, card == '-' || (seen >> i) & 1 ? card : '?');
    }
    out += sprintf(out, "moves:");
    for (int32_t move = 0; move < s->moves; move++) out += sprintf(out, (s->bets >> move) & 1 ? " bet" : " pass");
    return (int32_t)(out - text) + sprintf(out, "\npot: %d", kuhn_pot(game, s));
}

static int32_t kuhn_write_board(const playout_game *game, const void *state, char *text) {
    return kuhn_write_seen(game, (const kuhn_state *)state, ~0u, text);
}

static int32_t kuhn_write_view(const playout_game *game, const void *state, int32_t player, char *text) {
    const kuhn_state *s = (const kuhn_state *)state;
    return kuhn_write_seen(game, s, kuhn_seen(game->num_players, s, player), text);
}

static int32_t kuhn_plies_left(const playout_game *game, const void *state) {
    const kuhn_state *s = (const kuhn_state *)state;
    const int32_t n = game->num_players;
    if (kuhn_over(n, s)) return 0;
    return n - s->dealt + (s->bets ? kuhn_length(n, s) : 2 * n - 1) - s->moves;
}

static int32_t kuhn_write_goal(const playout_game *game, char *text) {
    return snprintf(text, PLAYOUT_TEXT_SIZE,
                    "Everybody has one chip in the pot and one card. To bet is one chip more; after a bet the others call "
                    "(b) or fold (p). Of those still in, the highest card takes the pot.");
}

static const char *kuhn_make(playout_game *game, const double *values) {
    const int32_t n = (int32_t)values[0];
    playout_game_begin(game, "kuhn_poker");
    game->num_players = n;
    game->num_actions = n + 1; /* the cards that chance deals; moves are 0 and 1 */
    game->max_plies = 3 * n - 1;
    game->obs_shape[0] = game->obs_shape[1] = 1;
    game->obs_shape[2] = n + n + 1 + 2 * (2 * n - 1);
    game->state_size = (int32_t)sizeof(kuhn_state);
    game->init = kuhn_init;
    game->to_play = kuhn_to_play;
    game->legal = kuhn_legal;
    game->chance = kuhn_chance;
    game->apply = kuhn_apply;
    game->returns = kuhn_returns;
    game->observe = kuhn_observe;
    game->info_key = kuhn_info_key;
    game->eval_key = kuhn_eval_key;
    game->resample = kuhn_resample;
    game->check = kuhn_check;
    game->write_action = kuhn_write_action;
    game->read_action = kuhn_read_action;
    game->write_state = kuhn_write_state;
    game->read_state = kuhn_read_state;
    game->write_board = kuhn_write_board;
    game->write_goal = kuhn_write_goal;
    game->write_view = kuhn_write_view;
    game->plies_left = kuhn_plies_left;
    game->flags = PLAYOUT_ZERO_SUM | PLAYOUT_HIDDEN;
    game->value_scale = 2 * (n - 1); /* two chips from everybody else */
    return NULL;
}

static const playout_param KUHN_PARAMS[] = {
    PLAYOUT_INTEGER_PARAM("players", 2, 2, PLAYOUT_MAX_PLAYERS),
    PLAYOUT_PARAMS_END,
};

static const playout_maker KUHN_POKER = {"kuhn_poker", KUHN_PARAMS, kuhn_make};

#endif
