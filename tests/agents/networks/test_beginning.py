"""`playout ppo GAME` on the network of a board: fresh, or begun by a trunk or by self-play."""

import json

import numpy as np
import playout
import pytest
import torch
from own_boards import Marks
from playout.agents.networks.actor_critic import build_policy
from playout.agents.networks.boards.policy import BoardPolicy
from playout.agents.networks.boards.registry import new_network, size_of
from playout.agents.networks.config import NetworkConfig
from playout.agents.ppo import run as kind
from playout.agents.ppo.league.player import PolicyEvaluator, PolicyPlayer
from playout.agents.ppo.league.trainer import make_games
from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import ExportOptions
from playout.agents.vector.normalize import ObsNormalizer
from playout.cli import main
from playout.errors import ConfigError, RunError
from safetensors import safe_open

GAME = "tic_tac_toe"
SMALL = {"num_envs": 4, "num_steps": 16, "minibatch_size": 64, "num_epochs": 1, "eval_episodes": 8}
SMALL |= {"threads": 1, "quiet": True}
FLAGS = [f"--{key.replace('_', '-')}={value}" for key, value in SMALL.items() if key != "quiet"]
FLAGS += ["--quiet", "--total-timesteps=64"]
HEADS = ("head.", "head_norm.", "policy.", "value.", "value_hidden.")


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Runs to begin with, by kind."""
    folder = tmp_path_factory.mktemp("begun")
    quiet = {"size": "8x1", "quiet": True}
    return {
        "trunk": playout.pretrain_trunk(
            GAME, objective="masked", count=60, epochs=1, run=folder / "trunk", **quiet
        ),
        "self-play": playout.alphazero(
            GAME, updates=1, simulations=8, evaluations=64, rating=False, heads="pooled",
            threads=1, run=folder / "four", **quiet,
        ),
    }  # fmt: skip


def model(run, which="latest"):
    return RunDir.open(run).load(which)[1]


def net_of(state):
    return {name.removeprefix("net."): tensor for name, tensor in state["model"].items()}


def taught(run):
    return run.load(only=("model",))[1]["model"]


@pytest.mark.parametrize("kind", ["trunk", "self-play"])
def test_ppo_begins_with_a_network_of_its_game_that_plays_exports_and_goes_on(
    begun, kind, tmp_path, capsys
):
    first, run = begun[kind], tmp_path / "run"
    assert main(["ppo", GAME, "--init", str(first.path), "--run", str(run), *FLAGS]) == 0
    old, state = taught(first), model(run)
    start = state["pool"]["versions"][0]["weights"]  # before anything was learned
    for name, tensor in old.items():
        torch.testing.assert_close(start[f"net.{name}"], tensor, rtol=0, atol=0)
    new = net_of(state)
    assert new.keys() == old.keys() and any(not torch.equal(new[n], old[n]) for n in old)
    noted = json.loads((run / "run.json").read_text())["config"]["network"]
    description = first.load(only=("network",))[1]["network"]
    assert noted["board"] == description and noted["fresh"] == []
    assert (noted["network"], noted["size"]) == ("resnet", "8x1")
    # The run alone is enough for all that comes later.
    player = playout.load(run)
    states = playout.game(GAME).batch(3)
    assert set(player.act(states)) <= set(range(9))
    net = BoardPolicy(player.policy.net)
    torch.testing.assert_close(net_of({"model": net.state_dict()}), net_of(model(run, "best")))
    report = playout.match([run, "random"], games=4, simulations=4).report
    assert {row["player"] for row in report["players"]} >= {"random"}
    assert main(["export", str(run), "--format", "safetensors", "--out", str(tmp_path / "x")]) == 0
    with safe_open(tmp_path / "x", "pt") as file:
        assert set(file.keys()) == set(old)
        assert json.loads(file.metadata()["network"]) == description
    capsys.readouterr()
    assert main(["ppo", "--resume", str(run), "--total-timesteps", "128", "--quiet"]) == 0
    assert RunDir.open(run).config["network"] == noted


def test_a_search_asks_the_network_of_a_run_for_moves_and_values(tmp_path):
    run = playout.ppo(GAME, network="resnet", size="8x1", total_timesteps=64,
                      run=tmp_path / "run", **SMALL)  # fmt: skip
    player = playout.load(run.path)
    states = playout.game(GAME).batch(2)
    leaves = type("Leaves", (), {"size": 2, "obs": states.observe(), "game": states.game})
    logits, values = PolicyEvaluator(player).evaluate(leaves)
    wanted = player.policy.net(torch.from_numpy(states.observe()))
    np.testing.assert_allclose(logits, wanted[0].detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(values, wanted[1].detach().numpy(), atol=1e-6)
    chances = PolicyPlayer(player, states.game, "run").probabilities(states)
    np.testing.assert_allclose(chances, wanted[0].softmax(1).detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("network", ["resnet", "transformer"])
def test_ppo_learns_a_game_on_a_fresh_network_of_self_play(network, tmp_path):
    settings = {"network": network, "size": "8x1", "total_timesteps": 64, **SMALL}
    run = playout.ppo(GAME, run=tmp_path / "run", **settings)
    fresh = new_network(playout.game(GAME), "8x1", network=network)
    assert run.config["network"]["board"] == fresh.config.to_dict()
    assert net_of(model(run.path)).keys() == fresh.state_dict().keys()
    other = playout.ppo(GAME, run=tmp_path / "other", **settings)
    first, second = (model(one.path)["pool"]["versions"][0]["weights"] for one in (run, other))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.slow
def test_a_resumed_run_on_a_board_network_ends_in_the_same_bytes(begun, tmp_path):
    settings = {"init": str(begun["trunk"].path), "trunk_rate": 0.1, **SMALL}
    whole = playout.ppo(GAME, total_timesteps=192, run=tmp_path / "whole", **settings)

    def stop(trainer, metrics):
        if trainer.learner.updates == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        playout.ppo(GAME, total_timesteps=192, run=tmp_path / "part", callbacks=[stop], **settings)
    playout.ppo(resume=tmp_path / "part", quiet=True)
    a, b = (model(path) for path in (whole.path, tmp_path / "part"))
    for name, tensor in a["model"].items():
        assert torch.equal(tensor, b["model"][name]), name


def steps_of(begun, tmp_path, rate, **changes):
    """What one step of plain gradient descent changes in each weight."""
    settings = {**SMALL, "optimizer": "sgd", "learning_rate": 0.5, "max_grad_norm": 0.0, **changes}
    run = playout.ppo(
        GAME, init=str(begun["self-play"].path), trunk_rate=rate, total_timesteps=64,
        run=tmp_path / f"rate-{rate}", **settings,
    )  # fmt: skip
    old = taught(begun["self-play"])
    return {name: tensor - old[name] for name, tensor in net_of(model(run.path)).items()}


def test_the_trunk_of_a_board_takes_its_share_of_ppos_rate_or_stays(begun, tmp_path):
    plain, slow, still = (steps_of(begun, tmp_path, rate) for rate in (1.0, 0.1, 0.0))
    weights = dict(new_network(playout.game(GAME), "8x1", heads="pooled").named_parameters())
    assert plain["stem.weight"].abs().max() > 0 and plain["position"].abs().max() > 0
    for name, step in plain.items():
        is_head = name.startswith(HEADS)
        if name not in weights:  # statistics
            assert not step.any() and not still[name].any(), name
            continue
        torch.testing.assert_close(
            slow[name], step if is_head else 0.1 * step, rtol=1e-2, atol=1e-6
        )
        torch.testing.assert_close(
            still[name], step if is_head else 0.0 * step, rtol=1e-2, atol=1e-6
        )
        assert is_head or not still[name].any(), name


@pytest.mark.slow
def test_what_another_board_has_not_taught_learns_beside_a_frozen_trunk(tmp_path):
    first = playout.pretrain_trunk(
        "connect_four(width=5,height=4)", objective="masked", size="8x1", count=60, epochs=1,
        quiet=True, run=tmp_path / "trunk",
    )  # fmt: skip
    run = playout.ppo(
        "connect_four(width=6,height=4)", init=str(first.path), trunk_rate=0.0,
        total_timesteps=64, run=tmp_path / "run", **SMALL,
    )  # fmt: skip
    assert {"position", "turn", "policy.weight"} <= set(run.config["network"]["fresh"])
    for more in (False, True):
        if more:
            playout.ppo(resume=run.path, total_timesteps=128, quiet=True)
        state = model(run.path)
        start = state["pool"]["versions"][0]["weights"]
        for name, tensor in taught(first).items():
            new = net_of(state)[name]
            if name in ("position", "policy.weight"):
                assert not torch.equal(new, start[f"net.{name}"]), name
            elif not name.startswith(HEADS) and name != "turn":
                assert torch.equal(new, tensor), name


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["CartPole-v1", "--network", "resnet"], "--network resnet is for board games of playout"),
        (["CartPole-v1", "--init", "RUN"], "the resnet of RUN is for board games of playout's"),
        ([GAME, "--network", "resnet", "--recurrent", "lstm"], "a resnet has no memory"),
        ([GAME, "--init", "RUN", "--recurrent", "gru"], "a resnet has no memory"),
        ([GAME, "--init", "RUN", "--normalize-obs"], "a resnet takes boards as they are"),
        ([GAME, "--init", "RUN", "--network", "mlp"], "RUN holds a resnet of a board game"),
        ([GAME, "--init", "RUN", "--network", "transformer"], "width, depth and kind"),
        ([GAME, "--init", "RUN", "--size", "16x2"], "width, depth and kind"),
        ([GAME, "--network", "resnet", "--size", "huge"], "size 'huge' is unknown"),
        ([GAME, "--size", "8x1"], "--size is that of --network resnet or transformer"),
        ([GAME, "--network", "grid", "--size", "8x1"], "leave it out with network grid"),
        (["kuhn_poker", "--init", "RUN", "--network", "auto"], "it cannot be begun from"),
    ],
)
def test_what_does_not_go_with_the_network_of_a_board_is_one_line(
    words, what, begun, tmp_path, capsys
):
    path = str(begun["trunk"].path)
    words = [word.replace("RUN", path) for word in words]
    assert main(["ppo", *words, "--run", str(tmp_path / "run"), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert what.replace("RUN", path) in said
    assert not (tmp_path / "run").exists()


def test_a_game_of_several_values_and_other_runs_are_refused(begun, tmp_path):
    with pytest.raises(ConfigError, match="one value a player of marks"):
        playout.ppo(Marks(players=3), network="resnet", run=tmp_path / "run", **SMALL)
    run = playout.ppo(GAME, network="mlp", total_timesteps=64, run=tmp_path / "ppo", **SMALL)
    with pytest.raises(ConfigError, match=r"pretrain-trunk or alphazero; .* is of kind ppo"):
        playout.ppo(GAME, init=str(run.path), run=tmp_path / "run", **SMALL)
    with pytest.raises(ConfigError, match="yours has its own weights"):
        net = torch.nn.Linear(2, 2)
        net.initial_state = net.step = net.value = net.evaluate = net.to_env = print
        playout.ppo(GAME, policy=net, init=str(begun["trunk"].path), run=tmp_path / "run", **SMALL)
    assert not (tmp_path / "run").exists()


def test_a_network_of_a_board_is_made_for_its_own_observations():
    games = make_games(GAME, 1)
    spaces = games.observation_space, games.action_space
    with pytest.raises(ConfigError, match="'resnet' is made for one game"):
        build_policy(*spaces, NetworkConfig(network="resnet"))
    board = new_network(playout.game("connect_four"), "8x1").config.to_dict()
    with pytest.raises(ConfigError, match="plays boards of"):
        build_policy(*spaces, NetworkConfig(network="resnet", board=board))


@pytest.mark.parametrize("size", ["medium", "24x3"])
@pytest.mark.parametrize("network", ["resnet", "transformer"])
def test_the_size_of_a_network_is_told_as_it_was_given(network, size):
    assert size_of(new_network(playout.game(GAME), size, network=network).config) == size


def test_a_vector_environment_of_a_game_is_learned_on_its_network(tmp_path):
    run = playout.ppo(
        "playout/ConnectFour-v0", network="resnet", size="8x1", total_timesteps=64,
        run=tmp_path / "run", **SMALL,
    )  # fmt: skip
    assert run.config["network"]["board"]["num_actions"] == 7
    assert playout.load(run.path).policy.net.config.num_actions == 7


def test_statistics_of_observations_that_a_file_cannot_hold_are_refused(tmp_path, monkeypatch):
    run = playout.ppo(GAME, network="resnet", size="8x1", total_timesteps=64,
                      run=tmp_path / "run", **SMALL)  # fmt: skip
    player = playout.load(run.path)
    player.normalizer = ObsNormalizer(player.observation_space, 10.0)
    monkeypatch.setattr(kind, "load", lambda *given, **machine: player)
    options = ExportOptions(format="safetensors", out=tmp_path / "x")
    with pytest.raises(RunError, match="with --normalize-obs, whose statistics"):
        kind.export(run, options)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("env", "game"),
    [
        ("connect_four(width=6,height=4)", "connect_four(width=6,height=4)"),
        ("playout/ConnectFour-v0", "connect_four"),
    ],
)
def test_a_network_of_ones_own_learns_what_another_board_has_not_taught(env, game, tmp_path):
    first = playout.pretrain_trunk(
        "connect_four(width=5,height=4)", objective="masked", size="8x1", count=60, epochs=1,
        quiet=True, run=tmp_path / "trunk",
    )  # fmt: skip
    policy = BoardPolicy(new_network(playout.game(game), "8x1"))
    before = policy.net.position.detach().clone()
    playout.ppo(
        env, policy=policy, init=str(first.path), trunk_rate=0.0, total_timesteps=64,
        run=tmp_path / "run", **SMALL,
    )  # fmt: skip
    assert "position" in policy.fresh and not torch.equal(policy.net.position, before)
    assert torch.equal(policy.net.stem.weight, taught(first)["stem.weight"])
