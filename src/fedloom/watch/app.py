"""The page's application: what it answers, and to whom.

Loopback alone, a random token as the first part of every path, the Host header checked (a page elsewhere whose name was
bound to this address knows neither), nothing read outside the folder that is watched, nothing changed at all.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from fedloom.watch.places import Places

ASSETS = {
    "": ("page.html", "text/html"),
    "watch.js": ("watch.js", "text/javascript"),
    "watch.css": ("watch.css", "text/css"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}
PICTURE = re.compile(r"(round|labels)_\d{1,9}\.png")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
NOT_KEPT, KEPT = {**HEADERS, "Cache-Control": "no-store"}, {**HEADERS, "Cache-Control": "private, max-age=86400"}

Handler = Callable[[Request], Response]


def make_app(root: Path, token: str) -> Starlette:
    """The application that shows the folder `root` to whoever knows the token."""
    places = Places(root)
    places.state("")  # what is read and imported for the first time is not to be waited for later
    contents = {name: (files("fedloom.watch") / "assets" / file).read_bytes() for name, (file, _) in ASSETS.items()}

    def asset(request: Request) -> Response:
        name = request.path_params.get("asset", "")
        if name not in ASSETS:
            return _nothing()
        return Response(contents[name], media_type=ASSETS[name][1], headers=NOT_KEPT)

    def state(request: Request) -> Response:
        text = places.state(request.query_params.get("at", ""))
        if text is None:
            return _nothing()
        tag = f'"{hashlib.blake2b(text, digest_size=12).hexdigest()}"'
        headers = {**NOT_KEPT, "ETag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(text, media_type="application/json", headers=headers)

    def picture(request: Request) -> Response:
        name, at = request.query_params.get("name", ""), request.query_params.get("at", "")
        path = places.find(f"{at}/samples/{name}") if PICTURE.fullmatch(name) else None
        if path is None or not path.is_file():
            return _nothing()
        return FileResponse(path, media_type="image/png", headers=KEPT)

    routes: Mapping[str, Handler] = {"state": state, "picture": picture, "": asset, "{asset}": asset}
    return Starlette(
        routes=[
            Route(f"/{{token}}/{path}", _guarded(answer, token), methods=["GET"]) for path, answer in routes.items()
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"], www_redirect=False),
            Middleware(GZipMiddleware, minimum_size=2000),
        ],
    )


def _guarded(answer: Handler, token: str) -> Handler:
    def guard(request: Request) -> Response:
        given = str(request.path_params["token"])
        return answer(request) if secrets.compare_digest(given.encode(), token.encode()) else _nothing()

    return guard


def _nothing() -> Response:
    return PlainTextResponse("There is nothing here.", status_code=404, headers=NOT_KEPT)
