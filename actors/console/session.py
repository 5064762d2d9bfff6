"""One browser's conversation: it proves itself within two seconds, then speaks and is told the newest."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from actors.console.auth import is_token
from actors.console.browser_messages import FromBrowser, Hello, decode
from actors.console.browsers import MAX_BROWSERS, Browser, Browsers, packed

logger = logging.getLogger(__name__)

HELLO_TIMEOUT_S = 2.0
MAX_MISTAKES = 20  # messages that cannot be read, until the connection is closed
WRONG_TOKEN, TOO_MANY, UNREADABLE = 4401, 4429, 4400  # codes of the closing, for the page
GONE = (WebSocketDisconnect, RuntimeError)  # starlette raises the latter when a send meets a closed socket

Handle = Callable[[Browser, FromBrowser, float], None]


class Sessions:
    """All conversations.

    Args:
        token: of the console.
        browsers: gets each browser that has proved itself.
        greeting: the fields of the first answer.
        handle: carries out a message: the browser, the message and when it came.
    """

    def __init__(
        self, token: str, browsers: Browsers, greeting: Callable[[Browser], dict[str, Any]], handle: Handle
    ) -> None:
        self._token = token
        self._browsers = browsers
        self._greeting = greeting
        self._handle = handle
        self._open = 0  # also those that have not proved themselves

    async def serve(self, socket: WebSocket) -> None:
        """Talk to one browser until it is gone."""
        await socket.accept()
        if self._open >= MAX_BROWSERS:
            await socket.close(TOO_MANY, f"{MAX_BROWSERS} browsers are connected already")
            return
        self._open += 1
        try:
            await self._serve(socket)
        except GONE:
            pass
        finally:
            self._open -= 1

    async def _serve(self, socket: WebSocket) -> None:
        hello = await self._hello(socket)
        if hello is None:
            await socket.close(WRONG_TOKEN, "no token or a wrong one")
            return
        browser = self._browsers.add(hello.operator)
        logger.info("%s has opened the console", browser.operator)
        teller = asyncio.create_task(self._tell(socket, browser))
        try:
            browser.outbox.put_event(packed("hello", **self._greeting(browser)))
            await self._hear(socket, browser)
        finally:
            self._browsers.remove(browser)
            teller.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await teller
            logger.info("%s has closed the console", browser.operator)

    async def _hello(self, socket: WebSocket) -> Hello | None:
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                message = decode(await socket.receive_text())
        except (TimeoutError, msgspec.DecodeError, KeyError):  # KeyError: bytes instead of text
            return None
        return message if isinstance(message, Hello) and is_token(message.token, self._token) else None

    async def _hear(self, socket: WebSocket, browser: Browser) -> None:
        while browser.mistakes < MAX_MISTAKES:
            received = await socket.receive()
            arrived_s = time.monotonic()
            if received["type"] == "websocket.disconnect":
                return
            try:
                message = decode(received.get("text") or "")
            except msgspec.DecodeError as error:
                browser.mistakes += 1
                browser.notice("error", f"the console cannot read this: {error}")
                continue
            self._handle(browser, message, arrived_s)
        await socket.close(UNREADABLE, f"{MAX_MISTAKES} messages could not be read")

    async def _tell(self, socket: WebSocket, browser: Browser) -> None:
        with contextlib.suppress(*GONE):
            while True:
                packet = await browser.outbox.take()
                if isinstance(packet, bytes):
                    await socket.send_bytes(packet)
                else:
                    await socket.send_text(packet)
