"""Whether a text that somebody else's verifier will evaluate can do nothing but compute a little.

Verifiers of mathematics hand answers to `eval` or to sympy's parser, which is `eval` too. What a
policy wrote may reach them only if it is in a small grammar: numbers and words, formulas of
numbers, symbols and a few functions, and lists of these. Formulas are bounded by the size that a
number in them could have, for big numbers are computed where no time limit can interrupt. Nothing
is evaluated here.
"""

import ast
import math
import re
from fractions import Fraction

__all__ = ["is_harmless"]

MAX_CHARACTERS = 2000
MAX_BITS = 2048.0
"""Bits of the numerator or denominator of a number, and the degree of a polynomial."""
# No comments and no escapes, which a verifier that cuts answers into pieces could bring to life.
_CHARACTERS = re.compile(r"[\w\s+\-*/.,:()\[\]{}'\"]*", re.ASCII)
# Of a bounded length as it is written: sympy computes 1e999999999 where Python says infinity.
_NUMBER = re.compile(r"(\d{1,30}(\.\d{0,30})?|\.\d{1,30})([eE][+-]?\d{1,2})?", re.ASCII)
_HEXADECIMAL = re.compile(r"0[xX][0-9a-fA-F]{1,24}")
# sympy parses a string inside an expression too, so it may be no expression of its own.
_WORD = re.compile(r"[A-Za-z_ ]*|[+-]?\d{1,30}(\.\d{0,30})?", re.ASCII)
_GROWING = frozenset(  # exponentially, the trigonometric ones of imaginary numbers
    {"exp", "sin", "cos", "tan", "sec", "csc", "cot", "sinh", "cosh", "tanh"}
)
_FLAT = frozenset({"asin", "acos", "atan", "log", "ln", "sqrt", "Abs", "Rational"})
_NAMES = frozenset({"pi", "oo", "C1", "C2"})


def is_harmless(text: str) -> bool:
    """Whether the text is a literal or a small formula, so that evaluating it is safe.

    No number in a formula can have more than MAX_BITS bits, nor a symbol a higher power.
    """
    text = text.strip()
    if len(text) > MAX_CHARACTERS or _CHARACTERS.fullmatch(text) is None:
        return False
    try:
        return _harmless(ast.parse(text, mode="eval").body, text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False


def _harmless(node: ast.AST | None, text: str) -> bool:
    match node:
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
            return all(_harmless(part, text) for part in parts)
        case ast.Dict(keys=keys, values=values):
            return all(_harmless(part, text) for part in (*keys, *values))
        case ast.Constant(value=str(word)):
            return _WORD.fullmatch(word) is not None
        case ast.Constant(value=None | True | False):
            return True
        case ast.expr():
            return _bits(node, text) <= MAX_BITS
    return False


def _bits(node: ast.AST, text: str) -> float:
    """Bits of the numerator and denominator of any number in a formula; infinite where unknown.

    A symbol counts as 1 bit: it may cancel to the number 1, and its powers are to stay small.
    """
    match node:
        case ast.Constant():
            return _bits_of_number(ast.get_source_segment(text, node) or "")
        case ast.Name(id=name) if len(name) == 1 or name in _NAMES:
            return 2.0 if name in ("E", "pi") else 1.0
        case ast.UnaryOp(op=ast.UAdd() | ast.USub(), operand=operand):
            return _bits(operand, text)
        case ast.BinOp(op=ast.Add() | ast.Sub(), left=left, right=right):
            return _bits(left, text) + _bits(right, text) + 1.0
        case ast.BinOp(op=ast.Mult() | ast.Div(), left=left, right=right):
            return _bits(left, text) + _bits(right, text)
        case ast.BinOp(op=ast.Pow(), left=left, right=right):
            return max(1.0, _bits(left, text)) * _largest(_bits(right, text))
        case ast.Call(func=ast.Name(id=name), args=[_, *more] as parts, keywords=[]):
            inside = sum(_bits(part, text) for part in parts) + 1.0
            if name in _GROWING and not more:
                return 2.0 * _largest(inside)
            if name in _FLAT and len(more) <= 1:
                return inside
    return math.inf


def _bits_of_number(written: str) -> float:
    if _HEXADECIMAL.fullmatch(written):
        return math.log2(max(1, int(written, 16)))
    if _NUMBER.fullmatch(written) is None:
        return math.inf
    number = Fraction(written)
    return math.log2(max(1, number.numerator, number.denominator))


def _largest(bits: float) -> float:
    """The largest number of so many bits."""
    return 2.0**bits if bits <= 64 else math.inf
