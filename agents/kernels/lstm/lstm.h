/* The recurrence of an LSTM over rows of steps with resets anywhere, forward and backward, in float32 on one core.
 *
 * Everything that is one large product over all steps (inputs, gradients of the weights) is left to the caller; here
 * stands what must go step by step: h W^T and its transpose, gates, cells. Weights are packed in panels of 32 columns,
 * which the register tiles of mlp/tile.h read in order. Gates lie side by side as torch has them: in, forget, cell, out.
 */
#ifndef PLAYOUT_LSTM_H
#define PLAYOUT_LSTM_H

#include <stddef.h>
#include <string.h>

#include "../mlp/transpose.h"

#define LSTM_PANEL 32

/* One call's shapes and arrays: R rows, T steps, H units (a multiple of 32). */
typedef struct lstm_job {
    ptrdiff_t rows, steps, size;
    const float *h0, *c0;          /* [R, H] */
    const unsigned char *starts;   /* [R, T] */
    const float *panels;           /* forward: of W^T [H, 4H]; backward: of W [4H, H] */
    float *gates;                  /* [R, T, 4H]: inputs at first, activated gates after; backward: their gradient out */
    float *h, *c;                  /* [R, T, H] */
    const float *grad;             /* backward: of h, [R, T, H] */
    float *gates_grad;             /* backward: [R, T, 4H] */
    float *before;                 /* [R, T, H]: h before each step, 0 after a reset */
    float *work;                   /* [R, 6H] */
} lstm_job;

/* Columns of B [depth, n] (multiples of 32) as panels [n / 32][depth][32]; with `transposed`, b is the transpose of B. */
static inline void lstm_pack(const float *b, ptrdiff_t depth, ptrdiff_t n, int transposed, float *out) {
    for (ptrdiff_t j = 0; j < n; j += LSTM_PANEL, out += depth * LSTM_PANEL) {
        for (ptrdiff_t k = 0; !transposed && k < depth; k++) {
            memcpy(out + k * LSTM_PANEL, b + k * n + j, sizeof(float) * LSTM_PANEL);
        }
        for (ptrdiff_t k = 0; transposed && k < depth; k += 4) {
            for (ptrdiff_t l = 0; l < LSTM_PANEL; l += 4) {
                mlp_transpose(b + (j + l) * depth + k, depth, out + k * LSTM_PANEL + l, LSTM_PANEL);
            }
        }
    }
}

#define MLP_BODY "../lstm/body.h"
#include "../mlp/isa.h"

static void (*const lstm_forward[3])(const lstm_job *) = MLP_SETS(lstm_forward);
static void (*const lstm_backward[3])(const lstm_job *) = MLP_SETS(lstm_backward);

#endif
