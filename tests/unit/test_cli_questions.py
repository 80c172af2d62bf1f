"""What the command asks, and what happens where nobody can be asked."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest

from kinetic_flows import cli
from kinetic_flows.cli.questions import confirmed, is_terminal
from kinetic_flows.core.errors import UsageError

COMMANDS = Path(str(cli.__file__)).parent
ASKING = {"questions.py", "build_image_questions.py", "init_questions.py", "profile_questions.py"}


@pytest.mark.parametrize("stream", [None, io.StringIO("y\n")])
@pytest.mark.parametrize("end", ["stdin", "stderr"])
def test_without_a_terminal_nobody_is_asked(monkeypatch, stream, end):
    """A pipe, a file, or nothing at all, as under cron and in a pod."""
    monkeypatch.setattr(sys, end, stream)
    assert not is_terminal()
    with pytest.raises(UsageError, match=r"was not deleted: .* no terminal") as caught:
        confirmed("Delete it?", undone="train/nightly was not deleted")
    assert caught.value.hint == "give --yes"


def test_no_command_asks_by_any_other_way():
    """So that each question has an answer where there is no terminal."""
    for path in COMMANDS.glob("*.py"):
        if path.name not in ASKING:
            assert not re.search(r"\bquestionary\b|\binput\(|getpass", path.read_text()), path.name
    callers = [
        path.read_text()
        for path in COMMANDS.glob("*.py")
        if "build_image_questions import" in path.read_text()
    ]
    for text in callers:
        asked = re.findall(r"from kinetic_flows.cli.build_image_questions import", text)
        assert len(re.findall(r"if not is_terminal\(\)", text)) >= len(asked)
