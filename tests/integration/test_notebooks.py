"""A notebook with a real kernel: what its cells show, and what interrupting one does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from textwrap import dedent
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from prefect_workers import eventually
from projects import make_project

from kinetic_flows.clients.prefect.api import PrefectApi, RunQuery

FUNCTIONS = """
    import sys, time
    from pathlib import Path
    import kinetic

    @kinetic.run(requirements=[])
    def add(left, right=1):
        print("to stdout")
        print("to stderr", file=sys.stderr)
        return left + right

    @kinetic.run(requirements=[])
    def sleepy(path):
        Path(path).write_text("started")
        time.sleep(600)
"""


class Notebook:
    """A notebook whose cells are run one after the other in one kernel."""

    def __init__(self) -> None:
        self._notebook = nbformat.v4.new_notebook()
        self.client = NotebookClient(self._notebook, timeout=180, kernel_name="python3")
        self.client.create_kernel_manager()

    async def run(self, *sources: str) -> list[list[Any]]:
        """Run cells, and return the outputs of each."""
        return [await self.cell(source) for source in sources]

    async def cell(self, source: str) -> list[Any]:
        """Run a cell, and return its outputs."""
        cells: list[Any] = self._notebook["cells"]
        cells.append(nbformat.v4.new_code_cell(dedent(source)))
        await self.client.async_execute_cell(cells[-1], len(cells) - 1)
        return list(cells[-1]["outputs"])


def _texts(outputs: list[Any], kind: str) -> list[str]:
    return [each["data"]["text/plain"] for each in outputs if each["output_type"] == kind]


def _streams(outputs: list[Any]) -> dict[str, str]:
    found = [each for each in outputs if each["output_type"] == "stream"]
    return {
        name: "".join(each["text"] for each in found if each["name"] == name)
        for name in ("stdout", "stderr")
    }


@pytest.fixture(autouse=True)
def project(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
    shared_kinetic_home: Path,
) -> None:
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    make_project(tmp_path / "project", monkeypatch, {})


def test_cells_show_one_line_of_a_call_and_handles_in_a_few() -> None:
    async def cells() -> list[list[Any]]:
        notebook = Notebook()
        async with notebook.client.async_setup_kernel():
            return await notebook.run(
                FUNCTIONS,
                "add(1, 2)",
                "add(2, 3)",
                "run = add.submit(1)\nrun.wait()\nrun.state\nrun",
                "group = add.map([1, 2, 3])\ngroup.results()",
                "group",
                "add.plan(1)",
            )

    _, first, warm, run, swept, group, plan = asyncio.run(cells())
    assert _texts(first, "execute_result") == ["3"]
    # What is said and the live line are one output, whose last state stays.
    [said] = _texts(first, "display_data")
    assert "add(left=1, right=2)" in said.splitlines()[-1]
    assert _streams(first) == {"stdout": "to stdout\n", "stderr": "to stderr\n"}
    [line] = _texts(warm, "display_data")
    assert line.startswith("✓ add(left=2, right=3) on cpu")
    assert "\n" not in line
    [page] = [each["data"]["text/html"] for each in warm if each["output_type"] == "display_data"]
    assert "<a href='http://" in page
    [text] = _texts(run, "execute_result")
    assert text.startswith("<Run add(left=1")
    assert "state: Completed" in text
    [shown] = [each for each in run if each["output_type"] == "execute_result"]
    assert "<b>Run</b>" in shown["data"]["text/html"]
    [bar] = _texts(swept, "display_data")
    assert "run-inputs: 3 of 3 inputs ended" in bar
    [text] = _texts(group, "execute_result")
    assert "states: 3 Completed" in text
    [text] = _texts(plan, "execute_result")
    assert text.startswith("<RunPlan add")


def test_a_cell_that_is_interrupted_cancels_its_run(api: PrefectApi, tmp_path: Path) -> None:
    marker = tmp_path / "started"

    async def interrupted() -> tuple[str, list[Any]]:
        notebook = Notebook()
        async with notebook.client.async_setup_kernel():
            await notebook.run(FUNCTIONS)
            cell = asyncio.ensure_future(notebook.cell(f"sleepy({str(marker)!r})"))
            await asyncio.to_thread(eventually, marker.exists)
            await notebook.client.km.interrupt_kernel()
            with pytest.raises(CellExecutionError) as raised:
                await cell
            # The kernel goes on.
            [outputs] = await notebook.run("1 + 1")
            return str(raised.value.ename), outputs

    name, outputs = asyncio.run(interrupted())
    assert name == "KeyboardInterrupt"
    assert _texts(outputs, "execute_result") == ["2"]
    [record] = api.find_runs(RunQuery(name="sleepy"), limit=1)
    assert record.state_type == "CANCELLED"
