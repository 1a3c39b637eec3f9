/* Random games of Go, uniform over the legal moves (which fill a player's own eyes too), on a board of its own: groups
 * are rings of points with a count of pseudo-liberties (a liberty counts once for each stone that touches it), so that
 * a ply takes a constant number of steps. Positions are compared by their 64-bit hashes here, former ones of the state
 * too: they are put into the table when the filter first says that one may come back.
 */
#ifndef PLAYOUT_GO_PLAYOUT_H
#define PLAYOUT_GO_PLAYOUT_H

#include "observe.h"

#define GO_WALL 3

GO_INLINE int32_t go_stride(int32_t n) { return n + 1; }
GO_INLINE int32_t go_room(int32_t n) { return (n + 1) * (n + 2) + 1; }
/* A power of two, about twice the positions of a game or more. */
GO_INLINE int32_t go_table_size(int32_t n) { return n < 6 ? 128 : n < 9 ? 256 : n < 12 ? 512 : n < 17 ? 1024 : 2048; }

typedef struct go_arena {
    uint8_t color[GO_BORDERED]; /* 0 empty, 1 Black, 2 White, GO_WALL */
    uint8_t taken[2][GO_BORDERED];
    uint16_t head[GO_BORDERED], next[GO_BORDERED], size[GO_BORDERED]; /* size and liberties: where a group's head is */
    int16_t liberties[GO_BORDERED];
    uint16_t place[GO_BORDERED], list[GO_MAX_POINTS + 1]; /* empty points in any order; the last entry is the pass */
    int32_t count;
    uint64_t hash;
    uint64_t seen[2048];
    const go_tables *tables;
    const go_state *before;
    int32_t complete; /* does `seen` hold the positions of `before`? */
} go_arena;

GO_INLINE int32_t go_at_of(int32_t n, int32_t point) { return (point / n + 1) * go_stride(n) + point % n + 1; }

#define GO_EACH(n, at, near)                                                                                           \
    _Pragma("GCC unroll 4") for (int32_t near##_i = 0, near = (at) - go_stride(n); near##_i < 4;                       \
                                 near += near##_i == 1 ? 2 : go_stride(n) - 1, near##_i++)

GO_INLINE void go_arena_see(int32_t n, go_arena *a, uint64_t situation) {
    const uint64_t mask = (uint64_t)go_table_size(n) - 1;
    uint64_t at = situation & mask;
    while (a->seen[at] && a->seen[at] != situation) at = (at + 1) & mask;
    a->seen[at] = situation;
}

GO_INLINE int go_arena_has(int32_t n, const go_arena *a, uint64_t situation) {
    const uint64_t mask = (uint64_t)go_table_size(n) - 1;
    for (uint64_t at = situation & mask; a->seen[at]; at = (at + 1) & mask)
        if (a->seen[at] == situation) return 1;
    return 0;
}

/* Puts every position of the state's game into the table. */
static __attribute__((noinline)) void go_arena_complete(go_arena *a) {
    const go_tables *t = a->tables;
    const go_state *s = a->before;
    const int32_t n = t->size, words = go_words(n);
    uint64_t board[2 * GO_MAX_WORDS], taken[2 * GO_MAX_WORDS] = {0}, hash;
    memcpy(board, go_setup(n, (go_state *)s), 16 * (size_t)words);
    hash = go_hash_of(t, board);
    for (int32_t ply = 0; ply <= s->ply; ply++) {
        go_arena_see(n, a, go_situation(t, hash, (s->first + ply) & 1));
        const int32_t move = ply < s->ply ? go_move_at(n, s, ply) : n * n;
        if (move < n * n) go_place(n, t, board, move, (s->first + ply) & 1, &hash, taken);
    }
    a->complete = 1;
}

GO_INLINE int go_arena_repeats(int32_t n, go_arena *a, uint64_t situation) {
    if (!a->complete && go_maybe_seen(n, go_filter(n, (go_state *)a->before), situation)) go_arena_complete(a);
    return go_arena_has(n, a, situation);
}

GO_INLINE uint64_t go_arena_key(const go_arena *a, int32_t side, int32_t at) {
    return a->tables->key[side][a->tables->bordered[at]];
}

/* A stone without its captures: the counts of its neighbours, and its own group. */
GO_INLINE void go_arena_join(int32_t n, go_arena *a, int32_t at, int32_t side) {
    int32_t group = at;
    a->color[at] = (uint8_t)(1 + side);
    a->head[at] = a->next[at] = (uint16_t)at;
    a->size[at] = 1;
    a->liberties[at] = 0;
    a->hash ^= go_arena_key(a, side, at);
    GO_EACH(n, at, near) {
        if (a->color[near] == 0) {
            a->liberties[group]++;
            continue;
        }
        int32_t other = a->head[near];
        a->liberties[other]--;
        if (a->color[near] != 1 + side || other == group) continue;
        if (a->size[other] > a->size[group]) {
            const int32_t kept = group;
            group = other;
            other = kept;
        }
        a->liberties[group] = (int16_t)(a->liberties[group] + a->liberties[other]);
        a->size[group] = (uint16_t)(a->size[group] + a->size[other]);
        for (int32_t stone = other;;) {
            a->head[stone] = (uint16_t)group;
            if (a->next[stone] == other) {
                a->next[stone] = a->next[group];
                a->next[group] = (uint16_t)other;
                break;
            }
            stone = a->next[stone];
        }
    }
}

GO_INLINE void go_arena_remove(int32_t n, go_arena *a, int32_t head, int32_t side) {
    int32_t at = head;
    do {
        a->color[at] = 0;
        a->taken[side][at] = 1;
        a->place[at] = (uint16_t)a->count;
        a->list[a->count++] = (uint16_t)at;
        a->hash ^= go_arena_key(a, side, at);
        /* Counts of empty points and of this group grow too; they are not read again. */
        GO_EACH(n, at, near) a->liberties[a->head[near]]++;
        a->head[at] = (uint16_t)at;
        at = a->next[at];
    } while (at != head);
}

/* The hash of the stones that a move would capture, and whether there are any. */
GO_INLINE uint64_t go_arena_captures(int32_t n, const go_arena *a, int32_t at, int32_t side) {
    uint64_t hash = 0;
    int32_t done[4], count = 0;
    GO_EACH(n, at, near) {
        int32_t touching = 0, known = 0;
        if (a->color[near] != 2 - side) continue;
        const int32_t head = a->head[near];
        for (int32_t i = 0; i < count; i++) known |= done[i] == head;
        if (known) continue;
        done[count++] = head;
        GO_EACH(n, at, again) touching += a->color[again] == 2 - side && a->head[again] == head;
        if (a->liberties[head] != touching) continue;
        int32_t stone = head;
        do {
            hash ^= go_arena_key(a, 1 - side, stone);
            stone = a->next[stone];
        } while (stone != head);
    }
    return hash;
}

/* 1: may be played, and keeps a liberty or captures; 2: a suicide that the rules allow; 0: neither. */
GO_INLINE int go_arena_can(int32_t n, go_arena *a, int32_t at, int32_t side) {
    int own = 0, lives = 0;
    GO_EACH(n, at, near) if (a->color[near] == 0) return 1;
    GO_EACH(n, at, near) a->liberties[a->head[near]]--;
    GO_EACH(n, at, near) {
        const int mine = a->color[near] == 1 + side, left = a->liberties[a->head[near]] != 0;
        own |= mine;
        lives |= (mine & left) | ((a->color[near] == 2 - side) & !left);
    }
    GO_EACH(n, at, near) a->liberties[a->head[near]]++;
    return lives ? 1 : a->tables->suicide && own ? 2 : 0;
}

/* Would this move, a suicide or not, repeat a position? */
GO_INLINE int go_arena_forbids(int32_t n, go_arena *a, int32_t at, int32_t side, int suicide) {
    uint64_t hash = a->hash;
    if (!suicide) {
        if (!a->taken[side][at]) return 0;
        hash ^= go_arena_key(a, side, at) ^ go_arena_captures(n, a, at, side);
    } else {
        int32_t done[4], count = 0;
        GO_EACH(n, at, near) {
            int32_t known = 0;
            if (a->color[near] != 1 + side) continue;
            const int32_t head = a->head[near];
            for (int32_t i = 0; i < count; i++) known |= done[i] == head;
            if (known) continue;
            done[count++] = head;
            int32_t stone = head;
            do {
                hash ^= go_arena_key(a, side, stone);
                stone = a->next[stone];
            } while (stone != head);
        }
    }
    return go_arena_repeats(n, a, go_situation(a->tables, hash, 1 - side));
}

/* The board of a state; the table of positions is left to be filled. */
GO_INLINE void go_arena_open(int32_t n, go_arena *a, const go_tables *t, const go_state *s) {
    memset(a->color, GO_WALL, (size_t)go_room(n));
    memset(a->taken, 0, sizeof a->taken);
    memset(a->seen, 0, 8 * (size_t)go_table_size(n));
    for (int32_t at = 0; at < go_room(n); at++) {
        a->head[at] = (uint16_t)at;
        a->liberties[at] = 1 << 12; /* walls never run out of liberties */
    }
    a->count = 0;
    a->hash = t->empty_key;
    a->tables = t;
    a->before = s;
    a->complete = 0;
    for (int32_t point = 0; point < n * n; point++) {
        const int32_t at = go_at_of(n, point);
        a->color[at] = 0;
        for (int32_t side = 0; side < 2; side++)
            a->taken[side][at] = (uint8_t)go_has(go_taken(n, (go_state *)s) + side * go_words(n), point);
    }
    for (int32_t point = 0; point < n * n; point++) {
        const int32_t at = go_at_of(n, point);
        if (go_has(s->sets, point)) {
            go_arena_join(n, a, at, 0);
        } else if (go_has(s->sets + go_words(n), point)) {
            go_arena_join(n, a, at, 1);
        } else {
            a->place[at] = (uint16_t)a->count;
            a->list[a->count++] = (uint16_t)at;
        }
    }
}

GO_INLINE void go_playout(int32_t n, const go_tables *t, const go_state *s, playout_rng *rng, float *values) {
    go_arena arena, *a = &arena;
    int32_t side = go_turn(s), passes = s->passes, ko = go_lowest(n, go_banned(n, (go_state *)s)), lone;
    uint64_t stones[2 * GO_MAX_WORDS] = {0};
    go_arena_open(n, a, t, s);
    ko = t->ko == GO_SIMPLE && ko != GO_NONE ? go_at_of(n, ko) : 0;
    for (int32_t ply = s->ply; ply < go_max_plies(n) && passes < 2; ply++, side = 1 - side) {
        int32_t at, kind;
        for (;;) { /* drawn again until it is legal, which leaves all legal moves equally likely */
            const uint32_t drawn = playout_rng_below(rng, (uint32_t)a->count + 1);
            at = (int32_t)drawn == a->count ? 0 : a->list[drawn];
            if (at == 0) break;
            if (at == ko || !(kind = go_arena_can(n, a, at, side))) continue;
            if (t->ko == GO_SIMPLE || !go_arena_forbids(n, a, at, side, kind == 2)) break;
        }
        if (at == 0) {
            passes++;
            ko = 0;
            if (t->ko == GO_SITUATIONAL) go_arena_see(n, a, go_situation(t, a->hash, 1 - side));
            continue;
        }
        passes = 0;
        const uint16_t moved = a->list[--a->count];
        a->list[a->place[at]] = moved;
        a->place[moved] = a->place[at];
        go_arena_join(n, a, at, side);
        const int32_t before = a->count;
        lone = 0;
        GO_EACH(n, at, near)
            if (a->color[near] == 2 - side && a->liberties[a->head[near]] == 0)
                go_arena_remove(n, a, lone = near, 1 - side);
        if (a->count == before && a->liberties[a->head[at]] == 0) go_arena_remove(n, a, at, side);
        ko = 0;
        if (t->ko == GO_SIMPLE) {
            if (a->count == before + 1 && lone && a->size[a->head[at]] == 1 && a->liberties[at] == 1) ko = lone;
        } else {
            go_arena_see(n, a, go_situation(t, a->hash, 1 - side));
        }
    }
    for (int32_t point = 0; point < n * n; point++) {
        const int32_t color = a->color[go_at_of(n, point)];
        if (color) go_put(stones + (color - 1) * go_words(n), point);
    }
    go_returns(n, t, stones, values);
}

#endif
