/* Breakthrough on one kind of word, beside its rules: actions, observations, text, the check of foreign bytes. Included
 * once for each kind; rules.h says with which macros.
 */
static void BT(init)(const playout_game *game, void *state) {
    const bt_layout *layout = (const bt_layout *)game->context;
    BT_STATE s;
    memset(&s, 0, sizeof s);
    s.own = (BT_WORD)layout->bottom | ((BT_WORD)layout->bottom >> BT_STRIDE);
    s.other = BT_UPSET(layout, s.own);
    memcpy(state, &s, sizeof s);
}

static int32_t BT(to_play)(const playout_game *game, const void *state) {
    const BT_STATE *s = (const BT_STATE *)state;
    return BT(over)((const bt_layout *)game->context, s) ? PLAYOUT_TERMINAL : (int32_t)s->turn;
}

static int32_t BT(legal)(const playout_game *game, const void *state, int32_t *actions) {
    const bt_layout *layout = (const bt_layout *)game->context;
    const BT_STATE *s = (const BT_STATE *)state;
    int32_t count = 0;
    BT_WORD movers[3];
    if (BT(over)(layout, s)) return 0;
    BT(movers)(layout, s->own, s->other, movers);
    for (int32_t way = 0; way < 3; way++)
        for (BT_WORD left = movers[way]; left; left &= left - 1)
            actions[count++] = way * layout->cells + layout->cell[BT_BITS(lowest)(left)];
    return count;
}

static int32_t BT(is_legal)(const playout_game *game, const void *state, int32_t action) {
    const bt_layout *layout = (const bt_layout *)game->context;
    const BT_STATE *s = (const BT_STATE *)state;
    BT_WORD movers[3];
    if (action < 0 || action >= 3 * layout->cells || BT(over)(layout, s)) return 0;
    BT(movers)(layout, s->own, s->other, movers);
    return (int32_t)((movers[action / layout->cells] >> layout->bit[action % layout->cells]) & 1);
}

/* Nobody loses by moving: at the end the side to move has lost. */
static void BT(returns)(const playout_game *game, const void *state, float *values) {
    const uint32_t turn = ((const BT_STATE *)state)->turn;
    values[turn] = -1.0f;
    values[1 - turn] = 1.0f;
}

static void BT(observe)(const playout_game *game, const void *state, int32_t player, float *obs) {
    const bt_layout *layout = (const bt_layout *)game->context;
    const BT_STATE *s = (const BT_STATE *)state;
    const int mover = (uint32_t)player == s->turn;
    const BT_WORD mine = mover ? s->own : BT_UPSET(layout, s->other);
    const BT_WORD theirs = mover ? s->other : BT_UPSET(layout, s->own);
    for (int32_t row = 0; row < layout->rows; row++) {
        const uint32_t left = (uint32_t)(mine >> (row * BT_STRIDE)), right = (uint32_t)(theirs >> (row * BT_STRIDE));
        float *out = obs + row * layout->columns;
        for (int32_t column = 0; column < layout->columns; column++) {
            out[column] = (float)((left >> column) & 1);
            out[layout->cells + column] = (float)((right >> column) & 1);
        }
    }
}

/* Both sides see the board from their own end: whose turn it is changes nothing for the side to move. */
static uint64_t BT(eval_key)(const playout_game *game, const void *state) {
    const BT_STATE *s = (const BT_STATE *)state;
    return BT_BITS(fold)(BT_BITS(fold)(0, s->own), s->other);
}

static uint64_t BT(hash)(const playout_game *game, const void *state) {
    return BT(eval_key)(game, state) ^ ((const BT_STATE *)state)->turn * UINT64_C(0xD1342543DE82EF95);
}

static BT_WORD BT(mirrored)(const bt_layout *layout, BT_WORD set) {
    BT_WORD out = 0;
    for (; set; set &= set - 1) {
        const int32_t cell = layout->cell[BT_BITS(lowest)(set)];
        out |= (BT_WORD)1 << layout->bit[bt_mirrored_cell(layout, cell)];
    }
    return out;
}

static void BT(symmetry)(const playout_game *game, const void *state, int32_t k, void *out) {
    const bt_layout *layout = (const bt_layout *)game->context;
    BT_STATE s = *(const BT_STATE *)state;
    if (k) {
        s.own = BT(mirrored)(layout, s.own);
        s.other = BT(mirrored)(layout, s.other);
    }
    memcpy(out, &s, sizeof s);
}

/* Only the side that has just moved can have won, with one pawn on its last row or by taking the last pawn. */
static int32_t BT(check)(const playout_game *game, const void *state) {
    const bt_layout *layout = (const bt_layout *)game->context;
    const BT_STATE *s = (const BT_STATE *)state;
    const BT_WORD arrived = s->other & (BT_WORD)layout->bottom;
    if ((s->own & s->other) || ((s->own | s->other) & ~(BT_WORD)layout->board) || s->turn > 1 || s->zero) return -1;
    if ((s->own & (BT_WORD)layout->top) || (arrived & (arrived - 1)) || !s->other) return -1;
    const int32_t most = 2 * layout->columns;
    return BT_BITS(count)(s->own) <= most && BT_BITS(count)(s->other) <= most ? 0 : -1;
}

/* Steps that own pawns can take without arriving, all of them. */
static int32_t BT(steps)(const bt_layout *layout, BT_WORD own) {
    int32_t steps = 0;
    for (int32_t row = 2; row < layout->rows; row++)
        steps += (row - 1) * BT_BITS(count)((own >> (row * BT_STRIDE)) & (BT_WORD)layout->top);
    return steps;
}

static int32_t BT(plies_left)(const playout_game *game, const void *state) {
    const bt_layout *layout = (const bt_layout *)game->context;
    const BT_STATE *s = (const BT_STATE *)state;
    if (BT(over)(layout, s)) return 0;
    const int32_t own = BT(steps)(layout, s->own), other = BT(steps)(layout, BT_UPSET(layout, s->other));
    return own <= other ? 2 * own + 1 : 2 * other + 2; /* sides alternate, and one step more arrives */
}

/* The pawns of both players on a row of the board as player 0 sees it, row 0 at the top. */
static void BT(row_of)(const bt_layout *layout, const BT_STATE *s, int32_t row, uint32_t *first, uint32_t *second) {
    const BT_WORD white = s->turn ? BT_UPSET(layout, s->other) : s->own;
    const BT_WORD black = s->turn ? BT_UPSET(layout, s->own) : s->other;
    *first = (uint32_t)((white >> (row * BT_STRIDE)) & (BT_WORD)layout->top);
    *second = (uint32_t)((black >> (row * BT_STRIDE)) & (BT_WORD)layout->top);
}

static int32_t BT(write_action)(const playout_game *game, const void *state, int32_t action, char *text) {
    return bt_write_step((const bt_layout *)game->context, ((const BT_STATE *)state)->turn, action, text);
}

static int32_t BT(read_action)(const playout_game *game, const void *state, const char *text) {
    return bt_read_step((const bt_layout *)game->context, ((const BT_STATE *)state)->turn, text);
}

static int32_t BT(write_state)(const playout_game *game, const void *state, char *text) {
    const bt_layout *layout = (const bt_layout *)game->context;
    const BT_STATE *s = (const BT_STATE *)state;
    int32_t length = 0;
    for (int32_t row = 0; row < layout->rows; row++) {
        uint32_t first, second;
        int32_t empty = 0;
        BT(row_of)(layout, s, row, &first, &second);
        if (row) text[length++] = '/';
        for (int32_t column = 0; column <= layout->columns; column++) {
            const int pawn = (int)((first >> column) & 1) - (int)((second >> column) & 1);
            if (column < layout->columns && !pawn) {
                empty++;
                continue;
            }
            if (empty) length += sprintf(text + length, "%d", empty);
            if (pawn) text[length++] = pawn > 0 ? 'P' : 'p';
            empty = 0;
        }
    }
    return length + sprintf(text + length, " %c", s->turn ? 'b' : 'w');
}

static int32_t BT(write_board)(const playout_game *game, const void *state, char *text) {
    const bt_layout *layout = (const bt_layout *)game->context;
    const BT_STATE *s = (const BT_STATE *)state;
    int32_t length = 0;
    for (int32_t row = 0; row < layout->rows; row++) {
        uint32_t first, second;
        BT(row_of)(layout, s, row, &first, &second);
        length += sprintf(text + length, "%2d", layout->rows - row);
        for (int32_t column = 0; column < layout->columns; column++) {
            text[length++] = ' ';
            text[length++] = (first >> column) & 1 ? 'P' : (second >> column) & 1 ? 'p' : '.';
        }
        text[length++] = '\n';
    }
    length += sprintf(text + length, "  ");
    for (int32_t column = 0; column < layout->columns; column++) length += sprintf(text + length, " %c", 'a' + column);
    const int32_t mover = BT(to_play)(game, state);
    return length + (mover < 0 ? 0 : sprintf(text + length, "\n%c to move", mover ? 'p' : 'P'));
}

static int32_t BT(read_state)(const playout_game *game, void *state, const char *text) {
    const bt_layout *layout = (const bt_layout *)game->context;
    BT_WORD pawns[2] = {0, 0};
    BT_STATE s;
    memset(&s, 0, sizeof s);
    for (int32_t row = 0; row < layout->rows; row++) {
        if (row && *text++ != '/') return -1;
        for (int32_t column = 0; column < layout->columns;) {
            if (*text == 'P' || *text == 'p') {
                pawns[*text++ == 'p'] |= (BT_WORD)1 << (row * BT_STRIDE + column++);
                continue;
            }
            int32_t empty = 0;
            if (*text == '0') return -1;
            while (*text >= '0' && *text <= '9' && empty <= layout->columns) empty = 10 * empty + (*text++ - '0');
            if (empty < 1 || empty > layout->columns - column) return -1;
            column += empty;
        }
    }
    if (text[0] != ' ' || (text[1] != 'w' && text[1] != 'b') || !bt_counters(text + 2)) return -1;
    s.turn = text[1] == 'b';
    s.own = s.turn ? BT_UPSET(layout, pawns[1]) : pawns[0];
    s.other = s.turn ? BT_UPSET(layout, pawns[0]) : pawns[1];
    memcpy(state, &s, sizeof s);
    return BT(check)(game, state);
}

static void BT(fill)(playout_game *game) {
    game->state_size = (int32_t)sizeof(BT_STATE);
    game->init = BT(init);
    game->to_play = BT(to_play);
    game->legal = BT(legal);
    game->is_legal = BT(is_legal);
    game->apply = BT(apply);
    game->returns = BT(returns);
    game->observe = BT(observe);
    game->hash = BT(hash);
    game->eval_key = BT(eval_key);
    game->symmetry = BT(symmetry);
    game->write_action = BT(write_action);
    game->read_action = BT(read_action);
    game->write_state = BT(write_state);
    game->read_state = BT(read_state);
    game->write_board = BT(write_board);
    game->check = BT(check);
    game->plies_left = BT(plies_left);
    game->playout = BT(playout);
}
