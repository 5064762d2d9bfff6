"""`serl demo --backend franky-sim`: the whole system through libfranka, in real time, without an arm."""

import json

import pytest

from serl_core.cli.demo import Arm, DemoArgs, run_demo
from serl_core.data.metrics_file import read_metrics
from serl_core.errors import ConfigError


def test_all_programs_work_together_on_an_arm_behind_libfranka(tmp_path):
    run = tmp_path / "run"
    assert run_demo(DemoArgs(backend=Arm.FRANKY_SIM, run=run, steps=110, demonstrations=1, trials=1)) == 0
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["task"], summary["trials"]) == ("reach", 1)
    records = read_metrics(run / "metrics.jsonl")
    assert [record["event"] for record in records if record["kind"] == "event"][-1] == "finished"
    assert len(list((run / "demos").glob("*.safetensors"))) == 1
    assert (run / "policy.safetensors").exists()
    assert (run / "report.html").exists()
    assert "backend='franky'" in (run / "logs" / "robot server.log").read_text()


@pytest.mark.parametrize("task", ["ram_insertion", "ram_insertion_pixels"])
def test_a_task_with_a_scene_or_cameras_is_refused_before_anything_starts(task, tmp_path):
    with pytest.raises(ConfigError, match="try reach"):
        run_demo(DemoArgs(backend=Arm.FRANKY_SIM, task=task, run=tmp_path / "run"))
    assert not (tmp_path / "run").exists()
