"""An engine that knows just enough of Connect Four, and misbehaves as told: no test itself.

    python fake_engine.py gtp|uci BEHAVIOUR [FILE]

It plays the leftmost column that is not full. BEHAVIOUR says what happens at its second move of a
game: hang, die, nonsense, illegal, resign, flood, long, or nothing at all (good). "deaf" and "mute"
fail at once; "kata" knows KataGo's clocks, "kata-old" only claims to; "hex" has its own word for a
swap; "cleanup" plays Go: it passes, and resigns when it is to clean up; "wordy" answers in long
lines without an end; "stubborn" ignores signals and its end of input. FILE gets the lines that it
reads.
"""

import os
import signal
import subprocess
import sys
import time

PROTOCOL, BEHAVIOUR = sys.argv[1:3]
LOG = sys.argv[3] if len(sys.argv) > 3 else None
played, own = [], 0


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def move():
    return next(str(column) for column in range(1, 8) if played.count(str(column)) < 6)


def misbehave():
    """What stands in place of a move, or None; some never come back."""
    if own != 2:
        return None
    if BEHAVIOUR == "hang":
        time.sleep(1000)
    if BEHAVIOUR == "die":
        sys.stderr.write("out of ideas\n")
        sys.stderr.flush()
        os._exit(3)
    if BEHAVIOUR == "flood":
        while True:
            sys.stdout.write("what a lovely day\n" * 1000)
    if BEHAVIOUR == "wordy":
        while True:
            say("=" + "x" * 60_000)
    if BEHAVIOUR == "long":
        sys.stdout.write("=" + "x" * 1_000_000)
        sys.stdout.flush()
        time.sleep(1000)
    return {"nonsense": "\x07??!", "illegal": "99", "resign": "resign"}.get(BEHAVIOUR)


def gtp(words):
    global own
    if BEHAVIOUR == "cleanup" and "genmove" in words[0]:
        return "= pass" if words[0] == "genmove" else "= resign"
    if words[0] == "genmove":
        own += 1
        found = misbehave() or move()
        if found.isdigit():
            played.append(found)
        return f"= {found}"
    if words[0] == "play":
        if BEHAVIOUR == "hex" and words[2] == "swap":
            return "? no such move"
        played.append(words[2])
    elif words[0] == "clear_board":
        played.clear()
        own = 0
    elif words[0] == "undo":
        if not played and BEHAVIOUR != "cleanup":
            return "? cannot undo"
        played.pop()
    elif words[0] == "list_commands":
        more = {"kata": "\nkata-time_settings", "kata-old": "\nkata-time_settings"}
        more["cleanup"] = "\nkgs-genmove_cleanup"
        return "= play\nundo\ngenmove\nclear_board" + more.get(BEHAVIOUR, "")
    elif words[0] == "kata-time_settings" and BEHAVIOUR == "kata-old":
        return "? not this one"
    elif words[0] == "komi" and BEHAVIOUR != "cleanup":
        return "? unknown command"
    return "="


def uci(words):
    global own
    if words[0] == "uci":
        say("id name fake\noption name UCI_Variant type combo default chess var connect_four")
        say("option name Skill Level type spin default 20 min 0 max 20")
        say("option name UCI_LimitStrength type check default false")
        say("option name UCI_Elo type spin default 1320 min 1320 max 3190\nuciok")
    elif words[0] == "isready":
        say("readyok")
    elif words[0] == "ucinewgame":
        own = 0
    elif words[0] == "position":
        played[:] = words[3:]
    elif words[0] == "go":
        own += 1
        found = misbehave() or move()
        best = "(none)" if found == "resign" else found
        say(f"info depth 1 score cp 0 pv {found}\nbestmove {best}")


if BEHAVIOUR == "deaf":
    time.sleep(1000)
if BEHAVIOUR == "mute":
    sys.exit("no licence found")
if BEHAVIOUR == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    with open(LOG, "w") as log:
        log.write(str(child.pid))
for line in sys.stdin:
    if LOG and BEHAVIOUR != "stubborn":
        with open(LOG, "a") as log:
            log.write(line)
    words = line.split()
    if words and words[0] == "quit" and BEHAVIOUR != "stubborn":
        break
    if words and PROTOCOL == "gtp":
        say(gtp(words) + "\n")
    elif words:
        uci(words)
if BEHAVIOUR == "stubborn":
    time.sleep(1000)
