"""A language policy learns a game from nothing, with a report of how good it became at what."""

from dataclasses import dataclass
from typing import Annotated

from playout.agents.runs.options import TrainingOptions, run_options_last
from playout.rlhf.stages.paths import located, whole
from tyro.conf import arg


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(TrainingOptions):
    """Records of random games, good moves, verified reward, whole games: each stage in its folder.

    The same command again continues where it stopped. Afterwards the policy plays: `playout match
    RUN random`, `playout play RUN`.
    """

    size: Annotated[str, arg(metavar="tiny|small|smollm2")] = "small"
    """tiny takes minutes, small an hour and a half on two cores; smollm2 begins with --base."""
    game: str = "connect_four"
    """Any game: a name with parameters such as hex(size=5), or module:Name of your own."""
    base: Annotated[str, arg(metavar="FOLDER", help_behavior_hint="")] = ""
    """A model to begin with in place of pretraining one; smollm2 is fetched."""
    opponent: str = "random"
    """Whom the last stage plays: random, greedy, uct:N, perfect, a run, or self."""
    rules: bool = False
    """Begin prompts with sentences about the game and what wins it; own models need none."""
    minutes: float = 0.0
    """Choose the steps of sft, by how fast pretraining went, and the rounds of grpo and rlhf, by
    what is left then, so that all takes about so long; 0 takes the size's. The numbers are kept in
    the run."""
    skip: Annotated[tuple[str, ...], arg(metavar="STAGE", help_behavior_hint="")] = ()
    """Stages to leave out: pretrain, tactics, grpo, rlhf."""

    kept, found = staticmethod(whole), staticmethod(located)


def main(command: Command) -> int:
    """Run the recipe."""
    from playout.agents.runs import ranks
    from playout.envs.core.registry import game as stored_game
    from playout.envs.core.registry import given_game
    from playout.errors import ConfigError
    from playout.rlhf.environments.load import GOAL_TOLD
    from playout.rlhf.games.recipe import SIZES, GamesRecipe, check_recipe, shown_options
    from playout.rlhf.model.published import named_base
    from playout.rlhf.stages.run import discarded_unused, mark_finished, open_stage, same_again

    if command.size not in SIZES:
        raise ConfigError(f"there is no size {command.size!r}; choose from {', '.join(SIZES)}")
    if command.size == "smollm2" and not command.base:
        raise ConfigError("the size smollm2 begins with a model: --base FOLDER, or --base smollm2")
    if command.minutes < 0:
        raise ConfigError(f"--minutes must not be negative, not {command.minutes:g}")
    if command.minutes and (command.base or "pretrain" in command.skip):
        raise ConfigError("--minutes asks how fast pretraining went; leave out --base and --skip")
    find = given_game if command.resume is None else stored_game  # a run's name is no word for it
    command = same_again(command)
    game = find(command.game)
    base = named_base(command.base)
    check_recipe(game, base=base, opponent=command.opponent, skip=command.skip)
    shown = shown_options(game, rules=command.rules, base=base)
    derived = {"env": f"game:{game}", "env_options": shown, GOAL_TOLD: True}
    run = open_stage(command, "games", lambda: derived)
    if not command.quiet and ranks.is_first():
        print(f"size {command.size}, learning {game}, in {run.path}", flush=True)
    with discarded_unused(run, command):
        recipe = GamesRecipe(
            run,
            game,
            size=command.size,
            base=base,
            opponent=command.opponent,
            machine=command,
            quiet=command.quiet,
            skip=command.skip,
            minutes=command.minutes,
        )
    recipe()
    mark_finished(run, quiet=command.quiet)
    return 0
