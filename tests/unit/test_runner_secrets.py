"""Secret variables in a run: opened, handed to the function's process, shown nowhere."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from kinetic_flows.core.job import EXIT_DATA_UNAVAILABLE, EXIT_SECRETS_UNAVAILABLE
from kinetic_flows.core.job_parts import DataSpec, SecretSpec
from kinetic_flows.core.sealing import new_seal_key, seal_values
from runner_jobs import RUN_ID, SEAL_KEY, Job

VALUE = "a-secret-of-many-letters"

SAYS_IT = """
    import logging, os, subprocess, sys
    def main(raises=False):
        token = os.environ["TOKEN"]
        print("stdout", token)
        print("stderr", token, file=sys.stderr)
        for letter in f"letters {token}":
            print(letter, end="", flush=True)
        print()
        logging.warning("logged %s", token)
        logging.getLogger("quiet").info("hidden %s", token)
        os.write(1, b"x" * 65_530 + f"far {token}".encode() + bytes([10]))
        subprocess.run([sys.executable, "-c", "import os; print('child', os.environ['TOKEN'])"])
        with open(f"/proc/{os.getpid()}/environ") as file:
            assert token not in file.read(), "ps shows it"
        if raises:
            raise ValueError(f"refused: {token}")
        return {"token": token}
"""


def _job(root: Path, source: str = SAYS_IT, **changes: Any) -> Job:
    return Job(root / "store", source=source, sealed={"TOKEN": VALUE}, **changes)


@pytest.mark.parametrize("raises", [False, True])
def test_nothing_that_a_run_says_has_the_value(tmp_path: Path, raises: bool) -> None:
    job = _job(tmp_path, kwargs={"raises": raises}, variables={"TMPDIR": str(tmp_path)})
    ended = job.run()
    said = ended.log.decode() + ended.errors
    for where in ("stdout ***", "stderr ***", "letters ***", "logged ***", "hidden ***"):
        assert where in said
    # A line that long may be told in two, with what was logged between them.
    assert re.search(r"far [^*]*\*\*\*", said.partition("xxx")[2])
    assert "child ***" in said
    assert VALUE not in said
    header = json.dumps(asdict(job.envelope().header))
    assert "***" in header
    assert VALUE not in header
    assert ended.exit_code == int(raises)


def test_what_the_function_returns_is_its_own(tmp_path: Path) -> None:
    job = _job(tmp_path)
    job.run()
    assert job.value() == {"token": VALUE}


def test_what_it_raises_comes_back_with_its_text_masked(tmp_path: Path) -> None:
    source = """
        import os
        class Refused(Exception):
            def __init__(self, token, code):
                super().__init__(f"refused {token}", code)
                self.code = code
        def main():
            token = os.environ["TOKEN"]
            error = Refused(token, 7)
            error.add_note(f"tried with {token}")
            try:
                raise KeyError(token)
            except KeyError:
                raise error
    """
    job = _job(tmp_path, source)
    job.run()
    body = bytes(job.envelope().body)
    assert VALUE.encode() not in body
    assert b"refused ***" in body


def test_while_it_runs_no_file_of_the_run_has_the_value(tmp_path: Path) -> None:
    source = """
        import os
        def main():
            assert os.environ["TOKEN"]
            found = []
            for place, _, names in os.walk(os.environ["TMPDIR"]):
                for name in names:
                    with open(os.path.join(place, name), "rb") as file:
                        if os.environ["TOKEN"].encode() in file.read():
                            found.append(name)
            return found
    """
    job = _job(tmp_path, source, variables={"TMPDIR": str(tmp_path)})
    assert job.run().exit_code == 0
    assert job.value() == []


def test_a_value_is_there_when_the_project_is_imported_and_at_each_try(tmp_path: Path) -> None:
    source = """
        import os
        AT_IMPORT = os.environ["TOKEN"]
        def main():
            if os.environ["KINETIC_RETRY"] == "0":
                raise RuntimeError(os.environ["TOKEN"])
            return AT_IMPORT == os.environ["TOKEN"]
    """
    job = _job(tmp_path, source, changes={"retries": 1})
    ended = job.run()
    assert "RuntimeError: ***" in ended.output + ended.errors
    assert job.value() is True


def test_values_of_any_size_are_handed_over(tmp_path: Path) -> None:
    large = "x" * 300_000
    source = "import os\ndef main():\n return len(os.environ['LARGE'])"
    job = Job(tmp_path / "store", source=source, sealed={"LARGE": large})
    assert job.run().exit_code == 0
    assert job.value() == len(large)


def test_a_variable_that_python_reads_when_it_starts_harms_nothing(tmp_path: Path) -> None:
    source = "import os\ndef main():\n return os.environ['PYTHONHOME']"
    job = Job(tmp_path / "store", source=source, sealed={"PYTHONHOME": "/nowhere"})
    assert job.run().exit_code == 0
    assert job.value() == "/nowhere"


def _sealed(job: Job) -> Path:
    return job.root / "runs" / RUN_ID / "sealed"


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (lambda path: path.unlink(), "the values of TOKEN are gone"),
        (lambda path: path.write_bytes(b"x" + path.read_bytes()), "was not sealed for this run"),
        (
            lambda path: path.write_bytes(seal_values({"TOKEN": "other"}, new_seal_key())),
            "was not sealed for this run",
        ),
        (
            lambda path: path.write_bytes(seal_values({"OTHER": "x"}, SEAL_KEY)),
            "has no value of TOKEN",
        ),
    ],
)
def test_what_is_not_what_was_sealed_is_refused(tmp_path: Path, break_it: Any, told: str) -> None:
    job = _job(tmp_path)
    job.write()
    break_it(_sealed(job))
    ended = job.again(KINETIC_SEAL_KEY=SEAL_KEY)
    assert ended.exit_code == EXIT_SECRETS_UNAVAILABLE
    assert told in ended.output + ended.errors
    assert "stdout" not in ended.output, "the function was not called"


@pytest.mark.parametrize("key", ["", "no key", "AB" * 32])
def test_without_its_key_nothing_begins(tmp_path: Path, key: str) -> None:
    job = _job(tmp_path)
    ended = job.run(KINETIC_SEAL_KEY=key)
    assert ended.exit_code == EXIT_SECRETS_UNAVAILABLE
    assert "KINETIC_SEAL_KEY must be set" in ended.output + ended.errors


def _with(tmp_path: Path, *specs: SecretSpec, source: str) -> Job:
    return Job(tmp_path / "store", source=source, changes={"secrets": specs})


def test_a_value_of_a_kubernetes_secret_is_renamed_and_masked(tmp_path: Path) -> None:
    spec = SecretSpec(variable="PREFECT_API_KEY", kind="k8s", name="wandb", key="key")
    source = """
        import os
        def main():
            print(os.environ["PREFECT_API_KEY"])
            return sorted(name for name in os.environ if name.startswith("KINETIC_VALUE_OF_"))
    """
    job = _with(tmp_path, spec, source=source)
    ended = job.run(KINETIC_VALUE_OF_PREFECT_API_KEY=VALUE)
    assert "***" in ended.output
    assert VALUE not in ended.output
    assert job.value() == []


def test_all_that_are_missing_are_named(tmp_path: Path) -> None:
    specs = (
        SecretSpec(variable="ONE", kind="k8s", name="wandb", key="key"),
        SecretSpec(variable="TWO", kind="k8s", name="other", key="k"),
        SecretSpec(variable="THREE", kind="prefect", name="block"),
        SecretSpec(variable="FOUR", kind="sealed"),
    )
    ended = _with(tmp_path, *specs, source="def main():\n pass").run()
    told = ended.output + ended.errors
    for name in ("ONE", "TWO", "block", "FOUR"):
        assert name in told


def test_what_a_library_says_of_a_value_is_masked_in_the_result_too(tmp_path: Path) -> None:
    place = {"endpoint": "http://127.0.0.1:9", "type": "dataset", "repository": "o/s"}
    data = DataSpec(
        kind="hub",
        identity="5d" * 32,
        source="hf://datasets/o/s",
        name="s",
        place={**place, "commit": "c" * 40, "path": ""},
        size_bytes=1,
        files=1,
    )
    # No header can hold it, which the standard library says with all of it.
    job = Job(tmp_path / "store", sealed={"HF_TOKEN": f"one\n{VALUE}"}, changes={"data": [data]})
    ended = job.run(TMPDIR=str(tmp_path))
    message = job.envelope().header.message
    assert ended.exit_code == EXIT_DATA_UNAVAILABLE
    assert "***" in message
    assert VALUE not in message + ended.output + ended.errors


def test_what_may_be_seen_is_shown(tmp_path: Path) -> None:
    job = _job(tmp_path, "import os\ndef main():\n print(os.environ['TOKEN'])")
    job.changes = {"secrets": [SecretSpec(variable="TOKEN", kind="sealed", masked=False)]}
    assert VALUE in job.run().output
