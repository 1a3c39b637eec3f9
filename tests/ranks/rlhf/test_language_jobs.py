"""Stages of language on several ranks, as they are typed: the same bytes again, or refused."""

import json

import language_jobs
import pytest
from language_jobs import GAMES, STAGES, words_of
from launch import job, launch, playout
from playout.agents.runs.directory import RunDir
from playout.benchmarks.studies.kills import outcome
from safetensors.torch import load_file

BATCH = ("--batch", 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data, a pretrained model, and each stage by two ranks, twice."""
    folder = tmp_path_factory.mktemp("language")
    language_jobs.make(folder)
    for stage in STAGES:
        for run in (stage, f"{stage}-again"):
            code, out, err = playout(2, *words_of(folder, stage, run, *BATCH))
            assert code == 0, err
            assert out.count(f"run {folder / run}: playout") == 1, "one rank speaks"
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_of_two_ranks_repeats_itself_byte_for_byte(stage, folder):
    trained = ["labelled-scratch", "labelled-pretrained"] if stage == "classify" else [""]
    for inner in trained:
        first, again = (outcome(folder / run / inner) for run in (stage, f"{stage}-again"))
        assert first == again and len(first[1]) > 1
    assert RunDir.open(folder / stage).record["finished"]


def check_same_weights(folder, *runs):
    """Two runs have left the same model, to rounding."""
    one, other = (load_file(folder / run / "model/model.safetensors") for run in runs)
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert (tensor - other[name]).abs().max() < 1e-5, name


@pytest.mark.slow
def test_four_ranks_fine_tune_what_two_do(folder):
    code, _, err = playout(4, *words_of(folder, "sft", "four", *BATCH))
    assert code == 0, err
    check_same_weights(folder, "sft", "four")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["classify", "reward"])
def test_a_model_that_is_cut_is_measured_and_left_as_a_whole_one(stage, folder):
    run = f"{stage}-cut"
    code, _, err = playout(2, *words_of(folder, stage, run, *BATCH, "--shard"))
    assert code == 0 and "Warning" not in err, err
    if stage == "reward":
        check_same_weights(folder, stage, run)
    tables = [json.loads((folder / name / "table.json").read_text()) for name in (stage, run)]
    for one, other in zip(*([x] if stage == "reward" else x for x in tables), strict=True):
        assert one.get("accuracy") == other["accuracy"] and one.keys() == other.keys()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["grpo", "rlhf"])
def test_a_policy_that_is_cut_is_sampled_from_and_left_as_a_whole_one(stage, folder):
    run = f"{stage}-cut"
    code, _, err = playout(2, *words_of(folder, stage, run, *BATCH, "--shard"))
    assert code == 0 and "Warning" not in err, err
    check_same_weights(folder, stage, run)
    whole, cut = (
        json.loads((folder / name / "baseline.json").read_text()) for name in (stage, run)
    )
    assert whole == pytest.approx(cut, nan_ok=True)


@pytest.mark.slow
def test_more_ranks_than_a_step_has_parts_are_refused_before_a_run_is_made(folder):
    body = f"import language_jobs\nreturn language_jobs.refused(Path({str(folder)!r}))"
    found = launch(3, body)
    assert found[0] == found[1] == found[2]
    parts = {
        "pretrain": "rows a step (--rows)",
        "sft": "demonstrations a step (--batch)",
        "classify": "texts a step (--batch)",
        "reward": "texts a step (--batch)",
        "dpo": "pairs a step (--batch)",
        "grpo": "groups of answers a round (--batch)",
        "rlhf": "answers a round (--batch)",
        "few sft": "demonstrations a step",
        "few classify": "texts a step",
        "few reward": "texts a step",
    }
    end = "each needs at least one"
    said = {name: f"3 ranks but only 2 {part}: {end}" for name, part in parts.items()}
    said["few dpo"] = f"3 ranks but only 1 pairs a step: {end}"
    assert found[0] == said
    assert not (folder / "refused").exists()


@pytest.mark.slow
def test_a_pipeline_of_two_ranks_ends_or_is_refused_before_its_first_stage(memory_path):
    run = memory_path / "games"
    words = ("rlhf", "games", "--size", "tiny", "--game", "tic_tac_toe", "--run", run)
    words += ("--skip", "tactics", "rlhf")
    code, _, err = job(2, "-c", GAMES, 8, *words)
    assert code != 0 and "2 ranks but only 1 groups of answers a round" in err
    assert not run.exists()
    code, out, err = job(2, "-c", GAMES, 8, *words, "grpo")
    assert code == 0, err
    assert out.count("report: ") == 1 and (run / "model/config.json").exists()
