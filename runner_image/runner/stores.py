"""Reading and writing the artifact store from inside a run."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from .contract import pieces_of
from .store_faults import unavailable, unwritten
from .stored_listing import Listed, in_bucket, in_directory

STREAMED_FROM_BYTES = 64 << 20
"""Objects larger than this are read and written in pieces rather than in memory."""

PIECE_BYTES = 8 << 20
"""What is asked for at once of objects that many threads read."""

INCOMING = ".incoming"
LOCK = ".lock"

_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class DirectoryStore:
    """A store in a directory, shared with `kinetic_flows.platforms.local.store`.

    Args:
        root: The directory.
    """

    def __init__(self, root: str) -> None:
        self._root = root

    def open(self, name: str, size_bytes: int) -> IO[bytes]:
        """Open an object for reading; raise `Fault` when it cannot be read."""
        del size_bytes
        try:
            return open(self._path(name), "rb")
        except OSError as error:
            raise unavailable(name, error) from error

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield an object's content; raise `Fault` when it cannot be read."""
        with self.open(name, 0) as file:
            yield from pieces_of(file)

    def read(self, name: str) -> bytes | None:
        """Return an object, or None when there is none."""
        try:
            with open(self._path(name), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unavailable(name, error) from error

    def has(self, name: str) -> bool:
        """Whether there is an object."""
        return os.path.exists(self._path(name))

    def put_if_absent(self, name: str, head: bytes, body: str | None = None) -> bool:
        """Write an object unless its name is taken; return whether this call wrote it.

        Args:
            name: The object's name.
            head: Its content, or the first part of it.
            body: Path of a file with the rest; None when there is none.
        """
        target = self._path(name)
        try:
            if os.path.exists(target):
                return False
            written = self._write_unnamed(head, body)
            try:
                _make_private(os.path.dirname(target))
                return self._claim(written, target)
            finally:
                _remove(written)
        except OSError as error:
            raise unwritten(name, error) from error

    def put(self, name: str, data: bytes) -> None:
        """Write an object, in the place of one that is there."""
        target = self._path(name)
        try:
            written = self._write_unnamed(data, None)
            try:
                _make_private(os.path.dirname(target))
                os.replace(written, target)
            finally:
                _remove(written)
        except OSError as error:
            raise unwritten(name, error) from error

    def read_generation(self, name: str) -> tuple[bytes | None, str | None]:
        """Return an object and what names this version of it; twice None when there is none."""
        data = self.read(name)
        return data, None if data is None else hashlib.sha256(data).hexdigest()

    def replace(self, name: str, data: bytes, generation: str | None) -> bool:
        """Write an object if its generation is still the one given (None: if there is none).

        Returns:
            Whether this call wrote it.
        """
        if generation is None:
            return self.put_if_absent(name, data)
        try:
            written = self._write_unnamed(data, None)
            try:
                with self._locked():
                    if self.read_generation(name)[1] != generation:
                        return False
                    os.replace(written, self._path(name))
                    return True
            finally:
                _remove(written)
        except OSError as error:
            raise unwritten(name, error) from error

    def list(self, prefix: str) -> list[Listed]:
        """Return the objects whose names begin so; the prefix has a slash at its end."""
        try:
            return list(in_directory(self._path(prefix), prefix))
        except OSError as error:
            raise unavailable(prefix, error) from error

    def delete(self, name: str) -> None:
        """Delete an object; one that is gone already is fine."""
        try:
            _remove(self._path(name))
        except OSError as error:
            raise unwritten(name, error) from error

    def _path(self, name: str) -> str:
        return os.path.join(self._root, name)

    def _write_unnamed(self, head: bytes, body: str | None) -> str:
        folder = os.path.join(self._root, INCOMING)
        _make_private(folder)
        path = os.path.join(folder, os.urandom(8).hex())
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(handle, "wb") as file:
                file.write(head)
                if body:
                    with open(body, "rb") as rest:
                        file.writelines(pieces_of(rest))
        except BaseException:
            _remove(path)
            raise
        return path

    def _claim(self, written: str, target: str) -> bool:
        """Give a written file its name in one step, unless the name is taken."""
        try:
            os.link(written, target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
        else:
            return True
        return self._claim_under_lock(written, target)

    def _claim_under_lock(self, written: str, target: str) -> bool:
        with self._locked():
            if os.path.exists(target):
                return False
            os.replace(written, target)
            return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        import fcntl

        with open(os.path.join(self._root, LOCK), "ab", opener=_open_private) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class BucketStore:
    """A store in a Cloud Storage bucket.

    Args:
        client: A `google.cloud.storage.Client`.
        bucket: The bucket's name.
        prefix: What every object's name starts with; empty for nothing.
    """

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = client.bucket(bucket)
        self._prefix = f"{prefix}/" if prefix else ""
        self._at_once = _at_once(self._bucket.blob("").download_as_bytes)

    def open(self, name: str, size_bytes: int) -> IO[bytes]:
        """Open an object for reading; raise `Fault` when it cannot be read."""
        blob = self._blob(name)
        try:
            if size_bytes > STREAMED_FROM_BYTES:
                streamed: IO[bytes] = blob.open("rb", chunk_size=STREAMED_FROM_BYTES // 4)
                return streamed
            return io.BytesIO(self._download(blob))
        except Exception as error:
            raise unavailable(name, error) from error

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield an object's content; raise `Fault` when it cannot be read.

        It is asked for in ranges, so that not even one of many threads has all of it in memory.
        """
        from google.api_core.exceptions import RequestRangeNotSatisfiable

        blob, position = self._blob(name), 0
        while True:
            last = position + PIECE_BYTES - 1
            try:
                piece = blob.download_as_bytes(start=position, end=last, checksum=None)
            except RequestRangeNotSatisfiable:
                return
            except Exception as error:
                raise unavailable(name, error) from error
            yield piece
            position += len(piece)
            if len(piece) < PIECE_BYTES:
                return

    def read(self, name: str) -> bytes | None:
        """Return an object, or None when there is none."""
        from google.api_core.exceptions import NotFound

        try:
            return self._download(self._blob(name))
        except NotFound:
            return None
        except Exception as error:
            raise unavailable(name, error) from error

    def has(self, name: str) -> bool:
        """Whether there is an object."""
        try:
            return bool(self._blob(name).exists())
        except Exception as error:
            raise unavailable(name, error) from error

    def put_if_absent(self, name: str, head: bytes, body: str | None = None) -> bool:
        """Write an object unless its name is taken; return whether this call wrote it.

        Args:
            name: The object's name.
            head: Its content, or the first part of it.
            body: Path of a file with the rest; None when there is none.
        """
        from google.api_core.exceptions import PreconditionFailed

        try:
            self._upload(self._blob(name), head, body)
        except PreconditionFailed:
            return False
        except Exception as error:
            raise unwritten(name, error) from error
        return True

    def put(self, name: str, data: bytes) -> None:
        """Write an object, in the place of one that is there."""
        try:
            self._blob(name).upload_from_string(data)
        except Exception as error:
            raise unwritten(name, error) from error

    def read_generation(self, name: str) -> tuple[bytes | None, str | None]:
        """Return an object and what names this version of it; twice None when there is none."""
        from google.api_core.exceptions import NotFound, PreconditionFailed

        blob = self._blob(name)
        while True:
            try:
                blob.reload()
                data = blob.download_as_bytes(if_generation_match=blob.generation)
                return data, str(blob.generation)
            except NotFound:
                return None, None
            except PreconditionFailed:
                continue
            except Exception as error:
                raise unavailable(name, error) from error

    def replace(self, name: str, data: bytes, generation: str | None) -> bool:
        """Write an object if its generation is still the one given (None: if there is none).

        Returns:
            Whether this call wrote it.
        """
        from google.api_core.exceptions import PreconditionFailed

        try:
            self._blob(name).upload_from_string(data, if_generation_match=int(generation or 0))
        except PreconditionFailed:
            return False
        except Exception as error:
            raise unwritten(name, error) from error
        return True

    def list(self, prefix: str) -> list[Listed]:
        """Return the objects whose names begin so; the prefix has a slash at its end."""
        try:
            return list(in_bucket(self._client, self._bucket, prefix, self._prefix))
        except Exception as error:
            raise unavailable(prefix, error) from error

    def delete(self, name: str) -> None:
        """Delete an object; one that is gone already is fine."""
        from google.api_core.exceptions import NotFound

        try:
            self._blob(name).delete()
        except NotFound:
            return
        except Exception as error:
            raise unwritten(name, error) from error

    def _download(self, blob: Any) -> bytes:
        data: bytes = blob.download_as_bytes(**self._at_once)
        return data

    def _upload(self, blob: Any, head: bytes, body: str | None) -> None:
        if body is None:
            blob.upload_from_string(head, if_generation_match=0)
        elif os.path.getsize(body) <= STREAMED_FROM_BYTES:
            with open(body, "rb") as rest:
                blob.upload_from_string(head + rest.read(), if_generation_match=0)
        else:
            with open(body, "rb") as rest, blob.open("wb", if_generation_match=0) as target:
                _write_all(target, head, pieces_of(rest))

    def _blob(self, name: str) -> Any:
        return self._bucket.blob(self._prefix + name)


def open_store(uri: str, client: Any) -> DirectoryStore | BucketStore:
    """Return the store at a URI that the bootstrap has accepted.

    Args:
        uri: `file:///…` or `gs://bucket/prefix`.
        client: The bootstrap's Cloud Storage client; None for a directory.
    """
    scheme, _, rest = uri.partition("://")
    if scheme == "file":
        from urllib.parse import unquote

        return DirectoryStore(unquote(rest))
    bucket, _, prefix = rest.partition("/")
    return BucketStore(client, bucket, prefix)


def _at_once(download: Callable[..., bytes]) -> dict[str, bool]:
    """Return what has a download read in one piece, where the image's library can do that.

    By default google-cloud-storage reads 8 KiB at a time, which takes three times as long.
    """
    from inspect import signature

    name = "single_shot_download"
    return {name: True} if name in signature(download).parameters else {}


def _write_all(target: IO[bytes], head: bytes, pieces: Iterable[bytes]) -> None:
    target.write(head)
    for piece in pieces:
        target.write(piece)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _make_private(directory: str) -> None:
    """Make a directory and the parents it lacks, open to their owner only."""
    if os.path.isdir(directory):
        return
    _make_private(os.path.dirname(directory))
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        return


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
