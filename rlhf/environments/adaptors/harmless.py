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
from typing import NamedTuple

__all__ = ["is_harmless"]

MAX_CHARACTERS = 2000
MAX_BITS = 2048.0
"""Bits of the numerator or denominator of a number, and the degree of a polynomial."""
MAX_TERMS = 20_000
"""Terms of a formula that is multiplied out, over a common denominator."""
# No comments and no escapes, which a verifier that cuts answers into pieces could bring to life.
_CHARACTERS = re.compile(r"[\w\s+\-*/.,:()\[\]{}'\"]*", re.ASCII)
# Of a bounded length as it is written: sympy computes 1e999999999 where Python says infinity.
_NUMBER = re.compile(r"((0|[1-9]\d{0,29})(\.\d{0,30})?|\.\d{1,30})([eE][+-]?\d{1,2})?", re.ASCII)
_WHOLE = re.compile(  # hexadecimal, or with thousands apart
    r"[+-]?(0[xX][0-9a-fA-F]{1,24}|\d{1,3}(,\d{3}){1,9}(\.\d{0,30})?)", re.ASCII
)
# A verifier may remove commas, quotes and brackets before it evaluates.
_REMOVED = re.compile(r"[\s,:()\[\]{}'\"]")
_LARGE = re.compile(r"[\d.]_*[eE][+-]?[\d_]{3,}", re.ASCII)
# sympy parses a string inside an expression too, so it may be no expression of its own.
_WORD = re.compile(r"[A-Za-z_ ]*|[+-]?\d{1,30}(\.\d{0,30})?", re.ASCII)
# Decimals are rounded: 0.5-0.6+0.1 is no zero. So many bits hold the digits of any _NUMBER.
_ROUNDING = 220.0
_GROWING = frozenset(  # exponentially, the trigonometric ones of imaginary numbers
    {"exp", "sin", "cos", "tan", "sec", "csc", "cot", "sinh", "cosh", "tanh"}
)
_FLAT = frozenset({"asin", "acos", "atan", "log", "ln", "sqrt", "Abs"})
_NAMES = frozenset({"pi", "oo", "C1", "C2"})


class _Size(NamedTuple):
    """How large the value of a formula can be; a symbol counts as 1 bit.

    A symbol may cancel to the number 1, and its powers are to stay small.
    """

    bits: float
    """Bits of numerator and denominator of the value; infinite where unknown."""
    inverse: float
    """The same of what divides by it."""
    decimal: bool = False
    """Whether a number in it may be rounded."""
    terms: int = 0
    """Terms when it is multiplied out; 0 of a number."""
    divisor: int = 1
    """Terms of the common denominator."""


_UNKNOWN = _Size(math.inf, math.inf)


def is_harmless(text: str) -> bool:
    """Whether the text is a literal or a small formula, so that evaluating it is safe.

    No number in a formula can have more than MAX_BITS bits, nor a symbol a higher power, nor a
    formula more than MAX_TERMS terms. Lists hold no powers and no functions, for a verifier that
    removes commas would join what stands around them.
    """
    text = text.strip()
    if len(text) > MAX_CHARACTERS or _CHARACTERS.fullmatch(text) is None:
        return False
    if _WHOLE.fullmatch(text) is not None:
        return True
    if _LARGE.search(_REMOVED.sub("", text)) is not None:
        return False
    try:
        tree = ast.parse(text, mode="eval").body
        kinds = {type(node) for node in ast.walk(tree)}
        listed = not kinds.isdisjoint({ast.List, ast.Tuple, ast.Set, ast.Dict})
        if listed and not kinds.isdisjoint({ast.Pow, ast.Call}):
            return False
        return _harmless(tree, text)
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
            return _size(node, text).bits <= MAX_BITS
    return False


def _size(node: ast.AST, text: str) -> _Size:
    size = _UNKNOWN
    match node:
        case ast.Constant():
            size = _size_of_number(ast.get_source_segment(text, node) or "")
        case ast.Name(id=name) if len(name) == 1 or name in _NAMES:
            bits = 2.0 if name in ("E", "pi") else 1.0
            size = _Size(bits, bits, terms=1)
        case ast.UnaryOp(op=ast.UAdd() | ast.USub(), operand=operand):
            size = _size(operand, text)
        case ast.BinOp(op=ast.Add() | ast.Sub(), left=left, right=right):
            size = _sum(_size(left, text), _size(right, text))
        case ast.BinOp(op=ast.Mult(), left=left, right=right):
            size = _product(_size(left, text), _size(right, text))
        case ast.BinOp(op=ast.Div(), left=left, right=right):
            size = _product(_size(left, text), _inverse(_size(right, text)))
        case ast.BinOp(op=ast.Pow(), left=left, right=right):
            size = _power(_size(left, text), _size(right, text), isinstance(right, ast.Constant))
        case ast.Call(func=ast.Name(id="Rational"), args=[_] | [_, _] as parts, keywords=[]):
            size = _ratio([_size(part, text) for part in parts])
        case ast.Call(func=ast.Name(id=name), args=[_] | [_, _] as parts, keywords=[]):
            size = _value(name, [_size(part, text) for part in parts])
    return size if max(size.terms, size.divisor) <= MAX_TERMS else _UNKNOWN


def _size_of_number(written: str) -> _Size:
    if _NUMBER.fullmatch(written) is None:
        return _UNKNOWN
    number = Fraction(written)
    bits = math.log2(max(1, number.numerator, number.denominator))
    return _Size(bits, bits, not written.isdigit())


def _sum(left: _Size, right: _Size) -> _Size:
    decimal = left.decimal or right.decimal
    inverse = left.inverse + right.inverse + 1.0 + _ROUNDING * decimal
    terms = max(1, left.terms) * right.divisor + max(1, right.terms) * left.divisor
    terms = terms if left.terms or right.terms else 0
    divisor = left.divisor * right.divisor
    return _Size(left.bits + right.bits + 1.0, inverse, decimal, terms, divisor)


def _product(left: _Size, right: _Size) -> _Size:
    return _Size(
        left.bits + right.bits,
        left.inverse + right.inverse,
        left.decimal or right.decimal,
        max(1, left.terms) * max(1, right.terms) if left.terms or right.terms else 0,
        left.divisor * right.divisor,
    )


def _inverse(size: _Size) -> _Size:
    terms = size.divisor if size.terms else 0
    return _Size(size.inverse, size.bits, size.decimal, terms, max(1, size.terms))


def _power(base: _Size, exponent: _Size, positive: bool) -> _Size:
    """Of a base; only an exponent that is one number is known to be positive."""
    times = _largest(exponent.bits)
    if not max(base.bits, base.inverse if not positive else 0.0, 1.0) * times <= MAX_BITS:
        return _UNKNOWN
    terms, divisor = base.terms, base.divisor
    if not positive:
        terms, divisor = (max(base.terms, base.divisor),) * 2
        base = base._replace(bits=max(base.bits, base.inverse))
    return _Size(
        max(1.0, base.bits) * times,
        max(1.0, base.bits, base.inverse) * times,
        base.decimal or exponent.decimal,
        _terms(max(1, terms), times),
        _terms(divisor, times),
    )


def _terms(terms: int, times: float) -> int:
    """Of a power of a sum that is multiplied out."""
    return math.comb(terms - 1 + math.ceil(times), terms - 1) if terms < 1000 else MAX_TERMS + 1


def _ratio(parts: list[_Size]) -> _Size:
    if any(part.decimal or part.terms for part in parts):
        return _UNKNOWN  # what was rounded would become exact
    bits = sum(part.bits for part in parts)
    return _Size(bits, bits)


def _value(name: str, parts: list[_Size]) -> _Size:
    decimal = any(part.decimal for part in parts)
    bits = sum(part.bits for part in parts) + 1.0
    inverse = sum(part.inverse for part in parts) + 1.0
    if name in _GROWING and len(parts) == 1:
        bits = 2.0 * _largest(bits)
        inverse = max(bits, inverse)
    elif name not in _FLAT:
        return _UNKNOWN
    rounding = _ROUNDING * decimal
    return _Size(bits + rounding, max(bits, inverse) + rounding, decimal, 1)


def _largest(bits: float) -> float:
    """The largest number of so many bits."""
    return 2.0**bits if bits <= 64 else math.inf
