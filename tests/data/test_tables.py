"""CSV files: what is read, and the place of what cannot be."""

import csv

import numpy as np
import pytest

from rnnkit.data import read_table, read_text_table
from rnnkit.errors import ArgumentError


@pytest.fixture
def table(tmp_path):
    def write(content, name="t.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_numbers_are_read_and_dates_left_out(table):
    path = table('"Month","Passengers","Rate"\n"1949-01",112,1.5\n"1949-02",-118,2e-3\n')
    found = read_table(path)
    assert found.names == ("Passengers", "Rate")
    assert found.values.dtype == np.float64
    assert found.values.tolist() == [[112, 1.5], [-118, 0.002]]


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,2\n3,4\n",
        "\ufeffa,b\r\n1,2\r\n3,4\r\n",
        "a;b\n1;2\n\n3;4",
        "a\tb\n1\t 2 \n3\t4\n",
        "a|b\r1|2\r3|4\r",
        '"a","b"\n"1","2"\n"3","4"\n',
        " a ,b\n+1,2.\n3.0,.4e1\n",
    ],
)
def test_marks_line_ends_delimiters_and_quotes(table, content):
    found = read_table(table(content))
    assert found.names == ("a", "b")
    assert found.values.tolist() == [[1, 2], [3, 4]]


def test_columns_by_name_and_number(table):
    path = table("t,x,y\n0,1,2\n3,4,5\n")
    assert read_table(path, ["y", 0]).names == ("y", "t")
    assert read_table(path, ["y", 0]).values.tolist() == [[2, 0], [5, 3]]
    bare = table("0,1,2\n3,4,5\n")
    assert read_table(bare).names == ("column 0", "column 1", "column 2")
    assert read_table(bare, [2]).values.tolist() == [[2], [5]]


def test_a_header_is_found_or_told(table):
    assert read_table(table("1,2\n")).values.tolist() == [[1, 2]]
    assert read_table(table("2001-01,5\n2001-02,6\n")).values.tolist() == [[5], [6]]
    assert read_table(table("1990,1991\n5,6\n"), header=True).names == ("1990", "1991")
    years = read_table(table("1990,1991\n5,6\n"))
    assert years.values.tolist() == [[1990, 1991], [5, 6]]
    assert read_text_table(table("x,y\n")).names == ("x", "y")


@pytest.mark.parametrize(
    "content",
    [
        "t;a;b\nx;1,5;-,25\ny;2;3,e1\n",
        't,a,b\nx,"1,5","-,25"\ny,2,"3,e1"\n',
        "t, s;a;b\nx;1,5;-,25\ny;2;3,e1\n",
        "t\ta\tb\nx\t1,5\t-,25\ny\t2\t3,e1\n",
    ],
)
def test_decimal_commas_are_read_when_they_are_asked_for(table, content):
    path = table(content)
    found = read_table(path, decimal=",")
    assert found.names == ("a", "b")
    assert found.values.tolist() == [[1.5, -0.25], [2, 30]]
    # And not left out without a word when they are not.
    with pytest.raises(ArgumentError, match=r"t.csv:2: column 'a': .*'1,5'; with decimal=','"):
        read_table(path)


@pytest.mark.parametrize("content", ["1,5;2,5\n1,75;2,25\n", "1,5;2,5\n", "x, m;y, s\n1,5;2\n"])
def test_a_semicolon_between_decimal_commas_is_the_delimiter(table, content):
    assert read_table(table(content), decimal=",").values.shape[1] == 2
    with pytest.raises(ArgumentError, match="'1,5'; with decimal=',' it is one"):
        read_table(table(content))


@pytest.mark.parametrize(
    ("content", "values"),
    [
        ("x\n1,5\n2,25\n", [1.5, 2.25]),
        ("x\n1\n2,25\n", [1, 2.25]),
        ("1,5\n2,25\n", [1.5, 2.25]),
        ("1,5\n", [1.5]),
    ],
)
def test_one_column_may_have_decimal_commas(table, content, values):
    assert read_table(table(content), decimal=",").values[:, 0].tolist() == values
    assert read_table(table("x,y\n1,5\n"), decimal=",").values.tolist() == [[1, 5]]
    assert read_table(table('"1,5",2\n"2,5",3\n'), decimal=",").values[0].tolist() == [1.5, 2]


def test_commas_of_one_column_are_not_taken_for_decimal_ones_unasked(table):
    assert read_table(table("1,5\n2,25\n")).values.tolist() == [[1, 5], [2, 25]]
    with pytest.raises(ArgumentError, match=r":2: column 'x': .*'1,5'; with decimal=',' it is"):
        read_table(table("x\n1,5\n2,25\n"))
    for cell in ("a,b", "1,5,6"):
        with pytest.raises(ArgumentError, match=":2: expected 1 cells as in the first row"):
            read_table(table(f"x\n{cell}\n"))


def test_a_delimiter_that_is_given_is_the_one(table):
    path = table("x,y;z\n1,2;3\n")
    assert read_text_table(path, header=True, delimiter=";").names == ("x,y", "z")
    assert read_text_table(path, header=True, delimiter=",").names == ("x", "y;z")
    assert read_table(table("x:y\n1:2\n"), delimiter=":").values.tolist() == [[1, 2]]


def test_a_delimiter_cuts_the_rows_alike(table):
    assert read_table(table("a,b;c\n1,2\n")).names == ("a", "b;c")
    assert read_table(table("a,b;c,d|e\n1,2,3\n")).names == ("a", "b;c", "d|e")
    assert read_table(table("a;b,c\n1;2\n")).names == ("a", "b,c")


def test_missing_values_are_refused_or_carried(table):
    path = table("x,y\n1,2\n,3\nNA,?\n4,5\n")
    with pytest.raises(ArgumentError, match=r"t.csv:3: column 'x': no value"):
        read_table(path)
    assert read_table(path, missing="carry").values.tolist() == [[1, 2], [1, 3], [1, 3], [4, 5]]
    with pytest.raises(ArgumentError, match=r"t.csv:2: column 'y': .*none before it"):
        read_table(table("x,y\n1,nan\n2,3\n"), ["y"], missing="carry")
    assert read_table(table("x,y\n1,\n2,3\n"), ["x"]).values.tolist() == [[1], [2]]
    for word in ("", "?", "-", "NA", "n/a", "NaN", "null", "None"):
        carried = read_table(table(f"x,y\n1,2\n{word},3\n"), missing="carry")
        assert carried.values.tolist() == [[1, 2], [1, 3]], word


def test_cells_of_text_may_hold_anything(table):
    path = table('text,label\n"a, ""b""\nc",x\nplain,y\n')
    found = read_text_table(path, header=True)
    assert found.names == ("text", "label")
    assert found.rows == [['a, "b"\nc', "x"], ["plain", "y"]]
    assert found.lines == [2, 4]


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ("x,y\n1,2\n3,four\n", {}, ":3: column 'y': expected a number, got 'four'"),
        ("x\n1\n1_000\n", {}, ":3: column 'x': expected a number, got '1_000'"),
        ("x\n1\ninf\n", {}, ":3: .*got 'inf'"),
        ("x\n1\n1e999\n", {}, ":3: .*got '1e999'"),
        ("x\n1\n0x10\n", {}, ":3: "),
        ("x\n1\n\u0661\n", {}, ":3: "),
        ("x;y\n1;2,5\n2;3,5\n", {"columns": ["y"]}, ":2: column 'y': expected a number, got '2,5'"),
        ('t,x\n"a\nb",1\n"c",oops\n', {}, ":4: column 'x'"),
        ("x,y\n1,2\n3\n", {}, ":3: expected 2 cells as in the first row, got 1"),
        ("x,y\n1,2\n3,4,5\n", {}, ":3: expected 2 cells as in the first row, got 3"),
        ('x,y\n1,"2\n3,4\n', {}, ":2: not CSV"),
        ('x,y\n1,"2"3\n', {}, ":2: not CSV"),
        ("x,y\n" + "1" * 200_000 + ",2\n", {}, ":2: column 'x': expected a number, got '1{40}'"),
        ("1" * 200_000 + ",2\n", {}, ":1: column 'column 0': expected a number"),
        ("x,y\n1,2\n" + "1" * 200_000 + "x,2\n", {}, ":3: column 'x': expected a number"),
        ("x,y\n", {}, "no rows below the header"),
        ("a,b\nc,d\n", {}, "no column of numbers"),
        ("x;y\n1;1.234,5\n", {}, ":2: .*'1.234,5'; separators of thousands are not read"),
        ("x;y\n1;1.234,5\n", {"decimal": ","}, ":2: .*; separators of thousands are not read"),
        ('x,y\n"1,234.50",2\n', {}, ":2: .*; separators of thousands are not read"),
        ("x;y\n1;2,5\n3;2.5\n", {"decimal": ","}, ":3: .*'2.5'; with decimal='.' it is one"),
        ("x\n1\n", {"decimal": "_"}, "decimal: expected '.' or ','"),
        ("x,y\n1,2\n", {"columns": ["z"]}, "no column 'z'; the columns are x, y"),
        ("x,x\n1,2\n", {"columns": ["x"]}, "several columns 'x'"),
        ("x,y\n1,2\n", {"columns": [2]}, "no column 2; the columns are 0 to 1"),
        ("x,y\n1,2\n", {"columns": [-1]}, "no column -1"),
        ("x,y\n1,2\n", {"columns": []}, "columns: expected at least one"),
        ("x,y\n1,2\n", {"columns": "xy"}, "^columns: expected names or numbers of columns"),
        ("1,2\n3,4\n", {"columns": ["x"]}, "the file has no header"),
        ("x\n1\n", {"missing": "drop"}, "missing: expected 'refuse' or 'carry'"),
        ("x\n1\n", {"delimiter": ",,"}, "delimiter"),
        ("x\n1\n", {"delimiter": "\n"}, "delimiter"),
        ("", {}, "empty"),
        (b"x,y\n1,\xff\n", {}, "invalid byte"),
        (b"x,y\n1,\x00\n", {}, "zero"),
    ],
)
def test_the_place_of_what_is_wrong_is_named(table, content, arguments, message):
    path = table(content)
    with pytest.raises(ArgumentError, match=message) as caught:
        read_table(path, **arguments)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(path))


def test_a_cell_may_be_of_any_length(table):
    limit = csv.field_size_limit()
    long = "x" * (limit + 1)
    found = read_text_table(table(f'a;b\n{long};"{long}\n"\n'), header=True)
    assert found.rows == [[long, long + "\n"]]
    assert csv.field_size_limit() == limit
