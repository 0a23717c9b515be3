"""Which dtype a layer computes in: float32 or float64, the same for its weights.

Keras's mixed precision (compute in float16, keep weights in float32) is not offered.
"""

from __future__ import annotations

from typing import Any

from pycnn.keras.keras_tensor import dtype_name

__all__ = ["DTypePolicy", "get_policy"]

_NATIVE = ("float32", "float64")


class DTypePolicy:
    """The dtype of a layer's computation and weights.

    Parameters
    ----------
    name : str, optional
        "float32" or "float64"; ``floatx()`` when absent. Integer dtypes are accepted for
        layers without weights.

    Raises
    ------
    NotImplementedError
        For float16, bfloat16 and the mixed policies.
    """

    def __init__(self, name: str | None = None, source_name: str | None = None) -> None:
        if isinstance(name, str) and (name.startswith("mixed_") or name in ("float16", "bfloat16")):
            raise NotImplementedError(
                f"dtype={name!r}: half and mixed precision are not supported; use "
                '"float32" or "float64".'
            )
        try:
            self._name = dtype_name(name)
        except ValueError:
            raise ValueError(
                f"Cannot convert {name!r} to a dtype policy: expected one of {_NATIVE}."
            ) from None

    @property
    def name(self) -> str:
        """Name of the policy, which is its dtype."""
        return self._name

    @property
    def compute_dtype(self) -> str:
        """The dtype of the computation."""
        return self._name

    @property
    def variable_dtype(self) -> str:
        """The dtype of the weights."""
        return self._name

    @property
    def quantization_mode(self) -> None:
        """Always None: layers are not quantized."""
        return None

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {"name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> DTypePolicy:
        """The policy described by `get_config`."""
        return cls(**config)

    def serialize(self) -> dict[str, Any]:
        """The form in which a layer's config holds it."""
        return {
            "module": "keras",
            "class_name": "DTypePolicy",
            "config": self.get_config(),
            "registered_name": None,
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DTypePolicy) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self._name)

    def __repr__(self) -> str:
        return f'<DTypePolicy "{self.name}">'


def get_policy(identifier: Any) -> DTypePolicy:
    """The policy for None, a name, a dtype, a policy or a policy's config."""
    if isinstance(identifier, DTypePolicy):
        return identifier
    if isinstance(identifier, dict):
        if identifier.get("class_name") != "DTypePolicy":
            raise NotImplementedError(
                f"dtype policy {identifier.get('class_name')!r} is not supported; use "
                '"float32" or "float64".'
            )
        return DTypePolicy(**identifier.get("config", {}))
    if identifier is None or isinstance(identifier, str):
        return DTypePolicy(identifier)
    return DTypePolicy(dtype_name(identifier))
