"""`serl learner --resume` went on without the run's demonstrations, and with whatever options it was given."""

import shutil

import pytest

from learners.settings import RunSettings, new_settings, resumed_settings
from serl_core.data.episode_log import save_episode
from serl_core.errors import ConfigError, DataError
from serl_core.testing.episodes import make_episode


@pytest.fixture
def run(tmp_path):
    """Return the folder of a run that has its demonstrations inside."""
    run = tmp_path / "run"
    for episode in range(2):
        steps = make_episode(episode=episode)
        save_episode(run / "demos" / f"{episode}.safetensors", steps, task_digest="cafe")
    return run


def test_what_is_not_given_has_its_default(run):
    assert new_settings(run, "ram", None, seed=None, utd=None) == RunSettings(task="ram")


def test_a_resume_needs_no_option(run):
    settings = new_settings(run, "ram", run / "demos", seed=3, utd=8, critics=None, steps=500)
    settings.save(run)
    assert resumed_settings(run, "ram", None, seed=None) == settings
    assert (settings.seed, settings.utd, settings.steps) == (3, 8, 500)
    assert settings.demos_folder(run) == run / "demos"


def test_a_run_may_be_moved_with_its_demonstrations(run, tmp_path):
    new_settings(run, "ram", run / "demos").save(run)
    moved = run.rename(tmp_path / "moved")
    assert resumed_settings(moved, "ram", None).demos_folder(moved) == moved / "demos"


def test_the_schedule_may_change(run):
    new_settings(run, "ram", None, steps=500, publish_every=5).save(run)
    settings = resumed_settings(run, "ram", None, steps=900, publish_every=None)
    assert (settings.steps, settings.publish_every) == (900, 5)


@pytest.mark.parametrize("name", ["seed", "utd", "critics", "capacity"])
def test_another_value_of_what_shapes_the_run_is_refused_naming_both(run, name):
    new_settings(run, "ram", None, **{name: 5}).save(run)
    assert getattr(resumed_settings(run, "ram", None, **{name: 5}), name) == 5
    with pytest.raises(ConfigError, match=f"{name}: the run was started with 5, got 6"):
        resumed_settings(run, "ram", None, **{name: 6})


def test_another_task_is_refused_naming_both(run):
    new_settings(run, "ram", None).save(run)
    with pytest.raises(ConfigError, match="task: the run was started with ram, got usb"):
        resumed_settings(run, "usb", None)


def test_the_same_demonstrations_elsewhere_are_the_same(run, tmp_path):
    new_settings(run, "ram", run / "demos").save(run)
    elsewhere = shutil.copytree(run / "demos", tmp_path / "elsewhere")
    shutil.rmtree(run / "demos")
    settings = resumed_settings(run, "ram", elsewhere)
    assert settings.demos_folder(run) == elsewhere


@pytest.mark.parametrize("started_with_some", [True, False])
def test_other_demonstrations_are_refused_naming_both(run, tmp_path, started_with_some):
    new_settings(run, "ram", run / "demos" if started_with_some else None).save(run)
    other = tmp_path / "other"
    save_episode(other / "0.safetensors", make_episode(episode=9), task_digest="cafe")
    was = "demos .digest [0-9a-f]{16}" if started_with_some else "None .digest None"
    with pytest.raises(ConfigError, match=f"demos: the run was started with {was}.*, got .*other .digest [0-9a-f]"):
        resumed_settings(run, "ram", other)


@pytest.mark.parametrize("change", ["one more", "one less", "another", "none"])
def test_demonstrations_that_have_changed_are_refused(run, change):
    new_settings(run, "ram", run / "demos").save(run)
    if change == "one less":
        (run / "demos" / "1.safetensors").unlink()
    elif change == "none":
        shutil.rmtree(run / "demos")
    else:
        name = {"one more": "2", "another": "1"}[change]
        save_episode(run / "demos" / f"{name}.safetensors", make_episode(episode=9), task_digest="cafe")
    with pytest.raises(DataError, match="no folder .*demos" if change == "none" else "demos are not those"):
        resumed_settings(run, "ram", None)


def test_a_run_without_its_settings_is_not_guessed_at(run):
    with pytest.raises(DataError, match=r"no .*learner\.json: how the run was started is not known"):
        resumed_settings(run, "ram", None)
    (run / "learner.json").write_text("{}")
    with pytest.raises(DataError, match=r"learner\.json is corrupt"):
        resumed_settings(run, "ram", None)
