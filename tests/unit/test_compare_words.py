"""What is said of two runs that are compared, and of lines that a pattern fits."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kinetic_flows.code.payload import pack_call
from kinetic_flows.code.payload_frame import payload_frame
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.streams import PrintedLine
from kinetic_flows.runs.compare.difference import Difference, RunDiff
from kinetic_flows.runs.compare.files import FileChange
from kinetic_flows.runs.compare.grep import compiled, found_in
from kinetic_flows.runs.compare.numbers import by_how_much, compared
from kinetic_flows.runs.compare.words import told
from shipping import plain_root


def _run(run_id: str, name: str) -> Mapping[str, Any]:
    return {
        "id": run_id,
        "name": name,
        "state": "Completed",
        "created": "2026-05-04T03:02:01+00:00",
    }


DIFF = RunDiff(
    before=_run("9229eced-0000-4000-8000-000000000000", "train(rate=0.1)"),
    after=_run("41ab8c07-0000-4000-8000-000000000000", "train(rate=\x1b]0;x)"),
    differences=(
        Difference(section="arguments", name="rate", before="0.1", after="0.2", note="x 2"),
        Difference(section="arguments", name="text", before="a" * 60, after="b" * 60),
        Difference(section="packages", name="torch", before=None, after="2.6.0"),
        Difference(section="packages", name="numpy", before="2.1.0", after=None),
        Difference(section="time", name="run", before="12s", after="30s"),
    ),
    files=(
        FileChange(path="new.bin", kind="added", note="binary, 3 B"),
        FileChange(path="b.py", kind="moved", before="a.py"),
        FileChange(path="train.py", kind="changed", lines=("@@ -1 +1 @@", "-x", "+y"), added=1),
    ),
    same=("data", "image"),
    unknown={"options": "gone", "result": "gone"},
)


def test_a_comparison_is_told_in_the_order_in_which_people_ask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    shown = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "WHEN", told(DIFF))
    assert shown.splitlines() == [
        "   before  9229eced  train(rate=0.1), Completed, WHEN",
        "    after  41ab8c07  train(rate=\\x1b]0;x), Completed, WHEN",
        "arguments  rate  0.1 → 0.2  (x 2)",
        f"           text  - {'a' * 60}",
        f"                 + {'b' * 60}",
        " packages  torch  + 2.6.0",
        "           numpy  - 2.1.0",
        "     code  3 files, +1 -0",
        "           A new.bin         (binary, 3 B)",
        "           R b.py from a.py",
        "           M train.py        +1 -0",
        "     time  ran  12s → 30s",
        " the same  data, image",
        "  unknown  options, result: gone",
        "",
        "--- a/train.py",
        "+++ b/train.py",
        "@@ -1 +1 @@",
        "-x",
        "+y",
    ]
    assert "--- a/train.py" not in told(DIFF, lines=False)
    assert str(DIFF) == told(DIFF)
    assert "<pre>" in DIFF._repr_html_()
    assert "4 kinds of differences" in repr(DIFF)


def test_a_comparison_is_plain_json() -> None:
    document = DIFF.to_json()
    assert document["differences"][0] == {
        "section": "arguments",
        "name": "rate",
        "before": "0.1",
        "after": "0.2",
        "note": "x 2",
    }
    assert document["files"][1] == {
        "path": "b.py",
        "kind": "moved",
        "from": "a.py",
        "added": 0,
        "removed": 0,
        "lines": [],
    }


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("0.31", "0.29", "-6.45 %"),
        ("100", "112", "+12 %"),
        ("0.01", "0.06", "x 6"),
        ("100", "1", "x 0.01"),
        ("0", "1", ""),
        ("-1", "1", ""),
        ("nan", "1", ""),
        ("inf", "1", ""),
        ("a", "b", ""),
    ],
)
def test_numbers_are_told_with_by_how_much_they_changed(before: str, after: str, said: str) -> None:
    assert by_how_much(before, after) == said


def test_what_only_one_run_has_is_none_of_the_other() -> None:
    found = compared("packages", {"a": "1", "b": "1"}, {"b": "1", "c": "2"})
    assert [(each.name, each.before, each.after) for each in found] == [
        ("a", "1", None),
        ("c", None, "2"),
    ]


def test_lines_near_one_that_fits_are_shown_once() -> None:
    lines = [PrintedLine(f"line {number}", "stderr") for number in range(10)]
    lines[3] = PrintedLine("\x1b[31mloss\x1b[0m=nan\x07")
    lines[5] = PrintedLine("loss=nan")
    found = list(found_in(lines, compiled("LOSS=nan", ignore_case=True), 1))
    assert [(each.number, each.is_match) for each in found] == [
        *((3, False), (4, True), (5, False), (6, True), (7, False)),
    ]
    assert (found[1].line, found[1].stream) == ("loss=nan\\x07", "stdout")
    assert [each.number for each in found_in(lines, compiled("line [0-2]"))] == [1, 2, 3]


def test_what_is_no_pattern_is_refused_with_one_that_finds_the_text() -> None:
    with pytest.raises(UsageError, match="no regular expression") as refused:
        compiled("loss=[")
    assert refused.value.hint == r"to look for just that text: --grep 'loss=\['"


def test_a_pickled_call_is_looked_at_without_unpickling_it() -> None:
    root = plain_root(Path(__file__).parent)
    by_name = payload_frame(pack_call(json.dumps, (1,), {}, root=root).content)
    assert by_name.function == "json.dumps"
    assert by_name.call != payload_frame(pack_call(json.dumps, (2,), {}, root=root).content).call
    local = lambda value: value  # noqa: E731
    assert payload_frame(pack_call(local, (1,), {}, root=root).content).function is None


class Trap:
    """Something whose unpickling would call a function."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit",))


@pytest.mark.parametrize("value", [Trap(), [], {"call": []}, 7])
def test_what_is_no_call_of_ours_is_not_unpickled(value: Any) -> None:
    with pytest.raises(ValueError, match="it is no pickled call"):
        payload_frame(pickle.dumps(value))
    with pytest.raises(ValueError, match="it is no pickled call"):
        payload_frame(b"")
