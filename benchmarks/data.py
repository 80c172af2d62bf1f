"""What bringing data to a bucket and into a run costs, beside copying each file and zipping all.

Two sets: a few large files, half noise and half text, and many small ones. The bucket is a real
server on loopback (fake-gcs-server), so requests cost what HTTP costs, and the network nothing.
Each client is a process of its own. The alternatives: `copy` does what `gcloud storage cp -r` does,
an object for each file, some at a time, and lists the bucket to find out what is there; `zip`
deflates everything into one archive and uploads that. Both are then brought into a run in the same
ways. Memory is the process's peak beyond that of a bare interpreter.

    python benchmarks/data.py [--json] [--large-mb 200] [--files 5000] [--only large|small]

Ten gigabytes and a million files are `--large-mb 10000 --files 1000000`; they need three times the
room on the disk, and the server keeps what it is sent in memory.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from _report import Row, report

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

BUCKET = "data"
LARGE_FILES = 4
SMALL_BYTES = 1_000
COPIERS = 16
SETTLE_SECONDS = 0.5
"""Files edited within a tick of being read are read again, so the data gets to rest first."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object per row")
    parser.add_argument(
        "--large-mb", type=int, default=200, help="size of the large files together"
    )
    parser.add_argument("--files", type=int, default=5_000, help="how many small files")
    parser.add_argument("--only", choices=["large", "small"], help="one of the two sets")
    parser.add_argument("--client", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        print(json.dumps(run_client(*options.client)))
        return
    from loopback.storage import StorageServer

    with tempfile.TemporaryDirectory(prefix="data-") as folder:
        server = StorageServer(Path(folder) / "server").start()
        try:
            server.create_bucket(BUCKET)
            rows = measure(Path(folder), server.url, options)
            report(list(rows), options.json)
        finally:
            server.stop()


def measure(folder: Path, url: str, options: argparse.Namespace) -> Iterator[Row]:
    bare = client("bare", folder, url, "")["peak_mb"]
    sets: dict[str, Callable[[Path], str]] = {
        f"{options.large_mb} MB in {LARGE_FILES} files": lambda path: make_large(
            path, options.large_mb
        ),
        f"{options.files:,} files of 1 kB": lambda path: make_small(path, options.files),
    }
    for kind, (name, make) in zip(("large", "small"), sets.items(), strict=True):
        if options.only in (None, kind):
            data = folder / kind
            edited = make(data)
            yield from measure_set(name, data, edited, folder, url, bare)
            shutil.rmtree(data)


def measure_set(
    name: str, data: Path, edited: str, folder: Path, url: str, bare: float
) -> Iterator[Row]:
    for step in ("first upload", "unchanged", "one file changed"):
        if step == "one file changed":
            with (data / edited).open("ab") as file:
                file.write(b"changed")
        time.sleep(SETTLE_SECONDS)
        yield from compared(f"{name}, {step}", f"send {data.name}", folder, url, bare)
    yield from compared(f"{name}, into a run", f"bring {data.name}", folder, url, bare)


def compared(name: str, what: str, folder: Path, url: str, bare: float) -> Iterator[Row]:
    step, kind = what.split()
    measured = {way: client(f"{step}-{way}", folder, url, kind) for way in ("packs", "copy", "zip")}
    ours = measured["packs"]
    for way in ("copy", "zip"):
        other = measured[way]
        yield Row(
            name=f"{name}, {way}", ours=ours["seconds"], alternative=other["seconds"], unit="s"
        )
    if step == "send":
        yield Row(
            name=f"{name}, sent, copy",
            ours=ours["bytes"] / 1e6,
            alternative=measured["copy"]["bytes"] / 1e6,
            unit="MB",
        )
    peak = ours["peak_mb"] - bare
    yield Row(
        name=f"{name}, peak memory, copy",
        ours=peak,
        alternative=measured["copy"]["peak_mb"] - bare,
        unit="MB",
    )


def client(way: str, folder: Path, url: str, kind: str) -> dict[str, float]:
    """Run one client in a process of its own."""
    command = [sys.executable, __file__, "--client", way, str(folder), url, kind]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def run_client(way: str, folder: str, url: str, kind: str) -> dict[str, float]:
    step, _, how = way.partition("-")
    seconds, sent = 0.0, 0
    if step != "bare":
        work = {"send": SENDERS, "bring": BRINGERS}[step][how]
        seconds, sent = work(Path(folder), url, kind)
    return {"seconds": seconds, "bytes": sent, "peak_mb": peak_mb()}


def send_packs(folder: Path, url: str, kind: str) -> tuple[float, int]:
    from kinetic_flows.clients.google.storage import GoogleStore
    from kinetic_flows.code.data.sources import DataSources, Surroundings
    from kinetic_flows.core.data import Data

    store = GoogleStore(BUCKET, prefix="packs", endpoint=url)
    sources = DataSources(
        Surroundings(
            home=folder / "home",
            environ={},
            store=store,
            open_bucket=lambda _: store,
            sees_files=False,
        )
    )
    data = Data(folder / kind)
    # The client of the others is imported and connected by now, too.
    store.check()
    started = time.perf_counter()
    spec = sources.ready(data)
    seconds = time.perf_counter() - started
    (folder / f"{kind}.json").write_text(json.dumps(asdict(spec)))
    return seconds, sources.sent_bytes(data)


def send_copy(folder: Path, url: str, kind: str) -> tuple[float, int]:
    bucket, root = bucket_of(url), folder / kind
    bucket.exists()
    started = time.perf_counter()
    prefix = f"copy/{kind}/"
    there = {blob.name: blob.size for blob in bucket.list_blobs(prefix=prefix)}

    def send(path: Path) -> int:
        name = f"{prefix}{path.relative_to(root).as_posix()}"
        size = path.stat().st_size
        # Sizes tell enough here; gcloud compares times or checksums, too.
        if there.get(name) == size:
            return 0
        bucket.blob(name).upload_from_filename(str(path))
        return size

    with ThreadPoolExecutor(COPIERS) as pool:
        sent = sum(pool.map(send, (path for path in root.rglob("*") if path.is_file())))
    return time.perf_counter() - started, sent


def send_zip(folder: Path, url: str, kind: str) -> tuple[float, int]:
    bucket, root = bucket_of(url), folder / kind
    bucket.exists()
    started = time.perf_counter()
    path = folder / f"{kind}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, file.relative_to(root))
    with path.open("rb") as written:
        digest = hashlib.file_digest(written, "sha256").hexdigest()
    blob = bucket.blob(f"zip/{kind}-{digest}")
    size = 0 if blob.exists() else path.stat().st_size
    if size:
        blob.upload_from_filename(str(path))
    (folder / f"{kind}.zipped").write_text(digest)
    return time.perf_counter() - started, size


def bring_packs(folder: Path, url: str, kind: str) -> tuple[float, int]:
    from kinetic_flows.runner_image.runner.data import Around, bring_data
    from kinetic_flows.runner_image.runner.stores import open_store

    storage_client = client_of(url)
    spec = json.loads((folder / f"{kind}.json").read_text())
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    started = time.perf_counter()
    with ExitStack() as leaving:
        around = Around(
            store=open_store(f"gs://{BUCKET}/packs", storage_client),
            client=storage_client,
            environ={},
            scratch=str(scratch),
            say=lambda _: None,
            leaving=leaving,
        )
        bring_data([spec], around)
        seconds = time.perf_counter() - started
    shutil.rmtree(scratch)
    return seconds, spec["size_bytes"]


def bring_copy(folder: Path, url: str, kind: str) -> tuple[float, int]:
    bucket, target = bucket_of(url), folder / "copied"
    started = time.perf_counter()
    prefix = f"copy/{kind}/"
    blobs = list(bucket.list_blobs(prefix=prefix))

    def bring(blob: Any) -> None:
        path = target / blob.name.removeprefix(prefix)
        path.parent.mkdir(parents=True, exist_ok=True)
        blob.download_to_filename(str(path))

    with ThreadPoolExecutor(COPIERS) as pool:
        list(pool.map(bring, blobs))
    seconds = time.perf_counter() - started
    shutil.rmtree(target)
    return seconds, sum(blob.size for blob in blobs)


def bring_zip(folder: Path, url: str, kind: str) -> tuple[float, int]:
    bucket, target = bucket_of(url), folder / "unzipped"
    digest = (folder / f"{kind}.zipped").read_text()
    started = time.perf_counter()
    path = folder / "brought.zip"
    bucket.blob(f"zip/{kind}-{digest}").download_to_filename(str(path))
    with zipfile.ZipFile(path) as archive:
        archive.extractall(target)
    seconds = time.perf_counter() - started
    shutil.rmtree(target)
    return seconds, path.stat().st_size


def client_of(url: str) -> Any:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    from kinetic_flows.clients.google.internals import allow_connections

    made = storage.Client(
        project="p", credentials=AnonymousCredentials(), client_options={"api_endpoint": url}
    )
    allow_connections(made, 2 * COPIERS)
    return made


def bucket_of(url: str) -> Any:
    return client_of(url).bucket(BUCKET)


def peak_mb() -> float:
    """The peak of this process alone: what getrusage says survives exec, so it is no use."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1000


def make_large(path: Path, megabytes: int) -> str:
    """Make large files, every other one text; return the name of one."""
    chance = random.Random(0)
    path.mkdir()
    words = [f"{chance.random():.6f}" for _ in range(5_000)]
    for index in range(LARGE_FILES):
        with (path / f"large-{index}").open("wb") as file:
            for _ in range(max(megabytes // LARGE_FILES, 1)):
                text = ",".join(chance.choices(words, k=112_000)).encode()
                file.write(text[:1_000_000] if index % 2 else chance.randbytes(1_000_000))
    return "large-0"


def make_small(path: Path, count: int) -> str:
    """Make small files, a thousand in a directory; return the name of one."""
    chance = random.Random(0)
    for index in range(count):
        folder = path / f"{index // 1000:04}"
        if index % 1000 == 0:
            folder.mkdir(parents=True)
        (folder / f"{index:07}").write_bytes(chance.randbytes(SMALL_BYTES))
    return "0000/0000007"


Work = Callable[[Path, str, str], tuple[float, int]]
SENDERS: dict[str, Work] = {"packs": send_packs, "copy": send_copy, "zip": send_zip}
BRINGERS: dict[str, Work] = {"packs": bring_packs, "copy": bring_copy, "zip": bring_zip}


if __name__ == "__main__":
    main()
