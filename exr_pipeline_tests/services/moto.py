"""Amazon's SQS, S3 and EventBridge as moto serves them, in a process of its own.

Belongs here: starting it, queues. Not here: what is in the messages.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import boto3

from exr_pipeline_tests.services.processes import Service, answers, free_port, wait_until


class Moto(Service):
    """A server that forgets everything when it ends, and asks for `keys`."""

    keys: Mapping[str, str] = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command: list[str | Path] = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        super().__init__("moto", command, folder / "moto.log", folder=folder)

    def __enter__(self) -> Self:
        super().__enter__()
        wait_until(lambda: answers(self.port) or not self.is_running, self.log_tail(), seconds=120)
        assert self.is_running, self.log_tail()
        return self

    def client(self, service: str) -> Any:
        """A client of Amazon's own library."""
        return boto3.Session().client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=self.keys["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.keys["AWS_SECRET_ACCESS_KEY"],
        )

    def new_queue(self) -> str:
        """The URL of a queue that nobody else uses."""
        return str(self.client("sqs").create_queue(QueueName=f"events-{uuid4().hex}")["QueueUrl"])
