/* Go's function table: the rules once for any size, and again with the sizes 9 and 19 known to the compiler. */
#ifndef PLAYOUT_GO_TABLE_H
#define PLAYOUT_GO_TABLE_H

#include <stdio.h>

#include "observe.h"
#include "playout.h"
#include "playout_maker.h"
#include "text.h"

GO_INLINE const go_tables *go_of(const playout_game *game) { return (const go_tables *)game->context; }

/* Room for the largest state. */
typedef union go_buffer {
    go_state state;
    uint64_t words[sizeof(go_state) / 8 + 7 * GO_MAX_WORDS + 46 + 91 + 12];
} go_buffer;

static void go_init_state(const playout_game *game, void *state) { go_begin(go_of(game), (go_state *)state, NULL, 0); }

static int32_t go_to_play(const playout_game *game, const void *state) {
    const go_state *s = (const go_state *)state;
    return go_over(go_of(game)->size, s) ? PLAYOUT_TERMINAL : go_turn(s);
}

static void go_returns_of(const playout_game *game, const void *state, float *values) {
    go_returns(go_of(game)->size, go_of(game), ((const go_state *)state)->sets, values);
}

static void go_score(const playout_game *game, const void *state, float *scores) {
    scores[0] = (float)go_margin(go_of(game)->size, go_of(game), ((const go_state *)state)->sets);
    scores[1] = 0.0f - scores[0];
}

static void go_targets_of(const playout_game *game, const void *state, int32_t player, float *planes) {
    go_targets(go_of(game)->size, go_of(game), (const go_state *)state, player, planes);
}

static uint64_t go_hash_state(const playout_game *game, const void *state) {
    return go_hash(go_of(game)->size, (const go_state *)state);
}

static uint64_t go_eval_key_of(const playout_game *game, const void *state) {
    return go_eval_key(go_of(game)->size, (const go_state *)state);
}

static uint64_t go_symmetry_key_of(const playout_game *game, const void *state, int32_t k) {
    return go_symmetry_key(go_of(game)->size, go_of(game), (const go_state *)state, k);
}

/* The whole game is played through as the symmetry shows it, so that filter and hashes are those of that game. */
static void go_symmetry(const playout_game *game, const void *state, int32_t k, void *out) {
    const go_tables *t = go_of(game);
    const int32_t n = t->size, words = go_words(n);
    const go_state *s = (const go_state *)state;
    const uint64_t *setup = go_setup(n, (go_state *)s);
    go_state *image = (go_state *)out;
    uint64_t stones[2 * GO_MAX_WORDS];
    int32_t move = n * n, lone = GO_NONE;
    for (int32_t side = 0; side < 2; side++) go_turn_set(n, t, setup + side * words, k, stones + side * words);
    go_begin(t, image, stones, s->first);
    for (int32_t ply = 0; ply < s->ply; ply++) {
        move = t->image[k][go_move_at(n, s, ply)];
        lone = go_push(n, t, image, move);
    }
    go_ban(n, t, image, move, lone);
}

static int32_t go_symmetry_action(const playout_game *game, int32_t k, int32_t action) {
    return go_of(game)->image[k][action];
}

static int32_t go_write_action(const playout_game *game, const void *state, int32_t action, char *text) {
    return go_write_move(go_of(game)->size, action, text);
}

static int32_t go_read_action(const playout_game *game, const void *state, const char *text) {
    return go_read_move(go_of(game)->size, text, strlen(text));
}

static int32_t go_write_state(const playout_game *game, const void *state, char *text) {
    return go_write_line(go_of(game), (const go_state *)state, text);
}

static int32_t go_read_state(const playout_game *game, void *state, const char *text) {
    return go_read_line(go_of(game), (go_state *)state, text);
}

static int32_t go_write_board(const playout_game *game, const void *state, char *text) {
    return go_write_picture(go_of(game), (const go_state *)state, text);
}

static int32_t go_check(const playout_game *game, const void *state) {
    go_buffer buffer;
    return go_check_bytes(go_of(game), (const go_state *)state, &buffer.state);
}

static int32_t go_is_legal_action(const playout_game *game, const void *state, int32_t action) {
    return go_is_legal(go_of(game), (const go_state *)state, action);
}

static int32_t go_plies_left(const playout_game *game, const void *state) {
    const go_state *s = (const go_state *)state;
    return go_over(go_of(game)->size, s) ? 0 : go_max_plies(go_of(game)->size) - s->ply;
}

#define GO_TABLE(KIND, SIZE)                                                                                           \
    static int32_t go_legal_##KIND(const playout_game *game, const void *s, int32_t *actions) {                       \
        return go_legal(SIZE, go_of(game), (const go_state *)s, actions);                                              \
    }                                                                                                                  \
    static void go_apply_##KIND(const playout_game *game, void *s, int32_t action) {                                  \
        go_apply(SIZE, go_of(game), (go_state *)s, action);                                                            \
    }                                                                                                                  \
    static void go_observe_##KIND(const playout_game *game, const void *s, int32_t player, float *obs) {              \
        go_observe(SIZE, go_of(game), (const go_state *)s, player, obs);                                               \
    }                                                                                                                  \
    static void go_playout_##KIND(const playout_game *game, const void *s, playout_rng *rng, float *values) {         \
        go_playout(SIZE, go_of(game), (const go_state *)s, rng, values);                                               \
    }                                                                                                                  \
    static void go_fill_##KIND(playout_game *game) {                                                                   \
        game->legal = go_legal_##KIND;                                                                                 \
        game->apply = go_apply_##KIND;                                                                                 \
        game->observe = go_observe_##KIND;                                                                             \
        game->playout = go_playout_##KIND;                                                                             \
    }

GO_TABLE(9, 9)
GO_TABLE(19, 19)
GO_TABLE(any, go_of(game)->size)

static void go_destroy(playout_game *game) { free(game->context); }

static int32_t go_write_goal(const playout_game *game, char *text) {
    const double komi = go_of(game)->komi;
    const int32_t length =
        snprintf(text, PLAYOUT_TEXT_SIZE,
                 "Stones that together have no empty point beside them are taken. Two passes in a row end the game, and who "
                 "then has more points wins: own stones, and the empty points that they alone enclose.");
    if (komi == 0) return length;
    return length + snprintf(text + length, (size_t)(PLAYOUT_TEXT_SIZE - length), " Player %d has %g more for moving %s.",
                             komi > 0 ? 2 : 1, komi > 0 ? komi : -komi, komi > 0 ? "second" : "first");
}

static const char *go_make(playout_game *game, const double *values) {
    const int32_t n = (int32_t)values[0];
    go_tables *tables = (go_tables *)malloc(sizeof *tables);
    if (tables == NULL) return PLAYOUT_NO_MEMORY;
    go_tables_set(tables, n, values[1], (int32_t)values[2], (int32_t)values[3]);
    playout_game_begin(game, "go");
    game->num_players = 2;
    game->num_actions = n * n + 1;
    game->max_plies = go_max_plies(n);
    game->obs_shape[0] = GO_PLANES;
    game->obs_shape[1] = game->obs_shape[2] = n;
    game->state_size = go_state_size(n);
    game->num_symmetries = 8;
    game->context = tables;
    game->destroy = go_destroy;
    game->init = go_init_state;
    game->to_play = go_to_play;
    game->returns = go_returns_of;
    game->hash = go_hash_state;
    game->symmetry = go_symmetry;
    game->symmetry_action = go_symmetry_action;
    game->write_action = go_write_action;
    game->read_action = go_read_action;
    game->write_state = go_write_state;
    game->read_state = go_read_state;
    game->write_board = go_write_board;
    game->write_goal = go_write_goal;
    game->check = go_check;
    game->flags = PLAYOUT_ZERO_SUM;
    game->max_legal = n * n + 1;
    game->side_planes[0] = GO_WHITE;
    game->side_planes[1] = -1;
    game->plies_left = go_plies_left;
    game->is_legal = go_is_legal_action;
    game->eval_key = go_eval_key_of;
    game->symmetry_key = go_symmetry_key_of;
    game->score = go_score;
    game->targets = go_targets_of;
    game->target_planes = 1;
    if (n == 9)
        go_fill_9(game);
    else if (n == 19)
        go_fill_19(game);
    else
        go_fill_any(game);
    return NULL;
}

static const playout_param GO_PARAMS[] = {
    PLAYOUT_INTEGER_PARAM("size", 9, 2, GO_MAX_SIZE),
    PLAYOUT_REAL_PARAM("komi", 7.5, -400, 400),
    PLAYOUT_CHOICE_PARAM("ko", GO_POSITIONAL, 3, "positional situational simple"),
    PLAYOUT_INTEGER_PARAM("suicide", 0, 0, 1),
    PLAYOUT_PARAMS_END,
};

static const playout_maker GO = {"go", GO_PARAMS, go_make};

#endif
