"""The rise and the cosine of learning rates, beside PyTorch's own schedulers."""

import pytest
import torch
from playout.agents.optim.schedule import half_cosine, warmed_cosine
from torch.optim import lr_scheduler as schedulers


@pytest.mark.parametrize(("rise", "first", "final"), [(20, 0.1, 0.05), (0, 0.5, 0.0)])
def test_a_rate_rises_and_falls_as_pytorchs_schedulers_do(rise, first, final):
    total = 100
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    falling = schedulers.CosineAnnealingLR(optimizer, total - rise, eta_min=final)
    parts = [falling]
    if rise:
        parts.insert(0, schedulers.LinearLR(optimizer, first, total_iters=rise))
    wanted = schedulers.SequentialLR(optimizer, parts, milestones=[rise] if rise else [])
    for step in range(total):
        found = warmed_cosine(step / total, rise / total, first=first, final=final)
        assert found == pytest.approx(wanted.get_last_lr()[0], abs=1e-9), step
        optimizer.step()
        wanted.step()


def test_beyond_the_end_nothing_falls_any_more():
    assert half_cosine(1.0, final=0.2) == half_cosine(3.0, final=0.2) == pytest.approx(0.2)
    assert warmed_cosine(1.5, 0.1, first=0.1) == pytest.approx(0.0)
    assert half_cosine(0.0) == warmed_cosine(0.1, 0.1, first=0.3) == 1.0
