/* Legal moves of chess, found without trying any: what checks and pins allow is known before a move is written.
 *
 * The board is seen by the side to move, which goes up: black's is turned upside down, rank 8 first. One generator then
 * serves both sides, and equal positions of black and white are equal bytes.
 */
#ifndef PLAYOUT_CHESS_MOVES_H
#define PLAYOUT_CHESS_MOVES_H

#include "attacks.h"

enum { CHESS_NONE = 0, CHESS_PAWN = 1, CHESS_KNIGHT = 2, CHESS_KING = 3, CHESS_BISHOP = 5, CHESS_ROOK = 6, CHESS_QUEEN = 7 };

static const char CHESS_LETTERS[] = ".PNK.BRQ"; /* by number */

/* A piece's number lies in three planes. Bit 2 says that it slides, bit 0 of those along diagonals, bit 1 straight. */
typedef struct chess_board {
    uint64_t own; /* pieces of the side to move */
    uint64_t plane[3];
} chess_board;

/* Castling rights by the rook: own h1 and a1, the other's h8 and a8, all as the mover sees the board. */
enum { CHESS_OWN_SHORT = 1, CHESS_OWN_LONG = 2, CHESS_OTHER_SHORT = 4, CHESS_OTHER_LONG = 8 };

#define CHESS_NO_FILE 8 /* no pawn can be taken en passant */

static inline uint64_t chess_occupied(const chess_board *b) { return b->plane[0] | b->plane[1] | b->plane[2]; }
static inline uint64_t chess_pawns(const chess_board *b) { return b->plane[0] & ~b->plane[1] & ~b->plane[2]; }
static inline uint64_t chess_horses(const chess_board *b) { return b->plane[1] & ~b->plane[0] & ~b->plane[2]; }
static inline uint64_t chess_kings(const chess_board *b) { return b->plane[0] & b->plane[1] & ~b->plane[2]; }
static inline uint64_t chess_diagonals(const chess_board *b) { return b->plane[2] & b->plane[0]; } /* with queens */
static inline uint64_t chess_straights(const chess_board *b) { return b->plane[2] & b->plane[1]; } /* with queens */

static inline int chess_at(const chess_board *b, int square) {
    return (int)(((b->plane[0] >> square) & 1) | ((b->plane[1] >> square) & 1) << 1 | ((b->plane[2] >> square) & 1) << 2);
}

static inline int chess_own_king(const chess_board *b) { return __builtin_ctzll(chess_kings(b) & b->own); }

/* The other side's pieces that attack `square`, were the board occupied so. */
static inline uint64_t chess_attackers(const chess_tables *t, const chess_board *b, int square, uint64_t occupied) {
    const uint64_t other = occupied & ~b->own;
    const uint64_t straights = chess_straights(b) & other, diagonals = chess_diagonals(b) & other;
    uint64_t found = (t->knight[square] & chess_horses(b)) | (t->pawn[square] & chess_pawns(b)) |
                     (t->king[square] & chess_kings(b));
    if ((t->line[square][CHESS_FILE] | t->line[square][CHESS_RANK]) & straights)
        found |= chess_straight(t, occupied, (uint64_t)square) & straights;
    if ((t->line[square][CHESS_DIAGONAL] | t->line[square][CHESS_ANTI]) & diagonals)
        found |= chess_diagonal(t, occupied, (uint64_t)square) & diagonals;
    return found & other;
}

static inline uint64_t chess_checkers(const chess_tables *t, const chess_board *b) {
    return chess_attackers(t, b, chess_own_king(b), chess_occupied(b));
}

/* Squares that the other side attacks, the own king looked through. */
static inline uint64_t chess_danger(const chess_tables *t, const chess_board *b, uint64_t king) {
    const uint64_t occupied = chess_occupied(b) ^ king, other = occupied & ~b->own;
    uint64_t found = chess_pawns_down(chess_pawns(b) & other) | chess_knights(chess_horses(b) & other) |
                     t->king[__builtin_ctzll(chess_kings(b) & other)];
    for (uint64_t left = chess_straights(b) & other; left; left &= left - 1)
        found |= chess_straight(t, occupied, (uint64_t)__builtin_ctzll(left));
    for (uint64_t left = chess_diagonals(b) & other; left; left &= left - 1)
        found |= chess_diagonal(t, occupied, (uint64_t)__builtin_ctzll(left));
    return found;
}

/* What stands between the king and sliding pieces: pinned[line] of the own pieces, and the checks. */
typedef struct chess_pins {
    uint64_t pinned[4], all; /* by the line along which the piece may still move */
    uint64_t checkers;
    uint64_t target; /* where a move ends that stops the check: all squares without a check, none of two */
} chess_pins;

static inline void chess_find_pins(const chess_tables *t, const chess_board *b, int king, chess_pins *pins) {
    const uint64_t occupied = chess_occupied(b), other = occupied & ~b->own, bit = CHESS_BIT(king);
    const uint64_t straights = chess_straights(b) & other, diagonals = chess_diagonals(b) & other;
    memset(pins, 0, sizeof *pins);
    pins->checkers = ((t->knight[king] & chess_horses(b)) | (t->pawn[king] & chess_pawns(b))) & other;
    pins->target = pins->checkers;
    for (int line = 0; line < 4; line++) {
        const uint64_t sliders = (line == CHESS_FILE || line == CHESS_RANK ? straights : diagonals) & t->line[king][line];
        if (!sliders) continue;
        const uint64_t seen = chess_along(t, occupied, (uint64_t)king, line);
        const uint64_t behind = chess_along(t, occupied & ~(seen & b->own), (uint64_t)king, line) & sliders & ~seen;
        const uint64_t checkers = seen & sliders, below = bit - 1;
        if (checkers) { /* two on one line at most in positions that play cannot reach */
            pins->checkers |= checkers;
            if (checkers & below) pins->target |= seen & below;
            if (checkers & ~below) pins->target |= seen & ~below;
        }
        if (behind & below) pins->pinned[line] |= seen & b->own & below;
        if (behind & ~below) pins->pinned[line] |= seen & b->own & ~below;
        pins->all |= pins->pinned[line];
    }
    if (!pins->checkers)
        pins->target = ~UINT64_C(0);
    else if (pins->checkers & (pins->checkers - 1))
        pins->target = 0;
}

static inline uint64_t chess_pin_line(const chess_tables *t, const chess_pins *pins, int king, uint64_t bit) {
    int line = 0;
    while (!(pins->pinned[line] & bit)) line++;
    return t->line[king][line];
}

/* May the pawn on `from` take the pawn of `file` that has just passed it? */
static inline int chess_en_passant(const chess_tables *t, const chess_board *b, int from, int file) {
    const uint64_t taken = CHESS_BIT(32 + file), moved = CHESS_BIT(40 + file);
    const uint64_t after = (chess_occupied(b) & ~CHESS_BIT(from) & ~taken) | moved;
    return !(chess_attackers(t, b, chess_own_king(b), after) & ~moved & ~taken);
}

/* Own pawns beside the pawn of `file` on the fifth rank. */
static inline uint64_t chess_beside(const chess_board *b, int file) {
    const uint64_t taken = CHESS_BIT(32 + file);
    return (((taken & ~CHESS_FILE_A) >> 1) | ((taken & ~CHESS_FILE_H) << 1)) & b->own & chess_pawns(b);
}

/* Can the pawn of `file` that has gone two squares be taken by a legal move? */
static inline int chess_can_take_passed(const chess_tables *t, const chess_board *b, int file) {
    for (uint64_t left = chess_beside(b, file); left; left &= left - 1)
        if (chess_en_passant(t, b, __builtin_ctzll(left), file)) return 1;
    return 0;
}

static inline uint64_t chess_castling(uint64_t occupied, uint64_t danger, int rights) {
    uint64_t found = 0;
    if ((rights & CHESS_OWN_SHORT) && !((occupied | danger) & UINT64_C(0x60))) found |= UINT64_C(0x40);
    if ((rights & CHESS_OWN_LONG) && !(occupied & UINT64_C(0x0E)) && !(danger & UINT64_C(0x0C))) found |= UINT64_C(0x04);
    return found;
}

/* Writes where each own piece may go to reached[square]; returns the pieces that it wrote. */
static inline uint64_t chess_reach(const chess_tables *t, const chess_board *b, int rights, int file, uint64_t *reached) {
    const uint64_t occupied = chess_occupied(b), own = b->own, pawns = chess_pawns(b) & own;
    const int king = chess_own_king(b);
    const uint64_t danger = chess_danger(t, b, CHESS_BIT(king));
    chess_pins pins;
    chess_find_pins(t, b, king, &pins);
    reached[king] = t->king[king] & ~own & ~danger;
    if (!pins.checkers) reached[king] |= chess_castling(occupied, danger, rights);
    if (!pins.target) return CHESS_BIT(king);
    const uint64_t allowed = pins.target & ~own, other = occupied & ~own;
    for (uint64_t left = chess_horses(b) & own & ~pins.all; left; left &= left - 1) {
        const int square = __builtin_ctzll(left);
        reached[square] = t->knight[square] & allowed;
    }
    const uint64_t straights = chess_straights(b) & own, diagonals = chess_diagonals(b) & own;
    for (uint64_t left = straights; left; left &= left - 1) {
        const int square = __builtin_ctzll(left);
        reached[square] = chess_straight(t, occupied, (uint64_t)square) & allowed;
    }
    for (uint64_t left = diagonals; left; left &= left - 1) {
        const int square = __builtin_ctzll(left);
        const uint64_t straight = straights >> square & 1 ? reached[square] : 0;
        reached[square] = straight | (chess_diagonal(t, occupied, (uint64_t)square) & allowed);
    }
    for (uint64_t left = pawns; left; left &= left - 1) {
        const int square = __builtin_ctzll(left);
        const uint64_t step = (left & (0 - left)) << 8 & ~occupied;
        reached[square] = (step | ((step & CHESS_RANK_3) << 8 & ~occupied) | (t->pawn[square] & other)) & allowed;
    }
    for (uint64_t left = pins.all & ~chess_horses(b); left; left &= left - 1)
        reached[__builtin_ctzll(left)] &= chess_pin_line(t, &pins, king, left & (0 - left));
    if (file != CHESS_NO_FILE)
        for (uint64_t left = chess_beside(b, file); left; left &= left - 1)
            if (chess_en_passant(t, b, __builtin_ctzll(left), file)) reached[__builtin_ctzll(left)] |= CHESS_BIT(40 + file);
    return CHESS_BIT(king) | (chess_horses(b) & own & ~pins.all) | straights | diagonals | pawns;
}

/* Writes the legal actions in rising order; returns how many. */
static inline int32_t chess_generate(const chess_tables *t, const chess_board *b, int rights, int file, int32_t *actions) {
    uint64_t reached[64];
    int32_t *out = actions;
    const uint64_t movers = chess_reach(t, b, rights, file, reached);
    for (uint64_t left = movers; left; left &= left - 1) {
        const int from = __builtin_ctzll(left);
        const uint16_t *row = t->action[from];
        for (uint64_t to = reached[from]; to; to &= to - 1) *out++ = row[__builtin_ctzll(to)];
    }
    for (uint64_t left = movers & chess_pawns(b) & (CHESS_RANK_1 << 48); left; left &= left - 1) {
        const int from = __builtin_ctzll(left);
        for (uint64_t to = reached[from]; to; to &= to - 1) {
            const int32_t first = t->promote[from & 7][1 + (__builtin_ctzll(to) & 7) - (from & 7)];
            *out++ = first, *out++ = first + 1, *out++ = first + 2;
        }
    }
    return (int32_t)(out - actions);
}

/* Is there a legal move? Answered by a pawn that nothing can pin, in nearly all positions. */
static inline int chess_can_move(const chess_tables *t, const chess_board *b, int rights, int file, uint64_t checkers) {
    const uint64_t *lines = t->line[chess_own_king(b)];
    const uint64_t pinnable = lines[0] | lines[1] | lines[2] | lines[3];
    if (!checkers && ((chess_pawns(b) & b->own & ~pinnable) << 8 & ~chess_occupied(b))) return 1;
    uint64_t reached[64];
    for (uint64_t left = chess_reach(t, b, rights, file, reached); left; left &= left - 1)
        if (reached[__builtin_ctzll(left)]) return 1;
    return 0;
}

#endif
