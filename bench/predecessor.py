"""How the serverless predecessors do it: OpenImageIO on a temporary file, a chain of programs per picture.

Belongs here: their route, in its favourable reading, for comparison. Not here: measuring it.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

RANGE_BYTES: Final = 256 * 1024
OCIO_CONFIG: Final = "ocio://studio-config-v2.2.0_aces-v1.3_ocio-v2.4"


class RefusedError(Exception):
    """The library does not open the file."""


def header_json(path: Path) -> str:
    """What OpenImageIO says of a file: every subimage's size, channels and attributes."""
    import OpenImageIO as Oiio
    import orjson

    source = Oiio.ImageInput.open(str(path))
    if source is None:
        raise RefusedError(Oiio.geterror())
    parts: list[dict[str, Any]] = []
    try:
        while source.seek_subimage(len(parts), 0):
            spec = source.spec()
            parts.append(
                {
                    "size": [spec.width, spec.height, spec.full_width, spec.full_height],
                    "offset": [spec.x, spec.y],
                    "tile": [spec.tile_width, spec.tile_height],
                    "channels": [
                        [name, str(spec.channelformat(index))] for index, name in enumerate(spec.channelnames)
                    ],
                    "attributes": [[item.name, str(item.type), item.value] for item in spec.extra_attribs],
                }
            )
    finally:
        source.close()
    return orjson.dumps(parts, default=str).decode()


def header_json_of_bytes(data: bytes) -> str:
    """The same of the first bytes of a file, by way of a temporary file: the library reads no memory."""
    with tempfile.NamedTemporaryFile(suffix=".exr") as file:
        file.write(data)
        file.flush()
        return header_json(Path(file.name))


def ffmpeg() -> str | None:
    """The program, if it is installed."""
    return shutil.which("ffmpeg")


@dataclass(frozen=True)
class PictureChain:
    """One file's thumbnail and proxy by three oiiotool processes, and ffmpeg for the movie of one frame."""

    oiiotool: str
    ffmpeg: str | None

    @classmethod
    def found(cls) -> PictureChain:
        """The programs of this environment: oiiotool itself comes with the wheel, behind a script that starts it."""
        spec = find_spec("OpenImageIO")
        assert spec is not None
        assert spec.origin is not None
        return cls(str(Path(spec.origin).parent / "bin" / "oiiotool"), ffmpeg())

    def run(self, source: Path, folder: Path) -> tuple[Path, Path]:
        """Detect, make the thumbnail, make the proxy of a render in ACEScg; returns both files."""
        thumbnail, frame = folder / "thumb.jpg", folder / "proxy.png"
        self._call("--info", "-v", str(source))
        self._convert(source, "256x256", thumbnail, "sRGB - Display")
        self.to_frame(source, frame)
        if self.ffmpeg is None:
            return thumbnail, frame
        movie = folder / "proxy.mp4"
        self.encode(("-i", str(frame)), movie)
        return thumbnail, movie

    def to_frame(self, source: Path, target: Path) -> None:
        """Make the proxy frame of a render in ACEScg, a PNG."""
        self._convert(source, "1920x1080", target, "Rec.1886 Rec.709 - Display")

    def encode(self, source: tuple[str, ...], movie: Path) -> None:
        """Have ffmpeg make an H.264 movie of what `source`, its arguments, names."""
        assert self.ffmpeg is not None
        encode = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-movflags", "+faststart")
        _start([self.ffmpeg, "-loglevel", "error", "-y", *source, *encode, str(movie)])

    def _convert(self, source: Path, box: str, target: Path, space: str) -> None:
        # The published code carries all channels along and writes a full-size EXR in between: this is its better self.
        self._call(str(source), "--ch", "R,G,B", "--colorconvert", "ACEScg", space, "--fit", box, "-o", str(target))

    def _call(self, *arguments: str) -> None:
        _start([self.oiiotool, "--colorconfig", OCIO_CONFIG, *arguments])


def _start(command: list[str]) -> None:
    finished: Any = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise RuntimeError(f"{Path(command[0]).name}: {finished.stdout} {finished.stderr}")
