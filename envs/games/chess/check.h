/* Which bytes are a chess position that play can reach: the guard for states and FEN from outside.
 *
 * Refused are boards without one king a side, with pawns on the first or last rank, with more men or promoted pieces
 * than the pawns allow, castling rights without king and rook at home, a king that could be taken, three checks at
 * once, a square for en passant that no pawn has passed, moves in the history that no piece could make.
 */
#ifndef PLAYOUT_CHESS_CHECK_H
#define PLAYOUT_CHESS_CHECK_H

#include "../chess.h"

#define CHESS_MAX_PLIES 20000 /* more than 75 moves without progress allow */
/* The record of positions that games reach is 218 (N. Petrovic 1964); the rest is for those that only FEN reaches. */
#define CHESS_MAX_LEGAL 256
#define CHESS_ROOM 512          /* moves of sixteen pieces, however they stand */

/* What is wrong with a position or with its text; CHESS_FAULTS says it in words, in the same order. */
enum {
    CHESS_BAD_PLACEMENT = -2,
    CHESS_BAD_SIDE = -3,
    CHESS_BAD_RIGHTS = -4,
    CHESS_BAD_PASSED = -5,
    CHESS_BAD_COUNTERS = -6,
    CHESS_BAD_KINGS = -7,
    CHESS_BAD_MEN = -8,
    CHESS_BAD_PAWNS = -9,
    CHESS_BAD_CASTLING = -10,
    CHESS_BAD_CHECKS = -11,
    CHESS_BAD_TURN = -12,
    CHESS_BAD_PUSH = -13,
    CHESS_BAD_NUMBER = -14,
    CHESS_BAD_CLOCK = -15,
};

static const char *const CHESS_FAULTS[] = {
    "the pieces are not eight ranks of eight squares in letters PNBRQKpnbrqk and digits, with / between them",
    "the side to move is not w or b",
    "the rights to castle are not - or some of the letters KQkq, each once",
    "the square for en passant is not -, or one of rank 6 with White and of rank 3 with Black to move",
    "the two counters are not numbers of half-moves without progress and of the move, with nothing behind them",
    "a side has not exactly one king",
    "a side has more men than eight pawns and their promotions give",
    "a pawn stands on the first or the last rank",
    "a right to castle is given, but king or rook are not at home",
    "a king is attacked by three pieces at once",
    "the side that is not to move is in check",
    "no pawn has just gone past the square for en passant",
    "more moves are legal than there is room for",
    "more half-moves without progress than the rules allow (100, or 150 with draws=automatic)",
    NULL,
};

/* Can these men come from eight pawns and the eight pieces behind them? 0, or what is wrong. */
static inline int chess_check_side(const chess_board *b, uint64_t side) {
    const uint64_t bishops = chess_diagonals(b) & ~b->plane[1] & side;
    const int pawns = __builtin_popcountll(chess_pawns(b) & side);
    const int counts[4] = {
        __builtin_popcountll(chess_horses(b) & side) - 2,
        __builtin_popcountll(bishops) - 2,
        __builtin_popcountll(chess_straights(b) & ~b->plane[0] & side) - 2,
        __builtin_popcountll(chess_straights(b) & b->plane[0] & side) - 1,
    };
    int promoted = 0;
    for (int i = 0; i < 4; i++) promoted += counts[i] > 0 ? counts[i] : 0;
    if (__builtin_popcountll(chess_kings(b) & side) != 1) return CHESS_BAD_KINGS;
    return pawns + promoted <= 8 ? 0 : CHESS_BAD_MEN;
}

/* The board, the rights to castle, and that the side that has moved is not in check; 0, or what is wrong. */
static inline int chess_check_board(const chess_tables *t, const chess_state *s) {
    const chess_board *b = &s->board;
    const uint64_t occupied = chess_occupied(b);
    if ((b->own & ~occupied) || (b->plane[2] & ~b->plane[0] & ~b->plane[1])) return -1;
    const int own = chess_check_side(b, b->own), theirs = chess_check_side(b, occupied & ~b->own);
    if (own || theirs) return own ? own : theirs;
    if (chess_pawns(b) & (CHESS_RANK_1 | CHESS_RANK_8)) return CHESS_BAD_PAWNS;
    if (s->rights > 15 || s->black > 1) return -1;
    static const uint8_t ROOKS[4] = {7, 0, 63, 56};
    for (int i = 0; i < 4; i++) {
        if (!((s->rights >> i) & 1)) continue;
        const uint64_t mine = i < 2 ? b->own : ~b->own, king = i < 2 ? CHESS_BIT(4) : CHESS_BIT(60);
        if (chess_at(b, ROOKS[i]) != CHESS_ROOK || !(mine & CHESS_BIT(ROOKS[i])) || !(chess_kings(b) & mine & king))
            return CHESS_BAD_CASTLING;
    }
    const uint64_t checkers = chess_checkers(t, b);
    if (checkers & (checkers - 1) & ((checkers & (checkers - 1)) - 1)) return CHESS_BAD_CHECKS;
    chess_board other = *b;
    chess_turn(&other);
    return chess_checkers(t, &other) ? CHESS_BAD_TURN : 0;
}

/* Has a pawn of the other side just gone two squares on `file`? 0, or -1. */
static inline int chess_check_passed(const chess_board *b, int file) {
    if (file > 7) return -1;
    const uint64_t empty = CHESS_BIT(40 + file) | CHESS_BIT(48 + file);
    if (chess_occupied(b) & empty) return -1;
    return chess_pawns(b) & ~b->own & CHESS_BIT(32 + file) ? 0 : -1;
}

/* No more moves than there is room for; 0, or -1. */
static inline int chess_check_moves(const chess_rules *rules, const chess_state *s) {
    int32_t actions[CHESS_ROOM];
    return chess_generate(&rules->tables, &s->board, s->rights, s->file, actions) <= CHESS_MAX_LEGAL ? 0 : -1;
}

/* Can the piece on `to` have come from `from`? */
static inline int chess_check_step(const chess_tables *t, const chess_board *b, int from, int to) {
    const uint64_t occupied = chess_occupied(b);
    uint64_t reached = 0;
    switch (chess_at(b, to)) {
        case CHESS_KNIGHT: reached = t->knight[to]; break;
        case CHESS_KING: reached = t->king[to]; break;
        case CHESS_BISHOP: reached = chess_diagonal(t, occupied, (uint64_t)to); break;
        case CHESS_ROOK: reached = chess_straight(t, occupied, (uint64_t)to); break;
        case CHESS_QUEEN: reached = chess_diagonal(t, occupied, (uint64_t)to) | chess_straight(t, occupied, (uint64_t)to);
    }
    return (reached & ~occupied & CHESS_BIT(from)) != 0;
}

/* Takes the moves back one by one; 0, or -1 if pieces could not make them. */
static inline int chess_check_history(const chess_tables *t, const chess_state *s, int32_t room) {
    chess_state before = {.board = s->board, .rights = s->rights};
    chess_board *b = &before.board;
    if (s->length > s->clock || s->length > s->ply || s->length > room) return -1;
    for (int i = s->length; i < room; i++)
        if (s->moves[i]) return -1;
    for (int i = s->length - 1; i >= 0; i--) {
        const int from = s->moves[i] & 63, to = s->moves[i] >> 6;
        if (to > 63) return -1;
        chess_turn(b); /* now the side that made the move looks at it */
        before.rights = (uint8_t)chess_turn_rights(before.rights);
        if (!(b->own & CHESS_BIT(to)) || !chess_check_step(t, b, from, to)) return -1;
        chess_shift(b, to, from);
        if (chess_check_board(t, &before)) return -1;
    }
    return 0;
}

static inline int chess_check(const chess_rules *rules, const chess_state *s, int32_t size) {
    const int32_t room = (size - (int32_t)offsetof(chess_state, moves)) / 2;
    if (chess_check_board(&rules->tables, s)) return -1;
    if (s->ply > rules->max_plies || s->number > CHESS_MAX_NUMBER || s->zero) return -1;
    if (2 * s->number + s->black < 2 + s->ply && s->number < CHESS_MAX_NUMBER) return -1;
    if (s->clock > rules->clock_limit || s->repeats > rules->repeat_limit) return -1;
    if (s->file != CHESS_NO_FILE) {
        if (s->clock || chess_check_passed(&s->board, s->file)) return -1;
        if (!chess_can_take_passed(&rules->tables, &s->board, s->file)) return -1;
    }
    if (chess_check_history(&rules->tables, s, room)) return -1;
    chess_room again;
    memcpy(again.bytes, s, (size_t)size);
    chess_settle(rules, &again.state);
    return memcmp(again.bytes, s, (size_t)size) || chess_check_moves(rules, s) ? -1 : 0;
}

#endif
