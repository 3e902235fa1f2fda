"""Text of files and names is shown such that it can't command what shows it."""

import pickle
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from exr_pipeline.errors import BadInputError, ExrPipelineError, RetryableError
from exr_pipeline.untrusted_text import markdown_code, quoted, visible, visible_line

TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
ANYTHING = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("beauty.0001.exr", "beauty.0001.exr"),
        ("\x1b]0;OWNED\x07", r"\x1b]0;OWNED\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("good\rbad", r"good\x0dbad"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("pass\u200bword\ufeff", r"pass\u200bword\ufeff"),
        ("one\u2028two", r"one\u2028two"),
        (b"caf\xe9.exr".decode("utf-8", "surrogateescape"), r"caf\xe9.exr"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("été 夜 \N{FAMILY} 👩‍🚀", "été 夜 \N{FAMILY} 👩‍🚀"),
        ("tab\tand\nline", "tab\tand\nline"),
    ],
)
def test_what_a_terminal_would_obey_or_hide_is_spelled_out_and_all_else_stays(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "'plain'"),
        (b"caf\xe9".decode("utf-8", "surrogateescape"), r"'caf\xe9'"),
        (b"\\\xff\xfe".decode("utf-8", "surrogateescape"), r"'\\\xff\xfe'"),
        (r"\udcdd says so é", r"'\\udcdd says so é'"),
        ("two\nlines", r"'two\nlines'"),
        ("\u202e\ud800", r"'\u202e\ud800'"),
    ],
)
def test_quoted_text_spells_bytes_that_were_not_text_as_bytes(text: str, shown: str) -> None:
    assert quoted(text) == shown


@given(ANYTHING)
def test_visible_text_is_valid_and_holds_neither_control_nor_bidirectional_characters(text: str) -> None:
    shown = visible(text)
    shown.encode()
    for character in shown:
        if unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}:
            assert character in "\t\n"
        assert unicodedata.bidirectional(character) not in {
            "LRE",
            "RLE",
            "LRO",
            "RLO",
            "PDF",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        }
    assert visible(shown) == shown
    assert "\n" not in visible_line(text)


@given(ANYTHING | st.text("`|\\*_[]()<>!#~ \nab"))
def test_markdown_shows_any_text_as_code_and_nothing_else(text: str) -> None:
    (opening, inline, closing) = MarkdownIt("commonmark", {"html": True}).parse(markdown_code(text))
    assert (opening.type, closing.type) == ("paragraph_open", "paragraph_close")
    (code,) = inline.children or []
    assert (code.type, code.content.strip()) == ("code_inline", visible_line(text) or "-")


@pytest.mark.parametrize(
    "error", [BadInputError("a\x1b[2J.exr", "it says \x1b]0;OWNED\x07"), RetryableError("\x9b31m"), ExrPipelineError()]
)
def test_no_error_carries_what_a_terminal_would_obey_also_from_another_process(error: ExrPipelineError) -> None:
    for received in (error, pickle.loads(pickle.dumps(error))):
        assert str(received).isprintable()
        assert getattr(received, "reason", "").isprintable()
