"""Translate conditions in SQL to filters of Qdrant. Imports sqlglot and qdrant_client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlglot
from qdrant_client import models
from sqlglot import exp
from sqlglot.errors import SqlglotError

from x2kit.plugin import DataError, IndexSpec

MIRRORED = {
    exp.EQ: exp.EQ,
    exp.NEQ: exp.NEQ,
    exp.LT: exp.GT,
    exp.LTE: exp.GTE,
    exp.GT: exp.LT,
    exp.GTE: exp.LTE,
}
NEGATED = {
    exp.EQ: exp.NEQ,
    exp.NEQ: exp.EQ,
    exp.LT: exp.GTE,
    exp.LTE: exp.GT,
    exp.GT: exp.LTE,
    exp.GTE: exp.LT,
}
BOUNDS = {exp.LT: "lt", exp.LTE: "lte", exp.GT: "gt", exp.GTE: "gte"}


def translate(where: str, spec: IndexSpec) -> models.Filter | None:
    """Translate a condition; None for an empty one.

    Raises: DataError for invalid SQL, an unknown column, and what Qdrant cannot filter by: LIKE, functions, and
        comparisons of two columns or of texts by order.
    """
    if not where.strip():
        return None
    try:
        found = sqlglot.condition(where, dialect="sqlite")
        return _Translation(spec).filter(found, negate=False)
    except SqlglotError as error:
        reason = str(error).partition("\n")[0]
    except _UntranslatableError as error:
        reason = str(error)
    raise DataError(f"invalid condition {where!r}: {reason}")


class _UntranslatableError(Exception):
    """A part of a condition that Qdrant has no filter for."""


class _Translation:
    """Filters of the parts of a condition; NOT is moved inwards, so that comparisons with null are never true."""

    def __init__(self, spec: IndexSpec) -> None:
        self._types = {"id": "text", **spec.columns}

    def filter(self, part: exp.Expression, negate: bool) -> models.Filter:
        for kind, method in self._methods().items():
            if isinstance(part, kind):
                return method(part, negate)
        raise _UntranslatableError(f"Qdrant cannot filter by {part.sql()}")

    def _methods(self) -> dict[Any, Callable[[Any, bool], models.Filter]]:
        return {
            exp.Paren: lambda part, negate: self.filter(part.this, negate),
            exp.Not: lambda part, negate: self.filter(part.this, not negate),
            exp.And: lambda part, negate: self._connect(part, every=not negate, negate=negate),
            exp.Or: lambda part, negate: self._connect(part, every=negate, negate=negate),
            exp.Boolean: lambda part, negate: _constant(part.this != negate),
            exp.Column: lambda part, negate: self._equal(self._name(part), not negate, False),
            exp.Is: self._is,
            exp.In: self._in,
            exp.Between: self._between,
            (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE): self._compare,
        }

    def _connect(self, part: exp.Connector, every: bool, negate: bool) -> models.Filter:
        both = [self.filter(part.left, negate), self.filter(part.right, negate)]
        return models.Filter(must=both) if every else models.Filter(should=both)

    def _is(self, part: exp.Is, negate: bool) -> models.Filter:
        if not isinstance(part.expression, exp.Null):
            raise _UntranslatableError(f"Qdrant cannot filter by {part.sql()}")
        null = models.IsEmptyCondition(is_empty=models.PayloadField(key=self._name(part.this)))
        return models.Filter(must_not=[null]) if negate else models.Filter(must=[null])

    def _in(self, part: exp.In, negate: bool) -> models.Filter:
        name = self._name(part.this)
        if not part.expressions:
            raise _UntranslatableError(f"Qdrant cannot filter by {part.sql()}")
        each = [self._equal(name, self._value(name, value), False) for value in part.expressions]
        return self._negated(name, each) if negate else models.Filter(should=each)

    def _between(self, part: exp.Between, negate: bool) -> models.Filter:
        low = exp.GTE(this=part.this, expression=part.args["low"])
        high = exp.LTE(this=part.this, expression=part.args["high"])
        return self._connect(exp.And(this=low, expression=high), every=not negate, negate=negate)

    def _compare(self, part: exp.Binary, negate: bool) -> models.Filter:
        kind, column, value = type(part), part.left, part.right
        if not isinstance(column, exp.Column):
            kind, column, value = MIRRORED[kind], part.right, part.left
        name = self._name(column)
        literal = self._value(name, value)
        kind = NEGATED[kind] if negate else kind
        if kind in (exp.EQ, exp.NEQ):
            return self._equal(name, literal, kind is exp.NEQ)
        if self._types[name] not in ("integer", "number"):
            raise _UntranslatableError(
                f"Qdrant orders numbers only, and {name} is of type {self._types[name]}"
            )
        bounds = models.Range(**{BOUNDS[kind]: literal})
        return models.Filter(must=[models.FieldCondition(key=name, range=bounds)])

    def _equal(self, name: str, value: Any, negate: bool) -> models.Filter:
        if isinstance(value, float):
            condition = models.FieldCondition(key=name, range=models.Range(gte=value, lte=value))
        else:
            condition = models.FieldCondition(key=name, match=models.MatchValue(value=value))
        return self._negated(name, [condition]) if negate else models.Filter(must=[condition])

    def _negated(self, name: str, conditions: list[Any]) -> models.Filter:
        null = models.IsEmptyCondition(is_empty=models.PayloadField(key=name))
        return models.Filter(must_not=[*conditions, null])

    def _name(self, part: exp.Expression) -> str:
        if not isinstance(part, exp.Column):
            raise _UntranslatableError(f"Qdrant compares columns with values, found {part.sql()}")
        if part.name not in self._types:
            raise _UntranslatableError(f"no column {part.name!r}; the columns are {', '.join(self._types)}")
        return part.name

    def _value(self, name: str, part: exp.Expression) -> str | int | float | bool:
        """Return a literal as a value of the column's type."""
        kind = self._types[name]
        sign = -1 if isinstance(part, exp.Neg) else 1
        literal = part.this if isinstance(part, exp.Neg) else part
        if kind == "boolean" and isinstance(literal, exp.Boolean):
            return bool(literal.this)
        if kind == "text" and isinstance(literal, exp.Literal) and literal.is_string:
            return str(literal.this)
        if kind in ("integer", "number") and isinstance(literal, exp.Literal) and not literal.is_string:
            number = sign * float(literal.this)
            return int(number) if kind == "integer" and number.is_integer() else number
        raise _UntranslatableError(f"{name} is of type {kind}, compared with {part.sql()}")


def _constant(value: bool) -> models.Filter:
    """Return a filter that selects every row, or none."""
    return models.Filter() if value else models.Filter(must=[models.HasIdCondition(has_id=[])])
