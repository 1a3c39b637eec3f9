/* The rules of backgammon without the doubling cube: men, dice, and which of them may be moved.
 *
 * Each player counts points as its own men travel: from 24 down to 1, then off; 25 is the bar. What is point p to one is
 * 25 - p to the other. A turn is a roll, drawn by chance, and one action for every man that moves; a turn ends by
 * itself when no die can be played any more. The opening roll, a die for each player and never a double, says who begins.
 * Leaves out text, observations and the table (backgammon/table.h).
 */
#ifndef PLAYOUT_BACKGAMMON_H
#define PLAYOUT_BACKGAMMON_H

#include <string.h>

#include "playout_maker.h"

#define BG_MEN 15
#define BG_BAR 25
#define BG_OFF 0
#define BG_OPENING 2     /* turn before the opening roll */
#define BG_MAX_ROLLS 1000 /* then a game is drawn; random play needs a few hundred */
#define BG_ACTIONS (6 * BG_BAR)
#define BG_OUTCOMES 36 /* numbers of rolls; at most 30 of them are possible at a time */

typedef struct bg_state {
    uint8_t men[2][26]; /* [player][its point]; point 0 is off the board */
    uint8_t turn;       /* whose; at a chance node, who rolls; BG_OPENING */
    uint8_t left;       /* men that the dice may still move; 0 where a roll is due */
    uint8_t dice[2];    /* the die that is left, twice or more of a double; or both, the higher first */
    uint32_t rolls;
    uint32_t zero;
} bg_state;

/* An action is a die and a point to move from; a roll is two dice. */
static inline int32_t bg_action(int32_t die, int32_t from) { return (die - 1) * BG_BAR + from - 1; }
static inline int32_t bg_die(int32_t action) { return action / BG_BAR + 1; }
static inline int32_t bg_from(int32_t action) { return action % BG_BAR + 1; }
static inline int32_t bg_roll(int32_t first, int32_t second) { return (first - 1) * 6 + second - 1; }

static inline int bg_is_over(const bg_state *s) {
    return s->men[0][BG_OFF] == BG_MEN || s->men[1][BG_OFF] == BG_MEN || (s->left == 0 && s->rolls >= BG_MAX_ROLLS);
}

/* Bit i of the result: is byte i of the 8 at `bytes`, all below 128, at least 128 - add? */
static inline uint32_t bg_bytes_from(const uint8_t *bytes, uint64_t add) {
    uint64_t word;
    memcpy(&word, bytes, 8);
    word = ((word + add * UINT64_C(0x0101010101010101)) >> 7) & UINT64_C(0x0101010101010101);
    return (uint32_t)((word * UINT64_C(0x0102040810204080)) >> 56);
}

/* Points (as bits 1 to 25) with at least 128 - add men. */
static inline uint32_t bg_points(const uint8_t *men, uint64_t add) {
    const uint32_t all = bg_bytes_from(men, add) | bg_bytes_from(men + 8, add) << 8 | bg_bytes_from(men + 16, add) << 16 |
                         bg_bytes_from(men + 18, add) << 18;
    return all & ~1u;
}

/* The same points as the other player counts them. */
static inline uint32_t bg_turned(uint32_t points) {
    points = (points & 0x55555555u) << 1 | ((points >> 1) & 0x55555555u);
    points = (points & 0x33333333u) << 2 | ((points >> 2) & 0x33333333u);
    points = (points & 0x0F0F0F0Fu) << 4 | ((points >> 4) & 0x0F0F0F0Fu);
    return __builtin_bswap32(points) >> 6;
}

/* What the mover's men may do: sets of points as it counts them. */
typedef struct bg_view {
    uint32_t own, single; /* points with a man of its own; with exactly one */
    uint32_t open;        /* points 1 to 24 without two or more of the other's */
} bg_view;

static inline bg_view bg_look(const bg_state *s) {
    const uint8_t *men = s->men[s->turn];
    bg_view v;
    v.own = bg_points(men, 127);
    v.single = v.own & ~bg_points(men, 126);
    v.open = ~bg_turned(bg_points(s->men[1 - s->turn], 126)) & 0x1FFFFFEu;
    return v;
}

/* The points from which one man can move by `die`. */
static inline uint32_t bg_sources(uint32_t own, uint32_t open, int32_t die) {
    if (own >> BG_BAR) return (open >> (BG_BAR - die) & 1u) << BG_BAR;
    uint32_t from = own & (open << die);
    if (own >> 7 == 0) { /* all men are home, and may go off: by the exact die, or the rearmost by a higher one */
        if (own >> die & 1u)
            from |= 1u << die;
        else if (own != 0 && own >> die == 0)
            from |= 1u << (31 - __builtin_clz(own));
    }
    return from;
}

/* Those of `sources` of one die after which a man can move by the other die. */
static inline uint32_t bg_followed(const bg_view *v, uint32_t sources, int32_t die, int32_t other) {
    uint32_t found = 0;
    for (uint32_t rest = sources; rest; rest &= rest - 1) {
        const int32_t from = __builtin_ctz(rest), to = from - die;
        const uint32_t own = (v->own & ~(v->single & (1u << from))) | (to > 0 ? 1u << to : 0);
        if (bg_sources(own, v->open, other)) found |= 1u << from;
    }
    return found;
}

/* The points to move from by each of the dice that are left. As many men have to move as can; where either die can be
 * played but not both, the higher. Of a double any order comes to the same number: a move that is possible stays so
 * while other men move by the same die. */
static inline void bg_legal_sources(const bg_state *s, uint32_t *high, uint32_t *low) {
    const bg_view v = bg_look(s);
    *high = bg_sources(v.own, v.open, s->dice[0]);
    *low = 0;
    if (s->dice[1] == 0) return;
    *low = bg_sources(v.own, v.open, s->dice[1]);
    const uint32_t high_first = bg_followed(&v, *high, s->dice[0], s->dice[1]);
    const uint32_t low_first = bg_followed(&v, *low, s->dice[1], s->dice[0]);
    if (high_first | low_first) {
        *high = high_first;
        *low = low_first;
    } else if (*high) {
        *low = 0;
    }
}

static inline void bg_end_turn(bg_state *s) {
    s->turn = (uint8_t)(1 - s->turn);
    s->left = s->dice[0] = s->dice[1] = 0;
}

/* Ends the turn if no die that is left can be played. */
static inline void bg_pass_if_stuck(bg_state *s) {
    const bg_view v = bg_look(s);
    if (bg_sources(v.own, v.open, s->dice[0])) return;
    if (s->dice[1] && bg_sources(v.own, v.open, s->dice[1])) return;
    bg_end_turn(s);
}

static inline void bg_set_dice(bg_state *s, int32_t first, int32_t second) {
    s->dice[0] = (uint8_t)(first > second ? first : second);
    s->dice[1] = (uint8_t)(first == second ? 0 : first > second ? second : first);
    s->left = first == second ? 4 : 2;
}

static inline void bg_apply_roll(bg_state *s, int32_t first, int32_t second) {
    if (s->turn == BG_OPENING) s->turn = (uint8_t)(first < second);
    s->rolls++;
    bg_set_dice(s, first, second);
    bg_pass_if_stuck(s);
}

static inline void bg_apply_move(bg_state *s, int32_t die, int32_t from) {
    uint8_t *own = s->men[s->turn], *other = s->men[1 - s->turn];
    const int32_t to = from > die ? from - die : BG_OFF;
    own[from]--;
    own[to]++;
    if (to != BG_OFF && other[BG_BAR - to]) {
        other[BG_BAR - to] = 0;
        other[BG_BAR]++;
    }
    if (die == s->dice[0] && s->dice[1]) s->dice[0] = s->dice[1];
    s->dice[1] = 0;
    if (--s->left == 0 || own[BG_OFF] == BG_MEN)
        bg_end_turn(s);
    else
        bg_pass_if_stuck(s);
}

/* 1 for a game won, 2 for a gammon (the loser has no man off), 3 for a backgammon (and one is on the bar or among the
 * winner's last six points); negative where player 1 has won, 0 where nobody has. */
static inline int32_t bg_points_won(const bg_state *s) {
    const int32_t winner = s->men[1][BG_OFF] == BG_MEN;
    const uint8_t *loser = s->men[1 - winner];
    int32_t behind = 0, points = 1;
    if (s->men[winner][BG_OFF] != BG_MEN) return 0;
    for (int32_t p = 19; p <= BG_BAR; p++) behind += loser[p];
    if (loser[BG_OFF] == 0) points = behind ? 3 : 2;
    return winner ? -points : points;
}

static inline void bg_begin(bg_state *s) {
    memset(s, 0, sizeof *s);
    for (int32_t player = 0; player < 2; player++) {
        s->men[player][24] = 2;
        s->men[player][13] = 5;
        s->men[player][8] = 3;
        s->men[player][6] = 5;
    }
    s->turn = BG_OPENING;
}

#endif
