/* Chess's function table: what is observed, the keys of a position, and the parameters.
 *
 * Observed are 16 planes as the player sees the board: six kinds of own men and six of the other's (pawn, knight,
 * bishop, rook, queen, king), the rooks that may castle, the square to take en passant, the clock as a share of its
 * limit, and whether the position has been there before (as a share of the limit of repetitions).
 */
#ifndef PLAYOUT_CHESS_TABLE_H
#define PLAYOUT_CHESS_TABLE_H

#include "fen.h"
#include "notation.h"
#include "playout_maker.h"

#define CHESS_PLANES 16

static inline const chess_rules *chess_of(const playout_game *game) { return (const chess_rules *)game->context; }

static void chess_init_state(const playout_game *game, void *state) {
    chess_read_fen(chess_of(game), (chess_state *)state, game->state_size,
                   "rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQKBNR w KQkq - 0 1");
}

static int32_t chess_to_play(const playout_game *game, const void *state) {
    const chess_state *s = (const chess_state *)state;
    return s->status == CHESS_PLAYING ? s->black : PLAYOUT_TERMINAL;
}

static int32_t chess_legal_actions(const playout_game *game, const void *state, int32_t *actions) {
    return chess_legal(chess_of(game), (const chess_state *)state, actions);
}

static int32_t chess_is_legal(const playout_game *game, const void *state, int32_t action) {
    int32_t actions[CHESS_ROOM];
    const int32_t count = chess_legal(chess_of(game), (const chess_state *)state, actions);
    for (int32_t i = 0; i < count; i++)
        if (actions[i] == action) return 1;
    return 0;
}

static void chess_apply(const playout_game *game, void *state, int32_t action) {
    chess_move(chess_of(game), (chess_state *)state, action);
    chess_settle(chess_of(game), (chess_state *)state);
}

static void chess_returns(const playout_game *game, const void *state, float *values) {
    chess_result((const chess_state *)state, values);
}

static inline void chess_plane(float *plane, uint64_t set) {
    for (int rank = 7; rank >= 0; rank--)
        for (int file = 0; file < 8; file++) *plane++ = (float)((set >> (8 * rank + file)) & 1);
}

static void chess_observe(const playout_game *game, const void *state, int32_t player, float *obs) {
    const chess_state *s = (const chess_state *)state;
    const chess_rules *rules = chess_of(game);
    chess_board b = s->board;
    uint64_t rooks = 0, passed = s->file == CHESS_NO_FILE ? 0 : CHESS_BIT(40 + s->file);
    int rights = s->rights;
    if (player != s->black) {
        chess_turn(&b);
        rights = chess_turn_rights(rights);
        passed = __builtin_bswap64(passed);
    }
    rooks |= rights & CHESS_OWN_SHORT ? CHESS_BIT(7) : 0;
    rooks |= rights & CHESS_OWN_LONG ? CHESS_BIT(0) : 0;
    rooks |= rights & CHESS_OTHER_SHORT ? CHESS_BIT(63) : 0;
    rooks |= rights & CHESS_OTHER_LONG ? CHESS_BIT(56) : 0;
    const uint64_t queens = b.plane[0] & b.plane[1] & b.plane[2];
    const uint64_t men[6] = {chess_pawns(&b), chess_horses(&b), chess_diagonals(&b) & ~queens,
                             chess_straights(&b) & ~queens, queens, chess_kings(&b)};
    for (int i = 0; i < 6; i++) {
        chess_plane(obs + 64 * i, men[i] & b.own);
        chess_plane(obs + 64 * (6 + i), men[i] & ~b.own);
    }
    chess_plane(obs + 64 * 12, rooks);
    chess_plane(obs + 64 * 13, passed);
    const float clock = (float)s->clock / (float)rules->clock_limit;
    const float repeats = (float)s->repeats / (float)rules->repeat_limit;
    for (int i = 0; i < 64; i++) obs[64 * 14 + i] = clock;
    for (int i = 0; i < 64; i++) obs[64 * 15 + i] = repeats;
}

/* All that one position shows; the colour too, since values are kept by player. */
static uint64_t chess_eval_key(const playout_game *game, const void *state) {
    const chess_state *s = (const chess_state *)state;
    uint64_t hash = (uint64_t)s->clock | (uint64_t)s->repeats << 8 | (uint64_t)s->rights << 16 | (uint64_t)s->file << 24 |
                    (uint64_t)s->black << 32 | (uint64_t)s->status << 40;
    hash = playout_mix(hash + UINT64_C(0x9E3779B97F4A7C15)) ^ s->board.own;
    for (int i = 0; i < 3; i++) hash = playout_mix(hash) ^ s->board.plane[i];
    return playout_mix(hash);
}

/* With the plies and the moves that repetition depends on. */
static uint64_t chess_hash(const playout_game *game, const void *state) {
    const chess_state *s = (const chess_state *)state;
    uint64_t hash = chess_eval_key(game, state) ^ ((uint64_t)s->ply << 16 | s->number);
    for (int32_t i = 0; i < s->length; i += 4) {
        uint64_t word = 0;
        memcpy(&word, s->moves + i, 2 * (size_t)(s->length - i < 4 ? s->length - i : 4));
        hash = playout_mix(hash) ^ word;
    }
    return playout_mix(hash + s->length);
}

static int32_t chess_write_action(const playout_game *game, const void *state, int32_t action, char *text) {
    const chess_rules *rules = chess_of(game);
    if (rules->san) return chess_write_san(rules, (const chess_state *)state, action, text);
    return chess_write_uci(rules, (const chess_state *)state, action, text);
}

static int32_t chess_read_action(const playout_game *game, const void *state, const char *text) {
    return chess_read_move(chess_of(game), (const chess_state *)state, text);
}

static int32_t chess_write_state(const playout_game *game, const void *state, char *text) {
    return chess_write_fen((const chess_state *)state, text);
}

static int32_t chess_read_state(const playout_game *game, void *state, const char *text) {
    return chess_read_fen(chess_of(game), (chess_state *)state, game->state_size, text);
}

static int32_t chess_write_board(const playout_game *game, const void *state, char *text) {
    return chess_write_rows((const chess_state *)state, text);
}

static int32_t chess_check_state(const playout_game *game, const void *state) {
    return chess_check(chess_of(game), (const chess_state *)state, game->state_size);
}

static void chess_playout(const playout_game *game, const void *state, playout_rng *rng, float *values) {
    chess_room room;
    memcpy(room.bytes, state, (size_t)game->state_size);
    chess_random_game(chess_of(game), &room.state, rng);
    chess_result(&room.state, values);
}

static int32_t chess_plies_left(const playout_game *game, const void *state) {
    const chess_state *s = (const chess_state *)state;
    return s->status == CHESS_PLAYING ? game->max_plies - s->ply : 0;
}

static void chess_destroy(playout_game *game) { free(game->context); }

static int32_t chess_write_goal(const playout_game *game, char *text) {
    const chess_rules *rules = chess_of(game);
    return snprintf(text, PLAYOUT_TEXT_SIZE,
                    "Checkmate wins. Draws are stalemate, too few men to mate, a position for the %s time, %d moves of each "
                    "without a capture or a pawn's, and the end of move %d.",
                    rules->repeat_limit > 2 ? "fifth" : "third", rules->clock_limit / 2, (rules->max_plies + 1) / 2);
}

static const char *chess_make(playout_game *game, const double *values) {
    chess_rules *rules = (chess_rules *)malloc(sizeof *rules);
    if (rules == NULL) return PLAYOUT_NO_MEMORY;
    const int automatic = values[0] != 0;
    chess_fill(&rules->tables);
    rules->clock_limit = automatic ? 150 : 100;
    rules->repeat_limit = automatic ? 4 : 2;
    rules->max_plies = (int32_t)values[1];
    rules->san = values[2] != 0;
    playout_game_begin(game, "chess");
    game->num_players = 2;
    game->num_actions = CHESS_ACTIONS;
    game->max_plies = rules->max_plies;
    game->obs_shape[0] = CHESS_PLANES;
    game->obs_shape[1] = 8;
    game->obs_shape[2] = 8;
    game->state_size = ((int32_t)offsetof(chess_state, moves) + 2 * rules->clock_limit + 7) & ~7;
    game->context = rules;
    game->destroy = chess_destroy;
    game->init = chess_init_state;
    game->to_play = chess_to_play;
    game->legal = chess_legal_actions;
    game->is_legal = chess_is_legal;
    game->apply = chess_apply;
    game->returns = chess_returns;
    game->observe = chess_observe;
    game->hash = chess_hash;
    game->eval_key = chess_eval_key;
    game->write_action = chess_write_action;
    game->read_action = chess_read_action;
    game->write_state = chess_write_state;
    game->read_state = chess_read_state;
    game->state_faults = CHESS_FAULTS;
    game->write_board = chess_write_board;
    game->write_goal = chess_write_goal;
    game->check = chess_check_state;
    game->playout = chess_playout;
    game->plies_left = chess_plies_left;
    game->flags = PLAYOUT_ZERO_SUM | PLAYOUT_HISTORY;
    game->max_legal = CHESS_MAX_LEGAL;
    return NULL;
}

static const playout_param CHESS_PARAMS[] = {
    PLAYOUT_CHOICE_PARAM("draws", 0, 2, "claimed automatic"),
    PLAYOUT_INTEGER_PARAM("max_plies", 512, 1, CHESS_MAX_PLIES),
    PLAYOUT_CHOICE_PARAM("notation", 0, 2, "uci san"),
    PLAYOUT_PARAMS_END,
};

static const playout_maker CHESS = {"chess", CHESS_PARAMS, chess_make};

#endif
