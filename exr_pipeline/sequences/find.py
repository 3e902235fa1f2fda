"""Finding sequences among files, and the one that a pattern, folder or beginning of names means.

Belongs here: which files belong together (docs/sequence-movies.md). Not here: what a sequence is worth (`model`), or
the rule which part of a name is a frame number (`inspection.identity`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

from exr_pipeline.errors import BadInputError, MisconfiguredError
from exr_pipeline.formats import format_of_name
from exr_pipeline.inspection.identity import split_frame_text
from exr_pipeline.sequences.model import Frame, Listed, Sequence
from exr_pipeline.storage.locations import Location, is_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fileseq.filesequence import FileSequence

    from exr_pipeline.storage.object_info import ObjectInfo
    from exr_pipeline.storage.objects import ObjectStorage

# A folder or a word of the name that says: these numbers are tiles of a texture.
UDIM_HINT: Final = r"(?i)(?:^|[/._-])(?:udims?|tex|textures?)(?:[/._-]|$)"
_UDIM_TILES: Final = range(1001, 2000)

# What stands for the frame number: of Nuke, of shells, of C, of Houdini, of Mari.
_TOKEN: Final = re.compile(r"#+|@+|%\d*d|\$F\d*|<UDIM>|%\(UDIM\)d", re.ASCII)
# Frames before it: 1001-1020, 1,3,5-9x2.
_RANGE: Final = re.compile(r"-?\d[\d,xy:.\-]*$", re.ASCII)
_VIEW: Final = re.compile(r"%[Vv]")
_NUMBER: Final = re.compile(r"-?\d+(?:\.\d+)?", re.ASCII)
_PATTERN: Final = re.compile(r"(.*?)(#+)([^#]*)", re.DOTALL)
_NAMED: Final = 20


# A number that nothing separates from the name. What a pattern could be read into stays out.
_UNSEPARATED: Final = re.compile(r"(.*[^\d._#@%$])(\d{1,9})", re.ASCII | re.DOTALL)
# So many files of one name and padding are evidence that their numbers are those of frames.
_EVIDENCE: Final = 3
# The last word before a number that makes it a version, also at the end of another word if it is `v` and few digits.
_LAST_WORD: Final = re.compile(r"([A-Z]?[a-z]+|[A-Z]+)[^A-Za-z]*$", re.ASCII)
_VERSION_WORDS: Final = frozenset(
    {"v", "ver", "version", "rev", "revision", "take", "tk", "draft", "iter", "iteration"}
)
_VERSION_DIGITS: Final = 3


class _Member(NamedTuple):
    text: str
    frame: Frame


def find_sequences(
    files: Iterable[Location | Listed], *, singles: bool = False, udim: str = UDIM_HINT
) -> list[Sequence]:
    """The sequences among these files, in order of their location; files that are no still picture are left out.

    Numbers of another padding or another stem are another sequence, so are those of another view. A number that nothing
    separates from the name (`img0001.exr`) counts if three files of the same padding have one and no word before it
    says that it is a version. Files that lie in 1001 to 1999 and whose key matches the regular expression `udim` are
    tiles of a texture, no frames (an empty expression turns that off). One file alone is no sequence unless `singles`.
    Raises `MisconfiguredError` if `udim` is no regular expression.
    """
    try:
        tiles = re.compile(udim) if udim else None
    except re.error as error:
        raise MisconfiguredError(
            "EXR_PIPELINE_UDIM_HINT",
            f"{udim!r} is not a valid regular expression: {error}",
            "correct it, or set it to nothing",
        ) from None
    separated: dict[tuple[Location, str, str], list[_Member]] = defaultdict(list)
    unseparated: dict[tuple[Location, str, str], list[_Member]] = defaultdict(list)
    for file in files:
        location, etag = (file, "") if isinstance(file, Location) else (file.location, file.etag)
        if not _can_be_frame(location):
            continue
        name = location.name
        stem, text = split_frame_text(name)
        groups = separated
        if not text and (text := _unseparated(stem)):
            stem, groups = stem.removesuffix(text), unseparated
        if text:
            home = Location(location.scheme, location.bucket, location.key.removesuffix(name))
            groups[home, stem, name[len(stem) + len(text) :]].append(
                _Member(text, Frame(Decimal(text), location, etag))
            )
    found = []
    for groups, wanted in ((separated, 1 if singles else 2), (unseparated, _EVIDENCE)):
        for (home, prefix, suffix), members in groups.items():
            for padding, frames in _by_padding(members).items():
                sequence = Sequence(home, prefix, padding, suffix, frames)
                if len(frames) >= wanted and not (tiles and _are_tiles(sequence, tiles)):
                    found.append(sequence)
    return sorted(found, key=lambda sequence: sequence.location)


def _can_be_frame(location: Location) -> bool:
    found = format_of_name(location.key)
    return found is not None and found.can_be_frame


def _unseparated(stem: str) -> str:
    """The digits that end a name and that nothing separates from it; empty if a word says that they are a version."""
    found = _UNSEPARATED.fullmatch(stem)
    if found is None:
        return ""
    before, digits = found.groups()
    word = _LAST_WORD.search(before)
    last = word[1].lower() if word else ""
    is_version = last in _VERSION_WORDS or (last.endswith("v") and len(digits) <= _VERSION_DIGITS)
    return "" if is_version else digits


def _are_tiles(sequence: Sequence, hint: re.Pattern[str]) -> bool:
    return (
        not sequence.has_sub_frames
        and int(sequence.first) in _UDIM_TILES
        and int(sequence.last) in _UDIM_TILES
        and hint.search(f"{sequence.folder.key}{sequence.prefix}") is not None
    )


def _by_padding(members: list[_Member]) -> dict[int, tuple[Frame, ...]]:
    """The frames by the padding that fits them: 8, 9 and 10 are one sequence, 008 and 9 are two.

    A number with leading zeros opens a padding of its own width, as does the shortest number; others belong to the
    widest padding that is no wider than they are. A minus sign is no digit, as in -0001 before 0000. The view
    `sequences` says the same in SQL (`tables.sequence_views`).
    """
    digits = [member.text.lstrip("-").partition(".")[0] for member in members]
    paddings = {len(text) for text in digits if len(text) > 1 and text[0] == "0"} | {min(map(len, digits))}
    result: dict[int, list[Frame]] = defaultdict(list)
    for text, member in zip(digits, members, strict=True):
        result[max(padding for padding in paddings if padding <= len(text))].append(member.frame)
    by_location = {
        padding: tuple(sorted(frames, key=lambda frame: (frame.number, frame.location)))
        for padding, frames in result.items()
    }
    return _with_shorter_negatives(by_location)


def _with_shorter_negatives(by_padding: dict[int, tuple[Frame, ...]]) -> dict[int, tuple[Frame, ...]]:
    """Negative frames whose sign took the place of a digit (-001 before 0000) belong to the wider sequence."""
    for padding in sorted(by_padding):
        frames, wider = by_padding[padding], by_padding.get(padding + 1)
        if wider and padding > 1 and frames[-1].number < 0 <= wider[0].number:
            del by_padding[padding]
            by_padding[padding + 1] = frames + wider
    return by_padding


def number_in(pattern: str, name: str) -> Decimal | None:
    """The frame number that a file name has in the sequence of a pattern such as `beauty.####.exr`; None if in none.

    `pattern` is that of `Sequence.pattern`, one `#` per digit.
    """
    found = _PATTERN.fullmatch(pattern)
    if found is None:
        return None
    before, hashes, after = found.groups()
    # Some of the signs may belong to the name.
    for padding in range(len(hashes), 0, -1):
        start = before + "#" * (len(hashes) - padding)
        if name.startswith(start) and name.endswith(after):
            text = name[len(start) : len(name) - len(after)]
            if _NUMBER.fullmatch(text) and _fits(text, padding):
                return Decimal(text)
    return None


def resolve_sequence(place: Location, storage: ObjectStorage, *, udim: str = UDIM_HINT) -> Sequence:
    """The one sequence that a place means, with the etags of its frames.

    A place is the location of a sequence that `find_sequences` lists, whatever characters its name holds; else a
    pattern (`shot.####.exr`, `shot.%04d.exr`, `shot.@@@@.exr`, `shot.$F4.exr`, with a frame range
    `shot.1001-1020####.exr`, with `%V` for a view), a folder, the beginning of names, or one file, which is then a
    sequence of one frame. A single `#` or `@` is a number of any width.
    Raises `BadInputError` if there is none, or if there are several, which it lists; and what listing raises.
    """
    found = _found(place, storage, udim)
    name = place.url.replace("%23", "#")
    if not found:
        raise BadInputError(name, "no frames of a sequence found")
    if len(found) > 1:
        listed = "; ".join(str(sequence) for sequence in found[:_NAMED])
        more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise BadInputError(name, f"{len(found)} sequences found, give one of them: {listed}{more}")
    return found[0]


def _found(place: Location, storage: ObjectStorage, udim: str) -> list[Sequence]:
    if not _TOKEN.search(place.name):
        return _below(place, storage, udim)
    folder = place.folder
    direct = [info for info in _objects(folder, storage) if "/" not in info.location.key[len(folder.key) :]]
    listed = [one for one in find_sequences(direct, singles=True, udim="") if one.location == place]
    if listed:
        return listed
    if any(info.location == place for info in direct):
        return _below(place, storage, udim)
    if _VIEW.search(place.key):
        return _of_views(place, storage)
    return _matching(place, folder, direct)


def _objects(folder: Location, storage: ObjectStorage) -> Iterator[ObjectInfo]:
    path = storage.local_path(folder)
    if path is not None and not path.is_dir():
        return iter(())
    return (
        info
        for info in storage.iter_objects(folder)
        if is_source(info.location.key, below=folder.key) and _can_be_frame(info.location)
    )


def _below(place: Location, storage: ObjectStorage, udim: str) -> list[Sequence]:
    path = storage.local_path(place)
    if path is not None and path.is_file():
        return find_sequences([storage.head(place)], singles=True, udim="") or [_of_one(storage.head(place))]
    folder = place.as_folder()
    objects = list(_objects(folder, storage))
    if not objects and not place.key.endswith("/"):
        parent = place.folder
        objects = [info for info in _objects(parent, storage) if info.location.key.startswith(place.key)]
        if len(objects) == 1 and objects[0].location == place:
            return find_sequences(objects, singles=True, udim="") or [_of_one(objects[0])]
    direct = [info for info in objects if "/" not in info.location.key[len(folder.key) :]]
    return (
        find_sequences(direct, udim=udim)
        or find_sequences(objects, udim=udim)
        or find_sequences(objects, udim=udim, singles=True)
    )


def _of_one(info: ObjectInfo) -> Sequence:
    """A file without a number, as its own only frame, number 1."""
    name = info.location.name
    folder = Location(info.location.scheme, info.location.bucket, info.location.key.removesuffix(name))
    stem, dot, extension = name.rpartition(".")
    return Sequence(folder, stem, 0, dot + extension, (Frame(Decimal(1), info.location, info.etag),))


def _of_views(pattern: Location, storage: ObjectStorage) -> list[Sequence]:
    """The sequences that fit a pattern whose name or folder leaves the view open."""
    view = _VIEW.search(pattern.key)
    until = view.start() if view else len(pattern.key)
    folder = Location(pattern.scheme, pattern.bucket, pattern.key[: pattern.key.rfind("/", 0, until) + 1])
    return _matching(pattern, folder, list(_objects(folder, storage)))


def _matching(pattern: Location, folder: Location, objects: list[ObjectInfo]) -> list[Sequence]:
    """The sequences among the objects of a folder that fit a pattern; several if it leaves view or padding open.

    The last sign for a number is the number's. Digits before it are part of the name, unless no file is called so:
    then they are a range of frames.
    """
    name = pattern.key[len(folder.key) :]
    *_, token = _TOKEN.finditer(name)
    before, after = name[: token.start()], name[token.end() :]
    found = _fitting(folder, objects, before, after, _parsed("", token[0]))
    digits = None if found else _RANGE.search(before)
    if digits is None:
        return found
    parsed = _parsed(digits[0], token[0])
    if parsed is None or parsed.frameSet() is None:
        return []
    # What fileseq leaves before the range belongs to the name: `v002.` of `v002.1001-1020`.
    return _fitting(folder, objects, before[: digits.start()] + parsed.basename()[2:], after, parsed)


def _parsed(frame_range: str, token: str) -> FileSequence | None:
    """A range of frames and a padding as fileseq reads them; None for what is no range."""
    from fileseq.constants import PAD_STYLE_HASH1
    from fileseq.exceptions import FileSeqException
    from fileseq.filesequence import FileSequence

    try:
        return FileSequence(f"f.{frame_range}{token}.x", pad_style=PAD_STYLE_HASH1, allow_subframes=True)
    except (FileSeqException, ValueError):
        return None


def _fitting(
    folder: Location, objects: list[ObjectInfo], before: str, after: str, parsed: FileSequence | None
) -> list[Sequence]:
    if parsed is None:
        return []
    expression = re.compile(
        f"({_views(before)})(?P<number>{_NUMBER.pattern})(?P<end>{_views(after)})", re.ASCII | re.DOTALL
    )
    groups: dict[tuple[str, str], list[_Member]] = defaultdict(list)
    asked = parsed.frameSet()
    for info in objects:
        found = expression.fullmatch(info.location.key[len(folder.key) :])
        if found is None:
            continue
        start, text, end = found.group(1), found.group("number"), found.group("end")
        number = Decimal(text)
        wanted = asked is None or number in asked
        if wanted and _fits(text, parsed.zfill()):
            groups[start, end].append(_Member(text, Frame(number, info.location, info.etag)))
    sequences = []
    for (start, end), members in groups.items():
        inner, slash, prefix = start.rpartition("/")
        place = folder.child(inner + slash) if slash else folder
        for padding, frames in _by_padding(members).items():
            sequences.append(Sequence(place, prefix, padding, end, frames))
    return sorted(sequences, key=lambda sequence: sequence.location)


def _views(text: str) -> str:
    return re.escape(text).replace("%V", "[A-Za-z]+").replace("%v", "[A-Za-z]")


def _fits(text: str, padding: int) -> bool:
    """Whether a number as written has the padding: as many digits, or more without leading zeros; 1 is any."""
    digits = text.lstrip("-").partition(".")[0]
    shortest = padding - 1 if text.startswith("-") else padding
    return padding <= 1 or len(digits) in {shortest, padding} or (len(digits) > padding and digits[0] != "0")
