"""Why a background server did not start is said in a sentence, not in its traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from kinetic_flows.clients.prefect.server_failures import start_error

FRAMES = """
Traceback (most recent call last):
  File "/venv/lib/python3.11/site-packages/aiosqlite/core.py", line 63, in _connection_worker_thread
    result = function()
             ^^^^^^^^^^
"""
END = "\n\nERROR:    Application startup failed. Exiting.\n"

LOGS = {
    "a damaged database": (
        "sqlalchemy.exc.DatabaseError: (DatabaseError) file is not a database\n(And so on)",
        "its database {}/prefect.db is damaged",
        "mv {}/prefect.db {}/prefect.db.damaged",
    ),
    "a newer database": (
        "alembic.util.exc.CommandError: Can't locate revision identified by '3c841a1800a1'",
        "was made by a newer Prefect",
        "upgrade prefect",
    ),
    "a full disk": (
        "sqlite3.OperationalError: database or disk is full",
        "no space left in {}",
        "KINETIC_HOME",
    ),
    "a missing package": (
        "ModuleNotFoundError: No module named 'aiosqlite'",
        ": ModuleNotFoundError: No module named 'aiosqlite'",
        "install kinetic-flows anew",
    ),
    "anything else": (
        "ValueError: something new",
        "exited with 3: ValueError: something new",
        "PREFECT_API_URL",
    ),
}


@pytest.mark.parametrize("what", LOGS)
def test_the_cause_is_said_in_a_sentence(tmp_path: Path, what: str) -> None:
    line, message, hint = LOGS[what]
    log = tmp_path / "server.log"
    log.write_text(FRAMES + line + END)
    error = start_error("exited with 3", log)
    assert message.replace("{}", str(tmp_path)) in error.message
    assert hint.replace("{}", str(tmp_path)) in str(error.hint)
    assert str(log) in str(error.hint)
    assert "\n" not in error.message
    assert "site-packages" not in str(error)


def test_a_server_that_wrote_nothing_has_no_cause(tmp_path: Path) -> None:
    error = start_error("was killed by SIGKILL", tmp_path / "server.log")
    assert error.message == "the background Prefect server was killed by SIGKILL"
