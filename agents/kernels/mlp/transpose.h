/* Transposing weights in registers, four by four numbers at a time. */
#ifndef PLAYOUT_MLP_TRANSPOSE_H
#define PLAYOUT_MLP_TRANSPOSE_H

#include <stddef.h>

typedef float mlp_quad __attribute__((vector_size(16), aligned(4), may_alias));
#if defined(__clang__)
#define MLP_SHUFFLE(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
typedef int mlp_four __attribute__((vector_size(16)));
#define MLP_SHUFFLE(a, b, i, j, k, l) __builtin_shuffle(a, b, (mlp_four){i, j, k, l})
#endif

/* Transposes four by four numbers. */
static inline void mlp_transpose(const float *from, ptrdiff_t ldf, float *to, ptrdiff_t ldt) {
    mlp_quad a = *(const mlp_quad *)from, b = *(const mlp_quad *)(from + ldf);
    mlp_quad c = *(const mlp_quad *)(from + 2 * ldf), d = *(const mlp_quad *)(from + 3 * ldf);
    mlp_quad ac = MLP_SHUFFLE(a, c, 0, 4, 1, 5), bd = MLP_SHUFFLE(b, d, 0, 4, 1, 5);
    mlp_quad ac2 = MLP_SHUFFLE(a, c, 2, 6, 3, 7), bd2 = MLP_SHUFFLE(b, d, 2, 6, 3, 7);
    *(mlp_quad *)to = MLP_SHUFFLE(ac, bd, 0, 4, 1, 5);
    *(mlp_quad *)(to + ldt) = MLP_SHUFFLE(ac, bd, 2, 6, 3, 7);
    *(mlp_quad *)(to + 2 * ldt) = MLP_SHUFFLE(ac2, bd2, 0, 4, 1, 5);
    *(mlp_quad *)(to + 3 * ldt) = MLP_SHUFFLE(ac2, bd2, 2, 6, 3, 7);
}

#endif
