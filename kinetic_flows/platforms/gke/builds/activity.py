"""What a build is doing, read from its log as it grows. Pure."""

from __future__ import annotations

import re

from kinetic_flows.core.image_builder import StartedBuild
from kinetic_flows.images.assembly.remote_words import progress_in, without_step
from kinetic_flows.platforms.gke.builds.build import BuildState

MAX_INSTRUCTION_CHARACTERS = 60

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


def started_build(state: BuildState, image: str) -> StartedBuild:
    """Describe a running build for those who want to look at it."""
    return StartedBuild(
        id=state.id,
        image=image,
        url=state.log_url,
        service="Cloud Build",
        activity_of=activity_of,
    )


def activity_of(line: str) -> str | None:
    """Return what a build is doing from this line of its log on; None when it goes on as before.

    Args:
        line: One line.
    """
    text = without_step(line).strip()
    if text in _PHASES:
        return _PHASES[text]
    assembling, match = progress_in(text), _INSTRUCTION.match(text)
    if assembling:
        return _shortened(assembling)
    if match is None:
        return None
    return f"step {match['kit'] or match['classic']}: {_shortened(match['what'])}"


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    is_long = len(text) > MAX_INSTRUCTION_CHARACTERS
    return f"{text[: MAX_INSTRUCTION_CHARACTERS - 1]}…" if is_long else text
