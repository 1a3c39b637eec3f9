/* Counter-based random numbers: a value is a pure function of (seed, stream, counter).
 *
 * A stream is named, not drawn from another stream, so batches can be cut or resumed anywhere: environment 7 of a batch
 * of 64 sees the numbers of stream 7 alone, and a saved (key, counter) pair continues exactly. The output function is
 * SplitMix64's finaliser (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"). It is not meant
 * for secrets.
 */
#ifndef PLAYOUT_RNG_H
#define PLAYOUT_RNG_H

#include <stdint.h>

typedef struct playout_rng {
    uint64_t key;     /* which stream */
    uint64_t counter; /* how many numbers were taken */
} playout_rng;

static inline uint64_t playout_mix(uint64_t z) {
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* The stream's name is mixed in twice, so that neighbouring seeds and streams share nothing visible. */
static inline playout_rng playout_rng_stream(uint64_t seed, uint64_t stream) {
    playout_rng rng;
    rng.key = playout_mix(playout_mix(seed + UINT64_C(0x9E3779B97F4A7C15)) ^ (stream * UINT64_C(0xD1342543DE82EF95) + 1));
    rng.counter = 0;
    return rng;
}

static inline uint64_t playout_rng_next(playout_rng *rng) {
    return playout_mix(rng->key + UINT64_C(0x9E3779B97F4A7C15) * ++rng->counter);
}

/* A whole number in [0, bound), bound below 2^32, by multiply and shift (Lemire 2019); bias under bound / 2^32. */
static inline uint32_t playout_rng_below(playout_rng *rng, uint32_t bound) {
    return (uint32_t)(((playout_rng_next(rng) >> 32) * (uint64_t)bound) >> 32);
}

/* A double in [0, 1) with 53 random bits. */
static inline double playout_rng_double(playout_rng *rng) {
    return (double)(playout_rng_next(rng) >> 11) * 0x1.0p-53;
}

#endif
