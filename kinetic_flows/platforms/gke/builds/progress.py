"""What a build is doing, read from its log as it grows. Pure."""

from __future__ import annotations

import re

MAX_INSTRUCTION_CHARACTERS = 60

_STEP_PREFIX = re.compile(r'^Step #\d+(?: - "[^"]*")?: ')
_INSTRUCTION = re.compile(
    r"^(?:#\d+ \[(?:[^\]]* )?(?P<kit>\d+/\d+)\]|(?:STEP|Step) (?P<classic>\d+/\d+) ?:) (?P<what>.+)"
)
"""BuildKit: `#7 [2/4] RUN …`; Docker before it: `Step 2/4 : RUN …`; buildah: `STEP 2/4: RUN …`."""

_PHASES = {
    "FETCHSOURCE": "fetching the source",
    "BUILD": "starting to build",
    "PUSH": "pushing the image",
}
"""Lines by which Cloud Build marks the phases of a build."""


def activity_of(line: str) -> str | None:
    """Return what a build is doing from this line of its log on; None when it goes on as before.

    Args:
        line: One line.
    """
    text = _STEP_PREFIX.sub("", line).strip()
    if text in _PHASES:
        return _PHASES[text]
    match = _INSTRUCTION.match(text)
    if match is None:
        return None
    what = " ".join(match["what"].split())
    if len(what) > MAX_INSTRUCTION_CHARACTERS:
        what = f"{what[: MAX_INSTRUCTION_CHARACTERS - 1]}…"
    return f"step {match['kit'] or match['classic']}: {what}"
