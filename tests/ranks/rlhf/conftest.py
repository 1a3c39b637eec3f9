"""What ranks do (language_work.py) is a plain module beside the tests: every rank imports it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
