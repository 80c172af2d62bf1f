"""Runs whose packages are an image that is mounted, on clusters that can mount it and others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kubernetes_runs import Launched, a_launcher, a_request, launch

from kinetic_flows.core.job_parts import PackagesSpec
from kinetic_flows.core.launcher import Phase
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.kubelet import ImagePullFailure
from loopback.kubernetes.node_groups import NodeGroup
from loopback.kubernetes.runtime import ProcessRuntime

PACKAGES = PackagesSpec(image="registry/packages@sha256:" + "1" * 64, identity="abc")
SHOW = "import os; print(open(os.environ['KINETIC_PACKAGES'] + '/of').read())"


def unpack(image: str, directory: Path) -> None:
    """Make an image's tree, which tells of which image it is."""
    directory.mkdir(parents=True)
    (directory / "of").write_text(image)


@contextmanager
def a_run(
    directory: Path,
    *,
    group: NodeGroup | None = None,
    refused: Sequence[str] = (),
    accelerator: str = "cpu",
    **about: Any,
) -> Iterator[tuple[LoopbackCluster, Launched]]:
    """Launch a run with mounted packages on a cluster."""

    async def pull(image: str) -> None:
        if image in refused:
            raise ImagePullFailure("manifest unknown")

    runtime = ProcessRuntime(unpack=unpack)
    settings = {"version": "1.35", **about}
    with (
        LoopbackCluster(directory, runtime=runtime, pull_image=pull, **settings) as cluster,
        a_launcher(cluster) as launcher,
    ):
        cluster.add_nodes(group or NodeGroup(name="default", nodes=1))
        yield cluster, launch(launcher, a_request(SHOW, accelerator=accelerator, packages=PACKAGES))


def test_the_packages_of_a_run_are_where_its_pod_is_told(tmp_path: Path) -> None:
    with a_run(tmp_path) as (cluster, run):
        assert run.end().phase is Phase.SUCCEEDED
        assert run.output.decode().strip() == PACKAGES.image
        pulled = [e["message"] for e in cluster.list("events") if e["reason"] == "Pulling"]
    assert pulled[0] == f'Pulling image "{PACKAGES.image}"'
    assert len(pulled) == 2


def test_every_host_of_a_slice_has_them(tmp_path: Path) -> None:
    labels = {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5p-slice",
        "cloud.google.com/gke-tpu-topology": "2x2x2",
    }
    group = NodeGroup(name="v5p", nodes=2, labels=labels, capacity={"google.com/tpu": 4})
    with a_run(tmp_path, group=group, accelerator="tpu-v5p-2x2x2") as (cluster, run):
        assert run.end().phase is Phase.SUCCEEDED
        pulled = [e["message"] for e in cluster.list("events") if e["reason"] == "Pulling"]
    assert pulled.count(f'Pulling image "{PACKAGES.image}"') == 2


def test_an_image_of_packages_that_is_gone_is_named_in_place_of_the_runs_own(
    tmp_path: Path,
) -> None:
    with a_run(tmp_path, refused=[PACKAGES.image]) as (_, run):
        seen = run.until(Phase.PENDING, reason="cannot pull")
    assert seen.reason.startswith(f"the node cannot pull {PACKAGES.image}: the registry does not")


def test_the_runs_own_image_is_still_told_from_the_packages(tmp_path: Path) -> None:
    own = "registry/image@sha256:" + "0" * 64
    with a_run(tmp_path, refused=[own]) as (_, run):
        seen = run.until(Phase.PENDING, reason="cannot pull")
    assert seen.reason.startswith(f"the node cannot pull {own}: ")


def test_a_node_that_cannot_mount_images_says_what_to_do(tmp_path: Path) -> None:
    group = NodeGroup(name="default", nodes=1, runtime="containerd://2.0.5")
    with a_run(tmp_path, group=group) as (_, run):
        seen = run.until(Phase.PENDING, reason="cannot be started")
    assert "KINETIC_PREBUILT=install" in seen.reason


def test_a_server_without_image_volumes_drops_them_silently(tmp_path: Path) -> None:
    with a_run(tmp_path, version="1.34") as (cluster, run):
        assert run.end().phase is Phase.FAILED
        (job,) = cluster.list("jobs")
    pod = job["spec"]["template"]["spec"]
    assert "kinetic-packages" not in {each["name"] for each in pod["volumes"]}
