"""The helper that starts ranks (launch.py) is a plain module: tests of every room import it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
