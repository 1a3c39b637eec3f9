/* All games of this folder, by their makers. */
#ifndef PLAYOUT_ALL_GAMES_H
#define PLAYOUT_ALL_GAMES_H

#include "backgammon/table.h"
#include "breakthrough.h"
#include "chess/table.h"
#include "connect_four/table.h"
#include "game_2048.h"
#include "go/table.h"
#include "hex/table.h"
#include "hidden/kuhn_poker.h"
#include "hidden/leduc_poker.h"
#include "hidden/liars_dice.h"
#include "mnk.h"
#include "othello.h"
#include "tic_tac_toe.h"

static const playout_maker *const MAKERS[] = {
    &BACKGAMMON,
    &BREAKTHROUGH,
    &CHESS,
    &CONNECT_FOUR,
    &GAME_2048,
    &GO,
    &GOMOKU,
    &HEX,
    &KUHN_POKER,
    &LEDUC_POKER,
    &LIARS_DICE,
    &MNK,
    &OTHELLO,
    &TIC_TAC_TOE,
};

#define NUM_MAKERS ((int)(sizeof MAKERS / sizeof *MAKERS))

#endif
