"""Lets the tests of this room import actor_runs.py, a plain module beside them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
