/* The search of the Connect Four solver, written once and compiled several times: solver.h includes this
 * file with C4_(name), C4_WIDTH and C4_HEIGHT defined, once with the usual 7x6 as constants and once for any size.
 *
 * A position is (own, all): the stones of the side to move and all stones; cell (column, row) is bit
 * column * (height + 1) + row, row 0 at the bottom, and the bit above each column stays empty as a sentinel.
 * Scores count from the end: a win with the k-th last own stone is worth k, its loss -k, a draw 0.
 *
 * Fewer than four columns hold upright fours alone: there the other shifts, up to 3 * (height + 2), could exceed 63.
 */

/* Empty or full, every cell that would complete four for `own`; the caller removes occupied and sentinel bits. */
static inline uint64_t C4_(completing)(const c4_solver *s, uint64_t own) {
    const int h = C4_HEIGHT;
    (void)s;
    uint64_t cells = (own << 1) & (own << 2) & (own << 3); /* upwards only: below a stone nothing is empty */
    const int steps[3] = {h, h + 1, h + 2};
    for (int i = 0; i < 3 && C4_WIDTH >= 4; i++) {
        const int d = steps[i];
        const uint64_t left = (own << d) & (own << 2 * d), right = (own >> d) & (own >> 2 * d);
        cells |= left & ((own << 3 * d) | (own >> d));
        cells |= right & ((own >> 3 * d) | (own << d));
    }
    return cells;
}

static inline int C4_(has_four)(const c4_solver *s, uint64_t own) {
    const int h = C4_HEIGHT;
    (void)s;
    const int steps[4] = {1, h, h + 1, h + 2};
    uint64_t found = 0;
    for (int i = 0; i < (C4_WIDTH >= 4 ? 4 : 1); i++) {
        const uint64_t pairs = own & (own >> steps[i]);
        found |= pairs & (pairs >> 2 * steps[i]);
    }
    return found != 0;
}

/* Two bounds from answering every move in the same column, which an even height makes possible. Rows count from 1.
 *
 * follow_up: the second player answers, so the first gets the odd rows and the second the even ones. Columns filled to
 * an odd height ("uneven") are answered in pairs; who gets which of their next cells is open. If the second player is to
 * move, it first takes one of them. Without a four in all that the first player might get, it cannot win; with a four in
 * what the second surely gets, the first player loses. Returns an upper bound for the first player, or C4_UNKNOWN. */
static inline int C4_(follow_up)(const c4_solver *s, uint64_t first, uint64_t all, uint64_t uneven, int first_to_move) {
    const uint64_t sure = first | (s->odd_cells & ~all);
    int best = C4_UNKNOWN;
    if (first_to_move) {
        if (C4_(has_four)(s, sure | uneven)) return C4_UNKNOWN;
        return C4_(has_four)(s, s->board & ~(sure | uneven)) ? -1 : 0;
    }
    if (C4_(has_four)(s, sure)) return C4_UNKNOWN;
    for (uint64_t rest = uneven; rest; rest &= rest - 1) {
        const uint64_t granted = sure | (uneven & ~(rest & -rest));
        if (C4_(has_four)(s, granted)) continue;
        if (C4_(has_four)(s, s->board & ~granted)) return -1;
        best = 0;
    }
    return best;
}

/* zugzwang: the second player is to move and the first has an aim (a completing cell) on an odd row of an uneven column.
 * If the first player answers everything, the second must at last play below that aim. It meanwhile gets the odd rows
 * elsewhere, the next cells of the other uneven columns at most, and the even rows below the aim; if none of that makes
 * a four, the first player wins. Returns an upper bound for the second player, or C4_UNKNOWN. */
static inline int C4_(zugzwang)(const c4_solver *s, uint64_t second, uint64_t all, uint64_t uneven, uint64_t aims) {
    const uint64_t open = ~all & s->board;
    for (int i = 0; i < C4_WIDTH; i++) {
        const uint64_t column = s->columns[i], there = aims & column & open & s->odd_cells;
        if (!there || !(uneven & column)) continue;
        const uint64_t aim = there & -there, below = aim - 1;
        const uint64_t granted = second | (s->odd_cells & open & ~column) | (uneven & ~column) |
                                 (column & open & below & ~s->odd_cells);
        if (C4_(has_four)(s, granted)) continue;
        const int above = __builtin_popcountll(column & ~(aim | below)); /* what may stay empty when it is over */
        return -((above + 2) / 2);
    }
    return C4_UNKNOWN;
}

/* Every position has its own key, the same for mirror images where they are merged, mixed for the table. */
static inline uint64_t C4_(key)(const c4_solver *s, uint64_t own, uint64_t all, int moves) {
    uint64_t key = own + all, mirrored = 0;
    if (moves < s->mirror_plies && C4_WIDTH > 1) {
        const int step = C4_HEIGHT + 1;
        const uint64_t column = (UINT64_C(1) << step) - 1;
        for (int i = 0; i < C4_WIDTH; i++) mirrored |= (key >> i * step & column) << (C4_WIDTH - 1 - i) * step;
        if (mirrored < key) key = mirrored;
    }
    return c4_mix(s->table, key);
}

/* A bound on the score of (own, all), `moves` stones, by a null window: at least beta, then a lower bound, or below
 * beta, then an upper bound. Requires that the side to move cannot win at once. `threats` are the cells that complete
 * the other side's four. */
static int C4_(search)(c4_solver *s, uint64_t own, uint64_t all, uint64_t threats, int moves, int beta) {
    if ((++s->nodes & C4_POLL_MASK) == 0 && s->poll && s->poll(s->poll_data)) s->stopped = 1;
    if (s->nodes == s->max_nodes) s->stopped = 1;
    if (s->stopped) return 0;

    const int left = C4_WIDTH * C4_HEIGHT - moves;
    const uint64_t next = (all + s->bottom) & s->board;
    uint64_t playable = next;
    const uint64_t forced = next & threats;
    if (forced) {
        if (forced & (forced - 1)) return -(left / 2); /* two threats cannot both be met */
        playable = forced;
    }
    playable &= ~((threats & s->board & ~all) >> 1); /* never play below the other side's completing cell */
    if (!playable) return -(left / 2);
    if (left <= 2) return 0;

    /* The other side needs at least two more stones, we at least two: what remains possible. */
    int low = -(left - 2) / 2, high = (left - 1) / 2;
    if (low >= beta) return low;
    if (high < beta) return high;

    if (s->parity) {
        const uint64_t uneven = next & ~s->odd_cells;
        const int second_to_move = moves & 1;
        if (second_to_move) {
            const int bound = C4_(zugzwang)(s, own, all, uneven, threats);
            if (bound < beta) return bound;
            if (bound < high) high = bound;
        }
        const int bound = C4_(follow_up)(s, second_to_move ? own ^ all : own, all, uneven, !second_to_move);
        if (bound != C4_UNKNOWN && second_to_move) {
            if (-bound >= beta) return -bound;
            if (-bound > low) low = -bound;
        } else if (bound != C4_UNKNOWN) {
            if (bound < beta) return bound;
            if (bound < high) high = bound;
        }
    }

    const uint64_t key = C4_(key)(s, own, all, moves);
    uint64_t *const cluster = c4_cluster(s->table, key);
    const int slot = c4_find(s->table, cluster, key);
    if (slot >= 0) {
        const uint64_t entry = c4_load(cluster + slot);
        const int known_low = c4_entry_low(entry), known_high = c4_entry_high(entry);
        if (known_low >= beta) return known_low;
        if (known_high < beta) return known_high;
        if (known_low > low) low = known_low;
        if (known_high < high) high = known_high;
    }

    /* Best first: the move that leaves most completing cells, then the more central one. */
    struct { uint64_t move, threats; int rank; } order[C4_MAX_WIDTH];
    uint64_t keys[C4_MAX_WIDTH];
    const int look_ahead = left > C4_LOOK_AHEAD;
    int count = 0;
    for (int i = 0; i < C4_WIDTH; i++) {
        const uint64_t move = playable & s->columns[s->centre_first[i]];
        if (!move) continue;
        if (look_ahead) {
            keys[count] = C4_(key)(s, own ^ all, all | move, moves + 1);
            __builtin_prefetch(c4_cluster(s->table, keys[count]));
        }
        const uint64_t made = C4_(completing)(s, own | move) & s->board & ~(all | move);
        const int rank = __builtin_popcountll(made);
        int j = count++;
        for (; j > 0 && order[j - 1].rank < rank; j--) order[j] = order[j - 1];
        order[j].move = move;
        order[j].threats = made;
        order[j].rank = rank;
    }
    /* A reply whose score the table knows may be enough, whichever comes first in the order. */
    for (int i = 0; look_ahead && i < count; i++) {
        uint64_t *const there = c4_cluster(s->table, keys[i]);
        const int at = c4_find(s->table, there, keys[i]);
        if (at >= 0 && -c4_entry_high(c4_load(there + at)) >= beta) return -c4_entry_high(c4_load(there + at));
    }

    const uint64_t nodes_before = s->nodes;
    int value = -C4_UNKNOWN;
    for (int i = 0; i < count && value < beta; i++) {
        const int score = -C4_(search)(s, own ^ all, all | order[i].move, order[i].threats, moves + 1, 1 - beta);
        if (score > value) value = score;
    }
    if (s->stopped) return 0;
    if (value > high) value = high;
    if (value < low) value = low;
    if (value >= beta) low = value;
    else high = value;
    c4_store(s->table, cluster, key, low, high, s->nodes - nodes_before);
    return value;
}
