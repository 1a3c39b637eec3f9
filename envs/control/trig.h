/* Sine and cosine without branches or calls, so that loops over rows become vector loops.
 *
 * Argument reduction by a three-part pi/2 (Cody and Waite 1980), then polynomials on [-pi/4, pi/4] fitted by Chebyshev
 * interpolation in 60 digits; the errors stay below one unit in the last place, as in a good libm. Arguments beyond
 * CTL_TRIG_LIMIT, infinities and NaN go to libm. No fused multiply-add: the same bits on every processor.
 */
#ifndef PLAYOUT_TRIG_H
#define PLAYOUT_TRIG_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "simd.h"

#define CTL_PI 3.14159265358979323846
#define CTL_TRIG_LIMIT 100000.0 /* the reduction is exact enough well beyond it */
#define CTL_TRIG_SMALL 0.785    /* just below pi/4: no reduction needed */

/* sin(x + tail) and cos(x + tail) for |x| <= pi/4, |tail| below half a unit of x. */
CTL_INLINE void ctl_trig_kernel(double x, double tail, double *sine, double *cosine) {
    const double z = x * x;
    double s = 0x1.5e0a4fb47ace3p-33;
    s = -0x1.ae6008d0f0520p-26 + z * s;
    s = 0x1.71de37946eb45p-19 + z * s;
    s = -0x1.a01a019e820acp-13 + z * s;
    s = 0x1.1111111110babp-7 + z * s;
    double c = -0x1.907cd8f26aa3fp-37;
    c = 0x1.1eeb67d014ecep-29 + z * c;
    c = -0x1.27e4fa16cc1bcp-22 + z * c;
    c = 0x1.a01a019f4ddfdp-16 + z * c;
    c = -0x1.6c16c16c16963p-10 + z * c;
    c = 0x1.5555555555555p-5 + z * c;
    const double cube = z * x;
    *sine = x + ((tail - z * (0.5 * tail - cube * s)) + cube * -0x1.5555555555555p-3);
    /* 1 - z/2 loses bits that the second sum gives back. */
    const double half = 0.5 * z;
    const double head = 1.0 - half;
    *cosine = head + (((1.0 - head) - half) + (z * (z * c) - x * tail));
}

CTL_INLINE void ctl_sincos(double x, double *sine, double *cosine) {
    const double magic = 0x1.8p52; /* adding it rounds to the nearest whole number, kept in the low bits */
    const double shifted = x * 0x1.45f306dc9c883p-1 + magic;
    const double k = shifted - magic;
    int64_t quadrant;
    memcpy(&quadrant, &shifted, sizeof quadrant);
    const double first = x - k * 0x1.921fb544p+0;
    const double part = k * 0x1.0b4611a6p-34;
    const double head = first - part;
    const double rest = ((first - head) - part) - k * 0x1.3198a2e037073p-69;
    const double y = head + rest;
    const double tail = (head - y) + rest;
    double s, c;
    ctl_trig_kernel(y, tail, &s, &c);
    /* Odd quadrants swap sine and cosine; signs go in by their bits. */
    int64_t sbits, cbits;
    memcpy(&sbits, &s, sizeof sbits);
    memcpy(&cbits, &c, sizeof cbits);
    const int64_t swap = -(quadrant & 1);
    const int64_t mixed = (sbits ^ cbits) & swap;
    sbits = (sbits ^ mixed) ^ (int64_t)((uint64_t)(quadrant & 2) << 62);
    cbits = (cbits ^ mixed) ^ (int64_t)((uint64_t)((quadrant + 1) & 2) << 62);
    memcpy(sine, &sbits, sizeof sbits);
    memcpy(cosine, &cbits, sizeof cbits);
}

/* (-1)^m sin(x - k pi): with k = m it is the sine of x, with k = m - 1/2 the cosine. One polynomial on [-pi/2, pi/2],
 * so that a sine or cosine alone costs half of both. `shifted` holds m in its low bits. */
CTL_INLINE double ctl_half_turn(double x, double k, double shifted) {
    const double first = x - k * 0x1.921fb544p+1;
    const double part = k * 0x1.0b4611a6p-33;
    const double head = first - part;
    const double rest = ((first - head) - part) - k * 0x1.3198a2e037073p-68;
    const double y = head + rest;
    const double tail = (head - y) + rest;
    const double z = y * y;
    double s = 0x1.89a19d105d35ep-49;
    s = -0x1.ae5121644b564p-41 + z * s;
    s = 0x1.6124011228d99p-33 + z * s;
    s = -0x1.ae6455a0f5155p-26 + z * s;
    s = 0x1.71de3a54550e5p-19 + z * s;
    s = -0x1.a01a01a018a8cp-13 + z * s;
    s = 0x1.1111111111107p-7 + z * s;
    const double cube = z * y;
    const double sine = y + ((tail - z * (0.5 * tail - cube * s)) + cube * -0x1.5555555555555p-3);
    uint64_t bits, sign;
    double result;
    memcpy(&sign, &shifted, sizeof sign);
    memcpy(&bits, &sine, sizeof bits);
    bits ^= sign << 63;
    memcpy(&result, &bits, sizeof result);
    return result;
}

CTL_INLINE double ctl_sin(double x) {
    const double magic = 0x1.8p52, shifted = x * 0x1.45f306dc9c883p-2 + magic;
    return ctl_half_turn(x, shifted - magic, shifted);
}

CTL_INLINE double ctl_cos(double x) {
    const double magic = 0x1.8p52, shifted = (x * 0x1.45f306dc9c883p-2 + 0.5) + magic;
    return ctl_half_turn(x, (shifted - magic) - 0.5, shifted);
}

/* 1 if all |x| <= limit; NaN counts as beyond. */
CTL_INLINE int ctl_all_within(int32_t n, const double *x, double limit) {
    int64_t outside = 0;
    for (int32_t i = 0; i < n; i++) {
        outside += fabs(x[i]) <= limit ? 0 : 1;
    }
    return outside == 0;
}

/* sines and cosines of a block; x does not overlap the results. */
CTL_INLINE void ctl_sincos_block(int32_t n, const double *restrict x, double *restrict sines, double *restrict cosines) {
    for (int32_t i = 0; i < n; i++) {
        ctl_sincos(x[i], &sines[i], &cosines[i]);
    }
    if (!ctl_all_within(n, x, CTL_TRIG_LIMIT)) {
        for (int32_t i = 0; i < n; i++) {
            if (!(fabs(x[i]) <= CTL_TRIG_LIMIT)) {
                sines[i] = sin(x[i]);
                cosines[i] = cos(x[i]);
            }
        }
    }
}

/* cosines of a block, and below sines; x does not overlap the results. */
CTL_INLINE void ctl_cos_block(int32_t n, const double *restrict x, double *restrict cosines) {
    for (int32_t i = 0; i < n; i++) {
        cosines[i] = ctl_cos(x[i]);
    }
    if (!ctl_all_within(n, x, CTL_TRIG_LIMIT)) {
        for (int32_t i = 0; i < n; i++) {
            cosines[i] = fabs(x[i]) <= CTL_TRIG_LIMIT ? cosines[i] : cos(x[i]);
        }
    }
}

CTL_INLINE void ctl_sin_block(int32_t n, const double *restrict x, double *restrict sines) {
    for (int32_t i = 0; i < n; i++) {
        sines[i] = ctl_sin(x[i]);
    }
    if (!ctl_all_within(n, x, CTL_TRIG_LIMIT)) {
        for (int32_t i = 0; i < n; i++) {
            sines[i] = fabs(x[i]) <= CTL_TRIG_LIMIT ? sines[i] : sin(x[i]);
        }
    }
}

/* Sines and cosines, cheaper where all arguments are small, with equal results (there the reduction does nothing). */
CTL_INLINE void ctl_sincos_small_block(int32_t n, const double *restrict x, double *restrict sines,
                                       double *restrict cosines) {
    if (ctl_all_within(n, x, CTL_TRIG_SMALL)) {
        for (int32_t i = 0; i < n; i++) {
            ctl_trig_kernel(x[i], 0.0, &sines[i], &cosines[i]);
        }
    } else {
        ctl_sincos_block(n, x, sines, cosines);
    }
}

#endif
