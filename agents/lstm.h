/* The recurrence of an LSTM over rows of steps with resets anywhere, forward and backward, in float32 on one core.
 *
 * Everything that is one large product over all steps (inputs, gradients of the weights) is left to the caller; here
 * stands what must go step by step: h W^T and its transpose, gates, cells. Weights are packed in panels of 32 columns,
 * which the register tiles of mlp.h read in order. Gates lie side by side as torch has them: in, forget, cell, out.
 */
#ifndef PLAYOUT_LSTM_H
#define PLAYOUT_LSTM_H

#include "mlp.h"

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

/* Columns of B [depth, n] (n a multiple of 32) as panels [n / 32][depth][32]. */
static inline void lstm_pack(const float *b, ptrdiff_t depth, ptrdiff_t n, ptrdiff_t row, ptrdiff_t column, float *out) {
    for (ptrdiff_t j = 0; j < n; j += LSTM_PANEL) {
        for (ptrdiff_t k = 0; k < depth; k++) {
            for (ptrdiff_t l = 0; l < LSTM_PANEL; l++) {
                *out++ = b[k * row + (j + l) * column];
            }
        }
    }
}

/* C [m, n] = A [m, depth] B, B in panels; with 32 wide registers a tile of 8 rows reads B half as often. */
MLP_INLINE void lstm_product(int many, ptrdiff_t m, ptrdiff_t n, ptrdiff_t depth, const float *a, ptrdiff_t lda, const float *panels,
                             float *c, ptrdiff_t ldc) {
    for (ptrdiff_t j = 0; j < n; j += LSTM_PANEL) {
        const float *b = panels + j * depth;
        ptrdiff_t i = 0;
        for (; many && i + 8 <= m; i += 8) {
            mlp_tile(8, 2, depth, a + i * lda, lda, 1, b, LSTM_PANEL, c + i * ldc + j, ldc, NULL);
        }
        for (; i + 4 <= m; i += 4) {
            mlp_tile(4, 2, depth, a + i * lda, lda, 1, b, LSTM_PANEL, c + i * ldc + j, ldc, NULL);
        }
        for (; i + 2 <= m; i += 2) {
            mlp_tile(2, 2, depth, a + i * lda, lda, 1, b, LSTM_PANEL, c + i * ldc + j, ldc, NULL);
        }
        for (; i < m; i++) {
            mlp_tile(1, 2, depth, a + i * lda, lda, 1, b, LSTM_PANEL, c + i * ldc + j, ldc, NULL);
        }
    }
}

MLP_INLINE mlp_v lstm_sigmoid(mlp_v x) { return 0.5f * mlp_tanh(0.5f * x) + 0.5f; }

MLP_INLINE void lstm_forward_body(int many, const lstm_job *job) {
    ptrdiff_t size = job->size, steps = job->steps;
    float *sums = job->work;             /* [R, 4H] */
    float *state = sums + job->rows * 4 * size; /* [R, H]: h */
    float *cell = state + job->rows * size;     /* [R, H]: c */
    memcpy(state, job->h0, sizeof(float) * job->rows * size);
    memcpy(cell, job->c0, sizeof(float) * job->rows * size);
    for (ptrdiff_t t = 0; t < steps; t++) {
        for (ptrdiff_t r = 0; r < job->rows; r++) {
            if (job->starts[r * steps + t]) {
                memset(state + r * size, 0, sizeof(float) * size);
                memset(cell + r * size, 0, sizeof(float) * size);
            }
            memcpy(job->before + (r * steps + t) * size, state + r * size, sizeof(float) * size);
        }
        lstm_product(many, job->rows, 4 * size, size, state, size, job->panels, sums, 4 * size);
        for (ptrdiff_t r = 0; r < job->rows; r++) {
            float *gates = job->gates + (r * steps + t) * 4 * size, *own = sums + r * 4 * size;
            ptrdiff_t at = (r * steps + t) * size;
            for (ptrdiff_t k = 0; k < size; k += MLP_LANES) {
                mlp_v i = lstm_sigmoid(mlp_load(gates + k) + mlp_load(own + k));
                mlp_v f = lstm_sigmoid(mlp_load(gates + size + k) + mlp_load(own + size + k));
                mlp_v g = mlp_tanh(mlp_load(gates + 2 * size + k) + mlp_load(own + 2 * size + k));
                mlp_v o = lstm_sigmoid(mlp_load(gates + 3 * size + k) + mlp_load(own + 3 * size + k));
                mlp_v c = f * mlp_load(cell + r * size + k) + i * g;
                mlp_v h = o * mlp_tanh(c);
                mlp_store(gates + k, i);
                mlp_store(gates + size + k, f);
                mlp_store(gates + 2 * size + k, g);
                mlp_store(gates + 3 * size + k, o);
                mlp_store(cell + r * size + k, c);
                mlp_store(state + r * size + k, h);
                mlp_store(job->c + at + k, c);
                mlp_store(job->h + at + k, h);
            }
        }
    }
}

MLP_INLINE void lstm_backward_body(int many, const lstm_job *job) {
    ptrdiff_t size = job->size, steps = job->steps;
    float *flow = job->work;                    /* [R, 4H]: gradient of the gates' sums at this step */
    float *dh = flow + job->rows * 4 * size;    /* [R, H] */
    float *dc = dh + job->rows * size;          /* [R, H] */
    const mlp_v zero = {0}, one = mlp_all(1.0f);
    memset(dh, 0, sizeof(float) * 2 * job->rows * size);
    for (ptrdiff_t t = steps - 1; t >= 0; t--) {
        for (ptrdiff_t r = 0; r < job->rows; r++) {
            int fresh = job->starts[r * steps + t];
            const float *gates = job->gates + (r * steps + t) * 4 * size;
            float *out = job->gates_grad + (r * steps + t) * 4 * size, *own = flow + r * 4 * size;
            ptrdiff_t at = (r * steps + t) * size;
            const float *earlier = t ? job->c + at - size : job->c0 + r * size;
            for (ptrdiff_t k = 0; k < size; k += MLP_LANES) {
                mlp_v i = mlp_load(gates + k), f = mlp_load(gates + size + k);
                mlp_v g = mlp_load(gates + 2 * size + k), o = mlp_load(gates + 3 * size + k);
                mlp_v curve = mlp_tanh(mlp_load(job->c + at + k));
                mlp_v h_grad = mlp_load(job->grad + at + k) + mlp_load(dh + r * size + k);
                mlp_v c_grad = mlp_load(dc + r * size + k) + h_grad * o * (one - curve * curve);
                mlp_v previous = mlp_load(earlier + k), carry = c_grad * f;
                if (fresh) {
                    previous = carry = zero;
                }
                mlp_v di = c_grad * g * i * (one - i);
                mlp_v df = c_grad * previous * f * (one - f);
                mlp_v dg = c_grad * i * (one - g * g);
                mlp_v d_o = h_grad * curve * o * (one - o);
                mlp_store(dc + r * size + k, carry);
                mlp_store(own + k, di);
                mlp_store(own + size + k, df);
                mlp_store(own + 2 * size + k, dg);
                mlp_store(own + 3 * size + k, d_o);
                mlp_store(out + k, di);
                mlp_store(out + size + k, df);
                mlp_store(out + 2 * size + k, dg);
                mlp_store(out + 3 * size + k, d_o);
            }
        }
        if (t == 0) {
            break;
        }
        lstm_product(many, job->rows, size, 4 * size, flow, 4 * size, job->panels, dh, size);
        for (ptrdiff_t r = 0; r < job->rows; r++) {
            if (job->starts[r * steps + t]) {
                memset(dh + r * size, 0, sizeof(float) * size);
            }
        }
    }
}

#if defined(__x86_64__) && defined(__GNUC__)
#define LSTM_VERSIONS(name)                                                                \
    static void name##_base(const lstm_job *job) { name##_body(0, job); }                  \
    MLP_AVX2 static void name##_avx2(const lstm_job *job) { name##_body(0, job); }         \
    MLP_AVX512 static void name##_avx512(const lstm_job *job) { name##_body(1, job); }     \
    static void (*const name[3])(const lstm_job *) = {name##_base, name##_avx2, name##_avx512};
#else
#define LSTM_VERSIONS(name)                                                \
    static void name##_base(const lstm_job *job) { name##_body(1, job); } \
    static void (*const name[3])(const lstm_job *) = {name##_base, name##_base, name##_base};
#endif

LSTM_VERSIONS(lstm_forward)
LSTM_VERSIONS(lstm_backward)

#endif
