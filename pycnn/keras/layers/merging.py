"""Layers that join several inputs: Add, Concatenate and their relatives."""

from __future__ import annotations

from functools import reduce
from typing import Any

from pycnn import ops
from pycnn._core import Tensor
from pycnn.keras._maps import Maps, channels_last, maps_axis
from pycnn.keras.layers.arguments import axis_of
from pycnn.keras.layers.base_layer import Layer

__all__ = [
    "Add",
    "Average",
    "Concatenate",
    "Maximum",
    "Minimum",
    "Multiply",
    "Subtract",
    "add",
    "average",
    "concatenate",
    "maximum",
    "minimum",
    "multiply",
    "subtract",
]

Shape = tuple[int | None, ...]


def _broadcast(a: Shape, b: Shape, layer: str) -> Shape:
    """The shape of an elementwise op on examples of these shapes (batch left out)."""
    if len(a) < len(b):
        a, b = b, a
    sizes = list(a[: len(a) - len(b)])
    for i, j in zip(a[len(a) - len(b) :], b, strict=True):
        if i is None or j is None:
            sizes.append(None)
        elif i != j and 1 not in (i, j):
            raise ValueError(
                f'Layer "{layer}": inputs have incompatible shapes {a} and {b} (without the '
                "batch); sizes must be equal or 1."
            )
        else:
            sizes.append(j if i == 1 else i)
    return tuple(sizes)


def _is_list_of_shapes(shapes: Any) -> bool:
    return (
        isinstance(shapes, (list, tuple))
        and len(shapes) > 0
        and all(isinstance(shape, (list, tuple)) for shape in shapes)
    )


class _Merge(Layer):
    """Common part of the elementwise merges."""

    _takes_maps = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def _merge(self, inputs: list[Tensor]) -> Any:
        raise NotImplementedError

    def _check(self, shapes: Any) -> None:
        if not _is_list_of_shapes(shapes):
            raise ValueError(
                f'Layer "{self.name}": a merge layer should be called on a list of inputs, '
                f"{type(self).__name__}()([a, b]); got one input of shape {shapes}."
            )
        batches = {shape[0] for shape in shapes if shape} - {None}
        if len(batches) > 1:
            raise ValueError(
                f'Layer "{self.name}": cannot merge inputs with different batch sizes; got '
                f"shapes {list(shapes)}."
            )

    def build(self, input_shape: Any) -> None:
        """Check the shapes; there are no weights."""
        self._check(input_shape)
        self.compute_output_shape(input_shape)

    def call(self, inputs: Any) -> Any:
        """Merge the inputs."""
        if not isinstance(inputs, (list, tuple)):
            raise ValueError(
                f'Layer "{self.name}": a merge layer should be called on a list of inputs, '
                f"{type(self).__name__}()([a, b]); got one input of shape {inputs.shape}."
            )
        self._check([tuple(x.shape) for x in inputs])
        if all(isinstance(x, Maps) for x in inputs):
            return Maps(self._merge([x.tensor for x in inputs]))
        tensors = [channels_last(x) for x in inputs]
        rank = max(x.ndim for x in tensors)
        for index, x in enumerate(tensors):
            if x.ndim < rank:
                shape = (x.shape[0], *(1,) * (rank - x.ndim), *x.shape[1:])
                tensors[index] = ops.reshape(x, shape=shape)
        return self._merge(tensors)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The broadcast shape.

        Raises
        ------
        ValueError
            If the shapes do not fit together.
        """
        self._check(input_shape)
        rest = reduce(
            lambda a, b: _broadcast(a, b, self.name), [tuple(shape[1:]) for shape in input_shape]
        )
        batches = {shape[0] for shape in input_shape if shape} - {None}
        return (batches.pop() if len(batches) == 1 else None, *rest)


class Add(_Merge):
    """The sum of the inputs.

    Source: keras.layers.Add.
    """

    def _merge(self, inputs: list[Tensor]) -> Any:
        return reduce(ops.add, inputs)


class Subtract(_Merge):
    """The first input minus the second.

    Source: keras.layers.Subtract.
    """

    def _check(self, shapes: Any) -> None:
        super()._check(shapes)
        if len(shapes) != 2:
            raise ValueError(
                f'Layer "{self.name}": a Subtract layer should be called on exactly 2 inputs, '
                f"got {len(shapes)}."
            )

    def _merge(self, inputs: list[Tensor]) -> Any:
        return ops.sub(inputs[0], inputs[1])


class Multiply(_Merge):
    """The product of the inputs.

    Source: keras.layers.Multiply.
    """

    def _merge(self, inputs: list[Tensor]) -> Any:
        return reduce(ops.mul, inputs)


class Average(_Merge):
    """The mean of the inputs.

    Source: keras.layers.Average.
    """

    def _merge(self, inputs: list[Tensor]) -> Any:
        return ops.div(reduce(ops.add, inputs), float(len(inputs)))


class Maximum(_Merge):
    """The largest of the inputs, element by element.

    Source: keras.layers.Maximum.
    """

    def _merge(self, inputs: list[Tensor]) -> Any:
        return reduce(ops.maximum, inputs)


class Minimum(_Merge):
    """The smallest of the inputs, element by element.

    Source: keras.layers.Minimum.
    """

    def _merge(self, inputs: list[Tensor]) -> Any:
        return reduce(ops.minimum, inputs)


class Concatenate(_Merge):
    """Puts the inputs behind one another along an axis.

    Parameters
    ----------
    axis : int
        The axis, counted as the user sees the inputs; -1 is the channels.

    Source: keras.layers.Concatenate.
    """

    _takes_maps = True

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis_of(axis, "Concatenate")

    def _check(self, shapes: Any) -> None:
        if not _is_list_of_shapes(shapes):
            raise ValueError(
                f'Layer "{self.name}": a Concatenate layer should be called on a list of inputs, '
                f"Concatenate()([a, b]); got one input of shape {shapes}."
            )
        rank = len(shapes[0])
        fits = all(len(shape) == rank for shape in shapes) and -rank <= self.axis < rank
        if fits:
            along = self.axis % rank
            for position in range(rank):
                sizes = {shape[position] for shape in shapes} - {None}
                fits = fits and (position == along or len(sizes) <= 1)
        if not fits:
            raise ValueError(
                f'Layer "{self.name}": a Concatenate layer requires inputs with matching shapes '
                f"except for the concatenation axis {self.axis}; got shapes {list(shapes)}."
            )

    def call(self, inputs: Any) -> Any:
        """Concatenate the inputs."""
        if not isinstance(inputs, (list, tuple)):
            inputs_shape = tuple(inputs.shape)
            self._check(inputs_shape)
        self._check([tuple(x.shape) for x in inputs])
        if all(isinstance(x, Maps) for x in inputs):
            axis = maps_axis(self.axis % 4)
            return Maps(ops.concat(*[x.tensor for x in inputs], axis=axis))
        tensors = [channels_last(x) for x in inputs]
        return ops.concat(*tensors, axis=self.axis % tensors[0].ndim)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape with the sizes along the axis summed."""
        self._check(input_shape)
        sizes = list(input_shape[0])
        along = [shape[self.axis] for shape in input_shape]
        sizes[self.axis] = None if None in along else sum(along)
        for position in range(len(sizes)):
            if position != self.axis % len(sizes) and sizes[position] is None:
                known = {shape[position] for shape in input_shape} - {None}
                sizes[position] = known.pop() if known else None
        return tuple(sizes)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "axis": self.axis}


def add(inputs: Any, **kwargs: Any) -> Any:
    """``Add(**kwargs)(inputs)``."""
    return Add(**kwargs)(inputs)


def subtract(inputs: Any, **kwargs: Any) -> Any:
    """``Subtract(**kwargs)(inputs)``."""
    return Subtract(**kwargs)(inputs)


def multiply(inputs: Any, **kwargs: Any) -> Any:
    """``Multiply(**kwargs)(inputs)``."""
    return Multiply(**kwargs)(inputs)


def average(inputs: Any, **kwargs: Any) -> Any:
    """``Average(**kwargs)(inputs)``."""
    return Average(**kwargs)(inputs)


def maximum(inputs: Any, **kwargs: Any) -> Any:
    """``Maximum(**kwargs)(inputs)``."""
    return Maximum(**kwargs)(inputs)


def minimum(inputs: Any, **kwargs: Any) -> Any:
    """``Minimum(**kwargs)(inputs)``."""
    return Minimum(**kwargs)(inputs)


def concatenate(inputs: Any, axis: int = -1, **kwargs: Any) -> Any:
    """``Concatenate(axis=axis, **kwargs)(inputs)``."""
    return Concatenate(axis=axis, **kwargs)(inputs)
