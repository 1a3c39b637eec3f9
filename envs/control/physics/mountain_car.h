/* MountainCar: a car too weak for the hill must swing up to it (Moore 1990), as Gymnasium's MountainCar-v0.
 *
 * Physics only; the order of operations is Gymnasium's. State: position, velocity. Actions: back, nothing, forward.
 * params[0]: velocity that the car must have at the flag.
 */
#ifndef PLAYOUT_MOUNTAIN_CAR_H
#define PLAYOUT_MOUNTAIN_CAR_H

#include "playout_control.h"
#include "trig.h"

#define CAR_LEFT (-1.2)
#define CAR_RIGHT 0.6
#define CAR_MAX_SPEED 0.07

CTL_INLINE void mountain_car_step_body(const playout_control *task, int32_t n, const void *actions, int32_t action_type,
                                       double *state, int64_t stride, double *restrict rewards,
                                       uint8_t *restrict terminations) {
    const double force = 0.001, gravity = 0.0025, goal = 0.5, goal_velocity = task->params[0];
    const int32_t *restrict pedals = (const int32_t *)actions;
    double *restrict positions = state, *restrict velocities = state + stride;
    double slopes[PLAYOUT_CONTROL_BLOCK], cosines[PLAYOUT_CONTROL_BLOCK], reached[PLAYOUT_CONTROL_BLOCK];
    (void)action_type;
    for (int32_t i = 0; i < n; i++) {
        slopes[i] = 3.0 * positions[i];
    }
    ctl_cos_block(n, slopes, cosines);
    for (int32_t i = 0; i < n; i++) {
        double v = velocities[i] + ((double)(pedals[i] - 1) * force + cosines[i] * -gravity);
        v = v < -CAR_MAX_SPEED ? -CAR_MAX_SPEED : v;
        v = v > CAR_MAX_SPEED ? CAR_MAX_SPEED : v;
        double x = positions[i] + v;
        x = x < CAR_LEFT ? CAR_LEFT : x;
        x = x > CAR_RIGHT ? CAR_RIGHT : x;
        const double bounced = v < 0.0 ? 0.0 : v;
        v = x == CAR_LEFT ? bounced : v;
        positions[i] = x;
        velocities[i] = v;
        const double there = v >= goal_velocity ? 1.0 : 0.0;
        reached[i] = x >= goal ? there : 0.0;
    }
    for (int32_t i = 0; i < n; i++) {
        rewards[i] = -1.0;
    }
    for (int32_t i = 0; i < n; i++) {
        terminations[i] = (uint8_t)(reached[i] != 0.0);
    }
}

CTL_VERSIONS(mountain_car_step, mountain_car_step_body,
             (const playout_control *task, int32_t n, const void *actions, int32_t action_type, double *state,
              int64_t stride, double *rewards, uint8_t *terminations),
             (task, n, actions, action_type, state, stride, rewards, terminations))

static void mountain_car_make(playout_control *task, int isa) {
    playout_control_begin(task, "mountain_car");
    task->state_size = task->obs_size = 2;
    task->num_actions = 3;
    task->obs_low[0] = CAR_LEFT;
    task->obs_high[0] = CAR_RIGHT;
    task->obs_low[1] = -CAR_MAX_SPEED;
    task->obs_high[1] = CAR_MAX_SPEED;
    task->reset_low[0] = -0.6;
    task->reset_high[0] = -0.4;
    task->reset_many = playout_control_uniform;
    task->step_many = mountain_car_step[isa];
}

#endif
