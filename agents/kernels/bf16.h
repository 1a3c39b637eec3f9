/* bfloat16 as 16 bits: the upper half of a float32, rounded to nearest even, NaN kept. */
#ifndef PLAYOUT_BF16_H
#define PLAYOUT_BF16_H

#include <stdint.h>
#include <string.h>

/* One function for three generations of processors; the loader picks. */
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define PLAYOUT_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define PLAYOUT_CLONES
#endif

typedef uint16_t playout_bf16;

static inline float playout_load_bf16(playout_bf16 x) {
    uint32_t bits = (uint32_t)x << 16;
    float wide;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

static inline playout_bf16 playout_store_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    return (playout_bf16)(x != x ? 0x7FC0u : rounded);
}

#endif
