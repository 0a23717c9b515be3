"""Event files that TensorBoard reads, written by tensorboardX or tensorboard.

The records are those that TensorFlow 2's ``tf.summary`` writes: every value is a tensor, and a
plug-in's name says how to show it. Both packages bring the protocol buffers and a writer of
checksummed records; the first one found is used. Neither imports TensorFlow here.
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
import time
import zlib
from importlib import import_module
from typing import Any

import numpy as np

__all__ = ["EventFile", "EventFormat", "load_event_format"]

_DT_FLOAT, _DT_DOUBLE, _DT_STRING = 1, 2, 7
_HISTOGRAM_BUCKETS = 30
_MAX_IMAGES = 3
_file_numbers = itertools.count()


class EventFormat:
    """The protocol buffers and the record writer of one of the two packages."""

    def __init__(self, package: str) -> None:
        proto = "tensorboardX.proto" if package == "tensorboardX" else "tensorboard.compat.proto"
        self.Event: Any = import_module(f"{proto}.event_pb2").Event
        self.Summary: Any = import_module(f"{proto}.summary_pb2").Summary
        if package == "tensorboardX":
            self._records: Any = import_module("tensorboardX.record_writer").RecordWriter
        else:
            self._records = import_module("tensorboard.summary.writer.record_writer").RecordWriter
        self._takes_path = package == "tensorboardX"

    def open(self, path: str) -> Any:
        """Return a writer of records to the new file ``path``."""
        return self._records(path if self._takes_path else open(path, "wb"))


def load_event_format() -> EventFormat:
    """Return the format, or say what to install.

    Raises
    ------
    ImportError
        If neither tensorboardX nor tensorboard is installed.
    """
    for package in ("tensorboardX", "tensorboard"):
        try:
            return EventFormat(package)
        except ImportError:
            continue
    raise ImportError(
        "the TensorBoard callback needs the package tensorboardX or tensorboard: "
        'pip install "pycnn[tensorboard]"'
    )


class EventFile:
    """One event file in a directory.

    Parameters
    ----------
    event_format : EventFormat
        From :func:`load_event_format`.
    directory : str
        Made where missing.
    """

    def __init__(self, event_format: EventFormat, directory: str) -> None:
        os.makedirs(directory, exist_ok=True)
        self._format = event_format
        name = (
            f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
            f".{next(_file_numbers)}.v2"
        )
        self._writer = event_format.open(os.path.join(directory, name))
        event = event_format.Event(wall_time=time.time(), file_version="brain.Event:2")
        self._writer.write(event.SerializeToString())
        self.flush()

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Write one number."""
        tensor, content = _DT_FLOAT, np.float32(value).tobytes()
        self._tensor(tag, step, "scalars", tensor, (), content=content)

    def histogram(self, tag: str, values: np.ndarray, step: int) -> None:
        """Write the distribution of ``values`` in 30 buckets of equal width."""
        rows = histogram_buckets(values)
        self._tensor(tag, step, "histograms", _DT_DOUBLE, rows.shape, content=rows.tobytes())

    def images(self, tag: str, images: np.ndarray, step: int) -> None:
        """Write at most three pictures [K,H,W,C] with numbers from 0 to 1."""
        count, height, width, _ = images.shape
        pixels = np.rint(np.clip(np.nan_to_num(images), 0.0, 1.0) * 255.0).astype(np.uint8)
        strings = [str(width).encode(), str(height).encode()]
        strings += [encode_png(picture) for picture in pixels[: min(count, _MAX_IMAGES)]]
        self._tensor(tag, step, "images", _DT_STRING, (len(strings),), strings=strings)

    def keras_model(self, tag: str, json_text: str, step: int) -> None:
        """Write a model's configuration, drawn by TensorBoard's page of graphs."""
        self._tensor(
            tag,
            step,
            "graph_keras_model",
            _DT_STRING,
            (),
            strings=[json_text.encode()],
            plugin_content=b"1",
        )

    def flush(self) -> None:
        """Bring what was written to the file."""
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _tensor(
        self,
        tag: str,
        step: int,
        plugin: str,
        dtype: int,
        shape: tuple[int, ...],
        content: bytes = b"",
        strings: list[bytes] | None = None,
        plugin_content: bytes = b"",
    ) -> None:
        summary = self._format.Summary()
        value = summary.value.add()
        value.tag = tag
        value.metadata.plugin_data.plugin_name = plugin
        value.metadata.plugin_data.content = plugin_content
        value.tensor.dtype = dtype
        value.tensor.tensor_shape.SetInParent()
        for size in shape:
            value.tensor.tensor_shape.dim.add().size = size
        if strings is None:
            value.tensor.tensor_content = content
        else:
            value.tensor.string_val.extend(strings)
        event = self._format.Event(wall_time=time.time(), step=int(step), summary=summary)
        self._writer.write(event.SerializeToString())


def histogram_buckets(values: np.ndarray) -> np.ndarray:
    """Return rows of (left edge, right edge, count), [30,3]; NaN and infinity are left out."""
    flat = np.asarray(values, np.float64).ravel()
    flat = flat[np.isfinite(flat)]
    rows = np.zeros((_HISTOGRAM_BUCKETS, 3))
    if flat.size == 0:
        return rows
    low, high = float(flat.min()), float(flat.max())
    if low == high:
        rows[:, :2] = low
        rows[-1, 2] = flat.size
        return rows
    counts, edges = np.histogram(flat, bins=_HISTOGRAM_BUCKETS, range=(low, high))
    rows[:, 0], rows[:, 1], rows[:, 2] = edges[:-1], edges[1:], counts
    return rows


def encode_png(picture: np.ndarray) -> bytes:
    """Return a PNG file of uint8 [H,W,C] with 1 (grey), 3 (RGB) or 4 (RGBA) channels."""
    height, width, channels = picture.shape
    colour = {1: 0, 3: 2, 4: 6}[channels]

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)

    rows = np.zeros((height, 1 + width * channels), np.uint8)  # each row starts with filter 0
    rows[:, 1:] = picture.reshape(height, width * channels)
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows.tobytes()))
        + chunk(b"IEND", b"")
    )
