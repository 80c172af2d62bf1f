"""What a run's host uses: read from what the kernel says, kept within bounds, told in words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from kinetic_flows.runner_image.runner.host_use import CONTAINER, PROCESSES, HostUse
from kinetic_flows.runner_image.runner.measured import as_markdown, document_of, readings_of, told
from kinetic_flows.runner_image.runner.picture import draw
from kinetic_flows.runner_image.runner.readings import ChipReading, History, Reading, merge
from kinetic_flows.runner_image.runner.use_words import words_of

from runner_jobs import RUN_ID, Job

GIB = 1 << 30
SVG = "{http://www.w3.org/2000/svg}"
SPINS = """
import os, time
def main():
    block = bytearray(64 << 20)
    while not os.path.exists(os.environ["GO"]):
        sum(range(10_000))
    return len(block)
"""


def a_host(chips: int = 1, *, used: float | None = None, **fields: float) -> Reading:
    """Return a minute of a host, whose chips were used as much as is said."""
    return Reading(
        **{"at": 60.0, "seconds": 60.0, "cpus": 0.1, **fields},
        chips=() if used is None else (ChipReading(used_percent=used),) * chips,
    )


# Kept within bounds


def test_readings_of_weeks_stay_few_and_keep_mean_and_most() -> None:
    history = History(5.0)
    for number in range(200_000):
        at = 5.0 * (number + 1)
        memory = 9 * GIB if number == 1_000 else GIB
        history.add(Reading(at, 5.0, cpus=number % 2, memory_bytes=memory))
    kept = history.all()
    assert len(kept) < 320
    whole = merge(kept)
    assert (whole.at, whole.seconds) == (1_000_000.0, pytest.approx(1_000_000.0))
    assert (whole.cpus, whole.memory_bytes) == (pytest.approx(0.5, abs=0.01), 9 * GIB)
    assert [each.seconds for each in history.recent(60.0)] == [5.0] * 12
    assert all(later.at > earlier.at for earlier, later in pairwise(kept))


def test_looks_that_are_closer_than_readings_become_one() -> None:
    history = History(1.0)
    for number in range(20):
        history.add(Reading(0.25 * number, 0.25, cpus=1.0))
    assert [each.seconds for each in history.all()] == [1.0] * 5


def test_a_reading_without_a_number_does_not_count_for_its_mean() -> None:
    merged = merge([a_host(used=50.0, cpus=2.0), a_host(used=None), a_host(chips=2, used=100.0)])
    assert [chip.used_percent for chip in merged.chips] == [75.0, 100.0]
    assert merge([Reading(1.0, 1.0)]).cpus is None


def test_a_document_gives_the_readings_that_it_was_made_of() -> None:
    chip = ChipReading(12.5, 3 * GIB, 80 * GIB, None, 412.5)
    readings = [
        Reading(10.0, 5.0, 1.5, GIB, 4 * GIB, 0.0, 1e6, GIB, 5e6, None, (chip, chip)),
        Reading(15.0, 5.0, memory_limit_bytes=4 * GIB, chips=(chip,)),
    ]
    document = json.loads(json.dumps(a_document(readings)))
    assert readings_of(document)[0] == readings[0]._replace(
        chips=(chip, chip._replace(memory_total_bytes=None))
    )
    assert readings_of(document)[1] == readings[1]
    with pytest.raises(ValueError, match="metrics of version 2"):
        readings_of({**document, "version": 2})


def a_document(readings: list[Reading]) -> dict[str, object]:
    return document_of(
        readings,
        host=1,
        start=0,
        began=5.0,
        ended=True,
        scope=CONTAINER,
        cpus=8,
        chip_kind="gpu",
        chip_name="NVIDIA L4",
    )


def test_the_memory_of_chips_is_known_though_their_driver_has_answered_no_more() -> None:
    chip = ChipReading(memory_bytes=GIB, memory_total_bytes=80 * GIB)
    document = a_document([Reading(10.0, 5.0, chips=(chip,)), Reading(15.0, 5.0)])
    assert readings_of(document)[0].chips == (chip,)


# From what the kernel says


def a_container(root: Path, files: dict[str, str], *others: int) -> HostUse:
    """Return what reads a container with files below its root, where others run as well."""
    stats = {"1": "1 (python (x) y) S 0", "7": "7 (work) S 1"}
    stats |= {str(pid): f"{pid} (other) S 0" for pid in others}
    tree = {f"proc/{pid}/stat": f"{text}{' 0' * 9} 10 20 30 40" for pid, text in stats.items()}
    for name, text in {**tree, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return HostUse(str(root), str(root), process=1)


VERSION_2 = {
    "sys/fs/cgroup/cgroup.controllers": "cpu io memory",
    "sys/fs/cgroup/cgroup.procs": "1\n7\n",
    "sys/fs/cgroup/cpu.max": "50000 100000",
    "sys/fs/cgroup/cpu.stat": "usage_usec 5000000\nuser_usec 1\n",
    "sys/fs/cgroup/memory.events": "oom_kill 0\n",
    "sys/fs/cgroup/memory.max": str(4 * GIB),
    "sys/fs/cgroup/memory.current": str(3 * GIB),
    "sys/fs/cgroup/memory.stat": f"anon 1\ninactive_file {GIB}\n",
    "sys/fs/cgroup/io.stat": "8:0 rbytes=1000 wbytes=10 rios=1\n8:16 rbytes=500 wbytes=5\n",
    "proc/net/dev": (
        "Inter-|  Receive\n    lo: 9 0 0 0 0 0 0 0 9 0\n  eth0: 100 0 0 0 0 0 0 0 40 0\n"
    ),
}
VERSION_1 = {
    "sys/fs/cgroup/memory/cgroup.procs": "1\n7\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
    "sys/fs/cgroup/cpuacct/cpuacct.usage": "5000000000",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": str(4 * GIB),
    "sys/fs/cgroup/memory/memory.usage_in_bytes": str(3 * GIB),
    "sys/fs/cgroup/memory/memory.stat": f"cache 1\ntotal_inactive_file {GIB}\n",
    "sys/fs/cgroup/blkio/blkio.throttle.io_service_bytes": (
        "8:0 Read 1000\n8:0 Write 10\n8:16 Read 500\n8:16 Write 5\nTotal 1515\n"
    ),
    "proc/net/dev": VERSION_2["proc/net/dev"],
}
LATER = {
    "cpu.stat": ("usage_usec 5000000", "usage_usec 6000000"),
    "cpuacct/cpuacct.usage": ("5000000000", "6000000000"),
    "io.stat": ("rbytes=500", "rbytes=2500"),
    "blkio/blkio.throttle.io_service_bytes": ("16 Read 500", "16 Read 2500"),
}


@pytest.mark.parametrize("files", [VERSION_2, VERSION_1], ids=["version 2", "version 1"])
def test_a_container_is_what_its_cgroup_counts(tmp_path: Path, files: dict[str, str]) -> None:
    use = a_container(tmp_path, files)
    assert (use.scope, use.cpus) == (CONTAINER, 0.5)
    use.begin()
    for name, (before, after) in LATER.items():
        path = tmp_path / "sys/fs/cgroup" / name
        if path.exists():
            path.write_text(path.read_text().replace(before, after))
    dev = tmp_path / "proc/net/dev"
    dev.write_text(dev.read_text().replace(": 100 ", ": 4100 "))
    reading = use.read(1_000.0)
    assert (reading.memory_bytes, reading.memory_limit_bytes) == (2 * GIB, 4 * GIB)
    # How long it took is the clock's: a CPU for a second, and 2,000 and 4,000 bytes.
    assert reading.cpus
    assert reading.disk_read_bytes_per_second == pytest.approx(2_000 * reading.cpus, rel=0.01)
    assert reading.network_received_bytes_per_second == pytest.approx(
        4_000 * reading.cpus, rel=0.01
    )
    assert (reading.disk_written_bytes_per_second, reading.network_sent_bytes_per_second) == (0, 0)


def test_a_cgroup_that_others_are_in_is_not_the_runs(tmp_path: Path) -> None:
    files = {**VERSION_2, "sys/fs/cgroup/cgroup.procs": "1\n7\n9\n"}
    files["proc/meminfo"] = "MemTotal:       16777216 kB\nMemFree: 1 kB\n"
    files["proc/7/statm"] = "1000 250 20"
    use = a_container(tmp_path, files, 9)
    assert use.scope == PROCESSES
    reading = use.begin().read(1_000.0)
    assert reading.memory_bytes == 250 * os.sysconf("SC_PAGE_SIZE")
    assert reading.memory_limit_bytes == 16 * GIB
    assert reading.network_received_bytes_per_second is None


@pytest.mark.parametrize(("in_pod", "scope"), [(True, CONTAINER), (False, PROCESSES)])
def test_who_looks_into_a_pod_is_none_of_its_others(
    tmp_path: Path, *, in_pod: bool, scope: str
) -> None:
    files = {**VERSION_2, "sys/fs/cgroup/cgroup.procs": "1\n7\n9\n"}
    a_container(tmp_path, files, 9)
    assert HostUse(str(tmp_path), str(tmp_path), process=1, in_pod=in_pod).scope == scope


def test_the_network_of_a_whole_machine_is_not_the_runs(tmp_path: Path) -> None:
    files = {**VERSION_2, "proc/net/dev": VERSION_2["proc/net/dev"] + " veth1: 1 0 0 0 0 0 0 0 1\n"}
    reading = a_container(tmp_path, files).begin().read(1_000.0)
    assert reading.network_received_bytes_per_second is None


def test_processes_are_counted_with_those_that_have_ended(tmp_path: Path) -> None:
    use = HostUse(str(tmp_path)).begin()
    child = os.fork()
    if not child:
        began = time.process_time()
        while time.process_time() - began < 0.3:
            pass
        os._exit(0)
    os.waitpid(child, 0)
    reading = use.read(time.time())
    assert reading.cpus is not None
    assert reading.cpus * reading.seconds >= 0.25
    assert reading.memory_bytes


# In words


@pytest.mark.parametrize(
    ("readings", "kind", "cpus", "words"),
    [
        ([a_host(used=91.2)], "gpu", 8, ["the GPU was used 91 % of the time"]),
        (
            [a_host(used=3.0, network_received_bytes_per_second=110e6)],
            "gpu",
            8,
            [
                "the GPU was used 3 % of the time",
                (
                    "while the GPU was idle, 110 MB a second came over the network: the function "
                    "waited for data"
                ),
            ],
        ),
        (
            [a_host(8, used=0.4, disk_read_bytes_per_second=400e6)],
            "gpu",
            8,
            [
                "the 8 GPUs were used less than 1 % of the time",
                (
                    "while the GPUs were idle, 400 MB a second were read from disk: the function "
                    "waited for data"
                ),
            ],
        ),
        (
            [a_host(used=2.0, cpus=7.6, network_received_bytes_per_second=110e6)],
            "gpu",
            8,
            [
                "the GPU was used 2 % of the time",
                "while the GPU was idle, 7.6 of 8 CPUs were busy: the function waited for its CPUs",
            ],
        ),
        (
            [a_host(used=2.0, cpus=1.04)],
            "gpu",
            16,
            [
                "the GPU was used 2 % of the time",
                "while the GPU was idle, 1.0 of 16 CPUs were busy, as much as one thread can use",
            ],
        ),
        (
            [a_host(4, used=0.0)],
            "tpu",
            100,
            [
                "no TPU chip was used",
                (
                    "while the TPU chips were idle, 0.1 of 100 CPUs were busy, and little data "
                    "came: what the function waited for cannot be seen from here"
                ),
            ],
        ),
        (
            [a_host(used=None, cpus=3.9, memory_bytes=15 * GIB, memory_limit_bytes=16 * GIB)],
            "",
            4,
            [
                "3.9 of 4 CPUs were busy, in the mean",
                "memory was nearly full: 15.0 GiB of 16.0 GiB",
            ],
        ),
        ([a_host(used=5.0, seconds=20.0)], "gpu", 8, ["the GPU was used 5 % of the time"]),
        ([], "gpu", 8, []),
    ],
)
def test_what_is_said_follows_from_what_was_read(
    readings: list[Reading], kind: str, cpus: float, words: list[str]
) -> None:
    assert words_of(readings, chip_kind=kind, cpus=cpus) == words


def test_gpus_that_were_never_used_are_named() -> None:
    chips = tuple(ChipReading(used_percent=each) for each in (90.0, 0.0, 88.0, 0.0))
    words = words_of([Reading(60.0, 60.0, chips=chips)], chip_kind="gpu")
    assert words == [
        "the 4 GPUs were used 44 % of the time, from 0 % to 90 %",
        "GPUs never used: 1, 3 (of 4, counted from 0)",
    ]


def test_a_gpu_that_says_nothing_keeps_its_number() -> None:
    chips = (ChipReading(), ChipReading(used_percent=50.0), ChipReading(used_percent=0.0))
    words = words_of([Reading(60.0, 60.0, chips=chips)], chip_kind="gpu")
    assert words[1] == "GPUs never used: 2 (of 3, counted from 0)"


# As a picture


def test_a_picture_has_a_chart_for_what_was_read() -> None:
    chip = ChipReading(40.0, GIB, 80 * GIB)
    readings = [
        Reading(5.0 * n, 5.0, 1.0, GIB, 4 * GIB, 0.0, 1e6, GIB, 2e6, 0.0, (chip,))
        for n in range(1, 2_000)
    ]
    svg = draw(readings, chip_kind="gpu", cpus=8)
    texts = [each.text for each in ElementTree.fromstring(svg).iter(f"{SVG}text")]
    titles = ["GPU use", "GPU memory", "CPUs", "memory", "network", "disk"]
    assert [text for text in texts if text in titles] == titles
    assert {"100 %", "mean 40 %", "80.0 GiB", "most 1.0 GiB", "0 s", "2.8 h"} <= set(texts)
    assert len(svg) < 20_000


def test_a_picture_of_one_reading_is_none() -> None:
    assert draw([a_host(used=1.0)], chip_kind="gpu") == ""
    assert as_markdown(told(a_document([a_host(used=1.0)])), hosts=1) == ""


def test_a_pages_section_says_which_host_it_is_of() -> None:
    readings = [a_host(used=40.0), a_host(used=40.0, at=120.0)]
    section = as_markdown(told(a_document(readings)), hosts=4)
    assert section.startswith("Host 1 of 4, counted from 0:\n\n- the GPU was used 40 % of the time")
    assert "](data:image/svg+xml;base64,PHN2Zy" in section


# In a run


def test_a_supervisor_begins_without_what_only_some_runs_need() -> None:
    needed = {"worker", "control", "stacks", "stuck", "idle", "debugging", "black_box"}
    needed |= {"chip_use", "host_use", "readings", "measured", "picture", "use_words"}
    source = (
        "import sys, kinetic_flows.runner_image.runner.supervisor as supervisor\n"
        "print(*(name.rpartition('.')[2] for name in sys.modules "
        "if name.startswith(supervisor.__package__)))"
    )
    command = [sys.executable, "-c", source]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "sampler" in found
    assert needed & set(found) == set()


@pytest.fixture
def spinning(tmp_path: Path) -> Job:
    return Job(tmp_path / "store", SPINS, variables={"GO": str(tmp_path / "go")})


def stored(job: Job) -> Path:
    return job.root / "runs" / RUN_ID / "metrics" / "host-0.json"


def test_a_run_leaves_what_it_used(tmp_path: Path, spinning: Job) -> None:
    runner = spinning.start(KINETIC_METRICS="0.1", TMPDIR=str(tmp_path))
    live = wait_for_file(tmp_path, "kinetic-*/metrics.json")
    while len(json.loads(live.read_text())["readings"]) < 3:
        time.sleep(0.02)
    (tmp_path / "go").touch()
    assert runner.wait() == 0
    document = json.loads(stored(spinning).read_text())
    assert document["ended"]
    whole = merge(readings_of(document))
    assert whole.memory_bytes is not None
    assert whole.memory_bytes > 64 << 20
    assert document["words"][0].endswith("CPUs were busy, in the mean")


EARLIER = tuple(Reading(at, 5.0, cpus=1.0) for at in (10.0, 15.0))


@pytest.mark.parametrize(
    ("left", "known"),
    [(a_document(list(EARLIER)), EARLIER), ({"version": 1}, ())],
    ids=["whole", "damaged"],
)
def test_a_run_that_is_started_again_goes_on_with_its_readings(
    tmp_path: Path, spinning: Job, left: dict[str, object], known: tuple[Reading, ...]
) -> None:
    spinning.put(f"runs/{RUN_ID}/attempts/0/started.json", b"{}")
    spinning.put(f"runs/{RUN_ID}/metrics/host-0.json", json.dumps(left).encode())
    runner = spinning.start(KINETIC_METRICS="0.1", TMPDIR=str(tmp_path))
    live = wait_for_file(tmp_path, "kinetic-*/metrics.json")
    while len(json.loads(live.read_text())["readings"]) < 2:
        time.sleep(0.02)
    (tmp_path / "go").touch()
    assert runner.wait() == 0
    document = json.loads(stored(spinning).read_text())
    readings = readings_of(document)
    before = [each for each in readings if each.at < document["began"]]
    assert [(each.at, each.cpus) for each in before] == [(each.at, each.cpus) for each in known]
    assert (document["start"], document["ended"]) == (1, True)


def test_nothing_is_read_where_the_run_says_so(tmp_path: Path, spinning: Job) -> None:
    (tmp_path / "go").touch()
    assert spinning.run(KINETIC_METRICS="0").exit_code == 0
    assert not stored(spinning).exists()


def wait_for_file(directory: Path, pattern: str) -> Path:
    while True:
        for found in directory.glob(pattern):
            return found
        time.sleep(0.02)
