"""Expressions over windows: parsed once, then evaluated on columns for all sensors whose expressions differ only by numbers.

The language is a part of Python's: numbers, names of a window's numbers, `+ - * /`, comparisons, `and or not`, parentheses
and `abs min max`. Python's parser reads it, and everything else is refused; nothing is ever run as Python.

A comparison is true, false or unknown: unknown where a window is missing, or a division by zero left no number. `and`, `or`
and `not` follow Kleene's logic, and a result that is unknown does not hold.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, reduce
from math import isfinite
from typing import NamedTuple

import numpy as np

from streamproc.core import windows
from streamproc.core.windows import Bools, Floats, Moments

#: The numbers of a window that expressions may name.
STATS: dict[str, Callable[[Moments], Floats]] = {
    "mean": windows.mean,
    "min": lambda rows: rows.min,
    "max": lambda rows: rows.max,
    "count": lambda rows: rows.count.astype(np.float64),
    "deviation": windows.deviation,
    "first": lambda rows: rows.first,
    "last": lambda rows: rows.last,
    "trend": windows.trend,
}
SIZES = {"1s": 1_000, "5s": 5_000, "10s": 10_000}
#: Longer ones nobody reads; and Python's parser, which has limits of its own, never sees more.
LONGEST = 500
#: A node costs about a microsecond for each chunk of records that has windows of its sensors: a tenth of a millisecond.
MOST_NODES = 100
#: As deep as these are no sum of a person's, and far from what recursion can do.
DEEPEST = 20

_NUMBERS_OF = "name one as <number>_<size>: " + " ".join(STATS) + ", of " + " ".join(SIZES)


class ExpressionError(ValueError):
    """An expression that is none; the text says what is wrong and where."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number of the expression, by its index: so that expressions which differ by numbers alone are one shape."""

    index: int


@dataclass(frozen=True, slots=True)
class Name:
    """A number of a window."""

    stat: str
    size_ms: int

    @property
    def text(self) -> str:
        """As users write it."""
        return f"{self.stat}_{self.size_ms // 1000}s"


@dataclass(frozen=True, slots=True)
class Call:
    """An operation on numbers."""

    operation: str
    parts: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two numbers compared."""

    operation: str
    left: Value
    right: Value


@dataclass(frozen=True, slots=True)
class Junction:
    """Conditions joined by `and` or `or`, or one under `not`."""

    operation: str
    parts: tuple[Condition, ...]


Value = Number | Name | Call
Condition = Comparison | Junction


@dataclass(frozen=True, slots=True)
class Parsed:
    """An expression: its shape, the numbers that stand in it, and the names in their order."""

    shape: Condition
    numbers: tuple[float, ...]
    names: tuple[Name, ...]

    @property
    def size_ms(self) -> int:
        """The least size of window that it names: it is evaluated whenever one of these closes."""
        return min(name.size_ms for name in self.names)


class Truth(NamedTuple):
    """Where a condition holds, and where it does not; where neither, it is unknown. Of shape (n,)."""

    holds: Bools
    fails: Bools


_ARITHMETIC: dict[type[ast.operator | ast.unaryop], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.USub: "negative",
    ast.UAdd: "positive",
}
_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}
_FUNCTIONS = ("abs", "min", "max")
_APPLY: dict[str, Callable[..., Floats]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "negative": np.negative,
    "positive": np.positive,
    "abs": np.abs,
    "min": np.minimum,
    "max": np.maximum,
}
_TEST: dict[str, Callable[[Floats, Floats], Bools]] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}


#: A registry of 100,000 sensors mostly has a few expressions; 4,096 of the longest take a few MB.
@lru_cache(maxsize=4_096)
def parse(text: str) -> Parsed:
    """Read an expression; raises ExpressionError.

    >>> parse("mean_10s > 80 and trend_1s > 0.5").numbers
    (80.0, 0.5)
    >>> parse("mean_10s")
    Traceback (most recent call last):
    ...
    streamproc.core.rules.expressions.ExpressionError: `mean_10s` is a number: compare it, as in `mean_10s > 80`
    """
    if not len(text.strip()) >= 1 or len(text) > LONGEST:
        raise ExpressionError(f"must have 1 to {LONGEST} characters")
    if "#" in text:
        raise ExpressionError("may have no comment")
    # Lines may be broken anywhere, as files fold them; a character stays one, so that places are right.
    text = "".join(" " if character.isspace() else character for character in text.strip())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of what Python may refuse one day; here it is refused, or read, below
            tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        where = f" at character {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
        raise ExpressionError(f"cannot be read{where}: {error.args[0] if error.args else error}") from None
    reader = _Reader(text)
    shape = reader.condition(tree, 1)
    if not reader.names:
        raise ExpressionError(f"names no number of a window: {_NUMBERS_OF}")
    return Parsed(shape, tuple(reader.numbers), tuple(reader.names))


class _Reader:
    """Turns Python's syntax tree into a shape, and refuses what is not in the language."""

    def __init__(self, text: str) -> None:
        self.numbers: list[float] = []
        self.names: list[Name] = []
        self._text, self._nodes = text, 0

    def condition(self, node: ast.expr, depth: int) -> Condition:
        """A part that is true or false."""
        self._count(depth)
        if isinstance(node, ast.BoolOp):
            joined = "and" if isinstance(node.op, ast.And) else "or"
            return Junction(joined, tuple(self.condition(part, depth + 1) for part in node.values))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return Junction("not", (self.condition(node.operand, depth + 1),))
        if isinstance(node, ast.Compare):
            return self._comparison(node, depth)
        text = self._source(node)
        if isinstance(node, ast.Name | ast.BinOp | ast.Call | ast.UnaryOp) or self._is_number(node):
            raise ExpressionError(f"`{text}` is a number: compare it, as in `{text} > 80`")
        raise self._refusal(node)

    def _comparison(self, node: ast.Compare, depth: int) -> Condition:
        values = [self.value(part, depth + 1) for part in (node.left, *node.comparators)]
        pairs = []
        for left, operation, right in zip(values, node.ops, values[1:], strict=False):
            sign = _COMPARE.get(type(operation))
            if sign is None:
                raise ExpressionError(
                    f"`{self._source(node)}`: the comparisons are {' '.join(_COMPARE.values())}"
                )
            pairs.append(Comparison(sign, left, right))
        return pairs[0] if len(pairs) == 1 else Junction("and", tuple(pairs))

    def value(self, node: ast.expr, depth: int) -> Value:
        """A part that is a number."""
        self._count(depth)
        if self._is_number(node):
            return self._number(node)
        if isinstance(node, ast.Name):
            return self._name(node.id)
        if isinstance(node, ast.BinOp) and (sign := _ARITHMETIC.get(type(node.op))):
            return Call(sign, (self.value(node.left, depth + 1), self.value(node.right, depth + 1)))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and self._is_number(node.operand):
            return self._number(node.operand, -1.0)
        if isinstance(node, ast.UnaryOp) and (sign := _ARITHMETIC.get(type(node.op))):
            return Call(sign, (self.value(node.operand, depth + 1),))
        if isinstance(node, ast.Call):
            return self._call(node, depth)
        if isinstance(node, ast.Compare | ast.BoolOp | ast.UnaryOp):
            raise ExpressionError(f"`{self._source(node)}` is true or false: it cannot stand for a number")
        raise self._refusal(node)

    def _call(self, node: ast.Call, depth: int) -> Value:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        least = 1 if name == "abs" else 2
        fits = len(node.args) == 1 if name == "abs" else len(node.args) >= least
        if name not in _FUNCTIONS:
            raise ExpressionError(
                f"`{self._source(node)}`: the functions are abs(x), min(x, y, …) and max(x, y, …)"
            )
        if node.keywords or not fits:
            raise ExpressionError(
                f"`{self._source(node)}`: {name} takes {'one number' if least == 1 else 'two numbers or more'}"
            )
        return Call(name, tuple(self.value(part, depth + 1) for part in node.args))

    def _number(self, node: ast.expr, sign: float = 1.0) -> Value:
        try:
            number = sign * float(ast.literal_eval(node))
        except OverflowError:
            number = np.inf
        if not isfinite(number):
            raise ExpressionError(f"`{self._source(node)}` is too great a number")
        self.numbers.append(number)
        return Number(len(self.numbers) - 1)

    def _name(self, text: str) -> Value:
        stat, _, size = text.rpartition("_")
        if stat not in STATS or size not in SIZES:
            raise ExpressionError(f"`{text}` is no number of a window: {_NUMBERS_OF}")
        name = Name(stat, SIZES[size])
        if name not in self.names:
            self.names.append(name)
        return name

    def _count(self, depth: int) -> None:
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise ExpressionError(f"has more than {MOST_NODES} parts")
        if depth > DEEPEST:
            raise ExpressionError(f"is nested more than {DEEPEST} deep")

    @staticmethod
    def _is_number(node: ast.expr) -> bool:
        return isinstance(node, ast.Constant) and type(node.value) in {int, float}

    def _refusal(self, node: ast.expr) -> ExpressionError:
        return ExpressionError(
            f"`{self._source(node)}` is not understood: it may have numbers, names such as mean_10s, + - * /, comparisons,"
            " and, or, not, parentheses, abs, min and max"
        )

    def _source(self, node: ast.expr) -> str:
        return ast.get_source_segment(self._text, node) or "?"


def holds(shape: Condition, column: Callable[[Name], Floats], numbers: Floats) -> Bools:
    """Where the expression holds, of shape (n,).

    `column` gives the numbers of windows (n,), NaN where there is no such window, and `numbers` (n, k) are those in each
    row's own expression.
    """
    with np.errstate(all="ignore"):
        return _truth(shape, column, numbers).holds


def _truth(shape: Condition, column: Callable[[Name], Floats], numbers: Floats) -> Truth:
    if isinstance(shape, Comparison):
        left, right = _value(shape.left, column, numbers), _value(shape.right, column, numbers)
        known = np.isfinite(left) & np.isfinite(right)
        true = _TEST[shape.operation](left, right)
        return Truth(known & true, known & ~true)
    truths = [_truth(part, column, numbers) for part in shape.parts]
    if shape.operation == "not":
        return Truth(truths[0].fails, truths[0].holds)
    both = shape.operation == "and"
    gather, other = (np.logical_and, np.logical_or) if both else (np.logical_or, np.logical_and)
    return Truth(gather.reduce([t.holds for t in truths]), other.reduce([t.fails for t in truths]))


def _value(part: Value, column: Callable[[Name], Floats], numbers: Floats) -> Floats:
    if isinstance(part, Number):
        return numbers[:, part.index]
    if isinstance(part, Name):
        return column(part)
    values = [_value(inner, column, numbers) for inner in part.parts]
    apply = _APPLY[part.operation]
    number = reduce(apply, values) if len(values) > 1 else apply(values[0])
    # What is no number stays so, whatever is made of it: `1 / (x / 0)` is not 0.
    return np.where(np.isfinite(number), number, np.nan)
