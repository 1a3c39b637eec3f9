/* Rows of one game as environments: moves, random replies, restarts, flags, observations and masks.
 *
 * What _vector.pyx loops over. A row's chance moves, the choice of the agent's player and the random opponent draw
 * from the row's own stream (seed, episode), so that a batch may be cut anywhere. Leaves out: the checking of shapes,
 * and opponents written in Python, which move between gr_move and gr_end_row.
 */
#ifndef PLAYOUT_GAME_ROWS_H
#define PLAYOUT_GAME_ROWS_H

#include "playout_random.h"

#define GR_INLINE static inline __attribute__((always_inline))

#define GR_NEXT_STEP 0
#define GR_SAME_STEP 1
#define GR_DISABLED 2

#define GR_DEALS 1000 /* games in a row that may end before the agent moves */

#define GR_PADDING 16 /* bytes after the last row of mask and legal, which may be written */

#define GR_SELF_PLAY 0 /* the caller moves for every player */
#define GR_RANDOM 1    /* the other players move at random */
#define GR_ASK 2       /* the other players' moves come through gr_play */

typedef struct gr_rows {
    const playout_game *game;
    int32_t num_envs, mode, opponent;
    int32_t player; /* the agent's; -1: drawn anew for every episode */
    int32_t limit; /* moves of the agent after which an episode is truncated; 0: never */
    int32_t plane; /* numbers in an observation */
    uint8_t *states;
    uint64_t *seeds, *episodes, *draws; /* stream of a row, and how many numbers it has given */
    int32_t *elapsed, *to_play;
    int32_t *players; /* the agent's player in each row; -1 in self-play */
    uint8_t *pending, *moved;
    float *obs, *final_obs;
    uint8_t *final_mask;
    int32_t *final_to_play;
    uint8_t *mask;  /* the caller's, int8 to NumPy */
    uint8_t *legal; /* the same, kept where nobody else writes: what actions are checked against */
    float *rewards;
    float *before;   /* of games with rewards along the way: what the agent had collected before its move ... */
    int32_t *movers; /* ... and who the agent is: in self-play whoever was to move */
    uint8_t *terminations, *truncations;
} gr_rows;

GR_INLINE void *gr_state(const gr_rows *r, int32_t row) {
    return r->states + (size_t)row * (size_t)r->game->state_size;
}

/* Draws chance outcomes until a player is to move; returns who, or PLAYOUT_TERMINAL. */
GR_INLINE int32_t gr_resolve_chance(const gr_rows *r, int32_t row) {
    const playout_game *game = r->game;
    void *state = gr_state(r, row);
    int32_t player = game->to_play(game, state);
    while (player == PLAYOUT_CHANCE && game->chance != NULL) {
        playout_rng rng = playout_rng_stream(r->seeds[row], r->episodes[row]);
        rng.counter = r->draws[row];
        game->apply(game, state, playout_draw_outcome(game, state, &rng));
        r->draws[row] = rng.counter;
        player = game->to_play(game, state);
    }
    r->to_play[row] = player;
    return player;
}

/* With rewards along the way: notes what the agent has before its move. An episode begins with nothing, so that what
 * chance and other players bring the agent before its first move counts as that move's. */
GR_INLINE void gr_note_collected(const gr_rows *r, int32_t row) {
    float values[PLAYOUT_MAX_PLAYERS];
    if (!(r->game->flags & PLAYOUT_STEP_REWARDS)) return;
    r->movers[row] = r->opponent == GR_SELF_PLAY ? r->to_play[row] : r->players[row];
    r->before[row] = 0.0f;
    if (r->elapsed[row] == 0) return;
    r->game->returns(r->game, gr_state(r, row), values);
    r->before[row] = values[r->movers[row]];
}

/* With rewards along the way: the reward is what the agent's returns have grown by. */
GR_INLINE void gr_reward_growth(const gr_rows *r, int32_t row) {
    float values[PLAYOUT_MAX_PLAYERS];
    if (!(r->game->flags & PLAYOUT_STEP_REWARDS)) return;
    r->game->returns(r->game, gr_state(r, row), values);
    r->rewards[row] = values[r->movers[row]] - r->before[row];
}

/* One legal move of whoever is to move, and the reward if it ended the game. */
GR_INLINE void gr_play(const gr_rows *r, int32_t row, int32_t action) {
    const playout_game *game = r->game;
    const int32_t mover = r->to_play[row];
    game->apply(game, gr_state(r, row), action);
    if (gr_resolve_chance(r, row) == PLAYOUT_TERMINAL) {
        float values[PLAYOUT_MAX_PLAYERS];
        game->returns(game, gr_state(r, row), values);
        r->rewards[row] = values[r->opponent == GR_SELF_PLAY ? mover : r->players[row]];
    }
}

static inline void gr_reply_at_random(const gr_rows *r, int32_t row) {
    while (r->to_play[row] >= 0 && r->to_play[row] != r->players[row]) {
        playout_rng rng = playout_rng_stream(r->seeds[row], r->episodes[row]);
        rng.counter = r->draws[row];
        const int32_t action = playout_draw(r->game, gr_state(r, row), &rng);
        if (action < 0) break;
        r->draws[row] = rng.counter;
        gr_play(r, row, action);
    }
}

/* The first state of the row's next episode, after the openings of random opponents. */
static inline void gr_deal(const gr_rows *r, int32_t row) {
    r->episodes[row] += 1;
    r->draws[row] = 0;
    r->elapsed[row] = 0;
    if (r->opponent != GR_SELF_PLAY) {
        r->players[row] = r->player;
        if (r->player < 0) {
            playout_rng rng = playout_rng_stream(r->seeds[row], r->episodes[row]);
            r->players[row] = (int32_t)playout_rng_below(&rng, (uint32_t)r->game->num_players);
            r->draws[row] = rng.counter;
        }
    }
    r->game->init(r->game, gr_state(r, row));
    gr_resolve_chance(r, row);
    if (r->opponent == GR_RANDOM) gr_reply_at_random(r, row);
}

/* Begins the row's next episode. A game that others end before the agent has moved is dealt again, and what it paid is
 * no reward: that of the step which ended the episode before stays. */
static inline void gr_start(const gr_rows *r, int32_t row) {
    const float reward = r->rewards[row];
    gr_deal(r, row);
    for (int32_t i = 0; i < GR_DEALS && r->to_play[row] == PLAYOUT_TERMINAL; i++) gr_deal(r, row);
    r->rewards[row] = reward;
}

/* Writes observation and masks as the agent (in self-play the side to move) sees the row. */
GR_INLINE void gr_observe(const gr_rows *r, int32_t row) {
    const playout_game *game = r->game;
    const int32_t player = r->to_play[row], num_actions = game->num_actions;
    const int32_t viewer = r->opponent == GR_SELF_PLAY ? player : r->players[row];
    uint8_t *legal = r->legal + (size_t)row * (size_t)num_actions, *mask = r->mask + (size_t)row * (size_t)num_actions;
    int32_t actions[PLAYOUT_MAX_LEGAL];
    game->observe(game, gr_state(r, row), viewer >= 0 ? viewer : 0, r->obs + (size_t)row * (size_t)r->plane);
    const int32_t count = player >= 0 && player == viewer ? game->legal(game, gr_state(r, row), actions) : 0;
    if (num_actions <= GR_PADDING) {
        /* One word instead of many bytes. Rows are shown in rising order, so what it writes beyond its own row is
         * overwritten by the next; GR_PADDING bytes follow the last row. */
        uint8_t word[GR_PADDING] = {0};
        for (int32_t i = 0; i < count; i++) word[actions[i]] = 1;
        memcpy(legal, word, GR_PADDING);
        memcpy(mask, word, GR_PADDING);
        return;
    }
    memset(legal, 0, (size_t)num_actions);
    for (int32_t i = 0; i < count; i++) legal[actions[i]] = 1;
    memcpy(mask, legal, (size_t)num_actions);
}

/* The agent's move, or the restart of a row that was over. */
GR_INLINE void gr_move(const gr_rows *r, int32_t row, int32_t action) {
    r->rewards[row] = 0.0f;
    r->moved[row] = !r->pending[row];
    if (r->pending[row]) {
        r->pending[row] = 0;
        gr_start(r, row);
        return;
    }
    gr_note_collected(r, row);
    r->elapsed[row] += 1;
    gr_play(r, row, action);
    if (r->opponent == GR_RANDOM) gr_reply_at_random(r, row);
}

/* Sets the flags of a row after all moves and shows it; 1 if its episode ended and began anew (SAME_STEP). */
GR_INLINE int32_t gr_end_row(const gr_rows *r, int32_t row) {
    const uint8_t moved = r->moved[row];
    const uint8_t ended = moved && r->to_play[row] == PLAYOUT_TERMINAL;
    const uint8_t cut = moved && r->limit > 0 && r->elapsed[row] >= r->limit;
    r->terminations[row] = ended;
    r->truncations[row] = cut;
    if (moved) gr_reward_growth(r, row);
    gr_observe(r, row);
    if (r->mode == GR_SAME_STEP && (ended || cut)) {
        const size_t at = (size_t)row * (size_t)r->plane;
        const size_t actions = (size_t)r->game->num_actions;
        memcpy(r->final_obs + at, r->obs + at, (size_t)r->plane * sizeof(float));
        memcpy(r->final_mask + (size_t)row * actions, r->legal + (size_t)row * actions, actions);
        r->final_to_play[row] = r->to_play[row];
        gr_start(r, row);
        gr_observe(r, row);
        return 1;
    }
    r->pending[row] = ended | cut;
    return 0;
}

/* The first row whose action may not be played, or -1; rows about to restart take any. */
static inline int32_t gr_first_illegal(const gr_rows *rows, const int32_t *actions) {
    const gr_rows copy = *rows, *r = &copy;
    const int32_t num_actions = r->game->num_actions;
    for (int32_t row = 0; row < r->num_envs; row++) {
        const uint32_t action = (uint32_t)actions[row];
        const int good = action < (uint32_t)num_actions && r->legal[(size_t)row * (size_t)num_actions + action];
        if (!good && !r->pending[row]) return row;
    }
    return -1;
}

/* A whole step of every row, Python opponents aside; returns how many rows began anew (SAME_STEP). The copy of the
 * struct tells the compiler that no store into a buffer changes it. */
static inline int32_t gr_step(const gr_rows *rows, const int32_t *actions) {
    const gr_rows copy = *rows, *r = &copy;
    int32_t restarted = 0;
    for (int32_t row = 0; row < r->num_envs; row++) {
        gr_move(r, row, actions[row]);
        restarted += gr_end_row(r, row);
    }
    return restarted;
}

static inline void gr_move_all(const gr_rows *r, const int32_t *actions) {
    for (int32_t row = 0; row < r->num_envs; row++) gr_move(r, row, actions[row]);
}

static inline int32_t gr_end_rows(const gr_rows *r) {
    int32_t restarted = 0;
    for (int32_t row = 0; row < r->num_envs; row++) restarted += gr_end_row(r, row);
    return restarted;
}

static inline void gr_play_rows(const gr_rows *r, int32_t count, const int64_t *rows, const int32_t *actions) {
    for (int32_t i = 0; i < count; i++) gr_play(r, (int32_t)rows[i], actions[i]);
}

/* Starts the rows with a set byte. */
static inline void gr_start_rows(const gr_rows *r, const uint8_t *where) {
    for (int32_t row = 0; row < r->num_envs; row++) {
        if (!where[row]) continue;
        r->pending[row] = r->terminations[row] = r->truncations[row] = 0;
        r->rewards[row] = 0.0f;
        gr_start(r, row);
    }
}

/* Writes observations, masks and players to move from the states. */
static inline void gr_observe_all(const gr_rows *r) {
    for (int32_t row = 0; row < r->num_envs; row++) {
        r->to_play[row] = r->game->to_play(r->game, gr_state(r, row));
        gr_observe(r, row);
    }
}

#endif
