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

/* One stage of a block: where the derivative is taken, and what it needs of sines and cosines. Loops over the block are
 * kept short, so that the processor works on many rows at once instead of waiting for one. */
typedef struct acrobot_stage {
    double angles1[PLAYOUT_CONTROL_BLOCK], angles2[PLAYOUT_CONTROL_BLOCK];
    double spins1[PLAYOUT_CONTROL_BLOCK], spins2[PLAYOUT_CONTROL_BLOCK];
    double sines2[PLAYOUT_CONTROL_BLOCK], cosines2[PLAYOUT_CONTROL_BLOCK];
    double downs1[PLAYOUT_CONTROL_BLOCK], downs12[PLAYOUT_CONTROL_BLOCK];
} acrobot_stage;

CTL_INLINE void acrobot_trig(int32_t n, acrobot_stage *restrict s, int plain_libm) {
    if (plain_libm) {
        for (int32_t i = 0; i < n; i++) {
            s->sines2[i] = sin(s->angles2[i]);
            s->cosines2[i] = cos(s->angles2[i]);
            s->downs12[i] = cos(s->angles1[i] + s->angles2[i] - CTL_PI / 2.0);
            s->downs1[i] = cos(s->angles1[i] - CTL_PI / 2.0);
        }
        return;
    }
    for (int32_t i = 0; i < n; i++) {
        ctl_sincos(s->angles2[i], &s->sines2[i], &s->cosines2[i]);
    }
    for (int32_t i = 0; i < n; i++) {
        s->downs12[i] = ctl_cos(s->angles1[i] + s->angles2[i] - CTL_PI / 2.0);
    }
    for (int32_t i = 0; i < n; i++) {
        s->downs1[i] = ctl_cos(s->angles1[i] - CTL_PI / 2.0);
    }
}

/* a / b rounded as the division would, from b's rounded inverse (Markstein 1990): four times as fast. */
CTL_INLINE double acrobot_quotient(double a, double b, double inverse) {
    const double quotient = a * inverse;
    return ctl_fma(ctl_fma(-quotient, b, a), inverse, quotient);
}

/* Accelerations of row i. Masses and lengths are 1, centres of mass at 0.5, moments of inertia 1. */
CTL_INLINE void acrobot_accelerate(const acrobot_stage *s, int32_t i, double torque, double *first, double *second) {
    const double g = 9.8;
    const double spin1 = s->spins1[i], spin2 = s->spins2[i], sin2 = s->sines2[i], cos2 = s->cosines2[i];
    const double d1 = 0.25 + (1.25 + cos2) + 1.0 + 1.0;
    const double d2 = (0.25 + 0.5 * cos2) + 1.0;
    const double phi2 = 0.5 * g * s->downs12[i];
    const double phi1 = -0.5 * (spin2 * spin2) * sin2 - spin2 * spin1 * sin2 + 1.5 * g * s->downs1[i] + phi2;
    const double inverse = 1.0 / d1;
    const double ratio = acrobot_quotient(d2, d1, inverse), ratio2 = acrobot_quotient(d2 * d2, d1, inverse);
    const double change = (torque + ratio * phi1 - 0.5 * (spin1 * spin1) * sin2 - phi2) / (1.25 - ratio2);
    *second = change;
    *first = acrobot_quotient(-(d2 * change + phi1), d1, inverse);
}

typedef struct acrobot_sums {
    double angles1[PLAYOUT_CONTROL_BLOCK], angles2[PLAYOUT_CONTROL_BLOCK];
    double spins1[PLAYOUT_CONTROL_BLOCK], spins2[PLAYOUT_CONTROL_BLOCK];
} acrobot_sums;

/* Adds the slope at stage `s` to the sums and moves `s` on from the start: by `time` along that slope, or in the last
 * stage along the sums. */
CTL_INLINE void acrobot_advance(int32_t n, const int32_t *restrict torques, const acrobot_sums *restrict start,
                                acrobot_sums *restrict sums, acrobot_stage *restrict s, double weight, double time,
                                int last) {
    for (int32_t i = 0; i < n; i++) {
        const double slope1 = s->spins1[i], slope2 = s->spins2[i];
        double change1, change2;
        acrobot_accelerate(s, i, (double)(torques[i] - 1), &change1, &change2);
        const double angle1 = sums->angles1[i] + weight * slope1, angle2 = sums->angles2[i] + weight * slope2;
        const double spin1 = sums->spins1[i] + weight * change1, spin2 = sums->spins2[i] + weight * change2;
        sums->angles1[i] = angle1;
        sums->angles2[i] = angle2;
        sums->spins1[i] = spin1;
        sums->spins2[i] = spin2;
        s->angles1[i] = start->angles1[i] + time * (last ? angle1 : slope1);
        s->angles2[i] = start->angles2[i] + time * (last ? angle2 : slope2);
        s->spins1[i] = start->spins1[i] + time * (last ? spin1 : change1);
        s->spins2[i] = start->spins2[i] + time * (last ? spin2 : change2);
    }
}

/* One Runge-Kutta step: slopes at the start, twice in the middle, at the end, weighted 1, 2, 2, 1. */
CTL_INLINE void acrobot_rows(int32_t n, const int32_t *restrict torques, double *restrict angles1,
                             double *restrict angles2, double *restrict spins1, double *restrict spins2,
                             int plain_libm) {
    const double dt = 0.2;
    const size_t bytes = (size_t)n * sizeof(double);
    acrobot_stage s;
    acrobot_sums start, sums;
    memcpy(start.angles1, angles1, bytes);
    memcpy(start.angles2, angles2, bytes);
    memcpy(start.spins1, spins1, bytes);
    memcpy(start.spins2, spins2, bytes);
    memcpy(s.angles1, angles1, bytes);
    memcpy(s.angles2, angles2, bytes);
    memcpy(s.spins1, spins1, bytes);
    memcpy(s.spins2, spins2, bytes);
    memset(&sums, 0, sizeof sums);
    acrobot_trig(n, &s, plain_libm);
    acrobot_advance(n, torques, &start, &sums, &s, 1.0, dt / 2.0, 0);
    acrobot_trig(n, &s, plain_libm);
    acrobot_advance(n, torques, &start, &sums, &s, 2.0, dt / 2.0, 0);
    acrobot_trig(n, &s, plain_libm);
    acrobot_advance(n, torques, &start, &sums, &s, 2.0, dt, 0);
    acrobot_trig(n, &s, plain_libm);
    acrobot_advance(n, torques, &start, &sums, &s, 1.0, dt / 6.0, 1);
    memcpy(angles1, s.angles1, bytes);
    memcpy(angles2, s.angles2, bytes);
    memcpy(spins1, s.spins1, bytes);
    memcpy(spins2, s.spins2, bytes);
}

/* One turn back where x lies outside [-pi, pi]. */
CTL_INLINE double acrobot_wrap_once(double x) {
    return x - ((x > CTL_PI ? ACROBOT_TURN : 0.0) - (x < -CTL_PI ? ACROBOT_TURN : 0.0));
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

CTL_INLINE void acrobot_step_body(const playout_control *task, int32_t n, const void *actions, int32_t action_type,
                                  double *state, int64_t stride, double *restrict rewards,
                                  uint8_t *restrict terminations) {
    const int32_t *restrict torques = (const int32_t *)actions;
    double *restrict angles1 = state, *restrict angles2 = state + stride;
    double *restrict spins1 = state + 2 * stride, *restrict spins2 = state + 3 * stride;
    double heights[PLAYOUT_CONTROL_BLOCK], sums[PLAYOUT_CONTROL_BLOCK], cosines[PLAYOUT_CONTROL_BLOCK];
    double unused[PLAYOUT_CONTROL_BLOCK];
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
    ctl_sincos_quick_block(n, angles1, unused, cosines);
    ctl_sincos_quick_block(n, sums, unused, heights);
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
    ctl_sincos_quick_block(n, state, obs + obs_stride, obs);
    ctl_sincos_quick_block(n, state + stride, obs + 3 * obs_stride, obs + 2 * obs_stride);
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
