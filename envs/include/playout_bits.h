/* Sets of cells as bits of a word of 64 or 128, for games on boards.
 *
 * The wheel is built for the oldest x86-64. Where a loop over bits is hot, its function is compiled twice, the second
 * time with PLAYOUT_NEWER in front and `newer` set, and the game's table takes the one that playout_newer() allows when
 * it is made. Both do the same arithmetic on whole numbers, so a game is the same on every processor.
 */
#ifndef PLAYOUT_BITS_H
#define PLAYOUT_BITS_H

#include <stdint.h>

#include "playout_rng.h"

/* Debug builds check every operation: nothing inlined by force, or compiling takes an hour. */
#ifdef NDEBUG
#define PLAYOUT_INLINE static inline __attribute__((always_inline))
#else
#define PLAYOUT_INLINE static inline
#endif

#if defined(__x86_64__) && defined(__GNUC__) && defined(NDEBUG)
#define PLAYOUT_NEWER __attribute__((target("avx2,bmi,bmi2,popcnt")))
static inline int playout_newer(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
           __builtin_cpu_supports("popcnt");
}
/* The instruction by name: the intrinsic could not stand in a function that is inlined into older code too. */
#define PLAYOUT_DEPOSIT(out, from, mask) __asm__("pdepq %2, %1, %0" : "=r"(out) : "r"(from), "r"(mask))
#else
#define PLAYOUT_NEWER
static inline int playout_newer(void) { return 0; }
#define PLAYOUT_DEPOSIT(out, from, mask) (out) = (from) & (mask) /* never reached */
#endif

/* Two words on end, at any address that suits one of them. */
typedef unsigned __int128 playout_bits128 __attribute__((aligned(8)));

PLAYOUT_INLINE int32_t playout_count64(uint64_t set) { return (int32_t)__builtin_popcountll(set); }
PLAYOUT_INLINE int32_t playout_count128(unsigned __int128 set) {
    return playout_count64((uint64_t)set) + playout_count64((uint64_t)(set >> 64));
}

/* The place of the lowest bit of a set that is not empty. */
PLAYOUT_INLINE int32_t playout_lowest64(uint64_t set) { return (int32_t)__builtin_ctzll(set); }
PLAYOUT_INLINE int32_t playout_lowest128(unsigned __int128 set) {
    return (uint64_t)set ? playout_lowest64((uint64_t)set) : 64 + playout_lowest64((uint64_t)(set >> 64));
}

/* The k-th bit of a set, from 0, as a set of its own; the set has more than k. */
PLAYOUT_INLINE uint64_t playout_pick64(uint64_t set, int32_t k, int newer) {
    if (newer) {
        uint64_t bit;
        PLAYOUT_DEPOSIT(bit, UINT64_C(1) << k, set);
        return bit;
    }
    while (k-- > 0) set &= set - 1;
    return set & (0 - set);
}
PLAYOUT_INLINE unsigned __int128 playout_pick128(unsigned __int128 set, int32_t k, int newer) {
    const int32_t low = playout_count64((uint64_t)set);
    if (k < low) return playout_pick64((uint64_t)set, k, newer);
    return (unsigned __int128)playout_pick64((uint64_t)(set >> 64), k - low, newer) << 64;
}

/* Folds a set into a hash. */
PLAYOUT_INLINE uint64_t playout_fold64(uint64_t hash, uint64_t set) {
    return playout_mix((hash ^ set) + UINT64_C(0x9E3779B97F4A7C15));
}
PLAYOUT_INLINE uint64_t playout_fold128(uint64_t hash, unsigned __int128 set) {
    return playout_fold64(playout_fold64(hash, (uint64_t)set), (uint64_t)(set >> 64));
}

#endif
