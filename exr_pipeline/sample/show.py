"""The sample show: everything in it, written through a function that puts one file at a time.

Belongs here: the order of writing, progress and the summary. Not here: what the files hold (`shots`, `library`).
"""

from collections.abc import Callable

from exr_pipeline.sample import library, shots
from exr_pipeline.sample.facts import ShowFile, ShowSummary


def write_show(
    put: Callable[[str, bytes], None], *, progress: Callable[[int, int, str], None] | None = None
) -> ShowSummary:
    """Makes the show and hands each file to `put(relative_key, data)` as it is made, in a fixed order.

    `progress(done, total, key)` is called after each file. The same bytes come out each time and in each process on
    one machine; another machine's processor or libraries may round or compress differently. Errors of `put` are
    passed on, and nothing is put after one.
    """
    sections = (*library.sections(), *shots.sections())
    total = sum(section.count for section in sections)
    files: list[ShowFile] = []
    for section in sections:
        for facts, data in section.make():
            put(facts.key, data)
            files.append(facts)
            if progress is not None:
                progress(len(files), total, facts.key)
    return ShowSummary(tuple(files), shots.SEQUENCES, (*shots.TROUBLES, *library.TROUBLES))
