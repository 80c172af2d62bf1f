"""What a program shows and logs of a call that fails in its run."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from projects import make_project

PROGRAM = """
    import logging
    import kinetic

    logging.basicConfig(filename="log", filemode="w", level=logging.DEBUG)

    @kinetic.run
    def train(rate):
        try:
            return {}["rate"]
        except KeyError as error:
            raise ValueError(rate) from error

    if __name__ == "__main__":
        logging.info("before")
        try:
            train(1)
        except ValueError:
            logging.exception("between")
        logging.info("after")
        train(2)
"""


def test_a_failed_call_shows_and_logs_the_persons_lines_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
    shared_kinetic_home: Path,
) -> None:
    project = make_project(tmp_path / "project", monkeypatch, {"main.py": PROGRAM})
    done = project.python(
        "main.py",
        KINETIC_HOME=str(shared_kinetic_home),
        KINETIC_QUIET="1",
        PREFECT_API_URL=prefect_api_url,
    )
    assert done.returncode == 1
    file = project.root / "main.py"
    told = [line for line in done.stderr.splitlines() if line.strip(" ~^")]
    assert told[:-1] == [
        "Traceback (most recent call last):",
        f'  File "{file}", line 9, in train',
        '    return {}["rate"]',
        "KeyError: 'rate'",
        "The above exception was the direct cause of the following exception:",
        "Traceback (most recent call last):",
        f'  File "{file}", line 20, in <module>',
        "    train(2)",
        f'  File "{file}", line 11, in train',
        "    raise ValueError(rate) from error",
        "ValueError: 2",
    ]
    assert told[-1].startswith("raised by train(rate=2) in its run: ")
    log = (project.root / "log").read_text()
    logged = [line for line in log.splitlines() if line.startswith(("INFO:", "DEBUG:", "ERROR:"))]
    theirs = [line for line in logged if ":kinetic_flows." not in line]
    assert theirs == ["INFO:root:before", "ERROR:root:between", "INFO:root:after"]
    assert log.count("raised by train(rate=1) in its run: ") == 1
    auth_string = os.environ["PREFECT_API_AUTH_STRING"]
    for secret in (auth_string, base64.b64encode(auth_string.encode()).decode()):
        assert secret not in log + done.stderr
