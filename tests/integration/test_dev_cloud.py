"""`./dev cloud`: everything to try the product with, and nothing left of it afterwards."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

TESTS = Path(__file__).parents[1]


@pytest.mark.timeout(600)
def test_the_cloud_answers_where_it_says_and_leaves_nothing_behind(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "loopback"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    said: list[str] = []
    assert process.stdout is not None
    assert process.stderr is not None
    listener = threading.Thread(target=lambda: said.extend(process.stderr or ()), daemon=True)
    listener.start()
    exported = {}
    for line in process.stdout:
        name, _, value = line.removeprefix("export ").strip().partition("=")
        exported[name] = shlex.split(value)[0]
        if name == "KINETIC_HOME":
            break
    try:
        assert exported, "".join(said)
        with urlopen(f"{exported['PREFECT_API_URL']}/health", timeout=30) as answer:
            assert answer.status == 200
        for command, expected in (
            (["config"], "loopback-kn-kinetic-cluster-jobs"),
            (["nodepools", "ls"], "v6e"),
        ):
            shown = subprocess.run(
                [str(Path(sys.executable).with_name("kinetic")), *command],
                env={**environment, **exported},
                capture_output=True,
                text=True,
                check=False,
            )
            assert expected in shown.stdout, shown.stderr
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(90)
    listener.join(10)

    assert process.returncode == 0, said
    assert said[-1] == "kinetic cloud: stopped\n"
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    for variable in ("PREFECT_API_URL", "STORAGE_EMULATOR_HOST"):
        address = urlsplit(exported[variable]).netloc
        with pytest.raises(OSError, match="refused"):
            urlopen(f"http://{address}/", timeout=5)
