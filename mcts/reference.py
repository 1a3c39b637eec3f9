"""The same search in plain Python: one tree, no batches, no threads, no cache. The tests' oracle.

It repeats the C code's arithmetic operation by operation (float32, sums in the same order, the same
exponential and random streams), so that visit counts are equal, not just close. Written to be read
beside the papers; far too slow to play with. Rollouts are those of games without a native playout.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from playout.envs.core.game import NativeGame
from playout.mcts.config import SearchConfig
from playout.mcts.reference_forced import forced_edges, pruned
from playout.mcts.reference_math import F, Rng, exp, exploration, schedule, total_of
from playout.mcts.reference_node import KNOWN, LOST, OPEN, WORST, Node, scaled_returns


class ReferenceSearch:
    """One tree. `ask` gives states, `tell` takes [logits by action, value or values] for each."""

    def __init__(
        self, game: NativeGame, config: SearchConfig, *, tree: int = 0, seed: int = 0
    ) -> None:
        self.game, self.config, self.tree, self.seed = game, config, tree, seed
        self.players = game.num_players
        zero_sum = self.players == 1 or (self.players == 2 and game.zero_sum)
        self.prove = config.prove and zero_sum and not game.has_chance
        self.prove = self.prove and not game.step_rewards and game.value_scale >= 1
        self.searches = 0
        self.leaves: list[Node] = []
        self.collisions: list[list[tuple[Node, int]]] = []

    def begin(
        self, state: Any, budget: int | None = None, noise: bool = True, allowed: Any = None
    ) -> None:
        """A new root, with the moves `allowed` by action or with all."""
        self.root = Node(state, None, 0, allowed=allowed)
        self.seen: list[Any] = []  # the lowest and the highest result, with rewards along the way
        self.evaluated = False
        self._start(budget, noise)

    def advance(self, action: int, budget: int | None = None, noise: bool = True) -> None:
        """Plays at the root; keeps the subtree if the config says so."""
        child = self.root.child[self.root.actions.index(action)]
        if child is None or not self.config.reuse_subtree:
            return self.begin(self.root.state.apply(action), budget, noise)
        child.parent = None
        child.open = child.n
        self.root = child
        self._start(budget, noise)
        if child.chance:
            return None
        if not child.terminal and self.config.algorithm != "uct":
            self._begin_root()
        elif self.config.algorithm == "uct":
            self.evaluated = False
        return None

    def _start(self, budget: int | None, noise: bool) -> None:
        self.budget = self.config.num_simulations if budget is None else budget
        self.noise, self.sims, self.position = noise, 0, 0
        self.searches += 1
        reused = int(self.root.all_visits)
        size = self.budget if self.config.count_reused else self.budget + reused
        self.schedule = schedule(min(self.root.n, self.config.max_considered), size)
        self.reused = self.root.visits.copy()
        self.done = self.root.terminal or self.root.proven or self.root.chance
        self.outcomes = Rng(self.seed, self.tree, self.searches, 3)

    def _begin_root(self) -> None:
        """Fresh noise at an evaluated root."""
        node, config = self.root, self.config
        rng = Rng(self.seed, self.tree, self.searches, 0)
        self.log_prior = np.zeros(len(node.prior), F)
        for i in range(node.n):
            self.log_prior[i] = F(math.log(float(node.prior[i])))
        self.base, self.taken = self.log_prior.copy(), np.zeros(len(node.prior), F)
        self.evaluated = True
        if not self.noise:
            return
        if config.algorithm == "gumbel" and config.gumbel_scale:
            for i in range(node.n):
                scaled = F(float(F(config.gumbel_scale)) * rng.gumbel())
                self.base[i] = scaled + self.log_prior[i]
        elif config.algorithm == "puct" and config.dirichlet_fraction:
            f, alpha = float(F(config.dirichlet_fraction)), float(F(config.dirichlet_alpha))
            draws = [float(F(rng.gamma(alpha))) for _ in range(node.n)]
            node.prior_visited = F(0)
            for i in range(node.n):
                mixed = (1.0 - f) * float(node.prior[i]) + f * (draws[i] / sum(draws))
                node.prior[i] = max(F(mixed), F(1e-35))
                if node.visits[i] > 0:
                    node.prior_visited += node.prior[i]

    def _exhausted(self) -> bool:
        if self.root.proven or self.root.terminal:
            return True
        if self.config.algorithm == "gumbel" and self.position >= len(self.schedule):
            return True
        if self.config.algorithm != "gumbel" and self.config.count_reused:
            under_way = self.root.pending.sum() - len(self.collisions)
            return bool(self.root.all_visits + under_way >= self.budget)
        return self.sims >= self.budget

    # Selection.

    def _argmax(self, node: Node, score: np.ndarray) -> int:
        return int(np.argmax(np.where(node.allowed(), score, WORST)))

    def _puct(self, node: Node) -> int:
        c, pending = self.config, node.pending
        if node is self.root and self.noise and (due := forced_edges(node, c)).any():
            return int(np.argmax(due))
        explore = exploration(int(node.all_visits + pending.sum()) + 1, c.c_base, c.c_init)
        fpu = F(c.fpu)
        if c.fpu_mode == "parent":
            mean = (node.raw + node.all_total) / (node.all_visits + F(1))
            fpu = mean - F(c.fpu) * np.sqrt(node.prior_visited)
        lost = pending * F(c.virtual_loss)
        weight = node.visits + lost
        q = np.where(weight > 0, (node.total - lost) / np.where(weight > 0, weight, F(1)), fpu)
        u = explore * node.prior / (node.visits + pending + F(1))
        return self._argmax(node, q + u)

    def _sigma(self, node: Node) -> np.ndarray:
        """Completed Q-values, scaled, less their maximum."""
        c, seen = self.config, node.visits > 0
        lost = np.where(seen, node.pending * F(c.virtual_loss), F(0))
        q = (node.total - lost) / np.where(seen, node.visits + lost, F(1))
        visited = int(seen.sum())
        if visited < node.n:
            mixed = node.raw
            if visited:
                mean = total_of(node.prior * q) / node.prior_visited
                mixed = (node.raw + node.all_visits * mean) / (node.all_visits + F(1))
            q = np.where(seen, q, mixed)
        allowed = node.allowed()
        top = q[allowed].max()
        scale = (F(c.c_visit) + node.visits.max()) * F(c.c_scale)
        if c.rescale_q:
            scale = scale / max(top - q[allowed].min(), F(1e-8))
        return scale * (q - top)

    def _interior(self, node: Node) -> int:
        count = node.all_visits + F(node.pending.sum())
        if count == 0:
            return self._argmax(node, node.prior)
        e = np.where(node.allowed(), node.prior * exp(self._sigma(node)), F(0))
        total = total_of(np.where(np.arange(len(e)) < node.open, e, F(0)))
        if node.open < node.n:
            total = total + node.rest * exp(self._sigma(node))[node.open]
        balance = e * (count + F(1)) - (node.visits + node.pending) * total
        return self._argmax(node, balance)

    def _halving(self, node: Node) -> int:
        score = self.base + self._sigma(node)
        while self.position < len(self.schedule):
            count = self.schedule[self.position]
            self.position += 1
            for group in (self.taken == count, self.taken > 0, self.taken >= 0):
                group = group & node.allowed()
                if group.any():
                    break
            edge = int(np.argmax(np.where(group, score, WORST)))
            self.taken[edge] += 1
            if self.taken[edge] > self.reused[edge]:
                return edge
        return -1

    def _ucb(self, node: Node) -> int:
        unseen = [i for i in range(node.n) if node.visits[i] == 0]
        if unseen:
            return unseen[0]
        c = float(F(self.config.uct_c))
        log = F(c * c * math.log(int(node.all_visits) + 1)) * self._stretch()
        part = F(1) / np.where(node.visits > 0, node.visits, F(1))
        return self._argmax(node, node.total * part + np.sqrt(log * part))

    def _stretch(self) -> np.float32:
        """The square of half of the range of the results seen, with rewards along the way."""
        half = (self.seen[1] - self.seen[0]) * F(0.5) if self.seen else F(0)
        return half * half if half > 0 else F(1)

    # One step.

    def ask(self) -> list[Any]:
        """The states to evaluate; empty when the search is done."""
        self.leaves = []
        if self.done:
            return []
        if not self.evaluated:
            self.leaves = [self.root]
            return [self.root.state]
        most = self.config.leaves_per_step
        while max(len(self.leaves), len(self.collisions)) < most and not self._exhausted():
            if not self._descend():
                break
        self.done = not self.leaves
        return [leaf.state for leaf in self.leaves]

    def tell(self, logits: np.ndarray, values: np.ndarray) -> None:
        """Logits [M, A], values [M] for the side to move or [M, P]: of what is still to come."""
        for path in self.collisions:
            for above, taken in path:
                above.pending[taken] -= 1
        self.collisions = []
        for leaf, row, value in zip(self.leaves, logits, values, strict=True):
            z = np.full(len(leaf.prior), WORST, F)
            z[: leaf.n] = row[leaf.actions]
            valid = np.arange(len(z)) < leaf.n
            p = np.where(valid, exp(z - z.max()), F(0))
            prior = np.maximum(p / total_of(p), F(1e-35))
            leaf.set_prior(np.where(valid, prior, F(0)).astype(F))
            vector = [F(v) for v in value] if np.ndim(value) else [-F(value)] * self.players
            if not np.ndim(value):
                vector[leaf.state.to_play] = F(value)
            if self.game.step_rewards:
                collected = scaled_returns(leaf.state)
                vector = [v + c for v, c in zip(vector, collected, strict=True)]
            leaf.raw, leaf.waiting = vector[leaf.state.to_play], False
            if leaf.parent is None:
                self._begin_root()
            else:
                self._backup(leaf, leaf.parent, leaf.parent_edge, vector)
        if self.leaves and self._exhausted():
            self.done = True

    def _descend(self) -> bool:
        gumbel = self.config.algorithm == "gumbel"
        node = self.root
        first = edge = self._halving(node) if gumbel else self._puct(node)
        if edge < 0:
            return False
        path: list[tuple[Node, int]] = []
        while True:
            node.follow(edge)
            node.pending[edge] += 1
            path.append((node, edge))
            child = node.child[edge]
            if child is None:
                child = node.child[edge] = self._child(node, edge)
                self._prove_terminal(child)
                if not child.terminal and not child.chance:
                    child.waiting = True
                    self.leaves.append(child)
                    self.sims += 1
                    return True
            if child.chance:
                node, edge = child, self._outcome(child)
                continue
            if child.terminal or child.proven:
                self._backup(child, node, edge, child.values(self.players))
                self.sims += 1
                return True
            if child.waiting:
                self.collisions.append(path)  # stays a visit under way until tell()
                if gumbel:
                    self.position -= 1
                    self.taken[first] -= 1
                return True
            node = child
            edge = self._interior(node) if gumbel else self._puct(node)

    def _child(self, node: Node, edge: int) -> Node:
        state = node.state.apply(node.actions[edge])
        return Node(state, node, edge, self.config.dense_edges)

    def _outcome(self, node: Node) -> int:
        return self.outcomes.draw([float(p) for p in node.prior[: node.n]])

    def _backup(self, child: Node | None, node: Node | None, edge: int, values: list[Any]) -> None:
        while node is not None:
            known = child is not None and child.proven
            if child is not None and child.proven:
                values = child.values(self.players)
            value = F(0) if node.chance else F(values[node.state.to_play])
            node.visits[edge] += 1
            node.all_visits += F(1)
            node.pending[edge] = max(node.pending[edge] - 1, 0)
            if node.visits[edge] == 1:
                node.prior_visited += node.prior[edge]
            if known:
                total = value * node.visits[edge]
                node.all_total += total - node.total[edge]
                node.total[edge] = total
                if node.known[edge] == OPEN:
                    self._prove(node, edge, value)
            else:
                node.total[edge] += value
                node.all_total += value
            child, edge, node = node, node.parent_edge, node.parent

    def _prove_terminal(self, node: Node) -> None:
        zero_sum = self.players == 1 or (node.terminal and sum(node.state.returns) == 0)
        node.proven = node.terminal and self.prove and zero_sum

    def _prove(self, node: Node, edge: int, value: np.float32) -> None:
        node.known[edge] = LOST if value <= -1 else KNOWN
        if value >= 1:
            node.exact, node.proven = value, True
        elif OPEN not in node.known:
            mover = node.state.to_play
            node.exact = max(c.values(self.players)[mover] for c in node.child if c is not None)
            node.proven = True

    # What the search concluded.

    def weights(self) -> np.ndarray:
        """float32 [A]: improved policy (gumbel) or visit shares, over the moves worth playing."""
        out, node = np.zeros(self.game.num_actions, F), self.root
        if node.terminal:
            return out
        weights = node.visits
        if self.config.algorithm == "gumbel" and OPEN in node.known:
            weights = np.where(node.allowed(), node.prior * exp(self._sigma(node)), F(0))
        playable = [self._playable(edge) for edge in range(node.n)]
        c = self.config
        if c.algorithm == "puct" and self.noise and not node.proven:
            explore = exploration(int(node.all_visits) + 1, c.c_base, c.c_init)
            weights = pruned(node, playable, explore, c)
        for numbers in (weights, node.prior):  # where nothing playable was visited: the prior
            kept = np.where(playable, numbers[: node.n], F(0)).astype(np.float64)
            total = np.cumsum(kept)[-1]  # one after another, as in C
            if total > 0:
                break
        out[node.actions] = kept / total
        return out

    def _playable(self, edge: int) -> bool:
        """May the edge be played, given what is proven?"""
        node, child = self.root, self.root.child[edge]
        if not node.proven:
            return node.known[edge] != LOST
        if node.known[edge] == OPEN or child is None:
            return bool(node.exact <= -1)
        return bool(child.values(self.players)[node.state.to_play] >= node.exact)

    # Random rollouts (uct).

    def run(self) -> None:
        """UCT to the end of the budget."""
        if not self.evaluated:
            self.rng = Rng(self.seed, self.tree, self.searches, 2)
            if self.root.all_visits == 0:
                self._shuffle(self.root)
            self.root.prior[: self.root.n] = F(1) / F(self.root.n)
            self.evaluated = True
        while not self._exhausted():
            self._simulate()
        self.done = True

    def _shuffle(self, node: Node) -> None:
        for i in range(node.n, 1, -1):
            j = self.rng.below(i)
            node.actions[i - 1], node.actions[j] = node.actions[j], node.actions[i - 1]

    def _simulate(self) -> None:
        node = self.root
        while True:
            edge = self._outcome(node) if node.chance else self._ucb(node)
            child = node.child[edge]
            if child is None:
                child = self._child(node, edge)
                first = node.visits[edge] == 0
                if first and not (self.prove and child.terminal):
                    values = self._rollouts(child.state)
                    child = None
                    break
                node.child[edge] = child
                self._prove_terminal(child)
                if not child.terminal and not child.chance:
                    self._shuffle(child)
            if child.terminal or child.proven:
                values = child.values(self.players)
                break
            node = child
        if self.game.step_rewards:
            self.seen = [min([*self.seen[:1], *values]), max([*self.seen[1:], *values])]
        self._backup(child, node, edge, values)
        self.sims += 1

    def _rollouts(self, state: Any) -> list[Any]:
        total = np.zeros(self.players, F)
        for _ in range(self.config.num_rollouts):
            at = state
            while not at.is_terminal:
                actions, outcomes = at.legal_actions, at.chance_outcomes
                if outcomes:
                    place = self.rng.draw([p for _, p in outcomes])
                else:
                    place = self.rng.below(len(actions))
                at = at.apply(actions[place])
            total = total + at.returns
        if self.config.num_rollouts > 1:
            total = total / F(self.config.num_rollouts)
        return list(total / F(self.game.value_scale))
