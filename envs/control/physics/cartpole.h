/* CartPole: a pole on a cart that is pushed left or right (Barto, Sutton, Anderson 1983), as Gymnasium's CartPole-v1.
 *
 * Physics only. The order of operations is Gymnasium's, so that states agree to the last bits. Euler integration.
 * params[0]: 1 for Sutton and Barto's reward (0 a step, -1 for the fall) instead of 1 a step.
 */
#ifndef PLAYOUT_CARTPOLE_H
#define PLAYOUT_CARTPOLE_H

#include "playout_control.h"
#include "trig.h"

#define CARTPOLE_X_LIMIT 2.4
#define CARTPOLE_ANGLE_LIMIT (12.0 * 2.0 * CTL_PI / 360.0)

CTL_INLINE void cartpole_step_body(const playout_control *task, int32_t n, const void *actions, int32_t action_type,
                                   double *state, int64_t stride, double *restrict rewards,
                                   uint8_t *restrict terminations) {
    const double gravity = 9.8, mass_cart = 1.0, mass_pole = 0.1, length = 0.5, force_size = 10.0, tau = 0.02;
    const double total_mass = mass_pole + mass_cart;
    const double pole_moment = mass_pole * length;
    const int32_t *restrict pushes = (const int32_t *)actions;
    double *restrict xs = state, *restrict speeds = state + stride;
    double *restrict angles = state + 2 * stride, *restrict spins = state + 3 * stride;
    double sines[PLAYOUT_CONTROL_BLOCK], cosines[PLAYOUT_CONTROL_BLOCK], fallen[PLAYOUT_CONTROL_BLOCK];
    (void)action_type;
    ctl_sincos_small_block(n, angles, sines, cosines);
    for (int32_t i = 0; i < n; i++) {
        const double x = xs[i], speed = speeds[i], angle = angles[i], spin = spins[i];
        const double sine = sines[i], cosine = cosines[i];
        const double force = pushes[i] == 1 ? force_size : -force_size;
        const double push = (force + pole_moment * (spin * spin) * sine) / total_mass;
        const double spin_change = (gravity * sine - cosine * push) /
                                   (length * (4.0 / 3.0 - mass_pole * (cosine * cosine) / total_mass));
        const double speed_change = push - pole_moment * spin_change * cosine / total_mass;
        const double new_x = x + tau * speed, new_angle = angle + tau * spin;
        xs[i] = new_x;
        speeds[i] = speed + tau * speed_change;
        angles[i] = new_angle;
        spins[i] = spin + tau * spin_change;
        const double out = fabs(new_x) > CARTPOLE_X_LIMIT ? 1.0 : 0.0;
        fallen[i] = fabs(new_angle) > CARTPOLE_ANGLE_LIMIT ? 1.0 : out;
    }
    const double alive = task->params[0] != 0.0 ? 0.0 : 1.0, fall = task->params[0] != 0.0 ? -1.0 : 1.0;
    for (int32_t i = 0; i < n; i++) {
        rewards[i] = fallen[i] != 0.0 ? fall : alive;
    }
    for (int32_t i = 0; i < n; i++) {
        terminations[i] = (uint8_t)(fallen[i] != 0.0);
    }
}

CTL_VERSIONS(cartpole_step, cartpole_step_body,
             (const playout_control *task, int32_t n, const void *actions, int32_t action_type, double *state,
              int64_t stride, double *rewards, uint8_t *terminations),
             (task, n, actions, action_type, state, stride, rewards, terminations))

static void cartpole_make(playout_control *task, int isa) {
    playout_control_begin(task, "cartpole");
    task->state_size = task->obs_size = 4;
    task->num_actions = 2;
    task->obs_high[0] = 2.0 * CARTPOLE_X_LIMIT;
    task->obs_high[2] = 2.0 * CARTPOLE_ANGLE_LIMIT;
    task->obs_high[1] = task->obs_high[3] = INFINITY;
    for (int k = 0; k < 4; k++) {
        task->obs_low[k] = -task->obs_high[k];
        task->reset_low[k] = -0.05;
        task->reset_high[k] = 0.05;
    }
    task->reset_many = playout_control_uniform;
    task->step_many = cartpole_step[isa];
}

#endif
