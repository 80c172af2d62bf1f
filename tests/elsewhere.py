"""Calls packed by one process and made in another, on the project as it was shipped."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

from runner_jobs import Ended, Job
from shipping import restore, run_python, ship, write_project

CLIENT = """
    import os, pathlib, pickle, sys
    from kinetic_flows.code.main_module import main_name
    from kinetic_flows.code.payload import pack_call
    from kinetic_flows.code.root import find_package_root

    cases = {}

    def case(name, function, *args, **kwargs):
        given = os.environ.get("OVERRIDE")
        root = find_package_root(
            getattr(function, "fn", function),
            override=pathlib.Path(given) if given else None,
            cwd=pathlib.Path.cwd(),
            sys_path=sys.path,
        )
        payload = pack_call(
            getattr(function, "fn", function), args, kwargs, root=root
        )
        cases[name] = {
            "content": payload.content,
            "data": [each.source for each in payload.data],
            "warnings": payload.warnings,
            "sys_path": root.sys_path,
            "path": str(root.path),
            "main_name": main_name(),
            "main_file": root.main_file and str(root.main_file.relative_to(root.path)),
        }
        pathlib.Path(os.environ["CASES"]).write_bytes(pickle.dumps(cases))
"""

RUN = """
import json, os, pickle, sys
from kinetic_flows.runner_image.runner.main_module import add_sources, install_main
from kinetic_flows.runner_image.runner.payload import load_call
cases = pickle.load(open(sys.argv[1], "rb"))
workspace = sys.argv[2]
first = next(iter(cases.values()))
sys.path[:0] = [os.path.normpath(os.path.join(workspace, entry)) for entry in first["sys_path"]]
os.chdir(workspace)
results = {}
for name, case in cases.items():
    framed = pickle.loads(case["content"])
    file = case["main_file"] and os.path.join(workspace, case["main_file"])
    install_main(file, case["main_name"])
    add_sources(framed["sources"])
    try:
        function, args, kwargs = load_call(framed, "", case["data"])
        results[name] = [framed["function"], repr(function(*args, **kwargs))]
    except Exception as error:
        results[name] = [None, f"{type(error).__name__}: {error}"]
print(json.dumps(results))
"""


@dataclasses.dataclass(frozen=True)
class Ran:
    """What the cases of a client returned elsewhere, and how they travelled."""

    results: dict[str, tuple[dict[str, str] | None, str]]
    cases: dict[str, dict[str, Any]]

    def __getitem__(self, name: str) -> str:
        return self.results[name][1]


def run_elsewhere(
    tmp_path: Path, files: dict[str, str], *arguments: str, env: dict[str, str] | None = None
) -> Ran:
    """Run a client, ship its project, and run its cases in another process on the restored code.

    The project is gone by then, so nothing can come from it.
    """
    tools = write_project(tmp_path / "tools", {"client.py": CLIENT})
    project = write_project(tmp_path / "project", files)
    cases = tmp_path / "cases"
    extra = dict(env or {})
    path = ":".join([str(tools), *filter(None, [extra.pop("PYTHONPATH", "")])])
    run_python(
        arguments or ["main.py"],
        cwd=project,
        env={"CASES": str(cases), "PYTHONPATH": path, **extra},
    )
    loaded = pickle.loads(cases.read_bytes())
    root = Path(next(iter(loaded.values()))["path"])
    _, spec = ship(root, tmp_path / "store")
    workspace = restore(spec, tmp_path / "store", tmp_path / "workspace")
    project.rename(tmp_path / "gone")
    printed = run_python(
        ["-c", RUN, str(cases), str(workspace)], cwd=tmp_path, env={"KINETIC_RUN_ID": "1"}
    )
    results = {name: (item[0], item[1]) for name, item in json.loads(printed).items()}
    return Ran(results=results, cases=loaded)


PACK = """
    import os, pathlib, pickle, sys
    from kinetic_flows.code.payload import pack_call
    from kinetic_flows.code.root import find_package_root
    from kinetic_flows.code.snapshot import take_snapshot
    from kinetic_flows.code.upload import code_spec, upload_code
    from kinetic_flows.platforms.local.store import LocalStore

    def pack(function, *args, **kwargs):
        function = getattr(function, "fn", function)
        here = pathlib.Path.cwd()
        root = find_package_root(function, override=None, cwd=here, sys_path=sys.path)
        payload = pack_call(function, args, kwargs, root=root)
        snapshot = take_snapshot(root.path, cache_home=None)
        store = pathlib.Path(os.environ["STORE"])
        upload_code(snapshot, LocalStore(store), home=store / "home")
        packed = pickle.dumps((payload.content, payload.warnings, code_spec(snapshot, root)))
        pathlib.Path(os.environ["PACKED"]).write_bytes(packed)
"""


def call_in_a_runner(
    tmp_path: Path, files: dict[str, str], *arguments: str, env: dict[str, str] | None = None
) -> tuple[Job, Ended]:
    """Have a script pack a call with `pack`, and make the call in a real runner.

    The project is gone by then.
    """
    tools = write_project(tmp_path / "tools", {"packing.py": PACK})
    project = write_project(tmp_path / "project", files)
    store, packed = tmp_path / "store", tmp_path / "packed"
    store.mkdir()
    path = ":".join([str(tools), *filter(None, [(env or {}).get("PYTHONPATH")])])
    variables = {**(env or {}), "STORE": str(store), "PACKED": str(packed), "PYTHONPATH": path}
    run_python(arguments or ["main.py"], cwd=project, env=variables)
    payload, _, code = pickle.loads(packed.read_bytes())
    project.rename(tmp_path / "gone")
    job = Job(root=store, frame=payload, code=code)
    return job, job.run()
