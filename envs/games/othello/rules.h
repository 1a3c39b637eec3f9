/* Othello on one kind of word: which cells take a disc, which discs it turns, a random game to its end.
 *
 * Included once for each kind, with table.h at its end unless OTH_NEWER; the last two macros and OTH are free again then.
 * Before it stand
 *   OTH(name)      the name with the kind's prefix
 *   OTH_WORD       the unsigned type of a set of cells
 *   OTH_BITS(name) playout_bits.h's function for that type
 *   OTH_STATE      the state's type
 *   OTH_STRIDE     bits from a cell to the one below; a smaller board lies in the middle of one of this side
 *   OTH_INNER      the cells that are in neither the first nor the last column of that
 *   OTH_NEWER      1 for code for newer processors (playout_bits.h), else 0
 *   OTH_TARGET     what then stands in front of functions
 * Discs lie on the board only, so no run of discs leaves a smaller board: the rules need to know its cells only to find
 * free ones.
 */
#if OTH_NEWER && OTH_STRIDE == 8
/* Four directions at once, one a lane: right, down, down left, down right; shifted back they are the other four. */
typedef uint64_t OTH(lanes) __attribute__((vector_size(32)));

PLAYOUT_INLINE OTH_TARGET OTH(lanes) OTH(run_down)(OTH(lanes) from, OTH(lanes) between, OTH(lanes) by) {
    OTH(lanes) run = (from << by) & between;
    run |= (run << by) & between;
    between &= between << by;
    run |= (run << (by + by)) & between;
    return run | ((run << (by + by)) & between);
}

PLAYOUT_INLINE OTH_TARGET OTH(lanes) OTH(run_up)(OTH(lanes) from, OTH(lanes) between, OTH(lanes) by) {
    OTH(lanes) run = (from >> by) & between;
    run |= (run >> by) & between;
    between &= between >> by;
    run |= (run >> (by + by)) & between;
    return run | ((run >> (by + by)) & between);
}

#define OTH_BY {1, 8, 7, 9}
#define OTH_BETWEEN(other) {(other) & OTH_INNER, (other), (other) & OTH_INNER, (other) & OTH_INNER}

PLAYOUT_INLINE OTH_TARGET uint64_t OTH(moves)(uint64_t own, uint64_t other, uint64_t board) {
    const OTH(lanes) by = OTH_BY, from = {own, own, own, own}, between = OTH_BETWEEN(other);
    const OTH(lanes) ends = (OTH(run_down)(from, between, by) << by) | (OTH(run_up)(from, between, by) >> by);
    return (ends[0] | ends[1] | ends[2] | ends[3]) & board & ~(own | other);
}

PLAYOUT_INLINE OTH_TARGET uint64_t OTH(turned)(uint64_t own, uint64_t other, uint64_t disc) {
    const OTH(lanes) by = OTH_BY, from = {disc, disc, disc, disc}, between = OTH_BETWEEN(other);
    const OTH(lanes) ends = {own, own, own, own};
    const OTH(lanes) down = OTH(run_down)(from, between, by), up = OTH(run_up)(from, between, by);
    const OTH(lanes) found = (down & (OTH(lanes))(((down << by) & ends) != 0)) |
                             (up & (OTH(lanes))(((up >> by) & ends) != 0));
    return found[0] | found[1] | found[2] | found[3];
}
#undef OTH_BY
#undef OTH_BETWEEN

#else
/* The run of discs in `between` that starts beside `from`, one direction: doubled steps, up to a whole row. */
#if OTH_STRIDE > 8
#define OTH_LAST_STEP(SHIFT, by) run |= (run SHIFT(2 * (by))) & between;
#else
#define OTH_LAST_STEP(SHIFT, by)
#endif
#define OTH_RUN(SHIFT, by, from, cells, FOUND)           \
    {                                                    \
        OTH_WORD between = cells;                        \
        OTH_WORD run = ((from)SHIFT(by)) & between;      \
        run |= (run SHIFT(by)) & between;                \
        between &= between SHIFT(by);                    \
        run |= (run SHIFT(2 * (by))) & between;          \
        run |= (run SHIFT(2 * (by))) & between;          \
        OTH_LAST_STEP(SHIFT, by)                         \
        FOUND(run, run SHIFT(by))                        \
    }
#define OTH_EACH(from, FOUND)                                     \
    OTH_RUN(<<, 1, from, inner, FOUND)                            \
    OTH_RUN(>>, 1, from, inner, FOUND)                            \
    OTH_RUN(<<, OTH_STRIDE, from, other, FOUND)                   \
    OTH_RUN(>>, OTH_STRIDE, from, other, FOUND)                   \
    OTH_RUN(<<, OTH_STRIDE - 1, from, inner, FOUND)               \
    OTH_RUN(>>, OTH_STRIDE - 1, from, inner, FOUND)               \
    OTH_RUN(<<, OTH_STRIDE + 1, from, inner, FOUND)               \
    OTH_RUN(>>, OTH_STRIDE + 1, from, inner, FOUND)

PLAYOUT_INLINE OTH_TARGET OTH_WORD OTH(moves)(OTH_WORD own, OTH_WORD other, OTH_WORD board) {
    const OTH_WORD inner = other & OTH_INNER;
    OTH_WORD found = 0;
#define OTH_FOUND(run, end) found |= end;
    OTH_EACH(own, OTH_FOUND)
#undef OTH_FOUND
    return found & board & ~(own | other);
}

PLAYOUT_INLINE OTH_TARGET OTH_WORD OTH(turned)(OTH_WORD own, OTH_WORD other, OTH_WORD disc) {
    const OTH_WORD inner = other & OTH_INNER;
    OTH_WORD found = 0;
#define OTH_FOUND(run, end) found |= (run) & (0 - (OTH_WORD)(((end) & own) != 0));
    OTH_EACH(disc, OTH_FOUND)
#undef OTH_FOUND
    return found;
}
#undef OTH_EACH
#undef OTH_RUN
#undef OTH_LAST_STEP
#endif

static OTH_TARGET void OTH(apply)(const playout_game *game, void *state, int32_t action) {
    const oth_layout *layout = (const oth_layout *)game->context;
    OTH_STATE *s = (OTH_STATE *)state;
    const OTH_WORD board = (OTH_WORD)layout->board;
    OTH_WORD own = s->own, other = s->other;
    if (action < layout->cells) {
        const OTH_WORD disc = (OTH_WORD)1 << layout->bit[action];
        const OTH_WORD turned = OTH(turned)(own, other, disc);
        own |= disc | turned;
        other ^= turned;
    }
    s->own = other;
    s->other = own;
    s->turn ^= 1;
    s->moves = OTH(moves)(other, own, board);
    s->over = !s->moves && !OTH(moves)(own, other, board);
}

static OTH_TARGET void OTH(playout)(const playout_game *game, const void *state, playout_rng *rng, float *values) {
    const OTH_STATE *s = (const OTH_STATE *)state;
    const OTH_WORD board = (OTH_WORD)((const oth_layout *)game->context)->board;
    OTH_WORD own = s->own, other = s->other, moves = s->moves;
    uint32_t turn = s->turn;
    for (int32_t passed = 0; passed < 2;) {
        OTH_WORD mine = own;
        passed++;
        if (moves) {
            const int32_t k = (int32_t)playout_rng_below(rng, (uint32_t)OTH_BITS(count)(moves));
            const OTH_WORD disc = OTH_BITS(pick)(moves, k, OTH_NEWER);
            const OTH_WORD turned = OTH(turned)(own, other, disc);
            mine |= disc | turned;
            other ^= turned;
            passed = 0;
        }
        own = other;
        other = mine;
        turn ^= 1;
        moves = OTH(moves)(own, other, board);
    }
    const int32_t margin = OTH_BITS(count)(own) - OTH_BITS(count)(other);
    values[turn] = (float)((margin > 0) - (margin < 0));
    values[1 - turn] = 0.0f - values[turn];
}

#if !OTH_NEWER
#include "table.h"
#endif

#undef OTH
#undef OTH_NEWER
#undef OTH_TARGET
