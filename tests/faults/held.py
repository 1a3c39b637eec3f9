"""A command of playout that cannot end before it was stopped or killed; not a test itself.

    held.py ROWS WORD...     `playout WORD...`, which waits once a run has that many rows of metrics

So whoever stops or kills it comes in time on the slowest machine. A signal lets it go on.
"""

import os
import signal
import sys

from playout.agents.runs.metrics import MetricsLog
from playout.cli import main

LAST, WORDS = int(sys.argv[1]), sys.argv[2:]
append = MetricsLog.append
come, told = os.pipe()
os.set_blocking(told, False)
# A byte for each signal, also for one that came before anybody waited.
signal.set_wakeup_fd(told)


def append_and_wait(self, update, step, metrics):
    """Add the row; the last one is waited at."""
    append(self, update, step, metrics)
    if update >= LAST:
        os.read(come, 1)


if __name__ == "__main__":
    MetricsLog.append = append_and_wait
    sys.exit(main(WORDS))
