/* Breakthrough on one kind of word: which pawns can step which way, a step, a random game to its end.
 *
 * Included once for each kind, with table.h at its end unless BT_NEWER; the last two macros and BT are free again then.
 * Before it stand
 *   BT(name)      the name with the kind's prefix
 *   BT_WORD       the unsigned type of a set of cells
 *   BT_BITS(name) playout_bits.h's function for that type
 *   BT_STATE      the state's type
 *   BT_STRIDE     bits from a row to the next; a constant, or a field of `layout`
 *   BT_UPSET      the function that turns a set of cells upside down
 *   BT_NEWER      1 for code for newer processors (playout_bits.h), else 0
 *   BT_TARGET     what then stands in front of functions
 */
PLAYOUT_INLINE BT_TARGET int BT(over)(const bt_layout *layout, const BT_STATE *s) {
    return (s->other & (BT_WORD)layout->bottom) != 0 || !s->own;
}

/* The pawns that can step to the upper left (0), straight up (1), to the upper right (2). */
PLAYOUT_INLINE BT_TARGET void BT(movers)(const bt_layout *layout, BT_WORD own, BT_WORD other, BT_WORD *movers) {
    movers[0] = own & (BT_WORD)layout->not_left & ~(own << (BT_STRIDE + 1));
    movers[1] = own & ~((own | other) << BT_STRIDE);
    movers[2] = own & (BT_WORD)layout->not_right & ~(own << (BT_STRIDE - 1));
}

static BT_TARGET void BT(apply)(const playout_game *game, void *state, int32_t action) {
    const bt_layout *layout = (const bt_layout *)game->context;
    BT_STATE *s = (BT_STATE *)state;
    const int32_t way = (action >= layout->cells) + (action >= 2 * layout->cells);
    const int32_t bit = layout->bit[action - way * layout->cells];
    const BT_WORD to = (BT_WORD)1 << (bit - BT_STRIDE - 1 + way);
    const BT_WORD own = s->own ^ ((BT_WORD)1 << bit) ^ to, other = s->other & ~to;
    s->own = BT_UPSET(layout, other);
    s->other = BT_UPSET(layout, own);
    s->turn ^= 1;
}

static BT_TARGET void BT(playout)(const playout_game *game, const void *state, playout_rng *rng, float *values) {
    const bt_layout *layout = (const bt_layout *)game->context;
    const BT_STATE *s = (const BT_STATE *)state;
    const BT_WORD top = (BT_WORD)layout->top;
    BT_WORD own = s->own, other = s->other;
    uint32_t turn = s->turn;
    int over = BT(over)(layout, s);
    while (!over) {
        BT_WORD movers[3];
        BT(movers)(layout, own, other, movers);
        const int32_t left = BT_BITS(count)(movers[0]), straight = left + BT_BITS(count)(movers[1]);
        const int32_t count = straight + BT_BITS(count)(movers[2]);
        const int32_t k = (int32_t)playout_rng_below(rng, (uint32_t)count);
        const int32_t way = (k >= left) + (k >= straight);
        const int32_t before = k >= straight ? straight : k >= left ? left : 0;
        const BT_WORD from = BT_BITS(pick)(movers[way], k - before, BT_NEWER);
        const BT_WORD to = from >> (BT_STRIDE + 1 - way);
        own ^= from ^ to;
        other &= ~to;
        over = (to & top) != 0 || !other;
        const BT_WORD waits = BT_UPSET(layout, own);
        own = BT_UPSET(layout, other);
        other = waits;
        turn ^= 1;
    }
    values[turn] = -1.0f; /* who has just moved has won */
    values[1 - turn] = 1.0f;
}

#if !BT_NEWER
#include "table.h"
#endif

#undef BT
#undef BT_NEWER
#undef BT_TARGET
