/* Moves as people write them: cells such as "b12" and words, in letters of either case. */
#ifndef PLAYOUT_TEXT_H
#define PLAYOUT_TEXT_H

#include <stdint.h>

static inline char playout_lower(char letter) { return letter >= 'A' && letter <= 'Z' ? (char)(letter + 32) : letter; }

/* Is the text this word, which is given in small letters? */
static inline int playout_same_word(const char *text, const char *word) {
    while (*word && playout_lower(*text) == *word) {
        text++;
        word++;
    }
    return !*text && !*word;
}

/* The column of the cell that the text names, counted from 0, and the number behind the letter, of one or two digits;
 * -1 if it names none. */
static inline int32_t playout_read_cell(const char *text, int32_t *number) {
    const int32_t column = playout_lower(text[0]) - 'a';
    *number = 0;
    if (column < 0 || column > 25 || text[1] < '1' || text[1] > '9') return -1;
    for (const char *c = text + 1; *c; c++) {
        if (*c < '0' || *c > '9' || c - text > 2) return -1;
        *number = 10 * *number + (*c - '0');
    }
    return column;
}

#endif
