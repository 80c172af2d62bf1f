"""`kinetic doctor`: whether everything that a run depends on is as it has to be."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from kinetic_flows.cli.doctor_report import LEVELS, DoctorReport, coloured, print_summary
from kinetic_flows.cli.documents import Json, print_json
from kinetic_flows.core.api_boundary import ApiBoundary
from kinetic_flows.core.clocks import is_wrong_clock
from kinetic_flows.core.display import for_line
from kinetic_flows.core.errors import KineticError, in_a_sentence
from kinetic_flows.core.exits import leave_at_once
from kinetic_flows.core.findings import Finding, Level, NotAsked
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.settings.settings import process_environment

if TYPE_CHECKING:
    from kinetic_flows.runs import doctor as examination
    from kinetic_flows.runs.doctor import Examined
else:
    examination = LazyModule("kinetic_flows.runs.doctor")


def doctor(
    *,
    fix: Annotated[bool, Parameter(negative="")] = False,
    probe: Annotated[bool, Parameter(negative="")] = False,
    as_json: Json = False,
) -> int:
    """Look at everything that a run depends on, and say what is wrong and what mends it.

    Everything is asked at once, in less than ten seconds. What cannot be asked, for want of a
    right or of an answer, is unknown and not wrong. Nothing is changed without --fix. Exits with 1
    when something is wrong.

    Args:
        fix: Do what is safe to do unasked: switch APIs on, make buckets, bring a work pool's
            template up to date that nobody edited, clear leftovers away.
        probe: Start a pod that asks for Prefect from the cluster; it is removed afterwards. This
            may take minutes, where a node has to be made for it.
        as_json: Print a JSON object.
    """
    with ApiBoundary():
        code, hangs = _doctor(fix=fix, probe=probe, as_json=as_json)
    if hangs:
        leave_at_once(code)
    return code


def _doctor(*, fix: bool, probe: bool, as_json: bool) -> tuple[int, bool]:
    """Return the code to exit with, and whether something is left behind that hangs."""
    began = time.monotonic()
    found = _examined(probe=probe, is_shown=not as_json)
    fixed = _fixed([each.finding for each in found], is_shown=not as_json) if fix else {}
    if fixed and not as_json:
        print("\nand now, where it is not as it should be:")
    hangs = any(each.hangs for each in found)
    if fixed:
        found = _examined(probe=probe, is_shown=not as_json, shows_ok=False)
    levels = Counter(each.finding.level for each in found)
    if as_json:
        print_json(
            {"findings": [_document(each) for each in found], **_counts(levels), **_told(fixed)}
        )
    else:
        print_summary([each.finding for each in found], levels, time.monotonic() - began)
    return (1 if levels["wrong"] else 0), hangs or any(each.hangs for each in found)


def _examined(*, probe: bool, is_shown: bool, shows_ok: bool = True) -> list[Examined]:
    """Return what is found, and show it as it comes."""
    found: list[Examined] = []
    report = DoctorReport()
    with closing(examination.examine(process_environment(), probe=probe)) as everything:
        for each in everything:
            if is_shown and (shows_ok or each.finding.level != "ok"):
                report.show(each.group, each.finding)
            found.append(each)
    report.finish()
    return found


def _fixed(findings: Sequence[Finding], *, is_shown: bool) -> dict[str, str]:
    """Mend what is safe to mend, and return what was done, by what it was done to."""
    done: dict[str, str] = {}
    for subject, outcome in _mended(findings):
        done[subject] = outcome
        if is_shown:
            if len(done) == 1:
                print(coloured("mended", "1"))
            print(f"  {subject}: {for_line(outcome)}", flush=True)
    return done


def _mended(findings: Sequence[Finding]) -> Iterator[tuple[str, str]]:
    fixes = [(each.subject, each.fix) for each in findings if each.fix and each.level != "ok"]
    wrong_clock = next(filter(is_wrong_clock, findings), None)
    if fixes and wrong_clock:
        yield wrong_clock.subject, "nothing is mended while it is wrong, as it tells what is old"
        return
    for subject, fix in fixes:
        yield subject, _outcome(fix)


def _outcome(fix: Callable[[], str]) -> str:
    try:
        return fix()
    except KineticError as error:
        return f"could not be mended: {in_a_sentence(error)}"
    except NotAsked as error:
        return f"could not be mended: {error}"


def _document(each: Examined) -> dict[str, Any]:
    finding = each.finding
    return {
        "group": each.group,
        "subject": finding.subject,
        "level": finding.level,
        "text": finding.text,
        "command": finding.command,
        "can_be_fixed": finding.fix is not None and finding.level != "ok",
    }


def _counts(levels: Counter[Level]) -> dict[str, int]:
    return {level: levels[level] for level in LEVELS}


def _told(fixed: Mapping[str, str]) -> dict[str, dict[str, str]]:
    return {"fixed": dict(fixed)} if fixed else {}
