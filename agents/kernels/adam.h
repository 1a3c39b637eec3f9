/* Adam's two passes over flat float32 arrays, with the same bits on every processor. */
#ifndef PLAYOUT_ADAM_H
#define PLAYOUT_ADAM_H

#include <math.h>
#include <stddef.h>

/* Sums of squares that run side by side, in a fixed order. */
#define ADAM_LANES 8

typedef struct adam_rates {
    float scale, beta1, rest1, beta2, rest2; /* of the gradient and the moments; rest is 1 - beta */
    float keep, rate, root, eps;             /* of the parameters: decay, learning rate, correction, epsilon */
} adam_rates;

#define MLP_BODY "../adam_body.h"
#include "mlp/isa.h"

static double (*const adam_squares[3])(const float *, ptrdiff_t) = MLP_SETS(adam_squares);
static void (*const adam_update[3])(float *restrict, const float *restrict, float *restrict, float *restrict, ptrdiff_t,
                                    const adam_rates *) = MLP_SETS(adam_update);

#endif
