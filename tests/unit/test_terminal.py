"""What a person sees of a call: the steps, and what a long one is doing."""

from __future__ import annotations

import io

from kinetic_flows.core.terminal import PlainProgress, StepClock


def test_lines_of_a_step_s_log_are_marked_with_the_step() -> None:
    events, output = io.StringIO(), io.StringIO()
    progress = PlainProgress(events, output)

    progress.step("build-image", "started")
    progress.activity("build-image", "step 1/2: FROM base")
    progress.log("build-image", "STEP 1/2: FROM base")
    progress.step("build-image", "done", "app")

    first, last = events.getvalue().splitlines()
    assert first == "kinetic: build-image | STEP 1/2: FROM base"
    assert last.startswith("kinetic: ✓ build-image: app (")
    assert output.getvalue() == ""


def test_what_a_step_does_is_shown_until_it_ends_and_never_of_one_that_has_ended() -> None:
    clock = StepClock()
    clock.step("build-image", "started")
    clock.step("upload-code", "started")
    clock.describe("build-image", "build-image: pushing the image")
    clock.describe("build-image", "build-image: step 2/2")

    assert clock.at_work() == ["build-image: step 2/2", "upload-code"]

    clock.step("build-image", "done")
    clock.describe("build-image", "too late")
    assert clock.at_work() == ["upload-code"]


def test_what_the_function_prints_goes_where_it_printed_it() -> None:
    events, output = io.StringIO(), io.StringIO()
    progress = PlainProgress(events, output)
    progress.output("a value", "stdout")
    progress.output("\rhalf", "stderr")
    assert (output.getvalue(), events.getvalue()) == ("a value", "\rhalf")
