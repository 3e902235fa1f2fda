"""The SDK's generated flatbuffers modules by name, and objects of them built and parsed.

Belongs here: flatbuffers. Not here: what the messages mean (`queries`, `api`).
"""

import functools
import importlib
from typing import Any

import flatbuffers


@functools.cache
def _generated(package: str, name: str) -> Any:
    """The generated flatbuffers module `name` (it holds the class `name` and its builder functions)."""
    return importlib.import_module(f"vastdb.vast_flatbuf.{package}.{name}")


T = functools.partial(_generated, "tabular")
IR = functools.partial(_generated, "org.apache.arrow.computeir.flatbuf")
ARROW = functools.partial(_generated, "org.apache.arrow.flatbuf")


def fb_init(cls: Any, table: Any) -> Any:
    obj = cls()
    obj.Init(table.Bytes, table.Pos)
    return obj


@functools.cache
def literal_names() -> dict[int, str]:
    return {v: k for k, v in vars(IR("LiteralImpl").LiteralImpl).items() if isinstance(v, int)}


def build(b: flatbuffers.Builder, name: str, **fields: Any) -> int:
    """A flatbuffers object of tabular/`name`: strings, lists of offsets, numbers and offsets by field name."""
    module, ready = T(name), {}
    for key, value in fields.items():
        if isinstance(value, str):
            value = b.CreateString(value)
        elif isinstance(value, list):
            getattr(module, f"Start{key}Vector")(b, len(value))
            for offset in reversed(value):
                b.PrependUOffsetTRelative(offset)
            value = b.EndVector()
        ready[key] = value
    module.Start(b)
    for key, value in ready.items():
        getattr(module, f"Add{key}")(b, value)
    return module.End(b)


def finish(b: flatbuffers.Builder, offset: int) -> bytes:
    b.Finish(offset)
    return bytes(b.Output())
