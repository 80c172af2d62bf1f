"""Locks made by the real uv against real indexes on loopback: shared, private, local, explained."""

from __future__ import annotations

import http.server
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from corpus.dependencies.simple_index import (
    SimpleIndex,
    project_files,
    sdist,
    serve,
    serve_directory,
    wheel,
)
from corpus.dependencies.stores import MemoryStore
from kinetic_flows.core.accelerators.model import Category
from kinetic_flows.core.artifact_store import StoreTrust
from kinetic_flows.core.errors import DependencyError, LockError
from kinetic_flows.dependencies.discovery import discover
from kinetic_flows.dependencies.fetch import Fetcher
from kinetic_flows.dependencies.guests import TORCH_CPU_INDEX, cuda_releases
from kinetic_flows.dependencies.lockfile import LockedPackage, environment_spec, format_lock
from kinetic_flows.dependencies.locking import Lock, Locker
from kinetic_flows.dependencies.targets import (
    Target,
    cloud_target,
    lean_target,
    local_target,
)
from kinetic_flows.dependencies.uv import Completed, find_uv, run_process
from kinetic_flows.dependencies.uv_settings import Index
from kinetic_flows.dependencies.wheels import install_arguments

TOKEN = "tok-5ecret-0123456789"
BASE_LOCK = "cloudpickle==3.1.2\njax==0.5.0\njaxlib==0.5.0\nlibtpu==0.1\n"

PUBLIC = (
    wheel("alpha", "1.0"),
    wheel("beta", "1.0", ["alpha"]),
    wheel("cloudpickle", "3.1.2"),
    wheel("google-cloud-storage", "3.2"),
    wheel("jax", "0.4.0", ["jaxlib==0.4.0"], extras={"tpu": ["libtpu"]}),
    wheel("jax", "0.5.0", ["jaxlib==0.5.0"], extras={"tpu": ["libtpu"]}),
    wheel("jaxlib", "0.4.0"),
    wheel("jaxlib", "0.5.0"),
    wheel("libtpu", "0.1"),
    wheel("flaxlike", "1.0", ["jax>=0.4"]),
    wheel("needs-new-jax", "1.0", ["jax>=0.6"]),
)


def _cuda_extras(version: str) -> dict[str, Sequence[str]]:
    return {
        "cuda12": [f"jax-cuda12-plugin=={version}", "nvidia-cublas-cu12>=12.8"],
        "cuda13": [f"jax-cuda13-plugin=={version}", "nvidia-cublas>=13"],
    }


class Uvs:
    """Runs programs, counting them."""

    def __init__(self) -> None:
        self.commands: list[Sequence[str]] = []

    def __call__(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        environ: Mapping[str, str],
        timeout_seconds: float,
    ) -> Completed:
        self.commands.append(command)
        return run_process(command, cwd=cwd, environ=environ, timeout_seconds=timeout_seconds)


class Client:
    """Somebody with a project, a home, and an environment."""

    def __init__(self, root: Path, environ: Mapping[str, str], store: MemoryStore) -> None:
        self.project = root / "project"
        self.home = root / "home"
        self.project.mkdir(parents=True)
        self.environ = dict(environ)
        self.store = store
        self.trust = StoreTrust(is_private=True)
        self.uv = Uvs()

    def write(self, **files: str) -> None:
        for name, text in files.items():
            path = self.project / {"requirements": "requirements.txt"}.get(name, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def add(self, files: Mapping[str, str], under: str = ".") -> None:
        for name, text in files.items():
            path = self.project / under / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def plan(self, target: Target | None = None) -> Lock:
        return self.lock(target, write=False)

    def lock(
        self, target: Target | None = None, *, upgrade: bool = False, write: bool = True
    ) -> Lock:
        source = discover(
            requirements=None, entry_file=None, start=self.project, home_directory=self.home
        )
        locker = Locker(
            store=self.store,
            home=self.home,
            environ=self.environ,
            trust=lambda: self.trust,
            run=self.uv,
        )
        return locker.lock(source, target or local_target(), upgrade=upgrade, write=write)


@pytest.fixture(scope="module")
def uv_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uv-cache")


@pytest.fixture
def index() -> Iterator[SimpleIndex]:
    with serve(PUBLIC) as served:
        yield served


@pytest.fixture
def private_index() -> Iterator[SimpleIndex]:
    packages = (wheel("secretsauce", "1.0", ["alpha"]), sdist("secretsource", "2.0"))
    with serve(packages, login=("joe", TOKEN)) as served:
        yield served


@pytest.fixture
def environ(index: SimpleIndex, uv_cache: Path, tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "nobody"),
        "UV_CACHE_DIR": str(uv_cache),
        "UV_DEFAULT_INDEX": index.url,
        "UV_PYTHON_DOWNLOADS": "never",
    }


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def client(tmp_path: Path, environ: dict[str, str], store: MemoryStore) -> Client:
    return Client(tmp_path / "one", environ, store)


@pytest.fixture
def colleague(tmp_path: Path, environ: dict[str, str], store: MemoryStore) -> Client:
    return Client(tmp_path / "two", environ, store)


def _versions(lock: Lock) -> dict[str, str]:
    return {package.name: package.version for package in lock.packages}


def _tpu() -> Target:
    return cloud_target("tpu", "3.11", base_lock=BASE_LOCK, base_identity="base")


# ---------------------------------------------------------------- shared locks


def test_a_plan_writes_nothing_to_the_store(client: Client) -> None:
    client.write(requirements="alpha\n")
    client.plan()
    assert client.store.objects == {}


def test_a_plans_work_serves_the_run(client: Client) -> None:
    client.write(requirements="alpha\n")
    planned = client.plan()
    before = len(client.uv.commands)
    locked = client.lock()
    assert locked.text == planned.text
    assert len(client.uv.commands) == before
    assert f"locks/{locked.inputs_sha256}.txt" in client.store.objects


def test_an_unchanged_project_never_starts_uv_again(client: Client) -> None:
    client.write(requirements="alpha\n")
    client.lock()
    client.uv.commands.clear()
    assert client.plan().from_cache
    client.write(requirements="# a comment\n\n  Alpha   # same\n")
    assert client.plan().from_cache
    assert client.uv.commands == []


def test_a_floating_version_stays_until_somebody_upgrades(
    client: Client, colleague: Client, index: SimpleIndex
) -> None:
    for person in (client, colleague):
        person.write(requirements="alpha\n")
    client.lock()
    filename, data = wheel("alpha", "9.0")
    index.files["alpha"][filename] = data
    assert _versions(colleague.lock())["alpha"] == "1.0"
    assert colleague.uv.commands == []
    assert _versions(client.lock(upgrade=True))["alpha"] == "9.0"
    assert _versions(colleague.plan())["alpha"] == "9.0"


def test_an_upgrade_asks_indexes_whose_pages_may_be_cached(
    client: Client,
) -> None:
    with serve(PUBLIC, max_age_seconds=600) as index:
        client.environ["UV_DEFAULT_INDEX"] = index.url
        client.write(requirements="alpha\n")
        assert _versions(client.lock())["alpha"] == "1.0"
        filename, data = wheel("alpha", "9.0")
        index.files["alpha"][filename] = data
        assert _versions(client.lock(upgrade=True))["alpha"] == "9.0"


def test_concurrent_callers_end_with_one_lock(client: Client) -> None:
    client.write(requirements="alpha\nbeta\n")
    with ThreadPoolExecutor(6) as pool:
        locks = list(pool.map(lambda _: client.lock(), range(6)))
    assert len({lock.text for lock in locks}) == 1
    assert len([name for name in client.store.objects if name.startswith("locks/")]) == 1


def _lock_that_ships(filename: str, package: str) -> bytes:
    digest = f"    --hash=sha256:{'0' * 64}"
    return f"# kinetic lock 1\n# ships: {filename} 10\n{package} \\\n{digest}\n".encode()


@pytest.mark.parametrize(
    "evil",
    [
        b"garbage",
        b"\xff\xfe",
        b"# kinetic lock 1\n",
        _lock_that_ships("other-1.0-py3-none-any.whl", "alpha==1.0"),
        _lock_that_ships("alpha-2.0-py3-none-any.whl", "alpha==1.0"),
        _lock_that_ships("alpha.whl", "alpha==1.0"),
    ],
)
def test_a_stored_lock_that_does_not_fit_is_replaced(
    client: Client, colleague: Client, evil: bytes
) -> None:
    for person in (client, colleague):
        person.write(requirements="alpha\n")
    good = client.lock()
    name = f"locks/{good.inputs_sha256}.txt"
    client.store.objects[name] = evil
    assert colleague.lock().text == good.text
    assert client.store.objects[name] == good.text.encode()


def test_a_stored_lock_cannot_ship_a_wheel_to_a_project_of_public_packages(
    client: Client,
) -> None:
    _use_the_public_index(client)
    client.write(requirements="six==1.17.0\n")
    good = client.lock()
    name = f"locks/{good.inputs_sha256}.txt"
    evil = _lock_that_ships("six-1.17.0-py2.py3-none-any.whl", "six==1.17.0")
    client.store.objects[name] = evil
    assert client.plan().text == good.text
    assert client.lock().wheels == ()
    assert client.store.objects[name] == good.text.encode()


def _use_the_public_index(client: Client) -> None:
    del client.environ["UV_DEFAULT_INDEX"]
    client.environ |= {name: os.environ[name] for name in os.environ if name.startswith("SSL_")}


def test_a_lock_whose_wheels_were_deleted_is_made_again(client: Client) -> None:
    client.write(requirements="alpha\n")
    lock = client.plan()
    lock.wheels[0].path.unlink()
    assert all(item.path.is_file() for item in client.plan().wheels)


def test_packages_of_the_public_index_are_pinned_by_hash_and_do_not_ship(client: Client) -> None:
    _use_the_public_index(client)
    client.write(requirements="six==1.17.0\n")
    lock = client.lock()
    six = next(package for package in lock.packages if package.name == "six")
    assert six.hashes == (
        "sha256:4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274",
        "sha256:ff70335d468e7eb6ec65b95b99d3a2836546063f63acc5171de367e834932a81",
    )
    assert lock.wheels == ()


def test_a_lock_with_more_packages_than_the_project_asks_for_is_made_anew(
    client: Client, colleague: Client
) -> None:
    for person in (client, colleague):
        person.write(requirements="alpha\n")
        person.trust = StoreTrust(key=b"team")
    honest = client.lock()
    (name,) = [name for name in client.store.objects if name.endswith(".txt")]
    more = LockedPackage(name="beta", version="1.0", hashes=(f"sha256:{'b' * 64}",))
    client.store.objects[name] = format_lock([*honest.packages, more]).encode()

    assert colleague.lock().text == honest.text
    assert client.store.objects[name] == honest.text.encode()
    assert colleague.plan().from_cache


def test_a_lock_without_a_signature_keeps_the_versions_that_everyone_has(
    client: Client, colleague: Client
) -> None:
    client.write(requirements="flaxlike\n")
    target = replace(_tpu(), constraints=())
    old = replace(target, preferences=("jax==0.4.0", "jaxlib==0.4.0"))
    unsigned = client.lock(old).text
    (name,) = [name for name in client.store.objects if name.endswith(".txt")]
    colleague.write(requirements="flaxlike\n")
    colleague.trust = StoreTrust(key=b"team")
    fresh = colleague.plan(target)
    colleague.store.objects = {
        f"locks/{fresh.inputs_sha256}.txt": client.store.objects[name],
    }
    shutil.rmtree(colleague.home / "locks")

    assert _versions(fresh)["jax"] == "0.5.0"
    assert colleague.lock(target).text == unsigned


# ---------------------------------------------------------------- private packages


def _search_everything(token: str, client: Client, *texts: str) -> list[str]:
    """Return the places that hold a token."""
    found = [f"text {number}" for number, text in enumerate(texts) if token in text]
    found += [name for name, data in client.store.objects.items() if token.encode() in data]
    for path in client.home.rglob("*"):
        if path.is_file() and token.encode() in path.read_bytes():
            found.append(str(path))
    return found


WAYS = ["named index", "url in the environment", "variable in the file", "variable url", "keyring"]


@pytest.mark.parametrize("way", WAYS)
def test_private_packages_ship_and_their_token_goes_nowhere(
    client: Client, private_index: SimpleIndex, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    text = "secretsauce\nsecretsource\n"
    if way == "named index":
        client.environ["UV_INDEX"] = f"sauce={private_index.url}"
        client.environ["UV_INDEX_SAUCE_USERNAME"] = "joe"
        client.environ["UV_INDEX_SAUCE_PASSWORD"] = TOKEN
    elif way == "url in the environment":
        client.environ["UV_EXTRA_INDEX_URL"] = private_index.url_with_login()
    elif way == "variable url":
        text = "--extra-index-url ${SAUCE_INDEX}\n" + text
        client.environ["SAUCE_INDEX"] = private_index.url_with_login()
    elif way == "keyring":
        _fake_keyring(client, service=private_index.url, user="joe", password=TOKEN)
        url = private_index.url.replace("http://", "http://joe@")
        client.environ |= {"UV_EXTRA_INDEX_URL": url, "UV_KEYRING_PROVIDER": "subprocess"}
    else:
        address = private_index.url.replace("http://", "http://joe:${SAUCE_TOKEN}@")
        text = f"--extra-index-url {address}\n{text}"
        client.environ["SAUCE_TOKEN"] = TOKEN
    client.write(requirements=text)

    lock = client.lock()

    assert _versions(lock)["secretsauce"] == "1.0"
    assert _versions(lock)["secretsource"] == "2.0"
    shipped = {item.filename: item for item in lock.wheels}
    assert shipped["secretsauce-1.0-py3-none-any.whl"].path.is_file()
    assert any(name.endswith("secretsource-2.0-py3-none-any.whl") for name in client.store.objects)
    spec = environment_spec(lock.text, local_target())
    assert _search_everything(TOKEN, client, lock.text, repr(lock), repr(spec), caplog.text) == []


def _fake_keyring(client: Client, *, service: str, user: str, password: str) -> None:
    """Put a program on the path that knows one password."""
    directory = client.project.parent / "bin"
    directory.mkdir()
    script = directory / "keyring"
    script.write_text(
        "#!/bin/sh\n"
        f'if [ "$1 $2 $3" = "get {service} {user}" ]; then echo "{password}"; else exit 1; fi\n'
    )
    script.chmod(0o755)
    client.environ["PATH"] = f"{directory}:{client.environ['PATH']}"


def test_a_private_repository_ships_and_its_token_goes_nowhere(
    client: Client, tmp_path: Path
) -> None:
    bare = _repository(tmp_path, under=".", bare=True)
    with serve_directory(bare.parent, login=("joe", TOKEN)) as address:
        url = address.replace("http://", "http://${GIT_USER_NAME}:${GIT_USER_TOKEN}@")
        client.write(requirements=f"fromgit @ git+{url}/{bare.name}\n")
        client.environ |= {"GIT_USER_NAME": "joe", "GIT_USER_TOKEN": TOKEN}
        lock = client.lock()
    assert _versions(lock)["fromgit"] == "0.7"
    assert _search_everything(TOKEN, client, lock.text, repr(lock)) == []


def test_the_token_is_no_part_of_the_inputs(
    client: Client, colleague: Client, private_index: SimpleIndex
) -> None:
    for person in (client, colleague):
        person.write(requirements="alpha\n")
    client.environ["UV_INDEX"] = f"sauce={private_index.url_with_login()}"
    colleague.environ["UV_INDEX"] = f"sauce={private_index.url}"
    colleague.environ["UV_INDEX_SAUCE_USERNAME"] = "joe"
    colleague.environ["UV_INDEX_SAUCE_PASSWORD"] = TOKEN
    assert client.lock().inputs_sha256 == colleague.lock().inputs_sha256


def test_a_refused_login_is_an_error_without_the_token(
    client: Client, private_index: SimpleIndex
) -> None:
    wrong = TOKEN + "-wrong"
    client.environ["UV_EXTRA_INDEX_URL"] = private_index.url_with_login().replace(TOKEN, wrong)
    client.write(requirements="secretsauce\n")
    with pytest.raises(LockError) as caught:
        client.lock()
    assert TOKEN not in str(caught.value)
    assert "requirements.txt:1" in caught.value.message
    assert "UV_INDEX_<NAME>_USERNAME" in (caught.value.hint or "")


def test_a_redirect_takes_no_login_to_another_host(
    private_index: SimpleIndex, tmp_path: Path
) -> None:
    seen: list[str | None] = []

    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/start":
                self.send_response(302)
                self.send_header("Location", f"http://localhost:{self.server.server_port}/end")  # type: ignore[attr-defined]
                self.end_headers()
                return
            seen.append(self.headers.get("Authorization"))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"data")

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        start = f"http://127.0.0.1:{server.server_port}"
        index = Index(url=start.replace("http://", f"http://joe:{TOKEN}@"))
        Fetcher(indexes=(index,), environ={}).fetch(f"{start}/start", tmp_path / "file")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert (tmp_path / "file").read_bytes() == b"data"
    assert seen == [None]


# ---------------------------------------------------------------- local packages


def test_the_same_source_gives_the_same_lock_wherever_it_is(
    client: Client, colleague: Client
) -> None:
    locks = []
    for person, mask in ((client, 0o022), (colleague, 0o077)):
        person.write(requirements="-e ./libs/mine\n")
        before = os.umask(mask)
        person.add(project_files("mine", "0.1"), "libs/mine")
        os.umask(before)
        person.store = MemoryStore()
        locks.append(person.lock())
    assert locks[0].text == locks[1].text
    assert locks[0].inputs_sha256 == locks[1].inputs_sha256


def test_an_edit_of_a_local_package_changes_the_lock_and_nothing_else_does(client: Client) -> None:
    client.write(requirements="./libs/mine\n")
    client.add(project_files("mine", "0.1"), "libs/mine")
    first = client.lock()
    client.add({"libs/mine/build/lib/junk.py": "x", "unrelated.py": "x"})
    assert client.plan().from_cache
    client.add({"libs/mine/mine/__init__.py": "VERSION = 'edited'\n"})
    second = client.lock()
    assert not second.from_cache
    assert second.text != first.text


def test_a_build_leaves_nothing_in_the_project_and_takes_nothing_of_an_earlier_one(
    client: Client,
) -> None:
    # The build backend itself comes from the index that the tests' own environment names.
    client.environ = dict(os.environ)
    table = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
    files = {
        "pyproject.toml": f'{table}[project]\nname = "mine"\nversion = "0.1"\n',
        "mine/__init__.py": "",
        "build/lib/mine/gone.py": "",
    }
    client.write(requirements="./libs/mine\n")
    client.add(files, "libs/mine")
    [shipped] = client.lock().wheels
    with zipfile.ZipFile(shipped.path) as wheel_file:
        modules = [name for name in wheel_file.namelist() if name.endswith(".py")]
    assert modules == ["mine/__init__.py"]
    project = client.project / "libs" / "mine"
    left = {str(path.relative_to(project)) for path in project.rglob("*") if path.is_file()}
    assert left == set(files)


def _repository(tmp_path: Path, *, under: str, bare: bool = False) -> Path:
    """Return a repository with one commit that holds a package."""
    repository = tmp_path / "repository"
    for name, text in project_files("fromgit", "0.7", ["alpha"]).items():
        (repository / under / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / under / name).write_text(text)
    git = ["git", "-c", "user.email=a@b", "-c", "user.name=n", "-c", "init.defaultBranch=main"]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *arguments], cwd=repository, check=True)
    if not bare:
        return repository
    copy = tmp_path / "served" / "bare.git"
    subprocess.run(["git", "clone", "-q", "--bare", repository, copy], check=True)
    subprocess.run(["git", "update-server-info"], cwd=copy, check=True)
    return copy


def test_a_commit_of_a_repository_ships_as_a_wheel(client: Client, tmp_path: Path) -> None:
    repository = _repository(tmp_path, under="sub")
    client.write(requirements=f"fromgit @ git+{repository.as_uri()}@main#subdirectory=sub\n")
    lock = client.lock()
    assert _versions(lock)["fromgit"] == "0.7"
    assert _versions(lock)["alpha"] == "1.0"
    assert [item.filename for item in lock.wheels if "git" in item.filename] == [
        "fromgit-0.7-py3-none-any.whl"
    ]


def test_a_lock_installs_offline_and_a_shipped_wheel_wins_over_the_index(
    client: Client, tmp_path: Path, environ: dict[str, str]
) -> None:
    """The index has an `alpha 1.0` too, with other content: the lock's hash decides."""
    client.write(requirements="./libs/alpha\nbeta\n")
    client.add(project_files("alpha", "1.0"), "libs/alpha")
    client.add({"libs/alpha/alpha/__init__.py": "ORIGIN = 'client'\n"})
    lock = client.lock()
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for item in lock.wheels:
        (wheels / item.filename).write_bytes(item.path.read_bytes())
    (tmp_path / "lock.txt").write_text(lock.text)
    uv = find_uv()
    subprocess.run(
        [uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"],
        env=environ,
        check=True,
    )
    arguments = install_arguments(tmp_path / "lock.txt", wheels)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([uv, *arguments, "--quiet", "--python", python], env=environ, check=True)
    code = "import alpha, beta, cloudpickle; print(alpha.ORIGIN)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "client\n"


# ---------------------------------------------------------------- project locks


def _project(client: Client, dependencies: str) -> None:
    client.add(
        {
            "pyproject.toml": '[project]\nname = "demo"\nversion = "1"\n'
            'requires-python = ">=3.11"\n'
            f"dependencies = {dependencies}\n"
            "[dependency-groups]\ndev = ['beta']\n"
        }
    )


def _uv_lock(client: Client) -> None:
    subprocess.run(
        [find_uv(), "lock", "--quiet"], cwd=client.project, env=client.environ, check=True
    )


def test_a_uv_lock_is_used_as_it_is(client: Client, index: SimpleIndex) -> None:
    _project(client, '["alpha"]')
    _uv_lock(client)
    filename, data = wheel("alpha", "9.0")
    index.files["alpha"][filename] = data
    assert _versions(client.lock()) == {"alpha": "1.0", "cloudpickle": "3.1.2"}


def test_requirements_beyond_a_uv_lock_are_resolved_against_it(client: Client) -> None:
    _project(client, '["alpha"]')
    _uv_lock(client)
    client.add({"more.txt": "beta\n"})
    text = (client.project / "pyproject.toml").read_text()
    client.add({"pyproject.toml": f'{text}[tool.kinetic]\nrequirements = "more.txt"\n'})
    versions = {"alpha": "1.0", "beta": "1.0", "cloudpickle": "3.1.2"}
    assert _versions(client.lock()) == versions


def test_the_lock_of_a_workspace_serves_its_members(client: Client, index: SimpleIndex) -> None:
    client.add({"pyproject.toml": "[tool.uv.workspace]\nmembers = ['app', 'mine']\n"})
    client.add(project_files("mine", "0.1", ["beta"]), "mine")
    client.add(
        {
            "app/pyproject.toml": '[project]\nname = "app"\nversion = "1"\n'
            'requires-python = ">=3.11"\ndependencies = ["mine"]\n'
            "[tool.uv.sources]\nmine = { workspace = true }\n"
        }
    )
    _uv_lock(client)
    filename, data = wheel("alpha", "9.0")
    index.files["alpha"][filename] = data
    client.project = client.project / "app"
    lock = client.lock()
    assert _versions(lock) == {
        "alpha": "1.0",
        "beta": "1.0",
        "cloudpickle": "3.1.2",
        "mine": "0.1",
    }


def test_a_stale_uv_lock_is_an_error_with_the_remedy(client: Client) -> None:
    _project(client, '["alpha"]')
    _uv_lock(client)
    _project(client, '["alpha", "flaxlike"]')
    with pytest.raises(LockError) as caught:
        client.lock()
    assert "uv.lock does not match" in caught.value.message
    assert "uv lock" in (caught.value.hint or "")


def test_the_accelerator_of_a_uv_lock_is_the_bases(client: Client, index: SimpleIndex) -> None:
    _project(client, '["flaxlike", "jax>=0.4"]')
    newer = index.files["jax"].pop("jax-0.5.0-py3-none-any.whl")
    _uv_lock(client)
    index.files["jax"]["jax-0.5.0-py3-none-any.whl"] = newer
    lock = client.lock(_tpu())
    assert _versions(lock) == {
        "cloudpickle": "3.1.2",
        "flaxlike": "1.0",
        "google-cloud-storage": "3.2",
        "jax": "0.5.0",
        "jaxlib": "0.5.0",
        "libtpu": "0.1",
    }
    assert "pyproject.toml:5" in lock.filtered[0]
    (said,) = [line for line in lock.warnings if "gives way" in line]
    assert "uv.lock: jax 0.4.0 gives way to the image's 0.5.0" in said


def test_a_conflict_with_the_base_shows_uvs_explanation(client: Client) -> None:
    client.write(requirements="alpha\nneeds-new-jax\n")
    with pytest.raises(LockError) as caught:
        client.lock(_tpu())
    assert "requirements.txt:2" in caught.value.message
    assert "jax>=0.6" in caught.value.message
    assert "jax==0.5.0" in caught.value.message
    hint = caught.value.hint or ""
    assert "the image has jax==0.5.0" in hint
    assert "# kn:keep" in hint
    assert "KINETIC_BASE_IMAGE_REPO" in hint


# ---------------------------------------------------------------- other frameworks

GPU_LOCK = (
    "cloudpickle==3.1.2\njax==0.5.0\njaxlib==0.5.0\njax-cuda12-plugin==0.5.0\n"
    "nvidia-cublas-cu12==12.9\nuv==0.9\n"
)
FRAMEWORKS = (
    *(item for item in PUBLIC if not item[0].startswith("jax-")),
    *(
        wheel("jax", version, [f"jaxlib=={version}"], extras=_cuda_extras(version))
        for version in ("0.4.0", "0.5.0")
    ),
    *(
        wheel(f"jax-cuda{release}-plugin", version)
        for version in ("0.4.0", "0.5.0")
        for release in (12, 13)
    ),
    wheel("nvidia-cublas", "13.1"),
    wheel("nvidia-cublas", "13.2"),
    wheel("nvidia-cublas-cu12", "12.8"),
    wheel("nvidia-cublas-cu12", "12.9"),
    wheel("torch", "2.7.0", ["nvidia-cublas-cu12==12.8"]),
    wheel("torch", "2.15.0", ["nvidia-cublas==13.1"]),
    wheel("lightning", "1.0", ["torch"]),
)


@pytest.fixture
def frameworks(client: Client) -> Iterator[SimpleIndex]:
    with serve(FRAMEWORKS) as served:
        client.environ["UV_DEFAULT_INDEX"] = served.url
        yield served


def _gpu(*, framework: str | None = None) -> Target:
    with_jax = cloud_target("gpu", "3.11", base_lock=GPU_LOCK, base_identity="base")
    lean = lean_target(with_jax, base_lock="cloudpickle==3.1.2\n", base_identity="lean")
    if framework == "none":
        return lean
    return with_jax if framework == "jax" else replace(with_jax, otherwise=lean)


@pytest.mark.parametrize(
    ("requirements", "base", "packages"),
    [
        ("alpha\n", "base", {"jax-cuda12-plugin": "0.5.0", "nvidia-cublas-cu12": "12.9"}),
        ("flaxlike\n", "base", {"jax": "0.5.0", "jax-cuda12-plugin": "0.5.0"}),
        ("torch\n", "lean", {"torch": "2.15.0", "nvidia-cublas": "13.1"}),
        ("torch<2.8\n", "lean", {"torch": "2.7.0", "nvidia-cublas-cu12": "12.8"}),
        ("lightning\n", "lean", {"torch": "2.15.0", "nvidia-cublas": "13.1"}),
        (
            "torch\nflaxlike\n",
            "lean",
            {"nvidia-cublas": "13.1", "jax": "0.5.0", "jax-cuda13-plugin": "0.5.0"},
        ),
        (
            "torch<2.8\njax<0.5\n",
            "lean",
            {"nvidia-cublas-cu12": "12.8", "jax": "0.4.0", "jax-cuda12-plugin": "0.4.0"},
        ),
    ],
)
def test_on_a_gpu_a_projects_packages_decide_whose_cuda_it_has(
    client: Client, frameworks: SimpleIndex, requirements: str, base: str, packages: dict[str, str]
) -> None:
    client.write(requirements=requirements)
    lock = client.lock(_gpu())
    found = _versions(lock)
    assert lock.target.base_identity == base
    assert packages.items() <= found.items()
    assert len(cuda_releases(found)) == 1, "one process has one CUDA"
    assert ("jax" in found) == ("jax" in packages or base == "base")
    environment = environment_spec(lock.text, lock.target)
    assert environment.variant == ("jax" if base == "base" else "lean")

    client.uv.commands.clear()
    again = client.lock(_gpu())
    assert (again.text, again.target, again.from_cache) == (lock.text, lock.target, True)
    assert client.uv.commands == []


def _open(category: Category) -> Target:
    lock = BASE_LOCK if category == "tpu" else BASE_LOCK.replace("libtpu==0.1\n", "")
    with_jax = cloud_target(category, "3.11", base_lock=lock, base_identity="base")
    lean = lean_target(with_jax, base_lock="cloudpickle==3.1.2\n", base_identity="lean")
    return replace(with_jax, otherwise=lean)


@pytest.mark.parametrize("extra", [(), (wheel("servinglike", "0.9", ["jax"]),)])
def test_who_brings_libtpu_is_not_held_back_by_the_images(
    client: Client, extra: tuple[tuple[str, bytes], ...]
) -> None:
    newer = wheel("servinglike", "2.0", ["jax==0.4.0", "libtpu==0.2"])
    with serve((*PUBLIC, wheel("libtpu", "0.2"), newer, *extra)) as index:
        client.environ["UV_DEFAULT_INDEX"] = index.url
        client.write(requirements="servinglike\n")
        lock = client.lock(_open("tpu"))
    assert lock.target.base_identity == "lean"
    found = _versions(lock)
    assert (found["servinglike"], found["jax"], found["libtpu"]) == ("2.0", "0.4.0", "0.2")
    assert lock.warnings == ()


def test_what_the_images_packages_hold_back_is_said_every_time(
    client: Client, colleague: Client
) -> None:
    held = (wheel("oldjaxuser", "1.0", ["jax"]), wheel("oldjaxuser", "2.0", ["jax<0.5"]))
    with serve((*PUBLIC, *held)) as index:
        for person in (client, colleague):
            person.environ["UV_DEFAULT_INDEX"] = index.url
            person.write(requirements="oldjaxuser\nalpha\n")
        for lock in (client.lock(_open("cpu")), colleague.lock(_open("cpu"))):
            assert lock.target.base_identity == "base"
            assert _versions(lock)["oldjaxuser"] == "1.0"
            (said,) = lock.warnings
            for part in ("oldjaxuser 1.0", "jax==0.5.0", "oldjaxuser 2.0", "framework='none'"):
                assert part in said
        assert colleague.uv.commands == []


def test_a_direct_contradiction_stays_an_error_where_the_packages_decide(client: Client) -> None:
    client.write(requirements="alpha\njax[tpu]<0.5\n")
    with pytest.raises(DependencyError) as caught:
        client.lock(_open("tpu"))
    assert "the image has jax 0.5.0" in caught.value.message


def test_the_framework_that_is_asked_for_wins_over_the_packages(
    client: Client, frameworks: SimpleIndex
) -> None:
    client.write(requirements="flaxlike\n")
    lock = client.lock(_gpu(framework="none"))
    assert lock.target.base_identity == "lean"
    assert _versions(lock)["jax-cuda12-plugin"] == "0.5.0", "jax gets what a GPU needs"

    client.write(requirements="torch\n")
    with pytest.raises(LockError) as caught:
        client.lock(_gpu(framework="jax"))
    assert "CUDA 12 and CUDA 13" in caught.value.message


def test_a_uv_lock_decides_whose_cuda_a_project_has(
    client: Client, frameworks: SimpleIndex
) -> None:
    _project(client, '["torch", "jax"]')
    _uv_lock(client)
    lock = client.lock(_gpu())
    assert lock.target.base_identity == "lean"
    assert _versions(lock) == {
        "cloudpickle": "3.1.2",
        "google-cloud-storage": "3.2",
        "jax": "0.5.0",
        "jax-cuda13-plugin": "0.5.0",
        "jaxlib": "0.5.0",
        "nvidia-cublas": "13.1",
        "torch": "2.15.0",
    }


def test_the_lines_that_are_told_for_torch_on_a_cpu_give_its_build_without_cuda(
    client: Client, frameworks: SimpleIndex
) -> None:
    cpu = cloud_target("cpu", "3.11", base_lock="jax==0.5.0\n", base_identity="base")
    client.write(requirements="torch\n")
    (told,) = client.lock(cpu).warnings
    index_line, pin = re.findall(r"`(--extra-index-url \S+)` and `(torch==\S+)`", told)[0]

    with serve((wheel("torch", "2.15.0+cpu"),)) as without_cuda:
        index_line = index_line.replace(TORCH_CPU_INDEX, without_cuda.url)
        client.write(requirements=f"{index_line}\n{pin}\n")
        lock = client.lock(cpu)

    assert _versions(lock)["torch"] == "2.15.0+cpu"
    assert not any(name.startswith("nvidia-") for name in _versions(lock))
    assert lock.warnings == ()


# ---------------------------------------------------------------- failures


def test_an_index_that_is_down_is_an_error_that_says_so(client: Client) -> None:
    client.environ |= {
        "UV_DEFAULT_INDEX": "http://127.0.0.1:1/simple",
        "UV_HTTP_RETRIES": "0",
        "UV_NO_CACHE": "1",
    }
    client.write(requirements="alpha\n")
    with pytest.raises(LockError) as caught:
        client.lock()
    assert "127.0.0.1:1" in caught.value.message
    assert "can be reached" in (caught.value.hint or "")


def test_a_download_is_tried_again_when_the_index_stumbles(
    index: SimpleIndex, tmp_path: Path
) -> None:
    index.failures += [503, 429]
    url = f"{index.url.removesuffix('/simple')}/files/alpha/alpha-1.0-py3-none-any.whl"
    Fetcher(indexes=(), environ={}).fetch(url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == index.files["alpha"]["alpha-1.0-py3-none-any.whl"]


def test_a_download_that_keeps_failing_says_how(index: SimpleIndex, tmp_path: Path) -> None:
    index.failures += [503] * 3
    url = f"{index.url.removesuffix('/simple')}/files/alpha/alpha-1.0-py3-none-any.whl"
    with pytest.raises(LockError, match="HTTP 503"):
        Fetcher(indexes=(), environ={}).fetch(url, tmp_path / "file")


def test_uv_that_hangs_is_an_error_after_its_limit(client: Client) -> None:
    client.write(requirements="alpha\n")

    def hanging(*_: object, **__: object) -> Completed:
        raise TimeoutError("uv took over 600 s")

    client.uv = hanging  # type: ignore[assignment]
    with pytest.raises(LockError, match="600 s"):
        client.lock()


def test_nothing_a_requirements_file_says_becomes_an_option_of_uv(client: Client) -> None:
    marker = client.project / "was-here"
    for line in (
        f"--output-file={marker}",
        f"--python {marker}",
        f"--config-settings=a={marker}",
        f"alpha --config-settings=a={marker}",
        f"-o {marker}",
    ):
        client.write(requirements=f"alpha\n{line}\n")
        with pytest.raises(DependencyError):
            client.lock()
        assert not marker.exists()
    assert not any(str(marker) in part for command in client.uv.commands for part in command)
