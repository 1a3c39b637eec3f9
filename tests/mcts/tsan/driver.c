/* The search under ThreadSanitizer: asks and tells with several threads on many trees of two games.
 *
 * Two searches run side by side, as two groups of self-play do; they share the game's table and nothing else. Every
 * algorithm, one leaf a step and several, with and without the cache; trees move on and are reused. The same is done
 * on one thread, and the results must be equal. Built with PLANTED_RACE, the game counts its moves in a plain
 * variable, which ThreadSanitizer has to report: run.sh uses that to prove that it would.
 */
#define _GNU_SOURCE
#include <stdio.h>

#include "connect_four/table.h"
#include "tic_tac_toe.h"
#include "playout_adopt.h"
#include "result.h"

enum { NUM_TREES = 48, NUM_THREADS = 4, NUM_MOVES = 3, NUM_SIMULATIONS = 24, MAX_LEAVES = 4, MAX_ACTIONS = 16 };

typedef struct job {
    const playout_game *game;
    mcts_config config;
    int32_t threads;
    int64_t cache_size;
    uint64_t seed, fingerprint;
} job;

#ifdef PLANTED_RACE
static int64_t moves_played;
static void (*real_apply)(const playout_game *game, void *state, int32_t action);
static void counting_apply(const playout_game *game, void *state, int32_t action) {
    moves_played++;
    real_apply(game, state, action);
}
#endif

/* An evaluator without memory: numbers made of the position's hash. */
static void evaluate(const playout_game *game, const mcts_search *search, int32_t rows, float *logits, float *values) {
    for (int32_t row = 0; row < rows; row++) {
        playout_rng rng = playout_rng_stream(7, game->hash(game, search->states + (size_t)row * (size_t)game->state_size));
        for (int32_t a = 0; a < game->num_actions; a++)
            logits[row * game->num_actions + a] = (float)(2.0 * playout_rng_double(&rng));
        values[row] = (float)(2.0 * playout_rng_double(&rng) - 1.0);
    }
}

static void need(int good, const char *what) {
    if (good) return;
    fprintf(stderr, "driver: %s\n", what);
    exit(2);
}

static void read_results(job *work, mcts_search *search, int32_t *actions) {
    for (int32_t tree = 0; tree < NUM_TREES; tree++) {
        float weights[MAX_ACTIONS] = {0}, q[MAX_ACTIONS] = {0}, log_prior[MAX_ACTIONS] = {0};
        int32_t visits[MAX_ACTIONS] = {0};
        mcts_result result = {.weights = weights, .q = q, .log_prior = log_prior, .visits = visits};
        mcts_read_result(search, tree, 0.0, &result);
        actions[tree] = result.action;
        for (int32_t a = 0; a < work->game->num_actions; a++)
            work->fingerprint = playout_mix(work->fingerprint + (uint64_t)visits[a] * 31 + (uint64_t)a);
        work->fingerprint = playout_mix(work->fingerprint + (uint64_t)result.nodes);
    }
}

static void *play(void *argument) {
    job *work = (job *)argument;
    const playout_game *game = work->game;
    const size_t rows = NUM_TREES * MAX_LEAVES, actions = (size_t)game->num_actions;
    const size_t plane = (size_t)(game->obs_shape[0] * game->obs_shape[1] * game->obs_shape[2]);
    mcts_search search;
    int32_t chosen[NUM_TREES];
    need(mcts_search_create(&search, game, &work->config, NUM_TREES, work->threads, work->seed, work->cache_size) == 0,
         "no memory for the search");
    search.mask = (uint8_t *)calloc(rows, actions);
    search.states = (uint8_t *)calloc(rows, (size_t)game->state_size);
    search.to_play = (int32_t *)calloc(rows, sizeof(int32_t));
    search.obs = (float *)calloc(rows * plane, sizeof(float));
    float *logits = (float *)calloc(rows * actions, sizeof(float));
    float *values = (float *)calloc(rows, sizeof(float));
    uint64_t *state = (uint64_t *)calloc(1, (size_t)game->state_size);
    need(search.mask && search.states && search.to_play && search.obs && logits && values && state, "no memory");
    for (int32_t tree = 0; tree < NUM_TREES; tree++) {
        playout_rng rng = playout_rng_stream(work->seed, (uint64_t)tree);
        game->init(game, state);
        for (int32_t ply = 0; ply < tree % 4; ply++) game->apply(game, state, playout_draw(game, state, &rng));
        need(mcts_begin_tree(&search, tree, state, NUM_SIMULATIONS, 1, NULL) == 0, "no memory for a tree");
    }
    for (int32_t move = 0; move < NUM_MOVES; move++) {
        if (work->config.algorithm == MCTS_UCT) {
            while (mcts_uct(&search, 0.05)) {
            }
        } else {
            int32_t count;
            search.logits = logits, search.values = values, search.value_width = 1;
            while ((count = mcts_ask(&search)) > 0) {
                evaluate(game, &search, count, logits, values);
                need(mcts_bad_row(&search) < 0, "an evaluation that is not finite");
                mcts_tell(&search);
            }
        }
        read_results(work, &search, chosen);
        for (int32_t tree = 0; tree < NUM_TREES; tree++)
            if (chosen[tree] >= 0)
                need(mcts_advance_tree(&search, tree, chosen[tree], NUM_SIMULATIONS, 1) == 0, "no memory to go on");
    }
    free(search.mask), free(search.states), free(search.to_play), free(search.obs), free(logits), free(values), free(state);
    mcts_search_free(&search);
    return NULL;
}

static void try_game(const playout_game *game) {
    for (int32_t variant = 0; variant < 12; variant++) {
        job jobs[3];
        pthread_t threads[2];
        for (int32_t i = 0; i < 3; i++) {
            jobs[i] = (job){
                .game = game,
                .config = {.algorithm = variant % 3, .leaves_per_step = variant / 3 % 2 ? MAX_LEAVES : 1,
                           .max_considered = 8, .num_rollouts = 2, .prove = 1, .reuse = 1, .count_reused = 1,
                           .fpu_parent = 1, .rescale = 1, .cache_symmetric = 1, .dense_edges = variant % 2 ? 32 : 4, .c_base = 19652.0f, .c_init = 1.25f,
                           .fpu = 0.25f, .virtual_loss = 1.0f, .dirichlet_alpha = 0.3f, .dirichlet_fraction = 0.25f,
                           .gumbel_scale = 1.0f, .c_visit = 50.0f, .c_scale = 0.1f, .uct_c = 2.0f},
                .threads = i < 2 ? NUM_THREADS : 1,
                .cache_size = variant / 6 ? 512 : 0,
                .seed = i == 1 ? 2 : 1,
            };
        }
        for (int32_t i = 0; i < 2; i++) need(pthread_create(&threads[i], NULL, play, &jobs[i]) == 0, "no thread");
        for (int32_t i = 0; i < 2; i++) pthread_join(threads[i], NULL);
        play(&jobs[2]);
        need(jobs[0].fingerprint == jobs[2].fingerprint, "four threads found another tree than one");
        need(jobs[0].fingerprint != jobs[1].fingerprint, "the seed changes nothing");
    }
}

int main(void) {
    playout_game made[2], games[2];
    const double seven_by_six[] = {7, 6, 4};
    need(c4_make(&made[0], seven_by_six) == NULL, "no Connect Four");
    need(ttt_make(&made[1], NULL) == NULL, "no tic-tac-toe");
    for (int32_t i = 0; i < 2; i++) playout_adopt(&made[i], &games[i]);
#ifdef PLANTED_RACE
    real_apply = games[0].apply;
    games[0].apply = counting_apply;
#endif
    for (int32_t i = 0; i < 2; i++) try_game(&games[i]);
    made[0].destroy(&made[0]);
    printf("no report: two games, three algorithms, two searches of %d threads and %d trees at once\n", NUM_THREADS, NUM_TREES);
    return 0;
}
