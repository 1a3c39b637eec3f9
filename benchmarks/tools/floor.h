/* What this processor can do at best on one core: independent multiplications, additions and divisions in registers.
 *
 * The arithmetic floor of a loop is its number of operations over these rates. No fused multiply-add, which the
 * environments do not use either (results must not depend on the processor).
 */
#ifndef PLAYOUT_FLOOR_H
#define PLAYOUT_FLOOR_H

#include <stdint.h>

#include "../../envs/control/simd.h"

#define FLOOR_LANES 64 /* numbers in flight */

typedef double floor_vector __attribute__((vector_size(64)));

/* rounds * 2 * FLOOR_LANES operations */
CTL_INLINE void floor_multiply_add_body(int64_t rounds, double *out) {
    const floor_vector scale = {0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5};
    /* Different numbers, or the compiler would compute them once. */
    floor_vector a = scale, b = a + 1.0, c = a + 2.0, d = a + 3.0, e = a + 4.0, f = a + 5.0, g = a + 6.0, h = a + 7.0;
    for (int64_t i = 0; i < rounds; i++) {
        a = a * scale + scale;
        b = b * scale + scale;
        c = c * scale + scale;
        d = d * scale + scale;
        e = e * scale + scale;
        f = f * scale + scale;
        g = g * scale + scale;
        h = h * scale + scale;
    }
    a = a + b + c + d + e + f + g + h;
    *out = a[0] + a[7];
}

/* rounds * FLOOR_LANES operations */
CTL_INLINE void floor_divide_body(int64_t rounds, double *out) {
    const floor_vector one = {1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8};
    floor_vector a = one, b = a + 1.0, c = a + 2.0, d = a + 3.0, e = a + 4.0, f = a + 5.0, g = a + 6.0, h = a + 7.0;
    for (int64_t i = 0; i < rounds; i++) {
        a = one / a;
        b = one / b;
        c = one / c;
        d = one / d;
        e = one / e;
        f = one / f;
        g = one / g;
        h = one / h;
    }
    a = a + b + c + d + e + f + g + h;
    *out = a[0] + a[7];
}

CTL_VERSIONS(floor_multiply_add, floor_multiply_add_body, (int64_t rounds, double *out), (rounds, out))
CTL_VERSIONS(floor_divide, floor_divide_body, (int64_t rounds, double *out), (rounds, out))

#endif
