"""Episodes of classifier frames with people at the console's page: they label, pause, discard, and may steer."""

import contextlib
import time
from collections.abc import Callable, Iterator

import numpy as np

from actors.absence import Absence
from actors.classifier_data import LET_GO_S, FrameRecorder, Pose, Wanted, targets_by_person
from actors.operator_desk import OperatorDesk
from actors.page_label import PageLabel
from actors.step_reports import StepReports
from actors.teleop.interface import Teleop
from serl_core.clock import Clock
from serl_core.data.labelled_frames import LabelledFrames
from serl_core.envs.resets import random_start
from serl_core.errors import ResetError, RobotAway, RobotError, RobotFault
from serl_core.operator.messages import Control, RecordProgress
from serl_core.robots.messages import Mode

POLL_S = 0.05
CONTROLS = {Mode.STOPPED: Control.STOPPED, Mode.FAULT: Control.FAULT, Mode.MOVING: Control.RESET}
NOBODY_LABELLED = "paused: nobody has labelled a frame; resume, then hold success or failure while you see it"


class PageFrames:
    """Runs an episode each time it is called, as `record_frames` wants it; waits while the desk is paused.

    Args:
        labels: of the page; None if something else labels.
        teleop: open; None: a person moves the compliant arm by hand.
    """

    def __init__(
        self,
        recorder: FrameRecorder,
        desk: OperatorDesk,
        reports: StepReports,
        wanted: Wanted,
        *,
        session: str,
        seed: int,
        labels: PageLabel | None = None,
        teleop: Teleop | None = None,
        now: Clock = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._recorder = recorder
        self._absence = Absence(recorder.robot, now=now, sleep=sleep)
        self._desk = desk
        self._reports = reports
        self._wanted = wanted
        self._session = session
        self._labels = labels
        self._teleop = teleop
        self._sleep = sleep
        self._random = np.random.default_rng(seed)
        self._episode = -1
        self._saved = Wanted(0, 0)

    def saved(self, count: Wanted) -> None:
        """Take note of how many frames there are, and tell the consoles."""
        self._saved = count
        self._tell_progress(count)

    def __call__(self, _: bool) -> LabelledFrames | None:
        """Return the frames of an episode; None if none are labelled, a person threw it away, or the arm failed.

        Raises:
            RobotAway: the robot is away for a minute.
            RobotError: it refuses what nobody can mend meanwhile.
        """
        try:
            frames = self._run()
            self._absence.is_over()
            return frames
        except (RobotAway, RobotFault) as fault:
            self._desk.notify("error", f"the frames of this episode are not kept: {fault}")
            if isinstance(fault, RobotAway):
                self._await_robot(fault)
            self._await_recovery()
            return None
        except ResetError as error:
            self._desk.notify("error", str(error))
            self._desk.pause("paused: the arm is not at its start; free its way, then resume", "warning")
            return None

    def _run(self) -> LabelledFrames | None:
        self._await_people()
        if self._teleop is None:
            self._desk.notify("info", f"Let go: the arm moves to its start pose by itself in {LET_GO_S:.0f} s.")
            self._sleep(LET_GO_S)
        self._reports.change(Control.RESET)
        self._recorder.go_to(random_start(self._recorder.task.config.reset, self._random))
        self._await_people()  # a pause of meanwhile
        self._episode += 1
        if self._labels is None:
            return self._recorder.run(self._watched())
        self._labels.begin(self._session, self._episode)
        frames = self._recorder.run(self._watched())
        self._labels.end()
        if self._labels.is_discarded:
            self._desk.notify("info", "discarded: the frames of this episode are not kept")
            return None
        if not self._labels.positives + self._labels.negatives and not self._desk.is_paused:
            self._desk.pause(NOBODY_LABELLED, "warning")
        return frames

    def _watched(self) -> Iterator[Pose]:
        """Yield the person's targets, tell the consoles of each step, and end when they pause or discard."""
        for target in targets_by_person(self._recorder.task, self._recorder.now, self._teleop):
            if self._desk.is_paused:
                with contextlib.suppress(RobotError):  # stopped already, or its watchdog will hold it
                    self._recorder.hold()
                return
            yield target
            self._reports.frame(self._episode, operator=self._desk.operator)
            if self._labels is None:
                continue
            if self._labels.is_discarded:
                return
            positives, negatives = self._labels.positives, self._labels.negatives
            self._tell_progress(Wanted(self._saved.positives + positives, self._saved.negatives + negatives))

    def _await_people(self) -> None:
        while self._desk.is_paused:
            self._reports.change(Control.PAUSED)
            self._sleep(POLL_S)

    def _await_robot(self, away: RobotAway) -> None:
        self._absence.wait(away, lambda: self._reports.change(Control.WAITING))
        self._recorder.await_sight()

    def _await_recovery(self) -> None:
        """Wait until a person has freed the arm; it may also be on a move whose answer was lost."""
        while (mode := self._mode()) not in (Mode.HOLD, Mode.TRACKING):
            if mode is not None:
                self._reports.change(CONTROLS[mode])
            self._sleep(POLL_S)
        self._desk.pause("paused: the arm was stopped, in a fault or silent; resume when it may move again", "warning")

    def _mode(self) -> Mode | None:
        """Return the robot's mode; None if it was away."""
        try:
            return self._recorder.robot.state().mode
        except RobotAway as away:
            self._await_robot(away)
            return None

    def _tell_progress(self, count: Wanted) -> None:
        self._desk.tell(
            RecordProgress(
                what="classifier",
                kept=count.positives,
                wanted=self._wanted.positives,
                negatives=count.negatives,
                negatives_wanted=self._wanted.negatives,
            )
        )
