/* Forward and backward passes of small multilayer perceptrons in float32, on one core.
 *
 * A matrix product of a 64-unit layer over a minibatch takes microseconds, less than handing it to a general library, so
 * the whole network is done here: products in register tiles of 4 rows by 32 columns, bias and tanh while the row is in
 * cache. Sums run in a fixed order over plain multiplies and adds, so the bits do not depend on the processor or the
 * number of threads. Matrices are row-major with columns padded to 16. Leaves out: distributions and everything else.
 */
#ifndef PLAYOUT_MLP_H
#define PLAYOUT_MLP_H

#include <stddef.h>
#include <string.h>

/* The vector type never crosses a real call: every function with it is inlined. */
#pragma GCC diagnostic ignored "-Wpsabi"

#define MLP_LANES 16
#define MLP_PAD(n) (((n) + MLP_LANES - 1) / MLP_LANES * MLP_LANES)
#define MLP_INLINE static inline __attribute__((always_inline))

enum { MLP_NONE = 0, MLP_TANH = 1, MLP_RELU = 2 };

/* Sixteen floats; the compiler splits them where registers are narrower. */
typedef float mlp_v __attribute__((vector_size(64), aligned(4), may_alias));
typedef int mlp_vi __attribute__((vector_size(64)));

MLP_INLINE mlp_v mlp_load(const float *p) { return *(const mlp_v *)p; }
MLP_INLINE void mlp_store(float *p, mlp_v v) { *(mlp_v *)p = v; }
MLP_INLINE mlp_v mlp_all(float x) { return x - (mlp_v){0}; }
MLP_INLINE mlp_v mlp_pick(mlp_vi where, mlp_v yes, mlp_v no) {
    return (mlp_v)((where & (mlp_vi)yes) | (~where & (mlp_vi)no));
}

/* tanh(x) = x P(x^2) / Q(x^2), fitted to a relative error of 1.2e-8 on [-8.5, 8.5]; 3.3e-7 after rounding. */
MLP_INLINE mlp_v mlp_tanh(mlp_v x) {
    const mlp_v limit = mlp_all(8.5f), one = mlp_all(1.0f);
    x = mlp_pick(x > limit, limit, x);
    x = mlp_pick(x < -limit, -limit, x);
    mlp_v y = x * x;
    mlp_v p = (((mlp_all(1.426961070111621e-08f) * y + 2.125133933888973e-05f) * y + 0.003534045635961451f) * y +
               0.13413263026090136f) * y + 0.9999999882181551f;
    mlp_v q = (((mlp_all(8.145285561605469e-07f) * y + 0.00033488949095398086f) * y + 0.026022823682751297f) * y +
               0.4674658577455465f) * y + 1.0f;
    mlp_v r = x * p / q;
    r = mlp_pick(r > one, one, r);
    return mlp_pick(r < -one, -one, r);
}

/* One register tile: C[r, c] = start + sum over k of A[r * ars + k * aks] * B[k * ldb + c]. */
MLP_INLINE void mlp_tile(int rows, int vectors, ptrdiff_t depth, const float *a, ptrdiff_t ars, ptrdiff_t aks,
                         const float *b, ptrdiff_t ldb, float *c, ptrdiff_t ldc, const float *bias) {
    mlp_v sum[8][2];
    for (int r = 0; r < rows; r++) {
        for (int j = 0; j < vectors; j++) {
            sum[r][j] = bias ? mlp_load(bias + j * MLP_LANES) : (mlp_v){0};
        }
    }
    for (ptrdiff_t k = 0; k < depth; k++) {
        mlp_v row[2];
        for (int j = 0; j < vectors; j++) {
            row[j] = mlp_load(b + k * ldb + j * MLP_LANES);
        }
        for (int r = 0; r < rows; r++) {
            float x = a[r * ars + k * aks];
            for (int j = 0; j < vectors; j++) {
                sum[r][j] += x * row[j];
            }
        }
    }
    for (int r = 0; r < rows; r++) {
        for (int j = 0; j < vectors; j++) {
            mlp_store(c + r * ldc + j * MLP_LANES, sum[r][j]);
        }
    }
}

/* C [m, n] = bias + A [m, depth] B [depth, n]; n is a multiple of 16, A may be transposed by its strides. */
MLP_INLINE void mlp_product(ptrdiff_t m, ptrdiff_t n, ptrdiff_t depth, const float *a, ptrdiff_t ars, ptrdiff_t aks,
                            const float *b, ptrdiff_t ldb, float *c, ptrdiff_t ldc, const float *bias) {
    for (ptrdiff_t j = 0; j < n; j += 2 * MLP_LANES) {
        const float *start = bias ? bias + j : NULL;
        int wide = j + 2 * MLP_LANES <= n;
        ptrdiff_t i = 0;
        for (; i + 4 <= m; i += 4) {
            if (wide) {
                mlp_tile(4, 2, depth, a + i * ars, ars, aks, b + j, ldb, c + i * ldc + j, ldc, start);
            } else {
                mlp_tile(4, 1, depth, a + i * ars, ars, aks, b + j, ldb, c + i * ldc + j, ldc, start);
            }
        }
        for (; i < m; i++) {
            if (wide) {
                mlp_tile(1, 2, depth, a + i * ars, ars, aks, b + j, ldb, c + i * ldc + j, ldc, start);
            } else {
                mlp_tile(1, 1, depth, a + i * ars, ars, aks, b + j, ldb, c + i * ldc + j, ldc, start);
            }
        }
    }
}

MLP_INLINE void mlp_activate(int kind, float *x, ptrdiff_t count) {
    for (ptrdiff_t i = 0; i < count; i += MLP_LANES) {
        mlp_v v = mlp_load(x + i);
        if (kind == MLP_TANH) {
            v = mlp_tanh(v);
        } else if (kind == MLP_RELU) {
            v = mlp_pick(v > (mlp_v){0}, v, (mlp_v){0});
        }
        mlp_store(x + i, v);
    }
}

/* d *= derivative of the activation, given its output y. */
MLP_INLINE void mlp_deactivate(int kind, const float *y, float *d, ptrdiff_t count) {
    for (ptrdiff_t i = 0; i < count; i += MLP_LANES) {
        mlp_v v = mlp_load(y + i), g = mlp_load(d + i);
        if (kind == MLP_TANH) {
            g *= 1.0f - v * v;
        } else if (kind == MLP_RELU) {
            g = mlp_pick(v > (mlp_v){0}, g, (mlp_v){0});
        }
        mlp_store(d + i, g);
    }
}

/* One linear layer: where its parameters, gradients and padded copies are. */
typedef struct mlp_layer {
    int num_in, num_out, activation;
    const float *weight; /* [num_out, num_in] */
    const float *bias;   /* [num_out] */
    float *weight_grad, *bias_grad;
    float *wt;    /* [num_in, PAD(num_out)]: the transposed weight */
    float *w;     /* [num_out, PAD(num_in)] */
    float *start; /* [PAD(num_out)]: the bias */
    float *out;   /* [N, PAD(num_out)]: activations */
} mlp_layer;

/* Rows of a block: its activations stay in the first cache while the layers pass over them. */
#define MLP_BLOCK 64

static inline void mlp_prepare(mlp_layer *layer) {
    int in = layer->num_in, out = layer->num_out, pi = MLP_PAD(in), po = MLP_PAD(out);
    for (int o = 0; o < out; o++) {
        memcpy(layer->w + (size_t)o * pi, layer->weight + (size_t)o * in, sizeof(float) * in);
        for (int i = 0; i < in; i++) {
            layer->wt[(size_t)i * po + o] = layer->weight[(size_t)o * in + i];
        }
    }
    memcpy(layer->start, layer->bias, sizeof(float) * out);
}

MLP_INLINE void mlp_forward_body(const mlp_layer *layers, int count, const float *x, ptrdiff_t ldx, ptrdiff_t rows) {
    for (ptrdiff_t n = 0; n < rows; n += MLP_BLOCK) {
        ptrdiff_t m = rows - n < MLP_BLOCK ? rows - n : MLP_BLOCK;
        const float *input = x + n * ldx;
        ptrdiff_t ld = ldx;
        for (int k = 0; k < count; k++) {
            const mlp_layer *layer = layers + k;
            ptrdiff_t po = MLP_PAD(layer->num_out);
            float *out = layer->out + n * po;
            mlp_product(m, po, layer->num_in, input, ld, 1, layer->wt, po, out, po, layer->start);
            mlp_activate(layer->activation, out, m * po);
            input = out;
            ld = po;
        }
    }
}

/* Given d [rows, PAD(num_out of the last)], adds to the gradients; d and other are overwritten ([rows, widest]).
 * scratch holds the largest transposed weight gradient. With `inner`, x is padded and its gradient is wanted too: for one
 * layer it is left in other. */
MLP_INLINE void mlp_backward_body(const mlp_layer *layers, int count, const float *x, ptrdiff_t ldx, ptrdiff_t rows,
                                  float *d, float *other, float *scratch, int inner) {
    for (int k = count - 1; k >= 0; k--) {
        const mlp_layer *layer = layers + k;
        ptrdiff_t in = layer->num_in, out = layer->num_out, po = MLP_PAD(out), pi = MLP_PAD(in);
        const float *input = k ? layers[k - 1].out : x;
        ptrdiff_t ld = k ? pi : ldx;
        mlp_deactivate(layer->activation, layer->out, d, rows * po);
        for (ptrdiff_t c = 0; c < po; c += MLP_LANES) {
            mlp_v sum = {0};
            for (ptrdiff_t n = 0; n < rows; n++) {
                sum += mlp_load(d + n * po + c);
            }
            for (ptrdiff_t o = c; o < out && o < c + MLP_LANES; o++) {
                layer->bias_grad[o] += sum[o - c];
            }
        }
        if (out * 4 <= in && (k || inner)) {
            /* Few outputs: their rows of the gradient are the layer's own layout. */
            mlp_product(out, pi, rows, d, 1, po, input, ld, scratch, pi, NULL);
            for (ptrdiff_t o = 0; o < out; o++) {
                for (ptrdiff_t i = 0; i < in; i++) {
                    layer->weight_grad[o * in + i] += scratch[o * pi + i];
                }
            }
        } else {
            mlp_product(in, po, rows, input, 1, ld, d, po, scratch, po, NULL);
            for (ptrdiff_t o = 0; o < out; o++) {
                for (ptrdiff_t i = 0; i < in; i++) {
                    layer->weight_grad[o * in + i] += scratch[i * po + o];
                }
            }
        }
        if (k || inner) {
            mlp_product(rows, pi, out, d, po, 1, layer->w, pi, other, pi, NULL);
            float *swap = d;
            d = other;
            other = swap;
        }
    }
}

#if defined(__x86_64__) && defined(__GNUC__)
#define MLP_TARGETS 3
#define MLP_AVX2 __attribute__((target("avx2")))
#if defined(__clang__)
#define MLP_AVX512 __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw")))
#else
#define MLP_AVX512 __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,prefer-vector-width=512")))
#endif
#define MLP_VERSIONS(name, body, params, args)                       \
    static void name##_base params { body args; }                   \
    MLP_AVX2 static void name##_avx2 params { body args; }          \
    MLP_AVX512 static void name##_avx512 params { body args; }      \
    static void(*const name[3]) params = {name##_base, name##_avx2, name##_avx512};
#else
#define MLP_VERSIONS(name, body, params, args)     \
    static void name##_base params { body args; } \
    static void(*const name[3]) params = {name##_base, name##_base, name##_base};
#endif

MLP_VERSIONS(mlp_forward, mlp_forward_body,
             (const mlp_layer *layers, int count, const float *x, ptrdiff_t ldx, ptrdiff_t rows),
             (layers, count, x, ldx, rows))
MLP_VERSIONS(mlp_backward, mlp_backward_body,
             (const mlp_layer *layers, int count, const float *x, ptrdiff_t ldx, ptrdiff_t rows, float *d, float *other,
              float *scratch, int inner),
             (layers, count, x, ldx, rows, d, other, scratch, inner))

/* The best that this processor has: an index into the arrays above. */
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

#endif
