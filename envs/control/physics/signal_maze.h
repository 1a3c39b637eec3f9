/* SignalMaze: remember a sign at the start of a corridor to choose the right exit at its end.
 *
 * The corridor runs east from (0, 0) to a junction at (length, 0), whose arms end in exits two cells north and south. A
 * sign in the wall above the start says which exit is right. The agent sees a window of 5 x 5 cells around itself, so
 * the sign is out of sight at the junction, which looks the same for both: without memory half the choices are wrong.
 * Rules only. State: x, y, length, signal (0 north, 1 south). Actions: north, east, south, west.
 * params[0], params[1]: the least and the greatest length, at least 3.
 */
#ifndef PLAYOUT_SIGNAL_MAZE_H
#define PLAYOUT_SIGNAL_MAZE_H

#include "playout_control.h"
#include "simd.h"

#define MAZE_VIEW 2 /* cells seen in every direction */
#define MAZE_SIDE (2 * MAZE_VIEW + 1)
#define MAZE_ARM 2 /* cells from the junction to an exit */
#define MAZE_STEP_REWARD (-0.01)

/* Whole number of a state's component; bytes from elsewhere may hold anything. */
CTL_INLINE int32_t maze_cell(double value) { return value > 1000.0 ? 1000 : value < -1000.0 ? -1000 : (int32_t)value; }

CTL_INLINE int maze_free(int32_t x, int32_t y, int32_t length) {
    return (y == 0 && x >= 0 && x <= length) || (x == length && y >= -MAZE_ARM && y <= MAZE_ARM);
}

static void signal_maze_reset(const playout_control *task, int32_t n, const double *low, const double *high,
                              playout_rng *rng, double *state, int64_t stride) {
    const int32_t shortest = (int32_t)task->params[0], longest = (int32_t)task->params[1];
    (void)low;
    (void)high;
    for (int32_t i = 0; i < n; i++) {
        state[i] = 0.0;
        state[stride + i] = 0.0;
        const uint32_t more = playout_rng_below(&rng[i], (uint32_t)(longest - shortest + 1));
        state[2 * stride + i] = (double)(shortest + (int32_t)more);
        state[3 * stride + i] = (double)playout_rng_below(&rng[i], 2);
    }
}

static void signal_maze_step(const playout_control *task, int32_t n, const void *actions, int32_t action_type,
                             double *state, int64_t stride, double *rewards, uint8_t *terminations) {
    static const int32_t east[4] = {0, 1, 0, -1}, north[4] = {1, 0, -1, 0};
    const int32_t *moves = (const int32_t *)actions;
    (void)task;
    (void)action_type;
    for (int32_t i = 0; i < n; i++) {
        const int32_t length = maze_cell(state[2 * stride + i]);
        const int32_t x = maze_cell(state[i]), y = maze_cell(state[stride + i]);
        const int free = maze_free(x + east[moves[i]], y + north[moves[i]], length);
        const int32_t new_x = free ? x + east[moves[i]] : x, new_y = free ? y + north[moves[i]] : y;
        const int out = new_x == length && (new_y == MAZE_ARM || new_y == -MAZE_ARM);
        const int right = (new_y > 0) == (state[3 * stride + i] < 0.5);
        state[i] = (double)new_x;
        state[stride + i] = (double)new_y;
        rewards[i] = out ? (right ? 1.0 : -1.0) : MAZE_STEP_REWARD;
        terminations[i] = (uint8_t)out;
    }
}

/* Planes [4, 5, 5], north at the top, the agent in the middle: walls, sign for north, sign for south, exits. */
static void signal_maze_observe(const playout_control *task, int32_t n, const double *state, int64_t stride,
                                float *obs) {
    const int32_t plane = MAZE_SIDE * MAZE_SIDE;
    for (int32_t i = 0; i < n; i++) {
        const int32_t x = maze_cell(state[i]), y = maze_cell(state[stride + i]);
        const int32_t length = maze_cell(state[2 * stride + i]), south = state[3 * stride + i] < 0.5 ? 0 : 1;
        float *out = obs + (int64_t)i * task->obs_size;
        for (int32_t row = 0; row < MAZE_SIDE; row++) {
            for (int32_t column = 0; column < MAZE_SIDE; column++) {
                const int32_t cell_x = x + column - MAZE_VIEW, cell_y = y + MAZE_VIEW - row;
                const int32_t at = row * MAZE_SIDE + column, sign = cell_x == 0 && cell_y == 1;
                out[at] = maze_free(cell_x, cell_y, length) ? 0.0f : 1.0f;
                out[plane + at] = (float)(sign && !south);
                out[2 * plane + at] = (float)(sign && south);
                out[3 * plane + at] = (float)(cell_x == length && (cell_y == MAZE_ARM || cell_y == -MAZE_ARM));
            }
        }
    }
}

static void signal_maze_make(playout_control *task, int isa) {
    (void)isa;
    playout_control_begin(task, "signal_maze");
    task->state_size = 4;
    task->obs_size = 4 * MAZE_SIDE * MAZE_SIDE;
    task->obs_shape[0] = 4;
    task->obs_shape[1] = task->obs_shape[2] = MAZE_SIDE;
    task->obs_high[0] = 1.0;
    task->num_actions = 4;
    task->params[0] = 3.0;
    task->params[1] = 8.0;
    task->reset_many = signal_maze_reset;
    task->step_many = signal_maze_step;
    task->observe_rows = signal_maze_observe;
}

#endif
