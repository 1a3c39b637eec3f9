"""Which answers may reach a verifier that evaluates them."""

import pytest
from playout.rlhf.environments.adaptors.harmless import is_harmless


@pytest.mark.parametrize(
    "text",
    [
        "3 + 4*(12 - 5)/2",
        "[[1, 2], [3, 4]]",
        "['a', 'b']",
        "x**3 + 2*x - 1",
        "exp(-x)*sin(2*x) + C",
        "-x**4/4 + 3",
        "True",
        "2**10",
    ],
)
def test_literals_and_small_formulas_are_harmless(text):
    assert is_harmless(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "().__class__.__bases__[0].__subclasses__()",
        "open('x')",
        "x.real",
        "(lambda: 1)()",
        "[i for i in (1,)]",
        "f'{x}'",
        "S('x')",
        "9**9**9",
        "2**100000",
        "2**(60*60)",
        "((9**64)**64)**64",
        "x**(9**9)",
        "'a'*10000000",
        "[1]*10000000",
        "1+" * 3000 + "1",
        "(" * 500 + ")" * 500,
        "1 +",
        "",
        "9" * 400,
    ],
)
def test_names_calls_attributes_and_large_numbers_are_not(text):
    assert not is_harmless(text)
