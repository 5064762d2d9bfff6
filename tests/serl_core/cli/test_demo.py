import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from robot_servers.service import RobotService
from robot_servers.testing import PointMassBackend, serving
from serl_core.cli.demo import RECIPES, DemoArgs, Observations, _train
from serl_core.cli.processes import ProcessGroup
from serl_core.cli.report import write_report
from serl_core.data.metrics_file import MetricsWriter
from serl_core.errors import ConfigError, SerlError
from serl_core.robots.http_client import HttpRobot
from serl_core.robots.messages import Mode

DEMO = [sys.executable, "-m", "serl_core.cli.main", "demo"]
DOCS = Path(__file__).parents[3] / "docs"


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def recipe(run: Path) -> tuple[float, ...]:
    """What the run's learner was started with, in the order of `Recipe`."""
    settings = json.loads((run / "learner.json").read_text())
    return tuple(settings[name] for name in ("steps", "utd", "batch", "temperature_lr"))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


def test_the_demo_runs_from_a_task_file_to_the_report(tmp_path: Path):
    """A path as --task reached the simulator as the name of a scene; the how-to's file is the one that is run."""
    page = (DOCS / "how-to" / "new-task.md").read_text()
    (tmp_path / "my_task.py").write_text(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0])
    run = tmp_path / "run"
    sizes = ["--steps", "130", "--demonstrations", "1", "--trials", "1"]
    done = subprocess.run(
        [*DEMO, "--task", str(tmp_path / "my_task.py"), "--run", str(run), *sizes],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    summary = json.loads((run / "summary.json").read_text())
    assert done.returncode == (0 if summary["success_rate"] >= 0.95 else 1)
    assert summary["trials"] == 1
    assert summary["robot_minutes_in_all"] > summary["robot_minutes"]
    assert (run / "report.html").read_text().count("data:image/png;base64,") == 3
    last = done.stdout.strip().splitlines()[-3:]
    assert ["success" in last[0], "cycle time" in last[1], "robot minutes" in last[2]] == [True] * 3
    assert recipe(run) == (130, *RECIPES[Observations.STATE][2:5])


def test_the_demo_from_pixels_trains_its_classifier_and_shows_what_it_saw(tmp_path: Path):
    """Every phase of `make demo` at its smallest; what it learns in so few steps does not matter."""
    run = tmp_path / "run"
    sizes = ["--steps", "103", "--demonstrations", "1", "--trials", "1"]
    done = subprocess.run([*DEMO, "--run", str(run), *sizes], capture_output=True, text=True, timeout=230, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert "validation accuracy" in done.stdout
    assert "frozen encoder small-" in done.stdout
    assert recipe(run) == (103, *RECIPES[Observations.PIXELS][2:5])
    assert sum(json.loads((run / "eval.json").read_text())["verdicts"].values()) > 0
    page = (run / "report.html").read_text()
    for part in ("What the policy sees", "wrist, half way", "false positive", "Reliability of the classifier"):
        assert part in page
    rows = re.findall(r"<tr><td>(Validation|Training|Evaluation)[^<]*</td>", page)
    assert rows == ["Validation", "Training", "Evaluation"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_a_demo_that_is_told_to_end(number: signal.Signals, tmp_path: Path):
    demo = subprocess.Popen(
        [*DEMO, "--run", str(tmp_path / "run")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline_s = time.monotonic() + 60
    while not (tmp_path / "run" / "robot.url").exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    running = children(demo.pid)
    assert running
    demo.send_signal(number)
    assert demo.wait(30) != 0
    assert [pid for pid in running if is_alive(pid)] == []


def test_a_process_that_fails_is_named_with_the_last_line_it_said(tmp_path: Path):
    with ProcessGroup(tmp_path) as group:
        group.start("reporter", ["report", str(tmp_path / "nothing")])
        with pytest.raises(SerlError, match=r"the reporter stopped with status 2: serl report: .*no such file"):
            group.wait("reporter", 60.0)


class LivingPrograms(ProcessGroup):
    """All programs live, and none ends by itself."""

    def start(self, name, arguments):
        pass

    def check(self):
        pass

    def is_running(self, name):
        return True

    def wait_for_file(self, name, path, timeout_s):
        return "tcp://127.0.0.1:1"


def test_a_demo_ends_when_its_training_has_stopped_although_the_learner_lives(tmp_path: Path):
    """The learner goes on to serve its actors; the demo noticed only after three minutes without progress."""
    with MetricsWriter(tmp_path / "metrics.jsonl") as metrics:
        metrics.write("event", {"event": "failed", "reason": "losses were not finite"})
    recipe, args = RECIPES[Observations.STATE], DemoArgs(run=tmp_path)
    with pytest.raises(SerlError, match="the training has stopped: losses were not finite"):
        _train(LivingPrograms(tmp_path), tmp_path, args, recipe, "http://127.0.0.1:1", [], Console(quiet=True))


def test_an_arm_that_stopped_by_itself_is_recovered_as_by_a_person_and_the_demo_goes_on(tmp_path: Path, monkeypatch):
    """A wrist that turned too fast in a reset ended a demo after three minutes of nothing."""
    (tmp_path / "robot.token").write_text("secret\n")
    monkeypatch.setenv("SERL_TOKEN_FILE", str(tmp_path / "robot.token"))
    monkeypatch.setattr("serl_core.cli.demo.QUIET_S", 0.05)
    backend, said = PointMassBackend(), Console(file=io.StringIO(), width=100)
    service = RobotService(backend)

    class UntilRecovered(LivingPrograms):
        def is_running(self, name):
            return name == "actor" or service.state().mode is Mode.FAULT

        def wait(self, name, timeout_s):
            pass

    with serving(service, "secret") as url, closing(HttpRobot(url, owner="actor")) as arm:
        arm.connect()
        backend.fail("reflex")
        backend.advance(0.01)
        args = DemoArgs(run=tmp_path)
        _train(UntilRecovered(tmp_path), tmp_path, args, RECIPES[Observations.STATE], url, [], said)
        assert service.state().mode is Mode.HOLD
    assert "the arm had stopped by itself (reflex); recovered" in said.file.getvalue()


@pytest.mark.parametrize("name", ["steps", "demonstrations", "trials"])
def test_sizes_that_cannot_work_are_refused_before_anything_starts(name: str):
    with pytest.raises(ConfigError, match=f"--{name}: must be at least"):
        DemoArgs(**{name: 0})


def test_a_report_passes_over_a_line_torn_by_a_crash(tmp_path: Path):
    episode = {"kind": "episode", "env_steps": 20, "autonomous_success_20": 1.0, "intervention_rate_20": 0.0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(episode | {"cycle_time_s_20": 2.0}) + '\n{"kind": "epi')
    assert write_report(tmp_path).exists()
