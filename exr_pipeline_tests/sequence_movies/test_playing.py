"""What a browser shows of the proxy of a file and of the movie of a sequence: it plays, seeks, and has the pixels."""

import base64
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from playwright.sync_api import Page

from exr_pipeline.pictures.render import render_picture
from exr_pipeline.sequence_movies.presets import load_presets
from exr_pipeline.sequence_movies.sequence_movie import make_movie
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline_tests.browser import browser_page
from exr_pipeline_tests.pictures.expected import COLORS, rgb_of
from exr_pipeline_tests.pictures.files import patch_means, patches, picture_settings, write_rgb
from exr_pipeline_tests.sequence_movies.frames import InlinePool, number_of, sequence_in, settings, write_frames

# A page may read the pixels of what it made itself, not those of a file beside it.
PLAY = """
async ({data, moment}) => {
    const bytes = Uint8Array.from(atob(data), character => character.charCodeAt(0));
    const video = document.createElement("video");
    video.muted = true;
    video.src = URL.createObjectURL(new Blob([bytes], {type: "video/mp4"}));
    document.body.append(video);
    await video.play();
    while (video.currentTime < 0.1)
        await new Promise(resolve => setTimeout(resolve, 10));
    video.pause();
    const played = video.currentTime;
    const sought = new Promise(resolve => video.onseeked = resolve);
    video.currentTime = moment;
    await sought;
    while (video.seeking || video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA)
        await new Promise(resolve => setTimeout(resolve, 10));
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    const context = canvas.getContext("2d");
    context.drawImage(video, 0, 0);
    const pixels = Array.from(context.getImageData(0, 0, canvas.width, canvas.height).data);
    return {played, duration: video.duration, width: canvas.width, height: canvas.height, pixels};
}
"""


def played(page: Page, mp4: bytes, moment: float) -> tuple[dict[str, Any], np.ndarray]:
    """What the page says of a movie that it played for a while, and the RGB that it shows at a moment in seconds."""
    shown = page.evaluate(PLAY, {"data": base64.b64encode(mp4).decode(), "moment": moment})
    pixels = np.array(shown["pixels"], np.uint8).reshape(shown["height"], shown["width"], 4)
    return shown, pixels[..., :3]


def test_a_proxy_and_the_movie_of_a_sequence_play_in_a_browser_with_their_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exr_pipeline.workers.pool.WorkerPool", InlinePool)
    still = write_rgb(tmp_path / "x.exr", patches(COLORS), colorspace="ACEScg")
    proxy = render_picture(
        str(still), "x.exr", thumbnail=False, proxy=True, settings=picture_settings(proxy_seconds=0.5)
    ).proxy
    assert proxy is not None
    assert isinstance(proxy.mp4, bytes)
    folder, target = write_frames(tmp_path / "f", range(24)), tmp_path / "movie.mp4"
    chosen = settings(tmp_path)
    storage = ObjectStorage(chosen)
    make_movie(sequence_in(folder, storage), storage, target, settings=chosen, preset=load_presets()["review"])

    with browser_page() as page:
        of_proxy, patched = played(page, proxy.mp4, 0.4)
        seen = [played(page, target.read_bytes(), float(Fraction(2 * place + 1, 48))) for place in (0, 13, 21)]

    assert of_proxy["played"] >= 0.1
    assert of_proxy["duration"] == pytest.approx(proxy.duration, abs=0.01)
    (tmp_path / "proxy.mp4").write_bytes(proxy.mp4)
    with av.open(str(tmp_path / "proxy.mp4")) as container:
        frame = next(container.decode(video=0))
    # Its own conversion to the display of the page is nearly, not exactly, ours.
    assert np.abs(patch_means(patched, len(COLORS)) - patch_means(rgb_of(frame), len(COLORS))).max() <= 6
    assert [number_of(rgb) for _, rgb in seen] == [0, 13, 21]
    assert all(shown["played"] >= 0.1 for shown, _ in seen)
