/* Evaluations remembered by position, symmetric positions as one.
 *
 * A position is named by the smallest key over the game's symmetries. Kept are the logits of its legal actions only, in
 * rising order of the actions as that symmetry shows them, and the values. Sets of four places, the oldest gives way.
 * Lookups run on any thread. A set is filled by one thread in the order of rows, so that the content never depends on
 * the number of threads. Positions are told apart by 64-bit keys alone.
 */
#ifndef MCTS_CACHE_H
#define MCTS_CACHE_H

#include "tree.h"

#define MCTS_WAYS 4

typedef struct mcts_cache {
    uint64_t *keys; /* 0: empty */
    uint64_t *ages;
    float *logits; /* [capacity, max_legal] */
    float *values; /* [capacity, num_players] */
    uint64_t sets, inserted;
    int32_t num_actions, max_legal, num_players, num_symmetries;
    int32_t *to_canonical;   /* [symmetry, action] */
    int32_t *from_canonical; /* [symmetry, action] */
} mcts_cache;

static inline void mcts_cache_free(mcts_cache *cache) {
    free(cache->keys), free(cache->ages), free(cache->logits), free(cache->values);
    free(cache->to_canonical), free(cache->from_canonical);
    memset(cache, 0, sizeof *cache);
}

/* Room for at least `size` positions; 0, or -1 when memory is short. */
static inline int mcts_cache_create(mcts_cache *cache, const playout_game *game, int64_t size, int symmetric) {
    memset(cache, 0, sizeof *cache);
    cache->sets = 1;
    while ((int64_t)(cache->sets * MCTS_WAYS) < size) cache->sets *= 2;
    const size_t places = cache->sets * MCTS_WAYS;
    const size_t actions = (size_t)game->num_actions, players = (size_t)game->num_players;
    cache->num_actions = game->num_actions;
    cache->max_legal = game->max_legal;
    cache->num_players = game->num_players;
    cache->num_symmetries = symmetric ? game->num_symmetries : 1;
    const size_t map = (size_t)cache->num_symmetries * actions;
    cache->keys = (uint64_t *)calloc(places, sizeof(uint64_t));
    cache->ages = (uint64_t *)calloc(places, sizeof(uint64_t));
    cache->logits = (float *)malloc(places * (size_t)game->max_legal * sizeof(float));
    cache->values = (float *)malloc(places * players * sizeof(float));
    cache->to_canonical = (int32_t *)calloc(map, sizeof(int32_t));
    cache->from_canonical = (int32_t *)calloc(map, sizeof(int32_t));
    if (!cache->keys || !cache->ages || !cache->logits || !cache->values || !cache->to_canonical || !cache->from_canonical)
        return -1;
    for (int32_t k = 0; k < cache->num_symmetries; k++)
        for (int32_t a = 0; a < game->num_actions; a++) {
            const int32_t b = k ? game->symmetry_action(game, k, a) : a;
            if (b < 0 || b >= game->num_actions) continue;
            cache->to_canonical[(size_t)k * actions + (size_t)a] = b;
            cache->from_canonical[(size_t)k * actions + (size_t)b] = a;
        }
    return 0;
}

static inline void mcts_cache_clear(mcts_cache *cache) {
    if (cache->keys) memset(cache->keys, 0, cache->sets * MCTS_WAYS * sizeof(uint64_t));
}

static inline size_t mcts_cache_bytes(const mcts_cache *cache) {
    const size_t place = 2 * sizeof(uint64_t) + (size_t)(cache->max_legal + cache->num_players) * sizeof(float);
    const size_t map = (size_t)cache->num_symmetries * (size_t)cache->num_actions * sizeof(int32_t);
    return cache->sets * MCTS_WAYS * place + 2 * map;
}

static inline uint64_t mcts_cache_set(const mcts_cache *cache, uint64_t key) { return playout_mix(key) & (cache->sets - 1); }

/* The position's name and the symmetry that leads to it; `scratch` has room for one state. A game's key may leave out who
 * is to move, as observations do, but values are kept by player: the same stones with the other to move are another name.
 */
static inline uint64_t mcts_canonical(const mcts_cache *cache, const playout_game *game, const void *state, void *scratch,
                                      int32_t *symmetry) {
    uint64_t best = game->eval_key(game, state);
    *symmetry = 0;
    for (int32_t k = 1; k < cache->num_symmetries; k++) {
        uint64_t key;
        if (game->symmetry_key)
            key = game->symmetry_key(game, state, k);
        else
            game->symmetry(game, state, k, scratch), key = game->eval_key(game, scratch);
        if (key < best) best = key, *symmetry = k;
    }
    best ^= (uint64_t)game->to_play(game, state) * UINT64_C(0xD1342543DE82EF95);
    return best ? best : 1;
}

static inline int64_t mcts_cache_find(const mcts_cache *cache, uint64_t key) {
    const uint64_t set = mcts_cache_set(cache, key) * MCTS_WAYS;
    for (uint64_t i = set; i < set + MCTS_WAYS; i++)
        if (cache->keys[i] == key) return (int64_t)i;
    return -1;
}

/* Bytes that mcts_ranks() needs for its own work. */
static inline size_t mcts_ranks_size(int32_t num_actions) { return (size_t)(num_actions / 64 + 1) * (8 + 4); }

/* Where each of a node's actions stands among them all, in rising order, once `symmetry` has mapped them. */
static inline void mcts_ranks(const mcts_cache *cache, int32_t symmetry, const mcts_edges *e, int32_t n, void *scratch,
                              uint16_t *ranks) {
    if (!symmetry) { /* they are in rising order already */
        for (int32_t i = 0; i < n; i++) ranks[i] = (uint16_t)i;
        return;
    }
    const int32_t *map = cache->to_canonical + (size_t)symmetry * (size_t)cache->num_actions;
    const size_t words = (size_t)(cache->num_actions / 64 + 1);
    uint64_t *bits = (uint64_t *)scratch;
    uint32_t *before = (uint32_t *)(bits + words), count = 0;
    memset(bits, 0, words * sizeof *bits);
    for (int32_t i = 0; i < n; i++) {
        const int32_t a = map[mcts_action(e, i)];
        bits[a >> 6] |= UINT64_C(1) << (a & 63);
    }
    for (size_t w = 0; w < words; w++) {
        before[w] = count;
        count += (uint32_t)__builtin_popcountll(bits[w]);
    }
    for (int32_t i = 0; i < n; i++) {
        const int32_t a = map[mcts_action(e, i)];
        ranks[i] = (uint16_t)(before[a >> 6] + (uint32_t)__builtin_popcountll(bits[a >> 6] & ((UINT64_C(1) << (a & 63)) - 1)));
    }
}

/* Puts a row of logits [num_actions] in; the node's edges, and their ranks. `age` grows from row to row. */
static inline void mcts_cache_insert(mcts_cache *cache, uint64_t key, uint64_t age, const mcts_edges *e,
                                     const uint16_t *ranks, int32_t n, const float *logits, const float *values) {
    const uint64_t set = mcts_cache_set(cache, key) * MCTS_WAYS;
    uint64_t place = set;
    for (uint64_t i = set; i < set + MCTS_WAYS; i++) {
        if (cache->keys[i] == key || !cache->keys[i]) {
            place = i;
            break;
        }
        if (cache->ages[i] < cache->ages[place]) place = i;
    }
    float *to = cache->logits + (size_t)place * (size_t)cache->max_legal;
    for (int32_t i = 0; i < n; i++) to[ranks[i]] = logits[mcts_action(e, i)];
    memcpy(cache->values + (size_t)place * (size_t)cache->num_players, values, (size_t)cache->num_players * sizeof(float));
    cache->keys[place] = key;
    cache->ages[place] = age;
}

#endif
