"""Shared worlds for the tests of PPO; networks here are small, so one thread is fastest."""

import sys
from pathlib import Path

import torch

torch.set_num_threads(1)
# The worlds are a plain module beside the tests: worker processes and child runs import it too.
sys.path.insert(0, str(Path(__file__).parent))
