"""Tables are read by row; a quoted value may span lines, and a broken row is an error of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from x2kit.data.index.tables import TableIndex, is_table
from x2kit.errors import DataError, Reason


def table(folder: Path, content: str | bytes, name: str = "a.csv") -> TableIndex:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return TableIndex(str(path))


def rows(index: TableIndex) -> list[dict[str, str]]:
    return [index.read(row) for row in range(len(index))]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["", "end"])
def test_rows_are_read_by_position(tmp_path: Path, end: str, last: str) -> None:
    index = table(tmp_path, f"\ufeffvideo,a0{end}1,why{end}{end}2,how{end if last else ''}")
    assert rows(index) == [{"video": "1", "a0": "why"}, {"video": "2", "a0": "how"}]
    assert index.numbers.tolist() == [2, 4]


def test_a_quoted_value_spans_lines_and_has_commas(tmp_path: Path) -> None:
    index = table(tmp_path, 'q,a\n"one, ""two""\n\nthree",4\n5,6\n')
    assert rows(index) == [{"q": 'one, "two"\n\nthree', "a": "4"}, {"q": "5", "a": "6"}]
    assert index.numbers.tolist() == [2, 5]


def test_values_are_separated_by_tabs_in_tsv(tmp_path: Path) -> None:
    assert rows(table(tmp_path, "q\ta\nx,y\t2\n", "a.tsv")) == [{"q": "x,y", "a": "2"}]
    assert [is_table(name) for name in ("a.CSV", "s3://b/a.tsv", "a.json")] == [True, True, False]


def test_a_row_of_another_length_is_broken_alone(tmp_path: Path) -> None:
    index = table(tmp_path, "q,a\n1\n2,3\n")
    assert index.read(1) == {"q": "2", "a": "3"}
    with pytest.raises(DataError, match="1 values, but the header has 2 fields: q, a") as found:
        index.read(0)
    assert found.value.reason is Reason.FIELD_MISSING


def test_bytes_that_are_not_utf8_leave_the_other_rows_readable(tmp_path: Path) -> None:
    index = table(tmp_path, b"q,a\n\xff,1\n2,3\n")
    assert index.read(1) == {"q": "2", "a": "3"}
    assert index.read(0) == {"q": "\udcff", "a": "1"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no header line"),
        ("a,a\n1,2\n", "two fields have one name in the header a, a"),
        ('a,b\n1,2\n3,"4\n', r"a\.csv:3: not a table: unexpected end of data"),
    ],
)
def test_another_content_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        table(tmp_path, content)
