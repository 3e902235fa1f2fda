"""The recipes of CONTRIBUTING.md work: each is followed in a copy of the project, and what it promises is there.

Belongs here: following them, in the files that they name. Not here: what the project does without the change.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from exr_pipeline.exr import parse_header
from exr_pipeline.inspection import inspect_bytes, rows
from exr_pipeline.inspection.model import SourceFile
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline.tables import open_table_store
from exr_pipeline_tests.docs.generated import REPOSITORY
from exr_pipeline_tests.docs.test_rooms import unknown
from exr_pipeline_tests.long_tests import takes_long
from exr_pipeline_tests.renders import render

RECIPES = dict(
    re.findall(
        r"^### (.*?)\n(.*?)(?=^### |\Z)",
        (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Recipes")[2],
        re.DOTALL | re.MULTILINE,
    )
)
# Names of Python, SQL and Dagster, and the beginning of a name.
NOT_OURS = {"None", "EXCLUDE", "run_retries", "run_status_sensor", "run_failure_sensor", "EXR_PIPELINE_"}
# The contract but for what takes a store of this kind minutes: thousands of rows, megabytes of text, racing processes.
SLOW = "thousands or length or request or threads or processes or killed"
CONTRACT = ("exr_pipeline_tests/tables/test_contract.py", "-k", f"not ({SLOW})")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Recipe:
    """One recipe, followed in a copy of the project."""

    def __init__(self, title: str, clone: Path) -> None:
        self._text = RECIPES[title]
        self.clone = clone
        clone.mkdir()
        shutil.copy(REPOSITORY / "pyproject.toml", clone)
        for name in ("exr_pipeline", "exr_pipeline_tests", "docs"):
            shutil.copytree(REPOSITORY / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace a text that is in a file once. The recipe names the file."""
        assert path in self._text, f"the recipe does not name {path}"
        text = (self.clone / path).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{path}: {old!r}"
        (self.clone / path).write_text(text.replace(old, new), encoding="utf-8")

    def add(self, path: str, text: str) -> None:
        """Write a new module. The recipe names its folder."""
        assert path.rpartition("/")[0] in self._text
        (self.clone / path).write_text(text, encoding="utf-8")

    def run(self, *arguments: str, status: int = 0, **environment: str) -> str:
        """What Python prints with the copy in place of the project."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("EXR_PIPELINE_")}
        ended = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.clone,
            env={**inherited, "PYTHONPATH": str(self.clone), **environment},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert ended.returncode == status, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    def command(self, *arguments: str, status: int = 0, **environment: str) -> str:
        """What a command of the copy prints."""
        return self.run("-m", "exr_pipeline.cli", *arguments, status=status, **environment)


@pytest.fixture
def follow(tmp_path: Path) -> Callable[[str], Recipe]:
    return lambda title: Recipe(title, tmp_path / "clone")


@pytest.mark.parametrize("title", RECIPES)
def test_files_and_names_of_a_recipe_exist(title: str) -> None:
    text = RECIPES[title]
    assert len(re.findall(r"`exr_pipeline/[^`]*`", text)) > 1
    assert [name for name in unknown(text) if name not in NOT_OURS] == []


@takes_long
def test_a_column_that_is_added_is_filled_in_new_rows_and_null_in_those_that_were_there(
    follow: Callable[[str], Recipe], tmp_path: Path
) -> None:
    settings = Settings(_env_file=None, database=tmp_path / "tables.duckdb")
    data = render()
    source = SourceFile(Location.from_url("file:///old.exr"), len(data), NOW, "1")
    open_table_store(settings).write(rows([inspect_bytes(data, source)], inspected_at=NOW), now=NOW)

    recipe = follow("Add a column")
    last = 'Column("time_code", "string", "timeCode as hh:mm:ss:ff; for DPX, time_code"),\n            _BUCKET,\n'
    added = f'{last}            Column("megapixels", "float64", "Pixels of the data window, in millions"),\n'
    recipe.edit("exr_pipeline/tables/specs.py", last, added)
    recipe.edit(
        "exr_pipeline/inspection/json.py",
        '"time_code": part.time_code,\n    }',
        '"time_code": part.time_code,\n        "megapixels": data.width * data.height / 1e6,\n    }',
    )
    (tmp_path / "new.exr").write_bytes(render(size=(1000, 500)))
    recipe.run(
        "-c",
        "import sys\n"
        "from datetime import UTC, datetime\n"
        "from pathlib import Path\n"
        "from exr_pipeline.inspection import inspect_bytes, rows\n"
        "from exr_pipeline.inspection.model import SourceFile\n"
        "from exr_pipeline.settings import Settings\n"
        "from exr_pipeline.storage.locations import Location\n"
        "from exr_pipeline.tables import open_table_store\n"
        "now, data = datetime.now(UTC), Path(sys.argv[2]).read_bytes()\n"
        "source = SourceFile(Location.from_url('file:///new.exr'), len(data), now, '1')\n"
        "store = open_table_store(Settings(_env_file=None, database=sys.argv[1]))\n"
        "store.write(rows([inspect_bytes(data, source)], inspected_at=now), now=now)\n",
        str(settings.database_path),
        str(tmp_path / "new.exr"),
    )
    query = "SELECT file_path, megapixels FROM parts ORDER BY file_path"
    found = json.loads(recipe.command("sql", "--json", query, EXR_PIPELINE_DATABASE=str(settings.database_path)))
    assert found == [
        {"file_path": "/new.exr", "megapixels": 0.5},
        {"file_path": "/old.exr", "megapixels": None},
    ]
    assert json.loads(recipe.command("inspect", "--json", str(tmp_path / "new.exr")))["parts"][0]["megapixels"] == 0.5
    recipe.run("-m", "exr_pipeline_tests.tables.document")
    assert "| `megapixels` |" in (recipe.clone / "docs/tables.md").read_text(encoding="utf-8")


@takes_long
def test_a_preset_that_is_added_makes_movies(follow: Callable[[str], Recipe], tmp_path: Path) -> None:
    import av

    recipe = follow("Add a movie preset")
    recipe.edit(
        "exr_pipeline/sequence_movies/presets.yaml",
        "\nh265:\n",
        "\nsmall:\n  description: H.264 for telephones\n  codec: libx264\n  container: mp4\n  pixel_format: yuv420p\n"
        "  size: 320x180\n  quality: {crf: 30, preset: veryfast}\n  options: {g: 24, flags: +cgop}\n\nh265:\n",
    )
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(1001, 1005):
        (frames / f"a.{number}.exr").write_bytes(render(size=(640, 360)))
    recipe.command("movie", str(frames), str(tmp_path / "out.mp4"), "--preset", "small")
    with av.open(str(tmp_path / "out.mp4")) as movie:
        stream = movie.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 320, 180)
        assert sum(1 for _ in movie.decode(stream)) == 4


@takes_long
def test_a_spelling_of_a_color_space_that_is_added_is_understood(
    follow: Callable[[str], Recipe], tmp_path: Path
) -> None:
    file = tmp_path / "a.exr"
    file.write_bytes(render(color_space="house_log"))
    assert parse_header(file.read_bytes()).parts[0].value("colorInteropID") == "house_log"
    recipe = follow("Add a color rule")
    script = (
        "import sys\n"
        "from exr_pipeline.pictures.picture_settings import PictureSettings\n"
        "from exr_pipeline.pictures.render import render_picture\n"
        "from exr_pipeline.settings import Settings\n"
        "settings = PictureSettings.from_settings(Settings(_env_file=None))\n"
        "made = render_picture(sys.argv[1], sys.argv[1], thumbnail=True, proxy=False, settings=settings)\n"
        "print(made.provenance.source_color_space, made.provenance.color_rule, sep=' by ')\n"
    )
    assert "by default" in recipe.run("-c", script, str(file))
    recipe.edit(
        "exr_pipeline/color/source_space.py",
        '    "logc4": ("ARRI LogC4",),\n',
        '    "logc4": ("ARRI LogC4",),\n    "house_log": ("ARRI LogC4",),\n',
    )
    assert recipe.run("-c", script, str(file)).strip().endswith("ARRI LogC4 by colorInteropID")


@takes_long
def test_a_command_that_is_added_is_a_module_and_one_line(follow: Callable[[str], Recipe], tmp_path: Path) -> None:
    recipe = follow("Add a command")
    assert "No such command" in recipe.command("frame-count", "x", status=2)
    recipe.add(
        "exr_pipeline/cli/frame_count.py",
        '"""The command `frame-count`: how many files a folder holds.\n\nBelongs here: arguments and output."""\n\n'
        "from pathlib import Path\n"
        "from typing import Annotated\n\n"
        "import typer\n\n"
        "from exr_pipeline.cli.console import stdout\n\n\n"
        'def frame_count(folder: Annotated[Path, typer.Argument(help="The folder.")]) -> None:\n'
        '    """Count the files of a folder."""\n'
        "    stdout.print(len(list(folder.iterdir())))\n",
    )
    recipe.edit(
        "exr_pipeline/cli/commands.py",
        '"Back up": {"backup": "backup"},',
        '"Back up": {"backup": "backup", "frame-count": "frame_count"},',
    )
    for name in ("a.exr", "b.exr"):
        (tmp_path / name).write_bytes(b"")
    assert recipe.command("frame-count", str(tmp_path)) == "3\n"
    assert re.search(r"^ +frame-count +Count the files of a folder", recipe.command("--help"), re.MULTILINE)
    recipe.run("-m", "exr_pipeline_tests.docs.generated")
    assert "\n### frame-count\n\n    exr-pipeline frame-count FOLDER\n" in (recipe.clone / "docs/cli.md").read_text()


@takes_long
def test_a_setting_that_is_added_is_read_shown_and_documented(follow: Callable[[str], Recipe]) -> None:
    recipe = follow("Add a setting")
    before = recipe.command("settings", "--changed", EXR_PIPELINE_HOUSE="Mill Street")
    assert "EXR_PIPELINE_HOUSE is not a setting" in before
    recipe.edit(
        "exr_pipeline/settings.py",
        "    # Movies of sequences\n",
        '    house: str = Field("", max_length=20, description="Name of the house.")\n\n    # Movies of sequences\n',
    )
    shown = recipe.command("settings", "--changed", "--json", EXR_PIPELINE_HOUSE="Mill Street")
    assert json.loads(shown) == [{"setting": "EXR_PIPELINE_HOUSE", "value": "Mill Street", "from": "environment"}]
    wrong = recipe.command("settings", status=1, EXR_PIPELINE_HOUSE="x" * 21)
    assert "EXR_PIPELINE_HOUSE" in wrong
    assert "Traceback" not in wrong
    recipe.run("-m", "exr_pipeline_tests.docs.generated")
    text = (recipe.clone / "docs/settings.md").read_text(encoding="utf-8")
    assert "| `EXR_PIPELINE_HOUSE` |  | Name of the house. |" in text


@takes_long
def test_a_table_store_that_is_added_keeps_the_contract(follow: Callable[[str], Recipe]) -> None:
    recipe = follow("Add a table store")
    store = (REPOSITORY / "exr_pipeline_tests/docs/one_file_store.py").read_text(encoding="utf-8")
    recipe.add("exr_pipeline/tables/stores/one_file.py", store)
    recipe.edit(
        "exr_pipeline/settings.py",
        "    # Movies of sequences\n",
        '    tables_file: Path | None = Field(None, description="File of the tables.")\n\n    # Movies of sequences\n',
    )
    recipe.edit(
        "exr_pipeline/tables/store.py",
        "    if settings.vast_db_bucket is None:\n        from",
        "    if settings.tables_file is not None:\n"
        "        from exr_pipeline.tables.stores.one_file import OneFileStore\n\n"
        "        return OneFileStore(settings.tables_file)\n"
        "    if settings.vast_db_bucket is None:\n        from",
    )
    conftest = "exr_pipeline_tests/tables/conftest.py"
    recipe.edit(conftest, 'params=["duckdb", "vast"]', 'params=["one_file"]')
    recipe.edit(conftest, '{"duckdb": "duckdb_file", "vast": "vast"}[request.param]', "request.param")
    recipe.edit(
        conftest,
        '@pytest.fixture(params=["one_file"])',
        "@pytest.fixture\n"
        "def one_file(tmp_path: Path) -> StoreUnderTest:\n"
        '    return StoreUnderTest("one_file", {"tables_file": tmp_path / "tables.pickle"})\n\n\n'
        '@pytest.fixture(params=["one_file"])',
    )
    said = recipe.run("-m", "pytest", "-q", "-p", "no:cacheprovider", *CONTRACT)
    assert int(re.findall(r"(\d+) passed", said)[0]) > 20
    assert "skipped" not in said


@takes_long
def test_a_key_of_picture_rules_that_is_added_changes_pictures(follow: Callable[[str], Recipe], tmp_path: Path) -> None:
    for folder in ("bright", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.exr").write_bytes(render())
    rules = tmp_path / "rules.yaml"
    rules.write_text(f"rules:\n  - prefix: {tmp_path}/bright/\n    stops: -20\n", encoding="utf-8")
    recipe = follow("Add a color rule")
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "import simplejpeg\n"
        "from exr_pipeline.pictures.picture_settings import PictureSettings\n"
        "from exr_pipeline.pictures.render import render_picture\n"
        "from exr_pipeline.settings import Settings\n"
        "settings = PictureSettings.from_settings(Settings(_env_file=None))\n"
        "for path in sys.argv[1:]:\n"
        "    name = Path(path).as_uri()\n"
        "    made = render_picture(path, name, thumbnail=True, proxy=False, settings=settings)\n"
        "    print(simplejpeg.decode_jpeg(made.thumbnail.data).max())\n"
    )
    files = [str(tmp_path / folder / "a.exr") for folder in ("bright", "other")]
    assert "has unknown keys: stops" in recipe.run(
        "-c", script, *files, status=1, EXR_PIPELINE_PICTURE_RULES=str(rules)
    )
    recipe.edit(
        "exr_pipeline/color/picture_rules.py",
        "    exact: bool | None = None\n",
        "    exact: bool | None = None\n    stops: float = 0.0\n",
    )
    recipe.edit(
        "exr_pipeline/color/picture_rules.py",
        "            layer=self.layer or other.layer,\n",
        "            layer=self.layer or other.layer,\n            stops=self.stops or other.stops,\n",
    )
    recipe.edit(
        "exr_pipeline/color/picture_rules.py",
        "return PictureRule(**texts, ",
        'return PictureRule(**texts, stops=float(entry.get("stops", 0)), ',
    )
    recipe.edit(
        "exr_pipeline/pictures/shown.py",
        "        transform = self.config.display_transform(view)\n",
        "        pixels = pixels * np.float32(2.0**self._rule.stops)\n"
        "        transform = self.config.display_transform(view)\n",
    )
    printed = recipe.run("-c", script, *files, EXR_PIPELINE_PICTURE_RULES=str(rules))
    darkened, other = (int(line) for line in printed.splitlines())
    assert darkened < 10
    assert other > 50


class Unavailable(BaseHTTPRequestHandler):
    """A bucket with one object that it lists and cannot give."""

    asked = 0

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if "list-type" in url.query:
            self.answer(
                200,
                '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>renders</Name><Prefix/>'
                "<KeyCount>1</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated><Contents><Key>a.exr"
                "</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;1&quot;</ETag><Size>999</Size>"
                "<StorageClass>STANDARD</StorageClass></Contents></ListBucketResult>",
            )
        else:
            type(self).asked += url.path.endswith("a.exr")
            self.answer(503, "<Error><Code>ServiceUnavailable</Code></Error>")

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class has it
        """Nothing."""


@takes_long
def test_a_retry_policy_that_is_changed_is_followed(follow: Callable[[str], Recipe], tmp_path: Path) -> None:
    recipe = follow("Change the retry policy")
    policy = "exr_pipeline/retries.py"
    recipe.edit(policy, "    attempts: int = 4\n", "    attempts: int = 2\n")
    recipe.edit(policy, "    first_pause_seconds: float = 1.0\n", "    first_pause_seconds: float = 0.25\n")
    recipe.edit(policy, "    step_attempts: int = 3\n", "    step_attempts: int = 1\n")
    with ThreadingHTTPServer(("127.0.0.1", 0), Unavailable) as server, ThreadPoolExecutor(1) as threads:
        threads.submit(server.serve_forever)
        try:
            said = recipe.command(
                "ingest",
                "s3://renders",
                "--only",
                "header",
                "--json",
                status=1,
                S3_ENDPOINT=f"http://127.0.0.1:{server.server_port}",
                S3_ACCESS_KEY="key",
                S3_SECRET_KEY="secret",
                EXR_PIPELINE_REQUEST_RETRIES="2",
                EXR_PIPELINE_STATE_DIR=str(tmp_path / "state"),
            )
        finally:
            server.shutdown()
    assert '"retryable"' in said
    assert Unavailable.asked == 2 * (1 + 2), "two attempts, each a request that is repeated twice"
