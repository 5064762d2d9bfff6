"""The history of a run, compared with every record kept."""

import numpy as np
import pytest

from actors.console.history import CAPACITY, History, Series


def records(values, **more):
    return [
        {"kind": "update", "time": 1000.0 + i, "env_steps": i, "loss": value, **more} for i, value in enumerate(values)
    ]


@pytest.mark.parametrize("count", [1, 7, 8, 9, 64, 65, 200, 1000])
@pytest.mark.parametrize("batch", [1, 3, 50, 1000])
def test_each_piece_has_the_least_the_largest_and_the_mean_of_its_records(count, batch):
    values = np.random.default_rng(count).normal(size=count)
    series, told = Series(capacity=8), records(values.tolist())
    for start in range(0, count, batch):
        series.append(told[start : start + batch])
    curve = series.view(0.0, 100)["loss"]
    assert len(curve.x) <= 8
    groups = [values[i : i + series.stride] for i in range(0, count, series.stride)]
    np.testing.assert_allclose(curve.min, [group.min() for group in groups], rtol=1e-5)
    np.testing.assert_allclose(curve.max, [group.max() for group in groups], rtol=1e-5)
    np.testing.assert_allclose(curve.mean, [group.mean() for group in groups], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(curve.x, [min(i + series.stride, count) - 1 for i in range(0, count, series.stride)])


def test_no_more_points_than_asked_for_and_no_outlier_is_lost():
    values = np.zeros(1000)
    values[[123, 877]] = 5.0, -7.0
    history = History()
    history.append(records(values.tolist()))
    curve = history.view(points=10)["loss"]
    assert len(curve["x"]) == 10
    assert max(curve["max"]) == 5.0
    assert min(curve["min"]) == -7.0


def test_only_what_is_newer_is_told_on_request():
    history = History()
    history.append(records([0.0] * 100))
    curve = history.view(since_s=1089.0)["loss"]
    assert curve["x"] == list(range(90, 100))
    assert curve["time"][0] == 1090.0


def test_a_number_that_comes_later_or_is_missing_leaves_a_gap():
    history = History()
    history.append([{"kind": "episode", "env_steps": 1, "a": 1.0}, {"kind": "episode", "env_steps": 2, "a": None}])
    history.append([{"kind": "episode", "env_steps": 3, "a": float("nan"), "b": True}])
    history.append([{"kind": "episode", "env_steps": 4, "a": 2.0, "b": False, "text": "x", "list": [1.0]}])
    curves = history.view()
    assert set(curves) == {"a", "b"}
    assert curves["a"]["x"] == [1.0, 4.0]
    assert curves["a"]["mean"] == [1.0, 2.0]
    assert curves["b"]["mean"] == [1.0, 0.0]


def test_steps_never_go_back_when_an_actor_starts_anew():
    history = History()
    steps = [10, 20, 30, 0, 10, 40]
    history.append([{"kind": "actor", "env_steps": step, "loop_hz": float(step)} for step in steps])
    curve = history.view()["loop_hz"]
    assert curve["x"] == [10.0, 20.0, 30.0, 40.0]
    assert curve["mean"] == pytest.approx([10.0, 20.0, 40.0 / 3, 40.0], rel=1e-5)  # one place: 30, 0 and 10


def test_series_of_all_kinds_stand_side_by_side():
    history = History()
    history.append([{"kind": "update", "env_steps": 5, "q": 1.0}, {"kind": "actor", "env_steps": 7, "loop_hz": 10.0}])
    curves = history.view()
    assert curves["q"]["x"] == [5.0]
    assert curves["loop_hz"]["x"] == [7.0]


def test_memory_does_not_grow_with_the_run():
    series = Series()
    told = records([0.5] * 5000)
    for _ in range(10):
        series.append(told)
    assert series.records == 50_000
    assert len(series._pieces.step) <= CAPACITY
    assert series._pieces.known.sum() == 50_000


def test_an_empty_history_is_empty():
    assert History().view() == {}
    history = History()
    history.append([])
    history.append([{"kind": "event", "event": "finished"}])
    assert history.view() == {}


def test_a_field_that_changes_its_kind_is_a_gap_where_it_is_no_number():
    history = History()
    values = [1.0, "broken", [2.0], None, 3, 10**400, True]
    history.append([{"kind": "update", "env_steps": i + 1, "loss": value} for i, value in enumerate(values)])
    assert history.view()["loss"]["x"] == [1.0, 5.0, 7.0]
    assert history.view()["loss"]["mean"] == [1.0, 3.0, 1.0]
