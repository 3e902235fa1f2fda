"""Whether pictures are what the settings would make now, judged by their record and the file's header, without pixels.

Belongs here: the comparison of one file's record. Not here: rows and tables (`ingest.outdated`), or movies and sounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from exr_pipeline.color.config import View, load_config
from exr_pipeline.color.source_space import (
    FORCED,
    RULE_DEFAULT,
    forced_rule,
    rule_default_rule,
    space_by_default,
)
from exr_pipeline.inspection.json import printable
from exr_pipeline.pictures.decode.source import valid_aspect
from exr_pipeline.pictures.layers import UnknownLayerError, choose_layer
from exr_pipeline.pictures.still import Size, even, fitted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from exr_pipeline.color.config import ColorConfig
    from exr_pipeline.color.picture_rules import PictureRule, ViewChoice
    from exr_pipeline.exr import Header
    from exr_pipeline.pictures.picture_settings import PictureSettings
    from exr_pipeline.pictures.provenance import Provenance

_NO_COLOR: Final = "data"


@dataclass(frozen=True, slots=True)
class PictureRecord:
    """What is recorded of the pictures of a file; None where nothing is."""

    provenance: Provenance
    still_view: str | None
    proxy_view: str | None
    thumbnail_size: Size | None
    proxy_size: Size | None


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """What a file's header says that decides its pictures.

    `name` is its URL. `windows` are the sizes and pixel aspect ratios of the parts' display windows. `headers` are
    what the header of an OpenEXR file may be, as far as the tables tell. Where either is empty, it is not known.
    """

    name: str
    is_exr: bool
    windows: Sequence[tuple[Size, float]] = ()
    headers: Sequence[Header] = ()


class Expectation:
    """What these settings make of any file. Raises `MisconfiguredError` as rendering does."""

    def __init__(self, settings: PictureSettings) -> None:
        self._settings = settings
        self._config: ColorConfig = load_config(settings)

    def differences(self, record: PictureRecord, facts: PictureFacts) -> Iterator[str]:
        """What would be different if the pictures were made now, in words. What is not recorded is not compared."""
        rule = self._settings.rule_for(facts.name)
        yield from self._of_config(record)
        yield from self._of_layer(record, facts, rule)
        if record.provenance.source_color_space != _NO_COLOR:
            yield from self._of_space(record, facts, rule)
            for medium, look, view in (
                ("thumbnail", rule.still, record.still_view),
                ("proxy", rule.video, record.proxy_view),
            ):
                yield from self._of_view(medium, look, view, record)
        yield from self._of_sizes(record, facts)

    def _of_config(self, record: PictureRecord) -> Iterator[str]:
        old_hash = record.provenance.ocio_config_hash
        if old_hash and old_hash != self._config.hash:
            was, now = record.provenance.ocio_config, self._config.name
            versions = "" if was != now else f" ({old_hash[:12]}, now {self._config.hash[:12]})"
            yield _changed("OCIO config", was, f"{now}{versions}")

    def _of_layer(self, record: PictureRecord, facts: PictureFacts, rule: PictureRule) -> Iterator[str]:
        layers = [self._layer(header, facts.name, rule.layer) for header in facts.headers]
        was = record.provenance.layer
        if was and layers and printable(was) not in layers:
            yield _changed("layer", was, layers[0])

    def _layer(self, header: Header, name: str, wanted: str) -> str:
        try:
            return printable(str(choose_layer(header, name=name, wanted=wanted)))
        except UnknownLayerError:
            return printable(str(choose_layer(header, name=name)))

    def _of_space(self, record: PictureRecord, facts: PictureFacts, rule: PictureRule) -> Iterator[str]:
        was = record.provenance.color_rule
        if rule.source_space:
            now = forced_rule(rule.source_space)
        elif was.startswith(FORCED):
            now = "what the file says"
        elif not was.startswith("default"):
            return
        elif rule.default_space:
            now = rule_default_rule(rule.default_space)
        elif facts.is_exr:
            now = space_by_default(self._config, self._settings.default_color_space, []).rule
        else:
            now = "default" if was.startswith(RULE_DEFAULT) else was
        if was and was != now:
            yield _changed("source space by", was, now)

    def _of_view(self, medium: str, look: ViewChoice, was: str | None, record: PictureRecord) -> Iterator[str]:
        if not was or self._config.is_data(record.provenance.source_color_space):
            return
        view, _ = self._config.find_view("still" if medium == "thumbnail" else "video", look)
        # What was made for a display gets no view again; its record names the display alone.
        if was not in {str(view), str(View(view.display))}:
            yield _changed(f"view of the {medium}", was, str(view))

    def _of_sizes(self, record: PictureRecord, facts: PictureFacts) -> Iterator[str]:
        settings = self._settings
        still_box = Size(settings.thumbnail_size, settings.thumbnail_size)
        proxy_box = Size(settings.proxy_width, settings.proxy_height)
        if record.thumbnail_size is not None:
            sizes = _fitting(facts.windows, still_box)
            if record.proxy_size is not None:
                # A thumbnail is shrunk from the proxy if both are made at once.
                sizes.append(fitted(*record.proxy_size, 1.0, still_box))
            yield from size_difference("thumbnail", record.thumbnail_size, sizes)
        if record.proxy_size is not None:
            sizes = [even(size, proxy_box) for size in _fitting(facts.windows, proxy_box)]
            yield from size_difference("proxy", record.proxy_size, sizes)


def size_difference(what: str, was: Size, expected: Sequence[Size]) -> Iterator[str]:
    """What is wrong with a size, if it is none of those expected, but for a pixel of the side that follows."""
    if expected and not any(_alike(was, size) for size in expected):
        yield _changed(f"size of the {what}", f"{was.width}x{was.height}", f"{expected[0].width}x{expected[0].height}")


def _alike(one: Size, other: Size) -> bool:
    across, down = abs(one.width - other.width), abs(one.height - other.height)
    return min(across, down) == 0 and max(across, down) <= 1


def _changed(what: str, was: str, now: str) -> str:
    return f"{what}: {was}, would be {now}"


def _fitting(windows: Iterable[tuple[Size, float]], box: Size) -> list[Size]:
    """The sizes within a box, for pictures that are stored upright and for those that are stored turned."""
    upright = [(size, valid_aspect(aspect)) for size, aspect in windows]
    turned = [(Size(size.height, size.width), 1 / aspect) for size, aspect in upright]
    return [fitted(*size, aspect, box) for size, aspect in (*upright, *turned)]
