/* Leduc poker (Southey et al. 2005) for two and more players: two suits of one rank more than players, a private card each,
 * a round of betting, a card for all, another round. One chip ante; a raise is 2 chips in the first round and 4 in the
 * second, and a round has at most two. A pair with the common card wins, else the higher card; equal ranks share.
 *
 * Results are chips won. Moves are "f" (fold, where there is something to call), "c" (check or call) and "r" (bet or
 * raise); cards are a rank and a suit, "Kh". One line of text is as in the protocol of the poker competitions: moves by
 * round, cards by player, the common card: "crc/r:Js|Qh/Kh". At a showdown everybody sees the cards of those still in.
 */
#ifndef PLAYOUT_LEDUC_POKER_H
#define PLAYOUT_LEDUC_POKER_H

#include <stdio.h>
#include <string.h>

#include "cards.h"
#include "playout_maker.h"

#define LEDUC_RAISES 2 /* a round */

enum { LEDUC_FOLD, LEDUC_CALL, LEDUC_RAISE };

typedef struct leduc_state {
    uint8_t card[PLAYOUT_MAX_PLAYERS]; /* 1 + 2 * rank + suit; 0: not dealt */
    uint8_t paid[PLAYOUT_MAX_PLAYERS]; /* chips in the pot */
    uint8_t dealt, board;              /* private cards that are dealt; the common card, as in card[] */
    uint8_t folded;                    /* players, as bits */
    uint8_t raises, calls;             /* in this round; calls since the last raise */
    uint8_t player, stake;             /* who moves next; what has to be paid to stay in */
    uint8_t zero;
    uint64_t line[2]; /* moves of each round: two bits each, 1 + the move, the last one lowest */
} leduc_state;

static inline int32_t leduc_moves(uint64_t line) { return line ? (65 - __builtin_clzll(line)) / 2 : 0; }
static inline int32_t leduc_move(uint64_t line, int32_t count, int32_t i) {
    return (int32_t)((line >> (2 * (count - 1 - i))) & 3) - 1;
}
static inline int32_t leduc_longest(int32_t players) { return 3 * players - 2; } /* moves of a round */
static inline int32_t leduc_in(const playout_game *game, const leduc_state *s) {
    return game->num_players - __builtin_popcount(s->folded);
}

/* Has everybody who is still in answered the last raise, or checked? */
static inline int leduc_round_over(const playout_game *game, const leduc_state *s) {
    return s->calls + (s->raises > 0) == leduc_in(game, s);
}

/* Players whose cards `player` sees, as bits. */
static uint32_t leduc_seen(const playout_game *game, const leduc_state *s, int32_t player) {
    const int shown = s->board && leduc_in(game, s) > 1 && leduc_round_over(game, s);
    return 1u << player | (shown ? ~(uint32_t)s->folded : 0);
}

static void leduc_init(const playout_game *game, void *state) {
    leduc_state *s = (leduc_state *)state;
    memset(s, 0, sizeof *s);
    s->stake = 1;
    for (int32_t i = 0; i < game->num_players; i++) s->paid[i] = 1;
}

static int32_t leduc_to_play(const playout_game *game, const void *state) {
    const leduc_state *s = (const leduc_state *)state;
    if (s->dealt < game->num_players) return PLAYOUT_CHANCE;
    if (leduc_in(game, s) == 1) return PLAYOUT_TERMINAL;
    if (!leduc_round_over(game, s)) return s->player;
    return s->board ? PLAYOUT_TERMINAL : PLAYOUT_CHANCE;
}

static int32_t leduc_legal(const playout_game *game, const void *state, int32_t *actions) {
    const leduc_state *s = (const leduc_state *)state;
    int32_t count = 0;
    if (leduc_to_play(game, state) < 0) return 0;
    if (s->stake > s->paid[s->player]) actions[count++] = LEDUC_FOLD;
    actions[count++] = LEDUC_CALL;
    if (s->raises < LEDUC_RAISES) actions[count++] = LEDUC_RAISE;
    return count;
}

/* The cards that nobody holds in `s`, as bits. */
static uint32_t leduc_deck(const playout_game *game, const leduc_state *s) {
    uint32_t deck = (1u << (2 * (game->num_players + 1))) - 1;
    for (int32_t i = 0; i < s->dealt; i++)
        if (s->card[i]) deck &= ~(1u << (s->card[i] - 1));
    return s->board ? deck & ~(1u << (s->board - 1)) : deck;
}

static int32_t leduc_chance(const playout_game *game, const void *state, int32_t *actions, double *probs) {
    int32_t count = 0;
    for (uint32_t deck = leduc_deck(game, (const leduc_state *)state); deck; deck &= deck - 1)
        actions[count++] = __builtin_ctz(deck);
    for (int32_t i = 0; i < count; i++) probs[i] = 1.0 / count;
    return count;
}

static void leduc_apply(const playout_game *game, void *state, int32_t action) {
    leduc_state *s = (leduc_state *)state;
    if (s->dealt < game->num_players) {
        s->card[s->dealt++] = (uint8_t)(action + 1);
        return;
    }
    if (leduc_round_over(game, s)) {
        s->board = (uint8_t)(action + 1);
        s->raises = s->calls = 0;
        s->player = (uint8_t)__builtin_ctz(~(uint32_t)s->folded);
        return;
    }
    const int32_t round = s->board != 0;
    s->line[round] = s->line[round] << 2 | (uint64_t)(action + 1);
    if (action == LEDUC_FOLD) {
        s->folded |= (uint8_t)(1u << s->player);
    } else {
        if (action == LEDUC_RAISE) {
            s->stake += round ? 4 : 2;
            s->raises++;
        }
        s->calls = action == LEDUC_RAISE ? 0 : s->calls + 1;
        s->paid[s->player] = s->stake;
    }
    if (s->folded != (1u << game->num_players) - 1) {
        do
            s->player = (uint8_t)((s->player + 1) % game->num_players);
        while ((s->folded >> s->player) & 1);
    }
}

static inline int32_t leduc_hand(const leduc_state *s, int32_t player) {
    const int32_t rank = (s->card[player] - 1) / 2;
    return s->board && rank == (s->board - 1) / 2 ? 100 : rank;
}

static void leduc_returns(const playout_game *game, const void *state, float *values) {
    const leduc_state *s = (const leduc_state *)state;
    int32_t pot = 0, best = -1, winners = 0;
    for (int32_t i = 0; i < game->num_players; i++) {
        const int32_t hand = (s->folded >> i) & 1 ? -1 : leduc_hand(s, i);
        pot += s->paid[i];
        winners = hand > best ? 1 : winners + (hand == best && hand >= 0);
        if (hand > best) best = hand;
    }
    for (int32_t i = 0; i < game->num_players; i++) {
        const int won = !((s->folded >> i) & 1) && leduc_hand(s, i) == best;
        values[i] = (won ? (float)pot / (float)winners : 0.0f) - (float)s->paid[i];
    }
}

/* Who looks, the rank of the own card and of the common one, the chips of each player, and the moves of both rounds.
 * Suits decide nothing and are left out. */
static void leduc_observe(const playout_game *game, const void *state, int32_t player, float *obs) {
    const leduc_state *s = (const leduc_state *)state;
    const int32_t n = game->num_players, longest = leduc_longest(n);
    memset(obs, 0, (size_t)game->obs_shape[2] * sizeof(float));
    obs[player] = 1;
    obs += n;
    if (s->card[player]) obs[(s->card[player] - 1) / 2] = 1;
    obs += n + 1;
    if (s->board) obs[(s->board - 1) / 2] = 1;
    obs += n + 1;
    for (int32_t i = 0; i < n; i++) obs[i] = (float)s->paid[i] / 13.0f;
    obs += n;
    for (int32_t round = 0; round < 2; round++, obs += 3 * longest) {
        const int32_t count = leduc_moves(s->line[round]);
        for (int32_t i = 0; i < count; i++) obs[3 * i + leduc_move(s->line[round], count, i)] = 1;
    }
}

/* The state without the cards that the player does not see. */
static leduc_state leduc_known(const playout_game *game, const void *state, int32_t player) {
    leduc_state s = *(const leduc_state *)state;
    const uint32_t seen = leduc_seen(game, &s, player);
    for (int32_t i = 0; i < PLAYOUT_MAX_PLAYERS; i++) /* nobody's card is 0 already */
        if (!((seen >> i) & 1)) s.card[i] = 0;
    return s;
}

static uint64_t leduc_info_key(const playout_game *game, const void *state, int32_t player) {
    leduc_state s = leduc_known(game, state, player);
    s.zero = (uint8_t)player;
    return playout_hash_bytes(&s, sizeof s);
}

static uint64_t leduc_eval_key(const playout_game *game, const void *state) {
    const int32_t player = leduc_to_play(game, state);
    return leduc_info_key(game, state, player < 0 ? 0 : player);
}

static void leduc_resample(const playout_game *game, const void *state, int32_t player, playout_rng *rng, void *out) {
    leduc_state *s = (leduc_state *)out;
    *s = leduc_known(game, state, player);
    for (int32_t i = 0; i < s->dealt; i++) {
        if (s->card[i]) continue;
        uint32_t deck = leduc_deck(game, s);
        for (uint32_t skip = playout_rng_below(rng, (uint32_t)__builtin_popcount(deck)); skip > 0; skip--) deck &= deck - 1;
        s->card[i] = (uint8_t)(1 + __builtin_ctz(deck));
    }
}

/* Plays the moves of one round; 0, or -1 if one of them cannot be played. */
static int leduc_replay(const playout_game *game, leduc_state *s, uint64_t line) {
    const int32_t count = leduc_moves(line);
    for (int32_t i = 0; i < count; i++) {
        int32_t actions[3];
        const int32_t action = leduc_move(line, count, i), legal = leduc_legal(game, s, actions);
        if (legal == 0 || action > actions[legal - 1] || action < actions[0]) return -1;
        leduc_apply(game, s, action);
    }
    return 0;
}

/* Deals the cards of `given` and plays its moves from the start, into `s`; 0, or -1 if that cannot be done. */
static int leduc_rebuild(const playout_game *game, const leduc_state *given, leduc_state *s) {
    const int32_t n = game->num_players;
    leduc_init(game, s);
    if (given->dealt > n) return -1;
    for (int32_t i = 0; i <= given->dealt; i++) {
        const int32_t card = i < given->dealt ? given->card[i] : given->board;
        if (i == given->dealt) {
            if (leduc_replay(game, s, given->line[0]) != 0) return -1;
            if (card == 0) break;
            if (s->dealt < n || leduc_to_play(game, s) != PLAYOUT_CHANCE) return -1;
        }
        if (card < 1 || card > 2 * (n + 1) || !((leduc_deck(game, s) >> (card - 1)) & 1)) return -1;
        leduc_apply(game, s, card - 1);
    }
    return given->board ? leduc_replay(game, s, given->line[1]) : given->line[1] ? -1 : 0;
}

static int32_t leduc_check(const playout_game *game, const void *state) {
    leduc_state s;
    if (leduc_rebuild(game, (const leduc_state *)state, &s) != 0) return -1;
    return memcmp(&s, state, sizeof s) == 0 ? 0 : -1;
}

static int32_t leduc_write_card(const playout_game *game, int32_t card, char *text) {
    return sprintf(text, "%c%c", cards_letter(game->num_players, card / 2), card & 1 ? 'h' : 's');
}

/* The card that two letters name, or -1. */
static int32_t leduc_read_card(const playout_game *game, const char *text) {
    const int32_t rank = cards_rank(game->num_players, text[0]);
    const char suit = rank < 0 ? 0 : playout_lower(text[1]);
    return suit == 's' || suit == 'h' ? 2 * rank + (suit == 'h') : -1;
}

static int32_t leduc_write_action(const playout_game *game, const void *state, int32_t action, char *text) {
    if (leduc_to_play(game, state) == PLAYOUT_CHANCE) return leduc_write_card(game, action, text);
    return sprintf(text, "%c", action < 3 ? "fcr"[action] : '?');
}

static int32_t leduc_read_action(const playout_game *game, const void *state, const char *text) {
    if (leduc_to_play(game, state) == PLAYOUT_CHANCE)
        return strlen(text) == 2 ? leduc_read_card(game, text) : -1;
    const char *found = text[0] && !text[1] ? strchr("fcr", playout_lower(text[0])) : NULL;
    return found ? (int32_t)(found - "fcr") : -1;
}

static int32_t leduc_write_line(uint64_t line, char *text) {
    const int32_t count = leduc_moves(line);
    for (int32_t i = 0; i < count; i++) text[i] = "fcr"[leduc_move(line, count, i)];
    return count;
}

static int32_t leduc_write_state(const playout_game *game, const void *state, char *text) {
    const leduc_state *s = (const leduc_state *)state;
    char *out = text + leduc_write_line(s->line[0], text);
    if (s->board) *out++ = '/';
    out += leduc_write_line(s->line[1], out);
    *out++ = ':';
    for (int32_t i = 0; i < s->dealt; i++) {
        if (i) *out++ = '|';
        out += leduc_write_card(game, s->card[i] - 1, out);
    }
    if (s->board) *out++ = '/';
    if (s->board) out += leduc_write_card(game, s->board - 1, out);
    *out = 0;
    return (int32_t)(out - text);
}

static int32_t leduc_read_state(const playout_game *game, void *state, const char *text) {
    leduc_state given;
    int32_t round = 0, card = 0;
    memset(&given, 0, sizeof given);
    for (; *text && *text != ':'; text++) {
        const char *move = strchr("fcr", *text);
        if (*text == '/' && round++ == 0) continue;
        if (move == NULL || round > 1 || leduc_moves(given.line[round]) == 31) return -1;
        given.line[round] = given.line[round] << 2 | (uint64_t)(move - "fcr" + 1);
    }
    if (*text++ != ':') return -1;
    for (; *text && *text != '/'; text += 2) {
        if (given.dealt == game->num_players || (given.dealt && *text++ != '|')) return -1;
        if ((card = leduc_read_card(game, text)) < 0) return -1;
        given.card[given.dealt++] = (uint8_t)(card + 1);
    }
    if (*text == '/') {
        if ((card = leduc_read_card(game, ++text)) < 0 || text[2]) return -1;
        given.board = (uint8_t)(card + 1);
    }
    if ((round > 0) != (given.board != 0)) return -1;
    return leduc_rebuild(game, &given, (leduc_state *)state);
}

static int32_t leduc_write_seen(const playout_game *game, const leduc_state *s, uint32_t seen, char *text) {
    char *out = text;
    int32_t pot = 0;
    for (int32_t i = 0; i < game->num_players; i++) {
        char card[8] = "--";
        if (s->card[i]) leduc_write_card(game, s->card[i] - 1, card);
        pot += s->paid[i];
        out += sprintf(out, "player %d: %s  %d in the pot%s\n", i + 1, s->card[i] && !((seen >> i) & 1) ? "??" : card,
                       s->paid[i], (s->folded >> i) & 1 ? ", folded" : "");
    }
    out += sprintf(out, "common card: ");
    out += s->board ? leduc_write_card(game, s->board - 1, out) : sprintf(out, "--");
    out += sprintf(out, "\nmoves: ");
    out += leduc_write_line(s->line[0], out);
    if (s->board) *out++ = '/';
    out += leduc_write_line(s->line[1], out);
    return (int32_t)(out - text) + sprintf(out, "\npot: %d", pot);
}

static int32_t leduc_write_board(const playout_game *game, const void *state, char *text) {
    return leduc_write_seen(game, (const leduc_state *)state, ~0u, text);
}

static int32_t leduc_write_view(const playout_game *game, const void *state, int32_t player, char *text) {
    const leduc_state *s = (const leduc_state *)state;
    return leduc_write_seen(game, s, leduc_seen(game, s, player), text);
}

/* What is left of a round: everybody to move may wait for the last one to raise. */
static int32_t leduc_round_left(int32_t in, int32_t raises, int32_t calls) {
    return in - calls - (raises > 0) + (LEDUC_RAISES - raises) * (in - 1);
}

static int32_t leduc_plies_left(const playout_game *game, const void *state) {
    const leduc_state *s = (const leduc_state *)state;
    const int32_t in = leduc_in(game, s), turn = leduc_to_play(game, state);
    if (turn == PLAYOUT_TERMINAL) return 0;
    const int32_t later = s->board ? 0 : 1 + leduc_round_left(in, 0, 0);
    if (s->dealt == game->num_players && turn == PLAYOUT_CHANCE) return later;
    return game->num_players - s->dealt + leduc_round_left(in, s->raises, s->calls) + later;
}

static int32_t leduc_write_goal(const playout_game *game, char *text) {
    return snprintf(text, PLAYOUT_TEXT_SIZE,
                    "Bets are 2 chips, and 4 when a card for all is out. Who is left alone takes the pot, else a pair with "
                    "that card, then the higher card; equals share.");
}

static const char *leduc_make(playout_game *game, const double *values) {
    const int32_t n = (int32_t)values[0], longest = leduc_longest(n);
    playout_game_begin(game, "leduc_poker");
    game->num_players = n;
    game->num_actions = 2 * (n + 1); /* the cards that chance deals; moves are 0 to 2 */
    game->max_plies = n + 1 + 2 * longest;
    game->obs_shape[0] = game->obs_shape[1] = 1;
    game->obs_shape[2] = n + 2 * (n + 1) + n + 6 * longest;
    game->state_size = (int32_t)sizeof(leduc_state);
    game->init = leduc_init;
    game->to_play = leduc_to_play;
    game->legal = leduc_legal;
    game->chance = leduc_chance;
    game->apply = leduc_apply;
    game->returns = leduc_returns;
    game->observe = leduc_observe;
    game->info_key = leduc_info_key;
    game->eval_key = leduc_eval_key;
    game->resample = leduc_resample;
    game->check = leduc_check;
    game->write_action = leduc_write_action;
    game->read_action = leduc_read_action;
    game->write_state = leduc_write_state;
    game->read_state = leduc_read_state;
    game->write_board = leduc_write_board;
    game->write_goal = leduc_write_goal;
    game->write_view = leduc_write_view;
    game->plies_left = leduc_plies_left;
    game->flags = PLAYOUT_ZERO_SUM | PLAYOUT_HIDDEN;
    game->value_scale = 13 * (n - 1); /* ante, two raises of 2 and two of 4 from everybody else */
    return NULL;
}

static const playout_param LEDUC_PARAMS[] = {
    PLAYOUT_INTEGER_PARAM("players", 2, 2, PLAYOUT_MAX_PLAYERS),
    PLAYOUT_PARAMS_END,
};

static const playout_maker LEDUC_POKER = {"leduc_poker", LEDUC_PARAMS, leduc_make};

#endif
