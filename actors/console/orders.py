"""What the console does with each message of a browser."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Future

from actors.console import browser_messages as said
from actors.console.actor_feed import ActorFeed
from actors.console.browsers import Browser, Browsers, packed
from actors.console.recorder import Recorder
from actors.console.robot_orders import RobotOrders
from actors.console.steering import Steering
from serl_core.data.relabels import Relabel, RelabelFile
from serl_core.errors import ConfigError, DataError, RobotError
from serl_core.operator import messages
from serl_core.robots.messages import RobotState

logger = logging.getLogger(__name__)

ORDER_TIMEOUT_S = 4.0


class Orders:
    """Carries out what people ask for, on the event loop; nothing here waits for anything that may hang."""

    def __init__(
        self,
        browsers: Browsers,
        actor: ActorFeed,
        steering: Steering,
        robot_orders: RobotOrders,
        relabels: RelabelFile,
        recorder: Recorder,
        changed: Callable[[str, int], None],
    ) -> None:
        self._browsers = browsers
        self._actor = actor
        self._steering = steering
        self._robot_orders = robot_orders
        self._relabels = relabels
        self._recorder = recorder
        self._changed = changed  # gets session and episode whose label is another now
        self._tasks: set[asyncio.Task[None]] = set()

    def handle(self, browser: Browser, message: said.FromBrowser, arrived_s: float) -> None:
        """Carry out one message. What comes of it later is told in notices."""
        match message:
            case said.Teleop():
                self._steering.forward(browser, message, arrived_s)
            case said.Ping():
                browser.age.age_s(arrived_s, message.sent_ms / 1e3)
                if message.rtt_ms is not None:
                    browser.age.set_round_trip(message.rtt_ms / 1e3)
                browser.outbox.put_newest("pong", packed("pong", sent_ms=message.sent_ms))
            case said.Stop():
                self._start(self.stop(browser.operator))
            case said.Label():
                self._tell(browser, self._label(browser, message))
            case said.Veto():
                veto = messages.Veto(operator=browser.operator, session=message.session, episode=message.episode)
                self._tell(browser, veto)
            case said.Pause():
                self._tell(browser, messages.Pause(operator=browser.operator))
            case said.Resume():
                self._tell(browser, messages.Resume(operator=browser.operator))
            case said.ResumeRobot():
                order = messages.ResumeRobot(operator=browser.operator)
                self._free(browser, order, "resume", self._robot_orders.resume)
            case said.Recover():
                recover = messages.Recover(operator=browser.operator, cause=message.cause)
                self._free(browser, recover, "recover", lambda: self._robot_orders.recover(message.cause))
            case said.Relabel() | said.Undo():
                self._start(self._relabel(browser, message))
            case said.Record():
                self._start(self._record(browser, message))
            case said.Set():
                browser.notice("error", f"this console has no setting {message.name!r}")
            case said.Hello():
                browser.notice("warning", "hello was said already")

    def close(self) -> None:
        """Take no more orders."""
        self._robot_orders.close()

    def why_not_record(self) -> str | None:
        """Return why no recording can begin now; None if one can."""
        if self._actor.is_there and not self._recorder.is_running:
            return f"{self._actor.actor_id} has the arm; end it before a recording"
        return self._recorder.why_not()

    async def stop(self, who: str) -> None:
        """Latch the robot's stop and tell everybody.

        Raises:
            RobotError: it did not get through.
        """
        try:
            await asyncio.wait_for(asyncio.wrap_future(self._robot_orders.stop()), ORDER_TIMEOUT_S)
        except (RobotError, TimeoutError) as error:
            reason = str(error) or f"no answer within {ORDER_TIMEOUT_S:g} s"
            logger.error("the stop of %s did not get through: %s", who, reason)
            self._browsers.notice("error", f"STOP DID NOT GET THROUGH: {reason}. Use the user stop.")
            raise RobotError(reason) from None
        logger.warning("stopped by %s", who)
        self._browsers.notice("warning", "the arm was stopped from the console")  # two ways of one press: one notice

    def _tell(self, browser: Browser, message: messages.ToActor) -> None:
        if not self._actor.send(message):
            what = type(message).__name__.lower()
            browser.notice("error", f"{what} was not sent: {self._actor.why_not_sent()}")

    def _free(
        self,
        browser: Browser,
        message: messages.ToActor,
        what: str,
        order: Callable[[], Future[RobotState]],
    ) -> None:
        """Have the actor free the robot; without an actor do it here."""
        if not self._actor.send(message):
            self._start(self._order(browser, what, order))

    async def _order(self, browser: Browser, what: str, order: Callable[[], Future[RobotState]]) -> None:
        try:
            await asyncio.wait_for(asyncio.wrap_future(order()), ORDER_TIMEOUT_S)
        except (RobotError, TimeoutError) as error:
            reason = str(error) or f"no answer within {ORDER_TIMEOUT_S:g} s"
            browser.notice("error", f"{what}: {reason}")
        else:
            self._browsers.notice("info", f"{browser.operator}: {what}, the arm holds where it is")

    async def _relabel(self, browser: Browser, message: said.Relabel | said.Undo) -> None:
        try:
            line = await asyncio.to_thread(self._write_label, browser.operator, message)  # it waits for the disk
        except DataError as error:
            browser.notice("error", str(error))
        else:
            self._changed(line.session, line.episode)

    def _write_label(self, operator: str, message: said.Relabel | said.Undo) -> Relabel:
        if isinstance(message, said.Undo):
            return self._relabels.undo(operator, session=message.session, episode=message.episode)
        return self._relabels.add(message.session, message.episode, message.label, operator)

    async def _record(self, browser: Browser, message: said.Record) -> None:
        try:
            if message.stop:
                self._recorder.stop()
            elif (refusal := self.why_not_record()) is not None:
                raise ConfigError(refusal)
            else:
                await self._recorder.start(message.what, message.count)
        except ConfigError as error:
            browser.notice("error", str(error))

    def _label(self, browser: Browser, message: said.Label) -> messages.Label:
        """Return the label for the episode that the person saw: it must not end one that has begun meanwhile."""
        session, episode = message.session, message.episode
        if episode is None and self._actor.step is not None and self._actor.step.episode >= 0:
            session, episode = self._actor.step.session, self._actor.step.episode
        return messages.Label(operator=browser.operator, label=message.label, session=session, episode=episode)

    def _start(self, work: Awaitable[object]) -> None:
        async def alone() -> None:
            try:
                await work
            except RobotError:
                pass  # it was told in a notice
            except Exception:  # a task of its own: nobody else would ever hear of it
                logger.exception("an order failed")

        task = asyncio.get_running_loop().create_task(alone())
        self._tasks.add(task)  # the loop itself forgets a task that nobody holds
        task.add_done_callback(self._tasks.discard)
