import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from exr_pipeline.errors import BadInputError
from exr_pipeline.footage.probe import probe_media
from exr_pipeline_tests.footage.made import BT709, ffprobe, movie, sound

MOVIES: dict[str, dict[str, Any]] = {
    "a.mp4": {"tags": BT709, "time_code": "01:00:00:00"},
    "a.mov": {"video": "prores_ks", "pixel_format": "yuv422p10le", "audio": "pcm_s24le", "rate": Fraction(30000, 1001)},
    "a.mkv": {"audio": "flac", "tags": (9, 16, 9, 1)},
    "a.webm": {"video": "libvpx-vp9", "audio": "libopus", "options": {"cpu-used": "8", "deadline": "realtime"}},
    "a.avi": {"video": "mpeg4", "audio": "libmp3lame", "rate": Fraction(25)},
    "a.mxf": {"video": "mpeg2video", "pixel_format": "yuv422p", "audio": "pcm_s16le", "rate": Fraction(25)},
}
SOUNDS = {
    "a.wav": "pcm_s24le",
    "a.flac": "flac",
    "a.mp3": "libmp3lame",
    "a.m4a": "aac",
    "a.ogg": "libopus",
    "a.aif": "pcm_s16be",
}
# Ours to ffprobe's name of it.
SAME = {
    "codec": "codec_name",
    "profile": "profile",
    "width": "width",
    "height": "height",
    "pixel_format": "pix_fmt",
    "color_primaries": "color_primaries",
    "color_transfer": "color_transfer",
    "color_matrix": "color_space",
    "color_range": "color_range",
    "sample_rate": "sample_rate",
    "channel_count": "channels",
    "channel_layout": "channel_layout",
    "sample_format": "sample_fmt",
    "bit_rate": "bit_rate",
}


@pytest.mark.parametrize("name", [*MOVIES, *SOUNDS])
def test_a_probe_agrees_with_ffprobe_on_every_stream(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    movie(path, **MOVIES[name]) if name in MOVIES else sound(path, SOUNDS[name])
    expected = ffprobe(path, "-count_packets")
    found = probe_media(str(path), name)
    assert found.format == name.partition(".")[2].replace("aif", "aiff")
    assert found.container_format == expected["format"]["format_name"]
    assert found.duration_seconds == pytest.approx(float(expected["format"]["duration"]), abs=0.05)
    kinds = [stream["codec_type"] for stream in expected["streams"]]
    assert [stream.type.replace("timecode", "data") for stream in found.streams] == kinds
    for ours, theirs in zip(found.streams, expected["streams"], strict=True):
        if ours.type == "timecode":
            assert ours.time_code == theirs["tags"]["timecode"]
            continue
        same = {name: theirs.get(other) for name, other in SAME.items()}
        assert {name: None if getattr(ours, name) is None else str(getattr(ours, name)) for name in SAME} == {
            name: None if value is None else str(value) for name, value in same.items()
        }
        if ours.type == "video":
            assert Fraction(ours.frame_rate or 0) == Fraction(theirs["r_frame_rate"])
            assert ours.frame_count == int(theirs["nb_read_packets"])
        if "duration" in theirs and name != "a.mp3":
            assert ours.duration_seconds == pytest.approx(float(theirs["duration"]), abs=1e-5)
        assert ours.language == theirs.get("tags", {}).get("language")


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_picture_that_is_to_be_turned_says_so(tmp_path: Path, rotation: int) -> None:
    path = movie(tmp_path / "a.mp4", rotation=rotation, audio=None, aspect=Fraction(2, 1))
    stream = probe_media(str(path), "a.mp4").streams[0]
    data = ffprobe(path)["streams"][0]
    assert ((stream.rotation or 0) - int(data["side_data_list"][0]["rotation"])) % 360 == 0
    assert stream.sample_aspect_ratio == data["sample_aspect_ratio"].replace(":", "/") == "2/1"


def test_a_time_code_is_that_of_the_streams_or_of_the_container(tmp_path: Path) -> None:
    drop = movie(tmp_path / "a.mov", rate=Fraction(30000, 1001), time_code="01:00:00;02", frames=2)
    assert probe_media(str(drop), "a.mov").time_code == "01:00:00;02"
    mxf = movie(tmp_path / "a.mxf", **MOVIES["a.mxf"], time_code="10:00:00:00", frames=2)
    assert probe_media(str(mxf), "a.mxf").time_code == "10:00:00:00"
    assert probe_media(str(sound(tmp_path / "a.wav")), "a.wav").time_code is None


def test_the_json_is_the_same_each_time_and_holds_all_tags(tmp_path: Path) -> None:
    path = str(movie(tmp_path / "a.mp4", time_code="01:00:00:00", frames=2))
    made = json.loads(json.dumps(probe_media(path, "a.mp4").to_json()))
    assert made == json.loads(json.dumps(probe_media(path, "a.mp4").to_json()))
    assert (made["schema_version"], made["format"], made["streams"][0]["codec"]) == (1, "mp4", "h264")
    assert made["streams"][1]["tags"]["language"] == "eng"
    assert made["tags"]["major_brand"] == "isom"


def test_movies_made_alike_share_a_structure_hash(tmp_path: Path) -> None:
    short, long = (movie(tmp_path / f"{n}.mp4", frames=n) for n in (2, 9))
    other = movie(tmp_path / "other.mp4", frames=2, size=(96, 96))
    hashes = [probe_media(str(path), path.name).structure_hash for path in (short, long, other)]
    assert hashes[0] == hashes[1] != hashes[2]


def damaged(path: Path) -> dict[str, bytes]:
    whole = movie(path / "whole.mp4").read_bytes()
    noise = bytes(range(256)) * 40
    return {
        "empty.mp4": b"",
        "text.mov": b"this is no movie at all\n" * 50,
        "noise.mkv": noise,
        "cut.mp4": whole[: len(whole) // 2],
        "playlist.mp4": b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        "list.mp4": b"ffconcat version 1.0\nfile whole.mp4\n",
        "picture.mov": b"\x89PNG\r\n\x1a\n" + noise,
        "riff.wav": b"RIFF\xff\xff\xff\xffWAVEfmt " + noise[:20],
    }


@pytest.mark.parametrize(
    "name", ["empty.mp4", "text.mov", "noise.mkv", "cut.mp4", "playlist.mp4", "list.mp4", "picture.mov", "riff.wav"]
)
def test_what_is_no_movie_or_sound_is_bad_input_with_its_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(damaged(tmp_path)[name])
    with pytest.raises(BadInputError) as caught:
        probe_media(str(path), f"s3://show/{name}")
    assert caught.value.name == f"s3://show/{name}"
    assert "\n" not in caught.value.reason


def test_a_movie_with_its_index_in_front_says_how_much_of_it_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    whole = movie(tmp_path / "whole.mp4", frames=48, audio=None)
    import av

    with av.open(str(whole)) as source, av.open(str(path), "w", options={"movflags": "+faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    data = path.read_bytes()
    assert probe_media(str(path), "a.mp4").streams[0].frame_count == 48
    path.write_bytes(data[:-200])
    with pytest.raises(BadInputError, match=r"truncated: only \d+ of 48 samples"):
        probe_media(str(path), "a.mp4")
