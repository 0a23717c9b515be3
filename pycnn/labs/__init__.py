"""Coursework labs, each an ordinary program in Keras's vocabulary: ``pycnn lab`` runs them.

A lab's file begins with what a student would write; below it stand the published figures and the
few lines that let ``pycnn lab`` run its variations.
"""

from __future__ import annotations

from pycnn.labs.frame import Lab, Published, Result, Variation

__all__ = ["LABS", "Lab", "Published", "Result", "Variation", "load_lab"]

# Name, module, and the line that `pycnn lab` prints without importing the lab.
LABS: dict[str, tuple[str, str]] = {
    "mnist-batchnorm": (
        "pycnn.labs.mnist_batchnorm",
        "MNIST, two convolutions with batch normalisation and dropout (lab 1)",
    ),
    "mnist-same-sigmoid": (
        "pycnn.labs.mnist_same_sigmoid",
        "MNIST, 'same' padding and sigmoid, 50 epochs (lab 3)",
    ),
}


def load_lab(name: str) -> Lab:
    """The lab of a name.

    Raises
    ------
    ValueError
        There is no such lab; the message lists those that there are.
    """
    import importlib

    if name not in LABS:
        raise ValueError(f"there is no lab {name!r}; there are: {', '.join(LABS)}")
    lab: Lab = importlib.import_module(LABS[name][0]).LAB
    return lab
