"""Conditions on attributes as people write them: `compression = 'dwaa' and nan_pixels > 0`.

Belongs here: the language, its limits, and what it means in SQL. Not here: which attributes there are (`attributes`).

What is parsed is rebuilt from a few kinds of nodes and bound values: nothing that was written reaches the database as
SQL. A comparison is true or false: of what an asset does not have it is false, and `not` turns it around.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Set
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from exr_pipeline.catalog.attributes import LONGEST_TEXT
from exr_pipeline.catalog.models import Asset, AssetAttribute, UtcTime
from exr_pipeline.errors import BadInputError

if TYPE_CHECKING:
    from sqlglot import exp

LONGEST: Final = 2000
MOST_COMPARISONS: Final = 50
MOST_IN_LIST: Final = 200
DEEPEST: Final = 20
_NAMED: Final = 20
_SHAPE: Final = "write comparisons such as compression = 'dwaa' and nan_pixels > 0"

# Of every asset. A moment is compared with a text such as 2026-04-02 or 2026-04-02T12:00:00Z.
COLUMNS: Final[Mapping[str, sa.SQLColumnExpression[Any]]] = {
    name: getattr(Asset, name)
    for name in ("kind", "folder", "name", "status", "reason", "created_by", "created_at", "updated_at", "version")
}
_TEXTS: Final = frozenset({"kind", "folder", "name", "status", "reason", "created_by"})
_MOMENTS: Final = frozenset({"created_at", "updated_at"})

# The condition of assets that have an attribute whose row fits another condition.
HasAttribute = Callable[[sa.ColumnElement[bool]], sa.ColumnElement[bool]]
Condition = sa.ColumnElement[bool]


def condition(text: str, known: Mapping[str, Set[bool]], has_attribute: HasAttribute, *, is_sqlite: bool) -> Condition:
    """What a text means. `known`: by name, whether an attribute is a number, a text, or either.

    Raises `BadInputError` for what cannot be understood, with what can be written instead.
    """
    try:
        return _Meaning(known, has_attribute, is_sqlite=is_sqlite).of(_parse(text))
    except RecursionError:
        raise _bad(f"it is nested deeper than {DEEPEST}") from None


def _parse(text: str) -> exp.Expression:
    import sqlglot
    from sqlglot.errors import SqlglotError

    if len(text) > LONGEST:
        raise _bad(f"it is longer than {LONGEST} characters")
    if text.count("(") > DEEPEST:
        raise _bad(f"it has more than {DEEPEST} brackets")
    try:
        (parsed,) = sqlglot.parse(text)
    except (SqlglotError, ValueError):
        raise _bad(f"it cannot be understood: {_SHAPE}") from None
    if parsed is None:
        raise _bad(f"it is empty: {_SHAPE}")
    return parsed


class _Meaning:
    def __init__(self, known: Mapping[str, Set[bool]], has_attribute: HasAttribute, *, is_sqlite: bool) -> None:
        self._known, self._has, self._is_sqlite = known, has_attribute, is_sqlite
        self._comparisons = 0

    def of(self, node: exp.Expression, depth: int = 0) -> Condition:
        from sqlglot import exp

        if depth > DEEPEST:
            raise _bad(f"it is nested deeper than {DEEPEST}")
        if isinstance(node, exp.Paren):
            return self.of(node.this, depth + 1)
        if isinstance(node, exp.Not):
            return sa.not_(self.of(node.this, depth + 1))
        if isinstance(node, exp.And | exp.Or):
            join = sa.and_ if isinstance(node, exp.And) else sa.or_
            # A long chain is parsed as nested to the left, which is no depth that anybody wrote.
            first: exp.Expression = node
            steps: list[exp.Expression] = []
            while type(first) is type(node):
                steps.append(first.expression)
                first = first.this
            return join(*(self.of(each, depth + 1) for each in (first, *reversed(steps))))
        self._comparisons += 1
        if self._comparisons > MOST_COMPARISONS:
            raise _bad(f"it has more than {MOST_COMPARISONS} comparisons")
        return self._comparison(node)

    def _comparison(self, node: exp.Expression) -> Condition:
        from sqlglot import exp

        orders: dict[type[exp.Expression], Callable[..., Condition]] = {
            exp.EQ: sa.ColumnElement.__eq__,
            exp.NEQ: sa.ColumnElement.__ne__,
            exp.GT: sa.ColumnElement.__gt__,
            exp.GTE: sa.ColumnElement.__ge__,
            exp.LT: sa.ColumnElement.__lt__,
            exp.LTE: sa.ColumnElement.__le__,
        }
        if compare := orders.get(type(node)):
            return self._fits(node.this, lambda column, value: compare(column, value), node.expression)
        if isinstance(node, exp.Between):
            low, high = node.args["low"], node.args["high"]
            return self._fits(node.this, lambda column, lowest, highest: column.between(lowest, highest), low, high)
        if isinstance(node, exp.In) and node.expressions and not node.args.get("query"):
            if len(node.expressions) > MOST_IN_LIST:
                raise _bad(f"a list has more than {MOST_IN_LIST} values")
            return self._fits(node.this, lambda column, *values: column.in_(values), *node.expressions)
        if isinstance(node, exp.Like):
            return self._fits(node.this, self._like, node.expression)
        if isinstance(node, exp.Is) and isinstance(node.expression, exp.Null):
            return sa.not_(self._is_there(_name(node.this)))
        raise _bad(f"{node.sql()[:60]!r} is no comparison of an attribute with a value: {_SHAPE}")

    def _fits(self, node: exp.Expression, test: Callable[..., Condition], *values: exp.Expression) -> Condition:
        name = _name(node)
        wanted = [_value(each) for each in values]
        is_text = isinstance(wanted[0], str)
        if any(isinstance(each, str) != is_text for each in wanted):
            raise _bad(f"{name!r} is compared with texts and numbers at once")
        if test == self._like and not is_text:
            raise _bad(f"{name!r} is like a number: write a text in quotes after like")
        if name in COLUMNS:
            return self._column_fits(name, test, wanted)
        types = self._types(name)
        if (not is_text) not in types:
            other = "number: write the value without quotes" if is_text else "text: write the value in quotes"
            raise _bad(f"{name!r} is a {other}")
        column = AssetAttribute.text if is_text else AssetAttribute.number
        cut = [each[:LONGEST_TEXT] if isinstance(each, str) else each for each in wanted]
        return self._has(sa.and_(AssetAttribute.name == name, column.is_not(None), test(column, *cut)))

    def _column_fits(self, name: str, test: Callable[..., Condition], wanted: list[str | float]) -> Condition:
        column = COLUMNS[name]
        is_text = isinstance(wanted[0], str)
        if is_text != (name in _TEXTS or name in _MOMENTS):
            raise _bad(f"{name!r} is a {'number: write it without quotes' if is_text else 'text: write it in quotes'}")
        if name in _MOMENTS:
            if test == self._like:
                raise _bad(f"{name!r} is a moment: compare it with =, <, > or between")
            found = test(column, *(sa.literal(_moment(name, str(each)), UtcTime()) for each in wanted))
        else:
            plain = column if self._is_sqlite or name not in _TEXTS else sa.collate(column, "C")
            found = test(plain, *wanted)
        return sa.and_(column.is_not(None), found)

    def _is_there(self, name: str) -> Condition:
        if name in COLUMNS:
            return COLUMNS[name].is_not(None)
        self._types(name)
        return self._has(AssetAttribute.name == name)

    def _types(self, name: str) -> Set[bool]:
        if types := self._known.get(name):
            return types
        there = sorted({*COLUMNS, *self._known})
        near = difflib.get_close_matches(name, there, _NAMED) or there[:_NAMED]
        more = "" if len(there) <= len(near) else ", and more: GET /v1/attributes lists all"
        raise _bad(f"no asset has an attribute {name[:100]!r}; there are {', '.join(near)}{more}")

    def _like(self, column: sa.ColumnElement[str], pattern: str) -> Condition:
        """% is any text, _ any character, and case counts, in both databases."""
        if not self._is_sqlite:
            return column.like(pattern, escape="")
        glob = "".join({"%": "*", "_": "?"}.get(each, f"[{each}]" if each in "*?[" else each) for each in pattern)
        return column.op("GLOB")(glob)


def _name(node: exp.Expression) -> str:
    """The name of an attribute; one with dots is parsed as that of a table's column."""
    from sqlglot import exp

    if isinstance(node, exp.Dot):
        return f"{_name(node.this)}.{node.expression.name}"
    if not isinstance(node, exp.Column) or isinstance(node.this, exp.Star):
        raise _bad(f"{node.sql()[:60]!r} is no name of an attribute: write one with signs in it in double quotes")
    name = ".".join(part.name for part in node.parts)
    if "\x00" in name:
        raise _bad("a name has a null character")
    return name


def _value(node: exp.Expression) -> str | float:
    from sqlglot import exp

    if isinstance(node, exp.Boolean):
        return float(node.this)
    if isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal) and not node.this.is_string:
        return -float(node.this.this)
    if isinstance(node, exp.Literal):
        if not node.is_string:
            return float(node.this)
        if "\x00" not in node.this:
            return str(node.this)
    raise _bad(f"{node.sql()[:60]!r} is no value: write a number, true, false, or a text in single quotes")


def _moment(name: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _bad(f"{name!r} is a moment: write it such as '2026-04-02' or '2026-04-02T12:00:00Z'") from None


def _bad(reason: str) -> BadInputError:
    return BadInputError("where", reason)
