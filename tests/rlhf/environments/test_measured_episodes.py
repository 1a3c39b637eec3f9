"""Whole games of a language policy are measured with prompts and answers as it learned them."""

import pytest
from playout.envs.core.registry import game as find_game
from playout.rlhf.environments.game_player import LanguageGamePlayer, Settings
from playout.rlhf.games import episodes
from playout.rlhf.games.episodes import measure_episodes
from playout.rlhf.online.episode_evaluator import EpisodeEvaluator
from small_language import chat_tokenizer, small_model

GAME = find_game("tic_tac_toe")


@pytest.fixture(scope="module")
def tokenizer():
    return chat_tokenizer("chatml")


@pytest.mark.parametrize("plain", [False, True])
def test_prompts_are_a_user_s_messages_or_plain_text_as_the_run_has_it(
    tokenizer, monkeypatch, plain
):
    played = []

    class Noted(EpisodeEvaluator):
        def play(self, model, *, temperature):
            found = EpisodeEvaluator.play(self, model, temperature=temperature)
            played.extend(found)
            return found

    monkeypatch.setattr(episodes, "EpisodeEvaluator", Noted)
    settings = Settings(plain=plain, rules=False, max_new_tokens=2)
    player = LanguageGamePlayer(small_model(tokenizer, length=150), tokenizer, GAME, settings)
    measure_episodes(player, 2)
    assert len(played) == 4
    asked = {isinstance(episode.prompt, str) for episode in played}
    assert asked == {plain}


def test_answers_held_to_the_legal_moves_are_legal(tokenizer):
    settings = Settings(constrain=True, plain=True, rules=False, max_new_tokens=2)
    player = LanguageGamePlayer(small_model(tokenizer, length=400), tokenizer, GAME, settings)
    found = measure_episodes(player, 2)
    assert found["sampled"]["answers"] > 0 and found["sampled"]["legal"] == 1
