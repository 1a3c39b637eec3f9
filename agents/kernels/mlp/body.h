/* Forward and backward passes over the layers of mlp.h, for one instruction set; see mlp/isa.h. */

#include "tile.h"

MLP_INLINE void MLP_N(mlp_activate)(int kind, float *x, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t ld) {
    for (ptrdiff_t n = 0; n < rows && kind != MLP_NONE; n++, x += ld) {
        for (ptrdiff_t c = 0; c < columns; c += MLP_LANES) {
            MLP_V v = MLP_N(mlp_load)(x + c);
            v = kind == MLP_TANH ? MLP_N(mlp_tanh)(v) : MLP_N(mlp_pick)(v > (MLP_V){0}, v, (MLP_V){0});
            MLP_N(mlp_store)(x + c, v);
        }
    }
}

/* d *= derivative of the activation, given its output y; adds the sums over rows to the bias's gradient. */
MLP_INLINE void MLP_N(mlp_deactivate)(const mlp_layer *layer, const float *y, float *d, ptrdiff_t rows) {
    ptrdiff_t out = layer->num_out, ld = MLP_STRIDE(out);
    for (ptrdiff_t c = 0; c < out; c += MLP_LANES) {
        float sums[MLP_LANES] = {0};
        size_t size = sizeof(float) * (out - c < MLP_LANES ? out - c : MLP_LANES);
        memcpy(sums, layer->bias_grad + c, size);
        MLP_V sum = MLP_N(mlp_load)(sums);
        for (ptrdiff_t n = 0; n < rows; n++) {
            MLP_V v = MLP_N(mlp_load)(y + n * ld + c), g = MLP_N(mlp_load)(d + n * ld + c);
            if (layer->activation == MLP_TANH) {
                g *= 1.0f - v * v;
            } else if (layer->activation == MLP_RELU) {
                g = MLP_N(mlp_pick)(v > (MLP_V){0}, g, (MLP_V){0});
            }
            MLP_N(mlp_store)(d + n * ld + c, g);
            sum += g;
        }
        MLP_N(mlp_store)(sums, sum);
        memcpy(layer->bias_grad + c, sums, size);
    }
}

static MLP_TARGET void MLP_N(mlp_forward)(const mlp_layer *layers, int count, const float *x, ptrdiff_t ldx,
                                          ptrdiff_t rows) {
    for (ptrdiff_t n = 0; n < rows; n += MLP_BLOCK) {
        ptrdiff_t m = rows - n < MLP_BLOCK ? rows - n : MLP_BLOCK;
        const float *input = x + n * ldx;
        ptrdiff_t ld = ldx;
        for (int k = 0; k < count; k++) {
            const mlp_layer *layer = layers + k;
            ptrdiff_t in = layer->num_in, po = MLP_PAD(layer->num_out), ldo = MLP_STRIDE(layer->num_out);
            float *out = layer->out + n * ldo;
            for (ptrdiff_t j = 0; j < po; j += MLP_PANEL) {
                ptrdiff_t width = MLP_WIDTH(po, j);
                MLP_N(mlp_panel)(m, width, in, input, ld, 1, layer->panels + j * in, width, out + j, ldo,
                                 layer->start + j, 0);
            }
            MLP_N(mlp_activate)(layer->activation, out, m, po, ldo);
            input = out;
            ld = ldo;
        }
    }
}

/* Adds d^T x to the weight's gradient. Where x is not padded, or the gradient's rows do not end with a vector, it is
 * formed transposed and added after the last block. */
MLP_INLINE void MLP_N(mlp_weight_grad)(const mlp_layer *layer, const float *x, ptrdiff_t ldx, const float *d, ptrdiff_t m,
                                       int first) {
    ptrdiff_t in = layer->num_in, out = layer->num_out, po = MLP_PAD(out), ldd = MLP_STRIDE(out);
    if (layer->transposed_grad) {
        for (ptrdiff_t j = 0; j < po; j += MLP_PANEL) {
            float *sum = layer->transposed_grad + j;
            MLP_N(mlp_panel)(in, MLP_WIDTH(po, j), m, x, 1, ldx, d + j, ldd, sum, po, first ? NULL : sum, po);
        }
    } else {
        for (ptrdiff_t j = 0; j < in; j += MLP_PANEL) {
            float *sum = layer->weight_grad + j;
            MLP_N(mlp_panel)(out, MLP_WIDTH(in, j), m, d, 1, ldd, x + j, ldx, sum, in, sum, in);
        }
    }
}

/* other [m, num_in] = d W, or += with `add`. */
MLP_INLINE void MLP_N(mlp_input_grad)(const mlp_layer *layer, const float *d, ptrdiff_t m, float *other, float *panel,
                                      int add) {
    ptrdiff_t in = layer->num_in, out = layer->num_out, pi = MLP_PAD(in);
    for (ptrdiff_t j = 0; j < pi; j += MLP_PANEL) {
        ptrdiff_t width = MLP_WIDTH(pi, j), ld = in;
        const float *columns = layer->weight + j;
        if (in > 2 * MLP_PANEL || in % MLP_UNIT) {
            mlp_copy_panel(layer, j, width, panel);
            columns = panel;
            ld = width;
        }
        MLP_N(mlp_panel)(m, width, out, d, MLP_STRIDE(out), 1, columns, ld, other + j, MLP_STRIDE(in),
                         add ? other + j : NULL, MLP_STRIDE(in));
    }
}

/* Given d [rows, STRIDE(num_out of the last)], which it overwrites, adds to the gradients; and to x_grad, if that is not
 * NULL, the gradient of x. work holds 2 blocks of the widest stride and a panel. */
static MLP_TARGET void MLP_N(mlp_backward)(const mlp_layer *layers, int count, const float *x, ptrdiff_t ldx,
                                           ptrdiff_t rows, float *d, ptrdiff_t widest, float *work, float *x_grad) {
    float *blocks[2] = {work, work + MLP_BLOCK * widest}, *panel = work + 2 * MLP_BLOCK * widest;
    ptrdiff_t ldd = MLP_STRIDE(layers[count - 1].num_out);
    for (ptrdiff_t n = 0; n < rows; n += MLP_BLOCK) {
        ptrdiff_t m = rows - n < MLP_BLOCK ? rows - n : MLP_BLOCK;
        float *grad = d + n * ldd;
        for (int k = count - 1; k >= 0; k--) {
            const mlp_layer *layer = layers + k;
            ptrdiff_t ld = k ? MLP_STRIDE(layer->num_in) : ldx;
            const float *input = (k ? layers[k - 1].out : x) + n * ld;
            MLP_N(mlp_deactivate)(layer, layer->out + n * MLP_STRIDE(layer->num_out), grad, m);
            MLP_N(mlp_weight_grad)(layer, input, ld, grad, m, n == 0);
            if (k) {
                MLP_N(mlp_input_grad)(layer, grad, m, blocks[k % 2], panel, 0);
                grad = blocks[k % 2];
            } else if (x_grad) {
                MLP_N(mlp_input_grad)(layer, grad, m, x_grad + n * ldx, panel, 1);
            }
        }
    }
    for (int k = 0; k < count; k++) {
        mlp_transpose_back(layers + k);
    }
}
