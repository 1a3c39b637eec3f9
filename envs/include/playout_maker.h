/* Games that are made by name from numbers and words: what a header in envs/games/ exports. */
#ifndef PLAYOUT_MAKER_H
#define PLAYOUT_MAKER_H

#include "playout_game.h"

typedef struct playout_maker {
    const char *name;            /* "go" */
    const playout_param *params; /* what it takes, ended by PLAYOUT_PARAMS_END */
    /* Fills in the table from values in their ranges, in the order of params. NULL, or why they cannot be played
     * together, such as "it needs run <= the longer side". */
    const char *(*make)(playout_game *game, const double *values);
} playout_maker;

#define PLAYOUT_INTEGER_PARAM(name, value, low, high) {name, PLAYOUT_INTEGER, value, low, high, NULL}
#define PLAYOUT_REAL_PARAM(name, value, low, high) {name, PLAYOUT_REAL, value, low, high, NULL}
/* words: "one two" with one blank between; value: the default's place among them */
#define PLAYOUT_CHOICE_PARAM(name, value, count, words) {name, PLAYOUT_CHOICE, value, 0, (count) - 1, words}
#define PLAYOUT_PARAMS_END {NULL, 0, 0, 0, 0, NULL}

static const char PLAYOUT_NO_MEMORY[] = "out of memory"; /* what make() answers then */

#endif
