"""The errors of this project, typed by what the caller should do about them.

Belongs here: the four kinds and nothing else. A package's own errors derive from one of these, in that package.
"""

from exr_pipeline.untrusted_text import visible


class ExrPipelineError(Exception):
    """Base of every error that this project raises on purpose.

    Its text may quote files, names and services, so it is made visible (`untrusted_text`) wherever it goes from here.
    """

    def __str__(self) -> str:
        return visible(super().__str__())


class BadInputError(ExrPipelineError):
    """The file itself is at fault: reject it with this reason, never retry, go on with its neighbours.

    `name` is the file's name as the user knows it (a path, a URL or a key); `reason` is one line without it.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = visible(reason)

    def __reduce__(self) -> tuple[type["BadInputError"], tuple[str, str]]:
        return type(self), (self.name, self.reason)


class RetryableError(ExrPipelineError):
    """A service did not answer or a lock is held: nothing was changed, the same call may succeed later."""


class StateUnknownError(ExrPipelineError):
    """A write may or may not have happened (the answer to a commit was lost): look by key before replaying it."""


class MisconfiguredError(ExrPipelineError):
    """A setting is missing or wrong. The message names the setting and says how to fix it.

    `setting` is a name that a user can look up: a variable, an option or argument of the command, a field of a job's
    run config.
    """

    def __init__(self, setting: str, problem: str, fix: str) -> None:
        super().__init__(f"{setting}: {problem}. Fix: {fix}")
        self.setting = setting
        self.problem = problem
        self.fix = fix

    def __reduce__(self) -> tuple[type["MisconfiguredError"], tuple[str, str, str]]:
        return type(self), (self.setting, self.problem, self.fix)
