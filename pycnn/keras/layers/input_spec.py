"""What a layer expects of its inputs, and the words when they do not fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pycnn.keras._errors import shape_text
from pycnn.keras.keras_tensor import dtype_name
from pycnn.keras.layers._tree import flatten

__all__ = ["InputSpec", "check_inputs", "shape_hint"]


class InputSpec:
    """Rank, sizes and dtype that a layer accepts for one input.

    Parameters
    ----------
    dtype : str, optional
        The dtype that the input must have.
    shape : tuple, optional
        The whole shape; None for a size that may be anything.
    ndim, max_ndim, min_ndim : int, optional
        The rank, or limits on it.
    axes : dict, optional
        Sizes of some axes, ``{-1: 64}``.
    allow_last_axis_squeeze : bool
        Whether a last axis of size 1 may be missing or added.
    name : str, optional
        Name of the input, for messages and dictionaries of inputs.
    optional : bool
        Whether None may be passed.
    """

    def __init__(
        self,
        dtype: Any = None,
        shape: Sequence[int | None] | None = None,
        ndim: int | None = None,
        max_ndim: int | None = None,
        min_ndim: int | None = None,
        axes: dict[int, int | None] | None = None,
        allow_last_axis_squeeze: bool = False,
        name: str | None = None,
        optional: bool = False,
    ) -> None:
        self.dtype = dtype_name(dtype) if dtype is not None else None
        self.shape = tuple(shape) if shape is not None else None
        self.ndim = len(self.shape) if self.shape is not None else ndim
        self.max_ndim = max_ndim
        self.min_ndim = min_ndim
        self.name = name
        self.optional = optional
        self.allow_last_axis_squeeze = allow_last_axis_squeeze
        try:
            self.axes = {int(k): v for k, v in (axes or {}).items()}
        except (TypeError, ValueError, AttributeError):
            raise TypeError(
                f"InputSpec: axes must be a dict with integer keys, got {axes!r}."
            ) from None
        limit = self.ndim or self.max_ndim
        if self.axes and limit is not None and max(self.axes) > limit - 1:
            raise ValueError(
                f"InputSpec: axis {max(self.axes)} is greater than the maximum allowed value "
                f"{limit - 1}."
            )

    def __repr__(self) -> str:
        names = ("dtype", "shape", "ndim", "max_ndim", "min_ndim", "axes")
        given = [f"{name}={getattr(self, name)}" for name in names if getattr(self, name)]
        return f"InputSpec({', '.join(given)})"

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("dtype", "shape", "ndim", "max_ndim", "min_ndim", "axes", "optional")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> InputSpec:
        """The spec described by `get_config`."""
        return cls(**config)


def shape_hint(got: Sequence[int | None], expected: Sequence[int | None] | None) -> str:
    """The fix in code for a shape that does not fit, as a sentence; empty if none is known.

    Parameters
    ----------
    got : sequence
        The shape that came.
    expected : sequence, optional
        The shape that is wanted, the batch first.
    """
    if expected is None:
        return ""
    sizes, wanted = list(got), list(expected[1:])

    def fits(found: Sequence[int | None]) -> bool:
        return len(found) == len(wanted) and all(
            w is None or f is None or w == f for f, w in zip(found, wanted, strict=True)
        )

    if fits(sizes):
        return " This looks like one example without the batch axis: use `x[None]`."
    if wanted and wanted[-1] == 1 and len(sizes) == len(wanted) - 1 and fits([*sizes, 1]):
        return " This looks like one picture: use `x[None, ..., None]`."
    if wanted and wanted[-1] == 1 and fits([*sizes[1:], 1]):
        return " The channel axis is missing: use `x[..., None]`."
    if len(wanted) >= 2 and len(sizes) == len(wanted) + 1:
        moved = [*sizes[2:], sizes[1]]
        if moved != sizes[1:] and fits(moved):
            return " This looks channels-first: use `np.moveaxis(x, 1, -1)`."
        if len(wanted) == 1:
            return ""
    known = [size for size in wanted if size is not None]
    if len(sizes) == 2 and len(known) == len(wanted) > 1 and math.prod(known) == sizes[1]:
        shape = ", ".join(str(size) for size in known)
        return f" Give each row its shape: use `x.reshape(-1, {shape})`."
    if len(wanted) == 1 and len(sizes) > 2:
        total = 1
        for size in sizes[1:]:
            total *= size or 0
        if wanted[0] is None or total == wanted[0]:
            return " Flatten it: use `x.reshape(len(x), -1)` or a Flatten layer."
    return ""


def _expected_text(spec: InputSpec, rank: int) -> str:
    """The accepted shapes written as one, such as (N, H, W, 3)."""
    if spec.shape is not None:
        return shape_text(spec.shape, "N")
    count = spec.ndim or spec.min_ndim or rank
    sizes: list[Any] = ["..."] * count
    if count == 4:
        sizes = ["N", "H", "W", "C"]
    elif count:
        sizes[0] = "N"
        if count > 1:
            sizes[-1] = "features"
    for axis, size in spec.axes.items():
        if size is not None and -count <= axis < count:
            sizes[axis] = size
    return f"({', '.join(str(s) for s in sizes)}{',' if count == 1 else ''})"


def _refuse(
    index: int, layer: str, shape: tuple[int | None, ...], spec: InputSpec, what: str
) -> ValueError:
    hint = ""
    channels = spec.axes.get(-1)
    if spec.shape is not None:
        hint = shape_hint(shape, spec.shape)
    elif (spec.min_ndim or spec.ndim) == 4 and shape[:1] == (None,):
        hint = _hint_while_building(shape)
    elif (spec.min_ndim or spec.ndim) == 4:
        if len(shape) == 3:
            if channels is not None and shape[-1] == channels:
                hint = " One picture needs a batch axis: use `x[None]`."
            elif channels == 1 or (channels is None and (shape[-1] or 9) > 4):
                hint = " The channel axis is missing: use `x[..., None]`."
            else:
                hint = " One picture needs a batch axis: use `x[None]`."
        elif len(shape) == 2:
            hint = " One picture needs batch and channel axes: use `x[None, ..., None]`."
        elif channels is not None and len(shape) == 4 and shape[1] == channels:
            hint = " This looks channels-first: use `np.moveaxis(x, 1, -1)`."
    elif spec.min_ndim == 2 and len(shape) == 1:
        hint = " One example needs a batch axis: use `x[None]`."
    elif spec.ndim is not None and len(shape) == spec.ndim - 1:
        hint = " If this is one example, give it a batch axis: use `x[None]`."
    return ValueError(
        f'Input {index} of layer "{layer}" is incompatible with the layer: {what}; expected '
        f"shape {_expected_text(spec, len(shape))}, got shape {shape_text(shape, 'N')}.{hint}"
    )


def _hint_while_building(shape: tuple[int | None, ...]) -> str:
    """The fix for a layer of maps that gets something else while a model is put together."""
    sizes = ", ".join(str(size) for size in shape[1:])
    if len(shape) == 2:
        return (
            " It takes maps of height, width and channels: put it before Flatten or Dense, or "
            "give its input that shape by Reshape."
        )
    if len(shape) == 3:
        return f" The channel axis is missing: use `x[..., None]`, and Input(({sizes}, 1))."
    if len(shape) == 5:
        rest = ", ".join(str(size) for size in shape[2:])
        return (
            f" Input takes the shape of one example, without their number: Input(({rest})) if "
            f"{shape[1]} is that number."
        )
    return ""


def check_inputs(specs: Any, inputs: Any, layer: str) -> None:
    """Check inputs against a layer's specs.

    Raises
    ------
    ValueError
        If the number of inputs, a rank, a size or a dtype does not fit.
    """
    if not specs:
        return
    flat_specs: list[InputSpec | None] = flatten(specs)
    if isinstance(inputs, dict):
        names = [spec.name for spec in flat_specs if spec is not None and spec.name]
        if len(names) == len(flat_specs):
            for name in names:
                if name not in inputs:
                    raise ValueError(
                        f'Layer "{layer}": missing data for input "{name}". The dictionary has '
                        f"the keys {list(inputs)}; expected {names}."
                    )
            inputs = [inputs[name] for name in names]
    flat = flatten(inputs)
    if len(flat) != len(flat_specs):
        raise ValueError(
            f'Layer "{layer}" expects {len(flat_specs)} input(s), but it received {len(flat)} '
            "input tensors."
        )
    for index, (x, spec) in enumerate(zip(flat, flat_specs, strict=True)):
        if spec is None or (x is None and spec.optional):
            continue
        if not hasattr(x, "shape"):
            raise ValueError(
                f'Input {index} of layer "{layer}" should be a tensor, got {x!r} (of type '
                f"{type(x).__name__})."
            )
        _check_one(index, x, spec, layer)


def _check_one(index: int, x: Any, spec: InputSpec, layer: str) -> None:
    shape: tuple[int | None, ...] = tuple(x.shape)
    ndim = len(shape)
    if spec.ndim is not None and not spec.allow_last_axis_squeeze and ndim != spec.ndim:
        raise _refuse(index, layer, shape, spec, f"expected ndim={spec.ndim}, found ndim={ndim}")
    if spec.max_ndim is not None and ndim > spec.max_ndim:
        raise _refuse(
            index, layer, shape, spec, f"expected max_ndim={spec.max_ndim}, found ndim={ndim}"
        )
    if spec.min_ndim is not None and ndim < spec.min_ndim:
        raise _refuse(
            index, layer, shape, spec, f"expected min_ndim={spec.min_ndim}, found ndim={ndim}"
        )
    if spec.dtype is not None and dtype_name(x.dtype) != spec.dtype:
        raise ValueError(
            f'Input {index} of layer "{layer}" is incompatible with the layer: expected '
            f"dtype={spec.dtype}, found dtype={dtype_name(x.dtype)}."
        )
    for axis, size in spec.axes.items():
        if size is not None and -ndim <= axis < ndim and shape[axis] not in (size, None):
            raise _refuse(
                index,
                layer,
                shape,
                spec,
                f"expected axis {axis} of the input's shape to have the value {size}, "
                f"found {shape[axis]}",
            )
    if spec.shape is not None and not _shape_fits(shape, spec):
        raise _refuse(index, layer, shape, spec, "the shape does not fit")


def _shape_fits(shape: tuple[int | None, ...], spec: InputSpec) -> bool:
    wanted = spec.shape or ()
    if spec.allow_last_axis_squeeze and len(shape) != len(wanted):
        # A last axis of one may be left out or added; the batch axis may not.
        if len(shape) == len(wanted) - 1 and wanted[-1] == 1:
            wanted = wanted[:-1]
        elif len(shape) == len(wanted) + 1 and shape[-1] == 1:
            shape = shape[:-1]
    return len(shape) == len(wanted) and all(
        w is None or s is None or w == s for s, w in zip(shape, wanted, strict=True)
    )
