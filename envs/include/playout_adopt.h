/* Loading a game's table: copied to its own struct_size, and completed with what the game left out.
 *
 * Everything behind the Python border sees completed tables only: all functions are there but chance, playout,
 * plies_left, score, targets and write_goal, and all declarations are set.
 */
#ifndef PLAYOUT_ADOPT_H
#define PLAYOUT_ADOPT_H

#include <stdio.h>
#include <stdlib.h>

#include "playout_random.h"

static uint64_t playout_default_hash(const playout_game *game, const void *state) {
    return playout_hash_bytes(state, game->state_size);
}

static uint64_t playout_default_eval_key(const playout_game *game, const void *state) { return game->hash(game, state); }

static uint64_t playout_default_info_key(const playout_game *game, const void *state, int32_t player) {
    return game->hash(game, state);
}

static void playout_default_symmetry(const playout_game *game, const void *state, int32_t k, void *out) {
    memcpy(out, state, (size_t)game->state_size);
}

static int32_t playout_default_symmetry_action(const playout_game *game, int32_t k, int32_t action) { return action; }

static int32_t playout_default_write_action(const playout_game *game, const void *state, int32_t action, char *text) {
    return sprintf(text, "%d", action);
}

static int32_t playout_default_read_action(const playout_game *game, const void *state, const char *text) {
    int32_t action = 0;
    const char *c = text;
    for (; *c >= '0' && *c <= '9' && c - text < 9; c++) action = 10 * action + (*c - '0');
    return *c != 0 || c == text || (text[0] == '0' && text[1] != 0) ? -1 : action;
}

/* For games that write actions and do not read them: the one among those that may be played that is written so. */
static int32_t playout_read_written_action(const playout_game *game, const void *state, const char *text) {
    int32_t actions[PLAYOUT_MAX_LEGAL];
    char written[PLAYOUT_TEXT_SIZE];
    const int32_t count = playout_playable(game, state, actions);
    for (int32_t i = 0; i < count; i++) {
        const int32_t length = game->write_action(game, state, actions[i], written);
        if (length >= 0 && (size_t)length == strlen(text) && !memcmp(written, text, (size_t)length)) return actions[i];
    }
    return -1;
}

static int32_t playout_default_write_state(const playout_game *game, const void *state, char *text) {
    const unsigned char *bytes = (const unsigned char *)state;
    if (2 * game->state_size >= PLAYOUT_TEXT_SIZE) return sprintf(text, "(%d bytes)", game->state_size);
    for (int32_t i = 0; i < game->state_size; i++) sprintf(text + 2 * i, "%02x", bytes[i]);
    return 2 * game->state_size;
}

static int32_t playout_default_read_state(const playout_game *game, void *state, const char *text) {
    unsigned char *bytes = (unsigned char *)state;
    if (strlen(text) != 2 * (size_t)game->state_size) return -1;
    for (int32_t i = 0; i < 2 * game->state_size; i++) {
        const char *digits = "0123456789abcdef", *found = strchr(digits, text[i]);
        if (found == NULL) return -1;
        bytes[i / 2] = (unsigned char)((i & 1 ? bytes[i / 2] << 4 : 0) | (found - digits));
    }
    return game->check(game, state);
}

static int32_t playout_default_write_board(const playout_game *game, const void *state, char *text) {
    return game->write_state(game, state, text);
}

static int32_t playout_default_write_view(const playout_game *game, const void *state, int32_t player, char *text) {
    return game->write_board(game, state, text);
}

static int32_t playout_default_is_legal(const playout_game *game, const void *state, int32_t action) {
    int32_t actions[PLAYOUT_MAX_LEGAL];
    const int32_t count = playout_playable(game, state, actions);
    for (int32_t i = 0; i < count; i++)
        if (actions[i] == action) return 1;
    return 0;
}

static int32_t playout_default_check(const playout_game *game, const void *state) {
    const int32_t player = game->to_play(game, state);
    if (player == PLAYOUT_TERMINAL) return 0;
    if (player != PLAYOUT_CHANCE && (player < 0 || player >= game->num_players)) return -1;
    if (player == PLAYOUT_CHANCE && game->chance == NULL) return -1;
    int32_t actions[PLAYOUT_MAX_LEGAL];
    const int32_t count = playout_playable(game, state, actions);
    if (count < 1 || count > game->max_legal) return -1;
    for (int32_t i = 0; i < count; i++)
        if (actions[i] >= game->num_actions || actions[i] <= (i ? actions[i - 1] : -1)) return -1;
    return 0;
}

static void playout_default_resample(const playout_game *game, const void *state, int32_t player, playout_rng *rng,
                                     void *out) {
    memcpy(out, state, (size_t)game->state_size);
}

#define PLAYOUT_DEFAULT(field) \
    if (game->field == NULL) game->field = playout_default_##field

/* Copies `given`, of whichever version, into `game` and completes it. What it declares is not examined. */
static inline void playout_adopt(const playout_game *given, playout_game *game) {
    const size_t size = given->struct_size < sizeof *game ? given->struct_size : sizeof *game;
    memset(game, 0, sizeof *game);
    memcpy(game, given, size);
    game->abi = PLAYOUT_GAME_ABI;
    game->struct_size = (uint32_t)sizeof *game;
    game->destroy = NULL; /* the capsule that is copied goes on owning the context */
    if (!(game->flags & (PLAYOUT_ZERO_SUM | PLAYOUT_GENERAL_SUM)))
        game->flags |= game->num_players == 2 ? PLAYOUT_ZERO_SUM : PLAYOUT_GENERAL_SUM;
    if (game->max_legal == 0) game->max_legal = game->num_actions;
    if (game->value_scale == 0) game->value_scale = 1;
    PLAYOUT_DEFAULT(hash);
    PLAYOUT_DEFAULT(eval_key);
    PLAYOUT_DEFAULT(info_key);
    PLAYOUT_DEFAULT(symmetry);
    PLAYOUT_DEFAULT(symmetry_action);
    if (game->read_action == NULL && game->write_action != NULL) game->read_action = playout_read_written_action;
    PLAYOUT_DEFAULT(write_action);
    PLAYOUT_DEFAULT(read_action);
    PLAYOUT_DEFAULT(write_state);
    PLAYOUT_DEFAULT(read_state);
    PLAYOUT_DEFAULT(write_board);
    PLAYOUT_DEFAULT(check);
    PLAYOUT_DEFAULT(is_legal);
    PLAYOUT_DEFAULT(resample);
    PLAYOUT_DEFAULT(write_view);
}

#endif
