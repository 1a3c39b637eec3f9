/* MountainCarContinuous: the car with a continuous pedal (one number in [-1, 1]), as MountainCarContinuous-v0.
 *
 * Physics only. Gymnasium keeps this state in single precision after the first step, and computes with it there; with
 * params[1] set, so does this task, operation for operation, so that states are the same. Without it (observations in
 * double precision) everything is double. A freshly reset state is double in both.
 * params[0]: velocity that the car must have at the flag; params[1]: single precision, as above.
 */
#ifndef PLAYOUT_MOUNTAIN_CAR_CONTINUOUS_H
#define PLAYOUT_MOUNTAIN_CAR_CONTINUOUS_H

#include "mountain_car.h"

/* Rounds to single precision where asked; a sum or product of two floats rounded this way is the float operation. */
CTL_INLINE double ctl_single(double value, int single) { return single ? (double)(float)value : value; }

/* The values themselves tell whether they are single: x == (float)x. */
CTL_INLINE void car_continuous_rows(int32_t n, const void *actions, int single_state, int single_action,
                                    double goal_velocity, double *restrict positions, double *restrict velocities,
                                    double *restrict rewards, double *restrict reached) {
    const float *restrict floats = (const float *)actions;
    const double *restrict doubles = (const double *)actions;
    const double power = single_action ? (double)0.0015f : 0.0015;
    double slopes[PLAYOUT_CONTROL_BLOCK], cosines[PLAYOUT_CONTROL_BLOCK];
    for (int32_t i = 0; i < n; i++) {
        const double x = positions[i], slope = 3.0 * x;
        const double single_slope = ctl_single(x, 1) == x ? ctl_single(slope, 1) : slope;
        slopes[i] = single_state ? single_slope : slope;
    }
    ctl_cos_block(n, slopes, cosines);
    for (int32_t i = 0; i < n; i++) {
        const double pedal = single_action ? (double)floats[i] : doubles[i];
        const double pull = ctl_single(0.0025 * cosines[i], single_action);
        const double push = ctl_single(ctl_single(pedal * power, single_action) - pull, single_action);
        const double old_x = positions[i], old_v = velocities[i];
        /* Gymnasium's sums are single where both sides are; a plain number, as the limit, takes the other's type. */
        const int v_single = single_state && single_action && (double)(float)old_v == old_v;
        const double rounded_v = (double)(float)(old_v + push);
        double v = v_single ? rounded_v : old_v + push;
        const double speed = v_single ? (double)0.07f : CAR_MAX_SPEED;
        const int clipped = fabs(v) > speed;
        v = v > speed ? speed : v;
        v = v < -speed ? -speed : v;
        const int x_single = single_state && (v_single | clipped) & ((double)(float)old_x == old_x);
        const double left = x_single ? (double)-1.2f : CAR_LEFT, right = x_single ? (double)0.6f : CAR_RIGHT;
        const double goal = x_single ? (double)0.45f : 0.45;
        const double rounded_x = (double)(float)(old_x + (double)(float)v);
        double x = x_single ? rounded_x : old_x + v;
        x = x > right ? right : x;
        x = x < left ? left : x;
        const double bounced = v < 0.0 ? 0.0 : v;
        v = x == left ? bounced : v;
        const double there = v >= goal_velocity ? 1.0 : 0.0;
        const double done = x >= goal ? there : 0.0;
        reached[i] = done;
        rewards[i] = (done != 0.0 ? 100.0 : 0.0) - (pedal * pedal) * 0.1;
        positions[i] = ctl_single(x, single_state);
        velocities[i] = ctl_single(v, single_state);
    }
}

CTL_INLINE void mountain_car_continuous_step_body(const playout_control *task, int32_t n, const void *actions,
                                                  int32_t action_type, double *state, int64_t stride, double *rewards,
                                                  uint8_t *restrict terminations) {
    const double goal = task->params[0];
    double reached[PLAYOUT_CONTROL_BLOCK];
    double *velocities = state + stride;
    if (action_type == PLAYOUT_ACTION_FLOAT32) {
        if (task->params[1] != 0.0) {
            car_continuous_rows(n, actions, 1, 1, goal, state, velocities, rewards, reached);
        } else {
            car_continuous_rows(n, actions, 0, 1, goal, state, velocities, rewards, reached);
        }
    } else {
        if (task->params[1] != 0.0) {
            car_continuous_rows(n, actions, 1, 0, goal, state, velocities, rewards, reached);
        } else {
            car_continuous_rows(n, actions, 0, 0, goal, state, velocities, rewards, reached);
        }
    }
    for (int32_t i = 0; i < n; i++) {
        terminations[i] = (uint8_t)(reached[i] != 0.0);
    }
}

CTL_VERSIONS(mountain_car_continuous_step, mountain_car_continuous_step_body,
             (const playout_control *task, int32_t n, const void *actions, int32_t action_type, double *state,
              int64_t stride, double *rewards, uint8_t *terminations),
             (task, n, actions, action_type, state, stride, rewards, terminations))

static void mountain_car_continuous_make(playout_control *task, int isa) {
    mountain_car_make(task, isa);
    strncpy(task->name, "mountain_car_continuous", sizeof task->name - 1);
    task->num_actions = 0;
    task->action_low = -1.0;
    task->action_high = 1.0;
    task->step_many = mountain_car_continuous_step[isa];
}

#endif
