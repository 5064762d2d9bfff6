import math
import os

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from serl_core.metrics_text import Kind, Sample, counters, process_samples, render


def parsed(text):
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


@given(st.floats(), st.text(), st.text())
def test_prometheus_reads_every_number_help_and_label_as_it_was(value, text, label):
    label, text = label.replace("\r", ""), text.replace("\r", "")
    (read,) = parsed(render([Sample("latch_cause", value, text, labels={"cause": label})]))
    assert read.name == "serl_latch_cause"
    assert read.labels == {"cause": label}
    assert read.value == value or (math.isnan(read.value) and math.isnan(value))


def test_samples_of_one_name_stand_under_one_head():
    samples = [Sample("a", 1, "A", Kind.COUNTER, {"x": "1"}), Sample("b", 2, "B"), Sample("a", 3, "A", Kind.COUNTER)]
    text = render(samples)
    assert text.count("# TYPE serl_a_total counter") == 1
    assert text.index("serl_a_total 3") < text.index("# HELP serl_b B")


def test_counts_get_their_common_beginning():
    assert [s.name for s in parsed(render(counters("transitions_", {"made": 3, "sent": 2}, "T")))] == [
        "serl_transitions_made_total",
        "serl_transitions_sent_total",
    ]


def test_a_process_knows_what_it_holds():
    values = {sample.name: sample.value for sample in process_samples()}
    assert values["rss_bytes"] > 2**20
    assert values["threads"] >= 1
    before = values["fds"]
    held = os.open("/dev/null", os.O_RDONLY)
    after = {sample.name: sample.value for sample in process_samples()}["fds"]
    os.close(held)
    assert after == before + 1
