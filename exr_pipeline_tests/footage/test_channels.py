"""Sound of any number of channels: a waveform and a stereo proxy of every one, with each channel on its side."""

import struct
import wave
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray

from exr_pipeline.footage.channels import stereo_weights
from exr_pipeline.footage.probe import probe_media
from exr_pipeline.footage.render import render_media
from exr_pipeline_tests.pictures.files import picture_settings

_RATE = 48_000


def tone(count: int, loud: set[int]) -> NDArray[np.float32]:
    """A fifth of a second (time, channels): a tone at half of full scale in the `loud` channels, counted from 0."""
    times = np.arange(_RATE // 5) / _RATE
    samples = np.zeros((len(times), count), np.float32)
    samples[:, sorted(loud)] = 0.5 * np.sin(times * 440 * 2 * np.pi)[:, None]
    return samples


def wav(path: Path, samples: NDArray[np.float32]) -> Path:
    """A plain WAV, which does not say where its channels belong."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(_RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


def encoded(path: Path, samples: NDArray[np.float32], codec: str, layout: str, **options: str) -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=_RATE, layout=layout, options=options)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="flt", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = _RATE, 0, Fraction(1, _RATE)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def heard(path: Path) -> tuple[Any, Any, list[float]]:
    """The probe, the pictures, and how loud the proxy is in each of its channels."""
    target = path.with_name("proxy.mp4")
    media = probe_media(str(path), path.name)
    made = render_media(
        str(path), path.name, media, thumbnail=True, proxy_path=str(target), settings=picture_settings()
    )
    with av.open(str(target)) as container:
        samples = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    assert made.proxy.duration == pytest.approx(0.2, abs=0.03)
    return media, made, [float(peak) for peak in np.abs(samples[:, 2400:7200]).max(axis=1)]


@pytest.mark.parametrize(
    ("name", "codec", "layout", "options"),
    [
        ("a.flac", "flac", "7.1", {}),
        ("a.m4a", "aac", "7.1", {"b": "512k"}),
        ("a.opus", "libopus", "64 channels", {"mapping_family": "255"}),
        ("a.mov", "pcm_s24le", "7.1", {}),
        ("a.caf", "pcm_f32be", "32 channels", {}),
    ],
)
def test_eight_channels_and_more_have_a_waveform_and_a_stereo_proxy(
    tmp_path: Path, name: str, codec: str, layout: str, options: dict[str, str]
) -> None:
    count = av.AudioLayout(layout).nb_channels
    path = encoded(tmp_path / name, tone(count, set(range(count))), codec, layout, **options)
    media, made, loud = heard(path)
    assert media.streams[0].channel_count == count
    lit = simplejpeg.decode_jpeg(made.thumbnail.data)[:, :, 2] > 150
    assert lit[:, 128].mean() == pytest.approx(0.5, abs=0.1), "half of full scale fills half the height"
    assert len(loud) == 2
    assert min(loud) > 0.4


@pytest.mark.parametrize("count", [9, 64, 65, 200])
def test_channels_without_names_are_heard_left_and_right_in_turn(tmp_path: Path, count: int) -> None:
    path = wav(tmp_path / "a.wav", tone(count, set(range(0, count, 2))))
    media, made, loud = heard(path)
    assert (media.streams[0].channel_count, media.streams[0].channel_layout) == (count, None)
    assert loud == [pytest.approx(0.5, abs=0.05), pytest.approx(0, abs=0.01)]
    assert [warning for warning in made.warnings if "odd ones are mixed to the left" in warning]


@pytest.mark.parametrize("count", range(1, 9))
def test_every_channel_of_a_usual_number_is_heard(count: int) -> None:
    assert stereo_weights(["NONE"] * count).any(axis=1).all()


def caf(path: Path, samples: NDArray[np.float32], layout_tag: int) -> Path:
    """A CAF that names its channels by one of Core Audio's layouts."""
    count = samples.shape[1]
    data = (samples * 32767).astype(">i2").tobytes()
    chunks = {
        b"desc": struct.pack(">d4sIIIII", _RATE, b"lpcm", 0, 2 * count, 1, count, 16),
        b"chan": struct.pack(">III", layout_tag, 0, 0),
        b"data": struct.pack(">I", 0) + data,
    }
    body = b"".join(name + struct.pack(">q", len(chunk)) + chunk for name, chunk in chunks.items())
    path.write_bytes(b"caff" + struct.pack(">HH", 1, 0) + body)
    return path


def test_channels_in_an_order_of_the_file_s_own_are_heard_where_they_belong(tmp_path: Path) -> None:
    # 7.1 with the sides before the back, which libav keeps as a list of channels.
    media, made, loud = heard(caf(tmp_path / "a.caf", tone(8, {5}), 128 << 16 | 8))
    assert media.streams[0].channel_layout == "8 channels (FL+FR+FC+LFE+SL+SR+BL+BR)"
    assert loud == [pytest.approx(0, abs=0.01), pytest.approx(0.5 * 0.5**0.5, abs=0.03)]
    assert made.warnings == ()
    # Left, right, centre as centre, left, right.
    assert heard(caf(tmp_path / "b.caf", tone(3, {1}), 114 << 16 | 3))[2][1] < 0.01


@pytest.mark.parametrize("layout", ["3.0", "quad", "5.1", "6.1", "7.1(wide)"])
def test_named_channels_are_mixed_as_libswresample_mixes_them(layout: str) -> None:
    count = av.AudioLayout(layout).nb_channels
    frame = av.AudioFrame.from_ndarray(np.eye(count, dtype=np.float32).reshape(1, -1), format="flt", layout=layout)
    frame.sample_rate = _RATE
    (mixed,) = av.AudioResampler(format="fltp", layout="stereo").resample(frame)
    names = [channel.name for channel in av.AudioLayout(layout).channels]
    assert stereo_weights(names) == pytest.approx(mixed.to_ndarray().T, abs=1e-4)


def test_no_channel_above_the_head_is_lost() -> None:
    names = [channel.name for channel in av.AudioLayout("9.1.6").channels]
    silent = [name for name, sides in zip(names, stereo_weights(names), strict=True) if not sides.any()]
    assert silent == ["LFE"]
