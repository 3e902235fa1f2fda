"""Alpha of movies: over black in linear light, in every codec that has it, as of stills."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray

from exr_pipeline.footage.alpha import Alpha, OverBlack
from exr_pipeline.footage.probe import probe_media
from exr_pipeline.footage.render import render_media
from exr_pipeline.pictures.render import render_picture
from exr_pipeline_tests.footage.made import decoded
from exr_pipeline_tests.pictures.files import picture_settings

_SIZE = (64, 48)
_CODECS: dict[str, tuple[str, str]] = {
    "png.mov": ("png", "rgba"),
    "png16.mov": ("png", "rgba64be"),
    "animation.mov": ("qtrle", "argb"),
    "prores.mov": ("prores_ks", "yuva444p10le"),
    "prores.mxf": ("prores_ks", "yuva444p10le"),
    "cineform.mov": ("cfhd", "gbrap12le"),
    "raw.mov": ("rawvideo", "argb"),
    "raw.avi": ("rawvideo", "bgra"),
    "ut.avi": ("utvideo", "gbrap"),
    "magic.avi": ("magicyuv", "gbrap"),
    "huff.avi": ("huffyuv", "bgra"),
    "ffv1.mkv": ("ffv1", "yuva444p"),
    "vp8.webm": ("libvpx", "yuva420p"),
    "vp9.webm": ("libvpx-vp9", "yuva420p"),
}


def movie_of(path: Path, codec: str, pixel_format: str, rgba: NDArray[np.uint8], *, frames: int = 3) -> Path:
    """A movie that shows one picture with alpha."""
    options = {"auto-alt-ref": "0", "deadline": "realtime"} if codec == "libvpx" else {}
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=24, options=options)
        stream.width, stream.height, stream.pix_fmt = rgba.shape[1], rgba.shape[0], pixel_format
        if path.suffix == ".webm":
            stream.metadata["alpha_mode"] = "1"
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format=pixel_format)
            frame.pts, frame.time_base = index, Fraction(1, 24)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def red(cover: int) -> NDArray[np.uint8]:
    return np.full((_SIZE[1], _SIZE[0], 4), (255, 0, 0, cover), np.uint8)


def shown(path: Path) -> tuple[Any, list[NDArray[np.uint8]]]:
    """The pictures of a movie, and the middle of its thumbnail, of a frame in its filmstrip and of its proxy."""
    target = path.with_name("proxy.mp4")
    made = render_media(
        str(path),
        path.name,
        probe_media(str(path), path.name),
        thumbnail=True,
        proxy_path=str(target),
        settings=picture_settings(),
    )
    assert made.thumbnail is not None
    assert made.filmstrip is not None
    pictures = [simplejpeg.decode_jpeg(data) for data in (made.thumbnail.data, made.filmstrip.jpeg)]
    return made, [picture[24, 32].astype(int) for picture in [*pictures, decoded(target)[1]]]


@pytest.mark.parametrize("name", _CODECS)
def test_every_codec_with_alpha_is_shown_over_black_as_a_still_is(tmp_path: Path, name: str) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), cv2.cvtColor(red(128), cv2.COLOR_RGBA2BGRA))
    still = render_picture(str(tmp_path / "a.png"), "a.png", thumbnail=True, proxy=False, settings=picture_settings())
    assert still.thumbnail is not None
    expected = simplejpeg.decode_jpeg(still.thumbnail.data)[24, 32].astype(int)
    made, places = shown(movie_of(tmp_path / name, *_CODECS[name], red(128)))
    assert made.provenance.alpha_handling == still.provenance.alpha_handling == "straight, over black"
    for place in places:
        assert np.abs(place - expected).max() <= 5, "188 of half the light of red, not 128"


@pytest.mark.parametrize("name", ["png.mov", "vp9.webm"])
def test_a_clear_movie_is_black(tmp_path: Path, name: str) -> None:
    made, places = shown(movie_of(tmp_path / name, *_CODECS[name], red(0)))
    assert made.is_black
    assert max(int(place.max()) for place in places) <= 1


@pytest.mark.parametrize(
    ("mode", "kind", "value"), [(0x102, "premultiplied", 255), (0x101, "premultiplied with white", 128)]
)
def test_color_that_a_quicktime_movie_says_to_be_multiplied_is_not_multiplied_again(
    tmp_path: Path, mode: int, kind: str, value: int
) -> None:
    path = movie_of(tmp_path / "a.mov", "png", "rgba", red(128))
    data = path.read_bytes()
    place = data.index(b"vmhd") + 8
    path.write_bytes(data[:place] + mode.to_bytes(2, "big") + data[place + 2 :])
    made, places = shown(path)
    assert made.provenance.alpha_handling == f"{kind}, over black"
    for found in places:
        assert found == pytest.approx([value, 0, 0], abs=3)


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "handling"),
    [
        ("a.mov", "png", "rgb24", "none"),
        ("a.avi", "rawvideo", "bgra", "none"),
        ("b.mov", "png", "rgba", "straight, over black"),
    ],
)
def test_opaque_movies_keep_their_color(
    tmp_path: Path, name: str, codec: str, pixel_format: str, handling: str
) -> None:
    # Programs leave the fourth byte of uncompressed AVI at 0.
    made, places = shown(movie_of(tmp_path / name, codec, pixel_format, red(0 if codec == "rawvideo" else 255)))
    assert made.provenance.alpha_handling == handling
    for found in places:
        assert found == pytest.approx([255, 0, 0], abs=3)


@pytest.mark.parametrize("transfer", [1, 2, 8, 13, 16, 18])
def test_alpha_of_a_half_halves_the_light_of_every_curve(transfer: int) -> None:
    codes = np.linspace(0, 65535, 64, dtype=np.uint16)
    rgba = np.zeros((1, 64, 4), np.uint16)
    rgba[0, :, :3] = codes[:, None]
    rgba[0, :, 3] = 32768
    frame = av.VideoFrame.from_ndarray(rgba, format="rgba64le")
    frame.pts, frame.time_base = 0, Fraction(1, 24)
    half = OverBlack(Alpha("straight", transfer)).flattened(frame).to_ndarray()[0, :, 0].astype(float) / 65535
    code = codes / 65535
    if transfer == 8:
        expected = code / 2
    elif transfer == 16:
        root = code ** (1 / 78.84375)
        light = (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125) / 2
        power = light**0.1593017578125
        expected = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    elif transfer == 18:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12) / 2
        expected = np.where(light <= 1 / 12, np.sqrt(3 * light), a * np.log(np.maximum(12 * light - b, 1e-9)) + c)
    else:
        light = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4) / 2
        expected = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    assert half == pytest.approx(expected, abs=0.001)


def test_frames_with_alpha_that_are_sought_are_the_right_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.webm"
    options = {"g": "12", "deadline": "realtime", "cpu-used": "8"}
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libvpx-vp9", rate=2, options=options)
        stream.width, stream.height, stream.pix_fmt = *_SIZE, "yuva420p"
        stream.metadata["alpha_mode"] = "1"
        for index in range(120):
            white = np.full((*_SIZE[::-1], 4), (255, 255, 255, 2 * index), np.uint8)
            frame = av.VideoFrame.from_ndarray(white, format="rgba").reformat(format="yuva420p")
            frame.pts, frame.time_base = index, Fraction(1, 2)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    made, _ = shown(path)
    strip = simplejpeg.decode_jpeg(made.filmstrip.jpeg)[24].astype(float)
    middles = strip[strip.shape[0] // 48 :: strip.shape[0] // 24].mean(axis=1)
    covers = np.array([2 * int((2 * index + 1) * 120 / 48) for index in range(24)]) / 255
    assert middles / 255 == pytest.approx(1.055 * covers ** (1 / 2.4) - 0.055, abs=0.03)
