"""What is handed from one part to another has a type: a protocol or a class, never Any."""

import ast

import project
import pytest

SEAMS = {
    "command",
    "environments",
    "evaluator",
    "game",
    "network",
    "opponent",
    "player",
    "policy",
    "trainer",
}
GROUPS = {f"{name}s" for name in SEAMS} | {"policies"}


def untyped(annotation):
    """Whether an annotation is Any, or a union with it."""
    if isinstance(annotation, ast.BinOp):
        return untyped(annotation.left) or untyped(annotation.right)
    return isinstance(annotation, ast.Name) and annotation.id == "Any"


def offences(tree):
    """(line, what) of every seam that is typed Any, or as a group of Any."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        given = function.args
        for argument in given.posonlyargs + given.args + given.kwonlyargs:
            kind = argument.annotation
            inner = kind.slice if isinstance(kind, ast.Subscript) else None
            parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            if (argument.arg in SEAMS and untyped(kind)) or (
                argument.arg in GROUPS and (untyped(kind) or any(map(untyped, parts)))
            ):
                yield argument.lineno, f"{function.name}({argument.arg}: {ast.unparse(kind)})"


@pytest.mark.parametrize(
    "text",
    [
        "def f(policy: Any): ...",
        "def f(*, trainer: Any | None = None): ...",
        "def f(players: dict[str, Any]): ...",
        "async def f(games: list[Any]): ...",
    ],
)
def test_an_untyped_seam_is_found(text):
    assert len(list(offences(ast.parse(text)))) == 1


def test_typed_seams_and_other_names_are_left_alone():
    text = "def f(policy: Policy, env: Any, game: Env[Any, Any], players: Sequence[Player]): ..."
    assert not list(offences(ast.parse(text)))


@pytest.mark.parametrize("package", ["envs", "mcts", "agents", "rlhf"])
def test_no_seam_is_typed_any(package):
    found = [
        f"{project.shown(path)}:{line}: {what}"
        for path in project.sources(".py", folders=[package])
        for line, what in offences(project.parse(path))
    ]
    assert not found, "\n".join(found)
