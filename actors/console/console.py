"""The console: its feeds, its browsers, and what goes from the ones to the others."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

from actors.console.actor_feed import ActorFeed
from actors.console.actor_pictures import ActorPictures
from actors.console.browsers import Browser, Browsers, packed, picture_packet
from actors.console.episode_list import EpisodeList, slim
from actors.console.orders import Orders
from actors.console.picture_feed import PictureFeed
from actors.console.progress import Progress
from actors.console.recorder import Recorder, RecorderOptions
from actors.console.results import ReportWriter
from actors.console.robot_connection import NoRobotConnection, RobotConnection
from actors.console.robot_feed import RobotFeed
from actors.console.robot_orders import RobotOrders
from actors.console.run_feed import RunFeed, is_episode
from actors.console.settings import ConsoleSettings
from actors.console.snapshot import Sources, fields_of, state_fields
from actors.console.steering import Steering
from actors.console.tail import Record
from actors.console.task_facts import actor_cameras, box_facts, robot_camera_sizes, task_facts
from serl_core.data.relabels import RelabelFile
from serl_core.operator import messages
from serl_core.operator.messages import OperatorNotice, Picture, RecordProgress, StepReport

logger = logging.getLogger(__name__)

API_VERSION = "1.0"
PERIOD_S = 0.1
STATE_TIMEOUT_S = 1.0
PICTURE_TIMEOUT_S = 2.0
STOP_TIMEOUT_S = 2.0
ROLES = ("observe", "stop", "steer", "label", "record")


class Console:
    """Everything but the web server. `running` starts the feeds; the constructor only stores."""

    def __init__(self, settings: ConsoleSettings) -> None:
        self.settings = settings
        self.browsers = Browsers()
        relabels = RelabelFile(settings.run)
        has_pictures = settings.config is None or bool(settings.config.observation.cameras)
        self.recorder = Recorder(_recorder_options(settings), self.browsers.notice)
        self.report = ReportWriter(settings.run)
        self.run_feed = RunFeed(settings.run, self._tell_records)
        self.episodes = EpisodeList(self.run_feed, relabels, has_pictures=has_pictures)
        self.other_feeds = {name: RunFeed(path) for name, path in settings.other_runs.items()}
        self.actor = ActorFeed(
            settings.run,
            settings.actor_id,
            self._hear_actor,
            robot=settings.robot,
            health=lambda: self.robot.health,
        )
        self.robot = RobotFeed(self._connect(STATE_TIMEOUT_S), self.browsers.is_watched)
        self.orders = Orders(
            self.browsers,
            self.actor,
            Steering(self.actor, self.robot, settings.mountings),
            RobotOrders(lambda: self._connect(STOP_TIMEOUT_S), lambda: self.robot.health),
            relabels,
            self.recorder,
            self._tell_episode,
        )
        self._progress = Progress(settings.run)
        self._pictures: PictureFeed | None = None
        self._actor_pictures = ActorPictures(self.actor, actor_cameras(settings.config), self.browsers)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting_step: StepReport | None = None  # not told yet
        self._last_end: tuple[str, int] | None = None  # session and episode of the last end that was told

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the feeds."""
        self._loop = asyncio.get_running_loop()
        self._pictures = PictureFeed(
            lambda: self._connect(PICTURE_TIMEOUT_S),
            robot_camera_sizes(self.settings.config),
            self._publish_picture,
            self.browsers.is_watched,
        )
        self.robot.start()
        self._pictures.start()
        feeds = {
            "run": self.run_feed.follow(),
            "actor": self.actor.follow(),
            "state": self._tell_state(),
            "actor's pictures": self._actor_pictures.follow(),
        }
        tasks = [asyncio.create_task(self._followed(name, work)) for name, work in feeds.items()]
        try:
            yield
        finally:
            self.robot.end()
            self._pictures.end()
            self.orders.close()
            await self.recorder.close()
            for task in tasks:
                task.cancel()
            for task in tasks:
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    def greeting(self, browser: Browser) -> dict[str, Any]:
        """Return the fields of the first message to a browser."""
        config = self.settings.config
        robot_names = set(robot_camera_sizes(config)) | set(self._pictures.newest if self._pictures else ())
        return {
            "api": API_VERSION,
            "operator": browser.operator,
            "run": self.settings.run.name,
            "task": task_facts(config),
            "cameras": [*sorted(robot_names), *actor_cameras(config)],
            "limits": self.settings.limits,
            "box": box_facts(config),
            "roles": ROLES,
        }

    async def feed_of(self, name: str | None) -> RunFeed | None:
        """Return the feed of a run, read to its end; None when there is no such run."""
        if name is None or name == self.settings.run.name:
            await self.run_feed.is_loaded.wait()
            return self.run_feed
        feed = self.other_feeds.get(name)
        while feed is not None and await feed.read():
            pass
        return feed

    # ---- from the feeds to the browsers

    async def _followed(self, name: str, work: Coroutine[None, None, None]) -> None:
        """Run a feed; should it fail, the others go on, and everybody knows."""
        try:
            await work
        except Exception:  # whatever it was: a stop must still get through
            logger.exception("the console's feed of the %s has failed", name)
            self.browsers.notice("error", f"the console's feed of the {name} has failed: start the console anew")

    async def _tell_state(self) -> None:
        while True:
            if len(self.browsers):
                self.browsers.put_newest("state", packed("state", **self._state()))
                if self._waiting_step is not None:
                    self.browsers.put_newest("step", packed("step", **fields_of(self._waiting_step)))
                    self._waiting_step = None
            await asyncio.sleep(PERIOD_S)

    def _state(self) -> dict[str, Any]:
        now_s = time.monotonic()
        actor, run = self.actor, self.run_feed
        assert self._pictures is not None
        sources = Sources(
            robot=self.robot.newest,
            actor_step=actor.step if actor.is_there else None,
            actor_age_s=None if actor.heard_s is None else now_s - actor.heard_s,
            actor_problem=None if actor.is_there else actor.problem,
            learner_age_s=run.learner_age_s(),
            cameras={**self._pictures.newest, **self._actor_pictures.newest},
        )
        return state_fields(
            sources,
            now_s,
            time=round(time.time(), 3),
            progress=self._progress.view(),
            recording=None if actor.recording is None or not actor.is_there else fields_of(actor.recording),
            operators=[browser.operator for browser in self.browsers],
            other_robot=actor.other_robot,
            recorder={"is_running": self.recorder.is_running, "why_not": self.orders.why_not_record()},
        )

    def _hear_actor(self, message: messages.FromActor) -> None:
        match message:
            case StepReport():
                self._tell_step(message)
            case OperatorNotice():
                self.browsers.notice(message.level, message.text, operator=message.operator)
            case RecordProgress():
                self.browsers.put_newest("record", packed("record", **fields_of(message)))
            case Picture():
                self._actor_pictures.take(message)

    def _tell_step(self, step: StepReport) -> None:
        if step.end == "running":
            self._waiting_step = step  # told with the next state: a simulation may take far more than ten a second
            return
        self._waiting_step = None
        end = (step.session, step.episode)
        if end != self._last_end:  # the actor repeats its last report: an end is told once
            self._last_end = end
            # At once, and also to a slow browser: a success can be vetoed for a second.
            self.browsers.put_event(packed("step", **fields_of(step)), instead_of="step")

    def _tell_records(self, records: Sequence[Record]) -> None:
        if not len(self.browsers):
            return
        self.browsers.put_event(packed("metrics", records=[slim(record) for record in records]))
        for record in records:
            if is_episode(record):
                self.browsers.put_event(packed("episode", **self.episodes.entry(record)))

    def _tell_episode(self, session: str, episode: int) -> None:
        entry = self.episodes.find(session, episode)
        if entry is not None:
            self.browsers.put_event(packed("episode", **entry))

    def _publish_picture(self, name: str, jpeg: bytes) -> None:
        """Take a picture from a camera's thread to the event loop."""
        assert self._loop is not None
        packet = picture_packet(name, jpeg)
        with contextlib.suppress(RuntimeError):  # the loop has closed
            self._loop.call_soon_threadsafe(self.browsers.put_newest, f"picture {name}", packet)

    def _connect(self, timeout_s: float) -> RobotConnection:
        if self.settings.robot is None:
            return NoRobotConnection()
        return RobotConnection(self.settings.robot, self.settings.robot_token_file, timeout_s)


def _recorder_options(settings: ConsoleSettings) -> RecorderOptions:
    return RecorderOptions(
        run=settings.run, robot=settings.robot, robot_token_file=settings.robot_token_file, task=settings.task
    )
