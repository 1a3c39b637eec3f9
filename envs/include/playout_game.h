/* playout game ABI, version 2: one game behind one table of functions.
 *
 * A game fills in a playout_game and hands it over in a PyCapsule named PLAYOUT_GAME_CAPSULE; playout then derives
 * everything else (vector environments, tree search, exact solver, engine). A package of its own needs this header only.
 * Six functions are mandatory: init, to_play, legal, apply, returns, observe. Each other one that is left NULL gets a
 * default when the capsule is loaded (playout_adopt.h). Tables of version 1 still load.
 *
 * The rules that every game keeps:
 *   - A state is plain bytes of exactly state_size (a multiple of 8): copied by memcpy, saved as it is, compared and
 *     hashed as bytes. No pointers, no padding left uninitialised. Buffers are aligned to 8 bytes.
 *   - A function never allocates, never fails, never takes the GIL, keeps nothing outside the state, and may run on any
 *     thread. (The adaptor for games written in Python is the one exception: it takes the GIL.)
 *   - apply() is only called with a legal action of a state that is not over: legality is checked once, at the Python
 *     border.
 *   - Values are per player: returns() writes num_players numbers, on finished states only, in [-1, 1]; a game whose
 *     results are counted in chips or points declares value_scale, and writes up to that. Games with rewards along the
 *     way set PLAYOUT_STEP_REWARDS instead: see there.
 *   - obs are float32 planes [C, H, W], seen by `player` (for the side to move: "my stones first").
 */
#ifndef PLAYOUT_GAME_H
#define PLAYOUT_GAME_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "playout_rng.h"

#define PLAYOUT_GAME_ABI 2
#define PLAYOUT_GAME_CAPSULE "playout.game.v2"
#define PLAYOUT_GAME_CAPSULE_1 "playout.game.v1" /* holds a table of version 1 */

#define PLAYOUT_TERMINAL (-1) /* to_play() of a finished game */
#define PLAYOUT_CHANCE (-2)   /* to_play() at a chance node; needs chance() */

#define PLAYOUT_MAX_PLAYERS 8
#define PLAYOUT_MAX_LEGAL 4096 /* the most that max_legal may be; num_actions may be more */
#define PLAYOUT_MAX_PARAMS 8
#define PLAYOUT_TEXT_SIZE 4096 /* room that the write_ functions are given */

/* What flags may hold; of the first two at most one. */
#define PLAYOUT_ZERO_SUM 1u    /* the returns of all players add up to 0 in every finished state */
#define PLAYOUT_GENERAL_SUM 2u /* they need not; a game of two players that says neither is taken for zero-sum */
#define PLAYOUT_HIDDEN 4u      /* players do not see the whole state; needs info_key() */
/* returns() may be asked in every state, and gives what each player has collected so far, in units of any scale. The
 * reward of a move is what returns() grows by. */
#define PLAYOUT_STEP_REWARDS 8u
/* A state's text leaves out the history that only rules of repetition ask for: read back, it has the same text, but may
 * have other bytes and another hash. */
#define PLAYOUT_HISTORY 16u
#define PLAYOUT_ALL_FLAGS 31u

#define PLAYOUT_INTEGER 1 /* kinds of a parameter; an integer from 0 to 1 may also be given as False or True */
#define PLAYOUT_REAL 2
#define PLAYOUT_CHOICE 3 /* one of several words; its value is the word's place among them */

/* One named parameter of a game, such as {"komi", PLAYOUT_REAL, 7.5, -400, 400, NULL}. */
typedef struct playout_param {
    const char *name;        /* an identifier; NULL ends a list */
    int32_t kind;            /* PLAYOUT_INTEGER, PLAYOUT_REAL or PLAYOUT_CHOICE */
    double value, low, high; /* the default, and the range with both its ends */
    const char *choices;     /* "positional situational" with one blank between; NULL for numbers */
} playout_param;

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
    int32_t params[PLAYOUT_MAX_PARAMS]; /* numbers for the game's own use, such as width, height, run length */
    void *context;                      /* the game's own; NULL for all that fits in params */

    /* Mandatory. */
    void (*init)(const playout_game *game, void *state);
    /* The player to move, PLAYOUT_TERMINAL or PLAYOUT_CHANCE. */
    int32_t (*to_play)(const playout_game *game, const void *state);
    /* Writes the legal actions in rising order, returns how many; 0 on finished states. Room for max_legal. */
    int32_t (*legal)(const playout_game *game, const void *state, int32_t *actions);
    void (*apply)(const playout_game *game, void *state, int32_t action);
    void (*returns)(const playout_game *game, const void *state, float *values);
    void (*observe)(const playout_game *game, const void *state, int32_t player, float *obs);

    /* Optional from here on. */
    /* Equal positions (same future, same observations) have equal hashes, by whichever moves they were reached.
     * Default: a hash of the bytes. */
    uint64_t (*hash)(const playout_game *game, const void *state);
    /* Writes the state as symmetry k shows it; state and out do not overlap. Default: there is only the identity. */
    void (*symmetry)(const playout_game *game, const void *state, int32_t k, void *out);
    /* The action of the transformed state that corresponds to `action` of the original. */
    int32_t (*symmetry_action)(const playout_game *game, int32_t k, int32_t action);

    /* Text. write_ functions return the length written without the closing zero; read_ functions return -1 on bad text.
     * Defaults: an action's number, a state's bytes in hexadecimal digits; where actions can be written, those that may
     * be played are read by that. */
    int32_t (*write_action)(const playout_game *game, const void *state, int32_t action, char *text);
    int32_t (*read_action)(const playout_game *game, const void *state, const char *text);
    int32_t (*write_state)(const playout_game *game, const void *state, char *text); /* one line, read_state's input */
    int32_t (*read_state)(const playout_game *game, void *state, const char *text); /* 0, or -1; see state_faults */
    int32_t (*write_board)(const playout_game *game, const void *state, char *text); /* several lines, for people */
    /* 0 if these bytes are a state that play can reach, else -1: the guard for bytes from a file. Default: to_play() and
     * legal() must give proper answers, which a game with tables to be indexed should not rely on. */
    int32_t (*check)(const playout_game *game, const void *state);

    /* Absent where they are NULL. */
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

    /* Here the first tables of version 1 end. A table is read up to its own struct_size, and a field beyond it, or zero,
     * is "not declared". */
    uint32_t flags;
    int32_t max_legal; /* most legal actions, or chance outcomes, of any state; 0 stands for num_actions */
    /* (a, b): the side to move is the sum of plane b less the sum of plane a, clamped to 0 and 1, of an observation made
     * for it; (a, -1): it is the mean of plane a. (0, 0) stands for "not declared". */
    int32_t side_planes[2];
    /* At most how many plies are still to come, chance outcomes included; 0 at the end. NULL if absent. */
    int32_t (*plies_left)(const playout_game *game, const void *state);

    /* Version 2 begins here. */
    const playout_param *parameters; /* what the game was made with, ended by a name NULL; NULL for none */
    double values[PLAYOUT_MAX_PARAMS]; /* their values, in that order */
    double value_scale; /* search and learning divide returns by it, to [-1, 1] (about, with step rewards); 0 is 1 */
    /* 1 if `action`, from 0 to num_actions - 1, may be played. Default: looked up in legal(). */
    int32_t (*is_legal)(const playout_game *game, const void *state, int32_t action);
    /* What the observation for the side to move and its legal actions depend on: the key under which evaluations are
     * kept. Leave out history that observe() does not show; who is to move may be left out. Default: hash(). */
    uint64_t (*eval_key)(const playout_game *game, const void *state);
    /* All that `player` knows in this state: equal for states that the player cannot tell apart. Default: hash(). */
    uint64_t (*info_key)(const playout_game *game, const void *state, int32_t player);
    /* Writes a state that `player` cannot tell from this one, drawn by the chances of what is hidden before anybody
     * has chosen a move: legal actions and what `player` sees and has won are the same. Default: a copy. */
    void (*resample)(const playout_game *game, const void *state, int32_t player, playout_rng *rng, void *out);
    /* Targets for learning beside the result, on finished states. score: [num_players], such as a margin in points.
     * targets: float32 planes [target_planes, H, W] in [-1, 1] as `player` sees them, such as who owns each cell. */
    void (*score)(const playout_game *game, const void *state, float *scores);
    void (*targets)(const playout_game *game, const void *state, int32_t player, float *planes);
    int32_t target_planes;
    /* What `player` sees of the board, as several lines for people. Default: write_board(). */
    int32_t (*write_view)(const playout_game *game, const void *state, int32_t player, char *text);
    /* What read_state() means by -2, by -3 and so on, in words for people: ended by NULL. NULL: it only gives -1. */
    const char *const *state_faults;
    /* What ends the game and who has won then, as a sentence or two for people and for language models, such as "Who first
     * has 4 in a row wins; a full board is a draw." NULL: nothing is said. */
    int32_t (*write_goal)(const playout_game *game, char *text);
    /* eval_key() of the state as symmetry k shows it, which searches ask for at every leaf: for games where writing the
     * whole state takes long. NULL: it is written. */
    uint64_t (*symmetry_key)(const playout_game *game, const void *state, int32_t k);
};

#define PLAYOUT_GAME_FIRST_SIZE offsetof(playout_game, flags) /* bytes of the shortest table that loads */

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
