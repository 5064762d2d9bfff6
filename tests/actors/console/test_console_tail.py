"""A file of records that grows, tears and is made anew."""

import json

import pytest

from actors.console.tail import MAX_BLOCK_BYTES, MAX_LINE_BYTES, Tail


def read_all(tail):
    found = []
    while records := tail.read():
        found += records
    return found


def test_only_what_is_new_and_whole_is_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)
    assert tail.read() == []
    path.write_text('{"a": 1}\n{"a": 2}\n{"a"')
    assert tail.read() == [{"a": 1}, {"a": 2}]
    assert tail.read() == []
    with path.open("a") as file:
        file.write(": 3}\n")
    assert tail.read() == [{"a": 3}]


def test_torn_lines_and_lines_that_are_no_record_are_passed_over(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"a": 1\n[1]\n3\n\xff\xfe\n\n{"a": NaN}\n{"a": 2}\n')
    first, second = Tail(path).read()
    assert first["a"] != first["a"]
    assert second == {"a": 2}


def test_a_long_file_is_read_in_blocks_and_loses_nothing(tmp_path):
    path = tmp_path / "metrics.jsonl"
    count = 2 * MAX_BLOCK_BYTES // 100
    path.write_text("".join(json.dumps({"number": i, "filler": "x" * 80}) + "\n" for i in range(count)))
    tail = Tail(path)
    first = tail.read()
    assert 0 < len(first) < count
    assert [record["number"] for record in first + read_all(tail)] == list(range(count))


def test_a_line_that_never_ends_does_not_stop_the_reading(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"x" * (MAX_LINE_BYTES + 1))
    tail = Tail(path)
    assert tail.read() == []
    with path.open("ab") as file:
        file.write(b'\n{"a": 1}\n')
    assert tail.read() == [{"a": 1}]


@pytest.mark.parametrize("how", ["replaced", "cut short"])
def test_a_file_that_was_made_anew_is_read_from_its_start(tmp_path, how):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n')
    tail = Tail(path)
    tail.read()
    if how == "replaced":
        (tmp_path / "new").write_text('{"b": 1}\n{"b": 2}\n{"b": 3}\n')
        (tmp_path / "new").replace(path)
    else:
        path.write_text('{"b": 1}\n')
    assert tail.read()[0] == {"b": 1}
    assert tail.generation == 1
