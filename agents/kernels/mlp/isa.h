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

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

/* Two of x y + z rounded once, for processors that cannot: what the other sets are compared with. Where there is no
 * better set, processor.py sends callers to torch, which is faster. The product is exact in double; rounding the sum to odd there
 * (Boldo and Melquiond 2008) makes the rounding to float the only one. */
static inline __attribute__((always_inline)) __m128 mlp_madd_two(__m128 x, __m128 y, __m128 z) {
    __m128d product = _mm_mul_pd(_mm_cvtps_pd(x), _mm_cvtps_pd(y)), c = _mm_cvtps_pd(z), zero = _mm_setzero_pd();
    __m128d sum = _mm_add_pd(product, c), part = _mm_sub_pd(sum, product);
    __m128d lost = _mm_add_pd(_mm_sub_pd(product, _mm_sub_pd(sum, part)), _mm_sub_pd(c, part));
    /* An infinite sum loses NaN, which is neither above nor below 0. */
    __m128i inexact = _mm_castpd_si128(_mm_or_pd(_mm_cmplt_pd(lost, zero), _mm_cmpgt_pd(lost, zero)));
    __m128i bits = _mm_castpd_si128(sum), one = _mm_set1_epi64x(1);
    /* An even sum moves away from 0, or towards it where what was lost has the other sign. */
    __m128i move = _mm_and_si128(_mm_andnot_si128(bits, one), inexact);
    __m128i back = _mm_and_si128(move, _mm_srli_epi64(_mm_xor_si128(bits, _mm_castpd_si128(lost)), 63));
    bits = _mm_sub_epi64(_mm_add_epi64(bits, move), _mm_add_epi64(back, back));
    return _mm_cvtpd_ps(_mm_castsi128_pd(bits));
}

static inline __attribute__((always_inline)) __m128 mlp_madd_four(__m128 x, __m128 y, __m128 z) {
    __m128 low = mlp_madd_two(x, y, z);
    return _mm_movelh_ps(low, mlp_madd_two(_mm_movehl_ps(x, x), _mm_movehl_ps(y, y), _mm_movehl_ps(z, z)));
}
#define MLP_MADD(x, y, z) ((MLP_V)mlp_madd_four((__m128)(x), (__m128)(y), (__m128)(z)))
#elif defined(__aarch64__)
#include <arm_neon.h>
#define MLP_MADD(x, y, z) ((MLP_V)vfmaq_f32((float32x4_t)(z), (float32x4_t)(x), (float32x4_t)(y)))
#else
#define MLP_MADD(x, y, z)                                                                                         \
    ((MLP_V){__builtin_fmaf((x)[0], (y)[0], (z)[0]), __builtin_fmaf((x)[1], (y)[1], (z)[1]),                      \
             __builtin_fmaf((x)[2], (y)[2], (z)[2]), __builtin_fmaf((x)[3], (y)[3], (z)[3])})
#endif

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
#undef MLP_MADD

#if defined(__x86_64__) && defined(__GNUC__)
#define MLP_SET avx2
#define MLP_TARGET __attribute__((target("avx2,fma")))
#define MLP_MADD(x, y, z) ((MLP_V)_mm256_fmadd_ps((__m256)(x), (__m256)(y), (__m256)(z)))
#define MLP_LANES 8
#define MLP_ROWS 6
#include MLP_BODY
#undef MLP_SET
#undef MLP_TARGET
#undef MLP_LANES
#undef MLP_ROWS
#undef MLP_MADD

#define MLP_SET avx512
#define MLP_MADD(x, y, z) ((MLP_V)_mm512_fmadd_ps((__m512)(x), (__m512)(y), (__m512)(z)))
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
#undef MLP_MADD

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
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        return 1;
    }
#endif
    return 0;
}
