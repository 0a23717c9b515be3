"""A table drawn with box characters, with the look of Keras's summary."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["draw_table", "inner_widths"]


def inner_widths(columns: Sequence[int], line_length: int) -> list[int]:
    """Room for text in each column of a table that is `line_length` wide.

    The columns' wishes, each with a space on both sides, are more than the line holds; the
    surplus is taken from all columns alike.
    """
    widths = [width + 2 for width in columns]
    room = line_length - len(columns) - 1
    surplus = sum(widths) - room
    left = len(widths)
    for index, width in enumerate(widths):
        if surplus <= 0:
            break
        share = min(width, round(surplus / left))
        widths[index] -= share
        surplus -= share
        left -= 1
    return [max(width - 2, 1) for width in widths]


def _wrap(text: str, width: int) -> list[str]:
    """Lines of at most `width` characters, broken at spaces; longer words are cut by "…"."""
    lines: list[str] = []
    line = ""
    # Spaces in front belong to the text: they show how deep a layer is nested.
    indent = len(text) - len(text.lstrip(" "))
    words = text[indent:].split(" ")
    words[0] = " " * indent + words[0]
    for word in words:
        if not line:
            line = word
        elif len(line) + 1 + len(word) <= width:
            line += " " + word
        else:
            lines.append(line)
            line = word
    lines.append(line)
    return [text if len(text) <= width else text[: width - 1] + "…" for text in lines]


def _cells(row: Sequence[str], widths: Sequence[int], align: Sequence[str]) -> list[list[str]]:
    """The lines of a row, each a list of padded texts."""
    wrapped = [_wrap(text, width) for text, width in zip(row, widths, strict=True)]
    height = max(len(lines) for lines in wrapped)
    result: list[list[str]] = []
    for number in range(height):
        line: list[str] = []
        for lines, width, side in zip(wrapped, widths, align, strict=True):
            text = lines[number] if number < len(lines) else ""
            if side == "right":
                line.append(text.rjust(width))
            elif side == "center":
                before = (width - len(text)) // 2
                line.append((" " * before + text).ljust(width))
            else:
                line.append(text.ljust(width))
        result.append(line)
    return result


def draw_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    align: Sequence[str],
    columns: Sequence[int],
    line_length: int,
) -> list[str]:
    """The lines of a table.

    Parameters
    ----------
    header : sequence of str
        Titles of the columns.
    rows : sequence of sequences of str
        The texts.
    align : sequence of str
        "left", "right" or "center" for each column.
    columns : sequence of int
        Wished widths; see `inner_widths`.
    line_length : int
        Width of the whole table.
    """
    widths = inner_widths(columns, line_length)

    def rule(left: str, dash: str, cross: str, right: str) -> str:
        return left + cross.join(dash * (width + 2) for width in widths) + right

    def text(row: Sequence[str], bar: str) -> list[str]:
        return [
            bar + bar.join(f" {cell} " for cell in line) + bar
            for line in _cells(row, widths, align)
        ]

    lines = [rule("┏", "━", "┳", "┓"), *text(header, "┃"), rule("┡", "━", "╇", "┩")]
    for number, row in enumerate(rows):
        if number:
            lines.append(rule("├", "─", "┼", "┤"))
        lines.extend(text(row, "│"))
    lines.append(rule("└", "─", "┴", "┘"))
    return lines
