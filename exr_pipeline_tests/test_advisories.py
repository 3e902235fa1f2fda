"""No pinned dependency has a known vulnerability, as far as the committed list knows."""

from __future__ import annotations

import re
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.version import Version

from exr_pipeline_tests.advisories import REQUIREMENTS, Pin, affected, load, pins, read_database


def test_no_pinned_version_has_a_known_vulnerability() -> None:
    known = load()
    found = list(affected(pins(), known))
    assert found == [], f"as of {known['date']}, see requirements/advisories.yaml"


def test_every_requirement_is_looked_at() -> None:
    names = {path.name for path in REQUIREMENTS.glob("*.txt")}
    assert {"runtime.txt", "dev.txt", "distributed.txt", "installer.txt"} <= names
    for name in names:
        lines = re.findall(r"^[^\s#-]", (REQUIREMENTS / name).read_text(encoding="utf-8"), re.MULTILINE)
        assert len(lines) == sum(pin.file == name for pin in pins()) > 0, name


def test_the_list_has_a_date_and_says_why_something_is_accepted() -> None:
    known = load()
    assert date.fromisoformat(known["date"]) <= date.today()
    advisories = {advisory["id"] for found in known["advisories"].values() for advisory in found}
    assert len(advisories) > 100
    assert set(known["accepted"]) <= advisories
    assert all(str(reason).strip() for reason in known["accepted"].values())


def test_an_affected_version_is_named_with_the_version_that_mends_it() -> None:
    known = load()
    old = Pin("pillow", Version("9.5.0"), "runtime.txt")
    found = [text for text in affected([old], known) if "CVE-2023-44271" in text]
    assert found == ["runtime.txt: pillow 9.5.0 is affected by PYSEC-2023-227, CVE-2023-44271, fixed in 10.0.0"]
    accepted = known | {"accepted": {"PYSEC-2023-227": "no text is drawn that long"}}
    assert not any("CVE-2023-44271" in text for text in affected([old], accepted))


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A small clone of the database."""

    def advisory(number: int, *ranges: dict[str, Any], versions: tuple[str, ...] = (), **more: str) -> dict[str, Any]:
        package = {"ecosystem": "PyPI", "name": "Foo_Bar"}
        return {
            "id": f"PYSEC-2024-{number}",
            "affected": [{"package": package, "ranges": list(ranges), "versions": list(versions)}],
            **more,
        }

    def ordered(*events: dict[str, str]) -> dict[str, Any]:
        return {"type": "ECOSYSTEM", "events": list(events)}

    folder = tmp_path / "database/vulns/foo-bar"
    folder.mkdir(parents=True)
    git = {"type": "GIT", "repo": "https://example.com", "events": [{"introduced": "0"}, {"fixed": "abc"}]}
    for made in (
        advisory(1, git, ordered({"introduced": "0"}, {"fixed": "1.10"}, {"introduced": "2.0"}, {"fixed": "2.1"})),
        advisory(2, ordered({"introduced": "3.0"}, {"last_affected": "3.2"})),
        advisory(3, ordered({"introduced": "5.0"})),
        advisory(4, git, versions=("4.0", "4.0.1")),
        advisory(5, ordered({"introduced": "0"}), withdrawn="2024-01-02T00:00:00Z"),
    ):
        (folder / f"{made['id']}.yaml").write_text(yaml.safe_dump(made))
    repository = tmp_path / "database"
    who = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "x", "--date=2024-03-04T12:00:00Z"]):
        subprocess.run(
            ["git", *command],
            cwd=repository,
            env={"PATH": "/usr/bin:/bin", "GIT_COMMITTER_DATE": "2024-03-04T12:00:00Z"},
            check=True,
        )
    return repository


def test_the_list_is_made_of_what_the_database_says_of_pinned_packages(database: Path) -> None:
    known = read_database(database, ["foo-bar", "unheard-of"]) | {"accepted": {}}
    assert known["date"] == "2024-03-04"

    def numbers(version: str) -> list[str]:
        said = affected([Pin("foo-bar", Version(version), "x.txt")], known)
        return [re.findall(r"PYSEC-2024-(\d)", text)[0] for text in said]

    found = {version: numbers(version) for version in ("1.9", "1.10", "2.0.5", "2.1", "3.2", "3.3", "4.0.1", "5.0")}
    assert found == {
        "1.9": ["1"],
        "1.10": [],
        "2.0.5": ["1"],
        "2.1": [],
        "3.2": ["2"],
        "3.3": [],
        "4.0.1": ["4"],
        "5.0": ["3"],
    }
    assert list(affected([Pin("foo-bar", Version("6"), "x.txt")], known)) == [
        "x.txt: foo-bar 6 is affected by PYSEC-2024-3, not fixed in any version"
    ]
