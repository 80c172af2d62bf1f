"""The sections of a run's page: who puts in what, and where."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kinetic_flows.runner_image.runner import markdown as runner_markdown
from kinetic_flows.runner_image.runner import run_page as runner_page
from kinetic_flows.runner_image.runner.course import Course, elapsed
from kinetic_flows.runner_image.runner.endings import State
from kinetic_flows.runner_image.runner.prefect_api import ApiError, PrefectApi

from kinetic_flows.clients.prefect import flow_names
from kinetic_flows.core import markdown, moments, run_page
from kinetic_flows.core.run_page import DETAILS, SECTIONS, WHAT_IT_USED, WHAT_RAN, WHY_IT_ENDED
from prefect_wire import PrefectWire, serve
from runner_jobs import RUN_ID

PAGE = run_page.with_sections("", {WHAT_RAN: "| function | `f()` |", DETAILS: "| image | x |"})
COMPLETED = State("COMPLETED", "Completed", "returned float: 0|5")
FAILED = State("FAILED", "Failed", "ValueError: no")


@pytest.fixture
def prefect() -> Iterator[PrefectWire]:
    with serve() as wire:
        yield wire


def _api(prefect: PrefectWire) -> PrefectApi:
    return PrefectApi(prefect.url, RUN_ID, {})


def _pages(prefect: PrefectWire) -> list[str]:
    return [each["data"] for each in prefect.artifacts]


def _artifact_requests(prefect: PrefectWire) -> int:
    return sum("artifacts" in path for _, path, _ in prefect.requests)


def test_the_runner_and_the_client_have_the_same_sections_on_the_same_artifact() -> None:
    assert runner_page.SECTIONS == SECTIONS
    assert runner_page.KEY == flow_names.RUN_ARTIFACT


def test_sections_stand_in_the_order_in_which_a_person_asks() -> None:
    page = run_page.with_sections(PAGE, {WHY_IT_ENDED: "a", WHAT_IT_USED: "b\n\n### GPUs\n\nc"})
    headings = [line for line in page.splitlines() if line.startswith("## ")]
    assert headings == [
        *("## What ran", "## What it used", "## Why it ended", "## Details"),
    ]
    assert "## What it used\n\nb\n\n### GPUs\n\nc\n\n## Why it ended\n\na\n\n## Details" in page


def test_a_section_takes_the_place_of_the_one_that_was_there_and_an_empty_one_takes_it_out() -> (
    None
):
    once = run_page.with_sections(PAGE, {WHY_IT_ENDED: "unknown"})
    assert run_page.with_sections(once, {WHY_IT_ENDED: "out of memory"}) == once.replace(
        "unknown", "out of memory"
    )
    assert run_page.with_sections(once, {WHY_IT_ENDED: ""}) == PAGE


def test_what_an_earlier_or_a_later_version_wrote_stays() -> None:
    earlier, later = "| | |\n| --- | --- |\n| function | `f()` |", "## What it dreamt\n\nsheep"
    page = run_page.with_sections(f"{earlier}\n\n{later}", {WHY_IT_ENDED: "a"})
    assert page == f"{earlier}\n\n## Why it ended\n\na\n\n{later}"


_BODIES = st.text(max_size=20).filter(lambda text: not text.lstrip().startswith("## "))
_PAGES = st.dictionaries(st.sampled_from(SECTIONS), _BODIES.map(markdown.text), max_size=4)


@given(
    first=_PAGES,
    second=_PAGES,
)
def test_writers_on_both_sides_agree_and_none_takes_away_what_another_wrote(
    first: dict[str, str], second: dict[str, str]
) -> None:
    page = run_page.with_sections(run_page.with_sections("", first), second)
    assert page == runner_page.with_sections(runner_page.with_sections("", first), second)
    assert page == run_page.with_sections("", first | second)
    assert run_page.with_sections(page, second) == page


@given(st.text())
@example("a\x1b[31mb\r\n\x00\u202e\ud800|`*\t c")
def test_texts_are_shown_alike_from_both_sides(words: str) -> None:
    assert runner_markdown.text(words) == markdown.text(words)
    assert runner_markdown.code(words) == markdown.code(words)
    rows = [("a", words), ("b", "c")]
    assert runner_markdown.table(rows) == markdown.table(rows)


@given(st.floats(min_value=0, max_value=1e7))
def test_durations_are_said_alike_from_both_sides(seconds: float) -> None:
    assert elapsed(seconds) == moments.elapsed(seconds)


def test_the_runner_puts_its_sections_on_the_page_that_the_client_published(
    prefect: PrefectWire,
) -> None:
    prefect.artifacts.append({"id": "1", "key": "environment", "data": "[]"})
    prefect.artifacts.append({"id": "2", "key": "run", "data": PAGE})
    runner_page.insert(_api(prefect), {WHY_IT_ENDED: "out of memory"})
    written = run_page.with_sections(PAGE, {WHY_IT_ENDED: "out of memory"})
    assert _pages(prefect) == ["[]", written]
    asked = _artifact_requests(prefect)
    runner_page.insert(_api(prefect), {WHY_IT_ENDED: "out of memory"})
    assert _pages(prefect) == ["[]", written]
    assert _artifact_requests(prefect) == asked + 1


def test_a_run_that_failed_says_how_it_went_and_what_others_had_to_say_of_it(
    prefect: PrefectWire,
) -> None:
    prefect.artifacts.append({"id": "2", "key": "run", "data": PAGE})
    page = runner_page.RunPage(_api(prefect))
    page.put(WHY_IT_ENDED, "unknown")
    page.put(WHY_IT_ENDED, "out of memory")
    page.publish(FAILED, 2)
    [written] = _pages(prefect)
    head = "## How it went\n\n| ended |"
    assert f"{head} **Failed**: ValueError: no |" in written
    assert "| restarts | 2 |\n\n## Why it ended\n\nout of memory\n\n## Details" in written


def test_how_a_run_went_says_when_and_how_long_and_leaves_out_what_is_not_so() -> None:
    course = Course(now=1_000_000_000)
    course.call(now=1_000_000_003)
    whole = course.markdown(COMPLETED, 0, now=1_000_000_125)
    assert whole.splitlines() == [
        "| ended | **Completed**: returned float: 0\\|5 |",
        "| --- | --- |",
        "| took | 2 min 5 s, of which 3.0 s before the function |",
        "| began | 2001-09-09 01:46:40 UTC |",
    ]
    never = Course(now=0).markdown(State("CRASHED", "Crashed", "a\n" * 9), 1, now=5)
    assert never.splitlines() == [
        "| ended | **Crashed**: a |",
        "| --- | --- |",
        "| took | 5.0 s; the function was not called |",
        "| began | 1970-01-01 00:00:00 UTC |",
        "| restarts | 1 |",
    ]


def test_a_run_whose_client_could_not_publish_its_page_has_one_from_its_runner(
    prefect: PrefectWire,
) -> None:
    runner_page.insert(_api(prefect), {WHY_IT_ENDED: "out of memory"})
    [made] = prefect.artifacts
    assert made["data"] == "## Why it ended\n\nout of memory"
    assert (made["key"], made["type"], made["flow_run_id"]) == ("run", "markdown", RUN_ID)


def test_what_another_writer_has_overwritten_is_put_in_again(prefect: PrefectWire) -> None:
    prefect.artifacts.append({"id": "2", "key": "run", "data": PAGE})

    class Overtaken(PrefectApi):
        """One whose first update is followed by another writer's, which began before it."""

        others = (run_page.with_sections(PAGE, {WHAT_IT_USED: "a GPU"}),)

        def replace_markdown(self, artifact: str, markdown: str, timeout_seconds: float) -> None:
            super().replace_markdown(artifact, markdown, timeout_seconds)
            for other in self.others:
                super().replace_markdown(artifact, other, timeout_seconds)
            self.others = ()

    runner_page.insert(Overtaken(prefect.url, RUN_ID, {}), {WHY_IT_ENDED: "out of memory"})
    both = {WHAT_IT_USED: "a GPU", WHY_IT_ENDED: "out of memory"}
    assert _pages(prefect) == [run_page.with_sections(PAGE, both)]


def test_a_short_run_that_returned_asks_nothing_and_one_without_an_api_neither(
    prefect: PrefectWire,
) -> None:
    page = runner_page.RunPage(_api(prefect))
    page.put(WHAT_IT_USED, "a GPU")
    page.publish(COMPLETED, 0)
    nobody = runner_page.RunPage(None)
    nobody.put(WHAT_IT_USED, "a GPU")
    nobody.publish(FAILED, 0)
    assert prefect.requests == []


def test_a_prefect_that_refuses_leaves_the_page_as_it_was_and_the_run_as_it_ended(
    prefect: PrefectWire,
) -> None:
    prefect.failures["/api/artifacts/"] = [500] * 2
    page = runner_page.RunPage(_api(prefect))
    page.put(WHY_IT_ENDED, "out of memory")
    page.publish(FAILED, 0)
    with pytest.raises(ApiError):
        runner_page.insert(_api(prefect), {WHY_IT_ENDED: "out of memory"})
    assert prefect.artifacts == []
