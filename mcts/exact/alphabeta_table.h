/* The transposition table of alpha-beta (_alphabeta.pyx): what is known of a position searched to a given depth.
 *
 * Threads share it without locks: the first word of an entry is the position's key exclusive-or the second word, so
 * that halves of two entries do not pass for one. The second word, the fact, packs the value's 32 bits, 16 bits of
 * depth, 12 bits of action and 2 of kind.
 */

#ifndef PLAYOUT_ALPHABETA_TABLE_H
#define PLAYOUT_ALPHABETA_TABLE_H

#include <string.h>

#include "playout_rng.h"

enum {
    AB_LOWER = 1, /* the value is at least the fact's */
    AB_UPPER = 2, /* the value is at most the fact's */
};

typedef struct ab_entry {
    uint64_t check;
    uint64_t fact;
} ab_entry;

/* The action is a hint for the order alone, so that the upper bits of a large one may be lost. */
static inline uint64_t ab_pack(float value, int32_t depth, int32_t action, int32_t kind) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return (uint64_t)bits << 30 | (uint64_t)depth << 14 | (uint64_t)(action & 4095) << 2 | (uint64_t)kind;
}

static inline float ab_value(uint64_t fact) {
    const uint32_t bits = (uint32_t)(fact >> 30);
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static inline int32_t ab_action(uint64_t fact) { return (int32_t)(fact >> 2 & 4095); }

/* The fact about a position at this depth; 0 if there is none. */
static inline uint64_t ab_recall(ab_entry *table, uint64_t mask, uint64_t key, int32_t depth) {
    ab_entry *entry = &table[playout_mix(key) & mask];
    const uint64_t fact = __atomic_load_n(&entry->fact, __ATOMIC_RELAXED);
    if ((__atomic_load_n(&entry->check, __ATOMIC_RELAXED) ^ fact) != key) return 0;
    return (int32_t)(fact >> 14 & 65535) == depth ? fact : 0;
}

static inline void ab_remember(ab_entry *table, uint64_t mask, uint64_t key, uint64_t fact) {
    ab_entry *entry = &table[playout_mix(key) & mask];
    __atomic_store_n(&entry->fact, fact, __ATOMIC_RELAXED);
    __atomic_store_n(&entry->check, key ^ fact, __ATOMIC_RELAXED);
}

#endif
