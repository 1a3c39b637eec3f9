/* The deck of Kuhn and Leduc poker: J, Q, K for two players; for more one rank more than players, up to the ace. */
#ifndef PLAYOUT_CARDS_H
#define PLAYOUT_CARDS_H

#include "playout_text.h"

/* The letter of a rank, counted from the deck's lowest. */
static inline char cards_letter(int32_t players, int32_t rank) {
    return "23456789TJQKA"[(players == 2 ? 9 : 12 - players) + rank];
}

/* The rank that a letter of either case names, or -1. */
static inline int32_t cards_rank(int32_t players, char letter) {
    for (int32_t rank = 0; rank <= players; rank++)
        if (playout_lower(cards_letter(players, rank)) == playout_lower(letter)) return rank;
    return -1;
}

#endif
