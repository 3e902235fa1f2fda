"""Rejections that are no evidence against a file: earlier versions made them when this machine was in trouble.

Belongs here: their reasons. Not here: trying again, or what is retryable now.
"""

import re
from typing import Final

# None of these is a reason for which this version rejects a file: else it would be tried again forever.
_REASONS: Final = (
    # By the clock, while all processes may have been suspended or the clock may have jumped.
    r"took longer than [0-9.e+]+ s",
    r"killed by SIG(KILL|TERM|HUP|INT|QUIT|ALRM|PIPE|USR1|USR2|STOP|XCPU|XFSZ)\b",
    r"worker processes died [0-9]+ times before it was done",
    r"no picture could be made: [A-Za-z]*: \[Errno [0-9]+\]",
    r"can be read: (no space left on device|too many open files|file too large|stale file handle|disk quota exceeded)",
    r"cannot be read: (Input/output error|Stale file handle|Too many open files|Transport endpoint is not connected)",
)
DOUBTFUL: Final = re.compile("|".join(_REASONS))

# A condition on the view `latest_files`. The patterns hold no quotes.
DOUBTFUL_SQL: Final = f"state = 'rejected' AND regexp_matches(reason, '{DOUBTFUL.pattern}')"
