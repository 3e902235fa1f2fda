"""Vectors: unit length, the same in every process, near for what is alike and farther the more differs."""

import hashlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from exr_pipeline.exr import Attribute, Box2i, Channel, Header, TileDescription, TimeCode
from exr_pipeline.inspection import Inspection
from exr_pipeline.inspection import vectors as vectors_of
from exr_pipeline.inspection.embedding import EMBEDDING_VERSION, FINGERPRINT_BLOCKS, METADATA_BLOCKS
from exr_pipeline_tests.exr.headers import attributes
from exr_pipeline_tests.inspection.document import DOCUMENT, updated
from exr_pipeline_tests.inspection.files import inspected, inspected_header
from exr_pipeline_tests.inspection.matrices import channel_fingerprints, metadata_embeddings


def layers(*names: str) -> tuple[Channel, ...]:
    listed = [Channel(f"{name}.{component}" if name else component, "HALF") for name in names for component in "RGB"]
    return tuple(sorted(listed))


def frame(number: int, *, shot: str = "010", **changes: Any) -> Inspection:
    code = Attribute.of("timeCode", "timecode", TimeCode.of(1, 0, number // 24 % 60, number % 24))
    shown = {"channels": layers("", "diffuse", "specular"), **changes}
    return inspected(code, key=f"show/shot_{shot}/beauty.{number:04}.exr", **shown)


def variety() -> list[Inspection]:
    part: dict[str, Any] = {"type": "scanlineimage", "chunkCount": 2}
    parts = Header.build([attributes(name="a", view="left", **part), attributes(name="b", view="right", **part)])
    return [
        frame(1),
        inspected(key="x.exr"),
        inspected(channels=(Channel("Z", "FLOAT"),), key="depth.exr"),
        inspected(type="tiledimage", tiles=TileDescription(16, 16, 2), compression=0),
        inspected(dataWindow=Box2i(0, 0, 0, 0), displayWindow=Box2i(0, 0, 0, 0)),
        inspected_header(parts, key="stereo.exr"),
    ]


def test_vectors_are_kept_as_32_bit_numbers() -> None:
    assert {vector.typecode for inspection in variety() for vector in vectors_of(inspection)} == {"f"}


@pytest.mark.parametrize("vectors", [metadata_embeddings, channel_fingerprints])
def test_vectors_have_unit_length_and_their_dimensions(vectors: Any) -> None:
    made = vectors(variety())
    assert made.shape == (6, 384 if vectors is metadata_embeddings else 128)
    assert np.linalg.norm(made, axis=1) == pytest.approx(np.ones(6), abs=1e-6)


def test_the_blocks_are_documented_and_their_weights_sum_to_one() -> None:
    for blocks in (METADATA_BLOCKS, FINGERPRINT_BLOCKS):
        assert sum(block.weight for block in blocks) == pytest.approx(1)
        assert all(block.meaning for block in blocks)
        assert len({block.name for block in blocks}) == len(blocks)


def test_the_document_lists_every_dimension_as_the_code_has_it() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert updated(text) == text, "run python -m exr_pipeline_tests.inspection.document"
    for blocks in (METADATA_BLOCKS, FINGERPRINT_BLOCKS):
        assert all(f"| {block.name} | {block.weight:g} | {block.meaning.split('|')[0]}" in text for block in blocks)


def digest() -> str:
    made = np.concatenate([metadata_embeddings(variety()).ravel(), channel_fingerprints(variety()).ravel()])
    # Rounded: the last bit of a sum may depend on the machine.
    return hashlib.sha256(np.round(made, 4).astype(np.float32).tobytes() + bytes([EMBEDDING_VERSION])).hexdigest()


def test_vectors_are_the_same_in_every_process() -> None:
    program = "from exr_pipeline_tests.inspection.test_embedding import digest; print(digest())"
    for seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(path for path in sys.path if path)}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == digest()


def test_a_change_of_the_rules_is_another_version() -> None:
    """Vectors are stored: if this fails, raise EMBEDDING_VERSION and note the new digest here."""
    assert (EMBEDDING_VERSION, digest()) == (1, "0c970bbbf4bd6af980e42c0497eacb49b2afc4a6faece2545ffbaf097c2ac103")


def test_the_vectors_of_a_file_do_not_depend_on_its_neighbours() -> None:
    together = metadata_embeddings(variety())
    alone = np.concatenate([metadata_embeddings([inspection]) for inspection in variety()])
    assert np.array_equal(together, alone)


def test_the_nearest_files_are_the_neighbours_in_the_sequence() -> None:
    sequence = [frame(number) for number in range(1001, 1025)]
    others = [frame(number, shot="020") for number in range(1001, 1025)] + variety()
    vectors = metadata_embeddings(sequence + others).astype(np.float64)
    for index in range(len(sequence)):
        distances = np.linalg.norm(vectors - vectors[index], axis=1)
        assert distances[: len(sequence)].max() < distances[len(sequence) :].min()
    assert np.linalg.norm(vectors[0] - vectors[1]) < 0.25


def test_frames_further_away_in_time_are_further_away() -> None:
    vectors = metadata_embeddings([inspected(key=f"a.{number}.exr") for number in (1, 2, 3, 10, 100, 1000, 9999)])
    distances = np.linalg.norm(vectors.astype(np.float64) - vectors[0], axis=1)
    assert (np.diff(distances) > 0).all()


def test_each_further_edit_takes_a_file_further_away() -> None:
    edits: list[dict[str, Any]] = [
        {},
        {"compression": 2},
        {"displayWindow": Box2i(0, 0, 127, 63)},
        {"channels": layers("", "diffuse")},
        {"type": "tiledimage", "tiles": TileDescription(16, 16, 1)},
        {"view": "left"},
        {"channels": layers("albedo", "normal")},
    ]
    chain: list[Inspection] = []
    changes: dict[str, Any] = {}
    for edit in edits:
        changes |= edit
        chain.append(frame(1001, **changes))
    vectors = metadata_embeddings(chain).astype(np.float64)
    assert (np.diff(np.linalg.norm(vectors - vectors[0], axis=1)) > 0).all()


def test_an_edit_takes_a_file_further_away_whatever_was_edited_before() -> None:
    edits: list[dict[str, Any]] = [
        {"compression": 2},
        {"displayWindow": Box2i(0, 0, 127, 63)},
        {"channels": layers("albedo", "normal")},
        {"type": "tiledimage", "tiles": TileDescription(16, 16, 1)},
        {"view": "left"},
        {"shot": "020"},
        {"dataWindow": Box2i(8, 8, 40, 30)},
    ]
    sets = range(1 << len(edits))
    edited = [
        frame(
            1001, **{name: value for bit, edit in enumerate(edits) if chosen >> bit & 1 for name, value in edit.items()}
        )
        for chosen in sets
    ]
    vectors = metadata_embeddings(edited).astype(np.float64)
    distances = np.linalg.norm(vectors - vectors[0], axis=1)
    for chosen in sets:
        for bit in range(len(edits)):
            if not chosen >> bit & 1:
                assert distances[chosen | 1 << bit] > distances[chosen]


def test_layouts_are_nearer_the_more_channels_they_share() -> None:
    full = ["", "diffuse", "specular", "emission", "normal", "albedo", "shadow", "position"]
    chain = [inspected(channels=layers(*full[: len(full) - removed])) for removed in range(len(full))]
    chain.append(inspected(channels=(Channel("Z", "FLOAT"),)))
    vectors = channel_fingerprints(chain).astype(np.float64)
    distances = np.linalg.norm(vectors - vectors[0], axis=1)
    assert (np.diff(distances) > 0).all()


def test_the_fingerprint_tells_the_layout_and_nothing_else() -> None:
    one = inspected(key="a.1.exr", compression=3)
    other = inspected(Attribute.of("x", "int", 1), key="b/c.exr", compression=1, dataWindow=Box2i(0, 0, 9, 9))
    assert np.array_equal(channel_fingerprints([one]), channel_fingerprints([other]))
