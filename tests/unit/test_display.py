"""Texts of others, on a terminal and in Prefect's pages."""

from __future__ import annotations

import io
import unicodedata
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from kinetic_flows.cli.run_list import print_runs
from kinetic_flows.cli.tables import print_table
from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.core.display import (
    counted,
    for_line,
    for_markdown,
    for_terminal,
    output_for_terminal,
    value_for_output,
)
from kinetic_flows.core.screen import Screen
from kinetic_flows.core.terminal import TerminalProgress
from kinetic_flows.flows.map import _row
from kinetic_flows.runs.description import described
from kinetic_flows.runs.group import MapItem

CLIPBOARD = "\x1b]52;c;cm0gLXJmIH4=\x07"
"""Puts a text of somebody else's choice into the clipboard."""

TITLE_C1 = "\x9d0;hello\x9c"
HOSTILE = st.text(st.sampled_from("\x1b\x9b[]0;31mK\r\n\t\x07\x7f\u202ea(){}!<>`*_|&\\#-+. x"))


def is_an_order(character: str) -> bool:
    kind = unicodedata.category(character)
    return kind in ("Cc", "Zl", "Zp") or unicodedata.bidirectional(character) in (
        *("LRE", "RLE", "LRO", "RLO", "PDF"),
        *("LRI", "RLI", "FSI", "PDI"),
    )


@given(st.text() | HOSTILE)
def test_nothing_is_an_order_to_the_terminal(text: str) -> None:
    assert not [each for each in for_terminal(text) if is_an_order(each) and each not in "\n\t"]
    assert not [each for each in for_line(text) if is_an_order(each) and each != "\t"]


@given(st.text(st.characters(exclude_categories=["Cc", "Cf", "Zl", "Zp", "Cs"])))
def test_ordinary_text_is_shown_as_it_is(text: str) -> None:
    assert for_line(text) == output_for_terminal(text) == text


def test_orders_are_written_out_and_colours_are_left_out() -> None:
    assert for_terminal(f"a\x1b[31mred\x1b[0m{CLIPBOARD}") == "ared\\x1b]52;c;cm0gLXJmIH4=\\x07"
    assert for_line("two\nlines\r") == "two\\nlines\\r"


def test_what_a_program_prints_keeps_its_colours_and_progress_bars() -> None:
    bar = "\r\x1b[K 50% \x1b[32m#####\x1b[0m"
    assert output_for_terminal(bar) == bar
    assert output_for_terminal(bar + CLIPBOARD) == f"{bar}\\x1b]52;c;cm0gLXJmIH4=\\x07"


def test_programs_get_a_value_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert value_for_output(CLIPBOARD) == CLIPBOARD
    monkeypatch.setattr("sys.stdout", Terminal())
    assert "\x1b" not in value_for_output(CLIPBOARD)


@given(st.text(st.characters(exclude_categories=["Cs"])) | HOSTILE)
def test_no_text_makes_a_link_an_image_or_markup_in_a_page(text: str) -> None:
    kinds = {
        child.type
        for token in MarkdownIt("commonmark").parse(for_markdown(text))
        for child in (token, *(token.children or ()))
    }
    assert not kinds & {"link_open", "image", "html_inline", "html_block", "em_open", "strong_open"}


def test_ordinary_arguments_read_the_same_in_a_page() -> None:
    assert for_markdown("lr=0.001, name='base'") == "lr=0.001, name='base'"


def an_item(**fields: Any) -> MapItem:
    whole = {"index": 0, "arguments": "", "state": "Failed", "tries": 1, "seconds": None}
    return MapItem(**{**whole, **fields})


def test_an_input_is_no_link_in_the_table_of_inputs() -> None:
    row = _row(an_item(arguments="'[click](javascript:alert(1))'"), session=None)  # type: ignore[arg-type]
    assert row["arguments"] == "'\\[click\\](javascript:alert(1))'"


def test_lists_and_notices_show_names_without_obeying_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = RunRecord(
        id="0d2c6c69-23b8-432c-96c1-90dc74d0f11a",
        name=f"train{CLIPBOARD}",
        state_type="FAILED",
        state_name=f"Failed{TITLE_C1}",
        message="",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        tags=(),
        parameters={},
        labels={},
        job_variables={},
        parent_task_run_id=None,
    )
    print_runs([described(record, "http://127.0.0.1")])
    print_table([["NAME"], [f"nightly{CLIPBOARD}"], ["two\nlines"]])
    notices = io.StringIO()
    progress = TerminalProgress(Screen(notices, io.StringIO()))
    progress.notice(f"run {CLIPBOARD}")
    progress.warning(TITLE_C1)
    shown = capsys.readouterr().out + notices.getvalue()
    assert "train\\x1b]52" in shown
    assert not [each for each in shown if is_an_order(each) and each != "\n"]
    assert "two\\nlines" in shown


def test_one_thing_is_not_several() -> None:
    told = [counted(count, "file") for count in (0, 1, 2, 3000)]
    assert told == ["0 files", "1 file", "2 files", "3,000 files"]
