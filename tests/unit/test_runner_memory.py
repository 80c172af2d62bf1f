"""Whether memory ran out, as either version of cgroups tells it."""

from __future__ import annotations

from pathlib import Path

import pytest
from kinetic_flows.runner_image.runner.memory import count_kills, describe_kill

V1 = {
    "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n",
    "memory/memory.limit_in_bytes": "17179869184\n",
    "memory/memory.max_usage_in_bytes": "17179869184\n",
}
V2 = {
    "memory.events": "low 0\nhigh 0\nmax 31\noom 1\noom_kill {kills}\noom_group_kill 0\n",
    "memory.max": "17179869184\n",
    "memory.peak": "17179869184\n",
}


def write(root: Path, files: dict[str, str], kills: int, **changes: str) -> str:
    for name, text in {**files, **changes}.items():
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.format(kills=kills))
    return str(root)


@pytest.mark.parametrize("files", [V1, V2], ids=["v1", "v2"])
def test_a_kill_is_told_with_limit_and_peak(tmp_path: Path, files: dict[str, str]) -> None:
    before = count_kills(write(tmp_path, files, kills=2))
    told = describe_kill(before, write(tmp_path, files, kills=3))
    assert told == "the container ran out of memory (limit 16.0 GiB, peak 16.0 GiB)"


def test_a_kill_from_before_is_not_told_again(tmp_path: Path) -> None:
    root = write(tmp_path, V2, kills=1)
    assert describe_kill(count_kills(root), root) is None


def test_what_has_no_limit_names_none(tmp_path: Path) -> None:
    root = write(tmp_path, V2, kills=1, **{"memory.max": "max\n", "memory.peak": "1610612736"})
    assert describe_kill(0, root) == "the container ran out of memory (peak 1.5 GiB)"


def test_a_machine_without_cgroups_says_nothing(tmp_path: Path) -> None:
    assert count_kills(str(tmp_path)) == 0
    assert describe_kill(0, str(tmp_path)) is None
