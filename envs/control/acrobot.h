/* Acrobot: two links, a torque on the middle joint, the tip must rise above the bar (Sutton 1996), as Acrobot-v1.
 *
 * Physics only: the book's equations (Sutton and Barto 2018), one Runge-Kutta step of 0.2 s; the order of operations is
 * Gymnasium's. State: both angles in [-pi, pi], both velocities. Leaves out: torque noise and the "nips" equations.
 */
#ifndef PLAYOUT_ACROBOT_H
#define PLAYOUT_ACROBOT_H

#include "playout_control.h"
#include "trig.h"

#define ACROBOT_MAX_SPEED_1 (4.0 * CTL_PI)
#define ACROBOT_MAX_SPEED_2 (9.0 * CTL_PI)
#define ACROBOT_TURN (2.0 * CTL_PI)

typedef struct acrobot_row {
    double angle1, angle2, spin1, spin2;
} acrobot_row;

/* Time derivative of s. Masses and lengths are 1, centres of mass at 0.5, moments of inertia 1. */
CTL_INLINE acrobot_row acrobot_slope(acrobot_row s, double torque, int plain_libm) {
    const double g = 9.8;
    double sin2, cos2, down1, down12;
    if (plain_libm) {
        sin2 = sin(s.angle2);
        cos2 = cos(s.angle2);
        down12 = cos(s.angle1 + s.angle2 - CTL_PI / 2.0);
        down1 = cos(s.angle1 - CTL_PI / 2.0);
    } else {
        ctl_sincos(s.angle2, &sin2, &cos2);
        down12 = ctl_cos(s.angle1 + s.angle2 - CTL_PI / 2.0);
        down1 = ctl_cos(s.angle1 - CTL_PI / 2.0);
    }
    const double d1 = 0.25 + (1.25 + cos2) + 1.0 + 1.0;
    const double d2 = (0.25 + 0.5 * cos2) + 1.0;
    const double phi2 = 0.5 * g * down12;
    const double phi1 = -0.5 * (s.spin2 * s.spin2) * sin2 - s.spin2 * s.spin1 * sin2 + 1.5 * g * down1 + phi2;
    acrobot_row slope;
    slope.angle1 = s.spin1;
    slope.angle2 = s.spin2;
    slope.spin2 = (torque + d2 / d1 * phi1 - 0.5 * (s.spin1 * s.spin1) * sin2 - phi2) / (1.25 - d2 * d2 / d1);
    slope.spin1 = -(d2 * slope.spin2 + phi1) / d1;
    return slope;
}

CTL_INLINE acrobot_row acrobot_ahead(acrobot_row s, double time, acrobot_row slope) {
    s.angle1 = s.angle1 + time * slope.angle1;
    s.angle2 = s.angle2 + time * slope.angle2;
    s.spin1 = s.spin1 + time * slope.spin1;
    s.spin2 = s.spin2 + time * slope.spin2;
    return s;
}

CTL_INLINE acrobot_row acrobot_integrate(acrobot_row s, double torque, int plain_libm) {
    const double dt = 0.2, half = dt / 2.0;
    const acrobot_row k1 = acrobot_slope(s, torque, plain_libm);
    const acrobot_row k2 = acrobot_slope(acrobot_ahead(s, half, k1), torque, plain_libm);
    const acrobot_row k3 = acrobot_slope(acrobot_ahead(s, half, k2), torque, plain_libm);
    const acrobot_row k4 = acrobot_slope(acrobot_ahead(s, dt, k3), torque, plain_libm);
    acrobot_row sum;
    sum.angle1 = k1.angle1 + 2.0 * k2.angle1 + 2.0 * k3.angle1 + k4.angle1;
    sum.angle2 = k1.angle2 + 2.0 * k2.angle2 + 2.0 * k3.angle2 + k4.angle2;
    sum.spin1 = k1.spin1 + 2.0 * k2.spin1 + 2.0 * k3.spin1 + k4.spin1;
    sum.spin2 = k1.spin2 + 2.0 * k2.spin2 + 2.0 * k3.spin2 + k4.spin2;
    return acrobot_ahead(s, dt / 6.0, sum);
}

/* One turn back where x lies outside [-pi, pi]. */
CTL_INLINE double acrobot_wrap_once(double x) {
    const double less = x - ACROBOT_TURN, more = x + ACROBOT_TURN;
    x = x > CTL_PI ? less : x;
    return x < -CTL_PI ? more : x;
}

/* Turn by turn, as Gymnasium does; values of no physical meaning are folded at once. */
static inline double acrobot_wrap_far(double x) {
    if (!(fabs(x) < 1e6)) {
        x = isfinite(x) ? fmod(x, ACROBOT_TURN) : 0.0;
    }
    while (x > CTL_PI) {
        x = x - ACROBOT_TURN;
    }
    while (x < -CTL_PI) {
        x = x + ACROBOT_TURN;
    }
    return x;
}

CTL_INLINE double acrobot_bound(double x, double limit) {
    x = x < -limit ? -limit : x;
    return x > limit ? limit : x;
}

CTL_INLINE void acrobot_rows(int32_t n, const int32_t *restrict torques, double *restrict angles1,
                             double *restrict angles2, double *restrict spins1, double *restrict spins2,
                             int plain_libm) {
    for (int32_t i = 0; i < n; i++) {
        const acrobot_row s = {angles1[i], angles2[i], spins1[i], spins2[i]};
        const acrobot_row next = acrobot_integrate(s, (double)(torques[i] - 1), plain_libm);
        angles1[i] = next.angle1;
        angles2[i] = next.angle2;
        spins1[i] = next.spin1;
        spins2[i] = next.spin2;
    }
}

CTL_INLINE void acrobot_step_body(const playout_control *task, int32_t n, const void *actions, int32_t action_type,
                                  double *state, int64_t stride, double *restrict rewards,
                                  uint8_t *restrict terminations) {
    const int32_t *restrict torques = (const int32_t *)actions;
    double *restrict angles1 = state, *restrict angles2 = state + stride;
    double *restrict spins1 = state + 2 * stride, *restrict spins2 = state + 3 * stride;
    double heights[PLAYOUT_CONTROL_BLOCK], sums[PLAYOUT_CONTROL_BLOCK], cosines[PLAYOUT_CONTROL_BLOCK];
    (void)task;
    (void)action_type;
    /* Within these the angles of all four stages stay where ctl_sincos is exact; play never leaves them. */
    const int physical = ctl_all_within(n, angles1, 10.0) && ctl_all_within(n, angles2, 10.0) &&
                         ctl_all_within(n, spins1, 30.0) && ctl_all_within(n, spins2, 30.0);
    if (physical) {
        acrobot_rows(n, torques, angles1, angles2, spins1, spins2, 0);
    } else {
        acrobot_rows(n, torques, angles1, angles2, spins1, spins2, 1);
    }
    for (int32_t i = 0; i < n; i++) {
        angles1[i] = acrobot_wrap_once(angles1[i]);
        angles2[i] = acrobot_wrap_once(angles2[i]);
        spins1[i] = acrobot_bound(spins1[i], ACROBOT_MAX_SPEED_1);
        spins2[i] = acrobot_bound(spins2[i], ACROBOT_MAX_SPEED_2);
    }
    if (!ctl_all_within(n, angles1, CTL_PI) || !ctl_all_within(n, angles2, CTL_PI)) {
        for (int32_t i = 0; i < n; i++) {
            angles1[i] = acrobot_wrap_far(angles1[i]);
            angles2[i] = acrobot_wrap_far(angles2[i]);
        }
    }
    for (int32_t i = 0; i < n; i++) {
        sums[i] = angles2[i] + angles1[i];
    }
    ctl_cos_block(n, angles1, cosines);
    ctl_cos_block(n, sums, heights);
    for (int32_t i = 0; i < n; i++) {
        heights[i] = -cosines[i] - heights[i];
        rewards[i] = heights[i] > 1.0 ? 0.0 : -1.0;
    }
    for (int32_t i = 0; i < n; i++) {
        terminations[i] = (uint8_t)(heights[i] > 1.0);
    }
}

CTL_INLINE void acrobot_observe_body(const playout_control *task, int32_t n, const double *state, int64_t stride,
                                     double *obs, int64_t obs_stride) {
    (void)task;
    ctl_sincos_block(n, state, obs + obs_stride, obs);
    ctl_sincos_block(n, state + stride, obs + 3 * obs_stride, obs + 2 * obs_stride);
    memcpy(obs + 4 * obs_stride, state + 2 * stride, (size_t)n * sizeof(double));
    memcpy(obs + 5 * obs_stride, state + 3 * stride, (size_t)n * sizeof(double));
}

CTL_VERSIONS(acrobot_step, acrobot_step_body,
             (const playout_control *task, int32_t n, const void *actions, int32_t action_type, double *state,
              int64_t stride, double *rewards, uint8_t *terminations),
             (task, n, actions, action_type, state, stride, rewards, terminations))
CTL_VERSIONS(acrobot_observe, acrobot_observe_body,
             (const playout_control *task, int32_t n, const double *state, int64_t stride, double *obs,
              int64_t obs_stride),
             (task, n, state, stride, obs, obs_stride))

/* Gymnasium rounds new states to single precision. */
static void acrobot_reset(const playout_control *task, int32_t n, const double *low, const double *high,
                          playout_rng *rng, double *state, int64_t stride) {
    playout_control_uniform(task, n, low, high, rng, state, stride);
    for (int32_t k = 0; k < 4; k++) {
        for (int32_t i = 0; i < n; i++) {
            state[k * stride + i] = (double)(float)state[k * stride + i];
        }
    }
}

static void acrobot_make(playout_control *task, int isa) {
    playout_control_begin(task, "acrobot");
    task->state_size = 4;
    task->obs_size = 6;
    task->num_actions = 3;
    task->max_episode_steps = 500;
    task->reward_threshold = -100.0;
    for (int k = 0; k < 4; k++) {
        task->obs_high[k] = 1.0;
        task->reset_low[k] = -0.1;
        task->reset_high[k] = 0.1;
    }
    task->obs_high[4] = ACROBOT_MAX_SPEED_1;
    task->obs_high[5] = ACROBOT_MAX_SPEED_2;
    for (int k = 0; k < 6; k++) {
        task->obs_low[k] = -task->obs_high[k];
    }
    task->reset_many = acrobot_reset;
    task->step_many = acrobot_step[isa];
    task->observe_many = acrobot_observe[isa];
}

#endif
