"""Chips that do nothing: read from their drivers' libraries, and what becomes of their run."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from kinetic_flows.runner_image.runner import chip_asking
from kinetic_flows.runner_image.runner.chip_use import (
    BUSY,
    IDLE,
    UNKNOWN,
    GpuUse,
    TpuUse,
    Use,
    reader_of,
)
from kinetic_flows.runner_image.runner.idle import IdleWatch
from kinetic_flows.runner_image.runner.readings import ChipReading
from kinetic_flows.runner_image.runner.tpu_metrics import PORTS_VARIABLE, metric_ports, read_chips

from runner_jobs import Job

RETURNS = "def main():\n    return 1\n"
SERVICE = "tpu.monitoring.runtime.RuntimeMetricService"
DUTY_CYCLE = b"tpu.runtime.tensorcore.dutycycle.percent"
MEMORY = b"tpu.runtime.hbm.memory.usage.bytes"
MEMORY_TOTAL = b"tpu.runtime.hbm.memory.total.bytes"
HBM_BYTES = 32 << 30


def a_watch(said: list[str], limit_seconds: float = 600.0) -> IdleWatch:
    return IdleWatch(limit_seconds, 0.0, "TPU chip", said.append, lambda: said.append("woken"))


@pytest.mark.parametrize("devices", ["", "tpu:8", "gpu:1"])
def test_without_the_option_nothing_is_looked_at(tmp_path: Path, devices: str) -> None:
    job = Job(tmp_path / "store", RETURNS)
    ended = job.run(KINETIC_DEVICES=devices, KINETIC_DEVICE_CHECK="0")
    assert (ended.exit_code, "chips" in ended.output) == (0, False)


def test_on_a_cpu_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    job = Job(tmp_path / "store", RETURNS, changes={"idle_timeout_seconds": 0.01})
    assert (job.run().exit_code, job.value()) == (0, 1)
    assert reader_of({}) is None


def test_a_machine_without_nvidias_library_is_unknown(tmp_path: Path) -> None:
    reader = GpuUse({"LD_LIBRARY_PATH": str(tmp_path)})
    try:
        use = reader.read()
    finally:
        reader.close()
    assert use.state == UNKNOWN
    assert "libnvidia-ml.so.1" in use.why


ANSWERS_LATE = """
import os, sys, time
for line in sys.stdin:
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.01)
    print('{"late": true}', flush=True)
"""


def test_an_answer_that_is_late_is_waited_for_by_later_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chip_asking, "WAIT_SECONDS", 0.05)
    asker = chip_asking.Asker(ANSWERS_LATE, [str(tmp_path / "go")], {})
    try:
        assert [asker.ask(), asker.ask()] == [None, None]
        assert asker.waited_seconds >= 0.1
        (tmp_path / "go").touch()
        while (answer := asker.ask()) is None:
            continue
        assert (answer, asker.waited_seconds) == ({"late": True}, 0.0)
    finally:
        asker.close()
    with pytest.raises(ValueError, match="closed file"):
        asker.ask()


def test_a_pause_of_the_chips_is_forgotten_when_they_are_used_again() -> None:
    said: list[str] = []
    watch = a_watch(said)
    for now, state in ((100, IDLE), (590, IDLE), (595, BUSY), (600, IDLE), (1190, IDLE)):
        watch.note(Use(state), now)
    assert (watch.message, said) == ("", [])
    watch.note(Use(IDLE), 1195)
    assert watch.message == (
        "its chips did nothing for 600 s: they were last used 0:09:55 after the function was called"
    )
    assert said == ["woken"]


def test_what_is_unknown_is_not_taken_for_idle() -> None:
    said: list[str] = []
    watch = a_watch(said)
    for now in range(0, 6000, 100):
        watch.note(Use(UNKNOWN, "the driver sleeps") if now % 500 == 0 else Use(IDLE), float(now))
    assert watch.message == ""
    assert len(said) == 1
    assert "cannot be told (the driver sleeps)" in said[0]


# TPUs: libtpu's metrics server, spoken by gRPC's own server


class MetricsServer:
    """A gRPC server that tells how busy chips are, as libtpu's does."""

    def __init__(self) -> None:
        self.duty_cycles: list[float] = []
        self.memory_bytes: list[int] = []
        self.knows = True
        handler = grpc.unary_unary_rpc_method_handler(self._answer)
        handlers = grpc.method_handlers_generic_handler(SERVICE, {"GetRuntimeMetric": handler})
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
        self._server.add_generic_rpc_handlers((handlers,))
        self.port = self._server.add_insecure_port("localhost:0")
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    def _answer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        name = request[2:]
        assert request == bytes([0x0A, len(name)]) + name
        gauges = {
            DUTY_CYCLE: [b"\x09" + struct.pack("<d", each) for each in self.duty_cycles],
            MEMORY: [b"\x10" + _varint(each) for each in self.memory_bytes],
            MEMORY_TOTAL: [b"\x10" + _varint(HBM_BYTES) for _ in self.memory_bytes],
        }
        if not self.knows or (name != DUTY_CYCLE and not self.memory_bytes):
            context.abort(grpc.StatusCode.NOT_FOUND, "no such metric")
        metrics = b"".join(
            # A metric's attribute, its time and its gauge.
            _part(3, _device(number) + _part(2, b"\x08\x05") + _part(3, gauge))
            for number, gauge in reversed(list(enumerate(gauges[name])))
        )
        return _part(1, _part(1, name) + _part(2, b"x" * 300) + metrics)


def _device(number: int) -> bytes:
    return _part(1, b"\x0a\x09device-id" + _part(2, b"\x18" + _varint(number)))


def _part(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    data = b""
    while value > 0x7F:
        data += bytes([value & 0x7F | 0x80])
        value >>= 7
    return data + bytes([value])


@pytest.fixture
def metrics() -> Iterator[MetricsServer]:
    server = MetricsServer()
    yield server
    server.stop()


def a_tpu(root: Path, port: int, *open_files: str) -> TpuUse:
    """Return what reads a TPU of a machine where a process has files open."""
    files = root / "proc" / "17" / "fd"
    files.mkdir(parents=True)
    for number, target in enumerate(open_files):
        (files / str(number)).symlink_to(target)
    return TpuUse({PORTS_VARIABLE: str(port)}, str(root))


def test_duty_cycles_are_read_of_every_chip(metrics: MetricsServer) -> None:
    metrics.duty_cycles = [12.5, 0.0, 99.75, 3.0]
    assert read_chips(metrics.port).duty_cycles == [12.5, 0.0, 99.75, 3.0]


def test_tpus_are_busy_as_long_as_one_is(tmp_path: Path, metrics: MetricsServer) -> None:
    reader = a_tpu(tmp_path, metrics.port, "/dev/accel0")
    assert reader.read().state == UNKNOWN
    metrics.duty_cycles = [0.0, 0.5]
    assert reader.read() == Use(BUSY, "", (ChipReading(0.0), ChipReading(0.5)))
    metrics.duty_cycles = [0.0, 0.0]
    assert reader.read() == Use(IDLE, "", (ChipReading(0.0), ChipReading(0.0)))
    metrics.duty_cycles = []
    assert reader.read() == Use(IDLE)


def test_memory_of_a_chip_is_that_of_its_cores(tmp_path: Path, metrics: MetricsServer) -> None:
    metrics.duty_cycles = [50.0, 75.0]
    metrics.memory_bytes = [1 << 30, 2 << 30, 3 << 30, 4 << 30]
    chips = a_tpu(tmp_path, metrics.port, "/dev/accel0").read().chips
    assert chips == (
        ChipReading(50.0, 3 << 30, 2 * HBM_BYTES),
        ChipReading(75.0, 7 << 30, 2 * HBM_BYTES),
    )


LIBTPU = """
class Metric:
    def data(self):
        return ["10.00", "20.00", "0.00", "80.00"]

class tpumonitoring:
    @staticmethod
    def get_metric(name):
        assert name == "tensorcore_util"
        return Metric()
"""


@pytest.mark.parametrize(("source", "used"), [(LIBTPU, [15.0, 40.0]), ("", [None, None])])
def test_tensor_cores_are_told_of_where_the_process_has_a_library_that_does(
    tmp_path: Path, metrics: MetricsServer, source: str, used: list[float | None]
) -> None:
    metrics.duty_cycles = [50.0, 75.0]
    reader = a_tpu(tmp_path, metrics.port, "/dev/accel0")
    package = tmp_path / "site" / "libtpu"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "sdk.py").write_text(source)
    maps = f"7f00-7f01 r-xp 00000000 fe:00 17                         {package}/libtpu.so\n"
    (tmp_path / "proc" / "17" / "maps").write_text("7f00-7f01 rw-p 00000000 00:00 0\n" + maps)
    try:
        assert [chip.tensor_core_percent for chip in reader.read().chips] == used
    finally:
        reader.close()


def test_a_server_that_knows_nothing_of_duty_cycles_is_unknown(
    tmp_path: Path, metrics: MetricsServer
) -> None:
    metrics.knows = False
    use = a_tpu(tmp_path, metrics.port).read()
    assert use == Use(
        UNKNOWN,
        f"libtpu's metrics server at port {metrics.port}: the server does not know the metric",
    )


@pytest.mark.parametrize("file", ["/dev/accel0", "/dev/vfio/3"])
def test_chips_that_a_process_has_without_serving_metrics_are_unknown(
    tmp_path: Path, metrics: MetricsServer, file: str
) -> None:
    metrics.stop()
    assert a_tpu(tmp_path, metrics.port, "/dev/null", file).read().state == UNKNOWN


def test_chips_that_no_process_has_open_do_nothing(tmp_path: Path, metrics: MetricsServer) -> None:
    metrics.stop()
    assert a_tpu(tmp_path, metrics.port, "/dev/vfio/vfio", "/dev/null").read() == Use(IDLE)


@pytest.mark.parametrize(("code", "state"), [(errno.EADDRNOTAVAIL, IDLE), (errno.EMFILE, UNKNOWN)])
def test_without_ipv6_no_server_is_no_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, state: str
) -> None:
    def refuse(address: tuple[str, int], timeout: float) -> socket.socket:
        raise OSError(code, f"{address} is not to be had for {timeout} s")

    monkeypatch.setattr(socket, "create_connection", refuse)
    assert a_tpu(tmp_path, 8431).read().state == state


def test_ports_are_those_that_the_pod_is_told() -> None:
    assert metric_ports({}) == [8431]
    assert metric_ports({PORTS_VARIABLE: "8431, 8432"}) == [8431, 8432]
