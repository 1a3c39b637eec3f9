"""What ranks say together: sums, extremes, decisions, metrics; the same on every rank."""

import math
from pathlib import Path

import pytest
from launch import launch
from playout.agents.runs.ranks.watch import Silences

DEVICES = Path(__file__).parents[1] / "devices"


@pytest.fixture(scope="module", params=[1, 0], ids=["memory", "messages"])
def said(request):
    """What three ranks have said, by what it was."""
    found = launch(
        3,
        f"""
        import math, sys
        import torch
        sys.path.insert(0, {str(DEVICES)!r})
        import second_device
        from playout.errors import ConfigError, DataError, PlayoutError

        rank = ranks.rank()
        said = {{}}
        tensors = {{
            "float32": torch.full((3, 2), 0.1 * (rank + 1)),
            "transposed": torch.arange(6.0).reshape(2, 3).T * (rank + 1),
            "bfloat16": torch.full((4,), 2.0**rank, dtype=torch.bfloat16),
            "elsewhere": torch.full((2,), rank + 1.0, device=second_device.NAME),
            "gradient": torch.ones(2, requires_grad=True),
        }}
        for name, tensor in tensors.items():
            found = ranks.add_(tensor)
            assert found is tensor
            said[name] = found.detach().cpu().flatten().tolist()
        said["sums"] = ranks.sums([rank, 0.1])
        said["extremes"] = [ranks.largest([rank, -rank]), ranks.smallest([rank, -rank])]
        said["first"] = ranks.first({{"from": rank, "nan": math.nan, "tuple": (1, 2.5)}})
        said["long"] = ranks.first(bytes([rank + 65]) * 100_000).decode()[:2]
        said["short"] = ranks.first(b"").decode()
        said["everybody"] = [len(part) for part in ranks.everybody(b"x" * (5000 * rank))]
        metrics = {{"train/loss": rank, "train/norm_max": rank, "train/norm_min": rank}}
        metrics |= {{"rollout/reward": math.nan if rank else 5.0, "train/rows": 10 + rank}}
        if rank == 2:
            metrics |= {{"train/loss": math.nan, "selfplay/games": 4}}
        weight = [1, 3, 0][rank]
        said["metrics"] = ranks.merge_metrics(metrics, weight=weight, summed=["train/rows"])

        tables = {{"ppo": {{"epochs": 4, "envs": 8 + rank // 2}}, "seed": 1}}

        def refuse():
            raise DataError("no such file") if rank == 0 else AssertionError

        for name, what in [
            ("by_first", lambda: ranks.by_first(refuse)),
            ("agree", lambda: ranks.agree("texts", "a" * 5000 + str(rank))),
            ("tables", lambda: ranks.agree("settings", json.dumps(tables))),
        ]:
            try:
                what()
            except PlayoutError as error:
                said[name] = [type(error).__name__, str(error)]
        ranks.agree("texts", "the same")
        said["waited"] = ranks.seconds_waited() > 0
        return said
        """,
        PLAYOUT_RANK_MEMORY=request.param,
    )
    assert found[0] == found[1] == found[2] or "nan" in str(found[0])
    assert str(found[0]) == str(found[1]) == str(found[2])
    return found[0]


@pytest.mark.slow
def test_tensors_are_added_in_place_of_any_layout_type_and_device(said):
    assert said["float32"] == pytest.approx([0.6] * 6)
    assert said["transposed"] == [0, 18, 6, 24, 12, 30]
    assert said["bfloat16"] == [7.0] * 4
    assert said["elsewhere"] == [6.0, 6.0]
    assert said["gradient"] == [3.0, 3.0]


def test_values_are_added_and_compared_in_float64(said):
    assert said["sums"] == [3.0, pytest.approx(0.3, rel=1e-15)]
    assert said["extremes"] == [[2.0, 0.0], [0.0, -2.0]]


def test_rank_0_decides_in_json_or_bytes_of_any_length(said):
    assert said["first"]["from"] == 0
    assert math.isnan(said["first"]["nan"])
    assert said["first"]["tuple"] == [1, 2.5]
    assert (said["long"], said["short"]) == ("AA", "")
    assert said["everybody"] == [0, 5000, 10000]


def test_metrics_are_weighted_means_extremes_and_sums(said):
    found = said["metrics"]
    assert found["train/loss"] == 0.75  # the third rank had no rows
    assert (found["train/norm_min"], found["train/norm_max"]) == (0, 1)
    assert found["rollout/reward"] == 5.0
    assert found["train/rows"] == 33
    assert math.isnan(found["selfplay/games"])  # a mean of no row


def test_errors_of_rank_0_and_disagreement_are_raised_everywhere(said):
    assert said["by_first"] == ["DataError", "no such file"]
    kind, text = said["agree"]
    assert kind == "ConfigError"
    assert text.startswith("ranks differ in texts: rank 0 has aaa")
    only_this = "ranks differ in settings: rank 0 has ppo.envs 8, rank 2 has ppo.envs 9"
    assert said["tables"] == ["ConfigError", only_this]
    assert said["waited"]


def test_only_a_rank_that_stands_still_for_the_limit_is_silent():
    watch = Silences([1, 2, 3], now=0.0)
    left = 1 << 40
    for now in range(0, 60, 5):
        assert not watch.add({1: now, 2: 7, 3: left}, float(now), limit=60.0)
    assert watch.add({1: 99, 2: 7, 3: left}, 60.0, limit=60.0) == [2]


def test_a_process_that_stood_still_itself_blames_nobody():
    watch = Silences([1], now=0.0)
    assert not watch.add({1: 5}, 5.0, limit=60.0)
    assert not watch.add({1: 5}, 500.0, limit=60.0)
    assert not watch.add({1: 5}, 529.0, limit=60.0)
