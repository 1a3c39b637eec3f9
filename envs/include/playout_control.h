/* playout control ABI, version 1: one control task (physics only) behind one table of functions over arrays.
 *
 * A task fills in a playout_control and hands it over in a PyCapsule named PLAYOUT_CONTROL_CAPSULE. What it leaves out
 * is everything that all tasks share: time limits, autoreset, random streams, checking of actions, layout of
 * observations.
 *
 * The rules that every task keeps:
 *   - State is double precision, a structure of arrays: component k of row i stands at state[k * stride + i].
 *   - A function never allocates, never fails, never takes the GIL, and keeps nothing outside the state. It is given 1 to
 *     PLAYOUT_CONTROL_BLOCK rows, so that scratch fits on the stack and loops stay in the first-level cache.
 *   - Row i depends on row i alone, and the arithmetic is the same on every processor: a batch may be cut anywhere.
 *   - Actions were checked: whole numbers in [0, num_actions), or finite numbers within [action_low, action_high].
 *   - Rows whose episode is over are stepped too (their result is thrown away): no value may trap or loop for ever.
 */
#ifndef PLAYOUT_CONTROL_H
#define PLAYOUT_CONTROL_H

#include <stdint.h>
#include <string.h>

#include "playout_rng.h"

#define PLAYOUT_CONTROL_ABI 1
#define PLAYOUT_CONTROL_CAPSULE "playout.control.v1"

#define PLAYOUT_CONTROL_BLOCK 128
#define PLAYOUT_CONTROL_MAX_STATE 16
#define PLAYOUT_CONTROL_MAX_OBS 16
#define PLAYOUT_CONTROL_MAX_PARAMS 8

/* What the actions array holds. Where Gymnasium computes with an action in single precision because it came in single
 * precision, a task does the same, so that results agree. */
#define PLAYOUT_ACTION_INT32 0
#define PLAYOUT_ACTION_FLOAT32 1
#define PLAYOUT_ACTION_FLOAT64 2

typedef struct playout_control playout_control;

struct playout_control {
    uint32_t abi;         /* PLAYOUT_CONTROL_ABI */
    uint32_t struct_size; /* sizeof(playout_control) */
    char name[64];        /* "cartpole" */

    int32_t state_size;
    int32_t obs_size;     /* at most PLAYOUT_CONTROL_MAX_OBS, unless observe_rows is given */
    int32_t obs_shape[3]; /* [C, H, W] of an image, with product obs_size; zeros: a vector */
    int32_t num_actions; /* 0: continuous, one number in [action_low, action_high] */
    int32_t max_episode_steps;
    double action_low, action_high;
    double reward_threshold; /* NaN: none */
    double params[PLAYOUT_CONTROL_MAX_PARAMS];
    double obs_high[PLAYOUT_CONTROL_MAX_OBS]; /* of an image: [0] holds for all its numbers */
    double obs_low[PLAYOUT_CONTROL_MAX_OBS];
    /* A new episode's state lies between these (uniformly, in all of the built-in tasks). */
    double reset_low[PLAYOUT_CONTROL_MAX_STATE];
    double reset_high[PLAYOUT_CONTROL_MAX_STATE];

    /* Starts n episodes; rng holds one stream a row. */
    void (*reset_many)(const playout_control *task, int32_t n, const double *low, const double *high, playout_rng *rng,
                       double *state, int64_t stride);
    /* Moves n rows on by one step. */
    void (*step_many)(const playout_control *task, int32_t n, const void *actions, int32_t action_type, double *state,
                      int64_t stride, double *rewards, uint8_t *terminations);
    /* Writes component k of row i's observation to obs[k * obs_stride + i]. NULL: the observation is the state. */
    void (*observe_many)(const playout_control *task, int32_t n, const double *state, int64_t stride, double *obs,
                         int64_t obs_stride);

    /* Instead of observe_many, for images: writes row i's numbers to obs[i * obs_size ...], in the float32 array of the
     * caller. Such tasks have no double precision observations. */
    void (*observe_rows)(const playout_control *task, int32_t n, const double *state, int64_t stride, float *obs);

    void *reserved[8]; /* zero */
};

static inline void playout_control_begin(playout_control *task, const char *name) {
    memset(task, 0, sizeof *task);
    task->abi = PLAYOUT_CONTROL_ABI;
    task->struct_size = (uint32_t)sizeof *task;
    strncpy(task->name, name, sizeof task->name - 1);
}

/* The usual reset: every component uniform between its bounds. */
static inline void playout_control_uniform(const playout_control *task, int32_t n, const double *low, const double *high,
                                           playout_rng *rng, double *state, int64_t stride) {
    for (int32_t i = 0; i < n; i++) {
        for (int32_t k = 0; k < task->state_size; k++) {
            state[k * stride + i] = low[k] + (high[k] - low[k]) * playout_rng_double(&rng[i]);
        }
    }
}

#endif
