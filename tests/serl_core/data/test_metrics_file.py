from pathlib import Path

from serl_core.data.metrics_file import MetricsTail, MetricsWriter, read_metrics


def test_each_line_is_there_at_once_and_a_torn_one_is_passed_over(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert list(read_metrics(path)) == []
    with MetricsWriter(path) as metrics:
        metrics.write("event", {"event": "started"})
        assert [record["event"] for record in read_metrics(path)] == ["started"]
        metrics.write("update", {"q_mean": 0.5})
    with path.open("a") as file:
        file.write('{"kind": "upda')
    assert [record["kind"] for record in read_metrics(path)] == ["event", "update"]


def test_a_torn_line_costs_no_record_after_a_restart(tmp_path):
    """The first record after a crash was written onto the torn line, and lost with it."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"kind": "event", "event": "started"}\n{"kind": "upda')
    with MetricsWriter(path) as metrics:
        metrics.write("event", {"event": "resumed"})
    with MetricsWriter(path) as metrics:
        metrics.write("event", {"event": "stopped"})
    assert [record["event"] for record in read_metrics(path)] == ["started", "resumed", "stopped"]
    assert "\n\n" not in path.read_text()


def test_only_whole_lines_of_a_growing_file_are_read(tmp_path: Path):
    path = tmp_path / "lines.jsonl"
    tail = MetricsTail(path)
    assert tail.read() == []
    path.write_text('{"a": 1}\n{"a"')
    assert tail.read() == [{"a": 1}]
    with path.open("a") as file:
        file.write(": 2}\n")
    assert tail.read() == [{"a": 2}]
