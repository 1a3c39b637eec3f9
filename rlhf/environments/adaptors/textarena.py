"""Any game of TextArena as an environment: one seat is the policy's, an opponent has the others.

`textarena:GuessTheNumber-v0` takes the options of that game's class and those of `make`. A turn
hands on what is new since the seat's last one, so that a conversation holds nothing twice.
TextArena draws from Python's global random numbers: each episode here has a stream of its own,
swapped in around its calls, and everybody else's is left as it was.
"""

import contextlib
import copy
import inspect
import io
import random
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from playout.errors import ConfigError, likely_names
from playout.own_code import load_object, trust
from playout.rlhf.environments.adaptors.arena_moves import ArenaGame, find_move, listed_moves
from playout.rlhf.environments.adaptors.options import Options, import_package
from playout.rlhf.environments.checked import STOPS
from playout.rlhf.environments.environment import EnvironmentFactory, Prompt, Step

__all__ = ["Opponent", "TextArenaEnvironment", "make"]

Opponent = Callable[[str], str]
"""From what another seat reads to what it says."""

MAX_PLAYERS = 15
_SWAP = threading.RLock()  # the random numbers of the process are one


class TextArenaEnvironment:
    """One game, in which the policy has one seat, or every seat as a role with its own reward."""

    def __init__(
        self,
        game: ArenaGame,
        *,
        players: int = 1,
        seat: int = -1,
        opponent: Opponent | str = "random",
        brackets: bool = True,
    ) -> None:
        """One episode.

        Args:
            game: A game of TextArena without wrappers, not begun; it is used up.
            players: Seats.
            seat: The policy's; -1 draws it from the seed.
            opponent: Answers for the other seats; `random` plays legal moves, `self` gives the
                policy all seats.
            brackets: Put an answer without square brackets into them, as TextArena does.
        """
        self._game, self._players, self._fixed_seat = game, players, seat
        self._opponent, self._brackets, self._alone = opponent, brackets, opponent == "self"
        self._seat, self._turns, self._offered = 0, 0, list[str]()
        self._read: dict[int, str] = {}
        self._random: Any = None
        self._metrics: dict[str, float] = {}

    def reset(self, task: Any, seed: int) -> Prompt:
        """Begin a game; the opponents move first if it is their turn."""
        self._random = random.Random(seed).getstate(), np.random.RandomState(seed % 2**32)
        with self._own_random():
            self._game.reset(num_players=self._players, seed=seed)
            drawn = random.randrange(self._players)
        self._seat = drawn if self._fixed_seat < 0 else self._fixed_seat
        reply, over = self._until_policy()
        if over:
            raise RuntimeError("the game was over before the policy's first turn")
        return reply

    def step(self, answer: str) -> Step:
        """Make the policy's move and those of the opponents up to its next turn."""
        self._turns += 1
        mover = self._mover()
        self._act(answer)
        reply, over = self._until_policy()
        if not over:
            return Step(reply, {} if self._alone else 0.0)
        with self._own_random():
            rewards, info = self._game.close()
        rewards = {int(seat): _number(value) for seat, value in (rewards or {}).items()}
        seat = mover if self._alone else self._seat
        self._metrics = self._summary(rewards, info or {}, seat)
        if self._alone:
            return Step(None, {_role(seat): value for seat, value in rewards.items()}, True)
        return Step(None, rewards.get(self._seat, 0.0), True)

    def role(self) -> str:
        """The seat whose turn it is."""
        return _role(self._mover())

    def answers(self) -> Sequence[str] | None:
        """The moves that the game listed for this turn; None where it lists none."""
        return self._offered or None

    def metrics(self) -> dict[str, float]:
        """Turns of the policy, whether it won, whether an invalid move ended the game."""
        return self._metrics

    def _summary(self, rewards: dict[int, float], info: Any, seat: int) -> dict[str, float]:
        others = [value for other, value in rewards.items() if other != seat]
        own = rewards.get(seat, 0.0)
        found = {"turns": float(self._turns)}
        if others and not self._alone:
            found["won"] = float(own > max(others))
        wrong = info.get(seat, {}).get("invalid_move", False) if isinstance(info, dict) else False
        found["invalid"] = float(bool(wrong))
        return found

    def _mover(self) -> int:
        return int(self._game.state.current_player_id)

    def _until_policy(self) -> tuple[str, bool]:
        """Let the opponents move; what the policy reads next, and whether the game is over."""
        while not self._game.state.done:
            with self._own_random():
                mover, news = self._game.get_observation()
            text = _rendered(news, mover)
            self._offered = listed_moves(text)
            if self._alone or mover == self._seat:
                return text, False
            self._act(self._answer_of_opponent(text, mover))
        return "", True

    def _answer_of_opponent(self, text: str, seat: int) -> str:
        self._read[seat] = f"{self._read.get(seat, '')}\n{text}"
        with self._own_random():
            if callable(self._opponent):
                return self._opponent(text)
            move = find_move(
                self._game, self._offered, self._read[seat], random.Random(random.random())
            )
        if move is None:
            raise RuntimeError("no legal move was found for the opponent; name one with opponent=")
        return move

    def _act(self, answer: str) -> None:
        text = answer.strip()
        if self._brackets and "[" not in text and "]" not in text:
            text = f"[{text}]"
        with self._own_random():
            self._game.step(text)

    @contextlib.contextmanager
    def _own_random(self) -> Iterator[None]:
        """Python's and NumPy's global random numbers are this episode's while it runs."""
        with _SWAP:
            kept, kept_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
            own, own_numpy = self._random
            random.setstate(own)
            np.random.set_state(own_numpy.get_state())  # noqa: NPY002
            try:
                yield
            finally:
                own_numpy.set_state(np.random.get_state())  # noqa: NPY002
                self._random = random.getstate(), own_numpy
                random.setstate(kept)
                np.random.set_state(kept_numpy)  # noqa: NPY002


def _role(seat: int) -> str:
    return f"player {seat}"


def _rendered(news: Any, reader: int) -> str:
    """What is new to a seat: not its own words, and of several boards only the last."""
    if isinstance(news, str):
        return news
    parts = [_parts(item) for item in news]
    boards = [i for i, (_, _, kind) in enumerate(parts) if kind == "GAME_BOARD"]
    lines = []
    for place, (sender, message, kind) in enumerate(parts):
        if sender == reader or (kind == "GAME_BOARD" and place != boards[-1]):
            continue
        lines.append(message if sender < 0 else f"[Player {sender}] {message}")
    return "\n".join(lines).strip()


def _number(reward: Any) -> float:
    """A reward; some games put the reason of an invalid move in its place, which costs -1."""
    return float(reward) if isinstance(reward, int | float) else -1.0


def _parts(item: Sequence[Any]) -> tuple[int, str, str]:
    """Sender, text and kind of a message; some games mix up their order."""
    sender = next((part for part in item if isinstance(part, int)), -1)
    message = next((part for part in item if isinstance(part, str)), "")
    kind = next((part.name for part in item if hasattr(part, "name")), "")
    return sender, message, kind


def make(name: str, options: Mapping[str, Any]) -> EnvironmentFactory:
    """The game of that name, with the options of its class and `players, seat, opponent, brackets`.

    `players` is found by trying where it is not given. `opponent` is `random` (legal moves), `self`
    (the policy has all seats; for games without secrets, since all seats read one conversation), or
    `module:function`, which takes the text that the seat reads and returns what it says.

    Raises:
        ConfigError: TextArena is not installed, there is no such game, it cannot be made, or it has
            no such option.
    """
    where = f"textarena:{name}"
    arena = import_package("textarena", where, "textarena")
    from textarena.envs.registration import ENV_REGISTRY

    known = [game for game in ENV_REGISTRY if not game.endswith(("-raw", "-train"))]
    plain = name.removesuffix("-raw").removesuffix("-train")
    if plain not in ENV_REGISTRY:
        near = likely_names(plain, known, count=3, least=0.4)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ConfigError(f"{where}: TextArena has no game {plain!r}{hint}")
    raw = f"{plain}-raw" if f"{plain}-raw" in ENV_REGISTRY else plain
    taken = Options(where, options)
    players = taken.at_least("players", 0, 0)
    seat = taken.at_least("seat", -1, -1)
    opponent = taken.take("opponent", "random")
    brackets = taken.take("brackets", True)
    template = _template(arena, raw, taken)
    players = players or _num_players(template, where)
    if seat >= players:
        taken.fail(f"there is no seat {seat} of {players} players; the first is 0")
    others: Opponent | str = opponent
    if opponent not in ("random", "self"):
        others = _own_opponent(opponent, where)

    def create() -> TextArenaEnvironment:
        return TextArenaEnvironment(
            copy.deepcopy(template), players=players, seat=seat, opponent=others, brackets=brackets
        )

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            for first in {0, players - 1} if seat < 0 else {seat}:
                game = copy.deepcopy(template)
                trial = TextArenaEnvironment(game, players=players, seat=first, opponent=others)
                trial.reset(None, 0)
    except STOPS:
        raise
    except BaseException as error:
        taken.fail(f"it cannot be begun: {_first_line(error)}")
    return EnvironmentFactory(where, create)


def _template(arena: Any, raw: str, taken: Options) -> Any:
    """A game that was never begun, to be copied for each episode."""
    where, given = taken.where, taken.left
    output = io.StringIO()
    try:
        # Some games download word lists as they are imported, and say so on both streams.
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            bare = arena.make(raw)
            if given:
                signature = inspect.signature(type(bare).__init__)
                names = [key for key in signature.parameters if key != "self"]
                open_ended = any(
                    value.kind is value.VAR_KEYWORD for value in signature.parameters.values()
                )
                more = f", and {', '.join(names)}" if names else ""
                taken.check(lambda key: open_ended or key in names, more)
            settings = {
                key: list(value) if isinstance(value, tuple) else value
                for key, value in given.items()
            }
            return arena.make(raw, **settings)
    except ConfigError:
        raise
    except LookupError as error:  # nltk's way to say that a word list is not there
        lists = re.findall(r"nltk\.download\('([^']+)'\)", str(error))
        missing = f"nltk's data {lists[0]!r}" if lists else _first_line(error)
        raise ConfigError(f"{where} needs {missing}, which could not be fetched") from error
    except Exception as error:
        raise ConfigError(
            f"{where} cannot be made: {type(error).__name__}: {_first_line(error)}"
        ) from error


def _num_players(template: Any, where: str) -> int:
    """The fewest players that the game begins with."""
    for players in range(1, MAX_PLAYERS + 1):
        game = copy.deepcopy(template)
        state = random.getstate()
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                game.reset(num_players=players, seed=0)
        except Exception:  # the game says in many ways that this is not its number
            continue
        finally:
            random.setstate(state)
        if players > 1 or type(game.state).__name__ == "SinglePlayerState":
            return players
    raise ConfigError(f"{where} begins with no number of players; say players=N")


def _own_opponent(name: str, where: str) -> Opponent:
    if ":" not in name:
        raise ConfigError(
            f"{where}: opponent must be random, self or module:function, not {name!r}"
        )
    # Options come out of a run's settings too, where nobody has named it.
    trust(name, where, "the opponent")
    found = load_object(name, "the opponent")
    if not callable(found):
        raise ConfigError(f"{where}: the opponent {name!r} is not a function")
    return found  # type: ignore[no-any-return]


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" *")]
    return lines[0] if lines else "no reason given"
