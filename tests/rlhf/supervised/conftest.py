"""Lets tests of supervised stages find what they share (small_stages.py)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
