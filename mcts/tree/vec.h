/* Eight floats at a time: the arithmetic of selection, written once over SSE2 or plain C.
 *
 * Both give the same bits: only IEEE +, -, *, /, sqrt, comparisons and a fixed order of horizontal sums are used, and
 * nothing is contracted (-ffp-contract=off). The exponential is a polynomial for the same reason, so that the plain
 * Python reference can repeat it. Rows are padded to whole vectors by the tree. There is no AVX2 form: it was tried and
 * gained nothing, for a search waits for memory.
 */
#ifndef MCTS_VEC_H
#define MCTS_VEC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__) && !defined(MCTS_PLAIN)
#include <emmintrin.h>
#endif

#define MCTS_INLINE static inline __attribute__((always_inline))

/* Loading 8 words from MCTS_LANES + 8 - n gives n lanes of ones. */
static const int32_t MCTS_LANES[16] __attribute__((aligned(64))) = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

#if defined(__SSE2__) && !defined(MCTS_PLAIN)

typedef struct { __m128 a, b; } vf;
typedef vf vm;

#define MCTS_VF(x, y) ((vf){(x), (y)})
MCTS_INLINE vf v_load(const float *p) { return MCTS_VF(_mm_loadu_ps(p), _mm_loadu_ps(p + 4)); }
MCTS_INLINE void v_store(float *p, vf x) { _mm_storeu_ps(p, x.a), _mm_storeu_ps(p + 4, x.b); }
MCTS_INLINE vf v_all(float x) { return MCTS_VF(_mm_set1_ps(x), _mm_set1_ps(x)); }
MCTS_INLINE vf v_add(vf x, vf y) { return MCTS_VF(_mm_add_ps(x.a, y.a), _mm_add_ps(x.b, y.b)); }
MCTS_INLINE vf v_sub(vf x, vf y) { return MCTS_VF(_mm_sub_ps(x.a, y.a), _mm_sub_ps(x.b, y.b)); }
MCTS_INLINE vf v_mul(vf x, vf y) { return MCTS_VF(_mm_mul_ps(x.a, y.a), _mm_mul_ps(x.b, y.b)); }
MCTS_INLINE vf v_div(vf x, vf y) { return MCTS_VF(_mm_div_ps(x.a, y.a), _mm_div_ps(x.b, y.b)); }
MCTS_INLINE vf v_sqrt(vf x) { return MCTS_VF(_mm_sqrt_ps(x.a), _mm_sqrt_ps(x.b)); }
MCTS_INLINE vf v_max(vf x, vf y) { return MCTS_VF(_mm_max_ps(x.a, y.a), _mm_max_ps(x.b, y.b)); }
MCTS_INLINE vf v_min(vf x, vf y) { return MCTS_VF(_mm_min_ps(x.a, y.a), _mm_min_ps(x.b, y.b)); }
MCTS_INLINE vm v_gt(vf x, vf y) { return MCTS_VF(_mm_cmpgt_ps(x.a, y.a), _mm_cmpgt_ps(x.b, y.b)); }
MCTS_INLINE vm v_eq(vf x, vf y) { return MCTS_VF(_mm_cmpeq_ps(x.a, y.a), _mm_cmpeq_ps(x.b, y.b)); }
MCTS_INLINE vm v_and(vm x, vm y) { return MCTS_VF(_mm_and_ps(x.a, y.a), _mm_and_ps(x.b, y.b)); }
MCTS_INLINE vm v_andnot(vm x, vm y) { return MCTS_VF(_mm_andnot_ps(y.a, x.a), _mm_andnot_ps(y.b, x.b)); }
MCTS_INLINE vf v_if(vm m, vf x, vf y) {
    return MCTS_VF(_mm_or_ps(_mm_and_ps(m.a, x.a), _mm_andnot_ps(m.a, y.a)),
                   _mm_or_ps(_mm_and_ps(m.b, x.b), _mm_andnot_ps(m.b, y.b)));
}
MCTS_INLINE vf v_keep(vm m, vf x) { return v_and(m, x); }
MCTS_INLINE vm v_lanes(int n) { return v_load((const float *)(const void *)(MCTS_LANES + 8 - n)); }
MCTS_INLINE int v_bits(vm m) { return _mm_movemask_ps(m.a) | _mm_movemask_ps(m.b) << 4; }
MCTS_INLINE vf v_widen(__m128i words) { /* eight 16-bit words as floats */
    __m128i zero = _mm_setzero_si128();
    return MCTS_VF(_mm_cvtepi32_ps(_mm_unpacklo_epi16(words, zero)), _mm_cvtepi32_ps(_mm_unpackhi_epi16(words, zero)));
}
MCTS_INLINE vm v_byte_is(const uint8_t *p, int value) {
    __m128i words = _mm_unpacklo_epi8(_mm_loadl_epi64((const __m128i *)p), _mm_setzero_si128());
    return v_eq(v_widen(words), v_all((float)value));
}
MCTS_INLINE vf v_from_u16(const uint16_t *p) { return v_widen(_mm_loadu_si128((const __m128i *)p)); }
/* base[at[k]] for eight places; no detour over memory, which would cost a failed store forwarding. */
MCTS_INLINE vf v_gather(const float *base, const uint16_t *at) {
    return MCTS_VF(_mm_setr_ps(base[at[0]], base[at[1]], base[at[2]], base[at[3]]),
                   _mm_setr_ps(base[at[4]], base[at[5]], base[at[6]], base[at[7]]));
}
MCTS_INLINE float v_sum(vf x) {
    __m128 a = _mm_add_ps(x.a, x.b);
    a = _mm_add_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_add_ss(a, _mm_shuffle_ps(a, a, 1)));
}
MCTS_INLINE float v_highest(vf x) {
    __m128 a = _mm_max_ps(x.a, x.b);
    a = _mm_max_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_max_ss(a, _mm_shuffle_ps(a, a, 1)));
}
MCTS_INLINE float v_lowest(vf x) {
    __m128 a = _mm_min_ps(x.a, x.b);
    a = _mm_min_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_min_ss(a, _mm_shuffle_ps(a, a, 1)));
}
MCTS_INLINE __m128 v_round_pow2_4(__m128 a, __m128 *pow2) {
    __m128i r = _mm_cvtps_epi32(a);
    *pow2 = _mm_castsi128_ps(_mm_slli_epi32(_mm_add_epi32(r, _mm_set1_epi32(127)), 23));
    return _mm_cvtepi32_ps(r);
}
MCTS_INLINE vf v_round_pow2(vf x, vf *pow2) {
    return MCTS_VF(v_round_pow2_4(x.a, &pow2->a), v_round_pow2_4(x.b, &pow2->b));
}

#else

typedef struct { float f[8]; } vf;
typedef struct { int32_t i[8]; } vm;

#define MCTS_MAP(type, field, expr) \
    type r;                         \
    for (int k = 0; k < 8; k++) r.field[k] = (expr); \
    return r
MCTS_INLINE vf v_load(const float *p) { MCTS_MAP(vf, f, p[k]); }
MCTS_INLINE void v_store(float *p, vf a) { memcpy(p, a.f, sizeof a.f); }
MCTS_INLINE vf v_all(float a) { MCTS_MAP(vf, f, a); }
MCTS_INLINE vf v_add(vf a, vf b) { MCTS_MAP(vf, f, a.f[k] + b.f[k]); }
MCTS_INLINE vf v_sub(vf a, vf b) { MCTS_MAP(vf, f, a.f[k] - b.f[k]); }
MCTS_INLINE vf v_mul(vf a, vf b) { MCTS_MAP(vf, f, a.f[k] * b.f[k]); }
MCTS_INLINE vf v_div(vf a, vf b) { MCTS_MAP(vf, f, a.f[k] / b.f[k]); }
MCTS_INLINE vf v_sqrt(vf a) { MCTS_MAP(vf, f, sqrtf(a.f[k])); }
MCTS_INLINE vf v_max(vf a, vf b) { MCTS_MAP(vf, f, a.f[k] > b.f[k] ? a.f[k] : b.f[k]); }
MCTS_INLINE vf v_min(vf a, vf b) { MCTS_MAP(vf, f, a.f[k] < b.f[k] ? a.f[k] : b.f[k]); }
MCTS_INLINE vm v_gt(vf a, vf b) { MCTS_MAP(vm, i, -(a.f[k] > b.f[k])); }
MCTS_INLINE vm v_eq(vf a, vf b) { MCTS_MAP(vm, i, -(a.f[k] == b.f[k])); }
MCTS_INLINE vm v_and(vm a, vm b) { MCTS_MAP(vm, i, a.i[k] & b.i[k]); }
MCTS_INLINE vm v_andnot(vm a, vm b) { MCTS_MAP(vm, i, a.i[k] & ~b.i[k]); }
MCTS_INLINE vf v_if(vm m, vf a, vf b) { MCTS_MAP(vf, f, m.i[k] ? a.f[k] : b.f[k]); }
MCTS_INLINE vf v_keep(vm m, vf a) { MCTS_MAP(vf, f, m.i[k] ? a.f[k] : 0.0f); }
MCTS_INLINE vm v_lanes(int n) { MCTS_MAP(vm, i, -(k < n)); }
MCTS_INLINE vm v_byte_is(const uint8_t *p, int value) { MCTS_MAP(vm, i, -(p[k] == value)); }
MCTS_INLINE vf v_from_u16(const uint16_t *p) { MCTS_MAP(vf, f, (float)p[k]); }
MCTS_INLINE vf v_gather(const float *base, const uint16_t *at) { MCTS_MAP(vf, f, base[at[k]]); }
MCTS_INLINE int v_bits(vm m) {
    int bits = 0;
    for (int k = 0; k < 8; k++) bits |= (m.i[k] & 1) << k;
    return bits;
}
MCTS_INLINE float v_sum(vf a) {
    float s[4] = {a.f[0] + a.f[4], a.f[1] + a.f[5], a.f[2] + a.f[6], a.f[3] + a.f[7]};
    return (s[0] + s[2]) + (s[1] + s[3]);
}
MCTS_INLINE float v_highest(vf a) {
    float best = a.f[0];
    for (int k = 1; k < 8; k++) best = a.f[k] > best ? a.f[k] : best;
    return best;
}
MCTS_INLINE float v_lowest(vf a) {
    float best = a.f[0];
    for (int k = 1; k < 8; k++) best = a.f[k] < best ? a.f[k] : best;
    return best;
}
MCTS_INLINE vf v_round_pow2(vf a, vf *pow2) {
    vf r;
    for (int k = 0; k < 8; k++) {
        r.f[k] = rintf(a.f[k] > 127.0f ? 127.0f : a.f[k]); /* lanes above 0 are never used */
        uint32_t bits = (uint32_t)((int32_t)r.f[k] + 127) << 23;
        memcpy(&pow2->f[k], &bits, 4);
    }
    return r;
}
#endif

/* exp(x) for x <= 0, relative error near 1e-7 (Cephes' polynomial); below -87 it stays at exp(-87). */
MCTS_INLINE vf v_exp(vf x) {
    vf scale;
    x = v_max(x, v_all(-87.0f));
    vf r = v_round_pow2(v_mul(x, v_all(1.44269504f)), &scale);
    vf f = v_sub(v_sub(x, v_mul(r, v_all(0.693359375f))), v_mul(r, v_all(-2.12194440e-4f)));
    vf y = v_add(v_mul(v_all(1.9875691500e-4f), f), v_all(1.3981999507e-3f));
    y = v_add(v_mul(y, f), v_all(8.3334519073e-3f));
    y = v_add(v_mul(y, f), v_all(4.1665795894e-2f));
    y = v_add(v_mul(y, f), v_all(1.6666665459e-1f));
    y = v_add(v_mul(y, f), v_all(5.0000001201e-1f));
    y = v_add(v_add(v_mul(v_mul(y, f), f), f), v_all(1.0f));
    return v_mul(y, scale);
}

#endif
