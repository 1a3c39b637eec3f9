"""The toy trainer of tests/faults serves the tests of the loop and of what it shows."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "faults"))
