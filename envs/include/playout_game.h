/* playout game ABI, version 1: one game behind one table of functions.
 *
 * A game fills in a playout_game and hands it over in a PyCapsule named PLAYOUT_GAME_CAPSULE; playout then derives
 * everything else (vector environments, tree search, exact solver, engine). A package of its own needs this header only.
 *
 * The rules that every game keeps:
 *   - A state is plain bytes of exactly state_size (a multiple of 8): copied by memcpy, saved as it is, compared and
 *     hashed as bytes. No pointers, no padding left uninitialised. Buffers are aligned to 8 bytes.
 *   - A function never allocates, never fails, never takes the GIL, keeps nothing outside the state, and may run on any
 *     thread. (The adaptor for games written in Python is the one exception: it takes the GIL.)
 *   - apply() is only called with a legal action of a state that is not over: legality is checked once, at the Python
 *     border.
 *   - Values are per player: returns() writes num_players numbers in [-1, 1], on finished states only.
 *   - obs are float32 planes [C, H, W], seen by `player` (for the side to move: "my stones first").
 */
#ifndef PLAYOUT_GAME_H
#define PLAYOUT_GAME_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "playout_rng.h"

#define PLAYOUT_GAME_ABI 1
#define PLAYOUT_GAME_CAPSULE "playout.game.v1"

#define PLAYOUT_TERMINAL (-1) /* to_play() of a finished game */
#define PLAYOUT_CHANCE (-2)   /* to_play() where the dice move; needs chance() */

#define PLAYOUT_MAX_PLAYERS 8
#define PLAYOUT_MAX_ACTIONS 4096
#define PLAYOUT_MAX_PARAMS 8
#define PLAYOUT_TEXT_SIZE 4096 /* room that the write_ functions are given */

typedef struct playout_game playout_game;

struct playout_game {
    uint32_t abi;         /* PLAYOUT_GAME_ABI */
    uint32_t struct_size; /* sizeof(playout_game), so that later versions can add fields at the end */
    char name[64];        /* "connect_four" */

    int32_t num_players;
    int32_t num_actions;
    int32_t max_plies; /* no game is longer */
    int32_t obs_shape[3];
    int32_t state_size;     /* bytes, a multiple of 8 */
    int32_t num_symmetries; /* at least 1; symmetry 0 is the identity */
    int32_t params[PLAYOUT_MAX_PARAMS]; /* the game's own sizes, such as width, height, run length */
    void *context;                      /* the game's own; NULL for all that fits in params */

    void (*init)(const playout_game *game, void *state);
    /* The player to move, PLAYOUT_TERMINAL or PLAYOUT_CHANCE. */
    int32_t (*to_play)(const playout_game *game, const void *state);
    /* Writes the legal actions in rising order, returns how many; 0 on finished states. */
    int32_t (*legal)(const playout_game *game, const void *state, int32_t *actions);
    void (*apply)(const playout_game *game, void *state, int32_t action);
    void (*returns)(const playout_game *game, const void *state, float *values);
    void (*observe)(const playout_game *game, const void *state, int32_t player, float *obs);
    /* Equal positions (same future, same observations) have equal hashes, by whichever moves they were reached. */
    uint64_t (*hash)(const playout_game *game, const void *state);
    /* Writes the state as symmetry k shows it; state and out do not overlap. */
    void (*symmetry)(const playout_game *game, const void *state, int32_t k, void *out);
    /* The action of the transformed state that corresponds to `action` of the original. */
    int32_t (*symmetry_action)(const playout_game *game, int32_t k, int32_t action);

    /* Text. write_ functions return the length written without the closing zero; read_ functions return -1 on bad text. */
    int32_t (*write_action)(const playout_game *game, const void *state, int32_t action, char *text);
    int32_t (*read_action)(const playout_game *game, const void *state, const char *text);
    int32_t (*write_state)(const playout_game *game, const void *state, char *text); /* one line, read_state's input */
    int32_t (*read_state)(const playout_game *game, void *state, const char *text);  /* 0, or -1 */
    int32_t (*write_board)(const playout_game *game, const void *state, char *text); /* several lines, for people */
    /* 0 if these bytes are a state that play can reach, else -1: the guard for bytes from a file. */
    int32_t (*check)(const playout_game *game, const void *state);

    /* Optional, NULL if absent. */
    /* Chance outcomes where to_play is PLAYOUT_CHANCE: writes actions and probabilities, returns how many. */
    int32_t (*chance)(const playout_game *game, const void *state, int32_t *actions, double *probs);
    /* Plays uniformly random legal moves to the end of a copy kept on the stack and writes its returns. */
    void (*playout)(const playout_game *game, const void *state, playout_rng *rng, float *values);
    /* Releases context when the capsule dies. */
    void (*destroy)(playout_game *game);

    void *reserved[8]; /* zero */
};

/* Sets up the common head; the game fills in the rest. */
static inline void playout_game_begin(playout_game *game, const char *name) {
    memset(game, 0, sizeof *game);
    game->abi = PLAYOUT_GAME_ABI;
    game->struct_size = (uint32_t)sizeof *game;
    strncpy(game->name, name, sizeof game->name - 1);
    game->num_symmetries = 1;
}

#endif
