/* The passes of lstm.h, for one instruction set; see mlp/isa.h. */

#include "../mlp/tile.h"

/* C [m, n] = A [m, depth] B, B in panels. */
MLP_INLINE void MLP_N(lstm_product)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t depth, const float *a, ptrdiff_t lda,
                                    const float *panels, float *c, ptrdiff_t ldc) {
    for (ptrdiff_t j = 0; j < n; j += LSTM_PANEL) {
        MLP_N(mlp_panel)(m, LSTM_PANEL, depth, a, lda, 1, panels + j * depth, LSTM_PANEL, c + j, ldc, NULL, 0);
    }
}

MLP_INLINE MLP_V MLP_N(lstm_sigmoid)(MLP_V x) { return 0.5f * MLP_N(mlp_tanh)(0.5f * x) + 0.5f; }

static MLP_TARGET void MLP_N(lstm_forward)(const lstm_job *job) {
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
        MLP_N(lstm_product)(job->rows, 4 * size, size, state, size, job->panels, sums, 4 * size);
        for (ptrdiff_t r = 0; r < job->rows; r++) {
            float *gates = job->gates + (r * steps + t) * 4 * size, *own = sums + r * 4 * size;
            ptrdiff_t at = (r * steps + t) * size;
            for (ptrdiff_t k = 0; k < size; k += MLP_LANES) {
                MLP_V i = MLP_N(lstm_sigmoid)(MLP_N(mlp_load)(gates + k) + MLP_N(mlp_load)(own + k));
                MLP_V f = MLP_N(lstm_sigmoid)(MLP_N(mlp_load)(gates + size + k) + MLP_N(mlp_load)(own + size + k));
                MLP_V g = MLP_N(mlp_tanh)(MLP_N(mlp_load)(gates + 2 * size + k) + MLP_N(mlp_load)(own + 2 * size + k));
                MLP_V o = MLP_N(lstm_sigmoid)(MLP_N(mlp_load)(gates + 3 * size + k) + MLP_N(mlp_load)(own + 3 * size + k));
                MLP_V c = f * MLP_N(mlp_load)(cell + r * size + k) + i * g;
                MLP_V h = o * MLP_N(mlp_tanh)(c);
                MLP_N(mlp_store)(gates + k, i);
                MLP_N(mlp_store)(gates + size + k, f);
                MLP_N(mlp_store)(gates + 2 * size + k, g);
                MLP_N(mlp_store)(gates + 3 * size + k, o);
                MLP_N(mlp_store)(cell + r * size + k, c);
                MLP_N(mlp_store)(state + r * size + k, h);
                MLP_N(mlp_store)(job->c + at + k, c);
                MLP_N(mlp_store)(job->h + at + k, h);
            }
        }
    }
}

static MLP_TARGET void MLP_N(lstm_backward)(const lstm_job *job) {
    ptrdiff_t size = job->size, steps = job->steps;
    float *flow = job->work;                    /* [R, 4H]: gradient of the gates' sums at this step */
    float *dh = flow + job->rows * 4 * size;    /* [R, H] */
    float *dc = dh + job->rows * size;          /* [R, H] */
    const MLP_V zero = {0}, one = MLP_N(mlp_all)(1.0f);
    memset(dh, 0, sizeof(float) * 2 * job->rows * size);
    for (ptrdiff_t t = steps - 1; t >= 0; t--) {
        for (ptrdiff_t r = 0; r < job->rows; r++) {
            int fresh = job->starts[r * steps + t];
            const float *gates = job->gates + (r * steps + t) * 4 * size;
            float *out = job->gates_grad + (r * steps + t) * 4 * size, *own = flow + r * 4 * size;
            ptrdiff_t at = (r * steps + t) * size;
            const float *earlier = t ? job->c + at - size : job->c0 + r * size;
            for (ptrdiff_t k = 0; k < size; k += MLP_LANES) {
                MLP_V i = MLP_N(mlp_load)(gates + k), f = MLP_N(mlp_load)(gates + size + k);
                MLP_V g = MLP_N(mlp_load)(gates + 2 * size + k), o = MLP_N(mlp_load)(gates + 3 * size + k);
                MLP_V curve = MLP_N(mlp_tanh)(MLP_N(mlp_load)(job->c + at + k));
                MLP_V h_grad = MLP_N(mlp_load)(job->grad + at + k) + MLP_N(mlp_load)(dh + r * size + k);
                MLP_V c_grad = MLP_N(mlp_load)(dc + r * size + k) + h_grad * o * (one - curve * curve);
                MLP_V previous = MLP_N(mlp_load)(earlier + k), carry = c_grad * f;
                if (fresh) {
                    previous = carry = zero;
                }
                MLP_V di = c_grad * g * i * (one - i);
                MLP_V df = c_grad * previous * f * (one - f);
                MLP_V dg = c_grad * i * (one - g * g);
                MLP_V d_o = h_grad * curve * o * (one - o);
                MLP_N(mlp_store)(dc + r * size + k, carry);
                MLP_N(mlp_store)(own + k, di);
                MLP_N(mlp_store)(own + size + k, df);
                MLP_N(mlp_store)(own + 2 * size + k, dg);
                MLP_N(mlp_store)(own + 3 * size + k, d_o);
                MLP_N(mlp_store)(out + k, di);
                MLP_N(mlp_store)(out + size + k, df);
                MLP_N(mlp_store)(out + 2 * size + k, dg);
                MLP_N(mlp_store)(out + 3 * size + k, d_o);
            }
        }
        if (t == 0) {
            break;
        }
        MLP_N(lstm_product)(job->rows, size, 4 * size, flow, 4 * size, job->panels, dh, size);
        for (ptrdiff_t r = 0; r < job->rows; r++) {
            if (job->starts[r * steps + t]) {
                memset(dh + r * size, 0, sizeof(float) * size);
            }
        }
    }
}
