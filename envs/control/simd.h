/* One C body compiled for several instruction sets, chosen when a task is made.
 *
 * The wheel is built for the oldest x86-64; loops get wider vectors by function multiversioning. The arithmetic is
 * plain IEEE (-ffp-contract=off, no fast-math), so all versions give the same bits; tests compare them. Leaves out:
 * resolvers of the dynamic linker (ifunc), which sanitizers and other C libraries do not get along with.
 */
#ifndef PLAYOUT_SIMD_H
#define PLAYOUT_SIMD_H

#define CTL_BASE 0
#define CTL_AVX2 1
#define CTL_AVX512 2

/* Debug builds check every operation: one version, nothing inlined by force, or compiling takes an hour. */
#ifdef NDEBUG
#define CTL_INLINE static inline __attribute__((always_inline))
#else
#define CTL_INLINE static inline
#endif

#if defined(__x86_64__) && defined(__GNUC__) && defined(NDEBUG)
#define CTL_X86 1
#define CTL_TARGET_AVX2 __attribute__((target("avx2,fma")))
#if defined(__clang__)
#define CTL_TARGET_AVX512 __attribute__((target("fma,avx512f,avx512dq,avx512vl,avx512bw")))
#else
#define CTL_TARGET_AVX512 __attribute__((target("fma,avx512f,avx512dq,avx512vl,avx512bw,prefer-vector-width=512")))
#endif
/* Defines name[3]: the function `body` for each instruction set. */
#define CTL_VERSIONS(name, body, params, args)                          \
    static void name##_base params { body args; }                      \
    CTL_TARGET_AVX2 static void name##_avx2 params { body args; }      \
    CTL_TARGET_AVX512 static void name##_avx512 params { body args; }  \
    static void(*const name[3]) params = {name##_base, name##_avx2, name##_avx512};
#else
#define CTL_X86 0
#define CTL_VERSIONS(name, body, params, args)     \
    static void name##_base params { body args; } \
    static void(*const name[3]) params = {name##_base, name##_base, name##_base};
#endif

/* The best that this processor has. */
static inline int ctl_best_isa(void) {
#if CTL_X86
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
        return CTL_BASE;
    }
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")) {
        return CTL_AVX512;
    }
    return CTL_AVX2;
#else
    return CTL_BASE;
#endif
}

#endif
