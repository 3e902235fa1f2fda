"""How much memory one worker holds at most, of a process of its own so that nothing else is counted."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import OpenEXR

from exr_pipeline_tests.pictures.files import rgb_channels, write_exr

LIMIT_MIB = 700
WIDTH, HEIGHT = 4096, 2304
LAYERS = ("", "a.", "b.", "c.", "d.", "e.", "f.", "g.")

PEAK = """
import sys
from pathlib import Path
from exr_pipeline.pictures.render import render_picture
from exr_pipeline_tests.pictures.files import picture_settings

made = render_picture(sys.argv[1], "x.exr", thumbnail=True, proxy=True, settings=picture_settings())
assert (made.proxy.width, made.proxy.height) == (1920, 1080)
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]) // 1024)
"""


def test_a_4k_file_of_24_channels_needs_no_more_than_700_mib(tmp_path: Path) -> None:
    # Without compression, which only makes it quick to write: all channels are in the lines that are read.
    row = np.linspace(0.1, 1, WIDTH)[:, np.newaxis] * (1, 0.5, 0.2)
    pixels = np.broadcast_to(row, (HEIGHT, WIDTH, 3)).astype(np.float16)
    channels = {name: channel for layer in LAYERS for name, channel in rgb_channels(pixels, layer).items()}
    path = write_exr(tmp_path / "x.exr", channels, compression=OpenEXR.NO_COMPRESSION)

    run = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True)

    assert path.stat().st_size > 24 * 2 * WIDTH * HEIGHT
    assert 100 < int(run.stdout) <= LIMIT_MIB, f"{run.stdout.strip()} MiB"
