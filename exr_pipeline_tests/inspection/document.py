"""The generated part of docs/embeddings.md: every dimension of both vectors, as the code has them.

Belongs here: writing them down. `python -m exr_pipeline_tests.inspection.document` brings the document up to date.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from exr_pipeline.inspection.embedding import EMBEDDING_VERSION, FINGERPRINT_BLOCKS, METADATA_BLOCKS, Block

DOCUMENT = Path(__file__).parents[2] / "docs" / "embeddings.md"
BEGIN = "<!-- blocks: begin (python -m exr_pipeline_tests.inspection.document) -->\n"
END = "<!-- blocks: end -->\n"


def generated() -> str:
    lines = ["", f"The version is {EMBEDDING_VERSION}.", ""]
    lines += ["### `metadata_embedding`", "", *_table(METADATA_BLOCKS), ""]
    lines += ["### `channel_fingerprint`", "", *_table(FINGERPRINT_BLOCKS), ""]
    return "\n".join([*lines, ""])


def _table(blocks: Sequence[Block]) -> Iterator[str]:
    yield from ("| dimensions | block | weight | meaning |", "|---|---|---|---|")
    start = 0
    for block in blocks:
        meaning = "; ".join([block.meaning, *_dimensions(block, start)]).replace("|", "\\|")
        yield f"| {start} to {start + block.size - 1} | {block.name} | {block.weight:g} | {meaning} |"
        start += block.size


def _dimensions(block: Block, start: int) -> Iterator[str]:
    if block.words:
        named = ", ".join(f"{start + place} `{word}`" for place, word in enumerate(block.words))
        unused, last = start + len(block.words), start + block.size - 1
        yield f"{named}, {last} any other" + (f", unused from {unused}" if unused < last else "")
    elif block.meaning.startswith("number"):
        yield f"{start} cosine, {start + 1} sine"
    elif block.meaning.startswith("set"):
        yield f"{start} nothing, {start + 1} to {start + block.size - 1} by CRC-32"


def updated(text: str) -> str:
    """The document with its generated part made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + generated() + END + after


if __name__ == "__main__":
    DOCUMENT.write_text(updated(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
