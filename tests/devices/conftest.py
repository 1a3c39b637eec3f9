"""The worlds of the tests of agents serve here too; small networks want one thread."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "agents"))
torch.set_num_threads(1)
