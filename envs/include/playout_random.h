/* Random play of any game: a legal action, a chance outcome, a game to its end.
 *
 * Everything that plays at random (batches, environments, rollouts of the search, the horizon of alpha-beta) draws
 * here, so that the same stream of numbers gives the same game everywhere.
 */
#ifndef PLAYOUT_RANDOM_H
#define PLAYOUT_RANDOM_H

#include "playout_game.h"

/* The actions that may follow: those of the side to move, or the outcomes of a chance node; returns how many. */
static inline int32_t playout_playable(const playout_game *game, const void *state, int32_t *actions) {
    if (game->chance && game->to_play(game, state) == PLAYOUT_CHANCE) {
        double probs[PLAYOUT_MAX_LEGAL];
        return game->chance(game, state, actions, probs);
    }
    return game->legal(game, state, actions);
}

/* A chance outcome, drawn by its probability; -1 if there is none. One that cannot happen is never drawn. */
static inline int32_t playout_draw_outcome(const playout_game *game, const void *state, playout_rng *rng) {
    int32_t outcomes[PLAYOUT_MAX_LEGAL];
    double probs[PLAYOUT_MAX_LEGAL];
    const int32_t count = game->chance(game, state, outcomes, probs);
    double point = playout_rng_double(rng);
    int32_t last = -1;
    for (int32_t i = 0; i < count; i++) {
        if (!(probs[i] > 0.0)) continue;
        last = outcomes[i];
        if (point < probs[i]) break;
        point -= probs[i];
    }
    return last;
}

/* Draws chance outcomes until a player is to move or the game is over; returns how many were played. */
static inline int32_t playout_resolve_chance(const playout_game *game, void *state, playout_rng *rng) {
    int32_t played = 0;
    if (!game->chance) return 0;
    while (game->to_play(game, state) == PLAYOUT_CHANCE) {
        const int32_t outcome = playout_draw_outcome(game, state, rng);
        if (outcome < 0) break;
        game->apply(game, state, outcome);
        played++;
    }
    return played;
}

/* A legal action, all equally likely, or at a chance node an outcome; -1 where the game is over. */
static inline int32_t playout_draw(const playout_game *game, const void *state, playout_rng *rng) {
    if (game->chance && game->to_play(game, state) == PLAYOUT_CHANCE) return playout_draw_outcome(game, state, rng);
    int32_t actions[PLAYOUT_MAX_LEGAL];
    const int32_t count = game->legal(game, state, actions);
    return count > 0 ? actions[playout_rng_below(rng, (uint32_t)count)] : -1;
}

/* Plays `state` to its end, overwriting it, by the game's own function where it has one; values: [num_players]. */
static inline void playout_finish(const playout_game *game, void *state, playout_rng *rng, float *values) {
    if (game->playout) {
        game->playout(game, state, rng, values);
        return;
    }
    for (int32_t ply = 0; ply <= game->max_plies; ply++) {
        const int32_t action = playout_draw(game, state, rng);
        if (action < 0) break;
        game->apply(game, state, action);
    }
    game->returns(game, state, values);
}

#endif
