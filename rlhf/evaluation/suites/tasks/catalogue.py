"""What `--suite` may name: own suites, files in published formats, games, tasks of lm_eval.

    pairs, cloze[:TEXTS], bytes[:TEXTS], legal[:GAME], best[:GAME], humaneval[:FILE],
    programs[:FILE], mmlu:FOLDER, bigbench:FILE, rows:FILE, FILE, lm_eval:TASK

For a FILE or MMLU's FOLDER may stand hub:NAME[@CONFIG][:split], but for a task of BIG-bench. TEXTS
are a file or a data set that comes with playout, of which the part is taken that is always held
out; without them cloze and bytes take what the run held out, without a game legal and best take the
one that it has learned. lm_eval's tasks are harness.py's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from playout.envs.core.game import NativeGame
from playout.envs.core.registry import game as find_game
from playout.errors import ConfigError, DataError
from playout.rlhf.data.corpora import TEXTS
from playout.rlhf.data.datasets import Datasets
from playout.rlhf.data.records import read_texts
from playout.rlhf.data.rows import SUFFIXES, suffix_of
from playout.rlhf.environments.game_prompt import GamePrompt
from playout.rlhf.evaluation.suites.suite import Suite
from playout.rlhf.evaluation.suites.tasks.bigbench import is_bigbench, read_bigbench
from playout.rlhf.evaluation.suites.tasks.code import (
    is_humaneval,
    packaged_problems,
    read_humaneval,
    read_programs,
)
from playout.rlhf.evaluation.suites.tasks.formats import (
    is_mmlu,
    read_mmlu,
    read_suite,
)
from playout.rlhf.evaluation.suites.tasks.moves import best_moves, legal_moves
from playout.rlhf.evaluation.suites.tasks.pairs import minimal_pairs
from playout.rlhf.evaluation.suites.tasks.sandbox import check_sandbox
from playout.rlhf.evaluation.suites.tasks.texts import cloze, passages

__all__ = ["HARNESS", "KINDS", "Material", "check_name", "find_suite"]

HARNESS = "lm_eval"


@dataclass(frozen=True, slots=True)
class Material:
    """What a run brings along.

    Attributes:
        heldout: Texts that it did not learn from, by the data set that they are of; empty where
            nobody knows.
        unknown: Why, where that is so.
        prompt: How it sees the positions of the game that it has learned, if it has.
    """

    heldout: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unknown: str = ""
    prompt: GamePrompt | None = None


def _texts(rest: str, material: Material, kind: str) -> Mapping[str, Sequence[str]]:
    """Texts by the data set that they are of."""
    if rest in TEXTS and not Path(rest).exists():
        return {rest: Datasets("files").texts((rest,))[1]}
    if rest:
        return {rest: read_texts(rest)}
    if not any(material.heldout.values()):
        why = f" ({material.unknown})" if material.unknown else ""
        raise ConfigError(f"no texts are known to be held out{why}; name some: --suite {kind}:FILE")
    return material.heldout


def _cloze(rest: str, material: Material) -> Suite:
    texts = _texts(rest, material, "cloze").values()
    return cloze("cloze", [text for of_one in texts for text in of_one])


def _must_exist(rest: str, kind: str) -> None:
    if not rest.startswith("hub:") and not Path(rest).exists():
        raise DataError(f"--suite {kind}:{rest}: there is no such file")


def _prompt(rest: str, material: Material, kind: str) -> GamePrompt:
    if rest:
        game: NativeGame = find_game(rest)
        same = material.prompt is not None and str(material.prompt.game) == str(game)
        return material.prompt if same and material.prompt is not None else GamePrompt(game)
    if material.prompt is None:
        raise ConfigError(f"no game was learned here; name one: --suite {kind}:GAME")
    return material.prompt


def _pairs(rest: str, material: Material) -> Suite:
    return read_suite(rest) if rest else minimal_pairs()


def _problems(rest: str) -> str | Path:
    return rest or packaged_problems()


def _programs(rest: str, material: Material) -> Suite:
    check_sandbox()
    return read_programs(_problems(rest))


KINDS: dict[str, Callable[[str, Material], Suite]] = {
    "pairs": _pairs,
    "cloze": _cloze,
    "bytes": lambda rest, own: passages("bytes", _texts(rest, own, "bytes")),
    "legal": lambda rest, own: legal_moves("legal", _prompt(rest, own, "legal")),
    "best": lambda rest, own: best_moves("best", _prompt(rest, own, "best")),
    "mmlu": lambda rest, own: read_mmlu(rest),
    "bigbench": lambda rest, own: read_bigbench(Path(rest)),
    "humaneval": lambda rest, own: read_humaneval(_problems(rest)),
    "programs": _programs,
    "rows": lambda rest, own: read_suite(rest),
}


# What has to be named behind some kinds.
_NEEDED = {"mmlu": "FOLDER", "bigbench": "FILE", "rows": "FILE", HARNESS: "TASK"}
_OF_GAMES = ("legal", "best")
_OF_TEXTS = ("cloze", "bytes")


def check_name(text: str) -> None:
    """Refuses a name of `--suite` behind which nothing stands; no file is read for it.

    Raises:
        ConfigError: There is no such suite. DataError: There is no such file.
    """
    kind, _, rest = text.partition(":")
    if kind not in KINDS and kind != HARNESS:
        if not text.startswith("hub:") and not Path(text).exists():
            known = ", ".join([*KINDS, f"{HARNESS}:TASK"])
            raise ConfigError(f"there is no suite {text!r}; known are {known}, or a file")
    elif not rest:
        if kind in _NEEDED:
            raise ConfigError(f"--suite {kind} needs {_NEEDED[kind]}: {kind}:{_NEEDED[kind]}")
    elif kind in _OF_GAMES:
        find_game(rest)
    elif kind != HARNESS and not (kind in _OF_TEXTS and rest in TEXTS):
        _must_exist(rest, kind)


def find_suite(text: str, material: Material) -> Suite:
    """The suite of that name.

    Args:
        text: A name, KIND:REST, or a file or folder whose format shows what it is.
        material: What the run brings along.

    Raises:
        ConfigError: There is no such suite. DataError: Its file is not there, or is no suite.
    """
    check_name(text)
    kind, _, rest = text.partition(":")
    if kind in KINDS:
        return KINDS[kind](rest, material)
    if text.startswith("hub:"):
        return read_suite(text)
    path = Path(text)
    if is_mmlu(path):
        return read_mmlu(path, name=path.name)
    if is_bigbench(path):
        return read_bigbench(path)
    if is_humaneval(path):
        return read_humaneval(path)
    if path.is_dir() or suffix_of(path) in SUFFIXES:
        return read_suite(path)
    return passages(path.stem, {"": read_texts(path)})
