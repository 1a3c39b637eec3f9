"""The command line: teaches, suggests, resumes, and answers mistakes with one line and code 2."""

import importlib
import json
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import playout
import pytest
from playout import cli
from playout.agents.commands import inspect as inspect_command
from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import EvalOptions, PlayOptions
from playout.agents.runs.metrics import MetricsLog
from playout.agents.runs.options import TrainingOptions, open_run
from playout.agents.runs.signals import Interrupted
from playout.errors import ConfigError, DivergedError
from tyro.conf import Positional


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(TrainingOptions):
    """Count."""

    env: Positional[str] = ""
    """What."""

    total: int = 3
    """How far."""


@pytest.fixture
def toy(monkeypatch):
    """A command `toy` whose main is whatever the test puts there."""
    module = types.ModuleType("playout_toy_command")
    module.Command = Command
    module.seen = []
    module.main = lambda command: module.seen.append(command)
    monkeypatch.setitem(sys.modules, "playout_toy_command", module)
    monkeypatch.setitem(cli.GROUPS["Learn"], "toy", ("playout_toy_command", "count"))
    return module


@pytest.fixture
def run(tmp_path):
    run = RunDir.create(tmp_path / "r", kind="toy", config={"env": "E", "kl": None}, seed=3)
    log = MetricsLog(run.path)
    log.append(1, 10, {"train/loss": 0.5})
    run.save(1, {"n": 1}, metric=1.5, info={"done": 10, "total": 20, "elapsed": 3.0})
    log.mark()
    log.close()
    return run


def test_help_lists_every_command_with_a_line(capsys):
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    for name, (_, text) in cli.commands().items():
        assert f"  {name:<16}{text}" in out
    assert cli.main([]) == 0 and capsys.readouterr().out == out


def test_version_is_the_packages(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"playout {playout.__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["inspec"], "unknown command 'inspec'; did you mean inspect?"),
        (["zzzz"], "unknown command 'zzzz'; there are "),
        (["rlhf", "zzzz"], "unknown stage 'zzzz'; there are "),
        (["rlhf", "import"], "unknown stage 'import'; did you mean import-model?"),
        (["inspect", "/nowhere"], "/nowhere does not exist; `playout list runs`"),
        (["inspect", "/"], "/ is not a run directory"),
        (["analyse", "/nowhere"], "/nowhere is not a run directory (`playout list runs`"),
        (["ppo", "CartPole-v1", "--optimizer", "lion"], "optimizer must be one of sgd, momentum"),
        (["alphazero", "--learner.optimizer", "lion"], "optimizer must be one of sgd, momentum"),
        (["pretrain-trunk", "digits", "--augment.erase", "2"], "--augment.erase must be from 0"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, words, message):
    assert cli.main(words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and message in captured.err
    assert captured.err.count("\n") == 1 and captured.out == ""


def test_unknown_flags_are_refused_with_a_suggestion(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["inspect", "x", "--verfy"])
    assert caught.value.code == 2
    assert "--verify" in capsys.readouterr().err


def test_flags_reach_the_command(toy):
    assert cli.main(["toy", "E", "--total", "5", "--seed", "2"]) == 0
    assert toy.seen[0] == Command(env="E", total=5, seed=2)


def test_resume_fills_in_the_flags_that_are_not_given(toy, tmp_path):
    open_run(Command(env="E", total=7, seed=4, run=tmp_path / "r"), kind="toy", name="x")
    for words in (["--resume", str(tmp_path / "r")], [f"--resume={tmp_path / 'r'}"]):
        assert cli.main(["toy", *words, "--total", "9"]) == 0
        assert toy.seen[-1] == Command(env="E", total=9, seed=4, resume=tmp_path / "r")
    assert cli.main(["toy", "--resume", str(tmp_path / "nowhere")]) == 2


def test_a_run_of_another_kind_is_told_its_command(toy, run, capsys):
    for words in (["ppo"], ["alphazero"], ["rlhf", "sft"]):
        assert cli.main([*words, "--resume", str(run.path)]) == 2
        advice = f"of kind toy; continue it with: playout toy --resume {run.path}\n"
        assert capsys.readouterr().err.endswith(advice)
    RunDir.create(run.path / "sft", kind="rlhf.sft", config={}, seed=0)
    assert cli.main(["toy", "--resume", str(run.path / "sft")]) == 2
    assert "continue it with: playout rlhf sft --resume" in capsys.readouterr().err


def test_every_file_of_a_command_is_in_the_tables():
    root = Path(playout.__file__).parent
    tables = [*(module for module, _ in cli.commands().values() if module), *cli.stages().values()]
    for room in ("agents/commands", "rlhf/commands/learn", "rlhf/commands/use"):
        found = {path.stem for path in (root / room).glob("[a-z]*.py")}
        prefix = f"playout.{room.replace('/', '.')}."
        assert found == {name.removeprefix(prefix) for name in tables if name.startswith(prefix)}


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DivergedError("loss became nan;\n the last good one is 4"), "loss became nan; the last"),
        (OSError(30, "Read-only file system", "/ro/x"), "/ro/x: the file system is read-only"),
        (ValueError("odd"), "odd (PLAYOUT_TRACEBACK=1 shows where this comes from)"),
    ],
)
def test_an_error_says_what_where_and_how_to_see_more(toy, capsys, error, line):
    def fail(command):
        raise error

    toy.main = fail
    assert cli.main(["toy"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {line}")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DivergedError("loss became nan;\n the last good one is 4"), 2),
        (ValueError("bad input"), 2),
        (FileNotFoundError(2, "No such file", "x"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_of_commands_become_exit_codes(toy, capsys, error, code):
    def fail(command):
        raise error

    toy.main = fail
    assert cli.main(["toy"]) == code
    assert capsys.readouterr().err.count("\n") == (1 if code == 2 else 0)


def test_a_bug_shows_its_traceback(toy):
    def fail(command):
        raise KeyError("bug")

    toy.main = fail
    with pytest.raises(KeyError):
        cli.main(["toy"])


def test_an_interrupted_training_keeps_its_exit_code(toy):
    def stop(command):
        raise Interrupted(15)

    toy.main = stop
    with pytest.raises(SystemExit) as caught:
        cli.main(["toy"])
    assert caught.value.code == 143


def test_python_m_playout_is_the_same_and_a_closed_pipe_is_no_error():
    code = f"{sys.executable} -m playout --help | head -1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {code}"], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith(f"playout {playout.__version__}")


def test_inspect_shows_settings_progress_and_checkpoints(run, capsys):
    assert cli.main(["inspect", str(run.path), "--trust", "json"]) == 0
    out = capsys.readouterr().out
    for text in ("seed 3", "env", "train/loss", "10 of 20", "1.5 (best)", "sound"):
        assert text in out


def test_inspect_shows_nested_settings_one_a_line(tmp_path, capsys):
    config = {"ppo": {"gamma": 0.9, "clip": None, "net": {"hidden": [8, 8]}}, "env": "E"}
    RunDir.create(tmp_path / "n", kind="toy", config=config, seed=0)
    assert cli.main(["inspect", str(tmp_path / "n")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["ppo.gamma", "0.9"] in lines and ["ppo.net.hidden", "[8,", "8]"] in lines
    assert not any("ppo.clip" in line for line in lines)


def test_inspect_prints_json_for_programs(run, capsys):
    assert cli.main(["inspect", str(run.path), "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["checkpoints"][0]["state"] == "sound"
    assert found["config"] == {"env": "E", "kl": None}
    assert found["metrics"]["last"]["train/loss"] == 0.5


def test_inspect_names_damage_and_says_so_by_its_exit_code(run, capsys):
    run.save(2, {"n": 2})
    (run.path / "checkpoints/000002/state.json").write_text("{}")
    (run.path / "checkpoints/000001/MANIFEST.json").write_text("{}")
    assert cli.main(["inspect", str(run.path), "--json", "-"]) == 1
    states = [entry["state"] for entry in json.loads(capsys.readouterr().out)["checkpoints"]]
    assert "sha256" in states[0] and "no sound manifest" in states[1]
    assert cli.main(["inspect", str(run.path)]) == 1
    *_, last = capsys.readouterr().err.splitlines()  # behind all tables
    assert last.startswith("damaged: checkpoint 2: ") and "; checkpoint 1: 000001 has no" in last
    found = inspect_command.summary(run, verify=False)
    assert found["checkpoints"][0]["state"] == "not checked"


def test_list_shows_runs_below_a_folder(run, capsys):
    (run.path.parent / "broken").mkdir()
    (run.path.parent / "broken" / "run.json").write_text("{")
    assert cli.main(["list", "runs", "--folder", str(run.path.parent)]) == 0
    out = capsys.readouterr().out
    assert "toy, seed 3, checkpoint 1, 10 of 20" in out and "damaged: " in out


def test_list_knows_games_environments_presets_and_commands(capsys):
    assert cli.main(["list", "--json", "-", "--folder", "/nonexistent"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["games"]["connect_four"] == "connect_four(width=7, height=6, run=4)"
    assert "inspect" in found["commands"]
    assert "solved at a mean return of 475" in found["environments"]["playout/CartPole-v1"]
    assert any(name.startswith("playout/") for name in found["environments"])
    assert found["runs"] == {}


@pytest.mark.parametrize(
    "name", ["alphazero", "analyse", "engine", "eval", "export", "match", "play", "ppo"]
)
def test_help_of_the_commands_for_runs_has_examples_that_are_commands(capsys, name):
    with pytest.raises(SystemExit):
        cli.main([name, "--help"])
    out = capsys.readouterr().out
    assert "For example:" in out and "(default: None)" not in out and "{None}" not in out
    assert "(default: '')" not in out and "[STR]" not in out
    examples = [line for line in out.splitlines() if f"playout {name} " in line and "[" not in line]
    assert examples


@pytest.mark.parametrize("verb", ["eval", "play", "export"])
def test_verbs_refuse_runs_that_cannot(run, capsys, verb):
    assert cli.main([verb, str(run.path)]) == 2
    assert f"of kind toy, which has no {verb}" in capsys.readouterr().err
    with pytest.raises(playout.errors.RunError, match="has no player"):
        playout.load(run.path)


@pytest.mark.parametrize("verb", ["eval", "play", "export"])
def test_verbs_call_the_function_of_the_kind(run, monkeypatch, tmp_path, verb):
    """The table is all that ties a kind to the commands: somebody else's kind is one more entry."""
    from playout.agents.runs import kinds

    seen = []
    module = types.ModuleType("toy_kind")
    note = lambda run, options, game: seen.append((run.path, options.which, game))  # noqa: E731
    module.evaluate = lambda run, options, game: note(run, options, game) or {"score": 0.5}
    module.play = module.export = note
    module.load = lambda run, which, machine, game: (run.kind, which, machine.threads, game)
    monkeypatch.setitem(sys.modules, "toy_kind", module)
    monkeypatch.setitem(kinds.KINDS, "toy", "toy_kind")
    words = ["--json", str(tmp_path / "found.json")] if verb == "eval" else []
    words += ["--game", "tic_tac_toe"]
    assert cli.main([verb, str(run.path), "--which", "latest", *words]) == 0
    assert seen == [(run.path, "latest", "tic_tac_toe")]
    if verb == "eval":
        assert json.loads((tmp_path / "found.json").read_text()) == {"score": 0.5}
    assert playout.load(run, threads=2, game=3) == ("toy", "best", 2, 3)


@pytest.mark.parametrize("options", [EvalOptions, PlayOptions])
def test_numbers_of_episodes_and_simulations_that_cannot_be_are_refused(options, run, capsys):
    assert options(episodes=1, simulations=0).episodes == 1
    for wrong in ({"episodes": 0}, {"episodes": -3}, {"simulations": -1}):
        with pytest.raises(ConfigError, match=f"--{next(iter(wrong))} must be at least"):
            options(**wrong)
    assert cli.main(["play", str(run.path), "--episodes", "0"]) == 2
    assert capsys.readouterr().err == "error: --episodes must be at least 1, not 0\n"


def test_the_kinds_in_the_table_offer_what_the_protocol_asks():
    import inspect

    from playout.agents.runs.kinds import KINDS, RunKind

    owed = [name for name in vars(RunKind) if not name.startswith("_")]
    assert owed == ["load", "evaluate", "play", "export"]
    for module in KINDS.values():
        for name in owed:
            wanted = list(inspect.signature(getattr(RunKind, name)).parameters)[1:]
            found = inspect.signature(getattr(importlib.import_module(module), name))
            assert list(found.parameters) == wanted, f"{module}.{name}"


BENCHMARK = '''"""How fast: measured here."""
import json, pathlib, sys

def main():
    quick = "--quick" in sys.argv
    claims = [{"claim": "steps", "ours": 5e6, "peer": 1e6, "ratio": 5.0, "target": 4}]
    record = {"results": {"claims": claims, "quick": quick}}
    (pathlib.Path(__file__).parent / "speed.json").write_text(json.dumps(record))

if __name__ == "__main__":
    main()
'''


def test_bench_runs_a_subject_and_shows_its_claims(tmp_path, monkeypatch, capsys):
    from playout.agents.commands import bench
    from playout.benchmarks.tools import report

    (tmp_path / "speed.py").write_text(BENCHMARK)
    (tmp_path / "common.py").write_text('"""Shared."""\n')
    run = subprocess.run

    def here(call, **options):
        assert call[1:3] == ["-m", "playout.benchmarks.speed"]
        return run([call[0], str(tmp_path / "speed.py"), *call[3:]], **options)

    monkeypatch.setattr(bench.subprocess, "run", here)
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    assert cli.main(["bench", "list"]) == 0
    assert capsys.readouterr().out == "speed  How fast: measured here\n"
    assert cli.main(["bench", "sped"]) == 2
    assert "did you mean speed?" in capsys.readouterr().err
    assert cli.main(["bench", "speed", "--quick"]) == 0
    out = capsys.readouterr().out
    assert "5 M" in out and "5×" in out and "yes" in out
    assert json.loads((tmp_path / "speed.json").read_text())["results"]["quick"] is True


def test_bench_shows_no_results_that_it_has_not_written(tmp_path, monkeypatch, capsys):
    from playout.agents.commands import bench
    from playout.benchmarks.tools import report

    (tmp_path / "speed.py").write_text(BENCHMARK)
    claims = [{"claim": "steps", "ours": 5e6, "peer": 1e6, "ratio": 5.0, "target": 4}]
    (tmp_path / "speed.json").write_text(json.dumps({"results": {"claims": claims}}))
    run = subprocess.CompletedProcess([], 0)
    monkeypatch.setattr(bench.subprocess, "run", lambda *words, **options: run)
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    assert cli.main(["bench", "speed", "--quick"]) == 0
    assert capsys.readouterr().out == ""


def test_bench_without_a_subject_runs_the_benchmarks_and_no_study(tmp_path, monkeypatch, capsys):
    from playout.agents.commands import bench

    (tmp_path / "studies").mkdir()
    for name in ("speed", "studies/hours"):
        (tmp_path / f"{name}.py").write_text(BENCHMARK)
    called = []
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    monkeypatch.setattr(bench, "_run", lambda name, quick: bool(called.append(name)))
    assert cli.main(["bench"]) == 0 and called == ["speed"]
    assert cli.main(["bench", "hours"]) == 0 and called == ["speed", "hours"]
    assert cli.main(["bench", "list"]) == 0
    assert "hours" in capsys.readouterr().out


def test_the_benchmarks_that_come_with_playout_are_found(capsys):
    assert cli.main(["bench", "list"]) == 0
    assert "games" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["analyse", "engine", "eval", "export", "match", "play"])
def test_help_shows_what_a_command_does_before_what_computes(capsys, name):
    with pytest.raises(SystemExit):
        cli.main([name, "--help"])
    out = capsys.readouterr().out
    own = {"analyse": "--moves", "eval": "--opponents", "export": "--format", "match": "--games"}
    assert out.index(own.get(name, "--game")) < out.index("--device")
