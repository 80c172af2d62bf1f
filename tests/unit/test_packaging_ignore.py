"""Rules in gitignore syntax decide what ships; what looks like a secret stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from kinetic_flows.code.snapshot import SnapshotOptions
from shipping import names_under, ship, ship_and_restore, write_project

SERVICE_ACCOUNT = '{"type": "service_account", "private_key": "-----BEGIN..."}'
USER_CREDENTIALS = '{"refresh_token": "1//x", "type": "authorized_user"}'
KUBECONFIG = """\
apiVersion: v1
kind: Config
users:
- name: ada
  user:
    client-key-data: LS0t
"""
PRIVATE_KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return tmp_path / "project"


def test_what_no_run_needs_stays(project: Path, tmp_path: Path) -> None:
    write_project(
        project,
        {
            "main.py": "",
            ".git/HEAD": "",
            ".git/objects/ab": "",
            "pkg/__pycache__/mod.cpython-311.pyc": b"",
            "web/node_modules/left-pad/index.js": "",
            ".mypy_cache/x": "",
            ".DS_Store": b"",
            "pkg/.DS_Store": b"",
            "pkg.egg-info/PKG-INFO": "",
        },
    )
    assert names_under(ship_and_restore(project, tmp_path)) == {"main.py"}


@pytest.mark.parametrize("name", [".venv", "venv", "env", "my environments/torch 2"])
def test_a_virtual_environment_stays_whatever_it_is_called(
    project: Path, tmp_path: Path, name: str
) -> None:
    files = {"main.py": "", f"{name}/pyvenv.cfg": "home = /usr", f"{name}/lib/x.py": ""}
    write_project(project, files)
    assert names_under(ship_and_restore(project, tmp_path)) == {"main.py"}


def test_a_conda_environment_stays(project: Path, tmp_path: Path) -> None:
    write_project(project, {"main.py": "", "torch/conda-meta/history": "", "torch/bin/x": ""})
    assert names_under(ship_and_restore(project, tmp_path)) == {"main.py"}


def test_a_virtual_environment_made_in_the_project_itself_stays(
    project: Path, tmp_path: Path
) -> None:
    files = {"main.py": "", "pyvenv.cfg": "", "bin/python": "", "lib/python3.11/x.py": ""}
    write_project(project, {**files, "lib/mine.py": ""})
    assert names_under(ship_and_restore(project, tmp_path)) == {"main.py", "lib/mine.py"}


def test_kineticignore_leaves_out_and_brings_back(project: Path, tmp_path: Path) -> None:
    rules = """\
        # large and not needed
        /data/
        *.ckpt
        !best.ckpt

        !node_modules/
        """
    write_project(
        project,
        {
            ".kineticignore": rules,
            "data/raw.bin": "",
            "pkg/data/small.csv": "",
            "runs/1.ckpt": "",
            "runs/best.ckpt": "",
            "node_modules/kept.js": "",
        },
    )
    assert names_under(ship_and_restore(project, tmp_path)) == {
        ".kineticignore",
        "pkg/data/small.csv",
        "runs/best.ckpt",
        "node_modules/kept.js",
    }


def test_a_virtual_environment_can_be_brought_back_by_name(project: Path, tmp_path: Path) -> None:
    files = {".kineticignore": "!tools/env/\n", "tools/env/pyvenv.cfg": "", "tools/env/x": ""}
    write_project(project, files)
    assert "tools/env/x" in names_under(ship_and_restore(project, tmp_path))


def test_the_defaults_can_be_switched_off_but_not_for_secrets(
    project: Path, tmp_path: Path
) -> None:
    files = {".git/HEAD": "", "venv/pyvenv.cfg": "", "__pycache__/x.pyc": b"", ".env": "KEY=1"}
    write_project(project, files)
    options = SnapshotOptions(default_excludes=False)
    restored = ship_and_restore(project, tmp_path, options=options)
    assert names_under(restored) == {".git/HEAD", "venv/pyvenv.cfg", "__pycache__/x.pyc"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (".env", "KEY=1"),
        ("config/.env.production", "KEY=1"),
        (".netrc", "machine x"),
        (".pypirc", "[pypi]"),
        (".ssh/config", ""),
        ("id_rsa", "x"),
        ("deploy", PRIVATE_KEY),
        ("certs/server.pem", "\n-----BEGIN RSA PRIVATE KEY-----\n"),
        ("certs/server.key", "-----BEGIN PRIVATE KEY-----\n"),
        ("sa.json", SERVICE_ACCOUNT),
        (".aws/credentials", ""),
        ("backup/.aws/config", ""),
        ("of-ada/credentials", "[default]\naws_secret_access_key = abcdefghijklmnop0123"),
        (".azure/msal_token_cache.json", "{}"),
        ("gcloud/access_tokens.db", ""),
        ("gcloud/legacy_credentials/ada/adc.json", "{}"),
        (".config/gcloud/properties", ""),
        (".kube/config", ""),
        ("staging.yaml", KUBECONFIG),
        ("kubeconfig", ""),
        (".docker/config.json", "{}"),
        ("podman.json", '{"auths": {"ghcr.io": {"auth": "dTpw"}}}'),
        (".config/gh/hosts.yml", ""),
        ("hosts.yml", "github.com:\n    oauth_token: gho_x\n"),
        (".kaggle/kaggle.json", "{}"),
        ("kaggle.json", "{}"),
        ("k.json", '{"username": "ada", "key": "0123456789abcdef0123456789abcdef"}'),
        ("huggingface/token", "hf_x"),
        (".bash_history", ""),
        (".python_history", ""),
        ("infra/prod.tfstate", "{}"),
        ("infra/terraform.tfstate.backup", "{}"),
        (".streamlit/secrets.toml", ""),
        ("wandb/settings", ""),
        (".mlflow/credentials", ""),
        (".prefect/profiles.toml", ""),
        ("old/prefect.db", ""),
        (".npmrc", "//registry.npmjs.org/:_authToken=npm_x"),
        ("token.json", '{"refresh_token": "1//x", "client_secret": "y"}'),
        ("keys.txt", "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQ"),
        ("deep/down/renamed.json", USER_CREDENTIALS),
    ],
)
def test_what_looks_like_a_secret_stays_and_is_named(
    project: Path, tmp_path: Path, name: str, content: str
) -> None:
    write_project(project, {"main.py": "", name: content})
    snapshot, _ = ship(project, tmp_path / "store")
    assert snapshot.files == 1
    (warning,) = snapshot.warnings
    named = warning.partition("secrets: ")[2].partition(";")[0]
    assert name == named or name.startswith(f"{named}/")
    assert ".kineticignore" in warning


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("server.pem", "-----BEGIN CERTIFICATE-----\n"),
        ("id_rsa.pub", "ssh-rsa AAAA"),
        ("config.json", '{"type": "service_account_list"}'),
        ("tests/test_keys.py", f'KEY = """{PRIVATE_KEY}"""'),
        ("environment.yaml", "a: 1"),
        (".docker/php/Dockerfile", "FROM php"),
        (".streamlit/config.toml", "[theme]"),
        (".npmrc", "//registry.npmjs.org/:_authToken=${NPM_TOKEN}"),
        ("deployment.yaml", "kind: Deployment\nname: token"),
        ("credentials.py", "aws_secret_access_key = os.environ['X']"),
        ("history.csv", ""),
        ("main.tf", ""),
        ("token.json", '{"a": 1}'),
        (".github/workflows/ci.yml", "token: ${{ secrets.TOKEN }}"),
        ("README.txt", "how to make a -----BEGIN PRIVATE KEY----- file"),
    ],
)
def test_what_only_resembles_a_secret_ships(
    project: Path, tmp_path: Path, name: str, content: str
) -> None:
    write_project(project, {name: content})
    snapshot, _ = ship(project, tmp_path / "store")
    assert (snapshot.files, snapshot.warnings) == (1, ())


def test_all_secrets_are_in_one_warning(project: Path, tmp_path: Path) -> None:
    write_project(project, {".env": "", "a/.env": "", "sa.json": SERVICE_ACCOUNT})
    snapshot, _ = ship(project, tmp_path / "store")
    (warning,) = snapshot.warnings
    assert all(name in warning for name in (".env", "a/.env", "sa.json"))


@pytest.mark.parametrize("rule", ["!.env", "!/config/.env", "!config/.env", "!.env*"])
def test_a_secret_ships_when_it_is_brought_back_by_name(
    project: Path, tmp_path: Path, rule: str
) -> None:
    write_project(project, {".kineticignore": rule, "config/.env": "KEY=1"})
    snapshot, _ = ship(project, tmp_path / "store")
    assert (snapshot.files, snapshot.warnings) == (2, ())


@pytest.mark.parametrize("rule", ["!*", "!config/", "!**", "!config"])
def test_a_rule_for_everything_does_not_bring_secrets_back(
    project: Path, tmp_path: Path, rule: str
) -> None:
    files = {".kineticignore": rule, "config/.env": "KEY=1", "config/sa.json": SERVICE_ACCOUNT}
    write_project(project, files)
    snapshot, _ = ship(project, tmp_path / "store")
    assert snapshot.files == 1
    assert "config/.env, config/sa.json" in snapshot.warnings[0]


def test_a_credential_found_by_its_content_can_be_brought_back(
    project: Path, tmp_path: Path
) -> None:
    files = {".kineticignore": "!keys/sa.json", "keys/sa.json": SERVICE_ACCOUNT}
    write_project(project, files)
    assert "keys/sa.json" in names_under(ship_and_restore(project, tmp_path))


@pytest.mark.parametrize(
    ("rules", "ships"),
    [
        ("!.kube/", {".kube/config", ".kube/cache/x"}),
        ("!.kube", {".kube/config", ".kube/cache/x"}),
        ("!.kube/config", {".kube/config"}),
        ("!/.kube/config", {".kube/config"}),
        ("!**/.kube/config", {".kube/config"}),
        ("!.kube/\n.kube/cache/", {".kube/config"}),
        ("!.*", set()),
        ("!*", set()),
        ("!config", set()),
    ],
)
def test_a_store_of_credentials_ships_as_far_as_it_is_named(
    project: Path, tmp_path: Path, rules: str, ships: set[str]
) -> None:
    files = {".kineticignore": rules, ".kube/config": KUBECONFIG, ".kube/cache/x": ""}
    write_project(project, files)
    restored = names_under(ship_and_restore(project, tmp_path))
    assert restored == {".kineticignore", *ships}


def test_a_link_into_a_store_of_credentials_does_not_ship_it(project: Path, tmp_path: Path) -> None:
    home = write_project(
        tmp_path / "ada", {".aws/config": "", ".cache/huggingface/token": "", ".kube/x/y": ""}
    )
    write_project(project, {"main.py": ""})
    (project / "cloud").symlink_to(home / ".aws")
    (project / "part").symlink_to(home / ".kube" / "x")
    (project / "hub").symlink_to(home / ".cache" / "huggingface" / "token")
    snapshot, _ = ship(project, tmp_path / "store")
    assert snapshot.files == 1
    assert "cloud, hub, part" in snapshot.warnings[0]


def test_a_link_to_a_secret_does_not_ship_it(project: Path, tmp_path: Path) -> None:
    outside = write_project(tmp_path / "outside", {"sa": SERVICE_ACCOUNT, ".env": "KEY=1"})
    write_project(project, {"main.py": "", ".env": "KEY=1"})
    (project / "plain-name").symlink_to(project / ".env")
    (project / "account.json").symlink_to(outside / "sa")
    (project / "other").symlink_to(outside / ".env")
    restored = ship_and_restore(project, tmp_path)
    assert names_under(restored) == {"main.py"}


def test_what_is_left_out_on_purpose_is_not_called_a_secret(project: Path, tmp_path: Path) -> None:
    write_project(project, {".kineticignore": ".env\n", ".env": "KEY=1", "main.py": ""})
    snapshot, _ = ship(project, tmp_path / "store")
    assert snapshot.warnings == ()
