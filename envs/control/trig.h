/* Sine and cosine without branches or calls, so that loops over rows become vector loops.
 *
 * Argument reduction by pi in two parts (Cody and Waite 1980), then polynomials fitted by Chebyshev interpolation in 60
 * digits, the leading terms carried as sums of two doubles (Dekker 1971): over 99 % of the results are correctly
 * rounded, so that they nearly always equal libm's and NumPy's. Arguments beyond CTL_TRIG_LIMIT, infinities and NaN go
 * to libm. Fused multiply-adds are written out, never left to the compiler: the same bits on every processor (slowly on
 * one that has none).
 */
#ifndef PLAYOUT_TRIG_H
#define PLAYOUT_TRIG_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "simd.h"

#define ctl_fma __builtin_fma

#define CTL_PI 3.14159265358979323846
#define CTL_TRIG_LIMIT 100000.0 /* the reduction is exact enough well beyond it */
#define CTL_TRIG_SMALL 0.25

/* sin(y + tail) and cos(y + tail) for |y| <= pi/4, |tail| below half a unit of y. The terms that matter to the last bit
 * are kept as sums of two doubles. */
CTL_INLINE void ctl_trig_kernel(double y, double tail, double *sine, double *cosine) {
    const double z = y * y, z_low = ctl_fma(y, y, -z);
    /* y - y^3 / 6 + ... */
    const double cube = y * z, cube_low = ctl_fma(y, z_low, ctl_fma(y, z, -cube));
    const double sixth = -0x1.5555555555555p-3, sixth_low = -0x1.5555555555555p-57;
    const double third = sixth * cube;
    const double third_low = ctl_fma(sixth, cube_low, ctl_fma(sixth_low, cube, ctl_fma(sixth, cube, -third)));
    double s = -0x1.ab933c0e30ad0p-41;
    s = ctl_fma(z, s, 0x1.61225a3142211p-33);
    s = ctl_fma(z, s, -0x1.ae64553324628p-26);
    s = ctl_fma(z, s, 0x1.71de3a550c541p-19);
    s = ctl_fma(z, s, -0x1.a01a01a019ed4p-13);
    s = ctl_fma(z, s, 0x1.1111111111111p-7);
    const double fifth = cube * z * s;
    const double sum = y + third, lost = (y - sum) + third;
    *sine = sum + (lost + (fifth + ctl_fma(tail, ctl_fma(-0.5, z, 1.0), third_low)));
    /* 1 - y^2 / 2 + y^4 / 24 - ... */
    double c = 0x1.abe61f2eab7c8p-45;
    c = ctl_fma(z, c, -0x1.93957cf98b789p-37);
    c = ctl_fma(z, c, 0x1.1eed8e6bd723fp-29);
    c = ctl_fma(z, c, -0x1.27e4fb775f378p-22);
    c = ctl_fma(z, c, 0x1.a01a01a019f89p-16);
    c = ctl_fma(z, c, -0x1.6c16c16c16c17p-10);
    c = ctl_fma(z, c, 0x1.5555555555555p-5);
    const double head = ctl_fma(-0.5, z, 1.0), head_lost = ctl_fma(-0.5, z, 1.0 - head);
    *cosine = head + (head_lost + ctl_fma(z * z, c, ctl_fma(-0.5, z_low, -(y * tail))));
}

/* Odd quadrants swap sine and cosine; signs go in by their bits. */
CTL_INLINE void ctl_quadrant(int64_t quadrant, double s, double c, double *sine, double *cosine) {
    int64_t sbits, cbits;
    memcpy(&sbits, &s, sizeof sbits);
    memcpy(&cbits, &c, sizeof cbits);
    const int64_t mixed = (sbits ^ cbits) & -(quadrant & 1);
    sbits = (sbits ^ mixed) ^ (int64_t)((uint64_t)(quadrant & 2) << 62);
    cbits = (cbits ^ mixed) ^ (int64_t)((uint64_t)((quadrant + 1) & 2) << 62);
    memcpy(sine, &sbits, sizeof sbits);
    memcpy(cosine, &cbits, sizeof cbits);
}

CTL_INLINE void ctl_sincos(double x, double *sine, double *cosine) {
    const double magic = 0x1.8p52; /* adding it rounds to the nearest whole number, kept in the low bits */
    const double shifted = x * 0x1.45f306dc9c883p-1 + magic;
    const double k = shifted - magic;
    int64_t quadrant;
    memcpy(&quadrant, &shifted, sizeof quadrant);
    const double head = ctl_fma(-k, 0x1.921fb54442d18p+0, x); /* exact */
    const double y = ctl_fma(-k, 0x1.1a62633145c07p-54, head);
    const double tail = ctl_fma(-k, 0x1.1a62633145c07p-54, head - y);
    double s, c;
    ctl_trig_kernel(y, tail, &s, &c);
    ctl_quadrant(quadrant, s, c, sine, cosine);
}

/* Sine and cosine of |x| <= CTL_TRIG_SMALL, as exact as above with fewer terms. */
CTL_INLINE void ctl_sincos_small(double x, double *sine, double *cosine) {
    const double z = x * x, z_low = ctl_fma(x, x, -z);
    double s = -0x1.adf608c9a6f5dp-26;
    s = ctl_fma(z, s, 0x1.71de2e4566711p-19);
    s = ctl_fma(z, s, -0x1.a01a019f064f2p-13);
    s = ctl_fma(z, s, 0x1.1111111111087p-7);
    s = ctl_fma(z, s, -0x1.5555555555555p-3);
    *sine = ctl_fma(x * z, s, x);
    double c = 0x1.1eae86305182cp-29;
    c = ctl_fma(z, c, -0x1.27e4f492d03a7p-22);
    c = ctl_fma(z, c, 0x1.a01a019f7c738p-16);
    c = ctl_fma(z, c, -0x1.6c16c16c16bc8p-10);
    c = ctl_fma(z, c, 0x1.5555555555555p-5);
    const double head = ctl_fma(-0.5, z, 1.0), head_lost = ctl_fma(-0.5, z, 1.0 - head);
    *cosine = head + (head_lost + ctl_fma(z * z, c, -0.5 * z_low));
}

/* Sine and cosine within a unit of the last place, for what nobody adds up: observations, tests of height. */
CTL_INLINE void ctl_sincos_quick(double x, double *sine, double *cosine) {
    const double magic = 0x1.8p52, shifted = x * 0x1.45f306dc9c883p-1 + magic, k = shifted - magic;
    int64_t quadrant;
    memcpy(&quadrant, &shifted, sizeof quadrant);
    const double y = ctl_fma(-k, 0x1.1a62633145c07p-54, ctl_fma(-k, 0x1.921fb54442d18p+0, x));
    const double z = y * y;
    double s = 0x1.5e0a4fb47ace3p-33;
    s = ctl_fma(z, s, -0x1.ae6008d0f0520p-26);
    s = ctl_fma(z, s, 0x1.71de37946eb45p-19);
    s = ctl_fma(z, s, -0x1.a01a019e820acp-13);
    s = ctl_fma(z, s, 0x1.1111111110babp-7);
    s = ctl_fma(z, s, -0x1.5555555555555p-3);
    double c = -0x1.907cd8f26aa3fp-37;
    c = ctl_fma(z, c, 0x1.1eeb67d014ecep-29);
    c = ctl_fma(z, c, -0x1.27e4fa16cc1bcp-22);
    c = ctl_fma(z, c, 0x1.a01a019f4ddfdp-16);
    c = ctl_fma(z, c, -0x1.6c16c16c16963p-10);
    c = ctl_fma(z, c, 0x1.5555555555555p-5);
    ctl_quadrant(quadrant, ctl_fma(y * z, s, y), ctl_fma(z * z, c, ctl_fma(-0.5, z, 1.0)), sine, cosine);
}

/* (-1)^m sin(x - k pi): with k = m it is the sine of x, with k = m - 1/2 the cosine. One polynomial on [-pi/2, pi/2],
 * so that a sine or cosine alone costs half of both. `shifted` holds m in its low bits. */
CTL_INLINE double ctl_half_turn(double x, double k, double shifted) {
    const double head = ctl_fma(-k, 0x1.921fb54442d18p+1, x);
    const double y = ctl_fma(-k, 0x1.1a62633145c07p-53, head);
    const double tail = ctl_fma(-k, 0x1.1a62633145c07p-53, head - y);
    const double z = y * y, z_low = ctl_fma(y, y, -z);
    double s = -0x1.291c204a4ec2cp-57;
    s = ctl_fma(z, s, 0x1.95178e0922b05p-49);
    s = ctl_fma(z, s, -0x1.ae7f1b4b6f5acp-41);
    s = ctl_fma(z, s, 0x1.6124611c29e0ep-33);
    s = ctl_fma(z, s, -0x1.ae64567f3b522p-26);
    s = ctl_fma(z, s, 0x1.71de3a556c6b8p-19);
    s = ctl_fma(z, s, -0x1.a01a01a01a01ap-13);
    /* The first two coefficients, as sums of two doubles: 1/120 + z s, and -1/6 + z times that. */
    const double rest = z * s;
    const double b = 0x1.1111111111111p-7 + rest;
    const double b_low = ((0x1.1111111111111p-7 - b) + rest) + 0x1.1111111111111p-63;
    const double m = z * b, m_low = ctl_fma(z, b_low, ctl_fma(z, b, -m));
    const double a = -0x1.5555555555555p-3 + m;
    const double a_low = ((-0x1.5555555555555p-3 - a) + m) + (m_low - 0x1.5555555555555p-57);
    const double u = z * a, u_low = ctl_fma(z, a_low, ctl_fma(z_low, a, ctl_fma(z, a, -u)));
    const double v = y * u, v_low = ctl_fma(y, u_low, ctl_fma(y, u, -v));
    /* The tail counts by the cosine of y. */
    const double slope = ctl_fma(z, ctl_fma(z, 0x1.5555555555555p-5, -0.5), 1.0);
    const double sum = y + v, lost = (y - sum) + v;
    const double sine = sum + (lost + ctl_fma(tail, slope, v_low));
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

/* The functions above over a block of rows, large arguments by libm; x does not overlap the results. */
#define CTL_SINCOS_BLOCK(name, function)                                                                            \
    CTL_INLINE void name(int32_t n, const double *restrict x, double *restrict sines, double *restrict cosines) {   \
        for (int32_t i = 0; i < n; i++) {                                                                           \
            function(x[i], &sines[i], &cosines[i]);                                                                 \
        }                                                                                                           \
        if (!ctl_all_within(n, x, CTL_TRIG_LIMIT)) {                                                                \
            for (int32_t i = 0; i < n; i++) {                                                                       \
                sines[i] = fabs(x[i]) <= CTL_TRIG_LIMIT ? sines[i] : sin(x[i]);                                     \
                cosines[i] = fabs(x[i]) <= CTL_TRIG_LIMIT ? cosines[i] : cos(x[i]);                                 \
            }                                                                                                       \
        }                                                                                                           \
    }
#define CTL_TRIG_BLOCK(name, function, libm)                                                                        \
    CTL_INLINE void name(int32_t n, const double *restrict x, double *restrict results) {                           \
        for (int32_t i = 0; i < n; i++) {                                                                           \
            results[i] = function(x[i]);                                                                            \
        }                                                                                                           \
        if (!ctl_all_within(n, x, CTL_TRIG_LIMIT)) {                                                                \
            for (int32_t i = 0; i < n; i++) {                                                                       \
                results[i] = fabs(x[i]) <= CTL_TRIG_LIMIT ? results[i] : libm(x[i]);                                \
            }                                                                                                       \
        }                                                                                                           \
    }

CTL_SINCOS_BLOCK(ctl_sincos_block, ctl_sincos)
CTL_SINCOS_BLOCK(ctl_sincos_quick_block, ctl_sincos_quick)
CTL_TRIG_BLOCK(ctl_sin_block, ctl_sin, sin)
CTL_TRIG_BLOCK(ctl_cos_block, ctl_cos, cos)

/* For angles that are nearly always small. Each row decides for itself, so that its neighbours do not matter. */
CTL_INLINE void ctl_sincos_small_block(int32_t n, const double *restrict x, double *restrict sines,
                                       double *restrict cosines) {
    for (int32_t i = 0; i < n; i++) {
        ctl_sincos_small(x[i], &sines[i], &cosines[i]);
    }
    if (!ctl_all_within(n, x, CTL_TRIG_SMALL)) {
        for (int32_t i = 0; i < n; i++) {
            if (!(fabs(x[i]) <= CTL_TRIG_SMALL)) {
                ctl_sincos_block(1, &x[i], &sines[i], &cosines[i]);
            }
        }
    }
}

#endif
