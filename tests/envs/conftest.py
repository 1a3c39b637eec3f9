"""Puts same.py and namesake.py, which tests of environments share, where they can import it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
