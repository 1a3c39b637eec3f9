"""Two separate recurrent trunks learned on two cores at once, one thread each.

The recurrence of policy and value has nothing in common until the heads, and a thread for each is
worth far more than two threads inside every small product. The numbers are those of one thread.
Leaves out collection, whose single steps are too short to share.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from playout.agents.networks.policy import Minibatch, Outputs
from torch import Tensor


class ParallelTrunks:
    """`evaluate` and `backward` of a policy whose trunks are separate and recurrent.

    Args:
        features: Features of a minibatch's steps by the policy's and by the value's trunk.
        outputs: What `evaluate` returns, from both features.
    """

    def __init__(
        self,
        features: tuple[Callable[[Minibatch], Tensor], Callable[[Minibatch], Tensor]],
        outputs: Callable[[Tensor, Tensor, Minibatch], Outputs],
    ) -> None:
        self.trunk_features, self.outputs = features, outputs
        self.pool = ThreadPoolExecutor(1, "trunk", initializer=torch.set_num_threads, initargs=(1,))

    def evaluate(self, batch: Minibatch) -> Outputs:
        """Log-probabilities, entropies, values; their graph ends at the trunks' features."""
        first, second = self.trunk_features
        value = self.pool.submit(second, batch)
        self.features = [first(batch), value.result()]
        self.leaves = [x.detach().requires_grad_() for x in self.features]
        self.found = self.outputs(self.leaves[0], self.leaves[1], batch)
        return self.found

    def backward(
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
