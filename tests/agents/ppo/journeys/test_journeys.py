"""Whole journeys of people who bring an environment: two processes, in a folder of their own.

The first process trains what is named on the command line; the second, which has imported none of
it, is refused the code that the run names, and then trusts it and does everything else.
"""

import json

import forked
import pytest

ENVIRONMENT = '''
import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Hand(gym.Env):
    """Dict observation with the mask in it, Dict action; raises when an action is illegal."""

    observation_space = spaces.Dict(
        {
            "sight": spaces.Box(-1, 1, (2,), np.float32),
            "touch": spaces.Discrete(2),
            "action_mask": spaces.MultiBinary(3),
        }
    )
    action_space = spaces.Dict(
        {"finger": spaces.Discrete(3), "grip": spaces.Box(-1, 1, (1,), np.float32)}
    )
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode=None, steps=3):
        self.render_mode, self.steps = render_mode, steps

    def _obs(self):
        mask = np.array([self.at % 2, (self.at + 1) % 2, 1], np.int8)
        return {"sight": np.full(2, 0.5, np.float32), "touch": self.at % 2, "action_mask": mask}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.time = int(self.np_random.integers(2)), 0
        return self._obs(), {}

    def step(self, action):
        if not self._obs()["action_mask"][action["finger"]]:
            raise ValueError(f"illegal finger {action['finger']}")
        self.at, self.time = self.at + 1, self.time + 1
        reward = float(action["finger"] == 2) - min(abs(float(action["grip"][0]) - 0.5), 1.0)
        return self._obs(), reward, self.time >= self.steps, False, {}

    def render(self):
        return np.full((20, 20, 3), 40 * self.time, np.uint8)
'''

PETTINGZOO = '''
import numpy as np
from gymnasium import spaces
from pettingzoo import AECEnv


class Turns(AECEnv):
    """Three players name numbers in turn; the largest sum of two turns wins. 3 is often illegal."""

    metadata = {"name": "turns", "render_modes": ["ansi"]}
    possible_agents = ["x", "y", "z"]

    def __init__(self, render_mode=None):
        super().__init__()
        self.render_mode = render_mode

    def observation_space(self, agent):
        seen = spaces.Box(0, 10, (3,), np.float32)
        return spaces.Dict({"observation": seen, "action_mask": spaces.MultiBinary(4)})

    def action_space(self, agent):
        return spaces.Discrete(4)

    def reset(self, seed=None, options=None):
        self.agents, self.count = list(self.possible_agents), 0
        self.sums, self.rewards, self._cumulative_rewards = (
            dict.fromkeys(self.agents, 0.0) for _ in range(3)
        )
        self.terminations, self.truncations = (dict.fromkeys(self.agents, False) for _ in range(2))
        self.infos, self.agent_selection = {agent: {} for agent in self.agents}, "x"

    def observe(self, agent):
        seen = np.array([self.sums[one] for one in self.possible_agents], np.float32)
        return {"observation": seen, "action_mask": np.array([1, 1, 1, self.count % 2])}

    def step(self, action):
        agent = self.agent_selection
        if self.terminations[agent]:
            self._was_dead_step(action)
            return
        if action == 3 and not self.count % 2:
            raise ValueError("illegal 3")
        self._cumulative_rewards[agent] = 0.0
        self._clear_rewards()
        self.sums[agent], self.count = self.sums[agent] + action, self.count + 1
        if self.count == 6:
            best = max(self.sums.values())
            for one in self.agents:
                self.rewards[one] = 1.0 if self.sums[one] == best else -1.0
            self.terminations = dict.fromkeys(self.agents, True)
        self._accumulate_rewards()
        self.agent_selection = self.agents[(self.agents.index(agent) + 1) % 3]

    def render(self):
        return str(self.sums)
'''

# Commands one after the other in one process; the exit codes go to its last line.
MANY = (
    "import json, sys; from playout.cli import main\n"
    "print(json.dumps([main(arguments) for arguments in json.loads(sys.argv[1])]))"
)
SMALL = ["--num-envs", "4", "--num-steps", "16", "--eval-episodes", "4", "--quiet"]


def process(folder, *arguments):
    """Python in that folder, which it does not search by itself (-P)."""
    code, out, err = forked.run("-P", *arguments, folder=folder)
    assert "Traceback" not in err, err
    return code, out, err


def journey(folder, module, name, source, second):
    """Train `name` of a module with this source, then do what `second` says with the run "r"."""
    (folder / f"{module}.py").write_text(source)
    train = ["-m", "playout.cli", "ppo", name, "--run", "r", "--total-timesteps", "200", *SMALL]
    code, _, err = process(folder, *train)
    assert code == 0, err
    trust = ["--trust", module]
    commands = [["eval", "r", "--episodes", "4"], *([*one, *trust] for one in second)]
    _, out, err = process(folder, "-c", MANY, json.dumps(commands))
    assert json.loads(out.splitlines()[-1]) == [2] + [0] * len(second), err
    assert err.count("error: ") == 1 and f"--trust {module}" in err
    return out


@pytest.mark.slow
def test_an_environment_with_masks_and_a_dictionary_of_actions_goes_all_the_way(tmp_path):
    said = journey(
        tmp_path,
        "own_hand",
        "own_hand:Hand(steps=2)",
        ENVIRONMENT,
        [
            ["eval", "r", "--episodes", "4", "--json", "found.json"],
            ["play", "r", "--out", "seen.gif"],
            ["ppo", "--resume", "r", "--total-timesteps", "300", "--quiet"],
            ["export", "r", "--format", "safetensors"],
        ],
    )
    assert "2 steps" in said
    assert json.loads((tmp_path / "found.json").read_text())["mean_ep_length"] == 2.0
    assert (tmp_path / "seen.gif").read_bytes()[:3] == b"GIF"


@pytest.mark.slow
def test_a_pettingzoo_game_of_three_players_goes_all_the_way(tmp_path):
    pytest.importorskip("pettingzoo")
    said = journey(
        tmp_path,
        "own_turns",
        "aec:own_turns:Turns",
        PETTINGZOO,
        [
            ["eval", "r", "--episodes", "6"],
            ["play", "r", "--opponent", "random", "--episodes", "2"],
            ["ppo", "--resume", "r", "--total-timesteps", "300", "--quiet"],
            ["export", "r", "--format", "safetensors"],
        ],
    )
    assert "y is the run, random plays against it" in said and "against random play" in said
