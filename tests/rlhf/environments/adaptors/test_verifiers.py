"""Packages for the verifiers library as environments: its own code plays and scores the episode."""

import signal

import pytest
from playout.errors import ConfigError
from playout.rlhf.environments.adaptors.suspended import Suspended
from playout.rlhf.environments.load import load_environment

TASKSET = """
import verifiers.v1 as vf

class Data(vf.TaskData):
    target: int

class Near(vf.Task[Data, vf.State, vf.TaskConfig]):
    @vf.reward(weight=2.0)
    async def exact(self, trace) -> float:
        return float(trace.last_reply == str(self.data.target))

    @vf.metric
    async def turns(self, trace) -> float:
        return float(trace.num_turns)

class Config(vf.TasksetConfig):
    count: int = 10

class Tasks(vf.Taskset[Near, Config]):
    def load(self):
        for n in range(self.config.count):
            data = Data(prompt=f"Say {n}.", system_prompt="Be brief.", target=n)
            yield Near(data, self.config.task)

class Chatty(vf.EnvConfig):
    player: vf.AgentConfig = vf.AgentConfig()

class Twice(vf.Env[Chatty]):
    async def run(self, task, agents):
        async with agents.player.interaction(task) as talk:
            segment = await talk.turn()
            while not segment.terminated and segment.last_reply != str(task.data.target):
                segment = await talk.turn(f"No, not {segment.last_reply}.")
                if talk.trace.num_turns > 2:
                    break

__all__ = ["Tasks"EXTRA]
"""

LEGACY = """
import MODULE as vf
from datasets import Dataset

class Guess(vf.MultiTurnEnv):
    async def setup_state(self, state):
        state["tries"] = 0
        return state

    async def env_response(self, messages, state, **kwargs):
        state["tries"] += 1
        return [{"role": "user", "content": f"try {state['tries']}: wrong"}]

    @vf.stop
    async def found(self, state):
        if not state["trajectory"]:
            return False
        return state["trajectory"][-1]["completion"][-1].content == state["answer"]

def load_environment(rows: int = 6, max_turns: int = 3):
    data = Dataset.from_list(
        [{"question": f"n{n}?", "answer": str(n)} for n in range(rows)]
    )
    def right(completion, answer, **kwargs):
        return float(completion[-1].content == answer)
    def short(completion, **kwargs):
        return -float(len(completion))
    return Guess(
        dataset=data, eval_dataset=data.select(range(2)), system_prompt="Guess.",
        rubric=vf.Rubric(funcs=[right, short], weights=[1.0, 0.1]), max_turns=max_turns,
    )
"""


def written(tmp_path, monkeypatch, text):
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_an_episode_stops_where_it_asks_and_goes_on_with_the_answer():
    heard = []

    async def episode(ask):
        heard.append(await ask("first"))
        heard.append(await ask("second"))

    suspended = Suspended(episode)
    assert suspended.advance() == ("first", False)
    assert suspended.advance("a") == ("second", False)
    assert suspended.advance("b") == (None, True)
    assert heard == ["a", "b"]
    suspended.close()


def test_an_episode_that_is_cut_is_ended_and_one_that_raises_says_so():
    ended = []

    async def endless(ask):
        try:
            while True:
                await ask(1)
        finally:
            ended.append(True)

    suspended = Suspended(endless)
    suspended.advance()
    suspended.close()
    assert ended == [True]

    async def broken(ask):
        await ask(1)
        raise ValueError("no board")

    suspended = Suspended(broken)
    suspended.advance()
    with pytest.raises(ValueError, match="no board"):
        suspended.advance("x")


def test_without_the_library_one_line_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "verifiers", None)
    with pytest.raises(ConfigError, match=r"pip install 'playout\[verifiers\]'"):
        load_environment("verifiers:anything")


@pytest.mark.peer
def test_a_taskset_is_one_question_scored_by_its_own_rewards(tmp_path, monkeypatch):
    pytest.importorskip("verifiers.v1")
    name = written(tmp_path, monkeypatch, TASKSET.replace("EXTRA", ""))
    factory = load_environment(f"verifiers:{name}", {"count": 20, "test_size": 4})
    tests, train = factory.tasks("test"), factory.tasks("train")
    assert len(tests) == 4 and len(train) == 16
    assert not {task["index"] for task in tests} & {task["index"] for task in train}
    for reply, reward in (("{target}", 2.0), ("nothing", 0.0)):
        environment, task = factory(), train[3]
        prompt = environment.reset(task, 0)
        assert prompt == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": f"Say {task['target']}."},
        ]
        step = environment.step(reply.format(**task))
        assert step.done and step.reward == reward
        assert environment.metrics() == {"exact": reward / 2, "turns": 1.0}
        environment.close()


@pytest.mark.peer
def test_an_environment_with_turns_of_its_own_is_played_to_its_end(tmp_path, monkeypatch):
    pytest.importorskip("verifiers.v1")
    name = written(tmp_path, monkeypatch, TASKSET.replace("EXTRA", ', "Twice"'))
    environment = load_environment(f"verifiers:{name}")()
    environment.reset({"index": 3}, 0)
    step = environment.step("8")
    assert step.reply == [{"role": "user", "content": "No, not 8."}] and not step.done
    step = environment.step("3")
    assert step.done and step.reward == 2
    assert environment.metrics()["turns"] == 2


@pytest.mark.peer
@pytest.mark.parametrize(
    ("options", "text", "fault"),
    [
        ({"counts": 1}, TASKSET.replace("EXTRA", ""), "cannot be made: .*counts"),
        (
            {},
            TASKSET.replace("EXTRA", ', "Twice"').replace(
                "class Twice", "    other: vf.AgentConfig = vf.AgentConfig()\n\nclass Twice"
            ),
            r"several agents \(player, other\)",
        ),
        (
            {},
            TASKSET.replace("EXTRA", "").replace(
                "exact(self, trace)", "exact(self, trace, runtime)"
            ),
            "its reward exact needs a runtime",
        ),
    ],
)
def test_what_cannot_be_trained_is_one_line(tmp_path, monkeypatch, options, text, fault):
    pytest.importorskip("verifiers.v1")
    name = written(tmp_path, monkeypatch, text)
    with pytest.raises(ConfigError, match=fault) as caught:
        load_environment(f"verifiers:{name}", options)
    assert "\n" not in str(caught.value)


@pytest.mark.peer
def test_a_module_with_load_environment_is_played_by_its_own_rollout(tmp_path, monkeypatch):
    verifiers = pytest.importorskip("verifiers")
    library = "verifiers"
    if not hasattr(verifiers, "Environment"):
        library = "verifiers.legacy"
        pytest.importorskip(library, reason="verifiers 0.4 has left this shape")
    before = signal.getsignal(signal.SIGINT)
    name = written(tmp_path, monkeypatch, LEGACY.replace("MODULE", library))
    factory = load_environment(f"verifiers:{name}", {"rows": 5})
    assert signal.getsignal(signal.SIGINT) is before
    assert len(factory.tasks("train")) == 5 and len(factory.tasks("test")) == 2
    environment = factory()
    prompt = environment.reset(factory.tasks("train")[4], 0)
    assert [message["role"] for message in prompt] == ["system", "user"]
    step = environment.step("3")
    assert step.reply == [{"role": "user", "content": "try 1: wrong"}]
    step = environment.step("4")
    assert step.done and step.reward == pytest.approx(1 - 0.1 * 3)
    assert environment.metrics()["num_turns"] == 2
    with pytest.raises(ConfigError, match="no option 'row'; it has rows, max_turns"):
        load_environment(f"verifiers:{name}", {"row": 5})
