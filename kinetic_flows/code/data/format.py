r"""What the runner is told of data, and how local data is kept in the store.

**Manifest.** `data/manifests/{sha256}`: gzip; the name, and the `sha256` and `size_bytes` of its
`ObjectRef`, are of its uncompressed content, which is lines of JSON, each ended by `\n`:

- first `{"version":1}`;
- `{"pack":D,"size_bytes":N}`: the small files that follow, up to the next such line, lie in this
  order, one behind the other, in the pack `data/packs/{D}`, whose content has N bytes;
- *entries*, in the order of the walk: a directory's entries sorted by the bytes of their names,
  each directory's content in its place. Paths are relative, with `/`; bytes that are no UTF-8 are
  lone surrogates (`surrogateescape`), which JSON writes as `\udc80` to `\udcff`. An entry is
    - a small file `{"path":P,"size_bytes":N,"sha256":S}`, in the pack announced last;
    - a file of more than `PART_BYTES`: `{"path":P,"size_bytes":N,"parts":[S,...]}`. Part number i
      is its bytes from `i * PART_BYTES` on, `PART_BYTES` of them (the last one: what is left),
      with SHA-256 S, in `data/parts/{S}`. It has no digest of its own: its parts are checked;
    - either of them with `"executable":true` where its owner may execute it;
    - a symbolic link `{"path":P,"link":L}`, relative and to somewhere inside of the data;
    - an empty directory `{"path":P,"directory":true}`; others follow from their files;
- last `{"files":N,"size_bytes":N}`: how many files there are (no links, no directories), and their
  size. A manifest without this line is not whole.

Links, directories and large files may stand between the files of a pack. A source that is one file
is a manifest of one entry, whose path is the file's name. Everything can be read in order, with no
more of it in memory than one pack's lines.

**Identity** (`DataSpec.identity`): SHA-256 of `IDENTITY_SALT` and the lines of all entries as they
stand in the manifest, so without the first, the last and those of packs: it does not depend on how
files were packed.

**Packs and parts.** An object's first byte says how its content follows: `r` as it is, `z` as a
zlib stream (RFC 1950). D, a pack's digest, is the SHA-256 of its files' SHA-256s in hexadecimal, in
order, joined by `\n`; whoever has read it checks each file by its own. Different versions of the
data share packs and parts. The manifest is written last: where it is, everything it names is.

**Other sources.** `DataSpec.place` says where they are, `include` and `exclude` are applied by
whoever lists them, to paths relative to the source (of a source that is one file, neither). A
pattern is one of `fnmatch.fnmatchcase`, without a slash at its end, and matches a path if it
matches it or one of the directories that it is in: `raw` is all of `raw`. `DataSpec.identity` is
the SHA-256 of a first line and one line for each file, sorted by the bytes of their paths, each
ended by `\n`, their parts separated by `\0` (the path of a source that is one file is its name):

- `bucket`: place `{"bucket":B,"path":P}`; P without slashes at its ends, empty for all of the
  bucket. First line `bucket`, then path, generation (decimal) and size in bytes. The source is one
  file if there is an object of exactly that name; objects whose names end in `/` are no files. An
  empty identity pins nothing: what is there when the run starts is taken, as runs of deployments
  and what is mounted have it.
- `hub`: place `{"endpoint":U,"type":"dataset"|"model","repository":R,"commit":C,"path":P}`. First
  line `hub`, then path, size and the file's digest: the SHA-256 of its LFS object, else the SHA-1
  of its git blob as `git:` and 40 digits (what `git hash-object` prints), by which files are
  checked.
- `web`: place `{"url":U}`. The identity is the SHA-256 of the file itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

VERSION = 1
"""Raised when a runner of the previous version could misread a manifest."""
PART_BYTES = 32 << 20
"""How large parts are, and from which size on a file is kept in parts."""
IDENTITY_SALT = b"kinetic-data-1\n"
"""What an identity's digest begins with."""
RAW, DEFLATED = b"r", b"z"
"""An object's first byte."""

FIRST_LINE = b'{"version":1}\n'


def line_of(entry: dict[str, Any]) -> bytes:
    """Return a manifest's line, its keys in the order that they are given in."""
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"


def pack_digest(digests: Iterable[str]) -> str:
    """Return a pack's digest.

    Args:
        digests: The SHA-256 of each of its files, in order.
    """
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()
