"""docs/headers.md says what the code says: findings with their severities, types, limits."""

import ast
import inspect
import re
import sys
from pathlib import Path

from exr_pipeline.exr import KNOWN_TYPES, MAX_HEADER_BYTES, codec, parse, validate

DOCUMENT = (Path(__file__).parents[2] / "docs" / "headers.md").read_text(encoding="utf-8")


def raised() -> dict[str, set[str]]:
    """Codes of findings, with the severities that stand beside them in the code."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(inspect.getsource(sys.modules[validate.__module__]))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding":
            elements = node.args
        elif isinstance(node, ast.Yield | ast.Return) and isinstance(node.value, ast.Tuple):
            elements = node.value.elts
        else:
            continue
        if isinstance(elements[0], ast.Constant):
            severity = str(getattr(elements[1], "value", None))
            found.setdefault(str(elements[0].value), set()).update({severity} & {"error", "warning"})
    return found


def test_every_finding_is_documented_with_its_severity() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| ([a-z, ]+) \| (.+) \|$", DOCUMENT, re.MULTILINE)
    documented = {code: set(severities.split(", ")) for code, severities, _ in rows}
    found = raised()
    assert list(documented) == sorted(found)
    assert len(found) > 25
    for code, severities in found.items():
        assert documented[code] == severities or (not severities and documented[code]), code


def test_types_and_limits_are_those_of_the_code() -> None:
    types = DOCUMENT.partition("\nTypes: ")[2].partition(";")[0]
    assert re.findall(r"`(\w+)`", types) == sorted(KNOWN_TYPES)
    limits = DOCUMENT.partition("## How much is read")[2].partition("##")[0]
    stated = {int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", limits)}
    limits_of_code = {parse.MAX_PARTS, parse.MAX_ATTRIBUTES, parse.MAX_LIST_ITEMS, codec.MAX_CHANNELS}
    assert limits_of_code | {codec.MAX_NAME_BYTES, MAX_HEADER_BYTES >> 20} <= stated
