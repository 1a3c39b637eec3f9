/* Hex boards of up to 64 cells for the solver, and cells that need not be searched.
 *
 * A position is the stones of the side to move, which joins top and bottom, and those of the other side, which joins
 * left and right; after each move the board is transposed, so that this holds again. Two kinds of empty cells are
 * filled in before a search. A dead cell matters to nobody: however the empty cells around it are filled, its colour
 * joins nothing that is not joined beside it. A captured pair belongs to one side, since a stone of the other on either
 * cell is answered on the second, which makes it dead. (Hayward, Bjornsson, Johanson, Kan, Po, van Rijswijck: "Solving
 * 7x7 Hex with domination, fill-in, and virtual connections", 2005.)
 */
#ifndef PLAYOUT_HEX_BOARD_H
#define PLAYOUT_HEX_BOARD_H

#include <stdint.h>
#include <string.h>

#define HEXS_MAX_SIZE 8
#define HEXS_MAX_CELLS 64
#define HEXS_OWN_EDGE 64 /* in a ring: beyond the top or bottom, which are the mover's */
#define HEXS_OTHER_EDGE 65

typedef struct hexs_board {
    int32_t size, cells;
    uint64_t all;
    uint8_t ring[HEXS_MAX_CELLS][6]; /* the six places around a cell, each beside the next; cells or edges */
    uint64_t near[HEXS_MAX_CELLS];   /* neighbouring cells */
    uint64_t first, last;            /* the rows at the mover's edges */
    uint8_t transposed[HEXS_MAX_CELLS];
    uint8_t dead[4096]; /* by the ring's six places, two bits each: 0 empty, 1 own, 2 the other's */
} hexs_board;

/* Do the places change colour more than twice, in some filling of the empty ones? If not, the middle is dead. */
static int hexs_ring_is_dead(uint32_t code) {
    for (int32_t place = 0; place < 6; place++)
        if ((code >> (2 * place) & 3) == 0)
            return hexs_ring_is_dead(code | 1u << (2 * place)) && hexs_ring_is_dead(code | 2u << (2 * place));
    int32_t changes = 0;
    for (int32_t place = 0; place < 6; place++)
        changes += (code >> (2 * place) & 3) != (code >> (2 * ((place + 1) % 6)) & 3);
    return changes <= 2;
}

static void hexs_board_set(hexs_board *g, int32_t size) {
    static const int8_t around[6][2] = {{-1, 0}, {-1, 1}, {0, 1}, {1, 0}, {1, -1}, {0, -1}};
    memset(g, 0, sizeof *g);
    g->size = size;
    g->cells = size * size;
    for (int32_t cell = 0; cell < g->cells; cell++) {
        const int32_t row = cell / size, column = cell % size;
        g->all |= UINT64_C(1) << cell;
        g->transposed[cell] = (uint8_t)(column * size + row);
        if (row == 0) g->first |= UINT64_C(1) << cell;
        if (row == size - 1) g->last |= UINT64_C(1) << cell;
        for (int32_t i = 0; i < 6; i++) {
            const int32_t y = row + around[i][0], x = column + around[i][1];
            /* The corners beyond two edges touch both: either will do. */
            const int32_t place = y < 0 || y >= size ? HEXS_OWN_EDGE : x < 0 || x >= size ? HEXS_OTHER_EDGE : y * size + x;
            g->ring[cell][i] = (uint8_t)place;
            if (place < HEXS_MAX_CELLS) g->near[cell] |= UINT64_C(1) << place;
        }
    }
    for (uint32_t code = 0; code < 4096; code++) {
        int possible = 1;
        for (int32_t place = 0; place < 6; place++) possible &= (code >> (2 * place) & 3) != 3;
        g->dead[code] = (uint8_t)(possible && hexs_ring_is_dead(code));
    }
}

static uint64_t hexs_transpose(const hexs_board *g, uint64_t cells) {
    uint64_t out = 0;
    for (; cells; cells &= cells - 1) out |= UINT64_C(1) << g->transposed[__builtin_ctzll(cells)];
    return out;
}

/* The half turn, which leaves each side its edges. */
static uint64_t hexs_turn(const hexs_board *g, uint64_t cells) {
    uint64_t out = 0;
    for (; cells; cells &= cells - 1) out |= UINT64_C(1) << (g->cells - 1 - __builtin_ctzll(cells));
    return out;
}

/* All neighbours of a set of cells, without the set. */
static inline uint64_t hexs_around(const hexs_board *g, uint64_t cells) {
    uint64_t found = 0;
    for (uint64_t left = cells; left; left &= left - 1) found |= g->near[__builtin_ctzll(left)];
    return found & ~cells;
}

/* What of `stones` hangs together with `seeds`. */
static uint64_t hexs_flood(const hexs_board *g, uint64_t stones, uint64_t seeds) {
    uint64_t reached = seeds & stones, fresh = reached;
    while (fresh) {
        fresh = hexs_around(g, fresh) & stones & ~reached;
        reached |= fresh;
    }
    return reached;
}

static inline int hexs_joined(const hexs_board *g, uint64_t own) {
    return (hexs_flood(g, own, g->first) & g->last) != 0;
}

static inline int hexs_is_dead(const hexs_board *g, uint64_t own, uint64_t other, int32_t cell) {
    uint32_t code = 0;
    for (int32_t i = 0; i < 6; i++) {
        const int32_t place = g->ring[cell][i];
        const uint32_t what = place == HEXS_OWN_EDGE     ? 1
                              : place == HEXS_OTHER_EDGE ? 2
                                                         : (uint32_t)((own >> place & 1) | (other >> place & 1) << 1);
        code |= what << (2 * i);
    }
    return g->dead[code];
}

/* Fills in dead and captured cells until there are no more. `captured` receives what each side owes to captures: its
 * proofs need those cells. Dead cells go to the mover; whose they are makes no difference. */
static void hexs_fill_in(const hexs_board *g, uint64_t *own, uint64_t *other, uint64_t captured[2]) {
    captured[0] = captured[1] = 0;
    for (int changed = 1; changed;) {
        changed = 0;
        for (uint64_t left = g->all & ~(*own | *other); left; left &= left - 1) {
            const int32_t cell = __builtin_ctzll(left);
            const uint64_t bit = UINT64_C(1) << cell;
            if ((*own | *other) & bit) continue;
            if (hexs_is_dead(g, *own, *other, cell)) {
                *own |= bit;
                changed = 1;
                continue;
            }
            for (uint64_t mates = g->near[cell] & ~(*own | *other) & (UINT64_C(0) - bit); mates; mates &= mates - 1) {
                const int32_t mate = __builtin_ctzll(mates);
                const uint64_t second = UINT64_C(1) << mate;
                int32_t side = -1;
                if (hexs_is_dead(g, *own | second, *other, cell) && hexs_is_dead(g, *own | bit, *other, mate))
                    side = 0;
                else if (hexs_is_dead(g, *own, *other | second, cell) && hexs_is_dead(g, *own, *other | bit, mate))
                    side = 1;
                if (side < 0) continue;
                *(side ? other : own) |= bit | second;
                captured[side] |= bit | second;
                changed = 1;
                break;
            }
        }
    }
}

#endif
