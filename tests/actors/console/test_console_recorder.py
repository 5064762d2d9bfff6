"""Recording demonstrations from the page."""

import pytest

from actors.console.recorder import Recorder, RecorderOptions
from serl_core.errors import ConfigError
from tests.actors.console.rig import NO_ROBOT, FakeActor, console, run_async


def options(folder, **changes):
    (folder / "robot.token").write_text("x")
    values = {"run": folder, "robot": NO_ROBOT, "robot_token_file": folder / "robot.token", "task": "ram_insertion"}
    return RecorderOptions(**values | changes)


def test_a_recording_that_fails_says_why(tmp_path):
    async def record():
        told = []
        recorder = Recorder(options(tmp_path), lambda level, text: told.append((level, text)))
        await recorder.start("demonstrations", 3)
        with pytest.raises(ConfigError, match="under way already"):
            await recorder.start("demonstrations", 3)
        await recorder._watch
        return told

    begun, ended = run_async(record())
    assert begun[0] == "info"
    assert ended[0] == "error"
    assert "no robot server at" in ended[1]


def test_frames_for_the_classifier_are_recorded_by_its_own_program(tmp_path):
    async def record():
        told = []
        recorder = Recorder(options(tmp_path), lambda level, text: told.append((level, text)))
        await recorder.start("classifier", 4)
        await recorder._watch
        return told[-1]

    level, text = run_async(record())
    assert level == "error"
    assert "has no cameras, and a classifier needs images" in text  # of this task


def test_a_recording_can_be_ended(tmp_path):
    async def record():
        told = []
        recorder = Recorder(options(tmp_path), lambda level, text: told.append((level, text)))
        await recorder.start("demonstrations", None)
        await recorder.close()
        with pytest.raises(ConfigError, match="no recording is under way"):
            recorder.stop()
        return told

    assert len(run_async(record())) == 2


def test_without_a_task_nothing_is_recorded(tmp_path):
    with pytest.raises(ConfigError, match="start the console with --task"):
        run_async(Recorder(options(tmp_path, task=None), lambda *_: None).start("demonstrations", 3))


def test_while_an_actor_has_the_arm_nothing_is_recorded(tmp_path):
    with console(tmp_path) as served, FakeActor(tmp_path / "run"), served.page() as page:
        page.hear("step")
        page.say("record", what="demonstrations", count=3)
        assert "actor-0 has the arm" in page.hear("notice")["text"]
        page.say("record", what="demonstrations", stop=True)
        assert "no recording" in page.hear("notice")["text"]
