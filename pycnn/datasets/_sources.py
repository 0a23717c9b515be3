"""What the data sets are made of: files, checksums, publishers; and the errors of this package."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "CIFAR10",
    "FASHION_MNIST",
    "MNIST",
    "Archive",
    "DatasetError",
    "DatasetNotFoundError",
    "File",
    "Source",
]


class DatasetError(RuntimeError):
    """A data set's file is damaged, or is not what its name says."""


class DatasetNotFoundError(DatasetError, FileNotFoundError):
    """A data set is neither on this machine nor to be had from its publishers."""


@dataclass(frozen=True)
class File:
    """One file of a data set; size and SHA-256 are those of its *uncompressed* bytes."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Archive:
    """A tar.gz that the publisher serves in place of the files; its own bytes are checked."""

    name: str
    size: int
    sha256: str
    folder: str


@dataclass(frozen=True)
class Source:
    """A data set: where its files lie in each reading place, and who publishes them.

    ``mirrors`` are URL prefixes in the order in which they are tried.  ``keras`` and ``data`` are
    folders below Keras's ``datasets`` and below ``./data``.
    """

    title: str
    home: str
    keras: tuple[str, ...]
    data: tuple[str, ...]
    files: tuple[File, ...]
    mirrors: tuple[str, ...]
    archive: Archive | None = None


MNIST = Source(
    title="MNIST",
    home="mnist",
    keras=("mnist",),
    data=("MNIST/raw", "mnist"),
    files=(
        File(
            "train-images-idx3-ubyte",
            47_040_016,
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        File(
            "train-labels-idx1-ubyte",
            60_008,
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        File(
            "t10k-images-idx3-ubyte",
            7_840_016,
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        File(
            "t10k-labels-idx1-ubyte",
            10_008,
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    ),
)

FASHION_MNIST = Source(
    title="Fashion-MNIST",
    home="fashion-mnist",
    keras=("fashion-mnist",),
    data=("FashionMNIST/raw", "fashion-mnist"),
    files=(
        File(
            "train-images-idx3-ubyte",
            47_040_016,
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        File(
            "train-labels-idx1-ubyte",
            60_008,
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        File(
            "t10k-images-idx3-ubyte",
            7_840_016,
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        File(
            "t10k-labels-idx1-ubyte",
            10_008,
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
    mirrors=(
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
)

# The binary version: 10,000 records of a label and 3 x 32 x 32 bytes a file.  The files are checked
# through the archive that its authors publish; copies laid out by hand only by their form.
CIFAR10 = Source(
    title="CIFAR-10",
    home="cifar10",
    keras=("cifar-10-batches-bin",),
    data=("cifar-10-batches-bin", "cifar10"),
    files=tuple(
        File(name, 30_730_000, "")
        for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
    ),
    mirrors=("https://www.cs.toronto.edu/~kriz/",),
    archive=Archive(
        "cifar-10-binary.tar.gz",
        170_052_171,
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        "cifar-10-batches-bin",
    ),
)
