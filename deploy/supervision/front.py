"""The program `front` of config/supervisord.conf: whether it runs, and where clients reach it.

The package `traffic` is above this one: supervisord starts it, and nothing here imports it.
"""

import os
import shutil

from deploy.settings import FRONT_PORTS, Settings

_PLACES = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where distributions put nginx; not in everybody's PATH."""


def nginx() -> str | None:
    """The path of nginx; None if it is not installed."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:{_PLACES}")


def starts(settings: Settings) -> bool:
    """Whether supervisord runs the front."""
    return settings.front.on and nginx() is not None


def text(settings: Settings) -> str:
    """One line for people: where the front is, or why there is none; empty if it is switched off."""
    if not settings.front.on:
        return ""
    ports = " and ".join(str(settings.ports[key]) for key in FRONT_PORTS)
    if nginx() is None:
        return f"no front on ports {ports}: nginx is not installed (apt-get install nginx-light)"
    return f"nginx in front of it: {settings.front.host}, ports {ports} (token: python -m traffic token)"
