/* Attention for one instruction set; see attention.h, and agents/kernels/mlp/isa.h for the names.
 *
 * Right-hand sides of products are packed in panels of 32 columns; what stands beyond the last key or
 * number of a head is zero.
 */

#include "../../../agents/kernels/mlp/tile.h"

/* `count` numbers of a tensor from `at` on, as floats. */
MLP_INLINE void MLP_N(playout_read)(const playout_attention *a, const void *tensor, int64_t at, float *to, int64_t count) {
    if (a->bf16) {
        const playout_bf16 *from = (const playout_bf16 *)tensor + at;
        for (int64_t i = 0; i < count; i++) to[i] = playout_load_bf16(from[i]);
    } else {
        memcpy(to, (const float *)tensor + at, sizeof(float) * (size_t)count);
    }
}

MLP_INLINE void MLP_N(playout_write)(const playout_attention *a, void *tensor, int64_t at, const float *from, float factor,
                                     int64_t count) {
    if (a->bf16) {
        playout_bf16 *to = (playout_bf16 *)tensor + at;
        for (int64_t i = 0; i < count; i++) to[i] = playout_store_bf16(from[i] * factor);
    } else {
        float *to = (float *)tensor + at;
        for (int64_t i = 0; i < count; i++) to[i] = from[i] * factor;
    }
}

/* Rows [rows, size] of a tensor, transposed in panels of 32 rows: to[row / 32][number][row % 32]; lines is for 4 rows. */
MLP_FUNCTION void MLP_N(playout_pack_across)(const playout_attention *a, const void *tensor, int64_t at, float *to, int64_t rows,
                                             float *lines) {
    int64_t size = a->size;
    for (int64_t first = 0; first < playout_padded(rows); first += 4) {
        float *panel = to + first / PLAYOUT_PANEL * PLAYOUT_PANEL * size + first % PLAYOUT_PANEL;
        int64_t here = rows - first < 4 ? rows - first : 4, d = 0;
        if (here < 4) memset(lines, 0, sizeof(float) * (size_t)(4 * size));
        if (here > 0) MLP_N(playout_read)(a, tensor, at + first * size, lines, here * size);
        for (; d + 4 <= size; d += 4) mlp_transpose(lines + d, size, panel + d * PLAYOUT_PANEL, PLAYOUT_PANEL);
        for (; d < size; d++)
            for (int64_t r = 0; r < 4; r++) panel[d * PLAYOUT_PANEL + r] = lines[r * size + d];
    }
}

/* Rows [rows, size] of a tensor, in panels of 32 numbers: to[number / 32][row][number % 32]. */
MLP_FUNCTION void MLP_N(playout_pack_along)(const playout_attention *a, const void *tensor, int64_t at, float *to, int64_t rows) {
    for (int64_t first = 0; first < a->size; first += PLAYOUT_PANEL, to += PLAYOUT_PANEL * rows) {
        int64_t count = a->size - first < PLAYOUT_PANEL ? a->size - first : PLAYOUT_PANEL;
        for (int64_t r = 0; r < rows; r++) {
            MLP_N(playout_read)(a, tensor, at + r * a->size + first, to + r * PLAYOUT_PANEL, count);
            for (int64_t d = count; d < PLAYOUT_PANEL; d++) to[r * PLAYOUT_PANEL + d] = 0.0f;
        }
    }
}

/* scores [rows, keys] = x [rows, size] times packed keys. */
MLP_INLINE void MLP_N(playout_scores)(const playout_attention *a, const float *x, const float *packed, float *scores,
                                      int64_t rows, int64_t keys) {
    int64_t row = playout_score_row(a->length);
    for (int64_t j = 0; j < keys; j += PLAYOUT_PANEL)
        MLP_N(mlp_panel)(rows, playout_columns(keys - j), a->size, x, a->size, 1, packed + j * a->size, PLAYOUT_PANEL,
                         scores + j, row, NULL, 0);
}

/* y [rows, size padded] = (y +) x times the first `depth` of `all` rows packed along; x by its two strides. */
MLP_INLINE void MLP_N(playout_mix)(const playout_attention *a, const float *x, int64_t by_row, int64_t by_depth,
                                   const float *packed, int64_t all, float *y, int64_t rows, int64_t depth, int more) {
    int64_t padded = playout_padded(a->size);
    for (int64_t d = 0; d < a->size; d += PLAYOUT_PANEL)
        MLP_N(mlp_panel)(rows, playout_columns(a->size - d), depth, x, by_row, by_depth, packed + d * all, PLAYOUT_PANEL,
                         y + d, padded, more ? y + d : NULL, more ? padded : 0);
}

/* The keys [*first, end) that a query may see but for the mask, which is that of its row, or NULL. */
MLP_INLINE int64_t MLP_N(playout_seen)(const playout_attention *a, int64_t batch, int64_t query, int64_t *first,
                                       const unsigned char **mask) {
    *mask = a->mask ? a->mask + (batch * a->mask_rows + (a->mask_rows > 1 ? query : 0)) * a->length : NULL;
    *first = a->window && query >= a->window ? query + 1 - a->window : 0;
    return a->causal ? query + 1 : a->length;
}

/* Scores of one query to e^(score - top), and their sum; zero where it does not look, up to `keys`, and beyond for a
 * whole vector. */
MLP_FUNCTION float MLP_N(playout_weigh)(float *x, const unsigned char *mask, int64_t first, int64_t end, int64_t keys,
                                        float scale, float *top) {
    const playout_v never = -INFINITY - (playout_v){0}, zero = {0};
    playout_v most = never, sum = {0};
    playout_limit(x, first, end, keys, -INFINITY);
    if (mask)
        for (int64_t j = first; j < end; j++) x[j] = mask[j] ? x[j] : -INFINITY;
    for (int64_t j = 0; j < keys; j += 16) {
        playout_v s = playout_get_f32(x + j);
        most = playout_pick((playout_vi)(s > most), s, most);
    }
    *top = playout_most_of(most) * scale;
    playout_v offset = (*top > -INFINITY ? *top : 0.0f) - zero;
    for (int64_t j = 0; j < keys; j += 16) {
        playout_v s = playout_get_f32(x + j), w = playout_exps(s * scale - offset);
        w = playout_pick((playout_vi)(s == never), zero, w);
        playout_put_f32(x + j, w);
        sum += w;
    }
    return playout_sum_of(sum);
}

static MLP_TARGET void MLP_N(playout_forward)(playout_attention *a, int64_t begin, int64_t end) {
    int64_t length = a->length, size = a->size, padded = playout_padded(size), row = playout_score_row(length);
    int64_t group = a->heads / a->kv_heads, wide = playout_padded(length);
    float *memory = playout_floats(wide * size + length * padded + PLAYOUT_QUERIES * (size + row + padded) + 4 * size);
    if (!memory) {
        a->failed = 1;
        return;
    }
    float *keys = memory, *values = keys + wide * size, *scores = values + length * padded;
    float *x = scores + PLAYOUT_QUERIES * row, *y = x + PLAYOUT_QUERIES * size, *lines = y + PLAYOUT_QUERIES * padded;
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t batch = unit / a->kv_heads, from = unit * length * size;
        MLP_N(playout_pack_across)(a, a->k, from, keys, length, lines);
        MLP_N(playout_pack_along)(a, a->v, from, values, length);
        for (int64_t h = unit * group; h < (unit + 1) * group; h++)
            for (int64_t start = 0; start < length; start += PLAYOUT_QUERIES) {
                int64_t rows = length - start < PLAYOUT_QUERIES ? length - start : PLAYOUT_QUERIES;
                int64_t limit = a->causal ? start + rows : length, at = h * length + start;
                const unsigned char *mask;
                float factors[PLAYOUT_QUERIES];
                MLP_N(playout_read)(a, a->q, at * size, x, rows * size);
                MLP_N(playout_scores)(a, x, keys, scores, rows, limit);
                for (int64_t r = 0; r < rows; r++) {
                    int64_t first, last = MLP_N(playout_seen)(a, batch, start + r, &first, &mask);
                    float top, sum = MLP_N(playout_weigh)(scores + r * row, mask, first, last, limit, a->scale, &top);
                    factors[r] = sum == 0.0f ? 1.0f : 1.0f / sum;
                    a->lse[at + r] = sum == 0.0f ? INFINITY : top + logf(sum);
                }
                MLP_N(playout_mix)(a, scores, row, 1, values, length, y, rows, limit, 0);
                for (int64_t r = 0; r < rows; r++)
                    MLP_N(playout_write)(a, a->out, (at + r) * size, y + r * padded, factors[r], size);
            }
    }
    free(memory);
}

/* From one query's scores and the gradients of its weights: its weights, and the gradients of its scores. */
MLP_FUNCTION void MLP_N(playout_weigh_back)(float *x, float *grad, const unsigned char *mask, int64_t first, int64_t end,
                                            int64_t keys, float scale, float lse) {
    const playout_v never = -INFINITY - (playout_v){0}, zero = {0};
    playout_v sum = {0};
    if (lse == INFINITY) end = first; /* it sees nothing */
    playout_limit(x, first, end, keys, -INFINITY);
    playout_limit(grad, first, end, keys, 0.0f);
    if (mask)
        for (int64_t j = first; j < end; j++) x[j] = mask[j] ? x[j] : -INFINITY;
    for (int64_t j = 0; j < keys; j += 16) {
        playout_v s = playout_get_f32(x + j), w = playout_exps(s * scale - lse);
        w = playout_pick((playout_vi)(s == never), zero, w);
        playout_put_f32(x + j, w);
        sum += w * playout_get_f32(grad + j);
    }
    playout_v along = playout_sum_of(sum) - zero;
    for (int64_t j = 0; j < keys; j += 16)
        playout_put_f32(grad + j, playout_get_f32(x + j) * (playout_get_f32(grad + j) - along) * scale);
}

static MLP_TARGET void MLP_N(playout_backward)(playout_attention *a, int64_t begin, int64_t end) {
    int64_t length = a->length, size = a->size, padded = playout_padded(size), row = playout_score_row(length);
    int64_t group = a->heads / a->kv_heads, wide = playout_padded(length);
    float *memory = playout_floats(2 * wide * size + 3 * length * padded + 2 * PLAYOUT_QUERIES * (size + row + padded) +
                                   PLAYOUT_QUERIES * padded + 4 * size);
    if (!memory) {
        a->failed = 1;
        return;
    }
    float *keys = memory, *values = keys + wide * size;                        /* packed across */
    float *along = values + wide * size, *by_k = along + length * padded, *by_v = by_k + length * padded;
    float *scores = by_v + length * padded, *inner = scores + PLAYOUT_QUERIES * row;
    float *x = inner + PLAYOUT_QUERIES * row, *d = x + PLAYOUT_QUERIES * size; /* queries and gradients by rows ... */
    float *px = d + PLAYOUT_QUERIES * size, *pd = px + PLAYOUT_QUERIES * padded; /* ... and in panels */
    float *y = pd + PLAYOUT_QUERIES * padded, *lines = y + PLAYOUT_QUERIES * padded;
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t batch = unit / a->kv_heads, from = unit * length * size;
        MLP_N(playout_pack_across)(a, a->k, from, keys, length, lines);
        MLP_N(playout_pack_across)(a, a->v, from, values, length, lines);
        MLP_N(playout_pack_along)(a, a->k, from, along, length);
        memset(by_k, 0, sizeof(float) * (size_t)(2 * length * padded));
        for (int64_t h = unit * group; h < (unit + 1) * group; h++)
            for (int64_t start = 0; start < length; start += PLAYOUT_QUERIES) {
                int64_t rows = length - start < PLAYOUT_QUERIES ? length - start : PLAYOUT_QUERIES;
                int64_t limit = a->causal ? start + rows : length, at = h * length + start;
                const unsigned char *mask;
                MLP_N(playout_read)(a, a->q, at * size, x, rows * size);
                MLP_N(playout_read)(a, a->grad, at * size, d, rows * size);
                MLP_N(playout_pack_along)(a, a->q, at * size, px, rows);
                MLP_N(playout_pack_along)(a, a->grad, at * size, pd, rows);
                MLP_N(playout_scores)(a, x, keys, scores, rows, limit);
                MLP_N(playout_scores)(a, d, values, inner, rows, limit);
                for (int64_t r = 0; r < rows; r++) {
                    int64_t first, last = MLP_N(playout_seen)(a, batch, start + r, &first, &mask);
                    MLP_N(playout_weigh_back)(scores + r * row, inner + r * row, mask, first, last, limit, a->scale,
                                              a->lse[at + r]);
                }
                MLP_N(playout_mix)(a, scores, 1, row, pd, rows, by_v, limit, rows, 1);
                MLP_N(playout_mix)(a, inner, 1, row, px, rows, by_k, limit, rows, 1);
                MLP_N(playout_mix)(a, inner, row, 1, along, length, y, rows, limit, 0);
                for (int64_t r = 0; r < rows; r++)
                    MLP_N(playout_write)(a, a->by_q, (at + r) * size, y + r * padded, 1.0f, size);
            }
        for (int64_t r = 0; r < length; r++) {
            MLP_N(playout_write)(a, a->by_k, from + r * size, by_k + r * padded, 1.0f, size);
            MLP_N(playout_write)(a, a->by_v, from + r * size, by_v + r * padded, 1.0f, size);
        }
    }
    free(memory);
}
