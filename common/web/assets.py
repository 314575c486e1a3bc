"""Serve `common/web/static/`, and protect the answers of a web page.

    Starlette(routes=[..., shared_files()], middleware=[Middleware(SecurityHeaders)])

    /common/theme.css   colours in light and dark, buttons, panels, the stage that shows a photo
    /common/keys.js     Shortcuts: keys that work on every keyboard layout
    /common/zoom.js     Zoom: enlarge the photo in a stage by click, wheel, pinch, keys and buttons
    /common/photos.js   show a photo without a jump, load the next one ahead

A page links `/common/theme.css` before its own style, and its script imports the modules by these addresses.
"""

from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

STATIC = Path(__file__).parent / "static"
CONTENT_POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
"""Nothing is loaded from another server, no script or style stands in the HTML, and no form is sent."""


def shared_files() -> Mount:
    """The route of the shared files."""
    return Mount("/common", StaticFiles(directory=STATIC), name="common")


class SecurityHeaders:
    """Adds security headers to every answer; an answer is cached only if its route says so.

    Args:
        app: the application.
        content_policy: a page that sends forms gives its own.
    """

    def __init__(self, app: ASGIApp, content_policy: str = CONTENT_POLICY) -> None:
        self.app = app
        self.headers = {
            "Content-Security-Policy": content_policy,
            "Cross-Origin-Resource-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(self.headers)
                headers.setdefault("Cache-Control", "no-cache")
            await send(message)

        await self.app(scope, receive, add)
