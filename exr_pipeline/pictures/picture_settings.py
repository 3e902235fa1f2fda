"""What the pictures depend on, as one small value that a worker process can be sent.

Belongs here: that value. Not here: the environment (`exr_pipeline.settings`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal

from exr_pipeline.color.picture_rules import UN_TONE_MAPPED, PictureRule, ViewChoice, first_match, read_rules

if TYPE_CHECKING:
    from exr_pipeline.pictures.still import StillFormat
    from exr_pipeline.settings import Settings

_NOT_SETTINGS: Final = frozenset({"thumbnail_format", "picture_rules", "rules", "wish"})


@dataclass(frozen=True, slots=True)
class PictureSettings:
    """The part of `Settings` that decides how pictures look and what making them may cost; names and units are its.

    `thumbnail_format` is not among the settings: in storage, thumbnails are JPEGs. `rules` are what the file
    `picture_rules` holds, `wish` is what was asked for by hand and comes before them.
    """

    ocio: str | None
    ocio_config_path: str | None
    default_color_space: str
    still_view: Literal["view", "un-tone-mapped"]
    proxy_view: Literal["view", "un-tone-mapped"]
    thumbnail_size: int
    proxy_width: int
    proxy_height: int
    proxy_seconds: float
    max_image_mb: int
    workers: int
    worker_memory_mb: int
    worker_timeout_seconds: float
    compatibility: str = ""
    thumbnail_format: StillFormat = "jpeg"
    picture_rules: str = ""
    rules: tuple[PictureRule, ...] = ()
    wish: PictureRule = field(default_factory=PictureRule)

    @classmethod
    def from_settings(cls, settings: Settings) -> PictureSettings:
        """The picture settings among all settings. Raises `MisconfiguredError` if the rules cannot be read."""
        named = [name for name in cls.__slots__ if name not in _NOT_SETTINGS]
        found = cls(**{name: getattr(settings, name) for name in named})
        if settings.picture_rules is None:
            return found
        return replace(found, picture_rules=str(settings.picture_rules), rules=read_rules(settings.picture_rules))

    def wishing(self, wish: PictureRule) -> PictureSettings:
        """The same with what was asked for by hand."""
        return replace(self, wish=wish)

    def rule_for(self, name: str) -> PictureRule:
        """What holds for the file of this URL: the wish, else the first rule that fits, else the other settings."""
        return self.wish.over(self.of_rule(first_match(self.rules, name)))

    def of_rule(self, rule: PictureRule) -> PictureRule:
        """A rule completed by the settings that hold for every file."""
        looks = {
            medium: look if look.lut else look.over(_look(view))
            for medium, look, view in (("still", rule.still, self.still_view), ("video", rule.video, self.proxy_view))
        }
        return replace(rule, still=looks["still"], video=looks["video"])


def _look(view: str) -> ViewChoice:
    return ViewChoice(view=UN_TONE_MAPPED) if view == UN_TONE_MAPPED else ViewChoice()
