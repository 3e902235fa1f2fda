"""Known vulnerabilities of what is pinned in requirements/, from the committed list requirements/advisories.yaml.

Belongs here: reading, checking and renewing that list. `make advisories DATABASE=…` renews it from a clone of the PyPA
advisory database (https://github.com/pypa/advisory-database, CC-BY-4.0). The list is committed because neither that
database's web service nor its copy in the package index can be reached from CI.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from packaging.utils import canonicalize_name
from packaging.version import Version

REQUIREMENTS = Path(__file__).parents[1] / "requirements"
LIST = REQUIREMENTS / "advisories.yaml"
_HEADER = """\
# Known vulnerabilities of packages that requirements/*.txt pin, in any of their versions. A test fails if a pinned
# version is affected. From the PyPA advisory database (https://github.com/pypa/advisory-database, CC-BY-4.0) as of
# `date`, written by `make advisories DATABASE=a clone of it`. Only `accepted` is written by hand: an advisory's id and
# why it does no harm here.
"""
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)


@dataclass(frozen=True)
class Pin:
    """A package at the one version that a file of requirements names."""

    package: str
    version: Version
    file: str


def pins(folder: Path = REQUIREMENTS) -> list[Pin]:
    """Every pinned package of every file of requirements."""
    return [
        Pin(canonicalize_name(name), Version(version), path.name)
        for path in sorted(folder.glob("*.txt"))
        for name, version in _PIN.findall(path.read_text(encoding="utf-8"))
    ]


def load() -> dict[str, Any]:
    """The committed list: `date`, `accepted` and `advisories` by package."""
    loaded: dict[str, Any] = yaml.safe_load(LIST.read_text(encoding="utf-8"))
    return loaded


def affected(pinned: Iterable[Pin], known: dict[str, Any]) -> Iterator[str]:
    """A sentence for each pinned version that an advisory names and nobody has accepted."""
    for pin in pinned:
        for advisory in known["advisories"].get(pin.package, ()):
            if advisory["id"] not in known["accepted"] and _concerns(advisory, pin.version):
                fixed = f"fixed in {advisory['fixed']}" if advisory["fixed"] else "not fixed in any version"
                names = ", ".join((advisory["id"], *advisory["aliases"]))
                yield f"{pin.file}: {pin.package} {pin.version} is affected by {names}, {fixed}"


def _concerns(advisory: dict[str, Any], version: Version) -> bool:
    return str(version) in advisory["versions"] or any(
        Version(start) <= version and (end is None or version < Version(end)) for start, end in advisory["ranges"]
    )


def read_database(database: Path, packages: Iterable[str]) -> dict[str, Any]:
    """The list, without `accepted`, of what a clone of the database says about some packages.

    The database is read from Git, at HEAD; `date` is that of HEAD.
    """
    wanted = set(packages)
    folders = _git(database, "ls-tree", "--name-only", "HEAD:vulns").split()
    names: dict[str, str] = {canonicalize_name(folder): folder for folder in folders}
    found: dict[str, list[dict[str, Any]]] = {}
    for package in sorted(wanted & names.keys()):
        paths = _git(database, "ls-tree", "--name-only", f"HEAD:vulns/{names[package]}").split()
        read = [yaml.safe_load(_git(database, "show", f"HEAD:vulns/{names[package]}/{path}")) for path in paths]
        found[package] = [_entry(advisory, package) for advisory in read if "withdrawn" not in advisory]
    return {"date": _git(database, "log", "-1", "--format=%cs", "HEAD").strip(), "advisories": found}


def _entry(advisory: dict[str, Any], package: str) -> dict[str, Any]:
    ranges: list[list[str | None]] = []
    versions: list[str] = []
    for one in advisory["affected"]:
        if canonicalize_name(one["package"]["name"]) != package:
            continue
        stated = [_intervals(r["events"]) for r in one.get("ranges", ()) if r["type"] == "ECOSYSTEM"]
        ranges += [interval for intervals in stated for interval in intervals]
        # Where versions are ordered, their list only repeats the ranges as they were when it was written.
        versions += [] if stated else [str(version) for version in one.get("versions", ())]
    fixed = sorted((end for _, end in ranges if end), key=Version)
    return {
        "id": advisory["id"],
        "aliases": sorted(advisory.get("aliases", ())),
        "ranges": ranges,
        "versions": versions,
        "fixed": fixed[-1] if fixed else None,
    }


def _intervals(events: list[dict[str, str]]) -> Iterator[list[str | None]]:
    start: str | None = None
    for event in events:
        if "introduced" in event:
            start = event["introduced"]
        elif start is not None and "fixed" in event:
            yield [start, event["fixed"]]
            start = None
        elif start is not None and "last_affected" in event:
            # The next version, whatever it is called: local versions and post-releases come between.
            yield [start, f"{event['last_affected']}.post999999"]
            start = None
    if start is not None:
        yield [start, None]


def _git(database: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", database, *arguments], capture_output=True, text=True, check=True).stdout


def main(database: Path) -> None:
    """Write the list anew, keeping what was accepted."""
    accepted = load()["accepted"] if LIST.exists() else {}
    fresh = read_database(database, {pin.package for pin in pins()})
    body = {"date": fresh["date"], "accepted": accepted, "advisories": fresh["advisories"]}
    LIST.write_text(_HEADER + yaml.safe_dump(body, sort_keys=False, width=120, default_flow_style=None))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
