"""Networks in the tests of PPO are small, so one thread is fastest."""

import torch

torch.set_num_threads(1)
