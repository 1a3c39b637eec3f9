/* Steps a batch of one control task: time limits, the three autoreset modes, random streams, layout of observations.
 *
 * Works block by block (PLAYOUT_CONTROL_BLOCK rows), so that physics, bookkeeping and the transposed write of
 * observations meet the same lines of the first-level cache. Everything lives in arrays that the caller owns; nothing
 * is allocated. Leaves out: physics (the task), and checking of actions, which happens before (ctl_check_*).
 */
#ifndef PLAYOUT_CONTROL_DRIVER_H
#define PLAYOUT_CONTROL_DRIVER_H

#include <stddef.h>

#include "playout_control.h"
#include "simd.h"

#define CTL_NEXT_STEP 0
#define CTL_SAME_STEP 1
#define CTL_DISABLED 2

typedef struct ctl_batch {
    const playout_control *task;
    int32_t num_envs, max_episode_steps; /* no limit: 0 */
    int32_t mode, isa;
    int32_t obs_double; /* observations are float64 instead of float32 */
    int64_t stride;     /* of state; num_envs rounded up */
    double *state;      /* [state_size, stride] */
    uint64_t *seeds;    /* [num_envs] names of the streams */
    uint64_t *episodes; /* [num_envs] number of the running episode */
    int32_t *elapsed;   /* [num_envs] steps taken in it */
    uint8_t *pending;   /* [num_envs] over, not yet reset (NEXT_STEP, DISABLED) */
    void *obs, *final_obs;
    double *rewards;
    uint8_t *terminations, *truncations;
} ctl_batch;

/* obs[i, k] = columns[k][i], in single or double precision; the size is constant after inlining. */
CTL_INLINE void ctl_rows_of(int32_t size, int32_t n, const double *restrict columns, int64_t stride, void *obs,
                            int32_t obs_double) {
    if (obs_double) {
        double *restrict out = (double *)obs;
        for (int32_t i = 0; i < n; i++) {
            for (int32_t k = 0; k < size; k++) {
                out[i * size + k] = columns[k * stride + i];
            }
        }
    } else {
        float *restrict out = (float *)obs;
        for (int32_t i = 0; i < n; i++) {
            for (int32_t k = 0; k < size; k++) {
                out[i * size + k] = (float)columns[k * stride + i];
            }
        }
    }
}

CTL_INLINE void ctl_write_obs_body(int32_t size, int32_t n, const double *columns, int64_t stride, void *obs,
                                   int32_t obs_double) {
    switch (size) {
    case 2: ctl_rows_of(2, n, columns, stride, obs, obs_double); break;
    case 3: ctl_rows_of(3, n, columns, stride, obs, obs_double); break;
    case 4: ctl_rows_of(4, n, columns, stride, obs, obs_double); break;
    case 6: ctl_rows_of(6, n, columns, stride, obs, obs_double); break;
    default: ctl_rows_of(size, n, columns, stride, obs, obs_double); break;
    }
}

CTL_VERSIONS(ctl_write_obs, ctl_write_obs_body,
             (int32_t size, int32_t n, const double *columns, int64_t stride, void *obs, int32_t obs_double),
             (size, n, columns, stride, obs, obs_double))

/* Counts the step and marks the rows that reached the limit; pending becomes "the episode is over". */
CTL_INLINE void ctl_count_body(int32_t n, int32_t limit, int32_t *restrict elapsed,
                               const uint8_t *restrict terminations, uint8_t *restrict truncations,
                               uint8_t *restrict over) {
    for (int32_t i = 0; i < n; i++) {
        elapsed[i] += elapsed[i] < INT32_MAX ? 1 : 0;
    }
    const int32_t last = limit > 0 ? limit : INT32_MAX;
    const uint8_t limited = limit > 0;
    for (int32_t i = 0; i < n; i++) {
        truncations[i] = (uint8_t)(elapsed[i] >= last) & limited;
    }
    for (int32_t i = 0; i < n; i++) {
        over[i] = terminations[i] | truncations[i];
    }
}

CTL_VERSIONS(ctl_count, ctl_count_body,
             (int32_t n, int32_t limit, int32_t *elapsed, const uint8_t *terminations, uint8_t *truncations,
              uint8_t *over),
             (n, limit, elapsed, terminations, truncations, over))

/* The set bytes of flags[0..n) as row numbers; most words are zero. */
static inline int32_t ctl_list(int32_t n, const uint8_t *flags, int32_t *rows) {
    int32_t count = 0, i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t word;
        memcpy(&word, flags + i, 8);
        if (word != 0) {
            for (int32_t j = i; j < i + 8; j++) {
                rows[count] = j;
                count += flags[j] != 0;
            }
        }
    }
    for (; i < n; i++) {
        if (flags[i]) {
            rows[count++] = i;
        }
    }
    return count;
}

static inline size_t ctl_obs_bytes(const ctl_batch *batch) {
    return (size_t)batch->task->obs_size * (batch->obs_double ? sizeof(double) : sizeof(float));
}

/* Writes the observations of rows [begin, begin + n). */
static inline void ctl_observe_block(const ctl_batch *batch, int32_t begin, int32_t n) {
    const playout_control *task = batch->task;
    void *obs = (char *)batch->obs + (size_t)begin * ctl_obs_bytes(batch);
    if (task->observe_rows != NULL) {
        task->observe_rows(task, n, batch->state + begin, batch->stride, (float *)obs);
    } else if (task->observe_many == NULL) {
        ctl_write_obs[batch->isa](task->obs_size, n, batch->state + begin, batch->stride, obs, batch->obs_double);
    } else {
        double columns[PLAYOUT_CONTROL_MAX_OBS * PLAYOUT_CONTROL_BLOCK];
        task->observe_many(task, n, batch->state + begin, batch->stride, columns, PLAYOUT_CONTROL_BLOCK);
        ctl_write_obs[batch->isa](task->obs_size, n, columns, PLAYOUT_CONTROL_BLOCK, obs, batch->obs_double);
    }
}

/* Starts the next episode of the listed rows (numbered from begin). */
static inline void ctl_reset_rows(const ctl_batch *batch, int32_t begin, int32_t count, const int32_t *rows,
                                  const double *low, const double *high) {
    const playout_control *task = batch->task;
    double fresh[PLAYOUT_CONTROL_MAX_STATE * PLAYOUT_CONTROL_BLOCK];
    playout_rng rng[PLAYOUT_CONTROL_BLOCK];
    for (int32_t j = 0; j < count; j++) {
        const int32_t row = begin + rows[j];
        batch->episodes[row] += 1;
        batch->elapsed[row] = 0;
        rng[j] = playout_rng_stream(batch->seeds[row], batch->episodes[row]);
    }
    task->reset_many(task, count, low, high, rng, fresh, PLAYOUT_CONTROL_BLOCK);
    for (int32_t k = 0; k < task->state_size; k++) {
        double *column = batch->state + k * batch->stride + begin;
        for (int32_t j = 0; j < count; j++) {
            column[rows[j]] = fresh[k * PLAYOUT_CONTROL_BLOCK + j];
        }
    }
}

/* Resets the rows with a set byte (all if where is NULL) and writes their observations. */
static inline void ctl_reset(const ctl_batch *batch, const uint8_t *where, const double *low, const double *high) {
    int32_t rows[PLAYOUT_CONTROL_BLOCK + 8];
    for (int32_t begin = 0; begin < batch->num_envs; begin += PLAYOUT_CONTROL_BLOCK) {
        const int32_t left = batch->num_envs - begin;
        const int32_t n = left < PLAYOUT_CONTROL_BLOCK ? left : PLAYOUT_CONTROL_BLOCK;
        int32_t count = n;
        if (where != NULL) {
            count = ctl_list(n, where + begin, rows);
        } else {
            for (int32_t i = 0; i < n; i++) {
                rows[i] = i;
            }
        }
        if (count > 0) {
            ctl_reset_rows(batch, begin, count, rows, low, high);
        }
        for (int32_t j = 0; j < count; j++) {
            const int32_t row = begin + rows[j];
            batch->pending[row] = batch->terminations[row] = batch->truncations[row] = 0;
            batch->rewards[row] = 0.0;
        }
        ctl_observe_block(batch, begin, n);
    }
}

/* One step of every row. actions holds one int32, float or double a row. Returns how many episodes ended. */
static inline int32_t ctl_step(const ctl_batch *batch, const void *actions, int32_t action_type) {
    const playout_control *task = batch->task;
    const size_t action_bytes = action_type == PLAYOUT_ACTION_FLOAT64 ? 8 : 4;
    const size_t obs_bytes = ctl_obs_bytes(batch);
    int32_t rows[PLAYOUT_CONTROL_BLOCK + 8], ended = 0;
    for (int32_t begin = 0; begin < batch->num_envs; begin += PLAYOUT_CONTROL_BLOCK) {
        const int32_t left = batch->num_envs - begin;
        const int32_t n = left < PLAYOUT_CONTROL_BLOCK ? left : PLAYOUT_CONTROL_BLOCK;
        uint8_t *pending = batch->pending + begin, *truncations = batch->truncations + begin;
        uint8_t *terminations = batch->terminations + begin;
        double *rewards = batch->rewards + begin;
        /* Episodes that ended in the step before; only NEXT_STEP leaves such rows here. */
        const int32_t stale = batch->mode == CTL_NEXT_STEP ? ctl_list(n, pending, rows) : 0;
        task->step_many(task, n, (const char *)actions + (size_t)begin * action_bytes, action_type,
                        batch->state + begin, batch->stride, rewards, terminations);
        ctl_count[batch->isa](n, batch->max_episode_steps, batch->elapsed + begin, terminations, truncations, pending);
        if (stale > 0) {
            ctl_reset_rows(batch, begin, stale, rows, task->reset_low, task->reset_high);
            for (int32_t j = 0; j < stale; j++) {
                const int32_t i = rows[j];
                rewards[i] = 0.0;
                pending[i] = terminations[i] = truncations[i] = 0;
            }
        }
        ctl_observe_block(batch, begin, n);
        if (batch->mode == CTL_SAME_STEP) {
            const int32_t over = ctl_list(n, pending, rows);
            if (over > 0) {
                for (int32_t j = 0; j < over; j++) {
                    const size_t at = (size_t)(begin + rows[j]) * obs_bytes;
                    memcpy((char *)batch->final_obs + at, (const char *)batch->obs + at, obs_bytes);
                    pending[rows[j]] = 0;
                }
                ctl_reset_rows(batch, begin, over, rows, task->reset_low, task->reset_high);
                ctl_observe_block(batch, begin, n);
                ended += over;
            }
        }
    }
    return ended;
}

/* Checks of actions: *good says whether all may be taken. Whole numbers are narrowed on the way. */
CTL_INLINE void ctl_check_int64_body(int32_t n, const int64_t *restrict actions, int32_t *restrict narrow,
                                     int64_t bound, int32_t *good) {
    uint64_t bad = 0;
    for (int32_t i = 0; i < n; i++) {
        const uint64_t action = (uint64_t)actions[i];
        narrow[i] = (int32_t)action;
        bad |= ((uint64_t)(bound - 1) - action) | action; /* the sign bit: above the bound, or negative */
    }
    *good = bad >> 63 == 0;
}

CTL_VERSIONS(ctl_check_int64, ctl_check_int64_body,
             (int32_t n, const int64_t *actions, int32_t *narrow, int64_t bound, int32_t *good),
             (n, actions, narrow, bound, good))

CTL_INLINE void ctl_check_int32_body(int32_t n, const int32_t *actions, int32_t bound, int32_t *good) {
    int32_t bad = 0;
    for (int32_t i = 0; i < n; i++) {
        bad |= (uint32_t)actions[i] >= (uint32_t)bound ? 1 : 0;
    }
    *good = !bad;
}

CTL_VERSIONS(ctl_check_int32, ctl_check_int32_body, (int32_t n, const int32_t *actions, int32_t bound, int32_t *good),
             (n, actions, bound, good))

CTL_INLINE void ctl_check_float_body(int32_t n, const float *actions, float low, float high, int32_t *good) {
    int32_t bad = 0;
    for (int32_t i = 0; i < n; i++) {
        bad |= (actions[i] >= low ? 0 : 1) | (actions[i] <= high ? 0 : 1); /* NaN fails both */
    }
    *good = !bad;
}

CTL_VERSIONS(ctl_check_float, ctl_check_float_body,
             (int32_t n, const float *actions, float low, float high, int32_t *good), (n, actions, low, high, good))

CTL_INLINE void ctl_check_double_body(int32_t n, const double *actions, double low, double high, int32_t *good) {
    int64_t bad = 0;
    for (int32_t i = 0; i < n; i++) {
        bad |= (actions[i] >= low ? 0 : 1) | (actions[i] <= high ? 0 : 1);
    }
    *good = !bad;
}

CTL_VERSIONS(ctl_check_double, ctl_check_double_body,
             (int32_t n, const double *actions, double low, double high, int32_t *good), (n, actions, low, high, good))

#endif
