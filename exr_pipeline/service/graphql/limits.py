"""What a query may be: how deep, how many aliases, and which texts.

Belongs here: those limits, as a rule of validation. Not here: how much a query may read (`context`).

Fragments are measured once each: measured anew at each use, forty of them that use the next one twice take forever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    OperationDefinitionNode,
    StringValueNode,
    ValidationRule,
)

if TYPE_CHECKING:
    from graphql import Node, SelectionSetNode, ValidationContext

# Looking for fields that contradict each other takes the square of it: about a second.
MOST_TOKENS: Final = 1_000
MOST_DEPTH: Final = 8
MOST_ALIASES: Final = 30
# It leads from a list to what is in it: introspection has many, one below the other, and they cost nothing.
_FREE: Final = "ofType"


class Limits(ValidationRule):
    """Reports operations that are too deep or have too many aliases, and texts that databases do not keep."""

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self._measured: dict[str, tuple[int, int]] = {}

    def enter_operation_definition(self, node: OperationDefinitionNode, *_: Any) -> None:
        """Measure an operation."""
        depth, aliases = self._measure(node.selection_set)
        if depth > MOST_DEPTH:
            self.report_error(GraphQLError(f"The query is deeper than {MOST_DEPTH} fields.", node))
        if aliases > MOST_ALIASES:
            self.report_error(GraphQLError(f"The query has more than {MOST_ALIASES} aliases.", node))

    def enter_string_value(self, node: StringValueNode, *_: Any) -> None:
        """Look at a text of the query itself; those of variables are looked at before."""
        if "\x00" in node.value:
            self.report_error(GraphQLError("A text has a null character.", node))

    def _measure(self, selected: SelectionSetNode | None) -> tuple[int, int]:
        """Fields below each other, and aliases."""
        depth = aliases = 0
        for node in selected.selections if selected is not None else ():
            below, more = self._measure_one(node)
            depth, aliases = max(depth, below), aliases + more
        return depth, aliases

    def _measure_one(self, node: Node) -> tuple[int, int]:
        if isinstance(node, FragmentSpreadNode):
            return self._measure_fragment(node.name.value)
        depth, aliases = self._measure(getattr(node, "selection_set", None))
        if isinstance(node, FieldNode):
            depth += node.selection_set is not None and node.name.value != _FREE
            aliases += node.alias is not None
        return depth, aliases

    def _measure_fragment(self, name: str) -> tuple[int, int]:
        if name not in self._measured:
            # One that leads back to itself is another rule's error.
            self._measured[name] = (0, 0)
            fragment: FragmentDefinitionNode | None = self.context.get_fragment(name)
            if fragment is not None:
                self._measured[name] = self._measure(fragment.selection_set)
        return self._measured[name]
