"""The table that ``pycnn lab`` ends with: the published figures, and ours below them."""

from __future__ import annotations

from collections.abc import Sequence

from pycnn.labs.frame import Published, Result, Variation

__all__ = ["comparison", "mean_result"]

_HEADER: tuple[str, ...] = (
    "",
    "training accuracy by epoch",
    "training loss by epoch",
    "validation loss",
    "test accuracy",
    "test loss",
)


def comparison(variation: Variation, results: dict[str, Result]) -> str:
    """The lines of a table; columns that nobody has a figure for are left out."""
    rows = [_HEADER]
    rows += [_published_row(row) for row in variation.published]
    rows += [_row(label, result) for label, result in results.items()]
    if len(results) > 1:
        rows.append(_row(f"mean of {len(results)} seeds", mean_result(list(results.values()))))
    keep = [
        column
        for column in range(len(_HEADER))
        if column == 0 or any(row[column] != "-" for row in rows[1:])
    ]
    widths = [max(len(row[column]) for row in rows) for column in keep]
    lines = [
        "  ".join(row[column].ljust(width) for column, width in zip(keep, widths, strict=True))
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def mean_result(results: Sequence[Result]) -> Result:
    """The mean of several trainings of equal length."""

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if len(known) == len(values) else None

    keys = results[0].history
    return Result(
        {key: _mean_curve([result.history[key] for result in results]) for key in keys},
        mean([result.test_loss for result in results]),
        mean([result.test_accuracy for result in results]),
    )


def _mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    return [sum(column) / len(column) for column in zip(*curves, strict=True)]


def _published_row(row: Published) -> tuple[str, ...]:
    label = f"published, {row.source}" + (f" ({row.note})" if row.note else "")
    return (
        label,
        _curve(row.accuracy),
        _curve(row.loss),
        _number(row.val_loss, 4),
        _percent(row.test_accuracy),
        _number(row.test_loss, 4),
    )


def _row(label: str, result: Result) -> tuple[str, ...]:
    history = result.history
    validation = history.get("val_loss")
    return (
        label,
        _curve(_shortened(history.get("accuracy"))),
        _curve(_shortened(history.get("loss"))),
        _number(validation[-1] if validation else None, 4),
        _percent(result.test_accuracy),
        _number(result.test_loss, 4),
    )


def _shortened(values: Sequence[float] | None) -> Sequence[float] | None:
    # Fifty epochs make no line of a table: the last one tells where it ended.
    return values if values is None or len(values) <= 10 else values[-1:]


def _curve(values: Sequence[float | None] | None) -> str:
    return " ".join(_number(value, 4) for value in values) if values else "-"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}".removeprefix("0")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"
