"""Whether this machine's clock is right, by what servers say the time is."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from kinetic_flows.core.findings import Finding
from kinetic_flows.core.moments import duration

WARNING_SECONDS = 30.0
"""From here on the times that Prefect shows of one run, told by several machines, contradict."""

WRONG_SECONDS = 300.0
"""From here on Google takes a service account's key no more, and Kubernetes no certificate."""

SET_CLOCK = (
    "sudo sntp -sS time.apple.com" if sys.platform == "darwin" else "sudo timedatectl set-ntp true"
)

_SUBJECT = "clock against "


@dataclass(frozen=True, kw_only=True)
class ServerTime:
    """What a server said the time is.

    Attributes:
        server: What it is called.
        date: The `Date` header of its answer (RFC 9110, section 6.6.1), which counts whole seconds;
            empty where it sent none.
        asked_at: When it was asked, by this machine's clock, in seconds of the epoch.
        answered_at: When its answer was here.
    """

    server: str
    date: str
    asked_at: float
    answered_at: float


def is_wrong_clock(finding: Finding) -> bool:
    """Whether a finding tells that this machine's clock is wrong, by which ages are counted."""
    return finding.level == "wrong" and finding.subject.startswith(_SUBJECT)


def clock_finding(told: ServerTime) -> Finding:
    """Return how far this machine's clock is from a server's."""
    subject = f"{_SUBJECT}{told.server}"
    try:
        theirs = parsedate_to_datetime(told.date).timestamp() + 0.5
    except ValueError:
        return Finding(subject=subject, level="unknown", text="it does not tell the time")
    # The answer was written at some time between.
    fast = told.asked_at - theirs if told.asked_at > theirs else 0.0
    slow = theirs - told.answered_at if told.answered_at < theirs else 0.0
    off = max(fast, slow)
    if off < WARNING_SECONDS:
        return Finding(subject=subject, level="ok", text=f"within {max(off, 1.0):.0f} s of it")
    way = "ahead of" if fast else "behind"
    return Finding(
        subject=subject,
        level="wrong" if off >= WRONG_SECONDS else "warning",
        text=f"this machine's clock is {duration(off)} {way} it",
        command=SET_CLOCK,
    )
