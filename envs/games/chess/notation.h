/* Moves of chess as text: UCI ("e2e4", "a7a8q") and standard algebraic notation, SAN ("Nbd2", "exd8=Q+", "O-O").
 *
 * Reading takes both. SAN is read as people write it: a missing or superfluous x, =, + or #, marks such as !? at the
 * end, zeros for castling, and more or fewer letters than needed as long as one legal move fits.
 */
#ifndef PLAYOUT_CHESS_NOTATION_H
#define PLAYOUT_CHESS_NOTATION_H

#include "../chess.h"

typedef struct chess_parts { /* of a move, seen by white; piece and promotion are numbers of moves.h */
    int from, to, piece, promotion, takes;
} chess_parts;

static inline chess_parts chess_parts_of(const chess_rules *rules, const chess_state *s, int32_t action) {
    static const int8_t PROMOTED[4] = {CHESS_NONE, CHESS_KNIGHT, CHESS_BISHOP, CHESS_ROOK};
    const int move = rules->tables.move[action], mirror = s->black ? 56 : 0;
    chess_parts parts = {move & 63, (move >> 6) & 63, 0, PROMOTED[move >> 12], 0};
    parts.piece = chess_at(&s->board, parts.from);
    parts.takes = chess_at(&s->board, parts.to) != CHESS_NONE ||
                  (parts.piece == CHESS_PAWN && (parts.from - parts.to) % 8 != 0);
    if (parts.piece == CHESS_PAWN && parts.to >= 56 && !parts.promotion) parts.promotion = CHESS_QUEEN;
    parts.from ^= mirror;
    parts.to ^= mirror;
    return parts;
}

static inline char *chess_put_square(char *out, int square) {
    *out++ = (char)('a' + (square & 7));
    *out++ = (char)('1' + (square >> 3));
    return out;
}

static inline int32_t chess_write_uci(const chess_rules *rules, const chess_state *s, int32_t action, char *text) {
    const chess_parts parts = chess_parts_of(rules, s, action);
    char *out = chess_put_square(chess_put_square(text, parts.from), parts.to);
    if (parts.promotion) *out++ = (char)(CHESS_LETTERS[parts.promotion] + 32);
    *out = 0;
    return (int32_t)(out - text);
}

/* The mark of a check or a mate, if the move gives one. */
static inline const char *chess_mark(const chess_rules *rules, const chess_state *s, int32_t action) {
    chess_room room;
    chess_state *after = &room.state;
    memcpy(room.bytes, s, sizeof(chess_state));
    after->length = 0; /* checks ask for no history */
    chess_move(rules, after, action);
    const chess_board *b = &after->board;
    const uint64_t checkers = chess_checkers(&rules->tables, b);
    if (!checkers) return "";
    return chess_can_move(&rules->tables, b, after->rights, after->file, checkers) ? "+" : "#";
}

/* A legal move in SAN; another action as UCI has it. */
static inline int32_t chess_write_san(const chess_rules *rules, const chess_state *s, int32_t action, char *text) {
    int32_t actions[PLAYOUT_MAX_LEGAL];
    const int32_t count = chess_generate(&rules->tables, &s->board, s->rights, s->file, actions);
    const chess_parts move = chess_parts_of(rules, s, action);
    int legal = 0, others = 0, same_file = 0, same_rank = 0;
    for (int32_t i = 0; i < count; i++) {
        legal |= actions[i] == action;
        const chess_parts other = chess_parts_of(rules, s, actions[i]);
        if (other.piece != move.piece || other.to != move.to || other.from == move.from) continue;
        others = 1;
        same_file |= (other.from & 7) == (move.from & 7);
        same_rank |= other.from >> 3 == move.from >> 3;
    }
    if (!legal) return chess_write_uci(rules, s, action, text);
    char *out = text;
    if (move.piece == CHESS_KING && (move.from - move.to == 2 || move.to - move.from == 2)) {
        out += sprintf(out, move.to > move.from ? "O-O" : "O-O-O");
    } else {
        const int pawn = move.piece == CHESS_PAWN;
        if (!pawn) *out++ = CHESS_LETTERS[move.piece];
        if (pawn ? move.takes : others && (!same_file || same_rank)) *out++ = (char)('a' + (move.from & 7));
        if (!pawn && same_file) *out++ = (char)('1' + (move.from >> 3));
        if (move.takes) *out++ = 'x';
        out = chess_put_square(out, move.to);
        if (move.promotion) out += sprintf(out, "=%c", CHESS_LETTERS[move.promotion]);
    }
    out += sprintf(out, "%s", chess_mark(rules, s, action));
    return (int32_t)(out - text);
}

static inline int chess_piece_of(char letter) {
    const char *found = letter && letter != '.' ? strchr(CHESS_LETTERS, letter) : NULL;
    return found ? (int)(found - CHESS_LETTERS) : CHESS_NONE;
}

/* The action of UCI text, legal or not; -1 if it names none here. */
static inline int32_t chess_read_uci(const chess_rules *rules, const chess_state *s, const char *text) {
    const int mirror = s->black ? 56 : 0;
    for (int i = 0; i < 4; i++)
        if (i & 1 ? text[i] < '1' || text[i] > '8' : text[i] < 'a' || text[i] > 'h') return -1;
    const int from = (text[0] - 'a' + 8 * (text[1] - '1')) ^ mirror, to = (text[2] - 'a' + 8 * (text[3] - '1')) ^ mirror;
    const int promotes = chess_at(&s->board, from) == CHESS_PAWN && (s->board.own >> from & 1) && from >= 48;
    const int32_t action = rules->tables.action[from][to];
    if (action == CHESS_ACTIONS) return -1;
    if (!text[4]) return promotes ? -1 : action;
    if (!promotes || text[5] || to < 56 || to - from < 7 || to - from > 9) return -1;
    const char *found = strchr("nbr", text[4]);
    if (text[4] == 'q') return action;
    return found ? rules->tables.promote[from & 7][1 + (to & 7) - (from & 7)] + (int32_t)(found - "nbr") : -1;
}

/* The legal action that SAN names; -1 if there is none, or more than one. */
static inline int32_t chess_read_san(const chess_rules *rules, const chess_state *s, const char *text) {
    char word[16];
    int length = 0, piece = CHESS_PAWN, promotion = CHESS_NONE, file = -1, rank = -1;
    for (const char *c = text; *c; c++) {
        if (*c == 'x' || *c == '-' || *c == '=' || *c == ':') continue;
        if (*c == '+' || *c == '#' || *c == '!' || *c == '?') {
            if (c[strspn(c, "+#!?")]) return -1;
            break;
        }
        if (length == 15) return -1;
        word[length++] = *c == '0' ? 'O' : *c;
    }
    word[length] = 0;
    const int castles = strcmp(word, "OO") == 0 ? 6 : strcmp(word, "OOO") == 0 ? 2 : 0;
    const char *c = word;
    if (!castles) {
        if (chess_piece_of(*c)) piece = chess_piece_of(*c++);
        if (length && chess_piece_of(word[length - 1]) && piece == CHESS_PAWN) {
            promotion = chess_piece_of(word[--length]);
            word[length] = 0;
        }
        const int left = length - (int)(c - word);
        if (left < 2 || left > 4) return -1;
        const char *to = word + length - 2;
        if (to[0] < 'a' || to[0] > 'h' || to[1] < '1' || to[1] > '8') return -1;
        if (c < to && *c >= 'a' && *c <= 'h') file = *c++ - 'a';
        if (c < to && *c >= '1' && *c <= '8') rank = *c++ - '1';
        if (c != to) return -1;
    }
    int32_t actions[PLAYOUT_MAX_LEGAL], found = -1;
    const int32_t count = chess_generate(&rules->tables, &s->board, s->rights, s->file, actions);
    for (int32_t i = 0; i < count; i++) {
        const chess_parts move = chess_parts_of(rules, s, actions[i]);
        if (castles) {
            if (move.piece != CHESS_KING || (move.from & 7) != 4 || (move.to & 7) != castles) continue;
        } else {
            if (move.piece != piece || move.promotion != promotion) continue;
            if ((move.to & 7) != c[0] - 'a' || move.to >> 3 != c[1] - '1') continue;
            if ((file >= 0 && (move.from & 7) != file) || (rank >= 0 && move.from >> 3 != rank)) continue;
            if (file < 0 && piece == CHESS_PAWN && move.takes) continue; /* the file belongs to a pawn's capture */
        }
        if (found >= 0) return -1;
        found = actions[i];
    }
    return found;
}

static inline int32_t chess_read_move(const chess_rules *rules, const chess_state *s, const char *text) {
    const int32_t action = chess_read_uci(rules, s, text);
    return action >= 0 ? action : chess_read_san(rules, s, text);
}

#endif
