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
        "-0x3fA",
        "['A', 'B_', '-1.5']",
        "[[0, 1],\n [1/2, .25]]",
        "{'a': None, 'b': (1, 2)}",
        "exp(-x**2/2)*sqrt(3*x + 1) + log(x, 10)",
        "x**0.5 + 2**(3*x) - 1e10",
        "3*x**12*y**4 - 1234567*x**7*y + " + "+".join(f"{n}*x**{n}" for n in range(1, 20)),
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
        "('a'+'b')*10**10",
        "([1]+[2])*10**9",
        "'%999999999d' % 1",
        "2**(99999999999*x/x)",
        "2**(x-x+99999999999)",
        "2**(64*64*64*x/x)",
        "2**(1/0.00000001)",
        "x**999999999",
        "1e999999999",
        "1/1e-999999999",
        "exp(10**9)",
        "exp(exp(exp(21)))",
        "cos(exp(exp(21)))",
        "sin(I*10**9)",
        "'open(1)'",
        "sin('open(1)')",
        "['open(1)', '1e999999999', '9**9**9']",
        "'o' 'pen(1)'",
        "'\\x28'",
        "b'a'",
        "1j",
        "...",
        "1 # '",
        "{**x}",
        "[*x]",
        "sin()",
        "exp(x, evaluate=0)",
        "sin" * 2,
        "\uff50\uff4f\uff57(2)",
        "-" * 1900 + "1",
    ],
)
def test_names_calls_attributes_and_large_numbers_are_not(text):
    assert not is_harmless(text)
