"""Profiles of a function, as far as they need neither jax nor torch themselves."""

from __future__ import annotations

from pathlib import Path

from runner_jobs import Job

PLAIN = "def main():\n return 1"


def test_a_function_without_anything_to_profile_returns_and_says_why_there_is_none(
    tmp_path: Path,
) -> None:
    job = Job(tmp_path / "store", PLAIN, changes={"profile": True})
    output = job.run().output
    assert job.value() == 1
    assert "there is no profile: the function has imported neither jax nor torch" in output
