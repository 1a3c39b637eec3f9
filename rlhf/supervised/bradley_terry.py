"""The likelihood of votes between two texts: Bradley-Terry with ties and margins.

Ties follow Davidson (1970): one more parameter says how readily people call two texts equal. Scores
come from reward.py's model, votes from data/comparisons.py.
"""

import torch
from playout.rlhf.data.comparisons import Pairs
from torch import Tensor
from torch.nn import functional as F

__all__ = ["preference_loss", "win_probability"]


def preference_loss(
    scores: Tensor, pairs: Pairs, *, log_tie: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Mean negative log-likelihood of all votes, and the leads [P] of the first texts.

    With scores a and b, the odds of win, loss and tie are e^(a-b)/2 : e^(b-a)/2 : tie; without
    ties that is the logistic function of a - b. A margin is subtracted from the winner's lead.

    Args:
        scores: [N], one a text of `pairs`.
        pairs: The votes.
        log_tie: Logarithm of the weight of a tie; None counts a tie as half a win for each.
    """
    lead = scores[pairs.first] - scores[pairs.second]
    wins, losses, ties = pairs.votes.unbind(-1)
    ahead, behind = lead - pairs.margins, -lead - pairs.margins
    if log_tie is None:
        wins, losses = wins + ties / 2, losses + ties / 2
        total = wins * F.softplus(-ahead) + losses * F.softplus(-behind)
    else:
        log_ties = log_tie.expand_as(lead)

        def normaliser(x: Tensor) -> Tensor:
            return torch.logsumexp(torch.stack([x / 2, -x / 2, log_ties]), 0)

        total = wins * (normaliser(ahead) - ahead / 2)
        total = total + losses * (normaliser(behind) - behind / 2)
        total = total + ties * (normaliser(lead) - log_ties)
    return total.sum() / pairs.votes.sum(), lead


def win_probability(lead: Tensor) -> Tensor:
    """That the first text wins, among votes that are no ties."""
    return torch.sigmoid(lead)
