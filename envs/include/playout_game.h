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
#define PLAYOUT_CHANCE (-2)   /* to_play() at a chance node; needs chance() */

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
    /* For games that call back into Python: called with the GIL held after a batch of calls; raises the exception that
     * a callback kept and returns -1, or returns 0. After a kept exception to_play() is PLAYOUT_TERMINAL. */
    int32_t (*raise_error)(const playout_game *game);

    void *reserved[7]; /* zero */

    /* Here the tables end that were compiled before there were declarations; they still load. A table is read up to its
     * own struct_size, and a field beyond it, or zero, is "not declared": ask PLAYOUT_GAME_HAS before reading one. */
    uint32_t flags;    /* PLAYOUT_ZERO_SUM or PLAYOUT_GENERAL_SUM; all other bits zero */
    int32_t max_legal; /* most legal actions, or chance outcomes, of any state; 0 stands for num_actions */
    /* (a, b): the side to move is the sum of plane b less the sum of plane a, clamped to 0 and 1, of an observation made
     * for it; (a, -1): it is the mean of plane a. (0, 0) stands for "not declared". */
    int32_t side_planes[2];
    /* At most how many plies are still to come, chance outcomes included; 0 at the end. NULL if absent. */
    int32_t (*plies_left)(const playout_game *game, const void *state);
};

/* What the flags say of returns(): those of all players add up to 0 in every finished state, or they need not. A game
 * of two players that says neither is taken for zero-sum, a game of another number of players is not. */
#define PLAYOUT_ZERO_SUM 1u
#define PLAYOUT_GENERAL_SUM 2u

#define PLAYOUT_GAME_FIRST_SIZE offsetof(playout_game, flags) /* bytes of the shortest table that loads */
/* Does this game's table reach as far as `field`? */
#define PLAYOUT_GAME_HAS(game, field) \
    ((game)->struct_size >= offsetof(playout_game, field) + sizeof((game)->field))

static inline uint32_t playout_game_flags(const playout_game *game) {
    return PLAYOUT_GAME_HAS(game, flags) ? game->flags : 0;
}

static inline int playout_zero_sum(const playout_game *game) {
    const uint32_t flags = playout_game_flags(game);
    return flags & PLAYOUT_ZERO_SUM ? 1 : flags & PLAYOUT_GENERAL_SUM ? 0 : game->num_players == 2;
}

static inline int32_t playout_max_legal(const playout_game *game) {
    return PLAYOUT_GAME_HAS(game, max_legal) && game->max_legal > 0 ? game->max_legal : game->num_actions;
}

/* Where the game declares planes that show the side to move: writes them and returns 1; else 0. */
static inline int playout_side_planes(const playout_game *game, int32_t *planes) {
    if (!PLAYOUT_GAME_HAS(game, side_planes) || (game->side_planes[0] == 0 && game->side_planes[1] == 0)) return 0;
    memcpy(planes, game->side_planes, sizeof game->side_planes);
    return 1;
}

static inline int playout_has_plies_left(const playout_game *game) {
    return PLAYOUT_GAME_HAS(game, plies_left) && game->plies_left != NULL;
}

/* A hash of whole 8-byte words, for games whose equal positions have equal bytes. */
static inline uint64_t playout_hash_bytes(const void *state, int32_t size) {
    uint64_t hash = (uint64_t)size;
    for (int32_t offset = 0; offset < size; offset += 8) {
        uint64_t word;
        memcpy(&word, (const char *)state + offset, 8);
        hash = playout_mix(hash + UINT64_C(0x9E3779B97F4A7C15)) ^ playout_mix(word);
    }
    return playout_mix(hash + UINT64_C(0x9E3779B97F4A7C15));
}

/* Sets up the common head; the game fills in the rest. */
static inline void playout_game_begin(playout_game *game, const char *name) {
    memset(game, 0, sizeof *game);
    game->abi = PLAYOUT_GAME_ABI;
    game->struct_size = (uint32_t)sizeof *game;
    strncpy(game->name, name, sizeof game->name - 1);
    game->num_symmetries = 1;
}

#ifdef Py_PYTHON_H /* Include Python.h first to get the capsule. */
static void playout_game_capsule_destroy(PyObject *capsule) {
    playout_game *game = (playout_game *)PyCapsule_GetPointer(capsule, PLAYOUT_GAME_CAPSULE);
    if (game != NULL) {
        if (game->destroy != NULL) game->destroy(game);
        PyMem_Free(game);
    }
}

/* Copies the filled-in table into a new capsule, which then owns game->context; NULL with a Python error set. */
static inline PyObject *playout_game_capsule(const playout_game *game) {
    playout_game *copy = (playout_game *)PyMem_Malloc(sizeof *copy);
    PyObject *capsule;
    if (copy == NULL) return PyErr_NoMemory();
    memcpy(copy, game, sizeof *copy);
    capsule = PyCapsule_New(copy, PLAYOUT_GAME_CAPSULE, playout_game_capsule_destroy);
    if (capsule == NULL) PyMem_Free(copy);
    return capsule;
}
#endif

#endif
