"""FFmpeg's own programs as the second opinion on movies.

Without them, tests that need one are skipped with a loud reason, or fail where EXR_PIPELINE_TEST_REQUIRE_ALL is set.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest


def program(name: str) -> str:
    """The path of ffprobe or ffmpeg."""
    if path := shutil.which(name):
        return path
    message = f"NOT TESTED: no {name} on this machine (apt-get install ffmpeg); nobody else looked at the movies"
    if os.environ.get("EXR_PIPELINE_TEST_REQUIRE_ALL"):
        pytest.fail(message)
    pytest.skip(message)


def probed(path: Path) -> dict[str, Any]:
    """What ffprobe says of the video stream, its frames counted; `time_code_track` is whether there is one."""
    command = [program("ffprobe"), "-v", "error", "-count_frames", "-show_streams", "-of", "json", str(path)]
    streams = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=600).stdout)["streams"]
    (video,) = (stream for stream in streams if stream["codec_type"] == "video")
    tags = {name.lower(): value for name, value in video.get("tags", {}).items()}
    return {**video, "tags": tags, "time_code_track": any(s.get("codec_tag_string") == "tmcd" for s in streams)}


def raw_frames(path: Path, size: tuple[int, int], pixel_format: str, *options: str) -> Any:
    """All frames as ffmpeg decodes them: (frames, height, width, channels)."""
    import numpy as np

    command = [program("ffmpeg"), "-v", "error", *options, "-i", str(path)]
    command += ["-f", "rawvideo", "-pix_fmt", pixel_format, "-fps_mode", "passthrough", "-"]
    data = subprocess.run(command, capture_output=True, check=True, timeout=600).stdout
    return np.frombuffer(data, np.uint8).reshape(-1, size[1], size[0], len(pixel_format.rstrip("24")))
