"""Downloading a data set: mirrors in order, stalls noticed, broken transfers resumed.

A file counts only when the SHA-256 of its uncompressed bytes is the published one (mirrors pack
anew, so packed bytes differ); it then appears under its name in one step.  A transfer that breaks
leaves a ``.part`` file, from which the next attempt at the same mirror goes on.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import queue
import sys
import tarfile
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pycnn.datasets import _files
from pycnn.datasets._sources import Archive, DatasetError, DatasetNotFoundError, File, Source

if TYPE_CHECKING:
    from http.client import HTTPResponse

__all__ = ["download"]

CONNECT_SECONDS = 4.0  # for one mirror to answer
OFFLINE_SECONDS = 9.0  # for any mirror to answer, before we say that there is no network
STALL_SECONDS = 10.0  # without a byte
SLOW_SECONDS = 20.0  # over which the speed is judged
SLOW_BYTES = 2_000  # a second: slower than that is no transfer
CHUNK = 1 << 16


class _MirrorFailed(Exception):
    """This mirror does not serve the file now; the next one may."""


class _Deadline:
    """Until when the first answer of any mirror is waited for."""

    def __init__(self) -> None:
        self._end: float | None = time.monotonic() + OFFLINE_SECONDS

    def left(self) -> float:
        return CONNECT_SECONDS if self._end is None else self._end - time.monotonic()

    def answered(self) -> None:
        self._end = None


def download(source: Source, folder: Path | None = None) -> dict[str, Path]:
    """Download what is missing of a data set; return its files by name.

    Parameters
    ----------
    source : Source
        The data set.
    folder : Path, optional
        Where to; its folder in the cache by default.

    Raises
    ------
    DatasetNotFoundError
        No mirror could be reached or none had the right bytes.  Within ten seconds if there is
        no network.
    """
    folder = _files.cache_folder(source) if folder is None else folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetNotFoundError(
            f"{source.title} cannot be stored in {folder}: {error}"
        ) from error
    deadline = _Deadline()
    failures: list[str] = []
    wanted: list[File | Archive] = [
        file for file in source.files if not (folder / file.name).is_file()
    ]
    if source.archive is not None and wanted:
        wanted = [source.archive]
    for item in wanted:
        if not _from_any_mirror(source, item, folder, deadline, failures):
            raise DatasetNotFoundError(_what_to_do(source, failures))
    found = _files.locate(folder, source)
    if found is None:
        raise DatasetError(f"{folder} is still incomplete after the download of {source.title}")
    return found


def _from_any_mirror(
    source: Source, item: File | Archive, folder: Path, deadline: _Deadline, failures: list[str]
) -> bool:
    for mirror in source.mirrors:
        packed = isinstance(item, File)
        url = f"{mirror}{item.name}{'.gz' if packed else ''}"
        part = folder / f".{item.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part"
        try:
            _transfer(url, part, item.size, deadline)
            if isinstance(item, File):
                _unpack_file(part, folder / item.name, item)
            else:
                _unpack_archive(part, folder, item, source)
        except _MirrorFailed as error:
            failures.append(f"{url}: {error}")
            continue
        part.unlink(missing_ok=True)
        return True
    return False


def _what_to_do(source: Source, failures: list[str]) -> str:
    home = os.environ.get("PYCNN_DATA_HOME")
    place = Path(home) / source.home if home else _files.cache_folder(source)
    if source.archive is not None:
        names = f"{source.archive.name}, unpacked"
    else:
        names = ", ".join(f"{file.name}.gz" for file in source.files)
    tried = "\n  ".join(dict.fromkeys(failures))
    sample = (
        "\nThe sample of MNIST inside the package needs no download: PYCNN_DATASETS=sample"
        if source.home == "mnist"
        else ""
    )
    return (
        f"{source.title} is not on this machine and could not be downloaded. Put these files\n"
        f"  {names}\ninto\n  {place}\n(or into a folder {source.home}/ below $PYCNN_DATA_HOME). "
        f"Tried:\n  {tried}{sample}"
    )


# The transfer


def _open(url: str, offset: int, deadline: _Deadline) -> HTTPResponse:
    """Ask for a URL from an offset on; give up in time even if name resolution hangs."""
    import urllib.request

    patience = min(CONNECT_SECONDS, deadline.left())
    if patience <= 0:
        raise _MirrorFailed("no answer in time")
    headers = {"User-Agent": "pycnn", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    request = urllib.request.Request(url, headers=headers)
    answers: queue.SimpleQueue[HTTPResponse | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(urllib.request.urlopen(request, timeout=STALL_SECONDS))
        except Exception as error:
            answers.put(error)

    # A resolver has no time limit of its own: the thread that waits for it may be left behind.
    threading.Thread(target=ask, daemon=True, name="pycnn-download").start()
    try:
        answer = answers.get(timeout=patience)
    except queue.Empty:
        raise _MirrorFailed(f"no answer within {patience:.0f} s") from None
    if isinstance(answer, Exception):
        raise _MirrorFailed(str(answer)) from answer
    deadline.answered()
    return answer


def _transfer(url: str, part: Path, size: int, deadline: _Deadline) -> None:
    """Bring a URL into a ``.part`` file, going on where an earlier transfer broke.

    ``size`` is that of the uncompressed bytes; nobody's gzip makes them more than a little larger.
    """
    import urllib.error

    limit = size + size // 100 + 4096
    offset = part.stat().st_size if part.exists() else 0
    try:
        response = _open(url, offset, deadline)
    except _MirrorFailed as error:
        # 416: the whole file is there already, or the mirror's file has changed.
        if not (isinstance(error.__cause__, urllib.error.HTTPError) and offset):
            raise
        if error.__cause__.code != 416:
            raise
        part.unlink()
        offset = 0
        response = _open(url, 0, deadline)
    with response:
        if offset and not (
            response.status == 206
            and (response.headers.get("Content-Range") or "").startswith(f"bytes {offset}-")
        ):
            offset = 0
        length = response.headers.get("Content-Length")
        total = offset + int(length) if length and length.isdigit() else None
        with part.open("ab" if offset else "wb") as out:
            done = offset
            for chunk in _chunks(response, url, done, total):
                done += len(chunk)
                if done > limit:
                    raise _MirrorFailed(f"sends more than the {size} bytes expected")
                out.write(chunk)
    if total is not None and done != total:
        raise _MirrorFailed(f"broke off after {done} of {total} bytes")


def _chunks(response: Any, url: str, done: int, total: int | None) -> Iterator[bytes]:
    """The body, with a progress bar; a transfer that stalls or crawls is given up."""
    bar = _Progress(url.rpartition("/")[2], done, total)
    since, since_bytes = time.monotonic(), 0
    while True:
        try:
            chunk = response.read1(CHUNK)
        except OSError as error:
            bar.close()
            raise _MirrorFailed(f"broke off ({error})") from error
        if not chunk:
            break
        yield chunk
        since_bytes += len(chunk)
        bar.add(len(chunk))
        seconds = time.monotonic() - since
        if seconds > SLOW_SECONDS:
            if since_bytes < SLOW_BYTES * seconds:
                bar.close()
                raise _MirrorFailed(f"slower than {SLOW_BYTES} bytes a second")
            since, since_bytes = time.monotonic(), 0
    bar.close()


class _Progress:
    """A bar on a terminal, one line elsewhere; on stderr, for stdout is the program's."""

    def __init__(self, name: str, done: int, total: int | None) -> None:
        self.name, self.done, self.total = name, done, total
        self.live = sys.stderr.isatty()
        self.last = 0.0
        if not self.live:
            print(f"Downloading {name}", file=sys.stderr, flush=True)

    def add(self, count: int) -> None:
        self.done += count
        now = time.monotonic()
        if self.live and now - self.last > 0.1:
            self.last = now
            self._draw()

    def _draw(self) -> None:
        amount = f"{self.done / 1e6:.1f} MB"
        if self.total:
            share = min(1.0, self.done / self.total)
            bar = "━" * round(30 * share)
            amount = f"{bar:<30} {100 * share:3.0f}% {amount} of {self.total / 1e6:.1f} MB"
        print(f"\r{self.name} {amount}", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.live:
            self._draw()
            print(file=sys.stderr, flush=True)


# Checking and storing


def _store(chunks: Iterator[bytes], target: Path, size: int, sha256: str) -> None:
    """Write a file of a known size and checksum; it appears whole or not at all."""
    digest = hashlib.sha256()
    count = 0
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            for chunk in chunks:
                count += len(chunk)
                if count > size:
                    raise _MirrorFailed(f"unpacks to more than the {size} bytes expected")
                digest.update(chunk)
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        if count != size:
            raise _MirrorFailed(f"unpacks to {count} bytes, expected {size}")
        if sha256 and digest.hexdigest() != sha256:
            raise _MirrorFailed(f"has the SHA-256 {digest.hexdigest()}, expected {sha256}")
        os.chmod(name, 0o644)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _unpack_file(part: Path, target: Path, file: File) -> None:
    try:
        with gzip.open(part, "rb") as stream:
            _store(iter(lambda: stream.read(CHUNK), b""), target, file.size, file.sha256)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        part.unlink()
        raise _MirrorFailed(f"is not a whole gzip file ({error})") from error
    except _MirrorFailed:
        part.unlink()
        raise


def _unpack_archive(part: Path, folder: Path, archive: Archive, source: Source) -> None:
    digest = hashlib.sha256()
    with part.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != archive.sha256:
        part.unlink()
        raise _MirrorFailed(f"has the SHA-256 {digest.hexdigest()}, expected {archive.sha256}")
    with tarfile.open(part, "r:gz") as tar:
        for file in source.files:
            stored = tar.extractfile(f"{archive.folder}/{file.name}")
            if stored is None:
                raise _MirrorFailed(f"does not contain {archive.folder}/{file.name}")
            with stored:
                chunks = iter(lambda stored=stored: stored.read(1 << 20), b"")  # type: ignore[misc]
                _store(chunks, folder / file.name, file.size, file.sha256)
