"""How large a benchmark is run.

Belongs here: the choice of the command line. Not here: what each benchmark makes of it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """`files`: the number asked for, None for the usual one. `tiny`: only show that everything runs.

    `live`: the most files that keep their partitions, None if all do.
    """

    files: int | None = None
    tiny: bool = False
    live: int | None = None

    def count(self, usual: int, least: int) -> int:
        """How many of something."""
        return self.files or (least if self.tiny else usual)

    def rounds(self, usual: int) -> int:
        """How many turns each side gets."""
        return 1 if self.tiny else usual
