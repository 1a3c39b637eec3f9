"""Any game as a text environment: `game:connect_four`, `game:hex(size=5)`, `game:my_module:MyGame`.

In the mode `move` an episode is one position and one answer, in the mode `game` it is a whole game
against an opponent, or against itself with a role for each player. Prompts are game_prompt.py's,
positions game_tasks.py's, rewards game_reward.py's. Nothing here knows any game by name.
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from playout.agents.players.analysis import Judge, rollout_judge
from playout.agents.players.external.spec import FORMS as ENGINE_FORMS
from playout.agents.players.load import load_player, make_player
from playout.agents.players.player import Player, choose, results_without
from playout.agents.players.simple import RandomPlayer
from playout.envs.core.game import TERMINAL, NativeGame, State
from playout.envs.core.registry import game as find_game
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError, PlayoutError
from playout.rlhf.environments.environment import EnvironmentFactory, Split, Step, Task
from playout.rlhf.environments.game_options import SELF, GameOptions
from playout.rlhf.environments.game_reward import MoveReward
from playout.rlhf.environments.game_sides import find_openings
from playout.rlhf.environments.game_tasks import (
    Referee,
    SolvedPositions,
    find_positions,
    judging_positions,
    learnable_positions,
)

__all__ = ["GameEnvironment", "GameOptions", "make"]

_FRESH = 8  # plies in which an opponent may have ended games before anything was asked


class GameEnvironment:
    """One episode; what episodes share (options, rewards, tasks) is `Games`'s."""

    def __init__(self, games: "Games") -> None:
        self._games, self._options, self._prompt = games, games.options, games.prompt
        self._counts = {"answers": 0, "legal": 0, "judged": 0, "kept": 0}
        self._tries = self._ply = self._seed = self._seat = 0
        self._result: float | None = None
        self._state: State = games.game.initial_state()

    @property
    def state(self) -> State:
        """The position at which the policy is to answer, or the last one."""
        return self._state

    def reset(self, task: Task, seed: int) -> str:
        """Begin at the position or the opening of a task (a dictionary of `tasks`)."""
        game, options = self._games.game, self._options
        task = task if isinstance(task, Mapping) else {}
        self._seed, self._ply, self._tries = seed, 0, 0
        self._seat = int(task.get("seat", seed % game.num_players))
        if "position" in task:
            self._state = game.from_text(str(task["position"]))
        else:
            self._state = game.from_moves(str(task.get("opening", "")))
        self._chance()
        if options.mode == "game":
            self._others_move(asked=False)
        while self._state.is_terminal and self._ply < _FRESH:
            # The opponent has ended it before anything was asked: once more from the start.
            self._state = game.initial_state()
            self._play_on(asked=False)
        return self._prompt(self._state)

    def answers(self) -> list[str]:
        """The legal moves."""
        return self._prompt.answers(self._state)

    def step(self, answer: str) -> Step:
        """Play the answer."""
        options, state = self._options, self._state
        self._counts["answers"] += 1
        action = self._prompt.read(state, answer)
        reward = 0.0
        if action is None:
            reward = options.illegal_reward
            self._tries += 1
            if options.illegal == "resample" and self._tries <= options.retries:
                shown = answer.strip()[:40]
                return Step(f"{shown!r} is no legal move.\n{self._prompt(state)}",
                            self._to(state.to_play, reward))  # fmt: skip
            if options.illegal != "random":
                return Step(None, self._lost(reward), done=True)
            batch = StateBatch.from_states([state])
            action = int(batch.random_actions(self._seed, streams=[self._ply], counter=97)[0])
        else:
            self._counts["legal"] += 1
            kept = self._games.reward.keeps(state, action)
            if kept is not None:
                self._counts["judged"] += 1
                self._counts["kept"] += kept
            reward += self._games.worth(state, action, self._seed + self._ply)
        self._tries = 0
        if options.mode == "move":
            return Step(None, reward, done=True)
        return self._go_on(action, reward)

    def metrics(self) -> dict[str, float]:
        """Shares of legal answers and of kept outcomes; of a whole game its result."""
        counts = self._counts
        found = {"legal": counts["legal"] / max(1, counts["answers"])}
        if counts["judged"]:
            found["kept"] = counts["kept"] / counts["judged"]
        if self._result is not None:
            found["result"] = self._result
            found["won"], found["lost"] = float(self._result > 0), float(self._result < 0)
        return found

    def _chance(self) -> None:
        self._state = self._state.resolve_chance(self._seed, stream=self._ply)

    def _play_on(self, *, asked: bool) -> int | None:
        """Dice, then the opponent's moves, as after every move; as `_others_move`."""
        self._ply += 1
        self._chance()
        return self._others_move(asked=asked)

    def _others_move(self, *, asked: bool) -> int | None:
        """The opponent's moves, until the policy's seat is to move or the game is over.

        Args:
            asked: The policy has been asked, so that the opponent may give up; before, a random
                move stands for that.

        Returns:
            The seat that gave the game up; None where none did.
        """
        while (
            self._options.mode == "game"
            and self._games.opponent is not None
            and self._state.to_play not in (self._seat, TERMINAL)
        ):
            # Every move has a seed of its own, so that one player serves all episodes.
            self._games.opponent.reset((self._seed << 12) + self._ply)
            # What was played before is for programs, which are refused as opponents.
            states, lines = StateBatch.from_states([self._state]), [()] if asked else None
            actions, given_up = choose(self._games.opponent, states, lines)
            if given_up:
                return self._state.to_play
            self._state = self._state.apply(int(actions[0]))
            self._ply += 1
            self._chance()
        return None

    def _go_on(self, action: int, reward: float) -> Step:
        mover = self._state.to_play
        before = self._state.returns / self._games.game.value_scale
        self._state = self._state.apply(action)
        loser = self._play_on(asked=True)
        state, game = self._state, self._games.game
        over = state.is_terminal or loser is not None
        gained = state.returns / game.value_scale
        if loser is not None:
            gained = np.array(results_without(game.num_players, loser))
        if over:
            self._result = float(gained[self._seat])
        if game.step_rewards and loser is None:
            gained = gained - before  # what the moves since then have brought
        rewards = {mover: reward}
        if "result" in self._games.reward.kinds and (over or game.step_rewards):
            for player in range(game.num_players):
                rewards[player] = rewards.get(player, 0.0) + float(gained[player])
        if over:
            return Step(None, self._shared(rewards), done=True)
        return Step(self._prompt(state), self._shared(rewards))

    def _shared(self, rewards: Mapping[int, float]) -> float | dict[str, float]:
        """For the policy's seat; where it plays all sides, for each role."""
        if not self._games.plays_itself:
            return rewards.get(self._seat, 0.0)
        return {_role(player): reward for player, reward in rewards.items()}

    def _to(self, player: int, reward: float) -> float | dict[str, float]:
        return {_role(player): reward} if self._games.plays_itself else reward

    def _lost(self, reward: float) -> float | dict[str, float]:
        """The end by an illegal answer: who wrote it gets `reward`, the others have won."""
        loser = self._state.to_play
        results = results_without(self._games.game.num_players, loser)
        rewards = {loser: reward}
        if self._options.mode == "game":
            self._result = results[self._seat]
            if "result" in self._games.reward.kinds:
                # With nothing, a role would learn from a game that it won as from a draw.
                rewards |= {player: one for player, one in enumerate(results) if player != loser}
        return self._shared(rewards) if self._games.plays_itself else reward


def _judge(run: str, game: NativeGame) -> Judge:
    """The search of a run.

    Raises:
        ConfigError: It does not say what moves are worth.
    """
    judge = load_player(run, game=game).judge()
    states = StateBatch.from_states([game.initial_state().resolve_chance(0)])
    try:
        worth = judge(states).q
    except PlayoutError as error:
        raise ConfigError(f"judge={run}: {error}") from error
    if not np.isfinite(worth).any():
        raise ConfigError(
            f"judge={run} does not say what moves are worth: take a run that searches, or leave "
            "judge out"
        )
    return judge


def _role(player: int) -> str:
    return f"player {player + 1}"


class SelfPlay(GameEnvironment):
    """The same where the policy plays all sides, each a role with rewards of its own."""

    def role(self) -> str:
        """Whose turn it is."""
        return _role(self._state.to_play)


class Games:
    """What all episodes of one environment share."""

    def __init__(self, game: NativeGame, options: GameOptions) -> None:
        """Find the rewards and their helpers.

        Raises:
            ConfigError: The options ask what the game cannot do.
        """
        self.game, self.options = game, options
        self.prompt = options.prompt(game)
        self.plays_itself = options.mode == "game" and options.opponent == SELF
        referee = None
        with contextlib.suppress(ConfigError):
            referee = Referee(game)
        usual = "result" if options.mode == "game" else "outcome" if referee else "search"
        kinds = [part.strip() for part in (options.reward or usual).split("+")]
        judge = None
        if "search" in kinds:
            judge = (
                _judge(options.judge, game)
                if options.judge
                else rollout_judge(game, options.simulations)
            )
        self.opponent = self._opponent()
        self.reward = MoveReward(
            game, kinds, referee=referee, judge=judge, opponent=self.opponent or RandomPlayer()
        )

    def _opponent(self) -> Player | None:
        """Who plays the other sides; None where there are none."""
        spec = self.options.opponent
        if self.game.num_players == 1 or spec == SELF:
            return None
        if spec.partition(":")[0] in (*ENGINE_FORMS, "human"):
            raise ConfigError(f"the opponent {spec!r} cannot train a policy: take a run, uct:N, "
                              "random, greedy or perfect")  # fmt: skip
        return make_player(spec, self.game)

    def worth(self, state: State, action: int, seed: int) -> float:
        """The reward of one legal move; of a whole game without its result, which comes later."""
        return self.reward(state, action, seed, to_the_end=self.options.mode == "move")

    def tasks(self, split: Split) -> Sequence[Task]:
        """Positions, or openings with a seat each."""
        options = self.options
        count = options.num_tasks(split)
        if options.mode == "move":
            found = self.positions(split, count)
            if found.outcomes is not None:
                self.reward.remember(found.states, found.outcomes)
            return [{"position": state.text} for state in found.states]
        plies = options.plies[0] if options.plies else -1
        seats = 1 if self.plays_itself else self.game.num_players
        openings = find_openings(
            self.game, max(1, count // seats), split, plies=plies, seed=options.seed
        )
        return [{"opening": moves, "seat": seat} for moves in openings for seat in range(seats)]

    def positions(self, split: Split, count: int) -> SolvedPositions:
        """Positions of a side, solved where the reward asks the solver."""
        plies = self.options.plies
        if split == "train" and self.options.file:
            return learnable_positions(self.game, self.options.file, self.options.positions)
        if split == "test" and not plies and not self.options.open:
            return judging_positions(self.game, count, self.reward.referee)
        return find_positions(
            self.game,
            count,
            split,
            plies=(plies[0], plies[1]) if plies else None,
            seed=self.options.seed,
            referee=self.reward.referee,
            matters=not self.options.open,
        )


def make(name: str, options: Mapping[str, Any]) -> EnvironmentFactory:
    """The environment of a game.

    Args:
        name: As `playout.game` reads it, such as "connect_four" or "my_module:MyGame(size=6)".
        options: Fields of `GameOptions`.

    Raises:
        ConfigError: There is no such game or option, or the game cannot be asked for it.
    """
    games = Games(find_game(name), GameOptions.of(options))
    kind = SelfPlay if games.plays_itself else GameEnvironment
    return EnvironmentFactory(f"game:{games.game}", lambda: kind(games), games.tasks)
