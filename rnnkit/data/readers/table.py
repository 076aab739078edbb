"""CSV files: tables of text, and tables of numbers."""

from __future__ import annotations

import csv
import math
import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

import numpy as np

from rnnkit.checks import check_bool, check_choice, check_list
from rnnkit.data.readers.text import read_text
from rnnkit.errors import ArgumentError
from rnnkit.forks import release_after_fork

_LIMIT_LOCK = threading.Lock()
release_after_fork(_LIMIT_LOCK)
_DELIMITERS = ",;\t|"
# What float() takes besides ("1_000", "infinity", digits of any script) is no number in a table.
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_BY_DECIMAL = {".": _NUMBER, ",": re.compile(_NUMBER.pattern.replace(r"\.", ","), re.ASCII)}
# With separators of thousands, which are not read: "1,234.5" may be meant, or "1.234,5".
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:(?:,\d{3})+(?:\.\d*)?|(?:\.\d{3})+(?:,\d*)?)", re.ASCII)
_MISSING = frozenset({"", "?", "-", "na", "n/a", "nan", "null", "none"})


class Table(NamedTuple):
    """Numbers in columns.

    Attributes:
        names: of the columns, "column 0" and so on where the file has none.
        values: (L, C) float64.
    """

    names: tuple[str, ...]
    values: np.ndarray


class TextTable(NamedTuple):
    """Cells as they stand in the file.

    Attributes:
        names: the header's cells; None where there is no header.
        rows: the cells of each row below it.
        lines: the line of the file on which each row begins.
    """

    names: tuple[str, ...] | None
    rows: list[list[str]]
    lines: list[int]


def read_table(
    path: str | os.PathLike[str],
    columns: Sequence[str | int] | None = None,
    *,
    header: bool | None = None,
    delimiter: str | None = None,
    decimal: str = ".",
    missing: str = "refuse",
) -> Table:
    """The numbers of a CSV file.

    Args:
        columns: names or numbers (from 0) of the columns to read, in the order wanted; by default
            all whose first cell that is not missing is a number, which leaves out dates; one with
            another decimal mark, or with separators of thousands, is refused as any cell is.
        header: whether the first row holds names; by default found out: it does when some column
            has no number there and one in the row below.
        delimiter: by default the one of comma, semicolon, tabulator and bar that cuts the first
            two rows alike, and the first into most cells; not the comma where the cells between
            others are numbers with decimal commas, nor in one column of such.
        decimal: what stands before the fractions, "." or ",". Separators of thousands are not
            read.
        missing: what to do with an empty cell, or one that says ``?``, ``-``, ``NA``, ``N/A``,
            ``NaN``, ``null`` or ``none``: "refuse" it, or "carry" the last value of the column
            forward.

    Raises:
        ArgumentError: naming file, line and column, for a cell that is no finite number; for a
            column that there is not, rows of different lengths, quotes that do not close, a file
            without rows of numbers; and as ``read_text`` does.
    """
    _checked_columns(columns, decimal, missing)
    table = read_text_table(path, header=header, delimiter=delimiter, decimal=decimal)
    return numbers_of(table, path, columns, decimal=decimal, missing=missing)


def _checked_columns(
    columns: Sequence[str | int] | None, decimal: str, missing: str
) -> Sequence[str | int] | None:
    """Which columns, once it is known that they can be read so."""
    check_choice("missing", missing, ("refuse", "carry"))
    check_choice("decimal", decimal, _BY_DECIMAL)
    if columns is None:
        return None
    return check_list("columns", columns, "names or numbers of columns")


def numbers_of(
    table: TextTable,
    path: str | os.PathLike[str],
    columns: Sequence[str | int] | None = None,
    *,
    decimal: str = ".",
    missing: str = "refuse",
) -> Table:
    """The numbers of a table that was read from ``path``; arguments and errors as above."""
    columns = _checked_columns(columns, decimal, missing)
    path = os.fspath(path)
    names, rows, lines = table
    if not rows:
        raise ArgumentError(f"{path}: no rows below the header")
    width = len(rows[0])
    known = names if names is not None else tuple(f"column {place}" for place in range(width))
    if columns is None:
        places = [place for place in range(width) if _is_numeric(rows, place)]
        if not places:
            raise ArgumentError(f"{path}: no column of numbers")
    else:
        places = [find_column(path, names, width, column) for column in columns]
        if not places:
            raise ArgumentError("columns: expected at least one, got none")
    values = np.empty((len(rows), len(places)))
    for c, place in enumerate(places):
        last: float | None = None
        for r, row in enumerate(rows):
            cell = row[place].strip()
            where = f"{path}:{lines[r]}: column {known[place]!r}"
            if cell.lower() not in _MISSING:
                last = _number(cell, where, decimal)
            elif missing == "refuse":
                raise ArgumentError(f"{where}: no value ({cell!r}); missing='carry' takes the last")
            elif last is None:
                raise ArgumentError(f"{where}: no value ({cell!r}), and none before it to carry")
            values[r, c] = last
    return Table(tuple(known[place] for place in places), values)


def read_text_table(
    path: str | os.PathLike[str],
    *,
    header: bool | None = None,
    delimiter: str | None = None,
    decimal: str = ".",
) -> TextTable:
    """The cells of a CSV file as texts, blank lines left out; arguments and errors as above.

    Quotes are those of RFC 4180: a cell in double quotes may hold delimiters, line ends and
    doubled quotes.
    """
    name = os.fspath(path)
    check_choice("decimal", decimal, _BY_DECIMAL)
    header = None if header is None else check_bool("header", header)
    is_one = isinstance(delimiter, str) and len(delimiter) == 1 and delimiter not in '"\r\n'
    if delimiter is not None and not is_one:
        raise ArgumentError(f"delimiter: expected a single character, got {delimiter!r}")
    lines_of_text = [line + "\n" for line in read_text(name).split("\n")]
    rows: list[list[str]] = []
    lines: list[int] = []
    begin = 1
    with _cells_of_any_length():
        mark = delimiter or _guess_delimiter(lines_of_text, decimal)
        reader = csv.reader(lines_of_text, delimiter=mark, strict=True)
        try:
            for row in reader:
                if any(cell.strip() for cell in row):
                    if rows and len(row) != len(rows[0]):
                        raise ArgumentError(
                            f"{name}:{begin}: expected {len(rows[0])} cells as in the first row, "
                            f"got {len(row)}"
                        )
                    rows.append(row)
                    lines.append(begin)
                begin = reader.line_num + 1
        except csv.Error as error:
            raise ArgumentError(f"{name}:{begin}: not CSV: {error}") from None
    if not rows:
        raise ArgumentError(f"{name}: the file is empty; expected rows of cells")
    if header is None:
        header = _has_header(rows)
    if not header:
        return TextTable(None, rows, lines)
    names = tuple(cell.strip() for cell in rows[0])
    return TextTable(names, rows[1:], lines[1:])


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    """Without the csv module's limit, which is one for all threads, and is as it was afterwards."""
    with _LIMIT_LOCK:
        before = csv.field_size_limit(sys.maxsize)
        try:
            yield
        finally:
            csv.field_size_limit(before)


def find_column(path: str, names: tuple[str, ...] | None, width: int, column: str | int) -> int:
    """The place of a column given by name or number; ArgumentError lists what there is."""
    if isinstance(column, int | np.integer) and not isinstance(column, bool):
        if not 0 <= column < width:
            raise ArgumentError(f"{path}: no column {column}; the columns are 0 to {width - 1}")
        return int(column)
    if names is None:
        raise ArgumentError(f"{path}: no column {column!r}: the file has no header; use numbers")
    if names.count(column) != 1:
        what = "no column" if column not in names else "several columns"
        raise ArgumentError(f"{path}: {what} {column!r}; the columns are {', '.join(names)}")
    return names.index(column)


def parse_numbers(text: str, where: str) -> list[float]:
    """The numbers of a cell that holds several, with white space between them."""
    return [_number(cell, where) for cell in text.split()]


def _number(cell: str, where: str, decimal: str | None = None) -> float:
    """``decimal``: the mark that was chosen, where one can be."""
    is_number = _BY_DECIMAL[decimal or "."].fullmatch(cell)
    value = float(cell.replace(",", ".")) if is_number else math.nan
    if not math.isfinite(value):
        hint = ""
        other = "." if decimal == "," else ","
        if decimal and not is_number and _BY_DECIMAL[other].fullmatch(cell):
            hint = f"; with decimal={other!r} it is one"
        if _GROUPED.fullmatch(cell):
            hint += "; separators of thousands are not read"
        raise ArgumentError(f"{where}: expected a number, got {cell[:40]!r}{hint}")
    return value


def _is_number(cell: str) -> bool:
    """Whether a number is meant, with whatever decimal mark."""
    cell = cell.strip()
    return any(each.fullmatch(cell) for each in (*_BY_DECIMAL.values(), _GROUPED))


def _is_numeric(rows: list[list[str]], place: int) -> bool:
    for row in rows:
        if row[place].strip().lower() not in _MISSING:
            return _is_number(row[place])
    return False


def _has_header(rows: list[list[str]]) -> bool:
    if len(rows) == 1:
        return not any(map(_is_number, rows[0]))
    return any(
        not _is_number(first) and first.strip().lower() not in _MISSING and _is_number(second)
        for first, second in zip(rows[0], rows[1], strict=True)
    )


def _guess_delimiter(lines: list[str], decimal: str) -> str:
    first_two = list(islice(filter(str.strip, lines), 2))
    by_commas = [_cut(line, ",") for line in first_two]
    # The commas of "1,5" and "2,5" alone may be either; that of "x" and "1,5" cuts nothing alike.
    one_column = all("," not in line or _has_decimal_commas([line]) for line in first_two) and (
        decimal == "," or len(by_commas[0]) != len(by_commas[-1])
    )

    def rank(mark: str) -> tuple[bool, bool, int, bool]:
        rows = [_cut(line, mark) for line in first_two]
        count = len(rows[0])
        alike = count == len(rows[-1]) > 1
        cut = alike or one_column
        between_decimals = mark != "," and cut and any(map(_has_decimal_commas, rows))
        return between_decimals, alike, count, mark != "," and (count > 1 or decimal == ",")

    return max(_DELIMITERS, key=rank)


def _cut(line: str, mark: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=mark))
    except csv.Error:  # which the reader of all lines meets, too
        return []


def _has_decimal_commas(row: list[str]) -> bool:
    """Whether all commas of a row, of which it has some, are those of numbers."""
    cells = [cell.strip() for cell in row if "," in cell]
    return bool(cells) and all(_BY_DECIMAL[","].fullmatch(cell) for cell in cells)
