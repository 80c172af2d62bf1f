"""Which mixtures of two runs are run, and how what came of them is judged."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from kinetic_flows.core.envelope import ResultEnvelope, ResultHeader
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.job import JobTemplate, RunTicket
from kinetic_flows.core.job_parts import ObjectRef, Sha256
from kinetic_flows.runs.compare.judge import (
    FailureJudge,
    NumberJudge,
    Outcome,
    found_in,
    judge_for,
    number_of,
)
from kinetic_flows.runs.compare.mixtures import identity_of
from kinetic_flows.runs.compare.search import Verdict, halvings, most_runs, next_step

GOOD, BAD, BROKEN = Verdict.GOOD, Verdict.BAD, Verdict.BROKEN


def _search(points: list[int], verdicts: dict[int, Verdict]) -> tuple[int, int, list[int]]:
    known: dict[int, Verdict] = {}
    while (step := next_step(points, known)).next is not None:
        known[step.next] = verdicts[step.next]
    return step.good, step.bad, list(known)


@given(some.data())
def test_a_change_that_moved_the_value_is_found_in_as_few_runs_as_halving_takes(
    data: some.DataObject,
) -> None:
    count = data.draw(some.integers(1, 40))
    verdicts = {each: data.draw(some.sampled_from([GOOD, BAD])) for each in range(count + 1)} | {
        0: GOOD,
        count: BAD,
    }
    good, bad, replayed = _search(list(range(count + 1)), verdicts)
    assert bad == good + 1
    assert (verdicts[good], verdicts[bad]) == (GOOD, BAD)
    assert len(replayed) <= halvings(count)


@given(some.data())
def test_mixtures_that_do_not_run_leave_several_changes_at_most_those_around_them(
    data: some.DataObject,
) -> None:
    count = data.draw(some.integers(1, 25))
    verdicts = {
        each: data.draw(some.sampled_from([GOOD, BAD, BROKEN])) for each in range(count + 1)
    } | {0: GOOD, count: BAD}
    good, bad, replayed = _search(list(range(count + 1)), verdicts)
    assert (verdicts[good], verdicts[bad]) == (GOOD, BAD)
    assert all(verdicts[each] is BROKEN for each in range(good + 1, bad))
    assert len(replayed) == len(set(replayed)) < count + 1


def test_the_search_may_jump_over_changes_that_are_taken_together() -> None:
    verdicts = {3: GOOD, 4: BAD}
    assert _search([0, 3, 4, 9], verdicts)[:2] == (3, 4)


@pytest.mark.parametrize(
    ("kinds", "most"),
    # Of one kind, both ends are run as they were; of several, one of them at most.
    [([1], 2), ([8], 5), ([1, 1], 2), ([3, 1], 4), ([5, 1, 1, 20, 1], 9)],
)
def test_how_many_runs_it_takes_is_known_before(kinds: list[int], most: int) -> None:
    assert most_runs(kinds) == most


def _outcome(
    value: Any = None, *, status: Any = "returned", kind: str = "", seconds: float | None = None
) -> Outcome:
    header = ResultHeader(run_id="run-1", status=status, type_name=kind)
    envelope = ResultEnvelope(header=header, body=pickle.dumps(value))
    return Outcome(RunTicket(run_id="run-1", name="train", run_key=""), envelope, seconds)


NOTHING = Outcome(RunTicket(run_id="run-2", name="train", run_key=""), None, None)


@pytest.mark.parametrize(
    ("value", "metric", "number"),
    [
        (0.5, "", 0.5),
        (3, "", 3.0),
        ({"loss": 0.5}, "loss", 0.5),
        ({"eval": {"loss": 0.5}}, "eval.loss", 0.5),
        ({"eval.loss": 0.25, "eval": {"loss": 0.5}}, "eval.loss", 0.25),
        ({"loss": "0.5"}, "loss", None),
        ({"loss": True}, "loss", None),
        ({"loss": float("nan")}, "loss", None),
        ({"loss": 0.5}, "accuracy", None),
        ({"loss": 0.5}, "loss.x", None),
        ([0.5], "", None),
        (None, "", None),
    ],
)
def test_a_number_is_found_in_what_was_returned(
    value: Any, metric: str, number: float | None
) -> None:
    assert number_of(_outcome(value), metric) == number


def test_a_scalar_of_an_array_library_is_a_number() -> None:
    numpy = pytest.importorskip("numpy")
    assert number_of(_outcome({"loss": numpy.float32(0.5)}), "loss") == 0.5
    assert number_of(_outcome({"loss": numpy.array(0.5)}), "loss") == 0.5
    assert number_of(_outcome({"loss": numpy.array([0.5])}), "loss") is None


def test_a_number_is_as_that_of_the_run_that_it_is_nearer_to() -> None:
    judge = NumberJudge(metric="", good=1.0, bad=2.0)
    assert judge.verdict([_outcome(1.4)]) is GOOD
    assert judge.verdict([_outcome(0.0)]) is GOOD
    assert judge.verdict([_outcome(9.0)]) is BAD
    assert judge.verdict([_outcome(1.0), _outcome(1.9), _outcome(1.8)]) is BAD
    assert judge.verdict([_outcome(1.0), NOTHING]) is BROKEN
    assert judge.shown([_outcome(1.0), _outcome(1.9), _outcome(1.8)]) == "1.8"
    assert judge.shown([_outcome(status="raised", kind="builtins.ValueError")]) == "ValueError"
    by_time = NumberJudge(metric=None, good=10.0, bad=60.0)
    assert by_time.verdict([_outcome(seconds=50.0)]) is BAD
    assert by_time.what == "seconds of the function"


def test_without_a_number_it_is_about_whether_a_run_fails_as_the_bad_one() -> None:
    raised = _outcome(status="raised", kind="builtins.ValueError")
    judge = judge_for(_outcome(1), raised, None)
    assert isinstance(judge, FailureJudge)
    assert judge.ends == ("returns", "ValueError")
    assert judge.verdict([_outcome(None)]) is GOOD
    assert judge.verdict([raised]) is BAD
    assert judge.verdict([_outcome(1), raised]) is BAD
    assert judge.verdict([_outcome(status="raised", kind="builtins.ImportError")]) is BROKEN
    assert judge.verdict([NOTHING]) is BROKEN
    assert judge.shown([NOTHING, _outcome(1)]) == "left no result, returns"


@pytest.mark.parametrize(
    ("good", "bad", "options", "words"),
    [
        (_outcome(1.0), _outcome(1.0), {}, "both runs come to the same: 1 and 1"),
        (_outcome(1.0), _outcome(1.1), {"noise": 0.2}, "differ by more than --noise"),
        (_outcome(2.0), _outcome(1.0), {"higher_is_better": False}, "the other way round"),
        (_outcome(1.0), _outcome(2.0), {"higher_is_better": True}, "higher is better"),
        (NOTHING, _outcome(1.0), {}, "the good run, run-2, has returned nothing"),
        (_outcome(1.0), NOTHING, {}, "its result may have expired"),
        (_outcome({"loss": 1.0}), _outcome({"loss": 2.0}), {}, "say which: --metric loss"),
        (_outcome("a"), _outcome("b"), {}, "the function has to return a number"),
        (_outcome(1.0), _outcome(2.0), {"by_seconds": True}, "is not known to have run"),
    ],
)
def test_what_cannot_be_told_apart_is_refused_before_anything_runs(
    good: Outcome, bad: Outcome, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError) as refused:
        judge_for(good, bad, None, **options)
    assert words in str(refused.value)


def test_a_metric_that_is_not_there_is_answered_with_those_that_are() -> None:
    value = {"eval": {"loss": 1.0, "name": "a"}, "accuracy": 0.5}
    with pytest.raises(UsageError, match="has returned no number 'acuracy'") as refused:
        judge_for(_outcome(value), _outcome(value), "acuracy")
    assert refused.value.hint == "did you mean 'accuracy'? Valid: accuracy, eval.loss"
    raised = _outcome(status="raised", kind="builtins.ValueError")
    with pytest.raises(UsageError, match="ended as ValueError") as refused:
        judge_for(_outcome(value), raised, "accuracy")
    assert refused.value.hint == "leave out --metric to find out what makes it fail"
    assert found_in(7, "a") is None


def test_numbers_are_told_with_the_digits_that_tell_them_apart() -> None:
    assert judge_for(_outcome(0.1 + 0.2), _outcome(0.5), None).ends == ("0.3", "0.5")
    close = judge_for(_outcome(1.00000001), _outcome(1.00000002), None)
    assert close.ends == ("1.00000001", "1.00000002")
    assert close.shown([_outcome(1.5)]) == "1.5"


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_what_is_no_finite_number_is_called_what_it_is(value: float) -> None:
    with pytest.raises(UsageError, match=f"has returned {value} as 'loss'"):
        judge_for(_outcome({"loss": 0.5}), _outcome({"loss": value}), "loss")
    with pytest.raises(UsageError, match=f"has returned {value} as its value"):
        judge_for(_outcome(value), _outcome(0.5), None)
    with pytest.raises(UsageError, match="has not returned a number"):
        judge_for(_outcome(10**400), _outcome(0.5), None)


def test_calls_of_a_deployment_are_told_apart_by_their_parameters() -> None:
    digest = Sha256("0" * 64)
    job = JobTemplate(
        name="train",
        python="3.11",
        runner=ObjectRef(name="runner", sha256=digest, size_bytes=1),
        code=None,
        payload_sha256=digest,
        payload_size_bytes=1,
        takes_parameters=True,
    )
    same = identity_of(job, {"rate": 0.1, "steps": 2})
    assert identity_of(job, {"steps": 2, "rate": 0.1}) == same
    assert identity_of(job, {"rate": 0.2, "steps": 2}) != same
    assert identity_of(replace(job, retries=1), {"rate": 0.1, "steps": 2}) != same
