"""The registry of file kinds: it alone knows them, and one more row is all that a new one needs."""

import ast
import json
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from exr_pipeline.cineon import MAGICS as CINEON_MAGICS
from exr_pipeline.dpx import MAGICS as DPX_MAGICS
from exr_pipeline.exr import MAGIC
from exr_pipeline.formats import FORMATS, KINDS, FileFormat, described_kinds, format_of_bytes, format_of_name, labels
from exr_pipeline_tests.cli.conftest import bare_environment, make_home
from exr_pipeline_tests.long_tests import takes_long

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "exr_pipeline"

# What is written, not what is read: names of stills, movies and sounds that we make, and of the sample show.
WRITES = {
    "cli/picture_options.py",
    "cli/files.py",
    "pictures/still.py",
    "orchestration/instance/page/media.py",
    "sample",
}
# A reader of several formats knows how they differ.
READERS = {"footage/stills.py"}


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)
def test_every_row_names_readers_that_are_there(row: FileFormat) -> None:
    assert callable(row.header.load())
    assert callable(row.picture.load())


def test_no_two_rows_could_be_mistaken_for_each_other() -> None:
    extensions = [extension for row in FORMATS for extension in (*row.extensions, *row.other_extensions)]
    assert len(extensions) == len(set(extensions))
    assert all(extension == extension.lower() and extension.startswith(".") for extension in extensions)
    magics = [magic for row in FORMATS for magic in row.magics]
    assert not [(one, other) for one in magics for other in magics if one is not other and one.startswith(other)]
    assert {format_of_bytes(magic + bytes(8)) for magic in magics} == {row for row in FORMATS if row.magics}
    assert {format_of_name(f"a.b/x{extension.upper()}") for extension in extensions} >= set(FORMATS)


def test_first_bytes_are_those_that_the_parsers_of_headers_want() -> None:
    of = {row.name: set(row.magics) for row in FORMATS}
    assert (of["exr"], of["dpx"], of["cineon"]) == ({MAGIC}, set(DPX_MAGICS), set(CINEON_MAGICS))


def test_kinds_and_formats_are_named_as_sentences_need_them() -> None:
    assert labels("render") == "OpenEXR, DPX or Cineon"
    assert labels("still") == "TIFF, PNG or JPEG"
    assert labels("movie") == "movie"
    assert described_kinds() == "exr, dpx, cineon, image (TIFF, PNG, JPEG), movie, audio"


def test_importing_the_registry_loads_nothing_else_of_ours_and_nothing_of_others() -> None:
    script = "import sys; before = set(sys.modules); import exr_pipeline.formats; print(*set(sys.modules) - before)"
    command = [sys.executable, "-c", script]
    loaded = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert {name for name in loaded if name.partition(".")[0] not in sys.stdlib_module_names} == {
        "exr_pipeline",
        "exr_pipeline.formats",
    }


def test_the_document_lists_the_extensions_of_each_kind() -> None:
    text = (ROOT / "docs" / "footage.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(\w+)` \| ([\w, ]+) \|$", text, re.MULTILINE))
    of_kind = {kind: [one for row in FORMATS if row.kind == kind for one in row.extensions] for kind in KINDS}
    assert listed == {kind: ", ".join(one[1:] for one in extensions) for kind, extensions in of_kind.items()}


def listed(source: str) -> list[int]:
    """Lines of code where several extensions or names of file kinds stand together."""
    extensions = {extension for row in FORMATS for extension in (*row.extensions, *row.other_extensions)}
    names = {*KINDS, *(row.name for row in FORMATS)}
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            items = node.elts
        elif isinstance(node, ast.Dict):
            items = [*filter(None, node.keys), *node.values]
        else:
            continue
        texts = {str(item.value) for item in items if isinstance(item, ast.Constant)}
        if len(texts & extensions) > 1 or len({text.strip(".") for text in texts} & names) > 1:
            found.append(node.lineno)
    return found


def test_no_other_module_has_a_list_of_kinds_of_files() -> None:
    lists = {
        f"{path}:{line}"
        for path in (path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
        if path.name != "formats.py" and not {str(path), path.parts[0]} & (WRITES | READERS)
        for line in listed((PACKAGE / path).read_text(encoding="utf-8"))
    }
    assert lists == set()
    assert listed((PACKAGE / "formats.py").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ('{".exr": 1, ".dpx": 2}', [1]),
        ('x in {"movie", "audio"}', [1]),
        ('X = Literal["exr", "dpx"]', [1]),
        ('NAMES = ("movie", "filmstrip")', []),
    ],
)
def test_a_list_of_kinds_is_noticed(code: str, lines: list[int]) -> None:
    assert listed(code) == lines


def farbfeld(color: tuple[int, int, int]) -> bytes:
    pixels = np.full((36, 64, 4), 65535, ">u2")
    pixels[..., :3] = np.array(color) * 257
    return b"farbfeld" + struct.pack(">II", 64, 36) + pixels.tobytes()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package with the row that CONTRIBUTING shows, in a folder to work in."""
    home = make_home(tmp_path / "home")
    shutil.copytree(PACKAGE, home / "exr_pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    recipe = text.partition("### Add a file kind")[2].partition("\n### ")[0]
    (row,) = re.findall(r"```python\n(.*?)```", recipe, re.DOTALL)
    module = home / "exr_pipeline" / "formats.py"
    before, place, after = module.read_text(encoding="utf-8").partition('    FileFormat(\n        "tiff",')
    module.write_text(
        before + f"{row.replace('my_module', 'exr_pipeline_tests.new_format').rstrip()},\n" + place + after
    )
    return home


@takes_long
def test_one_row_and_its_readers_are_all_that_a_new_kind_of_file_needs(copy: Path) -> None:
    shot = copy / "renders" / "shot"
    shot.mkdir(parents=True)
    frames = [f"paint.{number}.ff" for number in (1001, 1002, 1003)]
    for name in frames:
        (shot / name).write_bytes(farbfeld((200, 90, 30)))
    (shot / "broken.ff").write_bytes(farbfeld((1, 2, 3))[:100])
    (shot / "other.ff").write_bytes(b"this is a text")

    path = os.pathsep.join((str(copy), str(ROOT)))
    environment = bare_environment(PYTHONPATH=path, DAGSTER_HOME=str(copy), EXR_PIPELINE_WORKERS="1")
    command = [sys.executable, "-m", "exr_pipeline_tests.new_format.tour"]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)

    files = {Path(row["file_path"]).name: row for row in answer["files"]}
    assert {name: (row["state"], row["format"]) for name, row in files.items()} == {
        "broken.ff": ("rejected", None),
        "other.ff": ("rejected", None),
        **dict.fromkeys(frames, ("ready", "farbfeld")),
    }
    assert files["broken.ff"]["reason"].startswith("farbfeld of 64x36 pixels in 100 bytes")
    assert files["other.ff"]["reason"].startswith("not an OpenEXR, DPX, Cineon or farbfeld file")
    thumbnail = simplejpeg.decode_jpeg((shot / ".proxies" / "paint.1001.ff_thumb.jpg").read_bytes())
    assert np.abs(thumbnail.reshape(-1, 3).mean(axis=0) - (200, 90, 30)).max() < 3

    (sequence,) = answer["sequences"]
    assert sequence["sequence_path"].endswith("shot/paint.####.ff")
    assert (sequence["state"], sequence["frame_count"], answer["states"]) == ("ready", 3, {"ready": 1})
    assert answer["view"] == [{"sequence_path": sequence["sequence_path"]}]

    documents = "\n".join(answer["documents"])
    assert "`exr,dpx,cineon,farbfeld,image,movie,audio`" in documents
    assert "OpenEXR, DPX, Cineon or farbfeld files to read." in documents
    assert "exr, dpx, cineon, farbfeld, tiff" in documents
