"""Small runs of actors and a learner in one process, for tests."""

import playout
import torch
from playout.agents.alphazero.config import AlphaZeroConfig, LearnerConfig, SelfPlayConfig
from playout.agents.alphazero.selfplay.actors.actor import Actor, ActorSettings
from playout.agents.alphazero.selfplay.actors.folder import GamesFolder
from playout.agents.alphazero.selfplay.actors.networks import wait_for_run
from playout.agents.alphazero.selfplay.actors.trainer import make_trainer
from playout.agents.alphazero.settings import stored_config
from playout.agents.runs.config import to_dict
from playout.agents.runs.directory import RunDir

CPU = torch.device("cpu")


def small(folder, game="tic_tac_toe", **changes):
    learner = {"batch_size": 16, "num_shards": 1, **changes.pop("learner", {})}
    settings = {
        "updates": 1000,
        "size": "8x1",
        "steps": 2,
        "warmup_positions": 60,
        "min_window": 100,
        "replay_capacity": 2000,
        "eval_every": 0,
        "infer_dtype": "float32",
        "selfplay": SelfPlayConfig(num_groups=1, num_trees=8, num_simulations=4, opening_plies=2),
        **changes,
    }
    return AlphaZeroConfig(
        game=game, games_from=str(folder), learner=LearnerConfig(**learner), **settings
    )


def learner_of(path, folder, **changes):
    """A new run, or one that goes on from its checkpoint; the trainer and the run."""
    config = small(folder, **changes)
    run = RunDir.open_or_create(
        path, kind="alphazero", config={"alphazero": to_dict(config)}, seed=0
    )
    config = stored_config(run.config["alphazero"], where="test")
    trainer = make_trainer(
        config, run, seed=run.seed, device=CPU, game=playout.game(config.game), init=None
    )
    _, state = run.load()
    trainer.load_state_dict(state)
    trainer.load_rank_state(state)
    said = list[str]()
    trainer.reader.say = said.append
    return trainer, run, said


def actor_of(path, folder, **settings):
    run = wait_for_run(path, 0, print)
    config = stored_config(run.config["alphazero"], where="test")
    place = GamesFolder(folder, run=run.id, where=run.path)
    chosen = {"games_per_file": 8, "num_groups": 1, "num_trees": 8, **settings}
    return Actor(
        run,
        place,
        playout.game(config.game),
        config,
        ActorSettings(**chosen),
        device=CPU,
        say=lambda line: None,
    )


def publish(actor, files):
    """Lets an actor play until it has published so many more files."""
    wanted = actor.files + files
    while actor.files < wanted:
        actor.turn()


def save(trainer, run):
    done, total = trainer.progress
    run.save(trainer.updates, state_of(trainer), info={"done": done, "total": total})


def state_of(trainer):
    """What the loop saves with one process."""
    return {**trainer.state_dict(), **trainer.rank_state()}
