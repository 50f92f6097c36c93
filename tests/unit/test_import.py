"""An import: what its lines say, in which order they are sent, and where it stopped."""

import csv
import io
import threading
from collections.abc import Sequence
from typing import Any, cast
from unicodedata import normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openreserve.domain.resources import is_resource_id
from openreserve_client import Client, NotAnswered, RowResult
from openreserve_client.cli.csv_lines import (
    HEADING,
    LINE_BYTES_MAX,
    BadLine,
    Line,
    parsed,
    raw_lines,
)
from openreserve_client.cli.import_workers import BATCH_BYTES_MAX, ImportWorkers


def read(text: str | bytes) -> list[Line | BadLine | None]:
    content = text if isinstance(text, bytes) else text.encode()
    return list(parsed(raw_lines(io.BytesIO(content))))


def test_the_format_of_the_seed_is_read() -> None:
    assert read("# resource_id,total_stock\nhotel-room-101,50\n\nseat-A1,1\r\nx,0") == [
        None,
        Line(2, "hotel-room-101", 50),
        None,
        Line(4, "seat-A1", 1),
        Line(5, "x", 0),
    ]


@pytest.mark.parametrize(
    "heading",
    [
        "resource_id,total_stock",
        "\ufeffresource_id,total_stock",
        '"resource_id","total_stock"\r',
        "resource_id,total_stock,,",
    ],
)
def test_a_heading_and_a_byte_order_mark_are_no_resource(heading: str) -> None:
    assert read(f"{heading}\na,1\n") == [None, Line(2, "a", 1)]


def test_a_heading_is_the_first_record_also_behind_comments_and_at_no_other_place() -> None:
    heading = "resource_id,total_stock"
    found = read(f"# stock of today\n\n,,\n{heading}\na,1\n{heading}\n")

    assert found[:5] == [None, None, None, None, Line(5, "a", 1)]
    assert isinstance(found[5], BadLine)


@pytest.mark.parametrize(
    "heading",
    ["resource_id;total_stock", "resource_id;total_stock;", '"resource_id";"total_stock"'],
)
def test_semicolons_separate_in_a_file_whose_heading_has_one(heading: str) -> None:
    """As spreadsheets write it where the comma is the decimal mark."""
    assert read(f'\ufeff# Lager\n{heading}\na,b;1\n"c;d";2;;\n') == [
        None,
        None,
        Line(3, "a,b", 1),
        Line(4, "c;d", 2),
    ]


def test_semicolons_without_that_heading_are_refused_with_what_to_do() -> None:
    (bad,) = read("a;1\n")

    assert isinstance(bad, BadLine)
    assert bad.reason.endswith("; semicolons need the heading resource_id;total_stock")


def test_empty_cells_that_a_spreadsheet_adds_are_no_columns() -> None:
    assert read("a,1,\nb,2,,,\n,,\n") == [Line(1, "a", 1), Line(2, "b", 2), None]


def test_a_comment_takes_a_line_of_its_own_and_a_quoted_id_is_none() -> None:
    first, second, *rest = read('a,1 # new\na,1,# new\n  # new\n"#1",5\n')

    assert isinstance(first, BadLine)
    assert isinstance(second, BadLine)
    assert rest == [None, Line(4, "#1", 5)]


def test_an_id_is_the_one_that_the_api_makes_of_it() -> None:
    assert read("cafe\u0301,1\n") == [Line(1, "caf\u00e9", 1)]


def test_a_cell_can_be_quoted() -> None:
    assert read('"a,b",1\n"say ""hi""",2\n') == [Line(1, "a,b", 1), Line(2, 'say "hi"', 2)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a", "has 1 column "),
        (" row7,9", "resource_id must not begin or end with a space"),
        ('" row7",9', "resource_id must not begin or end with a space"),
        ("row7 ,9", "resource_id must not begin or end with a space"),
        ("a, 1", "total_stock must be"),
        ('a,"1 "', "total_stock must be"),
        ("a,1\r\r", "total_stock must be"),
        ('a"b,1', "has a quote"),
        ("a,1,2", "has 3 columns"),
        ("a,-1", "total_stock must be"),
        ("a,1.5", "total_stock must be"),
        ("a,", "total_stock must be"),
        ("a,٣", "total_stock must be"),
        ("a,1_000", "total_stock must be"),
        ("a,1000000000001", "total_stock must be"),
        (",1", "resource_id must have"),
        ("a/b,1", "resource_id must have"),
        ("a\tb,1", "resource_id must have"),
        ("x" * 201 + ",1", "resource_id must have"),
        ("x" * 5_000 + ",1", "is longer than"),
        ('"a"b,1', "has a quote"),
    ],
)
def test_a_bad_line_is_reported_with_its_number_and_stops_no_other(line: str, reason: str) -> None:
    before, bad, after = read(f"a,1\n{line}\nb,2\n")

    assert (before, after) == (Line(1, "a", 1), Line(3, "b", 2))
    assert isinstance(bad, BadLine)
    assert bad.number == 2
    assert bad.reason.startswith(reason)


@pytest.mark.parametrize(
    "record",
    [
        '"a\nmade-by-accident,5\nb",1',
        '"a\r\nmade-by-accident,5\r\nb",1',
        'a,"1\nmade-by-accident,5\n"',
        '"say ""hi""\nmade-by-accident,5\n""",1',
        '"a\nmade-by-accident,5\nb","1\nmade-by-accident,5\n"',
        '"a\n' + "x" * 5_000 + '\nmade-by-accident,5\n",1',
        '"' + "x" * 5_000 + '\nmade-by-accident,5\n",1',
    ],
)
def test_a_record_of_several_lines_is_refused_once_and_nothing_within_it_is_a_record(
    record: str,
) -> None:
    lines = record.count("\n") + 1

    before, bad, *within, after = read(f"a,1\n{record}\nb,2\n")

    assert (before, after) == (Line(1, "a", 1), Line(lines + 2, "b", 2))
    assert isinstance(bad, BadLine)
    assert bad.number == 2
    assert within == [None] * (lines - 1)


def test_within_such_a_record_no_line_has_to_be_utf_8() -> None:
    found = read(b'"a\xff\nmade-by-accident,5\n\xff",1\nb,2\n')

    assert found == [BadLine(1, "is not UTF-8"), None, None, Line(4, "b", 2)]


def test_a_quote_that_never_ends_makes_nothing_of_what_is_behind_it() -> None:
    first, bad, *rest = read('a,1\n"b,2\nc,3\nd,4\n')

    assert first == Line(1, "a", 1)
    assert bad == BadLine(2, "has a quoted cell that does not end in its line")
    assert rest == [None, None]


@given(st.lists(st.tuples(st.text(max_size=9), st.integers(0, 10**12)), max_size=9))
def test_what_a_spreadsheet_writes_of_any_ids_makes_those_that_are_ids_and_no_others(
    rows: list[tuple[str, int]],
) -> None:
    written = io.StringIO(newline="")
    csv.writer(written).writerows([HEADING, *rows])
    wanted = [
        (normalize("NFC", resource_id), total)
        for resource_id, total in rows
        if is_resource_id(resource_id) and not resource_id.startswith("#")
    ]

    found = read(written.getvalue().encode("utf-8", "replace"))

    made = [(line.resource_id, line.total_stock) for line in found if isinstance(line, Line)]
    assert made == wanted


def test_a_line_that_is_not_utf_8_is_a_bad_line() -> None:
    assert read(b"a,1\n\xff\xfe,1\nb,2\n")[1] == BadLine(2, "is not UTF-8")


def test_a_file_without_an_end_of_line_is_not_read_at_once() -> None:
    class Endless(io.RawIOBase):
        largest = 0
        left = 1_000

        def readline(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            self.largest = max(self.largest, size)
            self.left -= 1
            return b"x" * size if self.left > 0 else b""

    file = Endless()
    (line,) = raw_lines(cast("Any", file))
    assert len(line) == 999 * LINE_BYTES_MAX
    assert file.largest == LINE_BYTES_MAX


@given(st.lists(st.one_of(st.text(max_size=30), st.binary(max_size=30)), max_size=20))
def test_each_line_of_any_file_is_read_or_refused(lines: list[str | bytes]) -> None:
    content = b"\n".join(
        line.encode("utf-8", "surrogatepass") if isinstance(line, str) else line for line in lines
    )
    found = read(content)

    assert len(found) == content.count(b"\n") + (content != b"" and not content.endswith(b"\n"))
    for number, line in enumerate(found, 1):
        if line is not None:
            assert line.number == number
        if isinstance(line, Line):
            assert is_resource_id(line.resource_id)
            assert 0 <= line.total_stock <= 10**12


class FakeClient:
    """Keeps what it was sent; fails for good at one of the batches."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.stock: dict[str, int] = {}
        self.done: set[tuple[str, int]] = set()
        self.batches: list[list[tuple[str, int]]] = []
        self.threads: dict[str, set[int]] = {}
        self.closed = 0
        self._fails_at = fails_at
        self._lock = threading.Lock()

    def set_stock_of_many(self, totals: Sequence[tuple[str, int]]) -> list[RowResult]:
        with self._lock:
            if self._fails_at is not None and len(self.batches) >= self._fails_at:
                raise NotAnswered("away", status=None, code="server_unreachable", key=None)
            self.batches.append(list(totals))
            self.stock.update(totals)
            self.done.update(totals)
            for resource_id, _ in totals:
                self.threads.setdefault(resource_id, set()).add(threading.get_ident())
        return [RowResult("created")] * len(totals)

    def close(self) -> None:
        self.closed += 1


def workers_of(client: FakeClient, count: int = 3, batch_rows: int = 4) -> ImportWorkers:
    return ImportWorkers(
        cast("Client", client), lambda *_: None, count=count, batch_rows=batch_rows
    )


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 99)), max_size=100))
def test_the_last_line_about_a_resource_counts_whatever_the_number_of_workers(
    rows: list[tuple[str, int]],
) -> None:
    client = FakeClient()
    workers = workers_of(client)

    workers.send(Line(number, *row) for number, row in enumerate(rows, 1))

    assert client.stock == dict(rows)
    assert sorted(row for batch in client.batches for row in batch) == sorted(rows)
    assert all(len(threads) == 1 for threads in client.threads.values())
    assert (workers.failure, client.closed) == (None, 3)


@settings(max_examples=50)
@given(st.integers(1, 200), st.integers(0, 20))
def test_when_the_server_goes_away_all_lines_before_the_one_that_is_named_are_done(
    count: int, fails_at: int
) -> None:
    client = FakeClient(fails_at)
    workers = workers_of(client)
    lines = [Line(number, f"r-{number}", number) for number in range(1, count + 1)]
    read = 0

    def reading() -> Any:
        nonlocal read
        for line in lines:
            read = line.number
            yield line

    workers.send(reading())
    workers.stop(5)

    if workers.failure is not None:
        stopped_at = workers.first_open(read)
        assert 1 <= stopped_at <= count
        assert {(f"r-{n}", n) for n in range(1, stopped_at)} <= client.done
        assert (f"r-{stopped_at}", stopped_at) not in client.done
    else:
        assert len(client.done) == count


def test_no_batch_has_more_than_the_api_takes() -> None:
    client = FakeClient()
    long = [Line(number, f"{number:04}" + "\U0001f9c0" * 190, 1) for number in range(1, 600)]

    workers_of(client, count=1, batch_rows=500).send(long)

    assert sum(map(len, client.batches)) == 599
    for batch in client.batches:
        body = [{"resourceId": one, "totalStock": total} for one, total in batch]
        assert len(str(body).encode("unicode-escape")) < 262_144
        assert sum(len(one.encode("utf-16-be")) * 3 for one, _ in batch) < BATCH_BYTES_MAX


def test_a_bug_in_a_worker_stops_the_import_instead_of_hanging_it() -> None:
    class Broken(FakeClient):
        def set_stock_of_many(self, totals: Sequence[tuple[str, int]]) -> list[RowResult]:
            raise KeyError(len(totals))

    workers = workers_of(Broken())
    workers.send(Line(number, f"r-{number}", 1) for number in range(1, 1_000))

    assert isinstance(workers.failure, KeyError)
