"""The program `front` of config/supervisord.conf: whether it runs, and where clients reach it.

The package `traffic` is above this one: supervisord starts it, and nothing here imports it.
"""

import contextlib
import os
import shutil
import time

import requests

from deploy.settings import FRONT_PORTS, HOST, Settings
from deploy.torchserve.management import local_session

_PLACES = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where distributions put nginx; not in everybody's PATH."""
_POLL_S = 0.05


def nginx() -> str | None:
    """The path of nginx; None if it is not installed."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:{_PLACES}")


def starts(settings: Settings) -> bool:
    """Whether supervisord runs the front."""
    return settings.front.on and nginx() is not None


def answers(settings: Settings, seconds: float) -> bool:
    """Wait until requests that come through the front are answered; whether they are in time."""
    host = HOST if settings.front.host == "0.0.0.0" else settings.front.host
    url, deadline = f"http://{host}:{settings.ports['front_port']}/ready", time.monotonic() + seconds
    with local_session() as session:
        while time.monotonic() < deadline:
            with contextlib.suppress(requests.RequestException):
                if session.get(url, timeout=seconds).ok:
                    return True
            time.sleep(_POLL_S)
    return False


def text(settings: Settings, answering: bool) -> str:
    """One line for people: where the front is, or why there is none; empty if it is switched off."""
    if not settings.front.on:
        return ""
    ports = " and ".join(str(settings.ports[key]) for key in FRONT_PORTS)
    if nginx() is None:
        return f"no front on ports {ports}: nginx is not installed (apt-get install nginx-light)"
    if not answering:
        return f"nginx does not answer on ports {ports} yet: see {settings.var}/logs/front_program.log"
    return f"nginx in front of it: {settings.front.host}, ports {ports} (token: python -m traffic token)"
