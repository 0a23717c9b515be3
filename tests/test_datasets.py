"""Data sets: what is read, from where, in which order; downloads that break, stall or lie."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import http.server
import io
import socket
import struct
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pycnn import datasets
from pycnn.datasets import _download, _files
from pycnn.datasets._sources import CIFAR10, FASHION_MNIST, MNIST, Archive, File, Source


@pytest.fixture(autouse=True)
def bare_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No data set anywhere, no way out."""
    for name in ("PYCNN_DATASETS", "PYCNN_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for source in (MNIST, FASHION_MNIST, CIFAR10):
        no_mirror = dataclasses.replace(source, mirrors=("http://127.0.0.1:9/",))
        for module in (datasets.mnist, datasets.fashion_mnist, datasets.cifar10):
            for name in ("MNIST", "FASHION_MNIST", "CIFAR10"):
                if getattr(module, name, None) is source:
                    monkeypatch.setattr(module, name, no_mirror)
    return tmp_path


def idx(array: np.ndarray) -> bytes:
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


def put_idx(folder: Path, value: int, packed: bool = True, dash: str = "-idx") -> None:
    """A tiny data set whose every pixel is ``value``."""
    folder.mkdir(parents=True)
    for prefix, count in (("train", 3), ("t10k", 2)):
        images = idx(np.full((count, 28, 28), value, np.uint8))
        labels = idx(np.arange(count, dtype=np.uint8))
        for name, content in ((f"images{dash}3-ubyte", images), (f"labels{dash}1-ubyte", labels)):
            path = folder / f"{prefix}-{name}{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)


def first_pixel(splits: _files.Splits) -> int:
    return int(splits[0][0][0, 0, 0])


# The sample


def test_sample_has_the_promised_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYCNN_DATASETS", "sample")
    (x_train, y_train), (x_test, y_test) = datasets.mnist.load_data()
    assert x_train.shape == (10_000, 28, 28) and y_train.shape == (10_000,)
    assert x_test.shape == (2_000, 28, 28) and y_test.shape == (2_000,)
    assert {a.dtype for a in (x_train, y_train, x_test, y_test)} == {np.dtype("uint8")}
    assert x_train.flags.writeable
    # Digits, not noise: each of the ten about a tenth, and mean grey as in MNIST (33.3).
    assert np.bincount(y_train, minlength=10).min() > 800
    assert 31 < x_train.mean() < 36 and 31 < x_test.mean() < 36
    assert int(x_train.max()) == 255 and int(x_train.min()) == 0


def test_sample_files_are_about_two_megabytes() -> None:
    files = list(_files.SAMPLE_FOLDER.iterdir())
    assert len(files) == 4
    assert sum(path.stat().st_size for path in files) < 2.2e6


@pytest.mark.parametrize("module", [datasets.fashion_mnist, datasets.cifar10])
def test_there_is_no_other_sample(
    module: object, monkeypatch: pytest.MonkeyPatch, bare_home: Path
) -> None:
    monkeypatch.setenv("PYCNN_DATASETS", "sample")
    with pytest.raises(datasets.DatasetNotFoundError, match="sample of MNIST only"):
        module.load_data()  # type: ignore[attr-defined]


def test_unknown_mode_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYCNN_DATASETS", "smaple")
    with pytest.raises(datasets.DatasetError, match="'smaple': expected 'sample' or 'full'"):
        datasets.mnist.load_data()


# The order of the places


def test_places_in_their_order(bare_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_idx(_files.cache_folder(MNIST), 1)
    assert first_pixel(datasets.mnist.load_data()) == 1
    put_idx(Path("data/MNIST/raw"), 2)
    assert first_pixel(datasets.mnist.load_data()) == 2
    npz = bare_home / "keras" / "datasets" / "mnist.npz"
    npz.parent.mkdir(parents=True)
    pictures, labels = np.full((4, 28, 28), 3, np.uint8), np.zeros(4, np.uint8)
    np.savez(npz, x_train=pictures, y_train=labels, x_test=pictures, y_test=labels)
    assert first_pixel(datasets.mnist.load_data()) == 3
    put_idx(bare_home / "home" / "mnist", 4)
    monkeypatch.setenv("PYCNN_DATA_HOME", str(bare_home / "home"))
    assert first_pixel(datasets.mnist.load_data()) == 4


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("dash", ["-idx", ".idx"])
def test_both_spellings_packed_or_not(packed: bool, dash: str) -> None:
    put_idx(Path("data/FashionMNIST/raw"), 7, packed, dash)
    assert first_pixel(datasets.fashion_mnist.load_data()) == 7


def test_an_incomplete_folder_is_passed_over(bare_home: Path) -> None:
    put_idx(Path("data/MNIST/raw"), 2)
    Path("data/MNIST/raw/t10k-labels-idx1-ubyte.gz").unlink()
    put_idx(_files.cache_folder(MNIST), 1)
    assert first_pixel(datasets.mnist.load_data()) == 1


def test_pickles_in_keras_file_are_not_opened(bare_home: Path) -> None:
    npz = bare_home / "keras" / "datasets" / "mnist.npz"
    npz.parent.mkdir(parents=True)
    evil = np.array([{"run": print}], dtype=object)
    np.savez(npz, x_train=evil, y_train=evil, x_test=evil, y_test=evil)
    with pytest.raises(datasets.DatasetError, match="is not Keras's file of MNIST"):
        datasets.mnist.load_data()


# Damaged files


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content[:-1], "promises .* got"),
        (lambda content: content + b"x", "promises .* got"),
        (lambda content: b"\x1f" + content[1:], "not an IDX file"),
        (lambda content: content[:3] + b"\x09" + content[4:], "1 to 4 dimensions, got 9"),
        (lambda content: content[:6], "IDX header"),
        (lambda content: b"", "not an IDX file"),
    ],
)
def test_damaged_idx(change: Callable[[bytes], bytes], words: str) -> None:
    folder = Path("data/MNIST/raw")
    put_idx(folder, 1, packed=False)
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(datasets.DatasetError, match=words):
        datasets.mnist.load_data()


def test_broken_gzip() -> None:
    folder = Path("data/MNIST/raw")
    put_idx(folder, 1)
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(datasets.DatasetError, match="is damaged"):
        datasets.mnist.load_data()


# CIFAR-10


def put_cifar(folder: Path, label: int = 3) -> None:
    folder.mkdir(parents=True)
    for number, file in enumerate(CIFAR10.files):
        pixels = np.arange(3072, dtype=np.uint32).reshape(3, 32, 32) % 251
        record = bytes([label]) + (pixels + number).astype(np.uint8).tobytes()
        (folder / file.name).write_bytes(record * 2)


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-bin"])
def test_cifar_as_keras_returns_it(
    inner: str, bare_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_cifar(bare_home / "home" / "cifar10" / inner)
    monkeypatch.setenv("PYCNN_DATA_HOME", str(bare_home / "home"))
    (x_train, y_train), (x_test, y_test) = datasets.cifar10.load_data()
    assert x_train.shape == (10, 32, 32, 3) and y_train.shape == (10, 1)
    assert x_test.shape == (2, 32, 32, 3) and y_test.shape == (2, 1)
    assert x_train.dtype == y_train.dtype == np.uint8 and int(y_train[0, 0]) == 3
    # Red first, rows along the second axis; the fifth file's pictures come last.
    assert x_train[0, 0, 1].tolist() == [1, (1024 + 1) % 251, (2048 + 1) % 251]
    assert x_train[9, 0, 0, 0] == 4 and x_test[0, 0, 0, 0] == 5


def test_cifar_with_impossible_labels() -> None:
    put_cifar(Path("data/cifar-10-batches-bin"), label=10)
    with pytest.raises(datasets.DatasetError, match="expected labels 0..9, got 10"):
        datasets.cifar10.load_data()


def test_cifar_cut_short() -> None:
    put_cifar(Path("data/cifar-10-batches-bin"))
    Path("data/cifar-10-batches-bin/data_batch_2.bin").write_bytes(b"\0" * 3000)
    with pytest.raises(datasets.DatasetError, match="records of 3073 bytes, got 3000"):
        datasets.cifar10.load_data()


# Downloads, from a server on this machine


class Mirror:
    """A server of files in memory that can break off, stall, or refuse to go on."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.break_after: int | None = None
        self.stall = False
        self.ranges = True
        self.requests: list[tuple[str, str | None]] = []
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                mirror.requests.append((self.path, asked))
                content = mirror.content.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                start = 0
                if asked and mirror.ranges:
                    start = int(asked.removeprefix("bytes=").rstrip("-"))
                    if start >= len(content):
                        self.send_error(416)
                        return
                    self.send_response(206)
                    end = len(content) - 1
                    self.send_header("Content-Range", f"bytes {start}-{end}/{len(content)}")
                else:
                    self.send_response(200)
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                body = content[start:]
                if mirror.break_after is not None:
                    body, mirror.break_after = body[: mirror.break_after], None
                self.wfile.write(body)
                self.wfile.flush()
                if mirror.stall:
                    time.sleep(20)  # longer than any test allows: only giving up ends it

            def log_message(self, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"


@pytest.fixture
def mirrors() -> Iterator[tuple[Mirror, Mirror]]:
    pair = Mirror(), Mirror()
    yield pair
    for mirror in pair:
        mirror.server.shutdown()
        mirror.server.server_close()


PAYLOAD = np.random.default_rng(1).integers(0, 50, 30_000).astype(np.uint8).tobytes()


def one_file(*mirrors: Mirror) -> Source:
    file = File("one-idx1-ubyte", len(PAYLOAD), hashlib.sha256(PAYLOAD).hexdigest())
    urls = tuple(mirror.url for mirror in mirrors)
    return Source("One", "one", (), (), (file,), urls)


def stored(source: Source) -> bytes:
    files = _download.download(source)
    (path,) = files.values()
    assert [p.name for p in path.parent.iterdir()] == ["one-idx1-ubyte"]  # no .part left
    return path.read_bytes()


def test_download(mirrors: tuple[Mirror, Mirror], capfd: pytest.CaptureFixture[str]) -> None:
    mirrors[0].content["/one-idx1-ubyte.gz"] = gzip.compress(PAYLOAD)
    source = one_file(*mirrors)
    assert stored(source) == PAYLOAD
    out = capfd.readouterr()
    assert out.out == "" and "Downloading one-idx1-ubyte.gz" in out.err
    assert _files.find(source) is not None
    assert stored(source) == PAYLOAD and len(mirrors[0].requests) == 1  # not asked again


def test_other_packing_is_the_same_data(mirrors: tuple[Mirror, Mirror]) -> None:
    mirrors[0].content["/one-idx1-ubyte.gz"] = gzip.compress(PAYLOAD, 1)
    assert stored(one_file(*mirrors)) == PAYLOAD


def test_next_mirror_after_a_404_and_after_wrong_bytes(mirrors: tuple[Mirror, Mirror]) -> None:
    mirrors[1].content["/one-idx1-ubyte.gz"] = gzip.compress(PAYLOAD)
    assert stored(one_file(*mirrors)) == PAYLOAD
    (_files.cache_folder(one_file()) / "one-idx1-ubyte").unlink()
    mirrors[0].content["/one-idx1-ubyte.gz"] = gzip.compress(PAYLOAD[::-1])
    assert stored(one_file(*mirrors)) == PAYLOAD


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_transfer_goes_on(mirrors: tuple[Mirror, Mirror], ranges: bool) -> None:
    packed = gzip.compress(PAYLOAD)
    mirrors[0].content["/one-idx1-ubyte.gz"] = packed
    mirrors[0].break_after, mirrors[0].ranges = 5_000, ranges
    source = one_file(mirrors[0])
    with pytest.raises(
        datasets.DatasetNotFoundError, match=f"broke off after 5000 of {len(packed)}"
    ):
        _download.download(source)
    assert stored(source) == PAYLOAD
    assert mirrors[0].requests[1][1] == "bytes=5000-"


def test_a_part_from_another_packing_is_thrown_away(mirrors: tuple[Mirror, Mirror]) -> None:
    mirrors[0].content["/one-idx1-ubyte.gz"] = gzip.compress(PAYLOAD, 1)
    mirrors[0].break_after = 5_000
    source = one_file(mirrors[0])
    for _ in range(2):
        with pytest.raises(datasets.DatasetNotFoundError):
            _download.download(source)
        mirrors[0].content["/one-idx1-ubyte.gz"] = gzip.compress(PAYLOAD, 9)
    assert stored(source) == PAYLOAD


def test_a_complete_part_is_used(mirrors: tuple[Mirror, Mirror]) -> None:
    mirrors[0].content["/one-idx1-ubyte.gz"] = packed = gzip.compress(PAYLOAD)
    source = one_file(mirrors[0])
    url = f"{mirrors[0].url}one-idx1-ubyte.gz"
    folder = _files.cache_folder(source)
    folder.mkdir(parents=True)
    name = f".one-idx1-ubyte.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part"
    (folder / name).write_bytes(packed)
    assert stored(source) == PAYLOAD


def test_a_stalled_transfer_is_given_up(
    mirrors: tuple[Mirror, Mirror], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_download, "STALL_SECONDS", 0.3)
    packed = gzip.compress(PAYLOAD)
    for mirror in mirrors:
        mirror.content["/one-idx1-ubyte.gz"] = packed
    mirrors[0].break_after, mirrors[0].stall = 100, True
    start = time.monotonic()
    assert stored_beside_part(one_file(*mirrors)) == PAYLOAD
    assert time.monotonic() - start < 10


def stored_beside_part(source: Source) -> bytes:
    """The file; the part of the mirror that failed may stay for another day."""
    (path,) = _download.download(source).values()
    return path.read_bytes()


@pytest.mark.parametrize(
    "content",
    [b"<html>404</html>", b"", gzip.compress(PAYLOAD)[:-9], gzip.compress(b"\0" * 10_000_000)],
    ids=["html", "empty", "cut", "bomb"],
)
def test_lies_are_not_stored(mirrors: tuple[Mirror, Mirror], content: bytes) -> None:
    mirrors[0].content["/one-idx1-ubyte.gz"] = content
    source = one_file(mirrors[0])
    with pytest.raises(datasets.DatasetNotFoundError):
        _download.download(source)
    assert _files.find(source) is None
    assert not list(_files.cache_folder(source).glob("one*"))


def test_endless_body_is_cut(mirrors: tuple[Mirror, Mirror]) -> None:
    mirrors[0].content["/one-idx1-ubyte.gz"] = b"\0" * 1_000_000
    with pytest.raises(datasets.DatasetNotFoundError, match="sends more than"):
        _download.download(one_file(mirrors[0]))


def test_archive(mirrors: tuple[Mirror, Mirror]) -> None:
    record = (b"\1" + b"\7" * 3072) * 2
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in ("../../evil", *(f"cifar/{file.name}" for file in CIFAR10.files)):
            member = tarfile.TarInfo(name)
            member.size = len(record)
            tar.addfile(member, io.BytesIO(record))
    content = buffer.getvalue()
    mirrors[0].content["/cifar.tar.gz"] = content
    source = dataclasses.replace(
        CIFAR10,
        files=tuple(dataclasses.replace(file, size=len(record)) for file in CIFAR10.files),
        mirrors=(mirrors[0].url,),
        archive=Archive("cifar.tar.gz", len(content), hashlib.sha256(content).hexdigest(), "cifar"),
    )
    files = _download.download(source)
    assert len(files) == 6 and all(path.read_bytes() == record for path in files.values())
    names = {path.name for path in _files.cache_folder(source).iterdir()}
    assert names == {file.name for file in CIFAR10.files}


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (datasets.mnist, "train-images-idx3-ubyte.gz.*t10k-labels.*cache/pycnn/mnist"),
        (datasets.fashion_mnist, "train-images-idx3-ubyte.gz.*cache/pycnn/fashion-mnist"),
        (datasets.cifar10, "cifar-10-binary.tar.gz, unpacked.*cache/pycnn/cifar10"),
    ],
)
def test_offline_says_what_to_put_where(module: object, words: str) -> None:
    start = time.monotonic()
    with pytest.raises(datasets.DatasetNotFoundError, match=f"(?s){words}"):
        module.load_data()  # type: ignore[attr-defined]
    assert time.monotonic() - start < 10


def test_full_does_not_fall_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYCNN_DATASETS", "full")
    with pytest.raises(FileNotFoundError, match="MNIST is not on this machine"):
        datasets.mnist.load_data()


def test_servers_that_never_answer_cost_ten_seconds_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_download, "CONNECT_SECONDS", 0.2)
    monkeypatch.setattr(_download, "OFFLINE_SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        # Waiting for each in turn would take twenty seconds: the limit must end it.
        source = dataclasses.replace(one_file(), mirrors=(url,) * 100)
        start = time.monotonic()
        with pytest.raises(datasets.DatasetNotFoundError, match="no answer"):
            _download.download(source)
        assert time.monotonic() - start < 10
    assert _download_limits() <= 10


def _download_limits() -> float:
    """The longest wait without a network, by the constants as they are in the source."""
    import ast
    import inspect

    for node in ast.parse(inspect.getsource(_download)).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "OFFLINE_SECONDS":
            return float(ast.literal_eval(node.value))
    raise AssertionError("OFFLINE_SECONDS is gone")
