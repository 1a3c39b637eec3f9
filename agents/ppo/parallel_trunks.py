"""Two separate recurrent trunks learned on two cores at once, one thread each.

The recurrence of policy and value has nothing in common until the heads, and a thread for each is
worth far more than two threads inside every small product. The numbers are those of one thread.
Leaves out collection, whose single steps are too short to share.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from playout.agents.ppo.rollout import Minibatch
from torch import Tensor


def fits(policy: Any) -> bool:
    """Whether a policy has two recurrent trunks on the CPU."""
    first, second = getattr(policy, "policy_trunk", None), getattr(policy, "value_trunk", None)
    if first is None or second is None or first.core is None:
        return False
    return all(p.device.type == "cpu" for p in policy.parameters())


def attach_side_by_side(policy: Any) -> bool:
    """Let a policy learn its trunks side by side where that fits; returns whether it does."""
    if not fits(policy) or (os.cpu_count() or 1) < 2:
        return False
    policy.learner = SideBySide(policy)
    return True


class SideBySide:
    """`evaluate` and `differentiate` of one policy; see ppo.Policy."""

    def __init__(self, policy: Any) -> None:
        self.policy = policy
        self.pool = ThreadPoolExecutor(1, "trunk", initializer=torch.set_num_threads, initargs=(1,))

    def evaluate(self, batch: Minibatch) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities, entropies, values; their graph ends at the trunks' features."""
        policy = self.policy
        value = self.pool.submit(policy.features, policy.value_trunk, batch, 1)
        self.features = [policy.features(policy.policy_trunk, batch, 0), value.result()]
        self.leaves = [x.detach().requires_grad_() for x in self.features]
        self.found: tuple[Tensor, Tensor, Tensor] = policy.outputs(*self.leaves, batch)
        return self.found

    def differentiate(
        self, logprob_grad: Tensor, entropy_grad: Tensor | None, value_grad: Tensor
    ) -> None:
        """Add the gradient of the last `evaluate` to the parameters'."""
        logprobs, entropy, values = self.found
        outputs, grads = [logprobs, values], [logprob_grad, value_grad]
        if entropy_grad is not None and entropy.requires_grad:
            outputs.append(entropy)
            grads.append(entropy_grad)
        torch.autograd.backward(outputs, grads)
        first, second = self.features
        value = self.pool.submit(second.backward, self.leaves[1].grad)
        first.backward(self.leaves[0].grad)
        value.result()
