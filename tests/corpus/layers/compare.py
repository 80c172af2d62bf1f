"""Compares what wheels become in layers with what uv makes of them, for packages people use.

    python tests/corpus/layers/compare.py [GROUP ...] [--work DIRECTORY] [--sizes] [--run]

The groups stand in packages.json; each is resolved as one lock, for the Python that this is run
with, and compared file by file. `--run` imports its packages and starts its console scripts from
both trees, `--sizes` compresses the tree of the layers in other ways. A group needs some gigabytes
in the directory while it is compared, and as much from the public index.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from layer_trees import (  # noqa: E402
    differences,
    install,
    sources_without_bytecode,
    tree_of_layer,
    tree_of_prefix,
)

from kinetic_flows.dependencies.uv import find_uv  # noqa: E402
from kinetic_flows.dependencies.wheel_files import WheelDownloads, choose_wheels  # noqa: E402
from kinetic_flows.images.bases import PLATFORM  # noqa: E402
from kinetic_flows.images.layers.bytecode import Compiler  # noqa: E402
from kinetic_flows.images.layers.make import WheelRefused, make_wheel_layer  # noqa: E402

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
SHARED, OWN = "usr/local/lib/python3/site-packages", f"lib/python{PYTHON}/site-packages"
TIMEOUT_SECONDS = 120
WAYS = {"tar, gzip -6": "gzip -6", "tar, zstd -3": "zstd -3 -T1"}


class Group:
    def __init__(self, name, packages, directory, skip):
        self.name, self.packages, self.directory = name, packages, directory
        self.skip = skip
        self.layers, self.installed = directory / "layers", directory / "installed"
        self.trees, self.refused = {}, []
        self.wheel_bytes = self.layer_bytes = 0
        self.seconds = dict.fromkeys(("fetch", "layer", "uv"), 0.0)
        self.bare = []

    def lock(self):
        done = subprocess.run(
            [find_uv(), "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--no-config"]
            + ["--generate-hashes", "--only-binary", ":all:", "--python-version", PYTHON]
            + ["--python-platform", PLATFORM, "-"],
            input="\n".join(self.packages),
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(f"{self.name} cannot be resolved: {done.stderr}")
        return done.stdout

    def compare(self):
        home = self.directory / "home"
        chosen = choose_wheels(
            self.lock(), python=PYTHON, platform=PLATFORM, home=home, environ=os.environ
        )
        if chosen.sources:
            print(f"  without wheels: {', '.join(chosen.sources)}")
        downloads = WheelDownloads(home, os.environ)
        with Compiler(PYTHON, os.environ) as compiler, ThreadPoolExecutor(2) as pool:
            wanted = [file for file in chosen.wheels if not file.name.startswith(self.skip)]
            fetched = pool.map(downloads.fetch, wanted)
            for file in wanted:
                started = time.perf_counter()
                path = next(fetched)
                self.seconds["fetch"] += time.perf_counter() - started
                self.add(file, path, compiler)
                path.unlink()

    def add(self, file, path, compiler):
        layer = self.directory / "layer.tar.gz"
        started = time.perf_counter()
        try:
            made = make_wheel_layer(path, layer, file=file, python=PYTHON, compiler=compiler)
        except WheelRefused as error:
            self.refused.append(error.message)
            return
        self.seconds["layer"] += time.perf_counter() - started
        tree = self.trees[file.name] = tree_of_layer(layer, PYTHON)
        self.bare += sources_without_bytecode(tree, PYTHON)
        self.wheel_bytes += path.stat().st_size
        self.layer_bytes += made.blob.size_bytes
        self.layers.mkdir(exist_ok=True)
        subprocess.run(["tar", "-xzf", layer, "-C", self.layers], check=True)
        layer.unlink()
        started = time.perf_counter()
        install([path], self.installed, sys.executable)
        self.seconds["uv"] += time.perf_counter() - started

    def report(self):
        installed = tree_of_prefix(self.installed, sys.executable)
        found = list(differences(self.trees, installed))
        for line in [*self.refused, *found]:
            print(f"  {line}")
        seconds = ", ".join(f"{name} {value:.0f} s" for name, value in self.seconds.items())
        print(
            f"  {len(self.trees)} packages, {len(installed)} files, {len(found)} differences, "
            f"{len(self.refused)} refused, {len(self.bare)} modules without bytecode; {seconds}; "
            f"wheels {self.wheel_bytes / 1e6:.1f} MB, layers {self.layer_bytes / 1e6:.1f} MB",
            flush=True,
        )
        return not found and not self.refused

    def sizes(self):
        for name, command in WAYS.items():
            if not shutil.which(command.split()[0]):
                continue
            started = time.perf_counter()
            pipeline = f"tar -C {self.layers} --sort=name -cf - . | {command} | wc -c"
            done = subprocess.run(pipeline, shell=True, capture_output=True, text=True, check=True)
            took = time.perf_counter() - started
            print(f"  {name}: {int(done.stdout) / 1e6:.1f} MB, {took:.0f} s", flush=True)

    def run(self):
        """Import the packages and start the scripts; what fails must fail in uv's tree, too."""
        site, scripts = self.layers / SHARED, self.layers / "usr/local/bin"
        modules = sorted(
            {
                name
                for name in map(self.module_of, self.packages)
                if (site / name.replace(".", "/")).is_dir() or (site / f"{name}.py").is_file()
            }
        )
        commands = [("import", ["-c", f"import {name}"], name) for name in modules]
        commands += [
            ("run", [scripts / path.name, "--help"], path.name)
            for path in sorted(scripts.iterdir() if scripts.is_dir() else ())
            if path.read_bytes().startswith(b"#!/usr/local/bin/python3\n")
        ]
        same, both, broken = 0, [], []
        with ThreadPoolExecutor(2) as pool:
            for (kind, _, name), code in zip(
                commands, pool.map(lambda each: started(each[1], site), commands)
            ):
                if code == 0:
                    same += 1
                    continue
                arguments = ["-c", f"import {name}"]
                if kind == "run":
                    arguments = [self.installed / "bin" / name, "--help"]
                theirs = started(arguments, self.installed / OWN)
                (both if theirs == code else broken).append(f"{kind} {name} ({code}, uv {theirs})")
        print(f"  {same} of {len(modules)} imports and {len(commands) - len(modules)} scripts work")
        print(f"  fail in both trees: {', '.join(both) or 'none'}")
        print(f"  fail in layers alone: {', '.join(broken) or 'none'}", flush=True)
        return not broken

    @staticmethod
    def module_of(package):
        special = {
            "opencv-python-headless": "cv2",
            "scikit-learn": "sklearn",
            "scikit-image": "skimage",
            "pillow": "PIL",
            "dm-haiku": "haiku",
            "protobuf": "google.protobuf",
            "grpcio": "grpc",
            "mlflow-skinny": "mlflow",
            "orbax-checkpoint": "orbax.checkpoint",
            "tensorflow-cpu": "tensorflow",
        }
        return special.get(package, package.replace("google-cloud-", "google.cloud.").replace("-", "_"))


def started(arguments, site):
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
    } | {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1", "JAX_PLATFORMS": "cpu", "KERAS_BACKEND": "jax"}
    try:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd="/tmp",
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_SECONDS,
        ).returncode
    except subprocess.TimeoutExpired:
        return "too slow"


def main():
    groups = json.loads((HERE / "packages.json").read_text())
    parser = argparse.ArgumentParser()
    parser.add_argument("groups", nargs="*", default=list(groups))
    parser.add_argument("--work", type=Path, default=Path("compare-layers"))
    parser.add_argument("--skip", action="append", default=[], help="how names begin to leave out")
    parser.add_argument("--sizes", action="store_true")
    parser.add_argument("--run", action="store_true")
    wanted = parser.parse_args()
    good = True
    for name in wanted.groups:
        directory = wanted.work.absolute() / name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        print(f"{name}:", flush=True)
        try:
            group = Group(name, groups[name], directory, tuple(wanted.skip))
            group.compare()
            good = group.report() and good
            if wanted.sizes:
                group.sizes()
            if wanted.run:
                good = group.run() and good
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
