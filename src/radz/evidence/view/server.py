"""The server of `radz view`: on the loopback interface, for who knows its address.

Every path begins with a random token. Host names other than those of this machine are refused, so that no page from
outside can be made to read this one by a name of its own (DNS rebinding). Nothing is logged of what is asked.
"""

from __future__ import annotations

import asyncio
import hmac
import io
import json
import logging
import secrets
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from aiohttp import web
from numpy.typing import NDArray
from PIL import Image

from data_modules.errors import InputError
from data_modules.labelling.labeller import Labeller
from radz.evidence.view.frames import Frames
from radz.evidence.view.model import Model
from radz.evidence.view.proofs import marked_report
from radz.evidence.view.worklist import Listed, Worklist
from radz.version import __version__

log = logging.getLogger(__name__)
HOST = "127.0.0.1"
NAMES = (HOST, "localhost", "::1")
"""what the browser of this machine may call it; a tunnel of ssh ends here too, at a port of its own"""
PAGE = Path(__file__).parent / "page"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # the address holds the token
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",  # pictures of patients do not stay in the browser
}
LONGEST_SIDE = 2048
"""pixels of a picture as it is sent; larger ones are reduced"""
THUMBNAIL = 96
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def listen(port: int) -> socket.socket:
    """A socket that listens on the loopback interface.

    Raises:
        InputError: the port is taken, or is not for this user.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # A port of an earlier view that still waits for late packets may be taken again, one that is listened on may not.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise InputError(
            f"port: {port} cannot be listened on ({error.strerror}); choose another, or leave port out for a free one"
        ) from None
    return listener


class Site:
    """What the page asks for."""

    def __init__(
        self, worklist: Worklist, frames: Frames, model: Model, labellers: Mapping[str, Labeller],
        fault: Callable[[], str] = str,
    ) -> None:  # fmt: skip
        """`fault` says why no more scores come, where that is so."""
        self.worklist, self.frames, self.model, self.labellers = worklist, frames, model, labellers
        self.fault, self.token = fault, secrets.token_urlsafe(24)

    def application(self) -> web.Application:
        """Routes below the token."""
        site = web.Application(middlewares=[self._guarded], client_max_size=1024)
        site.add_routes([
            web.get("/{token}/", self._page),
            web.get("/{token}/page/{name}", self._page),
            web.get("/{token}/worklist", self._worklist),
            web.get("/{token}/scores/{first:\\d{1,9}}", self._scores),
            web.get("/{token}/search", self._search),
            web.get("/{token}/studies/{study:\\d{1,9}}", self._study),
            web.get("/{token}/studies/{study:\\d{1,9}}/frames/{frame:\\d{1,9}}", self._frame),
            web.get("/{token}/studies/{study:\\d{1,9}}/frames/{frame:\\d{1,9}}/heat/{finding:\\d{1,9}}", self._heat),
            web.get("/{token}/studies/{study:\\d{1,9}}/thumbnail", self._thumbnail),
            web.get("/{token}/studies/{study:\\d{1,9}}/nearest", self._nearest),
        ])  # fmt: skip
        return site

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse who may not ask; the user's faults as one line, ours as their kind; the same headers for all."""
        response: web.StreamResponse
        if _host_name(request.headers.get("Host", "")) not in NAMES:
            response = _fault(421, "not an address of this machine")
        elif not hmac.compare_digest(_first_part(request.path).encode(errors="replace"), self.token.encode()):
            response = _fault(403, "wrong token; open the address that radz view has printed")
        else:
            try:
                response = await handler(request)
            except web.HTTPException as error:
                response = _fault(error.status, error.reason)
            except InputError as error:
                response = _fault(422, str(error))
            except Exception as error:
                log.exception("view: a request failed")
                response = _fault(500, f"radz view failed ({type(error).__name__}); see its terminal")
        response.headers.update(HEADERS)
        return response

    async def _page(self, request: web.Request) -> web.Response:
        file = PAGE / request.match_info.get("name", "index.html")
        if file.parent != PAGE or file.suffix not in KINDS or not file.is_file():
            raise web.HTTPNotFound()
        return web.Response(text=file.read_text(encoding="utf-8"), content_type=KINDS[file.suffix])

    async def _worklist(self, request: web.Request) -> web.Response:
        return _json(await asyncio.to_thread(lambda: {**self.worklist.plain(), "version": __version__}))

    async def _scores(self, request: web.Request) -> web.Response:
        first = int(request.match_info["first"])
        return _json(await asyncio.to_thread(lambda: {**self.worklist.since(first), "fault": self.fault()}))

    async def _search(self, request: web.Request) -> web.Response:
        words = request.query.get("words", "").casefold().split()
        return _json({"studies": await asyncio.to_thread(self.worklist.with_words, words)})

    async def _study(self, request: web.Request) -> web.Response:
        return _json(await asyncio.to_thread(self._about, self._number(request)))

    def _about(self, number: int) -> dict[str, Any]:
        """Images and report of a study; an image that cannot be read takes nothing away from the report."""
        study, found = self.worklist.studies[number], dict[str, Any]()
        try:
            found["images"] = self.frames.about(self._readable(study))
        except InputError as error:
            found["error"] = study.reason(str(error))
        if study.report:
            found["report"] = marked_report(study.report, self.labellers[study.corpus])
        return found

    async def _frame(self, request: web.Request) -> web.Response:
        about, levels = await asyncio.to_thread(self._levels, request)
        headers = {"X-Frame": json.dumps(about)}
        return web.Response(body=levels, content_type="application/octet-stream", headers=headers)

    def _levels(self, request: web.Request) -> tuple[dict[str, Any], bytes]:
        """What an image is shown by, and its levels [H, W] as little-endian uint16: a canvas takes no 16-bit PNG."""
        number, frame = self._place(request)
        study = self.worklist.studies[number]
        try:
            found = self.frames.read(study, frame)
        except InputError as error:
            raise InputError(study.reason(str(error))) from None
        small = found.within(LONGEST_SIDE)
        height, width = small.levels.shape
        about = {
            "height": height, "width": width, "original": list(found.levels.shape), "slope": found.slope,
            "intercept": found.intercept, "low": found.low, "high": found.high, "inverted": found.inverted,
        }  # fmt: skip
        return about, small.levels.astype("<u2").tobytes()

    async def _heat(self, request: web.Request) -> web.Response:
        return _png(await asyncio.to_thread(self._colours, request))

    def _colours(self, request: web.Request) -> NDArray[np.uint8]:
        number, frame = self._place(request)
        finding = int(request.match_info["finding"])
        if finding >= len(self.worklist.findings):
            raise web.HTTPNotFound()
        return self.model.heat(number, frame, self.worklist.findings[finding])

    async def _thumbnail(self, request: web.Request) -> web.Response:
        planes = await asyncio.to_thread(self.frames.planes, self.worklist.studies[self._number(request)])
        return _png(planes[len(planes) // 2, 0].numpy(), THUMBNAIL)

    async def _nearest(self, request: web.Request) -> web.Response:
        return _json(await asyncio.to_thread(self.model.nearest, self._number(request)))

    def _number(self, request: web.Request) -> int:
        number = int(request.match_info["study"])
        if number >= len(self.worklist.studies):
            raise web.HTTPNotFound()
        return number

    def _place(self, request: web.Request) -> tuple[int, int]:
        number, frame = self._number(request), int(request.match_info["frame"])
        if frame >= len(self.frames.places(self._readable(self.worklist.studies[number]))):
            raise web.HTTPNotFound()
        return number, frame

    @staticmethod
    def _readable(study: Listed) -> Listed:
        if not study.files:
            raise InputError(study.error)
        return study


class Served:
    """Serves a site in a thread of its own while it is entered; `address` is what the browser opens."""

    def __init__(self, site: Site, listener: socket.socket) -> None:
        self.address = f"http://{HOST}:{listener.getsockname()[1]}/{site.token}/"
        self._site, self._listener = site, listener
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="radz view server", daemon=True)
        self._runner = web.AppRunner(site.application(), access_log=None, shutdown_timeout=1.0)

    def __enter__(self) -> Served:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._listener.close()

    async def _start(self) -> None:
        await self._runner.setup()
        await web.SockSite(self._runner, self._listener).start()


def _first_part(path: str) -> str:
    return path.removeprefix("/").partition("/")[0]


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _fault(status: int, text: str) -> web.Response:
    return web.Response(text=json.dumps({"error": text}), status=status, content_type="application/json")


def _json(content: Any) -> web.Response:
    return web.Response(text=json.dumps(content, allow_nan=False), content_type="application/json")


def _png(pixels: NDArray[np.uint8], within: int | None = None) -> web.Response:
    """Pixels [H, W] or [H, W, 4], reduced to so many at most."""
    buffer, picture = io.BytesIO(), Image.fromarray(pixels)
    if within is not None:
        picture.thumbnail((within, within))
    picture.save(buffer, format="PNG", compress_level=1)
    return web.Response(body=buffer.getvalue(), content_type="image/png")
