"""CSV, TSV, JSON and parquet as people really have them: read right, or refused with the row and what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import picture
from fedloom.data.captioned import Captioned
from fedloom.data.datasets.caption_parquet import read_caption_parquet
from fedloom.data.io.decode import decode_all
from fedloom.data.io.files import on_disk, read_json, read_lines, read_names, read_text
from fedloom.data.io.parquet import read_parquet
from fedloom.data.io.tables import read_columns, read_fields, read_tabbed
from fedloom.errors import BadInput

COLUMNS = ("text", "label")


def rows(tmp: Path, content: str | bytes) -> list[tuple[int, tuple[str, ...]]]:
    path = tmp / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_columns(path, COLUMNS)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("text,label\na,cat\n", [(2, ("a", "cat"))]),
        (
            "text,label\na,cat,\nb,dog\n",
            [(2, ("a", "cat")), (3, ("b", "dog"))],
        ),  # a comma at the end of the line
        ("label,id,text\ncat,1,a\n", [(2, ("a", "cat"))]),
        (
            ",,text,label\n0,x,a,cat\n",
            [(2, ("a", "cat"))],
        ),  # an index column without a name, as pandas writes it
        ("\n\ntext,label\n\na,cat\n  \n,\n", [(5, ("a", "cat")), (7, ("", ""))]),
        ("text,label,x\na,cat,1\n,,,,\n", [(2, ("a", "cat"))]),  # what spreadsheets leave at the end
        ('text,label\n"a\nb, ""c""",cat\r\nd,dog', [(2, ('a\nb, "c"', "cat")), (3, ("d", "dog"))]),
        ("text,label\r\u2028a\u0085b,cat\r", [(2, ("\u2028a\u0085b", "cat"))]),
        ("\ufeff\u200btext\u00a0, label \na,cat\n", [(2, ("a", "cat"))]),
        ("text;label\na, b;cat\n", [(2, ("a, b", "cat"))]),  # Excel where the comma is in numbers
        ("id\tlabel\ttext\n1\tcat\ta;b,c\n", [(2, ("a;b,c", "cat"))]),
        ("text,label\na;b,cat\n", [(2, ("a;b", "cat"))]),
    ],
)
def test_columns(tmp_path: Path, content: str, expected: list[tuple[int, tuple[str, ...]]]) -> None:
    assert rows(tmp_path, content) == expected


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("text,label\nred, yellow and black,cat\n", r"row 2: 3 fields, the header has 2 \(a text that holds"),
        (
            "text,label,note\nred, yellow,cat,\n",
            "row 2: 4 fields",
        ),  # the last column may be empty: not a comma at the end
        ("text,label\na,cat,,\n", "row 2: 4 fields"),
        ("text,label,note\na,cat\n", "row 2: 2 fields, the header has 3"),
        ("text;label\nred; yellow;cat\n", "row 2: 3 fields, the header has 2"),
        ('text,label\n"a\nb",cat\nc, d,dog\n', "row 3: 3 fields"),
        ("text,text,label\na,b,cat\n", "2 columns are called 'text', numbers 1 and 2"),
        ("label,text,label,label\ncat,a,b,c\n", "3 columns are called 'label', numbers 1, 3 and 4"),
        ("text,label,te\u200bxt\na,cat,b\n", "2 columns are called 'text', numbers 1 and 3"),
        ("text,label\na,cat\ntext, label\nb,dog\n", "row 3: the header again. Were two files put together"),
        ("text|label\na|cat\n", r"no column 'text'.*Its columns: text\|label"),
        ("Text,label\na,cat\n", "no column 'text'. Did you mean 'Text'"),
        ('text,label\n"a,cat\nb,dog\n', "not CSV after row 1"),
        ('text,label\n"a"b,cat\n', "not CSV after row 1"),
    ],
)
def test_columns_that_are_wrong(tmp_path: Path, content: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        rows(tmp_path, content)


def test_other_columns_may_share_a_name(tmp_path: Path) -> None:
    assert rows(tmp_path, "x,text,x,label\n1,a,2,cat\n") == [(2, ("a", "cat"))]


def test_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("a,b\nc,d,\n")
    assert list(read_fields(path, ("one", "two"))) == [(1, ["a", "b"]), (2, ["c", "d"])]
    for content, says in (
        ("a,b\nc, x,d\n", "row 2: 3 fields, expected 2: one, two"),
        ("a;b\n", r"row 1: 1 field, expected 2: one, two \(is it separated by a semicolon"),
        ("a\tb\n", "separated by a tab"),
    ):
        path.write_text(content)
        with pytest.raises(BadInput, match=says):
            list(read_fields(path, ("one", "two")))
    path.write_text("a,b,\n")  # the second field may be empty: a and b may be one text
    with pytest.raises(BadInput, match="row 1: 3 fields"):
        list(read_fields(path, ("one", "two"), filled=False))


def test_tabs(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text('text\tlabel\n"a\tcat\t\n\nb\u2028"c\tdog\n')
    assert read_tabbed(path, COLUMNS) == [(2, ('"a', "cat")), (4, ('b\u2028"c', "dog"))]
    for content, says in (
        ("text\tlabel\na\tb\tcat\n", "line 2: 3 fields, the header has 2"),
        ("text\tlabel\ttext\na\tcat\tb\n", "2 columns are called 'text', numbers 1 and 3"),
        ("text\tlabel\tx\na\tb\tcat\t\n", "line 2: 4 fields"),
    ):
        path.write_text(content)
        with pytest.raises(BadInput, match=says):
            read_tabbed(path, COLUMNS)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            b"text,label\nnice,a\nna\xefve,cat\n",
            r"row 3, byte 20 \(0xef\); it seems to be Windows-1252.*'naïve'",
        ),
        (
            "text,label\nMaß\u201cx\u201d,cat\n".encode("cp1252"),
            r"row 2, byte 16 \(0x94\).*Windows-1252.*'Maß“x”'",
        ),
        (b'text,label\n"two\nlines \xe9",cat\n', "row 2, byte 22"),
        (b'text;label\n"two\nlines";cat\n"\xe9";dog\n', "row 3, byte 28"),
        ("text,label\n\u65e5\u672c,cat\n".encode("shift_jis"), "row 2, byte 11"),
        ("text,label\na,cat\n".encode("utf-16"), "not UTF-8 but UTF-16 text, by its first bytes"),
        ("text,label\na,cat\n".encode("utf-16-le"), "a NUL byte in row 1; it seems to be UTF-16"),
        ("text,label\n\u00e9,cat\n".encode("utf-16-be"), "it seems to be UTF-16"),
        ("text,label\na,cat\n".encode("utf-32"), "UTF-32"),
        (b"text,label\na\0b,cat\n", "a NUL byte in row 2; it seems to be no text file"),
        (
            "text,label\né,cat\nè,dog\n".encode() + b"\xe9,cat\n",
            "row 4, byte 25 .0xe9.; most of it is UTF-8: it is damaged",
        ),
        (b"PK\x03\x04and so on", "an Excel workbook"),
        (b"\x1f\x8b\x08and so on", "a gzip archive"),
        (b"text,label\n\xed\xa0\x80,cat\n", "row 2, byte 11"),
    ],
)
def test_encodings_are_named(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        rows(tmp_path, content)
    assert str(caught.value).endswith("Save it as UTF-8 text.")
    with pytest.raises(BadInput, match=r"t\.csv: .*(line|not a text|UTF-)"):
        read_text(tmp_path / "t.csv")


def test_a_folder_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read: Is a directory"):
        read_text(tmp_path)


def test_lines_are_lines(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes("a\u2028b\x0bc\u0085d\r\n\r\n e \r f".encode())
    assert read_lines(path) == ["a\u2028b\x0bc\u0085d", "e", "f"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("cat\n\ndog\n", "line 2: empty, expected class name number 2"),
        ("\ncat\n", "line 1: empty"),
        ("\n \n", "no class names, expected one a line"),
        ("cat\ndog\nCat\n", "'cat' and 'Cat' differ only by case"),
        ("caf\u00e9\ncafe\u0301\n", "class name 'café' is given twice, as number 1 and 2"),
        ("cat\n\u200b\n", "class name 2 of 2 is empty"),
        ("cat\na\x07b\n", "holds a control character"),
    ],
)
def test_lists_of_names(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "names.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(BadInput, match=says):
        read_names(path)
    path.write_text("cat \r\ndog\n\n\n", encoding="utf-8")
    assert read_names(path) == ["cat", "dog"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "key 'c' is given 2 times in one object"),
        ("[1,]", r"not JSON \(line 1"),
        ("9" * 5000, "not JSON that can be read"),
        ("[" * 100_000, "not JSON that can be read"),
    ],
)
def test_json(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(BadInput, match=r"x\.json: .*" + says) as caught:
        read_json(path)
    assert len(str(caught.value)) < 200 + len(str(tmp_path))


def invalid_text() -> pa.Array:
    """A column of two texts, the second not UTF-8."""
    raw = pa.array([b"ok", b"\xff\xfe"])
    return pa.Array.from_buffers(pa.string(), 2, raw.buffers())


@pytest.fixture
def pixels(tmp_path: Path) -> bytes:
    return picture(tmp_path / "one.png", 1, 0, side=(8, 8)).read_bytes()


@pytest.mark.parametrize(
    ("image", "label"),
    [
        (pa.binary(), pa.string()),
        (pa.binary_view(), pa.string_view()),
        (pa.large_binary(), pa.large_string()),
        (pa.struct([("bytes", pa.binary_view()), ("path", pa.string_view())]), pa.string()),
        (pa.binary(), pa.dictionary(pa.int8(), pa.string())),
    ],
    ids=str,
)
def test_types_of_parquet_columns(tmp_path: Path, pixels: bytes, image: pa.DataType, label: pa.DataType) -> None:
    cells = [{"bytes": pixels, "path": None}] * 2 if pa.types.is_struct(image) else [pixels] * 2
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image": pa.array(cells, image), "label": pa.array(["cat", "dog"], label)}), path)
    raw = read_parquet(path)
    assert raw.items == [pixels, pixels]
    assert raw.written == ["cat", "dog"]


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.string_view()), pa.list_view(pa.string()), pa.list_(pa.string(), 2)], ids=str
)
def test_types_of_captions(tmp_path: Path, pixels: bytes, kind: pa.DataType) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image": [pixels], "captions": pa.array([["a", "b"]], kind)}), path)
    (entry,) = read_caption_parquet({"train": [path]})["train"]
    assert entry == Captioned(pixels, [(None, "a"), (None, "b")], f"{path} row 0")


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"image": [b"x", b"x"], "label": invalid_text()}, "row 1: column 'label' is not UTF-8 text"),
        ({"image": [b"x"], "label": [""]}, "row 0: no label"),
        ({"image": [b"x"], "label": ["\u200b "]}, "row 0: no label"),
        ({"image": [b"x", b"x"], "label": ["a", None]}, "row 1: no label"),
        ({"image": [b"x"], "label": [True]}, "column 'label' is bool, allowed: integer or string"),
        ({"image": [[1, 2]], "label": [1]}, "row 0: no picture"),
        ({"image": [{"bytes": "text"}], "label": [1]}, "row 0: no picture"),
        (
            {"image": [b"x"], "captions": [[1]]},
            r"column 'captions' is list<.*int64>, allowed: a list of strings",
        ),
        ({"image": [b"x"], "captions": ["text"]}, "column 'captions' is string, allowed: a list of strings"),
        ({"image": [b"x"], "captions": [["a", None]]}, "row 0: captions"),
    ],
)
def test_parquet_that_is_wrong(tmp_path: Path, columns: dict[str, object], says: str) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(BadInput, match=says):
        read_parquet(path) if "label" in columns else read_caption_parquet({"train": [path]})


def test_parquet_columns_twice(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    for names, says in (
        (["image", "label", "label"], "2 columns are called 'label', numbers 2 and 3"),
        (["image", "label", "image"], "'image', numbers 1 and 3"),
    ):
        pq.write_table(pa.table([pa.array([b"x"]), pa.array([1]), pa.array([2])], names=names), path)
        with pytest.raises(BadInput, match=says):
            read_parquet(path)


def test_bytes_that_are_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    for source in (b"no picture", tmp_path / "a.png"):
        with pytest.raises(BadInput, match=r"cannot read picture here: no picture, or of a format that is not known"):
            decode_all([source], ["here"], 8)


def test_names_of_files_by_either_form(tmp_path: Path) -> None:
    (tmp_path / "cafe\u0301").mkdir()
    assert on_disk(tmp_path, "caf\u00e9") == tmp_path / "cafe\u0301"
    assert on_disk(tmp_path, "caf\u00e8") == tmp_path / "caf\u00e8"
    assert json.dumps(str(on_disk(tmp_path, "\udce9")))


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ('a red one, "rose"\n', 'row 2: a blank before the quote of "rose"'),
        (
            '"5 inch,rose\nb,tulip\nc,rose\nd",tulip\ne,rose\n',
            "row 2: a text in quotes holds the line 'b,tulip'",
        ),
        ('x,rose\n"half,rose\nb,rose\nc"" d",tulip\n', "row 3: a text in quotes holds the line 'b,rose'"),
    ],
)
def test_quotes_that_swallow_something(tmp_path: Path, rows: str, says: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"text,label\n{rows}")
    with pytest.raises(BadInput, match=says):
        read_columns(path, ("text", "label"))


def test_texts_of_several_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('text,label\n"One line,\nanother, with a comma\nand a third",rose\n"he said ""so"", twice",tulip\n')
    rows = read_columns(path, ("text", "label"))
    assert [fields[1] for _, fields in rows] == ["rose", "tulip"]
    assert rows[0][1][0].count("\n") == 2
