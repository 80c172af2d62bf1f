"""`kinetic runs bisect`: which change between two runs moved a value."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated, Any

from cyclopts import Parameter

from kinetic_flows.cli.documents import Json, print_json
from kinetic_flows.cli.questions import confirmed
from kinetic_flows.cli.reading import require_something_known
from kinetic_flows.cli.run_diff import coloured
from kinetic_flows.core import option_values as check
from kinetic_flows.core.display import counted, for_line, labelled
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.moments import took
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.core.run_ids import short_id
from kinetic_flows.runs.compare.bisect import (
    MOST_BROKEN,
    Bisection,
    BisectPlan,
    BisectRun,
    Replayed,
    outcome_of,
    plan_bisect,
)
from kinetic_flows.runs.compare.changes import SCRIPT, by_kind
from kinetic_flows.runs.compare.diff import diff_runs
from kinetic_flows.runs.compare.judge import Judge, judge_for
from kinetic_flows.runs.compare.named import named_run
from kinetic_flows.runs.compare.search import Verdict
from kinetic_flows.runs.compare.words import file_block
from kinetic_flows.runs.description import seconds_of
from kinetic_flows.runs.session import Session, own_session

SHOWN_CHANGES = 6
NOT_FOUND_EXIT = 1
LIKE = {
    Verdict.GOOD: "as the good run",
    Verdict.BAD: "as the bad run",
    Verdict.BROKEN: "cannot be judged",
}


def bisect(
    good: str,
    bad: str,
    /,
    *,
    metric: str | None = None,
    seconds: Annotated[bool, Parameter(negative="")] = False,
    higher_is_better: Annotated[
        bool | None, Parameter(name="--higher-is-better", negative="--lower-is-better")
    ] = None,
    noise: float = 0.0,
    repeats: int = 1,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], negative="")] = False,
    as_json: Json = False,
) -> None:
    """Find the change between two runs that moved a value, by running mixtures of both.

    Mixtures have the packages, accelerator, options, code and arguments of one run or the other,
    then some of the files, or of the packages, that differ. It says beforehand how many runs that
    takes at most, and asks. Interrupted, it cancels the run that it waits for; given again, it
    takes the runs that have ended as they are and goes on.

    Args:
        good: The run with the value as it was: its id, the part of it that is shown, or its URL.
        bad: The run with the value that moved.
        metric: Which number of the mapping that the function returns, such as loss or eval.loss;
            left out, the returned number itself, or whether a run fails as the bad one did.
        seconds: Compare how long the function ran, in place of a value.
        higher_is_better: Whether a higher value is better; refused where the two runs disagree.
        noise: How far two runs of the same may be apart; the two have to differ by more.
        repeats: How often each mixture is run; the value in their middle counts.
        dry_run: Only say what differs, and how many runs it would take.
        yes: Do not ask.
        as_json: Print a JSON object.
    """
    if metric is not None and seconds:
        raise UsageError("--metric and --seconds do not go together", hint="leave one of them out")
    check.count("--repeats", repeats, least=1)
    if not noise >= 0:
        check.refuse("--noise", noise, "give 0 or a number")
    require_something_known()
    with own_session(NullProgress()) as session:
        ends = [named_run(each, session) for each in (good, bad)]
        plan = plan_bisect(ends[0], ends[1], session)
        came_to = [outcome_of(each, session) for each in ends]
        judge = judge_for(
            came_to[0],
            came_to[1],
            metric,
            by_seconds=seconds,
            higher_is_better=higher_is_better,
            noise=noise,
        )
        print(planned(plan, judge, repeats), file=sys.stderr)
        if dry_run:
            if as_json:
                print_json(_document(plan, judge, Bisection(changes=plan.changes), repeats))
            return
        if not yes and not confirmed("Start them?", undone="nothing was started"):
            return
        found = _searched(plan, judge, session, repeats)
        if as_json:
            print_json(_document(plan, judge, found, repeats))
        else:
            print(coloured(concluded(plan, judge, found, session)))
    if not found.found:
        sys.exit(NOT_FOUND_EXIT)


def _searched(plan: BisectPlan, judge: Judge, session: Session, repeats: int) -> Bisection:
    shown = _Shown(plan)
    return BisectRun(
        plan=plan,
        judge=judge,
        session=session,
        repeats=repeats,
        on_start=shown.start,
        on_end=shown.end,
    ).run()


def planned(plan: BisectPlan, judge: Judge, repeats: int) -> str:
    """Say what is searched, and how many runs that takes at most."""
    runs = [each.subject.record for each in (plan.good, plan.bad)]
    names = [short_id(each.id) for each in runs]
    rows = [
        (kind, f"{counted(len(some), 'change')}: {_listed([each.shown for each in some])}")
        for kind, some in by_kind(plan.changes).items()
    ]
    ran = " and ".join(took(seconds_of(each)) for each in runs)
    most = plan.most_runs * repeats
    accelerators = " or ".join(
        dict.fromkeys(each.launch.accelerator for each in (plan.good, plan.bad))
    )
    values = f"{judge.ends[0]} in {names[0]} (good), {judge.ends[1]} in {names[1]} (bad)"
    cost = (
        f"at most {counted(most, 'run')} on {accelerators}, each as long as one of the two ({ran});"
        f" a mixture that cannot be judged takes one more, up to {MOST_BROKEN + 1} of them"
    )
    return "\n".join([f"{judge.what}: {values}", labelled(rows), cost])


def concluded(plan: BisectPlan, judge: Judge, found: Bisection, session: Session) -> str:
    """Say which change it was, with the lines of the file that it is."""
    if not found.found:
        return _not_found(plan, judge, found)
    shown = {each.count: each.shown for each in found.replays}
    before = shown.get(_count_before(plan, found), judge.ends[0])
    after = shown.get(_count_before(plan, found) + len(found.found), judge.ends[1])
    moved = f"{judge.what}: {before} before it, {after} with it"
    if number := _count_before(plan, found):
        moved += f", on top of the {counted(number, 'change')} before it"
    names = [for_line(each.shown) for each in found.found]
    if len(names) > 1:
        return (
            f"it is one of these, or several together: {', '.join(names)}\n{moved}\n"
            "mixtures with only some of them cannot be judged"
        )
    (change,) = found.found
    kind = f" ({change.kind})" if change.name else ""
    lines = [f"it is {names[0]}{kind}", moved, *_share(judge, before, after)]
    if change.kind == "code":
        diff = diff_runs(plan.good.subject.record, plan.bad.subject.record, session)
        code = plan.bad.job.code
        path = code.entry_module_file if code and change.name == SCRIPT else change.name
        lines += [
            f"\n{block}"
            for each in diff.files
            if path in (each.path, each.before) and (block := file_block(each))
        ]
    return "\n".join(lines)


def _share(judge: Judge, before: str, after: str) -> list[str]:
    """Say how much of the difference a change makes, where that is not nearly all of it."""
    try:
        good, bad = map(float, judge.ends)
        share = (float(after) - float(before)) / (bad - good)
    except ValueError:
        return []
    if 0.9 <= share <= 1.1:
        return []
    return [f"that is {100 * share:.0f} % of the difference: other changes move it, too"]


def _count_before(plan: BisectPlan, found: Bisection) -> int:
    return plan.changes.index(found.found[0])


def _not_found(plan: BisectPlan, judge: Judge, found: Bisection) -> str:
    last = found.replays[-1]
    which = "good" if last.count == 0 else "bad"
    run = plan.good if last.count == 0 else plan.bad
    was = judge.ends[0] if last.count == 0 else judge.ends[1]
    return (
        f"it is none of these changes: the {which} run {short_id(run.subject.record.id)} came to "
        f"{was}, and run again as it was ({', '.join(map(short_id, last.run_ids))}) to "
        f"{for_line(last.shown)}\n"
        "what moved it is chance, what the function reads from elsewhere, or the machine; "
        "--repeats and --noise help against chance"
    )


class _Shown:
    """Tells on standard error which mixture is run, and what came of it."""

    def __init__(self, plan: BisectPlan) -> None:
        self._plan = plan

    def start(self, count: int, ticket: RunTicket | None) -> None:
        """Tell of a run that is started."""
        if ticket is not None:
            print(f"{short_id(ticket.run_id)}  {self._mixture(count)} ...", file=sys.stderr)

    def end(self, replayed: Replayed) -> None:
        """Tell what came of a mixture."""
        ids = ", ".join(map(short_id, replayed.run_ids)) or "not run"
        known = ", run before" if replayed.is_known else ""
        print(
            f"{ids}  {self._mixture(replayed.count)}: {for_line(replayed.shown)}, "
            f"{LIKE[replayed.verdict]}{known}",
            file=sys.stderr,
        )

    def _mixture(self, count: int) -> str:
        changes = self._plan.changes
        if count in (0, len(changes)):
            return "as the bad run was" if count else "as the good run was"
        return f"with {count} of {len(changes)} changes, up to {for_line(changes[count - 1].shown)}"


def _listed(texts: list[str]) -> str:
    shown = [for_line(each) for each in texts[:SHOWN_CHANGES]]
    left = len(texts) - SHOWN_CHANGES
    return ", ".join([*shown, *([f"and {left} more"] if left > 0 else [])])


def _document(plan: BisectPlan, judge: Judge, found: Bisection, repeats: int) -> dict[str, Any]:
    return {
        "good": {"id": plan.good.subject.record.id, "value": judge.ends[0]},
        "bad": {"id": plan.bad.subject.record.id, "value": judge.ends[1]},
        "compared": judge.what,
        "most_runs": plan.most_runs * repeats,
        "changes": list(_changes(plan.changes)),
        "replays": [
            {
                "changes": each.count,
                "value": each.shown,
                "verdict": each.verdict.value,
                "runs": list(each.run_ids),
            }
            for each in found.replays
        ],
        "found": list(_changes(found.found)),
    }


def _changes(changes: tuple[Any, ...]) -> Iterator[dict[str, str]]:
    for each in changes:
        yield {"kind": each.kind, "name": each.name, "shown": each.shown}
