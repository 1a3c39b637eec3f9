/* Includes the file named by MLP_BODY once for each instruction set, the functions in it named by MLP_N.
 *
 * Registers differ in width and number, so each set has its own vector type and tile. Which columns share a vector does
 * not enter any sum: all sets give the same bits. Set 0 is what every processor of the kind has.
 */
#ifndef MLP_BODY
#error "define MLP_BODY first"
#endif

#define MLP_PASTE(name, set) name##_##set
#define MLP_NAME(name, set) MLP_PASTE(name, set)
#define MLP_N(name) MLP_NAME(name, MLP_SET)
#define MLP_V MLP_N(mlp_v)
#define MLP_VI MLP_N(mlp_vi)
/* Vectors never cross a real call: every function with one is inlined. */
#define MLP_INLINE static inline __attribute__((always_inline)) MLP_TARGET
#define MLP_FUNCTION static __attribute__((noinline)) MLP_TARGET

#define MLP_SET base
#define MLP_TARGET
#define MLP_LANES 4
#if defined(__aarch64__)
#define MLP_ROWS 8
#else
#define MLP_ROWS 4
#endif
#include MLP_BODY
#undef MLP_SET
#undef MLP_TARGET
#undef MLP_LANES
#undef MLP_ROWS

#if defined(__x86_64__) && defined(__GNUC__)
#define MLP_SET avx2
#define MLP_TARGET __attribute__((target("avx2")))
#define MLP_LANES 8
#define MLP_ROWS 4
#include MLP_BODY
#undef MLP_SET
#undef MLP_TARGET
#undef MLP_LANES
#undef MLP_ROWS

#define MLP_SET avx512
#if defined(__clang__)
#define MLP_TARGET __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw")))
#else
#define MLP_TARGET __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,prefer-vector-width=512")))
#endif
#define MLP_LANES 16
#define MLP_ROWS 8
#include MLP_BODY
#undef MLP_SET
#undef MLP_TARGET
#undef MLP_LANES
#undef MLP_ROWS

#define MLP_SETS(name) {name##_base, name##_avx2, name##_avx512}
#else
#define MLP_SETS(name) {name##_base, name##_base, name##_base}
#endif

/* The best that this processor has: an index into an array of MLP_SETS. */
static inline int mlp_best_isa(void) {
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw")) {
        return 2;
    }
    if (__builtin_cpu_supports("avx2")) {
        return 1;
    }
#endif
    return 0;
}
