"""What gives away a file that holds secrets: its name, where it lies, or what is in it."""

from __future__ import annotations

import re
from typing import NamedTuple

from kinetic_flows.code.gitignore import GitIgnore

_CLOUDS = (
    ".aws/",
    ".azure/",
    ".boto",
    ".s3cfg",
    ".oci/",
    ".aliyun/",
    ".bluemix/",
    "application_default_credentials.json",
    "access_tokens.db",
    "credentials.db",
    "legacy_credentials/",
    "**/.config/gcloud/",
    "**/.config/configstore/",
    "**/.config/doctl/",
    "**/.config/hcloud/",
    "**/.config/scw/",
    "**/.config/linode-cli",
    "*.tfstate",
    "*.tfstate.*",
    "**/.terraform.d/credentials.tfrc.json",
    ".terraformrc",
    ".pulumi/",
    ".vault-token",
)
_CLUSTERS_AND_REGISTRIES = (
    ".kube/",
    "kubeconfig",
    "kubeconfig.*",
    "*.kubeconfig",
    ".dockercfg",
    ".dockerconfigjson",
    "**/.docker/config.json",
    "**/containers/auth.json",
    "**/helm/registry/config.json",
    ".pypirc",
    ".prefect/",
    "prefect.db*",
    "**/.cargo/credentials*",
    "**/.gem/credentials",
    "**/.m2/settings*.xml",
    "**/.composer/auth.json",
)
_MACHINE_LEARNING = (
    "kaggle.json",
    ".kaggle/",
    ".huggingface/",
    "**/huggingface/token",
    "**/huggingface/stored_tokens",
    "**/.streamlit/secrets.toml",
    "**/wandb/settings",
    "**/.mlflow/credentials",
    ".comet.config",
    ".neptune/",
    ".modal.toml",
    ".databrickscfg",
    ".databricks/",
    ".snowflake/",
    ".snowsql/",
    ".dbt/",
    "**/.dvc/config.local",
    "**/.dvc/tmp/",
    ".jupyter/",
    "**/jupyter/runtime/",
    ".ipython/",
)
_TOOLS = (
    ".env*",
    "*.env",
    ".netrc",
    "_netrc",
    ".git-credentials",
    "**/.config/git/credentials",
    "**/.config/gh/",
    "**/.config/glab-cli/",
    "**/.config/hub",
    "**/.config/op/",
    "**/.config/rclone/",
    "rclone.conf",
    ".rclone.conf",
    ".pgpass",
    ".my.cnf",
    ".mylogin.cnf",
    ".msmtprc",
    ".fetchmailrc",
    ".*_history*",
    ".histfile",
    "fish_history",
    ".lesshst",
    ".viminfo",
    ".bash_sessions/",
    ".zsh_sessions/",
)
_KEYS_AND_BROWSERS = (
    ".ssh/",
    ".gnupg/",
    ".pki/",
    ".password-store/",
    "**/.local/share/keyrings/",
    "**/Library/Keychains/",
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.keystore",
    "*.keyring",
    "*.kdbx",
    ".mozilla/",
    ".thunderbird/",
    "**/.config/google-chrome*/",
    "**/.config/chromium/",
    "**/.config/microsoft-edge*/",
    "**/.config/BraveSoftware/",
    "**/Application Support/Google/Chrome/",
    "**/Application Support/Firefox/",
    "logins.json",
    "key4.db",
    "cookies.sqlite",
    "Login Data",
)

SECRET_NAMES = (
    *_CLOUDS,
    *_CLUSTERS_AND_REGISTRIES,
    *_MACHINE_LEARNING,
    *_TOOLS,
    *_KEYS_AND_BROWSERS,
)
"""Files and directories that hold secrets, as a rule, in gitignore syntax."""

SECRET_CONTENT_LIMIT_BYTES = 32_768
"""Larger files are not looked into: keys and credentials are small."""

_SUFFIXES_LOOKED_INTO = frozenset(
    {"", ".json", ".pem", ".key", ".priv", ".ppk", ".asc", ".txt", ".yaml", ".yml", ".conf", ".ini"}
)


class _Sign(NamedTuple):
    """Expressions that are all found in a file of one kind, and together in no other."""

    expressions: tuple[re.Pattern[bytes], ...]

    def is_in(self, content: bytes) -> bool:
        return all(expression.search(content) for expression in self.expressions)


def _sign(*expressions: bytes) -> _Sign:
    return _Sign(tuple(re.compile(expression, re.MULTILINE) for expression in expressions))


_SIGNS = (
    _sign(rb"\A\s*(-----BEGIN [A-Z0-9 ]*PRIVATE KEY|PuTTY-User-Key-File-)"),
    _sign(rb"^AGE-SECRET-KEY-1[0-9A-Z]{20}"),
    # A Google credential, and what a user's consent to an application leaves.
    _sign(
        rb'"type"\s*:\s*"(service_account|authorized_user)"',
        rb'"(private_key|refresh_token)"\s*:',
    ),
    _sign(rb'"refresh_token"\s*:\s*"', rb'"client_secret"\s*:\s*"'),
    # https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-files.html
    _sign(rb"^\s*aws_secret_access_key\s*=\s*[A-Za-z0-9/+]{16}"),
    # https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/
    _sign(rb"^\s*kind:\s*[\"']?Config\b", rb"^\s*-?\s*(client-key-data|token|password):\s*\S"),
    # What `docker login`, `podman login` and `gh auth login` write.
    _sign(rb'"auths"\s*:', rb'"(auth|identitytoken)"\s*:\s*"[^"]'),
    _sign(rb"^\s*oauth_token:\s*\S"),
    _sign(rb"^[^#;\n]*:_(authToken|password)\s*=\s*[^$\s]"),
    _sign(rb'\A\s*\{\s*"username"\s*:\s*"[^"]*"\s*,\s*"key"\s*:\s*"[0-9a-f]{32}"\s*\}\s*\Z'),
)

_NAMES = GitIgnore(SECRET_NAMES)


def is_secret_by_name(path: str, *, is_directory: bool = False) -> bool:
    """Whether exactly this path is that of a secret; those above it are not looked at."""
    return _NAMES.last_match(path, is_directory=is_directory) is not None


def lies_in_secret(path: str, *, is_directory: bool = False) -> bool:
    """Whether a path or a directory that it is in is that of a secret."""
    whole = path.strip("/")
    parts = whole.split("/")
    folders = ("/".join(parts[:depth]) for depth in range(1, len(parts)))
    return is_secret_by_name(whole, is_directory=is_directory) or any(
        is_secret_by_name(folder, is_directory=True) for folder in folders
    )


def may_hold_secret(path: str, size_bytes: int) -> bool:
    """Whether a file is worth looking into for keys and credentials."""
    name = path.rpartition("/")[2]
    stem, dot, suffix = name.rpartition(".")
    suffix = f".{suffix.lower()}" if dot and stem else ""
    return 0 < size_bytes <= SECRET_CONTENT_LIMIT_BYTES and suffix in _SUFFIXES_LOOKED_INTO


def holds_secret(content: bytes) -> bool:
    """Whether a file's content is a key, or what a known tool keeps credentials in."""
    return any(sign.is_in(content) for sign in _SIGNS)
