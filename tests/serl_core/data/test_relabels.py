import threading

import pytest

from serl_core.data.relabels import FILE, Outcome, RelabelFile, label_of, relabelled
from serl_core.errors import DataError
from serl_core.types import EndReason

SUCCESS = Outcome(1.0, 0.0, EndReason.SUCCESS)
TIME_LIMIT = Outcome(0.0, 1.0, EndReason.TIME_LIMIT)


def test_a_success_pays_one_and_is_a_true_end():
    assert relabelled("success", TIME_LIMIT) == SUCCESS


def test_a_success_that_was_none_pays_nothing_and_is_no_true_end():
    assert relabelled("failure", SUCCESS) == Outcome(0.0, 1.0, EndReason.OPERATOR_STOP)


@pytest.mark.parametrize("original", [TIME_LIMIT, Outcome(0.0, 0.0, EndReason.FAILURE)])
def test_what_was_no_success_stays_as_it_ended_when_labelled_failure(original):
    assert relabelled("failure", original) == original


def test_what_was_taken_back_is_as_it_was():
    assert relabelled(None, SUCCESS) == SUCCESS


def test_another_reader_sees_what_was_written(tmp_path):
    writer, reader = RelabelFile(tmp_path, now=lambda: 12.3456), RelabelFile(tmp_path)
    assert reader.read() == []
    line = writer.add("s", 3, "failure", "ann")
    assert (line.number, line.operator, line.time) == (0, "ann", 12.346)
    assert reader.read() == [line]
    assert reader.label_of("s", 3) == "failure"
    assert reader.label_of("s", 4) is reader.label_of("other", 3) is None


def test_the_newest_label_counts_and_each_can_be_taken_back(tmp_path):
    file = RelabelFile(tmp_path)
    file.add("s", 3, "failure")
    file.add("s", 3, "success")
    assert file.label_of("s", 3) == "success"
    assert file.undo("bob").undoes == 1
    assert file.label_of("s", 3) == "failure"
    assert file.undo().undoes == 0
    assert (file.label_of("s", 3), file.can_undo) == (None, False)
    file.add("s", 3, "success")
    assert file.label_of("s", 3) == "success"


def test_the_correction_of_one_episode_is_taken_back_before_a_newer_one_of_another(tmp_path):
    file = RelabelFile(tmp_path)
    file.add("s", 3, "failure")
    file.add("s", 4, "failure")
    file.undo(session="s", episode=3)
    assert (file.label_of("s", 3), file.label_of("s", 4), file.can_undo) == (None, "failure", True)


def test_there_may_be_nothing_to_take_back(tmp_path):
    with pytest.raises(DataError, match="there is no correction to take back"):
        RelabelFile(tmp_path).undo()
    assert RelabelFile(tmp_path).read() == []


def test_what_a_label_was_at_a_time_is_known_from_the_lines_until_then(tmp_path):
    file = RelabelFile(tmp_path)
    file.add("s", 3, "failure")
    file.add("s", 3, "success")
    file.undo()
    lines = file.read()
    assert [label_of(("s", 3), lines[:count]) for count in range(4)] == [None, "failure", "success", "failure"]


@pytest.mark.parametrize(
    "torn", [b'{"number":1,"ses', b"no line\n", b'{"number":9,"session":"s","episode":1,"label":null}\n']
)
def test_a_line_that_is_torn_or_not_ours_is_passed_over(tmp_path, torn):
    RelabelFile(tmp_path).add("s", 3, "failure")
    with (tmp_path / FILE).open("ab") as file:
        file.write(torn)
    file = RelabelFile(tmp_path)
    assert len(file.read()) == 1
    assert file.add("s", 4, "success").number == 1
    assert [line.episode for line in RelabelFile(tmp_path).read()] == [3, 4]


def test_several_writers_lose_nothing(tmp_path):
    def write(session):
        file = RelabelFile(tmp_path)
        for episode in range(10):
            file.add(session, episode, "success")

    writers = [threading.Thread(target=write, args=(f"s{number}",)) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines = RelabelFile(tmp_path).read()
    assert [line.number for line in lines] == list(range(30))
    assert len({(line.session, line.episode) for line in lines}) == 30


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"relabels\.jsonl cannot be written"):
        RelabelFile(tmp_path / "nowhere").add("s", 0, "success")
