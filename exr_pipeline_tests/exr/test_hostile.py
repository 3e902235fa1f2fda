"""Hostile input: damaged, cut and flooding files are judged by the oracle that the fuzz target uses.

By default a few seconds of generated files. EXR_PIPELINE_TEST_HOSTILE=full makes it 20,000 mutations and 200 cuts of
every file, and EXR_PIPELINE_TEST_CORPUS adds the files of a folder; see docs/headers.md.
"""

import json
import os
import random
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from exr_pipeline.dpx import parse_dpx_header
from exr_pipeline.exr import Attribute, Header, HeaderError, parse_header, uncompressed_bytes, validate
from exr_pipeline.inspection import inspect_bytes
from exr_pipeline_tests.exr.headers import attributes, header
from exr_pipeline_tests.exr.test_parse import CORPUS, corpus_files, needs_corpus
from exr_pipeline_tests.inspection.files import inspected, source
from fuzz import oracle
from fuzz.campaign import cuts
from fuzz.floods import FLOODS, channels_of_many_levels
from fuzz.mutations import mutated
from fuzz.oracle import calls, examine, examine_within_bounds
from fuzz.seeds import dpx_file, headers, seeds

ROOT = Path(__file__).parents[2]
FULL = os.environ.get("EXR_PIPELINE_TEST_HOSTILE") == "full"


def campaign(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "fuzz.campaign", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_damaged_files_are_judged_in_bounded_time_and_memory() -> None:
    mutations, beginnings = (20_000, 200) if FULL else (2_000, 20)
    corpus = ["--corpus", CORPUS] if CORPUS else []
    report = campaign("--mutations", str(mutations), "--cuts", str(beginnings), *corpus)

    assert set(report["floods"]) == {"rejected", "seconds"}
    assert report["whole"]["accepted"] >= len(seeds())
    assert sum(report["mutations"].get(outcome, 0) for outcome in ("accepted", "rejected", "cut")) == mutations
    # Damage of each kind was done: some files stayed good, others did not, others end in their headers.
    assert min(report["mutations"][outcome] for outcome in ("accepted", "rejected", "cut")) > 0
    assert sum(report["cuts"].get(outcome, 0) for outcome in ("accepted", "rejected", "cut")) >= beginnings * len(
        seeds()
    )
    assert report["cuts"]["cut"] > beginnings * len(seeds()) / 3


def test_no_beginning_of_a_file_is_accepted() -> None:
    for name, data in cuts(seeds(), 200 if FULL else 50, 1):
        assert examine(data) != "accepted", name


@needs_corpus
def test_no_beginning_of_a_real_file_is_accepted() -> None:
    files = {str(path): path.read_bytes() for path in corpus_files(damaged=False)}
    for name, data in cuts(files, 200 if FULL else 20, 2):
        assert examine(data) != "accepted", name


@pytest.mark.parametrize("name", sorted(FLOODS))
def test_work_grows_no_faster_than_the_input(name: str) -> None:
    small, large = FLOODS[name](20_000), FLOODS[name](80_000)
    before = calls(lambda: examine_within_bounds(small))
    assert calls(lambda: examine_within_bounds(large)) < 5 * before


@pytest.mark.parametrize("name", sorted(seeds()))
def test_every_seed_is_accepted(name: str) -> None:
    assert examine_within_bounds(seeds()[name]) == "accepted"


def test_mutations_are_the_same_for_the_same_seed() -> None:
    data = seeds()["plain.exr"]
    assert mutated(data, random.Random(7)) == mutated(data, random.Random(7)) != data


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda data, name: (_ for _ in ()).throw(HeaderError("other", "odd", 0)), "names another file"),
        (lambda data, name: (_ for _ in ()).throw(HeaderError(name, "odd", 1 << 40)), "beyond the file's end"),
        (lambda data, name: header(), "isn't written as it was read"),
    ],
)
def test_the_oracle_notices_faults(fault: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle, "parse_header", lambda data, *, name: fault(data, name))
    with pytest.raises(AssertionError, match=message):
        examine(seeds()["views.exr"])


def test_levels_of_many_channels_are_counted_together() -> None:
    data = channels_of_many_levels(40_000)
    part = parse_header(data).parts[0]
    assert len(part.channels) > 1500
    assert calls(lambda: uncompressed_bytes(part)) < 20_000


def test_messages_do_not_repeat_long_values() -> None:
    long = "x" * 100_000
    part = attributes(type=long, name=long, chunkCount=2)
    findings = validate(Header.build([part, part])) + validate(header(type=long))
    assert {"unknown-type", "type-mismatch", "duplicate-part"} <= {finding.code for finding in findings}
    assert max(len(finding.message) for finding in findings) < 1000


def test_names_too_long_for_the_file_are_one_finding() -> None:
    extra = [Attribute.of("é" * 16 + str(index), "int", index) for index in range(50)]
    (finding,) = validate(Header.build([attributes(*extra)], flags=0))
    assert (finding.code, finding.part_index) == ("long-name", 0)
    assert "50 names exceed 31 bytes" in finding.message


def test_the_place_of_a_finding_is_that_of_its_attribute() -> None:
    part = {"type": "scanlineimage", "chunkCount": 2}
    for index in range(2):
        parts = [attributes(name=name, **part) for name in "ab"]
        parts[index] = attributes(name="ab"[index], **part, compression=77)
        data = Header.build(parts).to_bytes()
        with pytest.raises(HeaderError, match="compression code 77") as caught:
            inspect_bytes(data, source())
        assert data[caught.value.offset :].startswith(b"compression\0compression\0\x01\0\0\0\x4d")


def test_a_finding_about_no_attribute_has_a_place_too() -> None:
    with pytest.raises(HeaderError, match="'channels' is missing") as caught:
        inspect_bytes(header(channels=None).to_bytes(), source())
    assert caught.value.offset == 8
    built = headers()["plain"]
    with pytest.raises(HeaderError, match="truncated") as caught:
        inspect_bytes(built.to_bytes(), source(size=built.size + 10))
    assert caught.value.offset == built.size + 10
    with pytest.raises(HeaderError, match="never written") as caught:
        inspect_bytes(built.to_bytes() + bytes(8 * 16), source())
    assert caught.value.offset == built.size
    with pytest.raises(HeaderError, match="unknown bits") as caught:
        inspect_bytes(Header.build([attributes()], flags=0x8000).to_bytes(), source())
    assert caught.value.offset == 4


def test_a_truncated_dpx_file_has_a_place() -> None:
    with pytest.raises(HeaderError, match="truncated") as caught:
        parse_dpx_header(dpx_file(), file_size=2060)
    assert caught.value.offset == 2060


def test_a_rate_of_almost_nothing_is_no_rate() -> None:
    data = bytearray(dpx_file())
    struct.pack_into(">f", data, 1940, 1e-9)
    struct.pack_into(">f", data, 1724, 25.0)
    assert parse_dpx_header(bytes(data)).frame_rate == 25
    assert inspected(Attribute.of("framesPerSecond", "float", 1e-9)).parts[0].frame_rate is None
