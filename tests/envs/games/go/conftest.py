"""Puts reference.py, the rules of Go in slow Python, where tests can import it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
