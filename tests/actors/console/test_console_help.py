"""When and where people helped, and whether help is needed: read from the run, so nobody forgets it."""

import pytest

from actors.console.help import MAX_CORRECTED, Help
from serl_core.data.metrics_file import MetricsWriter
from tests.actors.console.rig import console, wait_until

NOTHING = {"corrected": [], "count": 0, "spread": None, "episodes_not_alone": 0}


def episode(*, is_success, intervention_rate=0.0):
    return {"kind": "episode", "is_success": is_success, "intervention_rate": intervention_rate}


def test_a_console_that_is_started_anew_knows_what_was_corrected_before(tmp_path):
    (tmp_path / "run").mkdir()
    with MetricsWriter(tmp_path / "run" / "actor.jsonl") as actor:
        actor.write("actor", {"env_steps": 20, "corrected": [[3, 0.51, 0.01], [4, 0.5, 0.0]]})
        for _ in range(2):
            with console(tmp_path) as served:
                found = served.get("/help").json()
                assert (found["corrected"], found["count"]) == ([[3, 0.51, 0.01], [4, 0.5, 0.0]], 2)
        with console(tmp_path) as served:
            actor.write("actor", {"env_steps": 30, "corrected": [[9, 0.5, 0.0]]})
            wait_until(lambda: served.get("/help").json()["count"] == 3)


def test_help_is_told_to_nobody_without_the_token(tmp_path):
    with console(tmp_path) as served:
        assert served.get("/help").json() == NOTHING
        assert served.client.get("/help", headers={"Authorization": "Bearer no"}).status_code == 401


def test_episodes_count_until_the_policy_succeeds_alone():
    told = Help()
    for record in (episode(is_success=True, intervention_rate=0.4), episode(is_success=False)):
        told.take(record)
    assert told.view()["episodes_not_alone"] == 2
    told.take(episode(is_success=True))
    assert told.view()["episodes_not_alone"] == 0


def test_the_spread_is_the_newest_that_a_record_had():
    told = Help()
    for record in ({"q_std": 0.4}, {"kind": "update", "q_std": 0.2}, {"kind": "actor"}):
        told.take(record)
    assert told.view()["spread"] == 0.2


def test_only_the_newest_corrected_steps_are_kept_and_all_are_counted():
    told = Help()
    told.take({"corrected": [[step, 0.5, 0.0] for step in range(MAX_CORRECTED + 2)]})
    assert told.view()["count"] == MAX_CORRECTED + 2
    assert [step for step, _, _ in told.view()["corrected"]] == list(range(2, MAX_CORRECTED + 2))


@pytest.mark.parametrize("corrected", [None, 3, "x", [1], [[1, 2]], [["a", 0, 0]], [None], {}])
def test_a_record_of_another_form_changes_nothing(corrected):
    told = Help()
    told.take({"corrected": corrected, "q_std": "wide", "kind": 3})
    assert told.view() == NOTHING
