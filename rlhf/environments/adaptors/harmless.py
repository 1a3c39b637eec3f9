"""Whether a text that somebody else's verifier will evaluate can do nothing but compute a little.

Verifiers of mathematics hand answers to `eval` or to sympy's parser, which is `eval` too. What a
policy wrote may reach them only if it is a Python literal, or arithmetic on numbers, symbols of one
letter and a few functions, and too small to keep a processor busy. Nothing is evaluated here.
"""

import ast

__all__ = ["is_harmless"]

MAX_CHARACTERS = 2000
MAX_EXPONENT = 64
_TRIGONOMETRY = ("sin", "cos", "tan", "sec", "csc", "cot", "asin", "acos", "atan")
_FUNCTIONS = frozenset(
    {*_TRIGONOMETRY, "sinh", "cosh", "tanh", "exp", "log", "ln", "sqrt", "Abs", "Rational"}
)
_NAMES = frozenset({"pi", "oo", "C1", "C2"})
_OPERATORS = (
    ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.UAdd, ast.USub,
    ast.Load,
)  # fmt: skip
_SHAPES = (ast.Expression, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.BinOp, ast.UnaryOp)


def is_harmless(text: str) -> bool:
    """Whether the text is a literal or a small formula, so that evaluating it is safe.

    Powers are bounded: an exponent is a number of at most MAX_EXPONENT or a symbol, and a power
    stands in a power at most once.
    """
    if len(text) > MAX_CHARACTERS:
        return False
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return _small(tree, 0)


def _small(node: ast.AST, powers: int) -> bool:
    if isinstance(node, ast.Constant):
        value = node.value
        return not isinstance(value, int) or isinstance(value, bool) or abs(value) < 10**30
    if isinstance(node, ast.Name):
        return len(node.id) == 1 or node.id in _NAMES
    if isinstance(node, ast.Call):
        known = isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
        plain = known and not node.keywords and len(node.args) <= 2
        return plain and all(_small(argument, powers) for argument in node.args)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        powers += 1
        if powers > 2 or not _small_exponent(node.right):
            return False
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        # A list times a number is a long list.
        shapes = (ast.List, ast.Tuple, ast.Dict, ast.Set)
        if isinstance(node.left, shapes) or isinstance(node.right, shapes):
            return False
        if any(
            isinstance(side, ast.Constant) and isinstance(side.value, str | bytes)
            for side in (node.left, node.right)
        ):
            return False
    if not isinstance(node, (*_SHAPES, *_OPERATORS)):
        return False
    return all(_small(child, powers) for child in ast.iter_child_nodes(node))


def _small_exponent(node: ast.expr) -> bool:
    """A number up to the limit, a fraction of such numbers, or anything that holds a symbol."""
    if any(isinstance(part, ast.Name) for part in ast.walk(node)):
        return not any(
            isinstance(part, ast.BinOp) and isinstance(part.op, ast.Pow) for part in ast.walk(node)
        )
    numbers = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
    plain = all(isinstance(value, int | float) and abs(value) <= MAX_EXPONENT for value in numbers)
    # 60*60 in an exponent is no longer small.
    return (
        plain
        and len(numbers) <= 2
        and not any(isinstance(part, ast.Mult | ast.Pow) for part in ast.walk(node))
    )
