"""The function as AWS Lambda calls it, with events of S3, SQS, SNS or EventBridge.

Belongs here: Lambda's handler and its report of failed messages. Not here: anything about events or files (`events`,
`work`).
"""

from __future__ import annotations

from functools import cache
from typing import Any

from exr_pipeline.functions.answer import is_retryable, one_answer
from exr_pipeline.functions.work import FunctionWork, TryAgainError


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Ingest the objects that an event names. Raises `TryAgainError` for what may succeed later.

    Of a batch from SQS, messages that are to be received again are named in `batchItemFailures` instead: turn on
    `ReportBatchItemFailures` in the event source mapping. All of a batch is one transaction.
    """
    records = event.get("Records") if isinstance(event, dict) else None
    if not (isinstance(records, list) and records and all(_is_message(record) for record in records)):
        return one_answer(_work().answer(event))
    messages = [{"Records": [record]} for record in records]
    try:
        answers = _work().answer_all(messages)
    except TryAgainError as error:
        answers = error.answers
    failures = [
        {"itemIdentifier": record["messageId"]}
        for record, found in zip(records, answers, strict=True)
        if any(map(is_retryable, found))
    ]
    return {**one_answer([answer for found in answers for answer in found]), "batchItemFailures": failures}


def _is_message(record: Any) -> bool:
    return isinstance(record, dict) and isinstance(record.get("body"), str) and isinstance(record.get("messageId"), str)


@cache
def _work() -> FunctionWork:
    return FunctionWork(in_process=True)
