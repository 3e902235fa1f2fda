"""Log lines: as JSON, one object per line with file, run and trace, or as text that no terminal obeys.

Belongs here: the two forms, and what a line is about. Not here: Dagster's own handlers (`orchestration.instance`).
"""

from __future__ import annotations

import json
import logging
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TextIO

from exr_pipeline.telemetry.trace_context import current_traceparent, ids_of
from exr_pipeline.untrusted_text import visible, visible_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exr_pipeline.settings import Settings

_NOTHING: Final[Mapping[str, str]] = {}
_about: ContextVar[Mapping[str, str]] = ContextVar("what log lines are about", default=_NOTHING)


@contextmanager
def about(**facts: str) -> Iterator[None]:
    """Have log lines of the block say what they are about: `file`, a URL, and `run`, an identifier."""
    token = _about.set({**_about.get(), **facts})
    try:
        yield
    finally:
        _about.reset(token)


class JsonFormatter(logging.Formatter):
    """One object per line. Whatever text holds, it is escaped, and the line is one line of ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        facts, traceparent = _about.get(), current_traceparent()
        trace_id, span_id = ids_of(traceparent) if traceparent else (None, None)
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "file": facts.get("file"),
            "run": facts.get("run"),
            "trace_id": trace_id,
            "span_id": span_id,
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class TextFormatter(logging.Formatter):
    """The message alone in one line, and a stack trace if there is one, without characters that a terminal obeys."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line = visible_line(record.getMessage())
        return f"{line}\n{visible(self.formatException(record.exc_info))}" if record.exc_info else line


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to whatever standard error is at the time."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        self.stream = sys.stderr
        super().emit(record)


def set_up_logs(settings: Settings, platforms: logging.Logger | None = None) -> None:
    """Write the log lines of this project to standard error in the form that `EXR_PIPELINE_LOG_FORMAT` names.

    As text, warnings and errors; as JSON, all that is of `EXR_PIPELINE_CONSOLE_LEVEL`. Safe to repeat. Handlers that
    are there already, of the root or of the logger that a platform hands over, keep their place: only the form of
    their lines becomes JSON.
    """
    ours = logging.getLogger("exr_pipeline")
    theirs = [*logging.getLogger().handlers, *getattr(platforms, "handlers", ())]
    if settings.log_format == "json":
        ours.setLevel(settings.console_level)
        for handler in [*theirs, *ours.handlers]:
            handler.setFormatter(JsonFormatter())
    if logging.getLogger().handlers or ours.handlers:
        return
    handler = _Handler()
    handler.setLevel(logging.NOTSET if settings.log_format == "json" else logging.WARNING)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    ours.addHandler(handler)
