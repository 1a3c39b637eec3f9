/* The rules of chess: what a move does, and when the game is over.
 *
 * Draws come by stalemate, dead material (bare kings, one minor piece, bishops of one colour), max_plies, and by
 * repetition and moves without progress: draws=claimed ends a game at the third occurrence and after 50 moves, as
 * players claim it; draws=automatic at the fifth and after 75, as the laws do by themselves. Mate on that move wins.
 *
 * Repetition is exact, without keys: a state keeps the moves since the last one that cannot be taken back (two bytes
 * each), and looks for earlier equal positions by taking them back. Actions, the board and castling rights are the
 * mover's: chess/moves.h.
 */
#ifndef PLAYOUT_CHESS_H
#define PLAYOUT_CHESS_H

#include <stdio.h>
#include <stdlib.h>

#include "chess/moves.h"
#include "playout_game.h"

enum {
    CHESS_PLAYING,
    CHESS_MATE,
    CHESS_STALEMATE,
    CHESS_MATERIAL,
    CHESS_REPETITION,
    CHESS_CLOCK,
    CHESS_LENGTH,
};

#define CHESS_MAX_CLOCK 150 /* plies; the higher of the two limits */
#define CHESS_MAX_NUMBER 30000

typedef struct chess_state {
    chess_board board;
    uint16_t ply;    /* moves played here */
    uint16_t number; /* of the full move, as FEN counts them; stays at CHESS_MAX_NUMBER */
    uint8_t clock;   /* plies without capture or pawn move */
    uint8_t length;  /* of moves[]: plies since the last move that cannot be taken back */
    uint8_t repeats; /* earlier positions equal to this one */
    uint8_t rights;  /* to castle */
    uint8_t file;    /* of a pawn that can be taken en passant, by a legal move; else CHESS_NO_FILE */
    uint8_t black;   /* 1: black is to move */
    uint8_t status;
    uint8_t zero;
    /* from | to << 6, each as its mover saw it; zeros behind. A table has room for the clock's limit of its rules. */
    uint16_t moves[];
} chess_state;

/* A place for a state of any table. */
typedef union chess_room {
    chess_state state;
    unsigned char bytes[sizeof(chess_state) + 2 * CHESS_MAX_CLOCK + 8];
} chess_room;

/* The rules of one table; game->context. */
typedef struct chess_rules {
    chess_tables tables;
    int32_t clock_limit;  /* plies */
    int32_t repeat_limit; /* earlier equal positions */
    int32_t max_plies;
    int32_t san; /* actions are written in standard algebraic notation */
} chess_rules;

static inline void chess_turn(chess_board *b) {
    b->own = __builtin_bswap64(chess_occupied(b) & ~b->own);
    for (int i = 0; i < 3; i++) b->plane[i] = __builtin_bswap64(b->plane[i]);
}

static inline int chess_turn_rights(int rights) { return rights >> 2 | (rights & 3) << 2; }

static inline void chess_put(chess_board *b, int square, int piece) {
    for (int i = 0; i < 3; i++) b->plane[i] |= (uint64_t)((piece >> i) & 1) << square;
}

static inline void chess_lift(chess_board *b, uint64_t squares) {
    for (int i = 0; i < 3; i++) b->plane[i] &= ~squares;
    b->own &= ~squares;
}

/* Puts what stands on `from` on `to`, which is empty, and leaves `from` empty. */
static inline void chess_shift(chess_board *b, int from, int to) {
    for (int i = 0; i < 3; i++) {
        const uint64_t bit = (b->plane[i] >> from) & 1;
        b->plane[i] ^= bit << from | bit << to;
    }
    const uint64_t own = (b->own >> from) & 1;
    b->own ^= own << from | own << to;
}

/* The rights that a move to or from a square takes away. */
static inline int chess_rights_at(int square) {
    return square == 4 ? CHESS_OWN_SHORT | CHESS_OWN_LONG : square == 7 ? CHESS_OWN_SHORT : square == 0 ? CHESS_OWN_LONG
         : square == 63 ? CHESS_OTHER_SHORT : square == 56 ? CHESS_OTHER_LONG : 0;
}

/* Are the own pieces and those of the other side enough for some mate? */
static inline int chess_is_dead(const chess_board *b) {
    const uint64_t occupied = chess_occupied(b), horses = chess_horses(b), bishops = chess_diagonals(b);
    if (chess_pawns(b) || chess_straights(b)) return 0;
    if (horses) return !bishops && !(horses & (horses - 1));
    return !bishops || !(bishops & CHESS_LIGHT) || !(bishops & ~CHESS_LIGHT) || occupied == chess_kings(b);
}

/* Takes back the last `count` moves of a board that the mover of the next one looks at. */
static inline void chess_take_back(const chess_state *s, chess_board *b, int count) {
    for (int i = 1; i <= count; i++) {
        const int move = s->moves[s->length - i], mirror = i & 1 ? 56 : 0; /* the other side has moved last */
        chess_shift(b, (move >> 6) ^ mirror, (move & 63) ^ mirror);
    }
}

/* Earlier positions equal to this one. Where the squares that a side has left and entered since are the same, its men
 * stand where they stood; then the boards are compared, since two of them may have changed places. */
static inline int chess_count_repeats(const chess_state *s) {
    uint64_t other = 0, own = 0;
    int found = 0;
    for (int back = 1; back < s->length; back += 2) {
        const int theirs = s->moves[s->length - back], ours = s->moves[s->length - back - 1];
        other ^= CHESS_BIT(theirs & 63) ^ CHESS_BIT(theirs >> 6);
        own ^= CHESS_BIT(ours & 63) ^ CHESS_BIT(ours >> 6);
        if (other | own) continue;
        chess_board before = s->board;
        chess_take_back(s, &before, back + 1);
        found += memcmp(&before, &s->board, sizeof before) == 0;
    }
    return found;
}

/* Plays a move and turns the board; leaves the status and the count of repetitions as they were. */
static inline void chess_move(const chess_rules *rules, chess_state *s, int32_t action) {
    const chess_tables *t = &rules->tables;
    chess_board *b = &s->board;
    const int move = t->move[action], from = move & 63, to = (move >> 6) & 63;
    const uint64_t from_bit = CHESS_BIT(from), to_bit = CHESS_BIT(to);
    const int pawn = (chess_pawns(b) & from_bit) != 0, king = (chess_kings(b) & from_bit) != 0;
    const int taken = (chess_occupied(b) & to_bit) != 0, rights = s->rights & ~chess_rights_at(from) & ~chess_rights_at(to);
    const int kept = !pawn && !taken && rights == s->rights && s->file == CHESS_NO_FILE;
    if (taken) chess_lift(b, to_bit);
    chess_shift(b, from, to);
    if (pawn) {
        if (s->file != CHESS_NO_FILE && to == 40 + s->file && (from - to) % 8) chess_lift(b, CHESS_BIT(to - 8));
        if (to >= 56) {
            static const int8_t PROMOTED[4] = {CHESS_QUEEN, CHESS_KNIGHT, CHESS_BISHOP, CHESS_ROOK};
            for (int i = 0; i < 3; i++) b->plane[i] &= ~to_bit;
            chess_put(b, to, PROMOTED[move >> 12]);
        }
    } else if (king && to - from == 2) {
        chess_shift(b, 7, 5);
    } else if (king && from - to == 2) {
        chess_shift(b, 0, 3);
    }
    if (kept) {
        s->moves[s->length++] = (uint16_t)move;
    } else if (s->length) {
        memset(s->moves, 0, 2 * (size_t)s->length);
        s->length = 0;
    }
    s->clock = pawn || taken ? 0 : s->clock + 1;
    s->rights = (uint8_t)chess_turn_rights(rights);
    s->ply++;
    if (s->black && s->number < CHESS_MAX_NUMBER) s->number++;
    s->black ^= 1;
    s->file = CHESS_NO_FILE;
    chess_turn(b);
    if (pawn && to - from == 16)
        s->file = (uint8_t)(chess_can_take_passed(t, b, to & 7) ? to & 7 : CHESS_NO_FILE);
}

/* What has ended the game beside mate and stalemate. */
static inline int chess_drawn(const chess_rules *rules, const chess_state *s) {
    if (chess_is_dead(&s->board)) return CHESS_MATERIAL;
    if (s->repeats >= rules->repeat_limit) return CHESS_REPETITION;
    if (s->clock >= rules->clock_limit) return CHESS_CLOCK;
    return s->ply >= rules->max_plies ? CHESS_LENGTH : CHESS_PLAYING;
}

/* Sets what follows from the rest of the state. */
static inline void chess_settle(const chess_rules *rules, chess_state *s) {
    const uint64_t checkers = chess_checkers(&rules->tables, &s->board);
    s->repeats = (uint8_t)(s->length < 4 ? 0 : chess_count_repeats(s));
    s->status = (uint8_t)chess_drawn(rules, s);
    if (!chess_can_move(&rules->tables, &s->board, s->rights, s->file, checkers))
        s->status = checkers ? CHESS_MATE : CHESS_STALEMATE;
}

static inline int32_t chess_legal(const chess_rules *rules, const chess_state *s, int32_t *actions) {
    return s->status == CHESS_PLAYING ? chess_generate(&rules->tables, &s->board, s->rights, s->file, actions) : 0;
}

static inline void chess_result(const chess_state *s, float *values) {
    const float won = s->status == CHESS_MATE;
    values[s->black] = 0.0f - won;
    values[1 - s->black] = won;
}

/* Uniformly random moves to the end; only what a random game needs is kept up. */
static inline void chess_random_game(const chess_rules *rules, chess_state *s, playout_rng *rng) {
    int32_t actions[PLAYOUT_MAX_LEGAL];
    while (s->status == CHESS_PLAYING) {
        const int32_t count = chess_generate(&rules->tables, &s->board, s->rights, s->file, actions);
        if (count == 0) {
            s->status = chess_checkers(&rules->tables, &s->board) ? CHESS_MATE : CHESS_STALEMATE;
            break;
        }
        chess_move(rules, s, actions[playout_rng_below(rng, (uint32_t)count)]);
        s->repeats = (uint8_t)(s->length < 4 ? 0 : chess_count_repeats(s));
        s->status = (uint8_t)chess_drawn(rules, s);
        if (s->status != CHESS_PLAYING) chess_settle(rules, s); /* a mate on the last move counts */
    }
}

#endif
