"""Pictures of the cameras that are plugged in at the actor: asked for over the operator link while somebody looks."""

import asyncio
import time
from collections.abc import Sequence

from actors.console.actor_feed import ActorFeed
from actors.console.browsers import Browsers, picture_packet
from actors.console.picture_feed import PictureReading
from serl_core.clock import Clock
from serl_core.operator.messages import Picture, PictureRequest

PERIOD_S = 0.1
SIDE = 192  # pixels: small enough for a message of the link


class ActorPictures:
    """Asks for each camera in turn, ten times a second.

    Args:
        actor: the link.
        names: of the cameras.
        browsers: get the pictures.
    """

    def __init__(
        self, actor: ActorFeed, names: Sequence[str], browsers: Browsers, clock: Clock = time.monotonic
    ) -> None:
        self.newest = {name: PictureReading(None, None) for name in names}
        self._actor = actor
        self._browsers = browsers
        self._clock = clock

    async def follow(self) -> None:
        """Ask until cancelled."""
        while True:
            if len(self._browsers):
                for name, reading in self.newest.items():
                    is_sent = self._actor.send(PictureRequest(name=name, side=SIDE))
                    problem = None if is_sent else self._actor.problem or "the actor is behind"
                    self.newest[name] = reading._replace(problem=problem)
            await asyncio.sleep(PERIOD_S)

    def take(self, picture: Picture) -> None:
        """Give a picture to the browsers."""
        self.newest[picture.name] = PictureReading(self._clock(), None)
        self._browsers.put_newest(f"picture {picture.name}", picture_packet(picture.name, picture.jpeg))
