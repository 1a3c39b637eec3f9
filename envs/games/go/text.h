/* Go in text. A move is a vertex of GTP: column (there is no "I") and row, counted from the bottom left, or "pass". A
 * state is one line: the rows of the position that the game began from, the top one first, joined by "/" ("X" for
 * Black, "O" for White, "." for empty); "b" or "w", who moves first; and the moves since, all with one blank between.
 * So a line keeps the history that superko asks for: ".../.X./... w A1 pass".
 */
#ifndef PLAYOUT_GO_TEXT_H
#define PLAYOUT_GO_TEXT_H

#include <stdio.h>

#include "repetition.h"

static const char GO_COLUMNS[] = "ABCDEFGHJKLMNOPQRST";

static int32_t go_write_move(int32_t n, int32_t move, char *text) {
    if (move == n * n) return (int32_t)sprintf(text, "pass");
    return (int32_t)sprintf(text, "%c%d", GO_COLUMNS[move % n], n - move / n);
}

static int go_same_letter(char letter, char upper) { return letter == upper || letter == upper - 'A' + 'a'; }

/* The move that a word of this length names, in letters of either case; -1 if none. */
static int32_t go_read_move(int32_t n, const char *text, size_t length) {
    int32_t column = 0, row = 0;
    if (length == 4) {
        for (int32_t i = 0; i < 4; i++)
            if (!go_same_letter(text[i], "PASS"[i])) return -1;
        return n * n;
    }
    if (length < 2 || length > 3 || text[1] == '0') return -1;
    while (column < n && !go_same_letter(text[0], GO_COLUMNS[column])) column++;
    for (size_t i = 1; i < length; i++) {
        if (text[i] < '0' || text[i] > '9') return -1;
        row = 10 * row + text[i] - '0';
    }
    return column < n && row >= 1 && row <= n ? (n - row) * n + column : -1;
}

static char go_letter(int32_t n, const uint64_t *stones, int32_t point) {
    return go_has(stones, point) ? 'X' : go_has(stones + go_words(n), point) ? 'O' : '.';
}

static int32_t go_write_line(const go_tables *t, const go_state *s, char *text) {
    const int32_t n = t->size;
    const uint64_t *setup = go_setup(n, (go_state *)s);
    char *out = text;
    for (int32_t point = 0; point < n * n; point++) {
        if (point && point % n == 0) *out++ = '/';
        *out++ = go_letter(n, setup, point);
    }
    *out++ = ' ';
    *out++ = s->first ? 'w' : 'b';
    for (int32_t ply = 0; ply < s->ply; ply++) {
        *out++ = ' ';
        out += go_write_move(n, go_move_at(n, s, ply), out);
    }
    *out = 0;
    return (int32_t)(out - text);
}

static int32_t go_read_line(const go_tables *t, go_state *s, const char *text) {
    const int32_t n = t->size;
    uint64_t stones[2 * GO_MAX_WORDS] = {0};
    for (int32_t point = 0; point < n * n; point++, text++) {
        if (point && point % n == 0 && *text++ != '/') return -1;
        if (*text == 'X')
            go_put(stones, point);
        else if (*text == 'O')
            go_put(stones + go_words(n), point);
        else if (*text != '.')
            return -1;
    }
    if (text[0] != ' ' || (text[1] != 'b' && text[1] != 'w') || !go_proper(t, stones)) return -1;
    go_begin(t, s, stones, text[1] == 'w');
    for (text += 2; *text;) {
        if (*text++ != ' ') return -1;
        const size_t length = strcspn(text, " ");
        const int32_t move = go_read_move(n, text, length);
        if (!go_is_legal(t, s, move)) return -1;
        go_apply(n, t, s, move);
        text += length;
    }
    return 0;
}

/* The board with its coordinates; the last move stands in brackets. */
static int32_t go_write_picture(const go_tables *t, const go_state *s, char *text) {
    const int32_t n = t->size, last = s->ply ? go_move_at(n, s, s->ply - 1) : n * n;
    char *out = text;
    for (int32_t row = 0; row < n; row++) {
        out += sprintf(out, "%2d", n - row);
        for (int32_t column = 0; column < n; column++) {
            const int32_t point = row * n + column;
            *out++ = point == last ? '(' : column && point == last + 1 ? ')' : ' ';
            *out++ = go_letter(n, s->sets, point);
        }
        if (row * n + n - 1 == last) *out++ = ')';
        *out++ = '\n';
    }
    out += sprintf(out, "  ");
    for (int32_t column = 0; column < n; column++) out += sprintf(out, " %c", GO_COLUMNS[column]);
    if (!go_over(n, s)) {
        out += sprintf(out, "\n%s to play", go_turn(s) ? "White (O)" : "Black (X)");
        if (s->passes) out += sprintf(out, ", after a pass");
    }
    return (int32_t)(out - text);
}

/* Bytes are a state if its own moves lead to just these bytes; `again` is room for one. */
static int32_t go_check_bytes(const go_tables *t, const go_state *s, go_state *again) {
    const int32_t n = t->size;
    if (s->ply > go_max_plies(n) || s->first > 1 || !go_proper(t, go_setup(n, (go_state *)s))) return -1;
    go_begin(t, again, go_setup(n, (go_state *)s), s->first);
    for (int32_t ply = 0; ply < s->ply; ply++) {
        const int32_t move = go_move_at(n, s, ply);
        if (!go_is_legal(t, again, move)) return -1;
        go_apply(n, t, again, move);
    }
    return memcmp(again, s, (size_t)go_state_size(n)) ? -1 : 0;
}

#endif
