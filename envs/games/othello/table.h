/* Othello on one kind of word, beside its rules: actions, observations, targets, symmetries, and the check of foreign
 * bytes. Included once for each kind; rules.h says with which macros.
 */
static void OTH(init)(const playout_game *game, void *state) {
    const oth_layout *layout = (const oth_layout *)game->context;
    const int32_t left = layout->first + (layout->side / 2 - 1) * (OTH_STRIDE + 1), below = left + OTH_STRIDE;
    OTH_STATE s;
    memset(&s, 0, sizeof s);
    s.own = ((OTH_WORD)1 << (left + 1)) | ((OTH_WORD)1 << below);
    s.other = ((OTH_WORD)1 << left) | ((OTH_WORD)1 << (below + 1));
    s.moves = OTH(moves)(s.own, s.other, (OTH_WORD)layout->board);
    memcpy(state, &s, sizeof s);
}

static int32_t OTH(to_play)(const playout_game *game, const void *state) {
    const OTH_STATE *s = (const OTH_STATE *)state;
    return s->over ? PLAYOUT_TERMINAL : (int32_t)s->turn;
}

static int32_t OTH(legal)(const playout_game *game, const void *state, int32_t *actions) {
    const oth_layout *layout = (const oth_layout *)game->context;
    const OTH_STATE *s = (const OTH_STATE *)state;
    int32_t count = 0;
    if (s->over) return 0;
    for (OTH_WORD left = s->moves; left; left &= left - 1) actions[count++] = layout->cell[OTH_BITS(lowest)(left)];
    if (!count) actions[count++] = layout->cells; /* pass */
    return count;
}

static int32_t OTH(is_legal)(const playout_game *game, const void *state, int32_t action) {
    const oth_layout *layout = (const oth_layout *)game->context;
    const OTH_STATE *s = (const OTH_STATE *)state;
    if (action == layout->cells) return !s->moves && !s->over;
    return action >= 0 && action < layout->cells && (int32_t)((s->moves >> layout->bit[action]) & 1);
}

static void OTH(score)(const playout_game *game, const void *state, float *scores) {
    const OTH_STATE *s = (const OTH_STATE *)state;
    scores[s->turn] = (float)(OTH_BITS(count)(s->own) - OTH_BITS(count)(s->other));
    scores[1 - s->turn] = 0.0f - scores[s->turn];
}

static void OTH(returns)(const playout_game *game, const void *state, float *values) {
    OTH(score)(game, state, values);
    for (int32_t player = 0; player < 2; player++) values[player] = (float)((values[player] > 0) - (values[player] < 0));
}

/* Two planes, or the one that is their difference. */
static void OTH(write_planes)(const playout_game *game, const void *state, int32_t player, int difference, float *planes) {
    const oth_layout *layout = (const oth_layout *)game->context;
    const OTH_STATE *s = (const OTH_STATE *)state;
    const OTH_WORD mine = (uint32_t)player == s->turn ? s->own : s->other, theirs = mine == s->own ? s->other : s->own;
    for (int32_t row = 0; row < layout->side; row++) {
        const uint32_t left = (uint32_t)(mine >> (layout->first + row * OTH_STRIDE));
        const uint32_t right = (uint32_t)(theirs >> (layout->first + row * OTH_STRIDE));
        float *out = planes + row * layout->side;
        for (int32_t column = 0; column < layout->side; column++) {
            const float a = (float)((left >> column) & 1), b = (float)((right >> column) & 1);
            out[column] = difference ? a - b : a;
            if (!difference) out[layout->cells + column] = b;
        }
    }
}

static void OTH(observe)(const playout_game *game, const void *state, int32_t player, float *obs) {
    OTH(write_planes)(game, state, player, 0, obs);
}

static void OTH(targets)(const playout_game *game, const void *state, int32_t player, float *planes) {
    OTH(write_planes)(game, state, player, 1, planes);
}

/* Whose turn it is changes neither what the side to move sees nor what it may play. */
static uint64_t OTH(eval_key)(const playout_game *game, const void *state) {
    const OTH_STATE *s = (const OTH_STATE *)state;
    return OTH_BITS(fold)(OTH_BITS(fold)(0, s->own), s->other);
}

static uint64_t OTH(hash)(const playout_game *game, const void *state) {
    return OTH(eval_key)(game, state) ^ ((const OTH_STATE *)state)->turn * UINT64_C(0xD1342543DE82EF95);
}

static OTH_WORD OTH(mapped)(OTH_WORD set, int32_t k) {
    OTH_WORD out = 0;
    for (; set; set &= set - 1) {
        const int32_t bit = OTH_BITS(lowest)(set);
        out |= (OTH_WORD)1 << oth_mapped_cell(bit, OTH_STRIDE, k);
    }
    return out;
}

static void OTH(symmetry)(const playout_game *game, const void *state, int32_t k, void *out) {
    OTH_STATE s = *(const OTH_STATE *)state;
    s.own = OTH(mapped)(s.own, k);
    s.other = OTH(mapped)(s.other, k);
    s.moves = OTH(mapped)(s.moves, k);
    memcpy(out, &s, sizeof s);
}

/* Discs lie side by side with the four in the middle, which are always there; what follows from discs is right. */
static int32_t OTH(check)(const playout_game *game, const void *state) {
    const oth_layout *layout = (const oth_layout *)game->context;
    const OTH_STATE *s = (const OTH_STATE *)state;
    const OTH_WORD board = (OTH_WORD)layout->board, all = s->own | s->other;
    OTH_STATE first;
    OTH(init)(game, &first);
    OTH_WORD joined = first.own | first.other, before = 0;
    if ((s->own & s->other) || (all & ~board) || (joined & ~all) || s->turn > 1) return -1;
    while (joined != before) {
        before = joined;
        const OTH_WORD wide = joined | ((joined << 1) & ~OTH_FIRST) | ((joined & ~OTH_FIRST) >> 1);
        joined = all & (wide | (wide << OTH_STRIDE) | (wide >> OTH_STRIDE));
    }
    if (joined != all || s->moves != OTH(moves)(s->own, s->other, board)) return -1;
    return s->over == (!s->moves && !OTH(moves)(s->other, s->own, board)) ? 0 : -1;
}

static int32_t OTH(plies_left)(const playout_game *game, const void *state) {
    const oth_layout *layout = (const oth_layout *)game->context;
    const OTH_STATE *s = (const OTH_STATE *)state;
    const int32_t empty = layout->cells - OTH_BITS(count)(s->own | s->other);
    return s->over ? 0 : 2 * empty - (s->moves != 0); /* a pass before every disc but one that can be laid now */
}

static int32_t OTH(write_cells)(const OTH_STATE *s, const oth_layout *layout, int32_t row, char empty, int gap, char *text) {
    const OTH_WORD first = s->turn ? s->other : s->own, second = s->turn ? s->own : s->other;
    char *out = text;
    for (int32_t column = 0; column < layout->side; column++) {
        const int32_t bit = layout->bit[row * layout->side + column];
        if (gap) *out++ = ' ';
        *out++ = (first >> bit) & 1 ? 'X' : (second >> bit) & 1 ? 'O' : empty;
    }
    return (int32_t)(out - text);
}

static int32_t OTH(write_state)(const playout_game *game, const void *state, char *text) {
    const oth_layout *layout = (const oth_layout *)game->context;
    const OTH_STATE *s = (const OTH_STATE *)state;
    int32_t length = 0;
    for (int32_t row = 0; row < layout->side; row++) length += OTH(write_cells)(s, layout, row, '-', 0, text + length);
    return length + sprintf(text + length, " %c", s->turn ? 'O' : 'X');
}

static int32_t OTH(write_board)(const playout_game *game, const void *state, char *text) {
    const oth_layout *layout = (const oth_layout *)game->context;
    const OTH_STATE *s = (const OTH_STATE *)state;
    int32_t length = sprintf(text, "  ");
    for (int32_t column = 0; column < layout->side; column++) length += sprintf(text + length, " %c", 'a' + column);
    for (int32_t row = 0; row < layout->side; row++) {
        length += sprintf(text + length, "\n%2d", row + 1);
        length += OTH(write_cells)(s, layout, row, '.', 1, text + length);
    }
    const int32_t own = OTH_BITS(count)(s->own), other = OTH_BITS(count)(s->other);
    length += sprintf(text + length, "\nX %d, O %d", s->turn ? other : own, s->turn ? own : other);
    return length + (s->over ? 0 : sprintf(text + length, ", %c to move", s->turn ? 'O' : 'X'));
}

static int32_t OTH(read_state)(const playout_game *game, void *state, const char *text) {
    const oth_layout *layout = (const oth_layout *)game->context;
    OTH_WORD discs[2] = {0, 0};
    OTH_STATE s;
    memset(&s, 0, sizeof s);
    for (int32_t cell = 0; cell < layout->cells; cell++, text++) {
        if (*text == 'X' || *text == 'O')
            discs[*text == 'O'] |= (OTH_WORD)1 << layout->bit[cell];
        else if (*text != '-' && *text != '.')
            return -1;
    }
    if (text[0] != ' ' || (text[1] != 'X' && text[1] != 'O') || text[2]) return -1;
    s.turn = text[1] == 'O';
    s.own = discs[s.turn];
    s.other = discs[1 - s.turn];
    s.moves = OTH(moves)(s.own, s.other, (OTH_WORD)layout->board);
    s.over = !s.moves && !OTH(moves)(s.other, s.own, (OTH_WORD)layout->board);
    memcpy(state, &s, sizeof s);
    return OTH(check)(game, state);
}

static void OTH(fill)(playout_game *game) {
    game->state_size = (int32_t)sizeof(OTH_STATE);
    game->init = OTH(init);
    game->to_play = OTH(to_play);
    game->legal = OTH(legal);
    game->is_legal = OTH(is_legal);
    game->apply = OTH(apply);
    game->returns = OTH(returns);
    game->score = OTH(score);
    game->targets = OTH(targets);
    game->observe = OTH(observe);
    game->hash = OTH(hash);
    game->eval_key = OTH(eval_key);
    game->symmetry = OTH(symmetry);
    game->write_state = OTH(write_state);
    game->read_state = OTH(read_state);
    game->write_board = OTH(write_board);
    game->check = OTH(check);
    game->plies_left = OTH(plies_left);
    game->playout = OTH(playout);
}
