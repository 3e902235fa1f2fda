"""How a step ends when what somebody asked for is at fault: with one sentence, not with a stack trace.

Belongs here: that translation to Dagster's failure. Not here: what a step does about files (`files`).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from exr_pipeline.errors import BadInputError, MisconfiguredError


@contextmanager
def stated_failure() -> Iterator[None]:
    """Fail the step with the message alone if input or a setting is at fault. Trying again cannot help."""
    try:
        yield
    except (BadInputError, MisconfiguredError) as error:
        raise dg.Failure(str(error), allow_retries=False) from None
