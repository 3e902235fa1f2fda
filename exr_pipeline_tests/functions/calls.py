"""A program that calls a function with events, in an environment that has only what a deployment installs.

Usage: `calls.py PLATFORM EVENT…` in the folder of the function, with its secrets as JSON on standard input. Writes the
answers as JSON, by the names of the events. Belongs here: what a platform does. Not here: what is expected of it. Only
Python's own modules, and what the platform's folder installs, are imported.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# Next to this program: its folder is where Python looks first.
from runtimes import Context, RuntimeEvent  # type: ignore[import-not-found]

Call = Callable[[str], Any]


def vast_dataengine() -> Call:
    """What the runtime does with the module that `vastde functions build -H main.py` names.

    The answer, and the status of that to the same event from the other generation of the runtime.
    """
    main = importlib.import_module("main")
    context = Context(secrets=json.load(sys.stdin))
    main.init(context)

    def call(text: str) -> Any:
        answer, other = (main.handler(context, RuntimeEvent(json.loads(text), whole=whole)) for whole in (False, True))
        return {**answer, "other": other["status"]}

    return call


def amazon_lambda() -> Call:
    """What Lambda does with the handler that `_HANDLER` names, which is the image's command."""
    module, _, name = os.environ["_HANDLER"].rpartition(".")
    handler = getattr(importlib.import_module(module), name)
    return lambda text: handler(json.loads(text), None)


def google_cloud_run() -> Call:
    """What functions-framework does: the answer, and the status with which its server answers the same event."""
    from cloudevents.http import from_json  # type: ignore[import-not-found, unused-ignore]
    from functions_framework import create_app  # type: ignore[import-not-found, unused-ignore]

    main = importlib.import_module("main")
    client = create_app("handler", "main.py", "cloudevent").test_client()

    def call(text: str) -> Any:
        answer = main.handler(from_json(text))
        served = client.post("/", data=text, headers={"Content-Type": "application/cloudevents+json"})
        return {**answer, "http": served.status_code}

    return call


PLATFORMS = {"dataengine": vast_dataengine, "lambda": amazon_lambda, "cloudrun": google_cloud_run}


def run(platform: str, events: list[str]) -> None:
    """Call the function with the events in this order."""
    if find_spec("dagster") is not None:
        raise SystemExit("dagster is installed")
    # Whatever imports it all the same fails.
    sys.modules["dagster"] = None  # type: ignore[assignment]
    sys.path.insert(0, str(Path.cwd()))
    call = PLATFORMS[platform]()
    answers = {Path(event).stem: call(Path(event).read_text(encoding="utf-8")) for event in events}
    told = {"package": sys.modules["exr_pipeline"].__file__, "answers": answers}
    sys.stdout.write(json.dumps(told, allow_nan=False))


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2:])
