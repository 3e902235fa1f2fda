"""Opening a movie or sound that nobody vouches for.

Belongs here: letting in no containers but those of `exr_pipeline.formats`, decoding past damage, and errors as ours.
Not here: what is read of them.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exr_pipeline.errors import BadInputError, RetryableError
from exr_pipeline.footage.channels import own_order
from exr_pipeline.formats import FORMATS
from exr_pipeline.storage.machine_errors import machine_trouble

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from av.container import InputContainer

    from exr_pipeline.footage.alpha import Decoder


@contextmanager
def opened(path: str, name: str, *, layouts: dict[int, str] | None = None) -> Iterator[InputContainer]:
    """The container in a local file; errors of libav within the block become `BadInputError` of `name`.

    Layouts of sound that list their channels are taken off the streams, and put into `layouts` by the stream's index.
    A full disk and the like are `RetryableError`, and memory that it does not get `MemoryError`.
    """
    import av

    if not Path(path).is_file():
        raise BadInputError(name, "not a regular file")
    containers = ",".join(container for row in FORMATS for container in row.containers)
    options = {"format_whitelist": containers, "protocol_whitelist": "file"}
    try:
        with av.open(path, options=options, metadata_errors="replace") as container:
            taken = _take_listed_layouts(container)
            if layouts is not None:
                layouts.update(taken)
            yield container
    except av.error.MemoryError:
        raise
    except av.error.FFmpegError as error:
        if trouble := machine_trouble(error):
            raise RetryableError(f"{name}: {trouble}") from error
        reason = (error.strerror or type(error).__name__).lower()
        raise BadInputError(name, f"not a readable movie or sound: {reason}") from error
    except EOFError as error:
        raise BadInputError(name, "not a readable movie or sound: the file ends too early") from error


def packets(container: InputContainer, streams: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """The packets of some streams, each with its stream's index; at the end an empty one for each, for what is within.

    The index that PyAV gives to those empty ones is always 0.
    """
    wanted = {stream.index for stream in streams}
    # PyAV stumbles at the end if further streams came up while it read.
    with suppress(IndexError):
        for packet in container.demux(*streams):
            if packet.stream.index in wanted:
                yield packet.stream.index, packet


def decoded(packet: Any, decoder: Decoder | None = None) -> list[Any] | None:
    """The frames that are ready once this packet is decoded, by libav's decoder or this one; None if it is damaged."""
    import av

    try:
        return list(packet.decode()) if decoder is None else decoder.frames(packet)
    except av.error.MemoryError:
        raise
    except (av.error.FFmpegError, EOFError):
        return None


def _take_listed_layouts(container: InputContainer) -> dict[int, str]:
    """Replace layouts that libav keeps as a list of channels by the number of channels.

    PyAV copies such a list's address with each frame and frees it with each copy, which ends the process.
    """
    taken = {}
    for stream in container.streams.audio:
        # A stream of an unknown codec has none.
        if stream.codec_context is not None:
            layout = stream.codec_context.layout
            listed = own_order(layout)
            if listed is not None:
                taken[stream.index] = listed
                stream.codec_context.layout = f"{layout.nb_channels} channels"
    return taken
