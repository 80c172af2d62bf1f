"""What a build is doing, as its log tells."""

from __future__ import annotations

import pytest

from kinetic_flows.core.image_reference import image_page
from kinetic_flows.platforms.gke.builds.activity import activity_of


@pytest.mark.parametrize(
    ("line", "activity"),
    [
        ("FETCHSOURCE", "fetching the source"),
        ("PUSH", "pushing the image"),
        ("#7 [2/4] RUN uv pip  install", "step 2/4: RUN uv pip install"),
        ("#7 [stage-1 3/4] COPY a b", "step 3/4: COPY a b"),
        ("Step 2/4 : RUN uv pip install", "step 2/4: RUN uv pip install"),
        ("STEP 2/4: RUN uv pip install", "step 2/4: RUN uv pip install"),
        ('Step #0 - "build": #7 [2/4] RUN uv', "step 2/4: RUN uv"),
        ("Step #1: PUSH", "pushing the image"),
        ("#7 1.22 Resolved 40 packages", None),
        ("#1 [internal] load build definition from Dockerfile", None),
        ("Step #0: kinetic: sending numpy 2.1.0", "sending numpy 2.1.0"),
        ("kinetic error: no", None),
        ("we PUSH on", None),
        ("", None),
    ],
)
def test_phases_and_instructions_are_told_from_output(line: str, activity: str | None) -> None:
    assert activity_of(line) == activity


def test_a_long_instruction_is_cut_to_one_line() -> None:
    shown = activity_of("STEP 1/9: RUN " + "x" * 200)
    assert shown is not None
    assert shown.endswith("x…")
    assert len(shown) < 80


DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("reference", "page"),
    [
        (
            f"us-docker.pkg.dev/p/r/app@{DIGEST}",
            f"https://console.cloud.google.com/artifacts/docker/p/us/r/app/{DIGEST}",
        ),
        (
            "us-docker.pkg.dev/example.com/p/r/a/b:v1",
            "https://console.cloud.google.com/artifacts/docker/example.com:p/us/r/a%2Fb",
        ),
        ("someone/kinetic-base-cpu:1", "https://hub.docker.com/r/someone/kinetic-base-cpu"),
        ("registry.example.com/a/b:1", None),
    ],
)
def test_an_image_is_shown_where_its_registry_shows_it(reference: str, page: str | None) -> None:
    assert image_page(reference) == page
