"""Which texts a language run has learned from, and which it held out: those of all its stages.

A run names its data and the run that it started from, so the chain is followed to its beginning.
Texts that are read from files are read again; of one's own data the same part is held out as in
training, and the run's filters leave out what they left out there. What a published model learned
from, nobody here knows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playout.agents.runs.directory import RunDir
from playout.errors import PlayoutError
from playout.rlhf.data.conversations import prompt_text
from playout.rlhf.data.curation.curate import Filters, apart, curate
from playout.rlhf.data.curation.mixture import parse_mixture
from playout.rlhf.data.datasets import HELD_OUT, USUAL, Datasets, hold_out, hold_out_pairs
from playout.rlhf.data.records import Demonstration, read_preferences, read_texts
from playout.rlhf.model.folder import MODEL, model_folder

__all__ = ["TrainingText", "base_of", "stage_of", "training_text"]

_NAMED = ("auto", "real", "synthetic")


@dataclass(slots=True)
class TrainingText:
    """Texts of a run and of the runs before it.

    Attributes:
        train: That were learned from, raw texts first.
        corpora: That pretraining held out, by the data set that they are of.
        stages: Which stages they are of.
        unknown: Why some texts are not here; empty where all are.
    """

    train: list[str] = field(default_factory=list)
    corpora: dict[str, list[str]] = field(default_factory=dict)
    stages: list[str] = field(default_factory=list)
    unknown: str = ""

    @property
    def heldout(self) -> list[str]:
        """All texts that pretraining held out."""
        return [text for texts in self.corpora.values() for text in texts]


def stage_of(path: Path) -> RunDir | None:
    """The stage whose model a path means, if it is one of ours."""
    try:
        folder = model_folder(path)
    except PlayoutError:
        folder = path / MODEL
    for candidate in (folder.parent if folder.name == MODEL else folder, path):
        if RunDir.is_run(candidate):
            return RunDir.open(candidate)
    return None


def training_text(path: Path) -> TrainingText:
    """The texts behind a run or a model folder; what cannot be read is said in `unknown`."""
    found = TrainingText()
    seen: set[Path] = set()
    at: Path | None = path
    while at is not None and at.absolute() not in seen:
        seen.add(at.absolute())
        run = stage_of(at)
        if run is None:
            found.unknown = f"nobody knows what {at} learned from"
            break
        # The recipe of games leaves its best policy in its own folder, above its stages.
        stages = [run.path / name for name in ("sft", "pretrain")]
        inner = [RunDir.open(p) for p in stages if run.kind == "rlhf.games" and RunDir.is_run(p)]
        for stage in inner or [run]:
            try:
                _add(found, stage)
            except PlayoutError as error:
                found.unknown = f"the texts of {stage.path} cannot be read: {error}"
        at = base_of(run)
    return found


def base_of(run: RunDir) -> Path | None:
    """The run or folder that a stage started from; of a moved run, the stage beside it."""
    named = run.config.get("base")
    if not named:
        return None
    path, beside = Path(str(named)), run.path.parent / Path(str(named)).name
    return beside if not path.exists() and RunDir.is_run(beside) else path


def _add(found: TrainingText, run: RunDir) -> None:
    stage, config = run.kind.partition(".")[2], run.config
    if stage == "pretrain":
        train, held = _pretrained(run, config)
        train, wrong = _curated(run, train, [text for texts in held.values() for text in texts])
        found.unknown = found.unknown or wrong
        found.train = train + found.train
        for name, texts in held.items():
            later = found.corpora.get(name, [])
            held[name] = texts if later == texts else texts + later
        found.corpora = {**found.corpora, **held}
    elif stage == "sft":
        found.train += _demonstrated(run, config)
    elif stage == "dpo" and (source := _source(run, config, "preferences")) is not None:
        pairs = read_preferences(source)
        if config.get("measured_on") == "pairs":
            pairs = hold_out_pairs(pairs)[0]
        for pair in pairs:
            found.train += [
                prompt_text(pair.prompt) + answer for answer in (pair.first, pair.second)
            ]
    else:
        return
    found.stages.insert(0, stage)


def _source(run: RunDir, config: Mapping[str, Any], flag: str = "") -> Path | str | None:
    """The file or the rows that a stage was given, or None."""
    rows = config.get("rows")
    if isinstance(rows, str):  # given from Python and kept; a number is that of rows a step
        return run.path / rows
    data = str(config.get("data", "auto"))
    named = config.get(flag) or ("" if data in _NAMED else data)
    return str(named) if named else None


def _pretrained(run: RunDir, config: Mapping[str, Any]) -> tuple[list[str], dict[str, list[str]]]:
    """What a run of pretraining learned from, and by data set what it held out."""
    named = tuple(config.get("text") or ())
    if config.get("corpus"):
        named = tuple(parse_mixture(str(config["corpus"])))
    source = None if named else _source(run, config)
    if source is not None:
        train, held = hold_out(read_texts(source), HELD_OUT, texts=lambda text: [text])
        return train, {str(config.get("data", "")): held}
    material = str(config["material"])
    if material == "synthetic" and not named:
        train, held = Datasets(material).texts()
        return train, {material: held}
    sides = {name: Datasets("files").texts((name,)) for name in named or USUAL}
    return [t for train, _ in sides.values() for t in train], {n: s[1] for n, s in sides.items()}


def _curated(run: RunDir, train: list[str], held: list[str]) -> tuple[list[str], str]:
    """Of the texts to learn from those that the run's filters left, and what is wrong with that."""
    filters, like = Filters.of(run.config), str(run.config.get("like") or "")
    if filters.take_nothing and not like:
        return train, ""
    try:
        examples = read_texts(like) if like else ()
        aside = apart(held, train)
        kept = curate(train, filters, heldout=aside, examples=examples, seed=run.seed).kept
    except PlayoutError as error:
        return train, f"what the filters of {run.path} left out counts as learned from: {error}"
    found = {"texts": len(kept), "kept": int(kept.sum())}
    noted = run.record.get("curation") or found
    wrong = ""
    if any(noted.get(key) != value for key, value in found.items()):
        wrong = (
            f"the texts of {run.path} are others than when it learned: its filters leave "
            f"{found['kept']:,} of {found['texts']:,}, then {noted['kept']:,} of {noted['texts']:,}"
        )
    return [text for text, stays in zip(train, kept, strict=True) if stays], wrong


def _demonstrated(run: RunDir, config: Mapping[str, Any]) -> list[str]:
    source = _source(run, config, "demonstrations")
    if source is None:
        rows = Datasets(str(config["material"])).demonstrations()[0]
    else:
        rows = Datasets("files").demonstrations(source, join=config.get("join") == "space")[0]
    return [_whole(row) for row in rows]


def _whole(row: Demonstration) -> str:
    text = prompt_text(row.prompt)
    parts = (text, row.response, *row.turns)
    return ("" if isinstance(row.prompt, str) else "\n").join(parts)
