"""Self-play: many games at once, searched and evaluated by a few independent groups of trees.

play.py holds all groups, group.py one of them, openings.py says where its games begin, rules.py
draws chance outcomes and names a game's faults, targets.py turns finished games into `Examples`,
actors/ is self-play by other processes than the learner's.
"""

from playout.agents.alphazero.selfplay.counts import Counts
from playout.agents.alphazero.selfplay.group import Group
from playout.agents.alphazero.selfplay.play import SelfPlay

__all__ = ["Counts", "Group", "SelfPlay"]
