"""How training grows with ranks: two on two cores beside one on one core, and what crosses between.

The commands are those that users type, started by torchrun as it is, each process on one thread;
rates come from a run's own metrics. Two ranks add up in shared memory as they are shipped; then by
messages alone, as between machines, all counted and with `--latency` held up by so many
milliseconds. PPO has the same settings a rank, the others do the same run. Two runs that know
nothing of each other show what the cores have to give; `--before FOLDER` measures another checkout.

    python -m playout.benchmarks.studies.ranks [--quick] [--latency 0 1 10] [--only ppo] [--peers]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import playout
from playout.agents.runs.reporting import table
from playout.benchmarks.tools.larger_jobs import predictions
from playout.benchmarks.tools.measuring import Rate, earlier_result, plain, short, write_result
from playout.cores import usable_cores

COMMAND = "python -m playout.benchmarks.studies.ranks"
APART = "two runs apart"
COUNTED = ("all_reduce", "broadcast", "all_gather", "send", "recv")


@dataclass(frozen=True, slots=True)
class Case:
    """A trainer that is measured.

    Attributes:
        words: the command.
        count: the option that says how much is done ...
        updates: ... and how much of it, and in a quick look.
        work: the metric that counts what is done, "" for the update's number ...
        each: ... and how much one of it is.
        an_update: work of an update, of a rank where options are a rank's.
        unit: what that is.
        a_rank: options whose numbers are for a rank: they grow with the ranks.
        wanted: two ranks over one.
    """

    words: tuple[str, ...]
    count: str
    updates: tuple[int, int]
    work: str
    each: float
    an_update: float
    unit: str
    a_rank: tuple[tuple[str, int], ...] = ()
    wanted: float = 1.0


CASES = {
    "self-play": Case(
        words=(
            *("alphazero", "connect_four", "--size", "small", "--no-rating"),
            *("--warmup-positions", "1000", "--selfplay.num-groups", "2", "--no-overlap"),
        ),
        count="--updates",
        updates=(9, 5),
        work="search/evaluations",
        each=1.0,
        an_update=32768,
        unit="evaluations/s",
        wanted=1.9,
    ),
    "ppo": Case(
        words=(
            *("ppo", "playout/CartPole-v1", "--num-steps", "64", "--no-stop"),
            *("--eval-every", "1000000"),
        ),
        count="--total-timesteps",
        updates=(3_000_000, 600_000),
        work="time/total_timesteps",
        each=1.0,
        an_update=64 * 256,
        unit="steps/s",
        a_rank=(("--num-envs", 256), ("--minibatch-size", 2048)),
        wanted=1.6,
    ),
    "language": Case(
        words=(
            *("rlhf", "pretrain", "--data", "synthetic", "--size", "tiny"),
            *("--rows", "32", "--length", "128"),
        ),
        count="--steps",
        updates=(300, 100),
        work="",
        each=32 * 128,
        an_update=32 * 128,
        unit="tokens/s",
        wanted=1.7,
    ),
}


def run_case(
    case: Case,
    ranks: int,
    folder: Path,
    *,
    quick: bool = False,
    latency: float | None = None,
    package: Path | None = None,
    first: int = 0,
) -> dict[str, Any]:
    """One run with so many ranks, each with one core of its own as far as there are.

    With a latency in milliseconds, 0 too, all that crosses are messages. `first` is its first core.

    Returns:
        Work a second, and what crossed between ranks for each update.
    """
    run, notes = folder / "run", folder / "notes"
    notes.mkdir(parents=True)
    amount = case.updates[quick] * (ranks if case.a_rank else 1)
    words = [*case.words, case.count, str(amount), "--run", str(run), "--quiet"]
    for option, number in case.a_rank:
        words += [option, str(number * ranks)]
    here = Path(playout.__file__).parent.parent
    variables = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(package or here), *sys.path]),
        "OMP_NUM_THREADS": "1",
        "PLAYOUT_BENCH_NOTES": str(notes),
        "PLAYOUT_BENCH_LATENCY": str((latency or 0.0) / 1000),
        "PLAYOUT_RANK_MEMORY": "1" if latency is None else "0",
    }
    cores = sorted(os.sched_getaffinity(0))[first : first + ranks]
    start = [sys.executable, "-m"]
    if ranks > 1:
        start += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), "-m"]
        # The dashes keep torchrun from taking --run for one of its own options.
        start += ["--", "playout.benchmarks.studies.ranks", "--work"]
    else:
        start += ["playout"]
    done = subprocess.run(
        [*start, *words],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} with {ranks} ranks: {done.stderr[-2000:]}")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rate, updates = rate_of(rows, case), len(rows)
    found: dict[str, Any] = {"rate": rate, "updates": updates}
    crossed = [json.loads(path.read_text()) for path in notes.glob("*.json")]
    if crossed:
        found["messages an update"] = max(one["messages"] for one in crossed) / updates
        found["bytes an update"] = max(one["bytes"] for one in crossed) / updates
        found["seconds in messages"] = max(one["seconds"] for one in crossed)
    return found


def run_apart(case: Case, folder: Path, *, quick: bool = False) -> dict[str, Any]:
    """Two runs of one process at once, each on a core; the rate of both together."""

    def run(core: int) -> dict[str, Any]:
        return run_case(case, 1, folder / str(core), quick=quick, first=core)

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(run, range(2)))
    return {"rate": sum(one["rate"] for one in both), "updates": both[0]["updates"]}


def rate_of(rows: Sequence[dict[str, Any]], case: Case) -> float:
    """Work a second of the middle update, by the run's own clock.

    The first third of updates warms up. A mean would count evaluations and checkpoints, which
    rank 0 makes alone, as often as a short run has them.
    """
    rates = []
    for before, after in itertools.pairwise(rows[len(rows) // 3 :]):
        done = [float(row[case.work] if case.work else row["update"]) for row in (before, after)]
        seconds = float(after["time/elapsed"]) - float(before["time/elapsed"])
        rates.append(case.each * (done[1] - done[0]) / seconds)
    return statistics.median(rates)


def work(words: list[str]) -> int:
    """A rank: the command of `words`, with its messages counted and held up."""
    from torch import distributed

    latency = float(os.environ.get("PLAYOUT_BENCH_LATENCY", "0"))
    seen = {"messages": 0, "bytes": 0, "seconds": 0.0}

    def counted(name: str) -> None:
        whole = getattr(distributed, name)

        def call(*given: Any, **named: Any) -> Any:
            tensor = next((one for one in given if hasattr(one, "element_size")), None)
            begun = time.perf_counter()
            try:
                return whole(*given, **named)
            finally:
                if latency:
                    time.sleep(latency)
                seen["messages"] += 1
                seen["bytes"] += 0 if tensor is None else tensor.numel() * tensor.element_size()
                seen["seconds"] += time.perf_counter() - begun

        setattr(distributed, name, call)

    for name in COUNTED:
        counted(name)
    from playout import cli

    code = cli.main(words)
    place = Path(os.environ["PLAYOUT_BENCH_NOTES"]) / f"{os.environ['RANK']}.json"
    place.write_text(json.dumps(seen))
    return code


def measure_case(
    name: str, *, repeats: int, latencies: Sequence[float], quick: bool, before: Path | None
) -> dict[str, Any]:
    """One trainer with one rank and with two, turn about; with latency once, for a short time."""
    case, runs = CASES[name], dict[str, list[float]]()
    details: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        for turn in range(repeats):
            for label, ranks, latency, package in (
                ("one rank", 1, None, None),
                *([("one process before", 1, None, before)] if before else []),
                *([(APART, 2, None, None)] if usable_cores() > 1 else []),
                ("two ranks", 2, None, None),
                *((f"two ranks by messages, {ms:g} ms", 2, ms, None) for ms in latencies),
            ):
                if latency and turn:
                    continue
                there, short_run = Path(place) / f"{turn}-{label}", quick or bool(latency)
                if label == APART:
                    found = run_apart(case, there, quick=quick)
                else:
                    found = run_case(
                        case, ranks, there, quick=short_run, latency=latency, package=package
                    )
                runs.setdefault(label, []).append(found["rate"])
                details[label] = found
                print(f"{name}, {label}: {found['rate']:,.0f} {case.unit}", flush=True)
    rates = {label: Rate.of(found) for label, found in runs.items()}
    one = rates["one rank"]
    return {
        "unit": case.unit,
        "wanted": case.wanted,
        "a_rank": bool(case.a_rank),
        "rates": rates,
        "ratios": {
            label: rate.over(Rate.of([*one.runs[: len(rate.runs)]]))
            for label, rate in rates.items()
            if label != "one rank"
        },
        "details": details,
    }


def claims_of(found: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """For the measured tables: two ranks beside one, what messages cost, and one process before."""
    claims = []
    for name, case in found.items():
        one = case["rates"]["one rank"]
        for label, rate in case["rates"].items():
            if label == "one rank":
                continue
            text = f"{name}: {label} on two cores beside one on one"
            ours, peer, against, ratio = rate, one, "one rank", case["ratios"][label]
            if label == "one process before":
                text = f"{name}: one process beside the version before there were ranks"
                ours, peer, against, ratio = one, rate, "the version before", one.over(rate)
            claim = {"claim": text, "ours": ours, "unit": case["unit"], "command": COMMAND}
            claim |= {"peer": peer, "peer_name": against, "ratio": ratio}
            wanted = {"two ranks": case["wanted"], "one process before": 0.98}.get(label)
            claims.append(claim | ({} if wanted is None else {"target": wanted}))
    return claims


def beside_peers(
    found: Mapping[str, dict[str, Any]], measured: Mapping[str, Mapping[str, list[float]]]
) -> list[dict[str, Any]]:
    """Claims: what two ranks do here, beside plain data parallelism on the same machine."""
    names = {"gpt": ("language", "a plain GPT under DDP"), "ppo": ("ppo", "CleanRL's recipe")}
    claims = []
    for what, runs in measured.items():
        case, name = names[what]
        one, two = (Rate.of(runs[label]) for label in ("one rank", "two ranks"))
        print(f"{name}: {two.median:,.0f} with two ranks, {two.over(one)} of one", flush=True)
        if case in found:
            claim = {"claim": f"{case}: two ranks beside those of a peer", "peer": two}
            claim |= {"ours": (ours := found[case]["rates"]["two ranks"]), "command": COMMAND}
            gain = f"{name}, whose two ranks do {two.over(one).median:.2f} of one"
            claim |= {"unit": found[case]["unit"], "peer_name": gain, "ratio": ours.over(two)}
            claims.append(claim)
    return claims


def with_earlier(
    found: Mapping[str, dict[str, Any]], claims: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """A result, and what the last one on this machine says of what is not measured now."""
    earlier = earlier_result("studies/jobs/ranks") or {"cases": {}, "claims": []}
    told = {claim["claim"] for claim in claims}
    kept = [claim for claim in earlier["claims"] if claim["claim"] not in told]
    return {**earlier, "cases": {**earlier["cases"], **found}, "claims": [*kept, *claims]}


def show(found: Mapping[str, dict[str, Any]]) -> None:
    """A table of all rates and ratios."""
    rows = []
    for name, case in found.items():
        for label, rate in case["rates"].items():
            ratio = case["ratios"].get(label)
            rows.append(
                [
                    f"{name}, {label}",
                    f"{rate.median:,.0f} {case['unit']}",
                    "" if ratio is None else f"{ratio.median:.2f}",
                    f"{case['wanted']:g}" if label == "two ranks" else "",
                ]
            )
    table("Two ranks on two cores", ("trainer", "rate", "of one rank", "wanted"), rows)


def main(
    quick: bool = False,
    latencies: Sequence[float] = (0.0, 1.0, 10.0),
    only: Sequence[str] = (),
    before: Path | None = None,
    peers: bool = False,
) -> int:
    """Measures all trainers and writes a result."""
    others: dict[str, dict[str, list[float]]] = {}
    if peers:
        from playout.benchmarks.tools.peers import data_parallel

        others = data_parallel.measure(quick=quick)
    found: dict[str, Any] = {}
    for name in only or CASES:
        found[name] = measure_case(
            name,
            repeats=1 if quick else 3,
            latencies=latencies[:2] if quick else latencies,
            quick=quick,
            before=before,
        )
    show(found)
    claims = [*claims_of(found), *beside_peers(found, others)]
    result = with_earlier(found, claims) if only else {"cases": found, "claims": claims}
    work = {name: case.an_update for name, case in CASES.items()}
    result["predictions"] = predictions(plain(result["cases"]), work)
    for row in result["predictions"]:
        told = [f"{key} {short(value)}" for key, value in row.items() if key != "trainer"]
        print(f"{row['trainer']}: {', '.join(told)}")
    if not quick:
        settings = {"threads a rank": 1, "latencies (ms)": list(latencies)}
        print(f"wrote {write_result('studies/jobs/ranks', result, settings=settings)}")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        raise SystemExit(work(sys.argv[2:]))
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--latency", type=float, nargs="*", default=[0.0, 1.0, 10.0])
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=[])
    parser.add_argument(
        "--before", type=Path, help="a folder with another version of playout in it"
    )
    parser.add_argument("--peers", action="store_true", help="plain data parallelism beside it")
    given = parser.parse_args()
    raise SystemExit(
        main(given.quick, tuple(given.latency), tuple(given.only), given.before, given.peers)
    )
