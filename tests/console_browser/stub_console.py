"""A console that says what a test tells it to, and keeps what the page said: the page's tests need no robot."""

import asyncio
import json
import threading
import time
from contextlib import suppress
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

import actors.console
from serl_core.robots.pictures import pack

PAGE = Path(actors.console.__path__[0]) / "page"
TOKEN = "0" * 64
SESSION = "5e551011"

ROBOT = {
    "stamp_s": 0.0,
    "tcp_pose": [0.5, 0.0, 0.1, 1.0, 0.0, 0.0, 0.0],
    "tcp_wrench": [0.0, 0.0, -4.0, 0.1, 0.0, 0.0],
    "gripper": 1.0,
    "mode": "tracking",
    "fault": None,
    "is_stale": False,
    "lease_epoch": 7,
}
STEP = {
    "kind": "step",
    "session": SESSION,
    "episode": 3,
    "step": 17,
    "control": "policy",
    "end": "running",
    "operator": None,
    "is_intervention": False,
    "success_probability": 0.2,
    "success_threshold": 0.5,
    "policy_version": 5,
    "policy_age_s": 1.2,
    "loop_hz": 10.0,
    "late_ticks": 0,
    "camera_age_s": {"wrist": 0.03},
    "tcp_pose": ROBOT["tcp_pose"],
    "tcp_wrench": ROBOT["tcp_wrench"],
}
HELLO = {
    "kind": "hello",
    "api": "1.0",
    "run": "ram-7",
    "task": {
        "name": "ram_insertion",
        "control_hz": 10.0,
        "time_limit_steps": 100,
        "has_gripper": True,
        "target_pose": [0.5, 0.0, 0.058, 1.0, 0.0, 0.0, 0.0],
    },
    "cameras": ["wrist"],
    "limits": {"force_n": 20.0, "torque_nm": 25.0},
    "box": {"low_m": [0.44, -0.06, 0.045], "high_m": [0.56, 0.06, 0.14]},
}


class StubConsole:
    """Serves the page and both of its ways: HTTP and the WebSocket. Its own thread; safe from the test's."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, dict]] = []  # (this machine's monotonic clock, message), as the page sent them
        self.stops: list[float] = []
        self.robot = dict(ROBOT)
        self.state_extra: dict = {"control": "policy", "operator": None, "ages": {}, "missing": {}}
        self.metrics: list[dict] = []  # of the run: GET /history shows them
        self.other_runs: dict[str, list[dict]] = {}
        self.episodes: list[dict] = []
        self.undone: list[dict] = []
        self.evaluation: dict | None = None
        self.help: dict = {"corrected": [], "count": 0, "spread": None, "episodes_not_alone": 0}
        self.robot_answers = True  # to a stop
        self.thumbnail: bytes | None = None
        self.burden_s = 0.0  # by which every GET but the page's waits
        self._sockets: set[WebSocket] = set()
        self._ready = threading.Event()

    def start(self, port: int = 0) -> None:
        routes = [
            Route("/", lambda request: FileResponse(PAGE / "index.html")),
            Mount("/page", StaticFiles(directory=PAGE)),
            Route("/stop", self._stop, methods=["POST"]),
            Route("/history", self._history),
            Route("/runs", self._runs),
            Route("/episodes", self._episodes),
            Route("/episodes/{name}/thumbnail.jpg", self._thumbnail),
            Route("/help", self._help),
            Route("/evaluation", self._evaluation),
            WebSocketRoute("/ws", self._ws),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes),
            port=port,
            log_level="warning",
            lifespan="off",
            ws="websockets-sansio",
            loop="asyncio",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.01)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self._loop = self._server.servers[0].get_loop()

    def end(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()

    @property
    def link(self) -> str:
        return f"http://127.0.0.1:{self.port}/#token={TOKEN}"

    def said(self, kind: str) -> list[dict]:
        """What the page has said of one kind."""
        return [message for _, message in list(self.heard) if message["kind"] == kind]

    def tell(self, message: dict | bytes) -> None:
        """Say something to all pages."""
        asyncio.run_coroutine_threadsafe(self._tell(message), self._loop).result(10)

    def cut(self, code: int = 1011) -> None:
        """Close every connection."""
        asyncio.run_coroutine_threadsafe(self._cut(code), self._loop).result(10)

    async def _tell(self, message: dict | bytes) -> None:
        for socket in list(self._sockets):
            with suppress(RuntimeError, WebSocketDisconnect):
                if isinstance(message, bytes):
                    await socket.send_bytes(message)
                else:
                    await socket.send_text(json.dumps(message))

    async def _cut(self, code: int) -> None:
        for socket in list(self._sockets):
            await socket.close(code)

    async def _ws(self, socket: WebSocket) -> None:
        await socket.accept()
        hello = json.loads(await socket.receive_text())
        self.heard.append((time.monotonic(), hello))
        if hello.get("token") != TOKEN:
            await socket.close(4401)
            return
        self._sockets.add(socket)
        states = asyncio.create_task(self._states(socket))
        try:
            await socket.send_text(json.dumps(HELLO | {"operator": hello["operator"]}))
            while True:
                message = json.loads(await socket.receive_text())
                self.heard.append((time.monotonic(), message))
                if message["kind"] == "ping":
                    await socket.send_text(json.dumps({"kind": "pong", "sent_ms": message["sent_ms"]}))
                await self._answer(message)
        except WebSocketDisconnect:
            pass
        finally:
            states.cancel()
            self._sockets.discard(socket)

    async def _states(self, socket: WebSocket) -> None:
        with suppress(RuntimeError, WebSocketDisconnect):
            while True:
                await socket.send_text(json.dumps({"kind": "state", "robot": self.robot, **self.state_extra}))
                await asyncio.sleep(0.1)

    async def _answer(self, message: dict) -> None:
        """Relabel and undo change the list, as the console's do."""
        if message["kind"] == "relabel":
            episode = next(e for e in self.episodes if e["episode"] == message["episode"])
            self.undone.append(dict(episode))
            episode["label"] = message["label"]
            await self._tell({"kind": "episode", **episode})
        if message["kind"] == "undo" and self.undone:
            before = self.undone.pop()
            place = next(i for i, e in enumerate(self.episodes) if e["episode"] == before["episode"])
            self.episodes[place] = before
            await self._tell({"kind": "episode", **before})

    def _may(self, request: Request) -> bool:
        return request.headers.get("authorization") == f"Bearer {TOKEN}"

    async def _stop(self, request: Request) -> Response:
        self.stops.append(time.monotonic())
        if not (self._may(request) and self.robot_answers):
            return JSONResponse({"detail": "the robot server does not answer"}, 502)
        self.robot |= {"mode": "stopped", "fault": "stop by the console"}
        return JSONResponse({"stopped": True})

    async def _get(self, request: Request, content: dict) -> Response:
        await asyncio.sleep(self.burden_s)
        return JSONResponse(content) if self._may(request) else JSONResponse({"detail": "no token"}, 401)

    async def _history(self, request: Request) -> Response:
        run = request.query_params.get("run")
        return await self._get(request, history(self.other_runs[run] if run else self.metrics))

    async def _runs(self, request: Request) -> Response:
        return await self._get(request, {"runs": ["ram-7", *self.other_runs], "current": "ram-7"})

    async def _episodes(self, request: Request) -> Response:
        return await self._get(request, {"episodes": self.episodes, "can_undo": bool(self.undone)})

    async def _help(self, request: Request) -> Response:
        return await self._get(request, self.help)

    async def _evaluation(self, request: Request) -> Response:
        return await self._get(request, {"evaluation": self.evaluation, "clips": []})

    async def _thumbnail(self, request: Request) -> Response:
        if self.thumbnail is None or not self._may(request):
            return JSONResponse({"detail": "no picture"}, 404)
        return Response(self.thumbnail, media_type="image/jpeg")


def history(records: list[dict]) -> dict:
    """What GET /history says of a run's metrics."""
    series: dict[str, dict] = {}
    for record in records:
        for name, value in record.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool) and name != "env_steps":
                curve = series.setdefault(name, {"x": [], "mean": [], "min": [], "max": []})
                curve["x"].append(record["env_steps"])
                for part in ("mean", "min", "max"):
                    curve[part].append(value)
    return {"run": "ram-7", "series": series}


def picture(name: str, image) -> bytes:
    """A camera's picture as it travels to the page."""
    from serl_core.robots.messages import PictureFormat

    letters = name.encode()
    return bytes([len(letters)]) + letters + pack(image, PictureFormat.JPEG)
