"""Whether a person who has nothing but the console's page can teach the policy RAM insertion, from state.

Run as `python benchmarks/console_human.py --run FOLDER`. A scripted person (`console_player.py`) presses keys in a
headless Chromium. They give `serl record --teleop browser` its demonstrations, then correct a training run until it
has its steps: `serl robot-server` in real time, `serl learner` and `serl actor --teleop browser`, as for a real arm.
The policy is then scored alone. While it has less than 95 % it trains on, a stage at a time. All scores are kept, and
FOLDER/human.json says what happened. Takes about 40 minutes; needs Debian's chromium and chromium-driver. Given the
folder of a run that was cut short, it goes on with it.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from console_player import Player
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from examples.ram_insertion import CONFIG
from serl_core.cli.processes import ProcessGroup, ended_by_signals
from serl_core.data.metrics_file import read_metrics
from serl_core.errors import SerlError
from serl_core.robots.http_client import HttpRobot

REQUIRED_SUCCESS = 0.95
START_TIMEOUT_S = 120.0
EVAL_TIMEOUT_S = 900.0
MOST_STARTS = 6  # of the actor in a stage, or of the recorder
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1366,768")


@contextmanager
def browser_at(link: str) -> Iterator[webdriver.Chrome]:
    """Yield a browser with the page open."""
    binary, tool = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or tool is None:
        raise SerlError("no browser: install Debian's chromium and chromium-driver")
    options = Options()
    options.binary_location = binary
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service(tool))
        try:
            driver.get(link)
            yield driver
        finally:
            driver.quit()


class Game:
    """The programs about one run, and the person at the page."""

    def __init__(self, run: Path, group: ProcessGroup, args: argparse.Namespace) -> None:
        before = run / "human.json"
        self.told: dict[str, Any] = json.loads(before.read_text()) if before.exists() else {"task": CONFIG.name}
        self._minutes_before = self.told.get("wall_minutes", 0.0)
        self._run, self._group, self._args = run, group, args
        self._started_s = time.monotonic()

    def start_arm(self, name: str, clock: str) -> str:
        """Serve a simulated arm; return its address."""
        ready = self._run / f"{name.replace(' ', '-')}.url"
        ready.unlink(missing_ok=True)
        options = ["--backend", "sim", "--clock", clock, "--scene", "ram_insertion", "--port", "0"]
        if clock == "real_time" and self._args.real_time_priority:
            options += ["--real-time-priority"]
        self._group.start(name, ["robot-server", *options, "--ready-file", str(ready)])
        return self._group.wait_for_file(name, ready, START_TIMEOUT_S)

    def start_console(self, robot: str) -> str:
        """Serve the page; return its link."""
        ready = self._run / "console.url"
        ready.unlink(missing_ok=True)
        common = ["--run", str(self._run), "--robot", robot, "--port", "0", "--task", CONFIG.name]
        self._group.start("console", ["console", *common, "--ready-file", str(ready)])
        url = self._group.wait_for_file("console", ready, START_TIMEOUT_S)
        return f"{url}/#token={(self._run / 'console.token').read_text().strip()}"

    def demonstrate(self, player: Player, robot: str) -> None:
        """Let the person record demonstrations."""
        began_s = time.monotonic()
        common = ["--task", CONFIG.name, "--robot", robot, "--run", str(self._run), "--teleop", "browser"]
        starts = 0
        while (kept := len(list((self._run / "demos").glob("demonstration-*")))) < self._args.demonstrations:
            starts += 1
            missing = ["--count", str(self._args.demonstrations - kept), "--out", str(self._run / "demos")]
            self._group.start("recorder", ["record", *common, *missing])
            player.play(lambda: not self._group.is_running("recorder"))
            if starts == MOST_STARTS:
                self._group.check()
        if starts:
            self._tell("demonstrations", began_s, player, kept=kept, recorder_starts=starts)

    def steps_so_far(self) -> int:
        """Return how many steps the run has trained on."""
        path = self._run / "metrics.jsonl"
        records = read_metrics(path) if path.exists() else []
        return int(records[-1]["env_steps"]) if records else 0

    def train(self, player: Player, robot: str, steps: int, *, resume: bool) -> None:
        """Let the person correct the policy until the run has so many steps."""
        began_s = time.monotonic()
        address = self._run / "learner.address"
        address.unlink(missing_ok=True)
        options = ["--task", CONFIG.name, "--run", str(self._run), "--demos", str(self._run / "demos")]
        options += ["--steps", str(steps), "--port", "0", "--ready-file", str(address)]
        recipe = ["--utd", str(self._args.utd), "--batch", "256", "--temperature-lr", "3e-4"]
        self._group.start("learner", ["learner", *options, *(["--resume"] if resume else recipe)])
        learner = self._group.wait_for_file("learner", address, START_TIMEOUT_S)
        actor = ["--task", CONFIG.name, "--robot", robot, "--learner", learner, "--run", str(self._run)]
        if self._args.real_time_priority:
            actor += ["--real-time-priority"]
        actor += ["--teleop", "browser"]
        self._group.start("actor", ["actor", *actor])
        starts = 1

        def is_over() -> bool:
            nonlocal starts
            if not self._group.is_running("learner"):
                return True
            if not self._group.is_running("actor") and starts < MOST_STARTS and self.steps_so_far() < steps:
                starts += 1  # on a busy machine the simulated arm may go quiet, which ends an actor
                self._group.start("actor", ["actor", *actor])
            self._group.check()
            return False

        player.play(is_over)
        self._group.wait("actor", START_TIMEOUT_S)
        episodes = [r for r in read_metrics(self._run / "metrics.jsonl") if r["kind"] == "episode"]
        self._tell(
            "training",
            began_s,
            player,
            steps=steps,
            actor_starts=starts,
            episodes=len(episodes),
            corrected_episodes=sum(r["intervention_rate"] > 0 for r in episodes),
            intervention_rate_by_quarter=_by_quarter([r["intervention_rate"] for r in episodes]),
            alone_success_20=episodes[-1].get("autonomous_success_20") if episodes else None,
        )

    def evaluate(self, robot: str) -> float:
        """Score the policy alone; return its success rate."""
        out = self._run / "eval.json"
        policy = ["--policy", str(self._run / "policy.safetensors"), "--trials", str(self._args.trials)]
        self._group.start("evaluation", ["eval", "--task", CONFIG.name, "--robot", robot, *policy, "--out", str(out)])
        self._group.wait("evaluation", EVAL_TIMEOUT_S)
        found = json.loads(out.read_text())
        keys = ("successes", "trials", "success_rate", "wilson_low", "wilson_high", "median_cycle_s")
        self.told.setdefault("evaluations", []).append({key: found[key] for key in keys})
        self.save()
        return float(found["success_rate"])

    def save(self) -> None:
        """Write down what has happened so far."""
        self.told["wall_minutes"] = round(self._minutes_before + (time.monotonic() - self._started_s) / 60, 1)
        (self._run / "human.json").write_text(json.dumps(self.told, indent=2) + "\n")

    def _tell(self, what: str, began_s: float, player: Player, **facts: Any) -> None:
        facts |= {
            "wall_minutes": round((time.monotonic() - began_s) / 60, 1),
            "key_presses": player.hands.presses,
            "takeovers": player.takeovers,
            "resumed_after_a_pause": player.resumed,
            "recovered_from_a_fault": player.recovered,
        }
        self.told.setdefault(what, []).append(facts)
        print(f"{what}: {json.dumps(facts)}", flush=True)
        self.save()


def _by_quarter(values: list[float]) -> list[float]:
    size = max(1, -(-len(values) // 4))
    parts = [values[start : start + size] for start in range(0, len(values), size)]
    return [round(sum(part) / len(part), 3) for part in parts]


def play(run: Path, args: argparse.Namespace) -> bool:
    """Do the whole; return whether the policy is good enough."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "task.json").write_text(CONFIG.to_json())
    with ended_by_signals(), ProcessGroup(run / "logs") as group:
        game = Game(run, group, args)
        robot = game.start_arm("robot server", "real_time")
        link = game.start_console(robot)
        with browser_at(link) as browser, closing(HttpRobot(robot, owner="eyes")) as eyes:
            game.demonstrate(Player(browser, eyes.state, is_demonstrating=True), robot)
            if not args.steps:
                return True
            steps, rate = args.steps, 0.0
            while True:
                if game.steps_so_far() < steps:
                    player = Player(browser, eyes.state, is_demonstrating=False)
                    game.train(player, robot, steps, resume=game.steps_so_far() > 0)
                arm = f"arm of the evaluation {steps}"
                rate = game.evaluate(game.start_arm(arm, "lockstep"))
                print(f"after {steps} steps: {100 * rate:.0f} % alone", flush=True)
                if rate >= REQUIRED_SUCCESS or steps >= args.most_steps:
                    return rate >= REQUIRED_SUCCESS
                steps += args.more_steps


def main() -> int:
    """Play and print; 0 when the policy succeeds in at least 95 % of the trials alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a new folder, or that of a run to go on with")
    parser.add_argument("--demonstrations", type=int, default=20)
    parser.add_argument("--steps", type=int, default=7000, help="of the first stage; 0: demonstrations only")
    parser.add_argument("--more-steps", type=int, default=1500, help="of each stage after it")
    parser.add_argument("--most-steps", type=int, default=13000)
    parser.add_argument("--utd", type=int, default=4)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--real-time-priority", action="store_true", help="of robot server and actor; needs root")
    args = parser.parse_args()
    is_good = play(args.run, args)
    print((args.run / "human.json").read_text())
    return 0 if is_good else 1


if __name__ == "__main__":
    raise SystemExit(main())
