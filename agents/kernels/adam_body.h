/* The loops of adam.h, for one instruction set; see mlp/isa.h. The compiler makes vectors of them. */

MLP_FUNCTION double MLP_N(adam_squares)(const float *grad, ptrdiff_t count) {
    double lanes[ADAM_LANES] = {0}, total = 0.0;
    ptrdiff_t i = 0;
    for (; i + ADAM_LANES <= count; i += ADAM_LANES) {
        for (int j = 0; j < ADAM_LANES; j++) {
            lanes[j] += (double)grad[i + j] * (double)grad[i + j];
        }
    }
    for (; i < count; i++) {
        total += (double)grad[i] * (double)grad[i];
    }
    for (int j = 0; j < ADAM_LANES; j++) {
        total += lanes[j];
    }
    return total;
}

MLP_FUNCTION void MLP_N(adam_update)(float *restrict param, const float *restrict grad, float *restrict first,
                                     float *restrict second, ptrdiff_t count, const adam_rates *rates) {
    const adam_rates r = *rates;
    for (ptrdiff_t i = 0; i < count; i++) {
        float g = grad[i] * r.scale;
        first[i] = r.beta1 * first[i] + r.rest1 * g;
        second[i] = r.beta2 * second[i] + r.rest2 * g * g;
        param[i] = param[i] * r.keep - r.rate * first[i] / (sqrtf(second[i]) * r.root + r.eps);
    }
}
