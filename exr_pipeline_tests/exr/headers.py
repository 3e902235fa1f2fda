"""Headers made for tests: the least that a part needs, and arbitrary ones of all types."""

from typing import Any

from hypothesis import strategies as st

from exr_pipeline.exr import (
    Attribute,
    Box2f,
    Box2i,
    Bytes,
    Channel,
    Chromaticities,
    Header,
    KeyCode,
    Matrix,
    Preview,
    Rational,
    TileDescription,
    TimeCode,
    V2f,
    V2i,
    V3f,
    V3i,
)

TYPES = {
    "channels": "chlist",
    "compression": "compression",
    "dataWindow": "box2i",
    "displayWindow": "box2i",
    "lineOrder": "lineOrder",
    "pixelAspectRatio": "float",
    "screenWindowCenter": "v2f",
    "screenWindowWidth": "float",
    "tiles": "tiledesc",
    "name": "string",
    "type": "string",
    "view": "string",
    "chunkCount": "int",
    "version": "int",
}
DEFAULTS: dict[str, Any] = {
    "channels": (Channel("B", "HALF"), Channel("G", "HALF"), Channel("R", "HALF")),
    "compression": 3,
    "dataWindow": Box2i(0, 0, 63, 31),
    "displayWindow": Box2i(0, 0, 63, 31),
    "lineOrder": 0,
    "pixelAspectRatio": 1.0,
    "screenWindowCenter": V2f(0.0, 0.0),
    "screenWindowWidth": 1.0,
}


def attributes(*extra: Attribute, **changes: Any) -> list[Attribute]:
    """The attributes of a valid part of 64x32 pixels, with values changed, added, or (None) left out."""
    values = {name: value for name, value in (DEFAULTS | changes).items() if value is not None}
    return [Attribute.of(name, TYPES[name], value) for name, value in values.items()] + list(extra)


def header(*extra: Attribute, **changes: Any) -> Header:
    """A single-part header of `attributes`."""
    return Header.build([attributes(*extra, **changes)])


int32 = st.integers(-(1 << 31), (1 << 31) - 1)
uint32 = st.integers(0, (1 << 32) - 1)
float32 = st.floats(width=32, allow_nan=False)
float64 = st.floats(allow_nan=False)
byte = st.integers(0, 255)
# Any bytes, as the parser gives them back: what isn't UTF-8 as lone surrogates.
text = st.binary(max_size=40).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
names = (
    st.binary(min_size=1, max_size=255)
    .map(lambda raw: raw.replace(b"\0", b"n"))
    .map(lambda raw: raw.decode("utf-8", "surrogateescape"))
)
channels = st.builds(Channel, names, st.sampled_from(["HALF", "FLOAT", "UINT", "TYPE_7"]), st.booleans(), int32, int32)
previews = st.tuples(st.integers(0, 3), st.integers(0, 3)).flatmap(
    lambda size: st.binary(min_size=4 * size[0] * size[1], max_size=4 * size[0] * size[1]).map(
        lambda pixels: Preview(*size, pixels)
    )
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "box2f": st.builds(Box2f, float32, float32, float32, float32),
    "box2i": st.builds(Box2i, int32, int32, int32, int32),
    "bytes": st.builds(Bytes, text, st.binary(max_size=30)),
    "chlist": st.lists(channels, max_size=5).map(tuple),
    "chromaticities": st.builds(Chromaticities, *[float32] * 8),
    "compression": byte,
    "deepImageState": byte,
    "double": float64,
    "envmap": byte,
    "float": float32,
    "floatvector": st.lists(float32, max_size=9).map(tuple),
    "int": int32,
    "keycode": st.builds(KeyCode, *[int32] * 7),
    "lineOrder": byte,
    "m33d": st.lists(float64, min_size=9, max_size=9).map(lambda numbers: Matrix(tuple(numbers))),
    "m33f": st.lists(float32, min_size=9, max_size=9).map(lambda numbers: Matrix(tuple(numbers))),
    "m44d": st.lists(float64, min_size=16, max_size=16).map(lambda numbers: Matrix(tuple(numbers))),
    "m44f": st.lists(float32, min_size=16, max_size=16).map(lambda numbers: Matrix(tuple(numbers))),
    "preview": previews,
    "rational": st.builds(Rational, int32, uint32),
    "string": text,
    "stringvector": st.lists(text, max_size=5).map(tuple),
    "tiledesc": st.builds(TileDescription, uint32, uint32, byte),
    "timecode": st.builds(TimeCode, uint32, uint32),
    "v2d": st.builds(V2f, float64, float64),
    "v2f": st.builds(V2f, float32, float32),
    "v2i": st.builds(V2i, int32, int32),
    "v3d": st.builds(V3f, float64, float64, float64),
    "v3f": st.builds(V3f, float32, float32, float32),
    "v3i": st.builds(V3i, int32, int32, int32),
    "studio:custom": st.binary(max_size=50),
}
any_attribute = st.sampled_from(sorted(VALUES)).flatmap(
    lambda type_name: st.builds(Attribute.of, names, st.just(type_name), VALUES[type_name])
)
any_header = st.one_of(
    st.lists(any_attribute, max_size=6).map(lambda listed: Header.build([listed], version=1, flags=0)),
    st.lists(st.lists(any_attribute, min_size=1, max_size=4), min_size=2, max_size=4).map(Header.build),
)
