"""The documents are true: links lead somewhere, commands and configurations are what the code takes, examples run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from exr_pipeline.cli import app
from exr_pipeline_tests.cli.conftest import Cli, small_exr
from exr_pipeline_tests.docs.generated import GENERATED, REPOSITORY, WHOLE, updated

DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
DECISIONS = sorted((REPOSITORY / "docs" / "decisions").glob("*.md"))
COMMANDS = typer.main.get_group(app).commands


def relative(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def blocks(document: str, language: str) -> list[str]:
    """The fenced blocks of a document in one language."""
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def commands_of(document: Path) -> Iterator[list[str]]:
    """Every complete command line of ours in a document, in code or in a sentence."""
    text = document.read_text(encoding="utf-8")
    for line in re.findall(r"^(?: {4})?exr-pipeline (.*)$", text, re.MULTILINE) + re.findall(
        r"`exr-pipeline (.*?)`", text
    ):
        words = shlex.split(line, comments=True)
        if words and words[0].islower():
            yield words


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if list(commands_of(document))], ids=relative)
def test_command_lines_are_ones_that_the_program_takes(document: Path) -> None:
    for name, *arguments in commands_of(document):
        assert name in COMMANDS, f"{document.name}: {name}"
        # Usage lines and mentions of a command are no calls of it.
        if arguments and not re.search(r"\[|[A-Z]{2}", " ".join(a for a in arguments if " " not in a)):
            COMMANDS[name].make_context(name, arguments)


def test_settings_commands_routes_and_schema_are_documented_as_the_code_has_them() -> None:
    for document in (*GENERATED, *WHOLE):
        text = document.read_text(encoding="utf-8")
        assert updated(document) == text, "run python -m exr_pipeline_tests.docs.generated"
    text = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f"\n### {name}\n" not in text] == []


def test_the_tour_of_the_readme_works_as_written_and_leaves_nothing_that_make_clean_keeps(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone, home = home, home / ".state/tour"
    activate, enter, sample, *tour = blocks("README.md", "sh")[1].splitlines()
    assert activate == ". .venv/bin/activate"
    assert enter == "mkdir -p .state/tour && cd .state/tour"
    assert sample == "exr-pipeline sample renders"
    assert len(tour) == 8
    home.mkdir(parents=True)
    monkeypatch.chdir(home)
    monkeypatch.setenv("DAGSTER_HOME", "")
    # Instead of the sample show, which takes its time, small files where the tour looks for them.
    for line in tour:
        for path in re.findall(r"renders/\S+\.exr", line):
            file = home / path.replace("*", "zip")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(small_exr())
    (home / "renders/library/notes.exr").write_text("this is a text")
    said = {}
    for line in tour:
        program, command, *arguments = shlex.split(line)
        assert program == "exr-pipeline"
        found = [str(p.relative_to(home)) for a in arguments if "*" in a for p in sorted(home.glob(a))]
        ended = cli(command, *(a for a in arguments if "*" not in a), *found)
        assert ended.status == 0, ended
        said[command] = ended.out
    assert said["ingest"].startswith("5 of 5 files: 4 ready, 1 rejected")
    assert "notes.exr" in said["status"]
    assert " zip " in said["sql"]
    assert (home / "noon.jpg").stat().st_size > 0
    assert (home / "sunset.mp4").stat().st_size > 0
    assert {path.name for path in clone.iterdir()} == {"dagster.yaml", ".state"}
    assert {path.name for path in (clone / ".state").iterdir()} == {"tour"}, "the demonstration's tables are others"
    (removed,) = re.findall(r"^clean:.*\n\trm -rf (.*)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert ".state" in removed.split()


def test_the_files_of_the_tour_are_in_the_sample_show() -> None:
    source = (REPOSITORY / "exr_pipeline/sample/library.py").read_text(encoding="utf-8")
    for path in re.findall(r"renders/library/(\S+?)\.exr", blocks("README.md", "sh")[1]):
        name = path.rpartition("/")[2].split(".")[0]
        assert name == "*" or name in source, path


def test_make_targets_of_the_readme_are_there() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"\bmake ([a-z]+)", (REPOSITORY / "README.md").read_text(encoding="utf-8")))
    assert named >= {"demo", "test", "ui", "clean"}
    assert [target for target in named if f"\n{target}: " not in makefile] == []


def test_every_block_of_dagster_yaml_is_explained() -> None:
    keys = re.findall(r"^(\w+):", (REPOSITORY / "dagster.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    text = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")
    explained = {name for line in text.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line)}
    assert set(keys) <= explained


def test_configurations_of_jobs_are_ones_that_dagster_takes() -> None:
    import dagster as dg
    import yaml

    from exr_pipeline.orchestration.jobs import ingest_selection_job
    from exr_pipeline.orchestration.maintenance.archive import archive_job
    from exr_pipeline.orchestration.maintenance.reconcile import reconcile_job
    from exr_pipeline.orchestration.maintenance.retention import retention_job

    jobs = {
        "ingest_selected_files": ingest_selection_job,
        "archive_files": archive_job,
        "purge_history": retention_job,
        "reconcile_sources": reconcile_job,
    }
    configurations = [yaml.safe_load(text) for text in blocks("docs/operations.md", "yaml")]
    assert {op for config in configurations for op in config["ops"]} == set(jobs)
    for config in configurations:
        (op,) = config["ops"]
        assert dg.validate_run_config(jobs[op], config)


@pytest.mark.filterwarnings("ignore:Parameter `(backfill_policy|owners)`")
def test_the_example_of_an_own_asset_is_one_that_dagster_loads() -> None:
    import dagster as dg

    (code,) = (code for code in blocks("docs/operations.md", "python") if "@dg.asset" in code)
    names: dict[str, object] = {"__name__": "example"}
    exec(compile(code, "docs/operations.md", "exec", dont_inherit=True), names)
    defs = names["defs"]
    assert isinstance(defs, dg.Definitions)
    layers = defs.resolve_asset_graph().get(dg.AssetKey("layers"))
    assert layers.parent_keys == {dg.AssetKey("exr_header")}


def test_polars_reads_what_sql_writes_as_the_document_has_it(
    in_ingested: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = blocks("docs/other-engines.md", "python")
    target = tmp_path / "files.parquet"
    assert in_ingested("sql", "--output", str(target), "FROM latest_files").status == 0
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(code, "docs/other-engines.md", "exec", dont_inherit=True), names)
    largest = names["largest"]
    assert {row["format"]: row["files"] for row in largest.to_dicts()} == {None: 1, "exr": 4}  # type: ignore[attr-defined]


@pytest.mark.parametrize("decision", DECISIONS, ids=relative)
def test_a_decision_has_a_number_a_status_and_an_outcome_and_is_listed(decision: Path) -> None:
    text = decision.read_text(encoding="utf-8")
    assert text.startswith(f"# {decision.name[:4]} ")
    assert "\nStatus: " in text
    assert "\n## Outcome\n" in text
    assert f"(decisions/{decision.name})" in (REPOSITORY / "docs" / "index.md").read_text(encoding="utf-8")


def test_every_document_is_listed() -> None:
    index = (REPOSITORY / "docs" / "index.md").read_text(encoding="utf-8")
    others = [path for path in DOCUMENTS[1:] if path.name != "index.md" and path not in DECISIONS]
    assert [path.name for path in others if f"]({path.relative_to(REPOSITORY / 'docs')})" not in index] == []


def test_decisions_that_the_code_refers_to_are_there() -> None:
    for path in [*(REPOSITORY / "exr_pipeline").rglob("*.py"), REPOSITORY / "dagster.yaml"]:
        for name in re.findall(r"docs/[\w/.-]+\.md", path.read_text(encoding="utf-8")):
            assert (REPOSITORY / name).exists(), f"{path.name} refers to {name}"


def test_components_are_those_that_the_project_depends_on() -> None:
    import tomllib

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    text = (REPOSITORY / "docs/decisions/0001-components.md").read_text(encoding="utf-8").lower()
    named = text.replace("pyav", "av")
    extras = project["project"]["optional-dependencies"].values()
    needed = [*project["project"]["dependencies"], *(name for extra in extras for name in extra)]
    for requirement in [*needed, *project["dependency-groups"]["dev"], *project["dependency-groups"]["docs"]]:
        name = re.split(r"[<>=\[]", requirement)[0]
        if name == project["project"]["name"]:
            continue  # An extra that includes another one of its own.
        assert re.search(rf"\b{re.escape(name)}\b", named), name
