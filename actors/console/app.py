"""The console's HTTP and WebSocket interface, on one page."""

import asyncio
import re
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles

from actors.console.auth import LOCAL_HOSTS, Guard
from actors.console.console import Console
from actors.console.results import clip_path, load_evaluation
from actors.console.session import Sessions
from actors.console.thumbnails import episode_file, last_picture, media_type
from serl_core.errors import DataError, RobotError
from serl_core.robots.messages import Mode

PAGE = Path(__file__).parent / "page"
CLOSED = ("/stop", "/history", "/runs", "/episodes", "/help", "/evaluation", "/clips", "/report")
EPISODE_ID = re.compile(r"\A(?P<session>[0-9A-Za-z_]{1,64})-(?P<episode>[0-9]{1,9})\Z", re.ASCII)
CAMERA = re.compile(r"\A[0-9A-Za-z_-]{1,32}\Z")
MAX_POINTS = 4000
NOT_KEPT = {"Cache-Control": "no-store"}


def create_app(console: Console, token: str, hosts: Collection[str] = LOCAL_HOSTS) -> FastAPI:
    """Return the web application of a console; its feeds run while the application does."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with console.running():
            yield

    app = FastAPI(title="serl console", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.add_middleware(Guard, token=token, hosts=hosts, closed=CLOSED)
    sessions = Sessions(token, console.browsers, console.greeting, console.orders.handle)
    _add_stop(app, console)
    _add_history(app, console)
    _add_episodes(app, console)
    _add_results(app, console)

    @app.websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        await sessions.serve(socket)

    @app.get("/")
    async def page() -> Response:
        return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})

    app.mount("/page", StaticFiles(directory=PAGE))
    return app


def _add_stop(app: FastAPI, console: Console) -> None:
    @app.post("/stop")
    async def stop() -> Response:  # whatever the body is: a stop is never refused for its form
        try:
            await console.orders.stop("a browser")
        except RobotError as error:
            return _problem(502, str(error))
        return _json({"mode": Mode.STOPPED.value})


def _add_history(app: FastAPI, console: Console) -> None:
    @app.get("/history")
    async def history(request: Request) -> Response:
        query = request.query_params
        try:
            since_s, points = float(query.get("since", "0")), int(query.get("points", "600"))
        except ValueError:
            return _problem(422, "since is a wall time in s, points a whole number")
        if not 2 <= points <= MAX_POINTS:
            return _problem(422, f"points must be 2 to {MAX_POINTS}, got {points}")
        feed = await console.feed_of(query.get("run"))
        if feed is None:
            return _problem(404, f"no run {query['run']!r}; there are {', '.join(console.other_feeds)}")
        return await asyncio.to_thread(
            lambda: _json({"run": feed.run.name, "series": feed.history.view(since_s, points)})
        )

    @app.get("/runs")
    async def runs() -> Response:
        name = console.settings.run.name
        return _json({"runs": [name, *console.other_feeds], "current": name})


def _add_episodes(app: FastAPI, console: Console) -> None:
    @app.get("/episodes")
    async def episodes() -> Response:
        await console.run_feed.is_loaded.wait()
        return _json(console.episodes.view())

    @app.get("/help")
    async def help_so_far() -> Response:
        await console.run_feed.is_loaded.wait()
        return _json(console.run_feed.help.view())

    @app.get("/episodes/{name}/thumbnail.jpg")
    async def thumbnail(name: str, camera: str | None = None) -> Response:
        found = EPISODE_ID.match(name)
        if found is None or (camera is not None and not CAMERA.match(camera)):
            return _problem(404, "no such episode")
        path = episode_file(console.settings.run, found["session"], int(found["episode"]))
        picture = await asyncio.to_thread(last_picture, path, camera)
        if picture is None:
            return _problem(404, "this episode has no picture in the learner's log")
        return Response(picture, media_type=media_type(picture), headers={"Cache-Control": "private, max-age=3600"})


def _add_results(app: FastAPI, console: Console) -> None:
    run, clips = console.settings.run, console.settings.clips

    @app.get("/evaluation")
    async def evaluation() -> Response:
        return _json(await asyncio.to_thread(load_evaluation, run, clips))

    @app.get("/clips/{name}.mp4")
    async def clip(name: str) -> Response:
        path = clip_path(clips, name)
        if path is None:
            return _problem(404, f"no clip of that name in {clips.name}; `serl eval --video` makes them")
        return FileResponse(path, media_type="video/mp4", headers=NOT_KEPT)

    @app.get("/report")
    async def report() -> Response:
        try:
            path = await console.report.write()
        except DataError as error:
            return _problem(409, str(error))
        return FileResponse(path, media_type="text/html", filename=f"{run.name}-report.html", headers=NOT_KEPT)


def _json(content: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json", headers=NOT_KEPT)


def _problem(status: int, detail: str) -> Response:
    body = msgspec.json.encode({"status": status, "detail": detail})
    return Response(body, status, media_type="application/problem+json")
