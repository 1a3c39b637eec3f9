"""One number a subsystem that a change leaves alone or is seen to change on purpose.

Search and self-play are hashed: visit counts and moves of fixed positions, with an evaluator whose
answers are multiples of 1/8, so that no processor rounds them differently. PPO and language are
sums of what their first updates report, compared to six digits: matrix products round differently
from processor to processor (1e-8 of the sum when tried), a changed update does not hide below that.
A change that means to alter a number writes the new ones with
`python tests/signature/test_signatures.py --write` and says in its message why.
"""

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import playout
import pytest
from playout.agents.alphazero.config import SelfPlayConfig
from playout.agents.alphazero.selfplay import SelfPlay
from playout.cli import main
from playout.mcts.search import Search, SearchConfig

HERE = Path(__file__).parent
TOLERANCE = 1e-6
STORED = HERE / "signatures.json"
LANGUAGE_MODEL = HERE.parent / "fixtures" / "runs" / "pretrain"
LANGUAGE_STAGES = {
    "sft": ["--steps", "4", "--batch", "16"],
    "grpo": ["--reward", "vowels:reward", "--updates", "2", "--max-new-tokens", "8"],
}
VOWELS = (
    "def reward(texts):\n    return [sum(text.count(v) for v in 'aei') / 4 for text in texts]\n"
)


class HashedEvaluator:
    """Logits and values that look random, from a hash of the board; all are multiples of 1/8."""

    def evaluate(self, leaves):
        boards = leaves.obs.reshape(leaves.size, -1).astype(np.int64)
        weights = np.arange(1, boards.shape[1] + 1, dtype=np.int64) * 2654435761 % 1000003
        hashed = (boards @ weights) % 1000003
        columns = np.arange(1, leaves.mask.shape[1] + 1)
        logits = (hashed[:, None] * columns % 17 - 8) / 8
        return logits.astype(np.float32), ((hashed % 13 - 6) / 8).astype(np.float32)


def digest(*arrays):
    """The first 16 digits of a hash of integer arrays."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array, np.int64).tobytes())
    return found.hexdigest()[:16]


def search_signature():
    """Visits and moves of twelve positions followed for three moves, by both kinds of search."""
    game, found = playout.game("connect_four"), []
    for algorithm in ("puct", "gumbel", "uct"):
        config = SearchConfig(algorithm=algorithm, num_simulations=96)
        search = Search(game, config, num_trees=12, seed=3)
        states = game.batch(12)
        states.random_plies(np.arange(12, dtype=np.int32) % 7, 5)
        evaluator = "rollout" if algorithm == "uct" else HashedEvaluator()
        result = search.run(states, evaluator)
        for _ in range(3):
            found += [result.visits, result.action, result.proven]
            going = result.action >= 0  # the others are over
            search.advance(result.action[going], where=going)
            result = search.run(None, evaluator)
    return digest(*found)


def selfplay_signature():
    """The positions that four rounds of self-play leave as examples, with their outcomes."""
    config = SelfPlayConfig(
        num_groups=2,
        num_trees=16,
        num_simulations=16,
        opening_share=0.97,
        opening_plies=21,
        proof_plies=22,
    )
    evaluators = [HashedEvaluator(), HashedEvaluator()]
    game, search = playout.game("connect_four"), SearchConfig()
    play = SelfPlay(game, evaluators, config, search=search, seed=3)
    found = []
    for _ in range(4):
        examples, counts = play.play(1000)
        found += [examples.states, np.rint(8 * examples.values)]
        found += [[counts.moves, counts.games, counts.evaluations, counts.simulations]]
    return digest(*found)


def reported(run):
    """Sum of log(1 + size) of what learning reported, so that large losses hide no small ones."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    values = [row[name] for row in rows for name in row if name.startswith("train/")]
    return float(np.log1p(np.abs(values)).sum())


def ppo_signature(folder):
    """Two updates on CartPole (discrete actions) and two on Pendulum (continuous ones)."""
    found = 0.0
    for env in ("CartPole-v1", "Pendulum-v1"):
        options = {"total_timesteps": 1024, "num_envs": 8, "num_steps": 64, "minibatch_size": 128}
        run = playout.ppo(env, run=folder / env, seed=3, hidden=(16,), quiet=True, **options)
        found += reported(run.path)
    return found


def language_signature(folder):
    """Four steps of fine-tuning and two updates of GRPO on a model of one layer."""
    found = 0.0
    for stage, words in LANGUAGE_STAGES.items():
        words = [
            stage,
            "--base",
            str(LANGUAGE_MODEL),
            "--data",
            "synthetic",
            "--size",
            "tiny",
            *words,
        ]
        words += ["--dtype", "float32", "--seed", "3", "--run", str(folder / stage), "--quiet"]
        assert main(["rlhf", *words]) == 0
        found += reported(folder / stage)
    return found


def signatures(folder):
    """All four; `folder` is empty and the working folder."""
    (folder / "vowels.py").write_text(VOWELS, encoding="utf-8")
    return {
        "search": search_signature(),
        "selfplay": selfplay_signature(),
        "ppo": ppo_signature(folder),
        "language": language_signature(folder),
    }


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signatures")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return signatures(folder)


@pytest.mark.parametrize("name", ["search", "selfplay", "ppo", "language"])
def test_a_subsystem_does_what_it_did(name, found):
    stored = json.loads(STORED.read_text(encoding="utf-8"))[name]
    hint = "if the change is meant: python tests/signature/test_signatures.py --write"
    same = stored == found[name] if isinstance(stored, str) else found[name] == approx(stored)
    assert same, f"{name}: {found[name]} instead of {stored}; {hint}"


def approx(number):
    return pytest.approx(number, rel=TOLERANCE)


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        raise SystemExit("usage: python tests/signature/test_signatures.py --write")
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        numbers = signatures(Path(name))
    STORED.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    print(STORED.read_text(encoding="utf-8"), end="")
