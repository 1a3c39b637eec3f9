"""Players, matches and runs of games with hidden information."""

import json

import numpy as np
import playout
import pytest
from playout import cli
from playout.agents.players.hidden import DRAWS, CfrPlayer, search_drawn
from playout.agents.players.human import HumanPlayer
from playout.agents.players.load import make_player
from playout.agents.players.search import uct_player
from playout.agents.players.simple import RandomPlayer
from playout.agents.players.terminal import play_one
from playout.envs import StateBatch
from playout.errors import ConfigError
from playout.mcts import SearchConfig
from playout.mcts.exact import cfr


@pytest.fixture(scope="module")
def leduc():
    return playout.game("leduc_poker")


@pytest.mark.parametrize("spec", ["greedy", "perfect", "alphabeta:2"])
def test_players_that_would_see_hidden_cards_are_refused_in_one_line(leduc, spec):
    with pytest.raises(ConfigError, match="would look at what leduc_poker") as caught:
        make_player(spec, leduc)
    assert "\n" not in str(caught.value)


def test_self_play_by_search_is_refused_and_names_what_to_use(capsys, tmp_path):
    run = tmp_path / "run"
    assert cli.main(["alphazero", "leduc_poker", "--updates", "1", "--run", str(run)]) == 2
    said = capsys.readouterr().err.strip()
    assert "playout ppo leduc_poker --self-play" in said
    assert "\n" not in said
    assert not run.exists()


@pytest.mark.parametrize("make", [lambda game: uct_player(game, 64, seed=1), CfrPlayer])
def test_players_do_not_see_what_their_side_does_not_know(leduc, make):
    states = StateBatch.from_states([leduc.from_moves("Ks Jh r c Qh c")] * 40)
    others = states.resample(3)
    assert not np.array_equal(states.data, others.data)
    one, two = make(leduc), make(leduc)
    assert (one.act(states) == two.act(others)).all()


def test_the_player_by_cfr_plays_its_policy(leduc):
    player = make_player("cfr", leduc, seed=4)
    assert cfr.exploitability(leduc, player) < 0.001
    state = leduc.from_moves("Js Kh")
    states = StateBatch.from_states([state] * 4000)
    expected = player.probabilities(states[:1])[0]
    shares = np.bincount(player.act(states), minlength=leduc.num_actions) / 4000
    assert np.abs(shares - expected).max() < 0.04


def test_a_search_of_drawn_states_adds_up_what_each_concludes(leduc):
    states = StateBatch.from_states([leduc.from_moves("Ks Jh r c Kh"), leduc.from_moves("Js Kh c")])
    config = SearchConfig(algorithm="uct", num_simulations=20 * DRAWS)
    found = search_drawn(states, config, None, seed=2)
    assert found.visits.sum(axis=1).tolist() == pytest.approx([20 * DRAWS] * 2, abs=2 * DRAWS)
    assert found.action_weights.sum(axis=1) == pytest.approx(np.ones(2))
    legal = states.legal_mask() > 0
    assert (found.visits[~legal] == 0).all()
    assert found.action[0] == 2  # a pair of kings cannot lose: raise


def test_a_player_of_a_hidden_game_searches_as_much_as_it_is_told_to(leduc):
    states = StateBatch.from_states([leduc.from_moves("Js Kh c")])
    player = uct_player(leduc, 2 * DRAWS)
    for given, made in ((None, 2), (9 * DRAWS, 9)):
        found = player.search(states, num_simulations=given)
        assert found.visits.sum() == pytest.approx(made * DRAWS, abs=DRAWS)


def test_a_search_of_drawn_states_may_be_held_to_some_moves(leduc):
    states = StateBatch.from_states([leduc.from_moves("Ks Jh r c Kh"), leduc.from_moves("Js Kh c")])
    config = SearchConfig(algorithm="uct", num_simulations=20 * DRAWS)
    allowed = states.legal_mask() > 0
    allowed[0, 2] = False  # raising, which would be best
    found = search_drawn(states, config, None, seed=2, allowed=allowed)
    assert found.action[0] != 2 and not found.visits[~allowed].any()
    assert found.visits.sum(axis=1).tolist() == pytest.approx([20 * DRAWS] * 2, abs=2 * DRAWS)


def test_a_match_deals_each_pair_of_games_the_same_cards(leduc):
    match = playout.match([RandomPlayer(seed=1), CfrPlayer(leduc)], game=leduc, games=40)
    games = match.matches[0].games
    dealt = [game.moves[:2] for game in games]
    assert dealt[::2] == dealt[1::2]
    assert len(set(dealt)) > 5
    mean, half = match.report["pairings"][0]["mean_return"]
    assert mean == pytest.approx(np.mean([g.returns[g.players.index("random")] for g in games]))
    assert half > 0


def test_a_person_is_shown_the_own_cards_alone(leduc):
    shown = []
    person = HumanPlayer(ask=lambda _: "c", show=shown.append, name="you")
    played = play_one(leduc, (RandomPlayer(seed=2), person), show=shown.append, seed=5).actions
    hidden, own = (leduc.initial_state().action_text(action) for action in played[:2])
    end = next(i for i, text in enumerate(shown) if "win" in text or "draw" in text)
    before = "\n".join(shown[: end - 1])
    assert f"Chance brings {own}" in before
    assert hidden not in before


OPTIONS = {
    "num_envs": 16,
    "num_steps": 16,
    "minibatch_size": 128,
    "hidden": (16,),
    "network": "mlp",
    "eval_episodes": 20,
    "total_timesteps": 2048,
    "quiet": True,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "leduc"
    return playout.ppo("leduc_poker", self_play=True, run=path, **OPTIONS)


def test_a_run_of_ppo_is_judged_by_its_exploitability(run, leduc):
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").open(encoding="utf-8")]
    found = [line for line in lines if "eval/exploitability" in line]
    assert found
    assert found[-1]["eval/mean_reward"] == pytest.approx(-found[-1]["eval/exploitability"] / 13)
    report = playout.evaluate(run.path, episodes=4, opponents=["random", "cfr"])
    assert 0 < report["exploitability"] < 4
    assert report["nash_conv"] == pytest.approx(2 * report["exploitability"])
    assert {one["opponent"] for one in report["matches"]} == {"random", "cfr"}
    assert all("mean_return" in one for one in report["matches"])


def test_the_player_of_a_run_samples_its_moves_and_tells_their_probabilities(run, leduc):
    player = make_player(str(run.path), leduc)
    states = StateBatch.from_states([leduc.from_moves("Js Kh")] * 2000)
    probs = player.probabilities(states[:1])[0]
    assert probs.sum() == pytest.approx(1)
    shares = np.bincount(player.act(states), minlength=leduc.num_actions) / 2000
    assert np.abs(shares - probs).max() < 0.06
    assert (make_player(f"{run.path}:32", leduc).act(states[:4]) >= 0).all()


def test_the_learner_is_paid_in_units_of_value_scale(leduc):
    from playout.agents.networks.actor_critic import build_policy
    from playout.agents.ppo.league.environments import PoolEnvs
    from playout.agents.ppo.league.games import NativeGames
    from playout.agents.ppo.league.pool import Pool

    games = NativeGames(leduc, 32)

    def build():
        return build_policy(games.observation_space, games.action_space, seed=1)

    pool, learner = Pool(seed=3), build()
    pool.add(learner, 0)
    envs = PoolEnvs(games, pool, learner, build, seed=0)
    envs.choose()
    envs.reset(0)
    rng, rewards = np.random.default_rng(0), []
    for _ in range(40):
        masks = envs.masks()
        _, paid, _, _ = envs.step((rng.random(masks.shape) * masks).argmax(1))
        rewards.extend(paid[paid != 0])
    assert rewards
    chips = np.array(rewards) * 13
    assert np.allclose(chips, np.round(chips), atol=1e-4)
    assert np.abs(rewards).max() <= 1
