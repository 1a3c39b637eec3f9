/* Where the pieces of chess go: bitboards with a1 as bit 0, b1 as bit 1, h8 as bit 63.
 *
 * Sliding pieces use hyperbola quintessence along files and diagonals (o ^ (o - 2r), and the same on the board turned
 * upside down) and a table of 64 occupancies along ranks: 2 KiB of tables where magic numbers need 800. The tables are
 * filled once, when the game is made, and belong to the game.
 */
#ifndef PLAYOUT_CHESS_ATTACKS_H
#define PLAYOUT_CHESS_ATTACKS_H

#include <stdint.h>
#include <string.h>

#define CHESS_FILE_A UINT64_C(0x0101010101010101)
#define CHESS_FILE_H UINT64_C(0x8080808080808080)
#define CHESS_RANK_1 UINT64_C(0xFF)
#define CHESS_RANK_3 UINT64_C(0xFF0000)
#define CHESS_RANK_8 (UINT64_C(0xFF) << 56)
#define CHESS_LIGHT UINT64_C(0x55AA55AA55AA55AA)

#define CHESS_PLAIN 1792 /* moves of a queen or a knight from any square; to the last rank they promote to a queen */
#define CHESS_ACTIONS 1858

#define CHESS_BIT(square) (UINT64_C(1) << (square))

/* The lines through a square, without the square: 0 its file, 1 its diagonal (a1-h8), 2 the other one, 3 its rank. */
enum { CHESS_FILE, CHESS_DIAGONAL, CHESS_ANTI, CHESS_RANK };

typedef struct chess_tables {
    uint64_t line[64][4];
    uint64_t knight[64], king[64];
    uint64_t pawn[64];        /* captures of a pawn that goes up the board */
    uint8_t rank[64][8];      /* [occupancy of files b to g][file]: squares reached along a rank */
    uint16_t action[64][64];  /* [from][to]; CHESS_ACTIONS where no piece goes so */
    uint16_t promote[8][3];   /* [file][1 + step to the side]: the first of three actions, to knight, bishop, rook */
    uint16_t move[CHESS_ACTIONS]; /* from | to << 6 | promotion << 12 */
} chess_tables;

static inline uint64_t chess_slide(uint64_t occupied, uint64_t line, uint64_t bit) {
    uint64_t up = occupied & line, down = __builtin_bswap64(up);
    up -= bit;
    down -= __builtin_bswap64(bit);
    return (up ^ __builtin_bswap64(down)) & line;
}

static inline uint64_t chess_slide_rank(const chess_tables *t, uint64_t occupied, uint64_t square) {
    const uint64_t shift = square & 56;
    return (uint64_t)t->rank[(occupied >> (shift + 1)) & 63][square & 7] << shift;
}

static inline uint64_t chess_along(const chess_tables *t, uint64_t occupied, uint64_t square, int line) {
    if (line == CHESS_RANK) return chess_slide_rank(t, occupied, square);
    return chess_slide(occupied, t->line[square][line], CHESS_BIT(square));
}

static inline uint64_t chess_straight(const chess_tables *t, uint64_t occupied, uint64_t square) {
    return chess_slide(occupied, t->line[square][CHESS_FILE], CHESS_BIT(square)) | chess_slide_rank(t, occupied, square);
}

static inline uint64_t chess_diagonal(const chess_tables *t, uint64_t occupied, uint64_t square) {
    return chess_slide(occupied, t->line[square][CHESS_DIAGONAL], CHESS_BIT(square)) |
           chess_slide(occupied, t->line[square][CHESS_ANTI], CHESS_BIT(square));
}

static inline uint64_t chess_knights(uint64_t knights) {
    const uint64_t one_left = (knights >> 1) & ~CHESS_FILE_H, one_right = (knights << 1) & ~CHESS_FILE_A;
    const uint64_t two_left = (one_left >> 1) & ~CHESS_FILE_H, two_right = (one_right << 1) & ~CHESS_FILE_A;
    const uint64_t one = one_left | one_right, two = two_left | two_right;
    return (one << 16) | (one >> 16) | (two << 8) | (two >> 8);
}

/* Squares that pawns going down the board attack. */
static inline uint64_t chess_pawns_down(uint64_t pawns) {
    return ((pawns & ~CHESS_FILE_A) >> 9) | ((pawns & ~CHESS_FILE_H) >> 7);
}

/* The squares from `square` on in steps of (files, ranks) up to the edge, at most `most` of them. */
static inline uint64_t chess_walk(int square, int files, int ranks, int most) {
    uint64_t set = 0;
    int file = (square & 7) + files, rank = (square >> 3) + ranks;
    for (; most-- > 0 && file >= 0 && file < 8 && rank >= 0 && rank < 8; file += files, rank += ranks)
        set |= CHESS_BIT(8 * rank + file);
    return set;
}

static void chess_fill_actions(chess_tables *t) {
    uint16_t action = 0;
    for (int from = 0; from < 64; from++) {
        uint64_t reached = t->knight[from];
        for (int line = 0; line < 4; line++) reached |= t->line[from][line];
        for (int to = 0; to < 64; to++) {
            t->action[from][to] = CHESS_ACTIONS;
            if (!((reached >> to) & 1)) continue;
            t->move[action] = (uint16_t)(from | to << 6);
            t->action[from][to] = action++;
        }
    }
    for (int file = 0; file < 8; file++)
        for (int step = -1; step <= 1; step++) {
            t->promote[file][step + 1] = action;
            if (file + step < 0 || file + step > 7) continue;
            for (int piece = 0; piece < 3; piece++)
                t->move[action++] = (uint16_t)((48 + file) | (56 + file + step) << 6 | (piece + 1) << 12);
        }
}

static void chess_fill(chess_tables *t) {
    static const int8_t LINES[4][2] = {{0, 1}, {1, 1}, {-1, 1}, {1, 0}};
    memset(t, 0, sizeof *t);
    for (int square = 0; square < 64; square++) {
        for (int line = 0; line < 4; line++)
            t->line[square][line] = chess_walk(square, LINES[line][0], LINES[line][1], 7) |
                                    chess_walk(square, -LINES[line][0], -LINES[line][1], 7);
        t->knight[square] = chess_knights(CHESS_BIT(square));
        t->pawn[square] = chess_walk(square, -1, 1, 1) | chess_walk(square, 1, 1, 1);
        for (int line = 0; line < 4; line++)
            t->king[square] |= chess_walk(square, LINES[line][0], LINES[line][1], 1) |
                               chess_walk(square, -LINES[line][0], -LINES[line][1], 1);
    }
    for (int occupied = 0; occupied < 64; occupied++)
        for (int file = 0; file < 8; file++) {
            int left = 0, right = 0;
            for (int to = file + 1; to < 8 && !(right & (occupied << 1)); to++) right |= 1 << to;
            for (int to = file - 1; to >= 0 && !(left & (occupied << 1)); to--) left |= 1 << to;
            t->rank[occupied][file] = (uint8_t)(left | right);
        }
    chess_fill_actions(t);
}

#endif
