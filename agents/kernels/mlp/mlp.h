/* Forward and backward passes of small multilayer perceptrons in float32, on one core.
 *
 * A matrix product of a small layer over a minibatch takes microseconds, less than handing it to a general library, so
 * the whole network is done here, a block of rows through all layers while it is in cache. Sums run in a fixed order, so
 * the bits do not depend on the processor or the number of threads. Products are in mlp/tile.h, passes in mlp/body.h.
 * Leaves out: distributions and everything else.
 */
#ifndef PLAYOUT_MLP_H
#define PLAYOUT_MLP_H

#include <stddef.h>
#include <string.h>

#include "transpose.h"

/* Columns are padded to a multiple of 16. Rows of activations a multiple of 512 bytes apart would fall on a few sets of
 * the first cache, so those are 16 columns further apart. */
#define MLP_UNIT 16
#define MLP_PAD(n) (((n) + MLP_UNIT - 1) / MLP_UNIT * MLP_UNIT)
#define MLP_STRIDE(n) (MLP_PAD(n) + (MLP_PAD(n) % 128 ? 0 : MLP_UNIT))

/* Columns of a matrix that are worked on together: with 256 rows they still fit into the first cache. */
#define MLP_PANEL 32
#define MLP_WIDTH(columns, j) ((columns) - (j) < MLP_PANEL ? MLP_UNIT : MLP_PANEL)

/* Rows of a block. */
#define MLP_BLOCK 64

enum { MLP_NONE = 0, MLP_TANH = 1, MLP_RELU = 2 };

/* One linear layer: where its parameters, gradients and own arrays are. */
typedef struct mlp_layer {
    int num_in, num_out, activation;
    const float *weight; /* [num_out, num_in] */
    const float *bias;   /* [num_out] */
    float *weight_grad, *bias_grad;
    float *panels; /* the transposed weight [num_in, PAD(num_out)] in panels of columns, each contiguous */
    float *start;  /* [PAD(num_out)]: the bias */
    float *transposed_grad; /* [num_in, PAD(num_out)]: of the weight, or NULL where it is not needed */
    float *out;    /* [N, STRIDE(num_out)]: activations */
} mlp_layer;

/* Whether a layer needs `transposed_grad`. */
static inline int mlp_needs_transpose(int num_in) { return num_in % MLP_UNIT != 0; }

static inline void mlp_prepare(mlp_layer *layer) {
    ptrdiff_t in = layer->num_in, out = layer->num_out, po = MLP_PAD(out);
    for (ptrdiff_t j = 0; j < po; j += MLP_PANEL) {
        ptrdiff_t width = MLP_WIDTH(po, j), have = out - j < width ? out - j : width, i = 0;
        const float *from = layer->weight + j * in;
        float *to = layer->panels + j * in;
        for (; i + 4 <= in; i += 4) {
            ptrdiff_t o = 0;
            for (; o + 4 <= have; o += 4) {
                mlp_transpose(from + o * in + i, in, to + i * width + o, width);
            }
            for (; o < have; o++) {
                for (int c = 0; c < 4; c++) {
                    to[(i + c) * width + o] = from[o * in + i + c];
                }
            }
        }
        for (; i < in; i++) {
            for (ptrdiff_t o = 0; o < have; o++) {
                to[i * width + o] = from[o * in + i];
            }
        }
    }
    memcpy(layer->start, layer->bias, sizeof(float) * out);
}

/* Columns [j, j + width) of the weight, 0 beyond its last, as [num_out, width]. */
static inline void mlp_copy_panel(const mlp_layer *layer, ptrdiff_t j, ptrdiff_t width, float *panel) {
    ptrdiff_t in = layer->num_in, have = in - j < width ? in - j : width;
    for (ptrdiff_t o = 0; o < layer->num_out; o++, panel += width) {
        const float *from = layer->weight + o * in + j;
        if (have == MLP_PANEL) {
            memcpy(panel, from, sizeof(float) * MLP_PANEL);
        } else {
            memcpy(panel, from, sizeof(float) * have);
            memset(panel + have, 0, sizeof(float) * (width - have));
        }
    }
}

/* Adds a gradient that was formed transposed. */
static inline void mlp_transpose_back(const mlp_layer *layer) {
    ptrdiff_t in = layer->num_in, out = layer->num_out, po = MLP_PAD(out);
    for (ptrdiff_t o = 0; layer->transposed_grad && o < out; o++) {
        for (ptrdiff_t i = 0; i < in; i++) {
            layer->weight_grad[o * in + i] += layer->transposed_grad[i * po + o];
        }
    }
}

#define MLP_BODY "body.h"
#include "isa.h"

typedef void (*mlp_forward_t)(const mlp_layer *layers, int count, const float *x, ptrdiff_t ldx, ptrdiff_t rows);
typedef void (*mlp_backward_t)(const mlp_layer *layers, int count, const float *x, ptrdiff_t ldx, ptrdiff_t rows, float *d,
                               ptrdiff_t widest, float *work, float *x_grad);
static const mlp_forward_t mlp_forward[3] = MLP_SETS(mlp_forward);
static const mlp_backward_t mlp_backward[3] = MLP_SETS(mlp_backward);

#endif
