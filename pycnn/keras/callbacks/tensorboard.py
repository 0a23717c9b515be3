"""Write metrics, histograms and the model's graph for TensorBoard."""

from __future__ import annotations

import os
import time
import warnings
from typing import Any

import numpy as np

from pycnn.keras.callbacks.arguments import path_text
from pycnn.keras.callbacks.callback import Callback, Logs, batch_hook_if
from pycnn.keras.callbacks.event_file import EventFile, load_event_format
from pycnn.keras.callbacks.learning_rate_scheduler import learning_rate_of
from pycnn.keras.trainers.progress import print_msg

__all__ = ["TensorBoard"]


class TensorBoard(Callback):
    """Write event files that ``tensorboard --logdir DIR`` shows.

    Metrics of the training go to ``DIR/train``, those of the validation to ``DIR/validation``,
    under the tags that Keras uses: ``epoch_loss``, ``epoch_accuracy``, ``epoch_learning_rate``,
    ``evaluation_loss_vs_iterations``, ``batch_loss``, ...

    Parameters
    ----------
    log_dir : str or PathLike
        Where to write.
    histogram_freq : int
        Histograms of all weights every so many epochs; 0 for none.
    write_graph : bool
        Write the model's configuration, which TensorBoard draws under "Graphs".
    write_images : bool
        Write the weights as pictures, too, whenever histograms are written.
    write_steps_per_second : bool
        Write the speed of every batch and epoch.
    update_freq : "epoch", "batch" or int
        Write the running metrics after so many batches as well.
    profile_batch : int
        Profiling; only 0 is supported.
    embeddings_freq : int
        Only 0 is supported.
    embeddings_metadata : dict, optional
        Only None is supported.

    Raises
    ------
    ImportError
        If neither tensorboardX nor tensorboard is installed.
    NotImplementedError
        For profiling and embeddings.

    Notes
    -----
    Source: Keras 3 ``keras.callbacks.TensorBoard``. TensorFlow is not needed.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] = "logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_images: bool = False,
        write_steps_per_second: bool = False,
        update_freq: str | int = "epoch",
        profile_batch: int | str | tuple[int, int] = 0,
        embeddings_freq: int = 0,
        embeddings_metadata: Any = None,
    ) -> None:
        super().__init__()
        if profile_batch not in (0, "0", (0, 0)):
            raise NotImplementedError(
                f"TensorBoard: profile_batch={profile_batch!r} is not supported, only 0"
            )
        if embeddings_freq or embeddings_metadata is not None:
            raise NotImplementedError(
                "TensorBoard: embeddings_freq and embeddings_metadata are not supported"
            )
        if update_freq not in ("epoch", "batch") and (
            not isinstance(update_freq, int) or update_freq < 1
        ):
            raise ValueError(
                "TensorBoard: update_freq must be 'epoch', 'batch' or a number of batches, got "
                f"{update_freq!r}"
            )
        if not isinstance(histogram_freq, int) or histogram_freq < 0:
            raise ValueError(
                f"TensorBoard: histogram_freq must be 0 or a number of epochs, got "
                f"{histogram_freq!r}"
            )
        self.log_dir = path_text("TensorBoard", "log_dir", log_dir, "logs")
        self._format = load_event_format()
        self.histogram_freq = histogram_freq
        self.write_graph = write_graph
        self.write_images = write_images
        self.write_steps_per_second = write_steps_per_second
        self.update_freq: str | int = 1 if update_freq == "batch" else update_freq
        self.embeddings_freq = embeddings_freq
        self.embeddings_metadata = embeddings_metadata
        self._train_dir = os.path.join(self.log_dir, "train")
        self._val_dir = os.path.join(self.log_dir, "validation")
        self._writers: dict[str, EventFile] = {}
        self._global_train_batch = 0
        self._batch_start_time = 0.0
        self._epoch_start_time = 0.0
        self._epoch_start_iterations = 0
        self._told = False

    @property
    def _writes_batches(self) -> bool:
        return self.update_freq != "epoch" or self.write_steps_per_second

    def set_model(self, model: Any) -> None:
        """Receive the model and write its graph."""
        super().set_model(model)
        self._close()
        if self.write_graph:
            self._write_model()

    def _writer(self, name: str) -> EventFile:
        """Return the writer of ``train`` or ``validation``, opened when first needed."""
        if name not in self._writers:
            directory = self._train_dir if name == "train" else self._val_dir
            self._writers[name] = EventFile(self._format, directory)
        return self._writers[name]

    def _close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def _write_model(self) -> None:
        if type(self.model).__name__ not in ("Functional", "Sequential", "Model"):
            return
        try:
            text = self.model.to_json()
        except Exception as error:  # a graph that cannot be written must not stop a training
            warnings.warn(f"TensorBoard: the model's graph was not written: {error}", stacklevel=3)
            return
        self._writer("train").keras_model("keras", text, 0)

    def on_train_begin(self, logs: Logs = None) -> None:
        """Say once how to view the logs."""
        self._global_train_batch = 0
        if not self._told and (self.params or {}).get("verbose", 1) != 0:
            self._told = True
            print_msg(f"TensorBoard: view the logs with  tensorboard --logdir {self.log_dir}")

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Start the clock of the epoch."""
        if self.write_steps_per_second:
            self._epoch_start_iterations = int(self.model.optimizer.iterations)
            self._epoch_start_time = time.perf_counter()

    @batch_hook_if("_writes_batches")
    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Start the clock of the batch."""
        self._global_train_batch += 1
        self._batch_start_time = time.perf_counter()

    @batch_hook_if("_writes_batches")
    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Write the running metrics where due."""
        if isinstance(self.update_freq, str):
            return
        step = self._global_train_batch
        if step % self.update_freq:
            return
        writer = self._writer("train")
        if self.write_steps_per_second:
            seconds = max(time.perf_counter() - self._batch_start_time, 1e-9)
            writer.scalar("batch_steps_per_second", 1.0 / seconds, step)
        for name, value in (logs or {}).items():
            writer.scalar(f"batch_{name}", value, step)

    def on_test_end(self, logs: Logs = None) -> None:
        """Write the metrics of an evaluation by the optimizer's step."""
        optimizer = getattr(self.model, "optimizer", None)
        if optimizer is None:
            return
        writer = self._writer("validation")
        for name, value in (logs or {}).items():
            writer.scalar(f"evaluation_{name}_vs_iterations", value, int(optimizer.iterations))
        writer.flush()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Write the metrics of the epoch, and histograms where due."""
        self._write_epoch(epoch, dict(logs or {}))
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            self._write_weights(epoch)
        for writer in self._writers.values():
            writer.flush()

    def on_train_end(self, logs: Logs = None) -> None:
        """Close the files."""
        self._close()

    def _write_epoch(self, epoch: int, logs: dict[str, Any]) -> None:
        if not logs:
            return
        train = {name: value for name, value in logs.items() if not name.startswith("val_")}
        train["learning_rate"] = learning_rate_of(self.model.optimizer)
        if self.write_steps_per_second:
            seconds = max(time.perf_counter() - self._epoch_start_time, 1e-9)
            steps = int(self.model.optimizer.iterations) - self._epoch_start_iterations
            train["steps_per_second"] = steps / seconds
        for name, value in train.items():
            self._writer("train").scalar(f"epoch_{name}", value, epoch)
        for name, value in logs.items():
            if name.startswith("val_"):
                self._writer("validation").scalar(f"epoch_{name[4:]}", value, epoch)

    def _write_weights(self, epoch: int) -> None:
        writer = self._writer("train")
        for layer in self.model.layers:
            for weight in layer.weights:
                tag = weight.path.replace(":", "_")
                values = np.asarray(weight.numpy())
                writer.histogram(f"{tag}/histogram", values, epoch)
                if self.write_images:
                    images = _weight_images(values)
                    if images is not None:
                        writer.images(f"{tag}/image", images, epoch)


def _weight_images(values: np.ndarray) -> np.ndarray | None:
    """Return a weight as pictures [K,H,W,C], or None where it is no picture."""
    images = np.squeeze(values)
    if images.ndim == 1:
        images = images.reshape(1, -1, 1, 1)
    elif images.ndim == 2:
        if images.shape[0] > images.shape[1]:
            images = images.T
        images = images[None, :, :, None]
    elif images.ndim == 3:
        images = np.moveaxis(images, 2, 0)[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3, 4):
        return None
    return images
