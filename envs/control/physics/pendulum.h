/* Pendulum: swing a rod up and hold it with a torque in [-2, 2], as Gymnasium's Pendulum-v1.
 *
 * Physics only; the order of operations is Gymnasium's, and what it computes in single precision for float32 actions is
 * computed so here. State: angle (0 is upright, unbounded), angular velocity. Never terminates. params[0]: gravity.
 */
#ifndef PLAYOUT_PENDULUM_H
#define PLAYOUT_PENDULUM_H

#include "playout_control.h"
#include "trig.h"

#define PENDULUM_MAX_SPEED 8.0
#define PENDULUM_TURN 0x1.921fb54442d18p+2    /* 2 pi as a double */
#define PENDULUM_TURN_HIGH 0x1.921fb544p+2    /* its first 33 bits: a multiple by a whole number below 2^20 is exact */
#define PENDULUM_TURN_LOW 0x1.0b46p-32

/* x wrapped to [-pi, pi): ((x + pi) mod 2 pi) - pi with the rounding of an exact remainder, as Python's. */
CTL_INLINE double pendulum_wrap(double x) {
    const double magic = 0x1.8p52;
    const double shifted = x + CTL_PI, size = fabs(shifted);
    const double turns = (size * (1.0 / PENDULUM_TURN) + magic) - magic;
    double rest = (size - turns * PENDULUM_TURN_HIGH) - turns * PENDULUM_TURN_LOW;
    const double one_less = rest + PENDULUM_TURN;
    rest = rest < 0.0 ? one_less : rest;
    const double opposite = rest == 0.0 ? 0.0 : PENDULUM_TURN - rest;
    return (shifted < 0.0 ? opposite : rest) - CTL_PI;
}

CTL_INLINE void pendulum_rows(int32_t n, const void *actions, int single, double gravity, double *restrict angles,
                              double *restrict spins, double *restrict rewards) {
    const float *restrict floats = (const float *)actions;
    const double *restrict doubles = (const double *)actions;
    const double dt = 0.05, pull = 3.0 * gravity / 2.0;
    double sines[PLAYOUT_CONTROL_BLOCK], wrapped[PLAYOUT_CONTROL_BLOCK];
    ctl_sin_block(n, angles, sines);
    for (int32_t i = 0; i < n; i++) {
        wrapped[i] = pendulum_wrap(angles[i]);
    }
    if (!ctl_all_within(n, angles, CTL_TRIG_LIMIT)) {
        for (int32_t i = 0; i < n; i++) {
            if (!(fabs(angles[i]) <= CTL_TRIG_LIMIT)) {
                const double rest = fmod(angles[i] + CTL_PI, PENDULUM_TURN);
                wrapped[i] = (rest < 0.0 ? rest + PENDULUM_TURN : rest) - CTL_PI;
            }
        }
    }
    for (int32_t i = 0; i < n; i++) {
        const double torque = single ? (double)floats[i] : doubles[i];
        const double square = single ? (double)((float)0.001 * (floats[i] * floats[i])) : 0.001 * (torque * torque);
        const double push = single ? (double)(3.0f * floats[i]) : 3.0 * torque;
        const double spin = spins[i];
        const double costs = wrapped[i] * wrapped[i] + 0.1 * (spin * spin) + square;
        double next = spin + (pull * sines[i] + push) * dt;
        next = next < -PENDULUM_MAX_SPEED ? -PENDULUM_MAX_SPEED : next;
        next = next > PENDULUM_MAX_SPEED ? PENDULUM_MAX_SPEED : next;
        spins[i] = next;
        angles[i] = angles[i] + next * dt;
        rewards[i] = -costs;
    }
}

CTL_INLINE void pendulum_step_body(const playout_control *task, int32_t n, const void *actions, int32_t action_type,
                                   double *state, int64_t stride, double *rewards, uint8_t *terminations) {
    if (action_type == PLAYOUT_ACTION_FLOAT32) {
        pendulum_rows(n, actions, 1, task->params[0], state, state + stride, rewards);
    } else {
        pendulum_rows(n, actions, 0, task->params[0], state, state + stride, rewards);
    }
    memset(terminations, 0, (size_t)n);
}

CTL_INLINE void pendulum_observe_body(const playout_control *task, int32_t n, const double *state, int64_t stride,
                                      double *obs, int64_t obs_stride) {
    (void)task;
    ctl_sincos_quick_block(n, state, obs + obs_stride, obs);
    memcpy(obs + 2 * obs_stride, state + stride, (size_t)n * sizeof(double));
}

CTL_VERSIONS(pendulum_step, pendulum_step_body,
             (const playout_control *task, int32_t n, const void *actions, int32_t action_type, double *state,
              int64_t stride, double *rewards, uint8_t *terminations),
             (task, n, actions, action_type, state, stride, rewards, terminations))
CTL_VERSIONS(pendulum_observe, pendulum_observe_body,
             (const playout_control *task, int32_t n, const double *state, int64_t stride, double *obs,
              int64_t obs_stride),
             (task, n, state, stride, obs, obs_stride))

static void pendulum_make(playout_control *task, int isa) {
    playout_control_begin(task, "pendulum");
    task->state_size = 2;
    task->obs_size = 3;
    task->action_low = -2.0;
    task->action_high = 2.0;
    task->params[0] = 10.0;
    task->obs_high[0] = task->obs_high[1] = 1.0;
    task->obs_high[2] = PENDULUM_MAX_SPEED;
    for (int k = 0; k < 3; k++) {
        task->obs_low[k] = -task->obs_high[k];
    }
    task->reset_low[0] = -CTL_PI;
    task->reset_high[0] = CTL_PI;
    task->reset_low[1] = -1.0;
    task->reset_high[1] = 1.0;
    task->reset_many = playout_control_uniform;
    task->step_many = pendulum_step[isa];
    task->observe_many = pendulum_observe[isa];
}

#endif
