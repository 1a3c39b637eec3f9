"""A language policy as a player of games: what it writes is read, counted and answered."""

import json
from dataclasses import replace

import numpy as np
import playout
import pytest
import torch
from playout.agents.networks.boards.registry import new_network
from playout.agents.players.load import make_player
from playout.agents.players.simple import RandomPlayer
from playout.agents.rating.arena import play_match
from playout.agents.runs.directory import RunDir
from playout.cli import main
from playout.envs.core.registry import game as find_game
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError
from playout.rlhf.environments.game import make
from playout.rlhf.environments.game_player import LanguageGamePlayer, Settings
from playout.rlhf.environments.game_prompt import GamePrompt
from playout.rlhf.generation.conversation import ConversationFormat, conversation_format
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.folder import export_model
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from small_language import chat_tokenizer, small_model

GAME = find_game("tic_tac_toe")
TOKENIZER = Tokenizer.train(
    [GamePrompt(GAME)(GAME.initial_state()) + " 1 2 3 4 5 6 7 8 9"] * 5, vocab_size=300
)
CONFIG = TransformerConfig(
    TOKENIZER.vocab_size,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=1,
    eos_token_id=TOKENIZER.end_id,
    pad_token_id=TOKENIZER.pad_id,
)


def player(**settings):
    return LanguageGamePlayer(Transformer(CONFIG, seed=3), TOKENIZER, GAME, Settings(**settings))


def positions(count=12):
    states = GAME.batch(count)
    states.random_plies(np.arange(count) % 5, 3)
    return states[np.flatnonzero(~states.is_terminal())]


def test_an_untrained_policy_plays_whole_games_and_its_illegal_answers_are_counted():
    one = player()
    result = play_match(one, RandomPlayer(), GAME, 10, seed=1)
    assert sum(result.score(one.name)) == 10
    assert one.remarks()["answers"] >= 20 and 0 < one.illegal <= one.answers


def test_held_to_the_legal_moves_it_writes_nothing_else():
    one = player(constrain=True, temperature=1.0)
    states = positions()
    actions = one.read(states)
    assert one.illegal == 0
    assert states.legal_mask()[np.arange(len(states)), actions].all()


def test_an_illegal_answer_may_lose_the_game():
    one = player().with_words({"illegal": "loss"})
    actions, lost = one.act_after(positions(), [()] * len(positions()))
    assert lost and all(actions[row] == -1 for row in lost)
    result = play_match(one, RandomPlayer(), GAME, 4, seed=1)
    assert result.forfeits(one.name)["an answer that is no legal move"] >= 1


def test_a_setting_that_is_none_is_named():
    for word in ("with_words", "__class__"):
        with pytest.raises(ConfigError, match=f"no setting '{word}'; it has temperature"):
            Settings().with_words({word: "1"})


def test_room_for_what_is_said_of_every_move_is_asked_only_where_it_is_said():
    model, tokenizer = player().model, TOKENIZER
    for name in ("tic_tac_toe", "chess"):
        game = find_game(name)
        plain, found = (
            LanguageGamePlayer(model, tokenizer, game, Settings(find=find)).longest
            for find in (False, True)
        )
        assert found - plain == (9 if name == "tic_tac_toe" else 0)


def test_move_logprobs_are_those_of_the_model_one_token_at_a_time():
    one = player()
    states = positions(4)
    found = one.move_logprobs(states)
    model, prompt = one.model, one.prompt
    for row, state in enumerate(states):
        for action in range(GAME.num_actions):
            if action not in state.legal_actions:
                assert found[row, action] == -np.inf
                continue
            ids = [TOKENIZER.end_id, *TOKENIZER.encode(prompt(state))]
            total = 0.0
            for token in [*TOKENIZER.encode(f" {action + 1}"), TOKENIZER.end_id]:
                with torch.no_grad():
                    hidden = model(torch.tensor([ids]))[0, -1]
                    logits = hidden @ model.output_embeddings.T
                total += float(torch.log_softmax(logits, -1)[token])
                ids.append(token)
            assert found[row, action] == pytest.approx(total, abs=1e-4)
    judged = one.judge()(states)
    assert (judged.action == found.argmax(axis=1)).all()


def test_moves_of_a_chat_model_are_judged_with_the_end_that_its_template_writes():
    tokenizer = chat_tokenizer("headers")  # a turn ends with another token than a text
    model = small_model(tokenizer, length=512)
    one = LanguageGamePlayer(model, tokenizer, GAME, Settings())
    states = positions(2)
    found = one.move_logprobs(states)
    talk = conversation_format(tokenizer)
    end = tokenizer.inner.token_to_id("<|eot_id|>")
    assert end != talk.stop_ids[0]
    for row, state in enumerate(states):
        head = talk.begin([{"role": "user", "content": one.prompt(state)}])
        action = state.legal_actions[-1]
        move = [*tokenizer.encode(f"{action + 1}"), end]
        with torch.no_grad():
            logits = model.logits(model(torch.tensor([[*head, *move]])))[0]
        logprobs = torch.log_softmax(logits, -1)[len(head) - 1 : -1]
        total = float(logprobs.gather(1, torch.tensor(move)[:, None]).sum())
        assert found[row, action] == pytest.approx(total, abs=1e-3)


def test_what_a_policy_says_before_its_move_stands_before_the_moves_that_are_judged(monkeypatch):
    one, bare = player(find=True), player()
    assert one.longest == bare.longest + GAME.num_actions
    states = positions(3)
    monkeypatch.setattr(one, "_written", lambda *_, **__: ["+=-  4", " 5", ""])
    found, plain = one.move_logprobs(states), bare.move_logprobs(states)
    assert not np.allclose(found[0], plain[0]) and np.allclose(found[1:], plain[1:])
    state = states[0]
    action = state.legal_actions[0]
    head = [TOKENIZER.end_id, *TOKENIZER.encode(one.prompt(state)), *TOKENIZER.encode("+=-")]
    move = [*TOKENIZER.encode(f" {action + 1}"), TOKENIZER.end_id]
    with torch.no_grad():
        logits = one.model.logits(one.model(torch.tensor([head + move])))[0]
    logprobs = torch.log_softmax(logits, -1)[len(head) - 1 : -1]
    total = float(logprobs.gather(1, torch.tensor(move)[:, None]).sum())
    assert found[0, action] == pytest.approx(total, abs=1e-4)


def test_the_same_seed_samples_the_same_moves():
    first, second = (player(temperature=1.0) for _ in range(2))
    for one in (first, second):
        one.reset(5)
    states = positions()
    assert (first.act(states) == second.act(states)).all()
    first.reset(6)
    assert first.write(states) != second.write(states)


@pytest.fixture
def folder(tmp_path):
    export_model(tmp_path / "model", Transformer(CONFIG, seed=3), TOKENIZER)
    return tmp_path / "model"


def test_a_folder_of_a_model_takes_part_in_a_match(folder, tmp_path, capsys):
    out = tmp_path / "match.json"
    arguments = [str(folder), "random", "--game", "tic_tac_toe", "--games", "6", "--quiet"]
    assert main(["match", *arguments, "--json", str(out)]) == 0
    assert "answers were no legal moves" in capsys.readouterr().out
    entry = next(p for p in json.loads(out.read_text())["players"] if p["player"] == str(folder))
    assert entry["games"] == 6 and 0 < entry["illegal"] <= entry["answers"]


def test_a_match_counts_its_own_answers_alone(capsys):
    found = []
    one = player()
    for quiet in (True, False, True):
        games = {"game": "tic_tac_toe", "games": 6, "quiet": quiet}
        report = playout.match([one, "random"], **games).report
        entry = next(entry for entry in report["players"] if entry["player"] == one.name)
        found.append((entry["answers"], entry["illegal"]))
    assert found[0][0] > 0 and found == found[:1] * 3
    assert "6 games" in capsys.readouterr().err


def test_settings_stand_behind_a_question_mark(folder):
    one = make_player(f"{folder}?temperature=0.5&illegal=loss&find=true", GAME)
    assert one.settings == Settings(temperature=0.5, illegal="loss", find=True)
    for words in ("?illegal=maybe", "?heat=1", "?temperature=warm", "?find=1", "?find"):
        with pytest.raises(ConfigError):
            make_player(f"{folder}{words}", GAME)


def test_a_folder_needs_the_games_name(folder, capsys):
    assert main(["match", str(folder), "random", "--games", "2"]) == 2
    assert "name the game with --game" in capsys.readouterr().err


def test_it_does_not_search(folder):
    with pytest.raises(ConfigError, match="does not search"):
        make_player(f"{folder}:100", GAME)
    states = StateBatch.from_states([GAME.initial_state()])
    assert make_player(f"{folder}:0", GAME).act(states).shape == (1,)


def test_a_policy_that_says_nothing_of_values_judges_no_moves(folder):
    with pytest.raises(ConfigError, match=r"^judge=.*model does not say what moves are worth: "):
        make("tic_tac_toe", {"reward": "search", "judge": str(folder)})


def test_positions_that_leave_no_room_for_a_move_are_told_with_what_makes_them_shorter():
    model = Transformer(replace(CONFIG, max_position_embeddings=32), seed=3)
    states = StateBatch.from_states([GAME.initial_state()])
    for settings, told in (
        (Settings(), r"^it: a position of tic_tac_toe takes \d+ tokens and an answer 12, more than "
                     r"the context of 32; .* such as RUN\?rules=false$"),
        (Settings(rules=False, max_new_tokens=30), r"such as RUN\?max_new_tokens=15$"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=told):
            LanguageGamePlayer(model, TOKENIZER, GAME, settings, name="it").act(states)


def test_simulations_of_a_match_are_for_the_players_that_search(folder, tmp_path, capsys):
    path = tmp_path / "run"
    run = RunDir.create(path, kind="alphazero", config={"alphazero": {"game": GAME.name}}, seed=0)
    net = new_network(GAME, "8x1", seed=1)
    with run.lock():
        run.save(1, {"model": net.state_dict(), "network": net.config.to_dict()})
    given = ["match", str(path), str(folder), "--game", GAME.name, "--games", "2", "--quiet"]
    assert main([*given, "--simulations", "2"]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "--simulations" in line]
    assert said == [f"note: {folder} does not search, --simulations is for the others"]


@pytest.mark.parametrize("quantised", [False, True])
def test_a_run_is_asked_and_answers_in_games_as_it_did_while_it_learned(quantised, tmp_path):
    """A chat model that learned plain prompts met them as a user's messages in matches."""
    tokenizer = chat_tokenizer("chatml")
    export_model(tmp_path / "chat", small_model(tokenizer, length=256), tokenizer)
    few = {"updates": 1, "batch": 2, "group": 2, "eval_episodes": 1, "max_new_tokens": 7}
    asked = {"plain_text": True, "stop": ("!",), "constrained": True, "env_options": "rules=false"}
    run = playout.grpo(
        tmp_path / "chat", env="game:tic_tac_toe", run=tmp_path / "run", size="tiny",
        dtype="float32", quiet=True, **few, **asked,
    ).path  # fmt: skip
    if quantised:
        words = ["rlhf", "quantise", "--base", str(run), "--run", f"{tmp_path}/q", "--quiet"]
        assert main(words) == 0
        run = tmp_path / "q"
    one = make_player(str(run), GAME)
    assert one.settings == Settings(
        rules=False, plain=True, stop=("!",), constrain=True, max_new_tokens=7
    )
    seen = []
    begin = ConversationFormat.begin
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConversationFormat, "begin", lambda self, p: seen.append(p) or begin(self, p))
        one.act(positions(2))
        one.judge()(positions(2))
    assert seen and all(isinstance(prompt, str) for prompt in seen)
    free = make_player(f"{run}?constrain=false&stop=x", GAME)
    assert not free.settings.constrain and free.settings.stop == ("x",) and free.longest == 7


def test_an_answer_ends_where_a_stop_text_of_the_policy_stands():
    whole = player(max_new_tokens=12).write(positions(6))
    letter = next(text[2] for text in whole if len(text) > 3)
    cut = player(max_new_tokens=12, stop=(letter,)).write(positions(6))
    assert cut == [text.partition(letter)[0] for text in whole]
