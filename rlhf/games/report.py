"""The page about a run of the recipe: what each stage was worth, curves, whole games, positions.

Reads what the recipe measured and what the stages logged, and asks the policy about some positions
that nothing was learned from. Writes report/index.html, which holds everything, and report.json.
"""

from __future__ import annotations

import html
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from playout.agents.runs.checkpoint.durable_io import replace_file
from playout.envs.records.files import read
from playout.rlhf.environments.game_player import LanguageGamePlayer
from playout.rlhf.evaluation.findings import of_sampling, share
from playout.rlhf.evaluation.games import positions_for, told
from playout.rlhf.evaluation.report import curve, html_page, html_table, picture, sampling_gaps
from playout.rlhf.games.episodes import told_episodes

if TYPE_CHECKING:
    from pathlib import Path

    from playout.rlhf.games.recipe import GamesRecipe

__all__ = ["write_report"]

_SHOWN_POSITIONS, _SHOWN_GAMES = 8, 2
_STYLE = """
pre { font-size: 13px; line-height: 1.25; margin: .3em 1.2em .3em 0; }
.row { display: flex; flex-wrap: wrap; }
.good { color: #176b2c; } .bad { color: #a11; }
"""
# Metrics of stages that learn from reward, and their titles; a stage may lack some.
_CURVES = (
    ("eval/legal", "share of legal answers"),
    ("eval/kept", "share of outcomes kept"),
    ("eval/result", "result of games"),
    ("objective/scores", "reward"),
    ("objective/kl", "KL to the policy before, nats an episode"),
    ("val/mean_length", "tokens an answer"),
    ("policy/entropy_avg", "entropy, nats a token"),
)


def write_report(recipe: GamesRecipe) -> Path:
    """Write the page; returns its path."""
    folder = recipe.run.subrun("report")
    folder.mkdir(exist_ok=True)
    measured = [recipe.measure(stage) for stage in recipe.stages]
    curves = {
        stage: {key: points for key, _ in _CURVES if (points := curve(recipe.folder(stage), key))}
        for stage in recipe.stages
    }
    best = recipe.best()
    player = recipe.player(best)
    data = {
        "game": str(recipe.game),
        "size": recipe.run.config["size"],
        "measured": measured,
        "curves": curves,
        "sampling_gap": sampling_gaps({stage: recipe.folder(stage) for stage in recipe.stages}),
        "best": best,
        "positions": _positions(player),
    }
    replace_file(folder / "report.json", json.dumps(data, indent=1).encode())
    replace_file(folder / "index.html", _page(recipe, data).encode())
    return folder / "index.html"


def _positions(player: LanguageGamePlayer) -> list[dict[str, Any]]:
    """Some positions that nothing was learned from, and what the policy does there."""
    positions = positions_for(player.game, _SHOWN_POSITIONS)
    states, outcomes = positions.states, positions.outcomes
    player.reset(1)
    written = player.write(states)
    logprobs = player.move_logprobs(states)
    found = []
    for row, state in enumerate(states):
        action = player.prompt.read(state, written[row])
        entry: dict[str, Any] = {
            "board": player.prompt(state),
            "answer": written[row],
            "legal": action is not None,
            "moves": [
                [state.action_text(a), float(np.exp(logprobs[row, a]))] for a in state.legal_actions
            ],
        }
        if outcomes is not None:
            good = outcomes[row] == outcomes[row].max()
            entry["kept"] = action is not None and bool(good[action])
            entry["keeping"] = [state.action_text(int(a)) for a in np.flatnonzero(good)]
        found.append(entry)
    return found


def _summary(data: dict[str, Any]) -> list[str]:
    """What came out, a sentence a stage."""
    lines = []
    before: dict[str, Any] | None = None
    for found in data["measured"]:
        line = f"{found['stage']}: {told(found['moves'])}"
        if "episodes" in found:
            line += f"; {told_episodes(found['episodes'])}"
        if "elo" in found:
            elo, low, high = found["elo"]
            line += f"; {elo:.0f} Elo above random ({low:.0f} to {high:.0f})"
        if before is not None and "kept" in found["moves"]:
            change = 100 * (found["moves"]["kept"] - before["moves"]["kept"])
            line += f"; {change:+.1f} points of kept outcomes by this stage"
        lines.append(line + ".")
        before = found
    return lines


def _games(recipe: GamesRecipe, stage: str) -> str:
    path = recipe.run.path / "measured" / f"{stage}-games.jsonl"
    if not path.exists():
        return ""
    parts = ["<h2>Whole games</h2>"]
    for record in list(read(path))[:_SHOWN_GAMES]:
        state = recipe.game.initial_state()
        names = record.players or ("player 1", "player 2")
        boards = [f"<pre>{html.escape(str(state))}</pre>"]
        for move in record.moves:
            mover = state.to_play
            who = names[mover] if mover >= 0 else "dice"
            state = state.apply(state.read_action(move))
            boards.append(f"<pre>{html.escape(f'{who}: {move}')}\n{html.escape(str(state))}</pre>")
        result = ", ".join(f"{value:g}" for value in state.returns)
        title = " against ".join(html.escape(name) for name in names)
        parts.append(f"<h3>{title}: {result}</h3><div class=row>{''.join(boards)}</div>")
    return "".join(parts)


def _table(data: dict[str, Any]) -> str:
    opponents = [row["opponent"] for row in data["measured"][-1].get("games", [])]
    head = ["stage", "legal", "keeps the outcome", "legal in later turns, sampled"]
    head += ["Elo above random", *(f"against {name}" for name in opponents)]
    rows = []
    for found in data["measured"]:
        moves = found["moves"]
        row = [found["stage"], share(moves["legal"], moves["legal_interval"])]
        row.append(share(moves["kept"], moves["kept_interval"]) if "kept" in moves else "")
        later = found.get("episodes", {}).get("sampled")
        reached = later and later["answers"]
        row.append(share(later["legal"], later["legal_interval"]) if reached else "")
        elo = found.get("elo")
        row.append(f"{elo[0]:.0f} ({elo[1]:.0f} to {elo[2]:.0f})" if elo else "")
        row += [f"{g['wins']} / {g['draws']} / {g['losses']}" for g in found.get("games", [])]
        rows.append(row)
    if "random" in data["measured"][0]["moves"]:
        random = share(data["measured"][0]["moves"]["random"])
        rows.append(["a random legal move", "100 %", random, "100 %"])
    return html_table(head, rows)


def _figure(data: dict[str, Any]) -> bytes:
    """One picture: the stages side by side, and under it what happened within each."""
    from matplotlib.figure import Figure

    shown = [
        (key, title)
        for key, title in _CURVES
        if any(len(points.get(key, [])) > 1 for points in data["curves"].values())
    ]
    figure = Figure(figsize=(9, 3.2 * (1 + (len(shown) + 1) // 2)), layout="constrained")
    planes = figure.subplots(1 + (len(shown) + 1) // 2, 2, squeeze=False).ravel()
    names = [found["stage"] for found in data["measured"]]
    for key, label in (("legal", "legal answers"), ("kept", "outcomes kept")):
        values = [found["moves"].get(key) for found in data["measured"]]
        if None not in values:
            planes[0].plot(names, [100 * v for v in values], "o-", label=label)
    random = data["measured"][0]["moves"].get("random")
    if random is not None:
        planes[0].axhline(100 * random, ls=":", color="grey", label="kept by random legal moves")
    planes[0].set(ylabel="% of unseen positions", ylim=(0, 101))
    planes[0].legend(frameon=False)
    elos = [found.get("elo") for found in data["measured"]]
    if None not in elos:
        middle = np.array([e[0] for e in elos])
        ends = np.abs(np.array([[e[1], e[2]] for e in elos]).T - middle)
        planes[1].errorbar(names, middle, yerr=ends, fmt="o-", capsize=4)
        planes[1].set(ylabel="Elo above random")
    for plane, (key, title) in zip(planes[2:], shown, strict=False):
        for stage, points in data["curves"].items():
            if len(points.get(key, [])) > 1:
                xs, ys = zip(*points[key], strict=True)
                plane.plot(np.array(xs) / max(xs), ys, label=stage)
        plane.set(title=title, xlabel="share of the stage")
        plane.legend(frameon=False)
    for plane in planes[2 + len(shown) :]:
        plane.set_visible(False)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110, metadata={"Software": None})
    return out.getvalue()


def _asked(position: dict[str, Any]) -> str:
    """One position with the policy's answer."""
    verdict = "a legal move" if position["legal"] else "no legal move"
    kind = "good" if position["legal"] else "bad"
    if "kept" in position:
        kind = "good" if position["kept"] else "bad"
        keeping = " ".join(position["keeping"])
        verdict += ", keeps the outcome" if position["kept"] else f"; {keeping} would keep it"
    likely = sorted(position["moves"], key=lambda move: -move[1])[:7]
    chances = ", ".join(f"{move} {100 * p:.0f} %" for move, p in likely)
    return (
        f"<div><pre>{html.escape(position['board'])}<b>{html.escape(position['answer'])}</b></pre>"
        f"<p class={kind}>{html.escape(verdict)}</p><small>{html.escape(chances)}</small></div>"
    )


def _page(recipe: GamesRecipe, data: dict[str, Any]) -> str:
    points = "".join(f"<li>{html.escape(line)}</li>" for line in _summary(data))
    gaps = "".join(f"<p>{html.escape(line)}</p>" for line in of_sampling(data["sampling_gap"]))
    asked = "".join(_asked(position) for position in data["positions"])
    return html_page(
        f"A language policy learns {data['game']}, size {data['size']}",
        f"<ul>{points}</ul>{_table(data)}{picture(_figure(data), 'curves')}{gaps}"
        f"<h2>Positions that nothing was learned from</h2><p>Nothing picked; the policy of "
        f"{data['best']}, greedy. Below, how likely it is to write each legal move.</p>"
        f"<div class=row>{asked}</div>{_games(recipe, data['best'])}",
        style=_STYLE,
    )
