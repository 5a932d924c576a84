"""Expressions over windows: what is read, what is refused and how it is told, and that columns say what Python says."""

from __future__ import annotations

import ast
import re
from contextlib import suppress
from math import isfinite, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from streamproc.core.rules.expressions import (
    DEEPEST,
    LONGEST,
    MOST_NODES,
    ExpressionError,
    Name,
    holds,
    parse,
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must have 1 to 500 characters"),
        ("mean_1s > 1" + " " * LONGEST, "must have 1 to 500 characters"),
        ("mean_1s >", "cannot be read"),
        ("(mean_1s > 1", "cannot be read at character 1"),
        ("mean_1s > 3 # note\nfoo", "may have no comment"),
        ("mean_1s \0", "cannot be read"),
        ("mean_10s", "`mean_10s` is a number: compare it, as in `mean_10s > 80`"),
        ("mean_10s + 1 and max_1s > 1", "`mean_10s + 1` is a number"),
        ("4", "`4` is a number"),
        ("1 > 2", "names no number of a window"),
        ("mean_2s > 1", "`mean_2s` is no number of a window: name one as <number>_<size>"),
        ("median_1s > 1", "`median_1s` is no number of a window"),
        ("mean > 1", "`mean` is no number of a window"),
        ("mean_1s > (max_1s > 2)", "is true or false: it cannot stand for a number"),
        ("-(not mean_1s > 2) > 1", "is true or false"),
        ("mean_1s ** 2 > 4", "`mean_1s ** 2` is not understood"),
        ("mean_1s % 2 > 1", "is not understood"),
        ("mean_1s is 2", "the comparisons are < <= > >= == !="),
        ("mean_1s in (1, 2)", "`(1, 2)` is not understood|the comparisons are"),
        ("mean_1s > True", "`True` is not understood"),
        ("mean_1s > 1j", "is not understood"),
        ("mean_1s > '1'", "is not understood"),
        ("mean_1s > 1e999", "too great a number"),
        ("mean_1s > " + "9" * 400, "too great a number"),
        ("round(mean_1s) > 1", "the functions are abs"),
        ("abs(mean_1s, 2) > 1", "abs takes one number"),
        ("min(mean_1s) > 1", "min takes two numbers or more"),
        ("max(mean_1s, max_1s, key=1) > 1", "max takes"),
        ("mean_1s.real > 1", "is not understood"),
        ("mean_1s[0] > 1", "is not understood"),
        ("(lambda: mean_1s)() > 1", "the functions are abs"),
        ("[mean_1s] > 1", "is not understood"),
        ("mean_1s > 1 if max_1s > 2 else mean_1s > 3", "is not understood"),
        ("(x := mean_1s) > 1", "is not understood"),
        ("__import__('os').system('true') > mean_1s", "the functions are abs"),
        ("(" * 240 + "mean_1s > 1" + ")" * 240, "cannot be read"),
        ("-" * (DEEPEST + 1) + "mean_1s > 1", f"more than {DEEPEST} deep"),
        ("max(" + "1, " * MOST_NODES + "mean_1s) > 1", f"more than {MOST_NODES} parts"),
    ],
)
def test_what_is_no_expression_is_told(text: str, reason: str) -> None:
    """With the part that is wrong, and what would be right."""
    with pytest.raises(ExpressionError, match=_any_of(reason)):
        parse(text)


def _any_of(reason: str) -> str:
    return "|".join(re.escape(part) for part in reason.split("|"))


@settings(max_examples=300)
@given(st.text(max_size=60) | st.text(alphabet="mean_1s0>()+-*/.and or not,minabx<=!", max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Never another error."""
    with suppress(ExpressionError):
        assert parse(text).names


def test_expressions_that_differ_by_numbers_are_one_shape() -> None:
    """They are evaluated together, each with its own."""
    one, other = parse("mean_10s > 80 and abs(trend_1s) < 2"), parse("mean_10s > 81.5 and abs(trend_1s)<-1")
    assert one.shape == other.shape
    assert (one.numbers, one.size_ms) == ((80.0, 2.0), 1_000)
    column = {Name("mean", 10_000): np.array([81.0, 81.0]), Name("trend", 1_000): np.array([1.0, -1.0])}
    numbers = np.array([one.numbers, (81.5, -1.0)])
    assert holds(one.shape, column.__getitem__, numbers).tolist() == [True, False]


# Against a plain one ------------------------------------------------------------------------------------------------

_names = ("mean_1s", "max_5s", "trend_10s", "count_1s")
_values = st.sampled_from((*_names, "0", "1", "2.5", "1e308"))


def _grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        st.tuples(st.sampled_from(("min", "max")), inner, inner).map(lambda p: f"{p[0]}({p[1]}, {p[2]})"),
        inner.map(lambda part: f"abs({part})"),
        inner.map(lambda part: f"-{part}"),
    )


numbers = st.recursive(_values, _grow, max_leaves=4)
comparisons = st.lists(numbers, min_size=2, max_size=3).flatmap(
    lambda parts: st.lists(
        st.sampled_from(("<", "<=", ">", ">=", "==", "!=")), min_size=len(parts) - 1, max_size=len(parts) - 1
    ).map(lambda signs: " ".join([parts[0], *(f"{s} {p}" for s, p in zip(signs, parts[1:], strict=True))]))
)
conditions = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(("and", "or")), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        inner.map(lambda part: f"not ({part})"),
    ),
    max_leaves=4,
)


class UnknownError(Exception):
    """A number is none."""


def plain(node: Any, row: dict[str, float]) -> float | bool | None:
    """One row by Python's own arithmetic; None where a condition is unknown."""
    match node:
        case ast.BoolOp():
            parts = [plain(part, row) for part in node.values]
            decides = isinstance(node.op, ast.Or)
            if decides in parts:
                return decides
            return None if None in parts else not decides
        case ast.UnaryOp(op=ast.Not()):
            part = plain(node.operand, row)
            return None if part is None else not part
        case ast.Compare():
            return _compared(node, row)
    return _number(node, row)


def _compared(node: ast.Compare, row: dict[str, float]) -> bool | None:
    found: list[bool | None] = []
    values = [node.left, *node.comparators]
    for left, sign, right in zip(values, node.ops, values[1:], strict=False):
        try:
            a, b = _number(left, row), _number(right, row)
        except UnknownError:
            found.append(None)
            continue
        told: dict[type[ast.cmpop], bool] = {
            ast.Lt: a < b,
            ast.LtE: a <= b,
            ast.Gt: a > b,
            ast.GtE: a >= b,
            ast.Eq: a == b,
            ast.NotEq: a != b,
        }
        found.append(told[type(sign)])
    return False if False in found else None if None in found else True


def _number(node: Any, row: dict[str, float]) -> float:
    match node:
        case ast.Constant():
            number = float(ast.literal_eval(node))
        case ast.Name():
            number = row[node.id]
        case ast.UnaryOp():
            number = -_number(node.operand, row)
        case ast.Call():
            parts = [_number(part, row) for part in node.args]
            number = {"abs": lambda: abs(parts[0]), "min": lambda: min(parts), "max": lambda: max(parts)}[
                ast.unparse(node.func)
            ]()
        case _:
            a, b = _number(node.left, row), _number(node.right, row)
            if isinstance(node.op, ast.Div) and b == 0:
                raise UnknownError
            apply = {ast.Add: a.__add__, ast.Sub: a.__sub__, ast.Mult: a.__mul__, ast.Div: a.__truediv__}
            number = apply[type(node.op)](b)
    if not isfinite(number):
        raise UnknownError
    return number


@pytest.mark.live
@settings(deadline=None, max_examples=400)
@given(
    conditions,
    st.lists(
        st.lists(st.sampled_from((nan, 0.0, 1.0, -2.5, 7.0, 1e308)), min_size=4, max_size=4), max_size=6
    ),
)
def test_columns_say_what_python_says(text: str, rows: list[list[float]]) -> None:
    """Row by row, and what is unknown does not hold."""
    assume(any(name in text for name in _names))
    parsed = parse(text)
    table = np.array(rows).reshape(len(rows), 4)
    columns = {name: table[:, index] for index, name in enumerate(_names)}
    many = np.tile(parsed.numbers, (len(rows), 1)).reshape(len(rows), len(parsed.numbers))
    found = holds(parsed.shape, lambda name: columns[name.text], many)
    tree = ast.parse(text, mode="eval").body
    assert found.tolist() == [
        plain(tree, dict(zip(_names, row, strict=True))) is True for row in table.tolist()
    ]
