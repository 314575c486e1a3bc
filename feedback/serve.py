"""Serve the upload and review pages on http://127.0.0.1:5000.

    python -m feedback serve

`make up` and `make serve` start it as well; SERVE_WEB_PORT=0 turns that off. The first start prints a link that makes
the first account. The pages ask the TorchServe of the same SERVE_VAR.
"""

import logging
import os
import signal
import socket
import threading
from pathlib import Path

import click
import uvicorn

from common.cli import command
from common.errors import Busy, InvalidInput
from common.files import write_whole, writing
from feedback.delivery.courier import Courier
from feedback.delivery.watch import watch
from feedback.photos.frozen import frozen_hashes
from feedback.review.ingest import keep_ingesting
from feedback.settings import Settings, read_settings
from feedback.web.app import application, open_site
from feedback.web.site import Site
from handler.spec import Limits

LINK = "first-link"
"""File in var/feedback with the link that makes the first account, while there is none."""


@command(epilog="Example: python -m feedback serve --port 5001")
@click.option("--port", type=click.IntRange(0, 65535), help="0: any free port.  [default: SERVE_WEB_PORT, else 5000]")
@click.option("--host", help="Address to listen on.  [default: SERVE_WEB_HOST, else 127.0.0.1]")
def serve(port: int | None, host: str | None) -> None:
    """Serve the upload and review pages, until Ctrl-C."""
    os.umask(0o077)
    settings = read_settings()
    if port is None and not settings.port:
        raise InvalidInput("SERVE_WEB_PORT is 0, which turns the pages off", "give --port 5000")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    with _listening(host or settings.host, settings.port if port is None else port) as listener:
        url = f"http://{settings.host}:{listener.getsockname()[1]}"
        site = open_site(settings, frozen_hashes(settings.frozen))
        link = _first_link(settings, url, site.people.new_first())
        click.echo(f"pages: {url}" + (f"\nfirst account: {link}" if link else ""))
        config = uvicorn.Config(
            application(site),
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
        )
        server = uvicorn.Server(config)
        server.config.timeout_graceful_shutdown = 5
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        stop = threading.Event()
        _in_background(site, stop)
        server.run(sockets=[listener])
        stop.set()
        site.database.close()


def _in_background(site: Site, stop: threading.Event) -> None:
    """Deliver announced versions and take in captured photos, until `stop` is set."""
    settings, album = site.settings, site.album
    courier = Courier(settings, site.database)
    threading.Thread(target=watch, args=(courier, stop), daemon=True).start()

    def limits() -> Limits:
        return site.classifier.served().spec.limits

    threading.Thread(target=keep_ingesting, args=(album, settings.spool, limits, stop), daemon=True).start()


def _first_link(settings: Settings, url: str, secret: str | None) -> str:
    """Write the one-time link where `make serve` reads it; empty if there is an account."""
    path: Path = settings.folder / LINK
    if secret is None:
        path.unlink(missing_ok=True)
        return ""
    link = f"{url}/first?key={secret}"
    with writing(path):
        write_whole(path, f"{link}\n".encode())
        path.chmod(0o600)
    return link


def _listening(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        fix = "stop that process, or choose another with SERVE_WEB_PORT=PORT"
        raise Busy(f"port {port} of {host} cannot be used: {error.strerror}", fix) from error
    return listener
