/* An exact solver for Connect Four on any board whose width * (height + 1) fits in 64 bits, four in a row.
 *
 * Negamax with null windows, a transposition table whose entries carry both bounds, moves ordered by the threats they
 * make, moves that lose at once left out, mirrored positions merged, and bounds from answering in the same column. This
 * file holds the table, the set-up and the questions asked of the search; search.h holds the search.
 */
#ifndef PLAYOUT_CONNECT_FOUR_SOLVER_H
#define PLAYOUT_CONNECT_FOUR_SOLVER_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#define C4_MAX_WIDTH 32
#define C4_LOOK_AHEAD 6 /* with fewer cells left, searching is quicker than asking the table about replies */
#define C4_UNKNOWN 127
#define C4_ILLEGAL (-128)
#define C4_POLL_MASK ((UINT64_C(1) << 20) - 1)

/* One table may serve several solvers on several threads: an entry is one word, read and written atomically, and holds
 * its position's whole identity, so that a race between threads can lose an entry, but never give a wrong one.
 * Word: tag (what the cluster's number leaves of the mixed key) | effort 4 | high + 64: 7 | low + 64: 7. */
typedef struct c4_table {
    uint64_t *words;
    uint64_t clusters_mask;
    int cluster_bits;
    int key_bits;
    uint64_t multiplier;
} c4_table;

#define C4_CLUSTER 8

static inline uint64_t c4_load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }
static inline int c4_entry_low(uint64_t entry) { return (int)(entry & 127) - 64; }
static inline int c4_entry_high(uint64_t entry) { return (int)((entry >> 7) & 127) - 64; }
static inline int c4_entry_effort(uint64_t entry) { return (int)((entry >> 14) & 15); }

/* 0, or -1 without memory. The table is as large as asked for, rounded down to a power of two, and never so small that
 * a tag does not fit in its word. */
static int c4_table_open(c4_table *table, int width, int height, uint64_t bytes) {
    table->key_bits = width * (height + 1);
    table->cluster_bits = table->key_bits > 50 ? table->key_bits - 46 : 4;
    while ((UINT64_C(64) << (table->cluster_bits + 1)) <= bytes && table->cluster_bits + 1 < table->key_bits)
        table->cluster_bits++;
    table->clusters_mask = (UINT64_C(1) << table->cluster_bits) - 1;
    table->multiplier = UINT64_C(0x9E3779B97F4A7C15);
    const size_t size = (size_t)64 << table->cluster_bits;
    const size_t page = (size_t)1 << 21;
    table->words = aligned_alloc(size < page ? 64 : page, size);
    if (!table->words) return -1;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (size >= page) madvise(table->words, size, MADV_HUGEPAGE); /* the table is read at random: a tenth of the time */
#endif
    memset(table->words, 0, size);
    return 0;
}

static void c4_table_close(c4_table *table) {
    free(table->words);
    table->words = NULL;
}

/* A bijection on key_bits bits, so that cluster number and tag together are the key. */
static inline uint64_t c4_mix(const c4_table *table, uint64_t key) {
    const int n = table->key_bits, half = n / 2;
    const uint64_t mask = n == 64 ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1;
    key ^= key >> half;
    key = (key * table->multiplier) & mask;
    key ^= key >> half;
    return key;
}

static inline uint64_t *c4_cluster(const c4_table *table, uint64_t mixed) {
    return table->words + C4_CLUSTER * (mixed & table->clusters_mask);
}

static inline int c4_find(const c4_table *table, const uint64_t *cluster, uint64_t mixed) {
    const uint64_t tag = mixed >> table->cluster_bits;
    for (int i = 0; i < C4_CLUSTER; i++) {
        const uint64_t entry = c4_load(cluster + i);
        if (entry >> 18 == tag && entry) return i;
    }
    return -1;
}

/* Replaces the position itself, else the entry of least effort; a neighbour ages by one, so that old work goes in time. */
static inline void c4_store(c4_table *table, uint64_t *cluster, uint64_t mixed, int low, int high, uint64_t nodes) {
    const uint64_t tag = mixed >> table->cluster_bits;
    int effort = 0;
    while (effort < 15 && nodes >> (2 * effort + 1)) effort++;
    int victim = 0, least = 16;
    for (int i = 0; i < C4_CLUSTER; i++) {
        const uint64_t entry = c4_load(cluster + i);
        if (entry >> 18 == tag || !entry) {
            victim = i;
            least = -1;
            break;
        }
        if (c4_entry_effort(entry) < least) {
            least = c4_entry_effort(entry);
            victim = i;
        }
    }
    if (least > 0) {
        uint64_t *const other = cluster + (mixed >> 40) % C4_CLUSTER;
        const uint64_t entry = c4_load(other);
        if (c4_entry_effort(entry) > 0) __atomic_store_n(other, entry - (UINT64_C(1) << 14), __ATOMIC_RELAXED);
    }
    const uint64_t entry = tag << 18 | (uint64_t)effort << 14 | (uint64_t)(high + 64) << 7 | (uint64_t)(low + 64);
    __atomic_store_n(cluster + victim, entry, __ATOMIC_RELAXED);
}

typedef struct c4_solver {
    int width, height;
    int parity;               /* the height is even: the follow-up bound holds */
    int mirror_plies;         /* mirrored positions are merged below this many stones */
    uint64_t board, bottom;   /* all cells; the lowest of each column */
    uint64_t odd_cells;       /* rows 1, 3, 5 counted from 1 */
    uint64_t columns[C4_MAX_WIDTH];
    int centre_first[C4_MAX_WIDTH];
    c4_table *table;
    uint64_t nodes;
    uint64_t max_nodes;       /* reaching it stops the search; 0 never does */
    int stopped;
    int (*poll)(void *data);  /* asked now and then; not zero stops the search */
    void *poll_data;
} c4_solver;

static void c4_solver_open(c4_solver *s, int width, int height, c4_table *table) {
    memset(s, 0, sizeof *s);
    s->width = width;
    s->height = height;
    s->parity = height % 2 == 0;
    s->table = table;
    s->mirror_plies = 14; /* later, few mirror images meet */
    for (int column = 0; column < width; column++) {
        const uint64_t cells = ((UINT64_C(1) << height) - 1) << column * (height + 1);
        s->columns[column] = cells;
        s->board |= cells;
        s->bottom |= UINT64_C(1) << column * (height + 1);
        for (int row = 0; row < height; row += 2) s->odd_cells |= UINT64_C(1) << (column * (height + 1) + row);
        s->centre_first[column] = (width - 1) / 2 + (column % 2 ? 1 : -1) * ((column + 1) / 2);
    }
    /* (width - 1) / 2, then right, left, right, ...: an even width has one column more on the right. */
}

/* One copy for each kind of processor: popcount as an instruction is worth a third of the time. */
#define C4_JOIN_(a, b) a##b
#define C4_JOIN(a, b) C4_JOIN_(a, b)

#define C4_(name) c4_any_##name
#define C4_WIDTH s->width
#define C4_HEIGHT s->height
#include "search.h"
#undef C4_
#undef C4_WIDTH
#undef C4_HEIGHT

#define C4_(name) c4_76_##name
#define C4_WIDTH 7
#define C4_HEIGHT 6
#include "search.h"
#undef C4_
#undef C4_WIDTH
#undef C4_HEIGHT

#if defined(__x86_64__) && defined(__GNUC__)
#define C4_X86 1
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("popcnt,bmi,bmi2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("popcnt,bmi,bmi2")
#endif
#define C4_(name) c4_76_bmi_##name
#define C4_WIDTH 7
#define C4_HEIGHT 6
#include "search.h"
#undef C4_
#undef C4_WIDTH
#undef C4_HEIGHT
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

static int c4_null_window(c4_solver *s, uint64_t own, uint64_t all, uint64_t threats, int moves, int beta) {
    if (s->width == 7 && s->height == 6) {
#ifdef C4_X86
        if (__builtin_cpu_supports("popcnt") && __builtin_cpu_supports("bmi2"))
            return c4_76_bmi_search(s, own, all, threats, moves, beta);
#endif
        return c4_76_search(s, own, all, threats, moves, beta);
    }
    return c4_any_search(s, own, all, threats, moves, beta);
}

/* The exact score of a position that is not over, clipped to [alpha, beta]. */
static int c4_score(c4_solver *s, uint64_t own, uint64_t all, int alpha, int beta) {
    const int moves = __builtin_popcountll(all), left = s->width * s->height - moves;
    const uint64_t next = (all + s->bottom) & s->board;
    const int won = (c4_any_completing(s, own) & next) != 0;
    const uint64_t threats = c4_any_completing(s, own ^ all) & s->board & ~all;
    int low = won ? (left + 1) / 2 : -(left / 2), high = won ? low : (left - 1) / 2;
    if (low < alpha) low = alpha;
    if (high > beta) high = beta;
    while (low < high && !s->stopped) {
        /* Halve the interval, but first ask close to zero, where shallow proofs are. */
        int middle = low + (high - low) / 2;
        if (middle <= 0 && low / 2 < middle) middle = low / 2;
        else if (middle >= 0 && high / 2 > middle) middle = high / 2;
        const int value = c4_null_window(s, own, all, threats, moves, middle + 1);
        if (value <= middle) high = value < low ? low : value;
        else low = value > high ? high : value;
    }
    return low < alpha ? alpha : low > beta ? beta : low;
}

/* scores [width]: the score for the side to move after each move, C4_ILLEGAL where the column is full. With `outcome`
 * only the sign is sought, which takes a fraction of the time. */
static void c4_score_moves(c4_solver *s, uint64_t own, uint64_t all, int outcome, int8_t *scores) {
    const int left = s->width * s->height - __builtin_popcountll(all);
    const uint64_t next = (all + s->bottom) & s->board;
    const uint64_t wins = c4_any_completing(s, own) & next;
    memset(scores, C4_ILLEGAL, (size_t)s->width);
    for (int i = 0; i < s->width; i++) {
        const int column = s->centre_first[i];
        const uint64_t move = next & s->columns[column];
        if (!move) continue;
        int score;
        if (move & wins) score = (left + 1) / 2;
        else if (left == 1) score = 0;
        else if (outcome) score = -c4_score(s, own ^ all, all | move, -1, 1);
        else score = -c4_score(s, own ^ all, all | move, -C4_UNKNOWN, C4_UNKNOWN);
        scores[column] = (int8_t)(outcome ? (score > 0) - (score < 0) : score);
    }
}

#endif
