"""What does verified reward add? A small model learns sums by imitation, then by GRPO; or by GRPO.

A model of our own begins with nothing: it is fine-tuned on generated questions with their answers,
and then learns from its own answers to further ones, rewarded where the dataset's verifier finds
them right. A published one learns by reward alone (--base). Before and after, the same questions
are asked, of seeds that nothing was learned from. The page shows all questions and models that
were tried in a folder.

    playout bench reasoning --quick
    python -m playout.benchmarks.studies.reasoning --minutes 60 --seeds 0 1 2
    python -m playout.benchmarks.studies.reasoning --base FOLDER --rate 2e-5 --batch 64 --minutes 45
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import playout
import torch
from numpy.typing import NDArray
from playout.agents.runs.directory import RunDir
from playout.agents.runs.reporting import write_json
from playout.benchmarks.studies.page import Page
from playout.benchmarks.studies.training.fresh import fresh_model
from playout.own_code import trust_modules
from playout.rlhf.environments.load import code_of, load_environment, read_options
from playout.rlhf.evaluation.statistics import paired_test, wilson
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.folder import export_model, load_model
from playout.rlhf.online.config import EpisodeLimits
from playout.rlhf.online.episode_evaluator import EpisodeEvaluator

ENV = "reasoning_gym:chain_sum"
COMMAND = "python -m playout.benchmarks.studies.reasoning --folder FOLDER"
OPTIONS = "max_terms=3,max_digits=2,partial=false"
_ASIDE = 0.15  # of the minutes: for measuring the speed, and for asking before and after
_PROBED = {"sft": 12, "grpo": 4}  # steps and updates from which the speed is known
_FEW = 8  # episodes of an evaluation meanwhile
_ALWAYS = {"size": "tiny", "dtype": "float32", "quiet": True}
WANTED = 30.0
"""Points more, of some questions."""
_COLUMNS = ("before", "after", "difference")
_KIND = ("asked", "model", "answers")
"""What rows of several seeds have in common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all seeds share."""

    base: str = ""
    """Folder of a model that learns by reward alone; empty: a new one, which imitates first."""
    env: str = ENV
    """The environment; its tasks hold `question` and `answer`, its metrics `correct`."""
    options: str = OPTIONS
    minutes: float = 60.0
    """For a seed, all in all."""
    imitation: float = 0.35
    """Share of the minutes in which examples are learned."""
    examples: int = 20_000
    asked: int = 400
    """Held-out questions."""
    width: int = 128
    layers: int = 4
    vocabulary: int = 300
    """So few pieces that digits stay single."""
    answer: int = 8
    """Tokens of the longest answer."""
    batch: int = 256
    """Answers a round, in groups of eight."""
    rate: float = 4e-4
    """Learning rate of GRPO, which falls to zero."""

    loosely: str = ""
    """Options under which answers are judged once more, such as answer=last."""

    @property
    def asks(self) -> str:
        """Which questions, in a line."""
        return f"{self.env.rpartition(':')[2]} ({self.options or 'as it comes'})"

    @property
    def model(self) -> str:
        """Which model, in a line."""
        if self.base:
            return Path(self.base).name
        return f"a new one, {self.width} wide, {self.layers} layers"

    def part(self, seed: int) -> str:
        """Folder of a seed's runs."""
        words = f"{self.env.rpartition(':')[2]} {self.options} {Path(self.base).name}"
        return f"{'-'.join(re.findall(r'[A-Za-z0-9_.]+', words))}/seed-{seed}"

    def tasks(self, seed: int, loosely: str = "") -> str:
        """The environment's options for a seed."""
        sizes = {"size": 5 * self.examples, "test_size": self.asked, "seed": seed}
        known = sizes if self.env.startswith("reasoning_gym:") else {}
        given = [self.options, *(f"{k}={v}" for k, v in known.items()), loosely]
        return ",".join(filter(None, given))


def new_model(setting: Setting, questions: Sequence[str], folder: Path, *, seed: int) -> Path:
    """The folder of a model that knows nothing, with a vocabulary for such questions."""
    if (folder / "config.json").exists():
        return folder
    tokenizer = Tokenizer.train(questions, vocab_size=setting.vocabulary)
    longest = max(map(len, tokenizer.encode_batch(list(questions[:2000]))))
    context = 2 * longest + setting.answer
    size: dict[str, int] = {"width": setting.width, "layers": setting.layers, "context": context}
    export_model(folder, fresh_model(tokenizer, **size, seed=seed), tokenizer)
    return folder


def seconds_a_step(run: RunDir) -> float:
    """The median of a short run, evaluations and the first step left out."""
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").open(encoding="utf-8")]
    found = [
        now["time/elapsed"] - before["time/elapsed"]
        for before, now in pairwise(rows)
        if not any(name.startswith("eval/") for name in now)
    ]
    return max(1e-4, float(np.median(found or [rows[-1]["time/elapsed"] / len(rows)])))


def learn(stage: str, base: Path, given: dict[str, Any], count: int, run: Path) -> RunDir:
    """A stage of so many steps or updates; one that was stopped goes on."""
    if RunDir.is_run(run):
        found = RunDir.open(run)
        return found if found.record.get("finished") else playout.resume(run, quiet=True)
    steps = {"steps": count} if stage == "sft" else {"updates": count}
    return getattr(playout, stage)(base, run=run, **given, **steps, **_ALWAYS)


def planned(
    stage: str, setting: Setting, share: float, base: Path, given: dict[str, Any], plan: Path
) -> int:
    """Steps or updates that fit into a share of the minutes; chosen once, by a short run."""
    kept = json.loads(plan.read_text(encoding="utf-8")) if plan.exists() else {}
    if stage not in kept:
        with tempfile.TemporaryDirectory() as folder:
            few = {"eval_episodes": _FEW} if stage == "grpo" else {}
            probe = learn(stage, base, {**given, **few}, _PROBED[stage], Path(folder) / "probe")
            seconds = seconds_a_step(probe)
        count = max(2, round(share * 60 * setting.minutes / seconds))
        plan.parent.mkdir(parents=True, exist_ok=True)
        write_json(plan, kept := {**kept, stage: count})
    return int(kept[stage])


def right(
    model: Path, setting: Setting, seed: int, *, temperature: float, loosely: str = ""
) -> NDArray[np.float64]:
    """Whether each held-out question is answered rightly, [asked]."""
    network, tokenizer = load_model(model)
    factory = load_environment(setting.env, read_options(setting.tasks(seed, loosely)))
    evaluator = EpisodeEvaluator(
        tokenizer,
        factory,
        setting.asked,
        EpisodeLimits(setting.answer),
        dtype=torch.float32,
        tasks=factory.tasks("test"),
        as_user=False,
    )
    with torch.no_grad():
        played = evaluator.play(network, temperature=temperature)
    return np.array([episode.metrics["correct"] for episode in played])


def imitated(setting: Setting, seed: int, folder: Path) -> tuple[Path, int]:
    """A new model that has learned from examples, and after how many steps."""
    factory = load_environment(setting.env, read_options(setting.tasks(seed)))
    tasks = list(islice(factory.tasks("train") or (), setting.examples))
    rows = [{"prompt": task["question"], "response": f" {task['answer']}"} for task in tasks]
    texts = [row["prompt"] + row["response"] for row in rows]
    base = new_model(setting, texts, folder / "base", seed=seed)
    sft: dict[str, Any] = {"data": rows, "batch": 64, "learning_rate": 2e-3, "seed": seed}
    steps = planned("sft", setting, setting.imitation, base, sft, folder / "plan.json")
    return learn("sft", base, sft, steps, folder / "sft").path / "model", steps


def study(setting: Setting, seed: int, folder: Path) -> list[dict[str, Any]]:
    """Rows for likeliest and for sampled answers: right before and after, and the difference."""
    before, steps = Path(setting.base), 0
    if not setting.base:
        before, steps = imitated(setting, seed, folder)
    rest = 1 - _ASIDE - (0 if setting.base else setting.imitation)
    grpo: dict[str, Any] = {
        "env": setting.env,
        "env_options": setting.tasks(seed),
        "batch": setting.batch,
        "minibatch": setting.batch,  # one step a round: several noisier ones gain less
        "group": 8,
        "max_new_tokens": setting.answer,
        "kl_coef": 0.01,
        "learning_rate": setting.rate,
        "eval_episodes": 64,
        "plain_text": True,
        "seed": seed,
    }
    updates = planned("grpo", setting, rest, before, grpo, folder / "plan.json")
    after = learn("grpo", before, grpo, updates, folder / "grpo").path / "model"
    found = []
    kinds = [("likeliest", 0.0, ""), ("sampled", 1.0, "")]
    if setting.loosely:
        kinds.append((f"likeliest ({setting.loosely})", 0.0, setting.loosely))
    for name, temperature, loosely in kinds:
        how: dict[str, Any] = {"temperature": temperature, "loosely": loosely}
        answers = [right(one, setting, seed, **how) for one in (before, after)]
        test = paired_test(answers[1], answers[0])
        row: dict[str, Any] = {"asked": setting.asks, "model": setting.model, "seed": seed}
        row |= {"answers": name, "questions": len(answers[0])}
        for when, one in zip(("before", "after"), answers, strict=True):
            row[when] = float(one.mean())
            row[f"{when} (95 %)"] = list(wilson(float(one.sum()), len(one)))
        row |= {"difference": test.difference, "difference (95 %)": list(test.interval)}
        found.append({**row, "steps": steps, "updates": updates})
    return found


def points(found: Sequence[float]) -> str:
    """A number with its interval, "25.0 (19.0 to 31.0)"."""
    return "{:.1f} ({:.1f} to {:.1f})".format(*found)


def told(row: dict[str, Any]) -> str:
    """A row for people, in points of a hundred."""
    before, after, more = (
        points([100 * one for one in (row[name], *row[f"{name} (95 %)"])]) for name in _COLUMNS
    )
    begun = f"after {row['steps']} steps of imitation" if row["steps"] else "before"
    return (
        f"{row['asked']}, {row['model']}, seed {row['seed']}, {row['answers']} answers to "
        f"{row['questions']} held-out questions: "
        f"{before} % right {begun}, {after} % after {row['updates']} rounds of GRPO; "
        f"{more} points more"
    )


def told_before(folder: Path, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """All rows of a folder: those that earlier calls left there, but for those told anew."""
    path, of_one = folder / "rows.json", itemgetter(*_KIND, "seed")
    told_anew = {of_one(row) for row in rows}
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    found = [row for row in earlier if of_one(row) not in told_anew]
    write_json(path, found := found + list(rows))
    return found


def over_seeds(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each kind of questions, model and answers: per cent and points of all seeds.

    Beside a mean stand the least and the most of the seeds; beside a single seed its interval.
    """
    found, kind_of = [], itemgetter(*_KIND)
    for kind in dict.fromkeys(map(kind_of, rows)):
        here = [row for row in rows if kind_of(row) == kind]
        row: dict[str, Any] = {**dict(zip(_KIND, kind, strict=True)), "seeds": len(here)}
        for column in _COLUMNS:
            each = [100 * one[column] for one in here]
            if len(each) == 1:
                each = [100 * end for end in here[0][f"{column} (95 %)"]]
            mean = 100 * float(np.mean([one[column] for one in here]))
            row[column] = (mean, min(each), max(each))
        found.append(row)
    return found


def claims_of(means: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What tools/report.py reads; the target is one of the largest gain alone."""
    largest = max(means, key=lambda row: row["difference"][0])
    claims = []
    for row in means:
        seeds = "1 seed, 95 %" if row["seeds"] == 1 else f"{row['seeds']} seeds, least to most"
        about = f"{row['asked']}, {row['model']}, {row['answers']} answers ({seeds})"
        for column, words, unit in zip(
            _COLUMNS, ("before GRPO", "after", "gained"), ("%", "%", "points"), strict=True
        ):
            ours = dict(zip(("median", "min", "max"), row[column], strict=True))
            claim = {"claim": f"{about}: {words}", "row": about, "column": words, "ours": ours}
            claims.append({**claim, "unit": unit, "command": COMMAND})
            if row is largest and column == "difference":
                claims[-1]["target"] = WANTED
    return claims


def main(quick: bool = False, seeds: Sequence[int] = (0,), **given: Any) -> int:
    """Run the study and write its page.

    Args:
        quick: A tiny model and a minute; says nothing about the method.
        seeds: Of models, examples and questions.
        **given: `folder`, and fields of Setting.
    """
    folder = Path(given.pop("folder", None) or "runs/reasoning")
    small = {"minutes": 1.0, "width": 64, "layers": 2, "examples": 2000, "asked": 100, "batch": 64}
    if "env" in given and "options" not in given:
        given["options"] = "partial=false" if given["env"].startswith("reasoning_gym:") else ""
    setting = Setting(**({**small, **given} if quick else given))
    if (module := code_of(setting.env)) is not None:
        trust_modules(module)  # whoever names it means it
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        found = study(setting, seed, folder / setting.part(seed))
        rows += found
        for row in found:
            print(told(row), flush=True)
    rows = told_before(folder, rows)
    page = Page("Reasoning by examples and by reward", __doc__.split("\n", 1)[0], quick=quick)
    means = over_seeds(rows)
    page.text(
        "Answers that the verifier finds right, in %, before and after GRPO: means over seeds with "
        "their least and most, or a seed with its 95 % interval."
    )
    page.table([{**row, **{c: points(row[c]) for c in _COLUMNS}} for row in means], "Over seeds")
    page.table(rows, "Each seed, in parts of one")
    page.findings([told(row) for row in rows])
    print(f"wrote {page.write(folder)}")
    if not quick:
        found = {"rows": rows, "claims": claims_of(means)}
        print(f"wrote {page.publish(folder, 'reasoning', found, **asdict(setting))}")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a tiny model, a minute")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--minutes", type=float, help="for a seed; 60 by default, 1 with --quick")
    parser.add_argument("--env", help=f"by default {ENV}")
    parser.add_argument("--env-options", dest="options", help=f"by default {OPTIONS}")
    parser.add_argument("--base", help="folder of a model that learns by reward alone")
    parser.add_argument("--loosely", help="options by which answers are judged once more")
    parser.add_argument("--imitation", type=float, help="share of the minutes for examples")
    parser.add_argument("--answer", type=int, help="tokens of the longest answer, by default 8")
    parser.add_argument("--batch", type=int, help="answers a round, by default 256")
    parser.add_argument("--rate", type=float, help="GRPO's learning rate, by default 4e-4")
    parser.add_argument("--vocabulary", type=int, help="pieces of a new model, by default 300")
    parser.add_argument("--width", type=int, help="of the model, by default 128")
    parser.add_argument("--layers", type=int, help="by default 4")
    parser.add_argument("--folder", type=Path, help="by default runs/reasoning")
    chosen = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    raise SystemExit(main(**chosen))
