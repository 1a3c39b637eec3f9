/* A chess position as text: one line of FEN, read strictly, and a board for people.
 *
 * FEN names a square for en passant only where a legal move takes it, so that positions that are equal by the rule of
 * repetition have equal text; one that nothing can take is read and left out. The two counters may be missing when a
 * line is read. Positions that no game reaches are refused: check.h says which.
 */
#ifndef PLAYOUT_CHESS_FEN_H
#define PLAYOUT_CHESS_FEN_H

#include "check.h"

static const char CHESS_RIGHTS[] = "KQkq";

static inline char chess_letter(const chess_state *s, int square) { /* seen by white */
    const int seen = s->black ? square ^ 56 : square;
    const char letter = CHESS_LETTERS[chess_at(&s->board, seen)];
    if (letter == '.') return letter;
    return (char)(((s->board.own >> seen) & 1) == s->black ? letter + 32 : letter);
}

static inline int chess_white_rights(const chess_state *s) {
    return s->black ? chess_turn_rights(s->rights) : s->rights;
}

static inline int32_t chess_write_fen(const chess_state *s, char *text) {
    char *out = text;
    for (int rank = 7; rank >= 0; rank--) {
        int empty = 0;
        for (int file = 0; file < 8; file++) {
            const char letter = chess_letter(s, 8 * rank + file);
            if (letter == '.') {
                empty++;
                continue;
            }
            if (empty) *out++ = (char)('0' + empty);
            empty = 0;
            *out++ = letter;
        }
        if (empty) *out++ = (char)('0' + empty);
        *out++ = rank ? '/' : ' ';
    }
    *out++ = s->black ? 'b' : 'w';
    *out++ = ' ';
    const int rights = chess_white_rights(s);
    for (int i = 0; i < 4; i++)
        if ((rights >> i) & 1) *out++ = CHESS_RIGHTS[i];
    if (!rights) *out++ = '-';
    *out++ = ' ';
    if (s->file == CHESS_NO_FILE) {
        *out++ = '-';
    } else {
        *out++ = (char)('a' + s->file);
        *out++ = s->black ? '3' : '6';
    }
    out += sprintf(out, " %d %d", s->clock, s->number);
    return (int32_t)(out - text);
}

/* What ended the game, in words; NULL while it goes on. */
static inline const char *chess_verdict(const chess_state *s) {
    static const char *const VERDICTS[] = {
        NULL, "checkmate", "draw by stalemate", "draw by dead material", "draw by repetition",
        "draw by moves without progress", "draw by length",
    };
    return VERDICTS[s->status];
}

static inline int32_t chess_write_rows(const chess_state *s, char *text) {
    char *out = text;
    for (int rank = 7; rank >= 0; rank--) {
        *out++ = (char)('1' + rank);
        for (int file = 0; file < 8; file++) {
            *out++ = ' ';
            *out++ = chess_letter(s, 8 * rank + file);
        }
        *out++ = '\n';
    }
    const char *verdict = chess_verdict(s);
    return (int32_t)(out - text) +
           sprintf(out, "  a b c d e f g h\n%s", verdict ? verdict : s->black ? "black to move" : "white to move");
}

static inline int chess_read_number(const char **text, int most) {
    int value = 0;
    const char *c = *text;
    for (; *c >= '0' && *c <= '9' && value <= most; c++) value = 10 * value + (*c - '0');
    if (c == *text || value > most) return -1;
    *text = c;
    return value;
}

/* The placement of the pieces, white to move; 0, or what is wrong. */
static inline int chess_read_placement(chess_state *s, const char **text) {
    const char *c = *text;
    for (int rank = 7; rank >= 0; rank--) {
        int file = 0;
        for (int digit = 0; file < 8; c++) {
            if (*c >= '1' && *c <= '8' && !digit) {
                file += *c - '0';
                digit = 1;
                continue;
            }
            const char upper = (char)(*c & ~32), *found = upper ? strchr("PNKBRQ", upper) : NULL;
            if (!found || !((*c >= 'A' && *c <= 'Z') || (*c >= 'a' && *c <= 'z'))) return CHESS_BAD_PLACEMENT;
            const int square = 8 * rank + file++;
            chess_put(&s->board, square, (int)(strchr(CHESS_LETTERS, upper) - CHESS_LETTERS));
            if (*c == upper) s->board.own |= CHESS_BIT(square);
            digit = 0;
        }
        if (file != 8 || *c++ != (rank ? '/' : ' ')) return CHESS_BAD_PLACEMENT;
    }
    *text = c;
    return 0;
}

/* Rights and the square for en passant, white to move; 0, or what is wrong. */
static inline int chess_read_rights(chess_state *s, const char **text) {
    const char *c = *text;
    if (*c == '-') {
        c++;
    } else {
        for (const char *found; *c && (found = strchr(CHESS_RIGHTS, *c)); c++) {
            const int right = 1 << (found - CHESS_RIGHTS);
            if (s->rights & right) return CHESS_BAD_RIGHTS;
            s->rights |= (uint8_t)right;
        }
        if (!s->rights) return CHESS_BAD_RIGHTS;
    }
    if (*c++ != ' ') return CHESS_BAD_RIGHTS;
    s->file = CHESS_NO_FILE;
    if (*c == '-') {
        c++;
    } else {
        if (c[0] < 'a' || c[0] > 'h' || c[1] != (s->black ? '3' : '6')) return CHESS_BAD_PASSED;
        s->file = (uint8_t)(c[0] - 'a');
        c += 2;
    }
    *text = c;
    return 0;
}

/* 0, or what is wrong. */
static inline int chess_read_fen(const chess_rules *rules, chess_state *s, int32_t size, const char *text) {
    memset(s, 0, (size_t)size);
    int fault = chess_read_placement(s, &text);
    if (fault) return fault;
    if ((*text != 'w' && *text != 'b') || text[1] != ' ') return CHESS_BAD_SIDE;
    s->black = *text == 'b';
    text += 2;
    if ((fault = chess_read_rights(s, &text)) != 0) return fault;
    s->number = 1;
    if (*text == ' ') {
        text++;
        const int clock = chess_read_number(&text, CHESS_MAX_NUMBER);
        if (clock > rules->clock_limit) return CHESS_BAD_CLOCK;
        if (clock < 0 || *text++ != ' ') return CHESS_BAD_COUNTERS;
        const int number = chess_read_number(&text, CHESS_MAX_NUMBER);
        if (number < 0) return CHESS_BAD_COUNTERS;
        s->clock = (uint8_t)clock;
        s->number = (uint16_t)(number ? number : 1);
    }
    if (*text) return CHESS_BAD_COUNTERS;
    if (s->black) {
        chess_turn(&s->board);
        s->rights = (uint8_t)chess_turn_rights(s->rights);
    }
    if ((fault = chess_check_board(&rules->tables, s)) != 0) return fault;
    chess_board *b = &s->board;
    if (s->file != CHESS_NO_FILE) {
        if (chess_check_passed(b, s->file) || s->clock) return CHESS_BAD_PUSH;
        if (!chess_can_take_passed(&rules->tables, b, s->file)) s->file = CHESS_NO_FILE;
    }
    chess_settle(rules, s);
    return chess_check_moves(rules, s) ? CHESS_BAD_NUMBER : 0;
}

#endif
