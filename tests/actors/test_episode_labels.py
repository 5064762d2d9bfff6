from actors.episode_labels import VETO_S, EpisodeLabels
from serl_core.clock import ManualClock
from serl_core.operator.messages import Label, Veto


def label(kind="success", **meant):
    return Label(operator="ann", label=kind, **meant)


def veto(episode=3):
    return Veto(operator="ann", session="s", episode=episode)


def test_a_label_is_for_the_running_episode_and_taken_once():
    labels = EpisodeLabels()
    assert "not used" in labels.receive_label(label())
    labels.begin("s", 3)
    for foreign in (label(session="t"), label(episode=2), label(session="t", episode=3)):
        assert "its episode is not running any more" in labels.receive_label(foreign)
    assert labels.receive_label(wanted := label(session="s", episode=3)) is None
    assert labels.take() is wanted
    assert labels.take() is None


def test_what_nobody_took_is_given_back_at_the_end_and_does_not_reach_the_next_episode():
    labels = EpisodeLabels()
    labels.begin("s", 3)
    labels.receive_label(late := label())
    assert labels.end() is late
    assert "not used" in labels.receive_label(label())
    labels.begin("s", 4)
    assert labels.take() is None


def test_a_success_may_be_vetoed_for_a_second_and_once():
    clock = ManualClock(10.0)
    labels = EpisodeLabels(clock)
    assert labels.claim("s", 3) == 10.0 + VETO_S
    assert "too late" in labels.receive_veto(veto(episode=2), clock())
    assert not labels.is_vetoed("s", 3)
    assert labels.receive_veto(veto(), 10.0 + VETO_S) is None
    assert labels.is_vetoed("s", 3)
    assert "too late" in labels.receive_veto(veto(), 10.0 + VETO_S)
    assert labels.settle("s", 3)
    assert not labels.settle("s", 3)


def test_a_success_that_is_settled_is_vetoed_no_more():
    clock = ManualClock(10.0)
    labels = EpisodeLabels(clock)
    labels.claim("s", 3)
    assert not labels.settle("s", 3)
    assert "correct the episode's label instead" in labels.receive_veto(veto(), clock())
