"""Changes to the whole process that runs supervisord. Call `apply` there only: they cannot be undone.

They rely on how supervisor 4.3 starts programs and writes its log; `apply` refuses another version.
"""

import contextlib
import importlib.metadata
import io
import os
import signal
import sys
from collections.abc import Mapping

from common.errors import UserError
from deploy.supervision.torchserve_program import STOPPING

TESTED = (4, 3)


def apply(environment: Mapping[str, str]) -> None:
    """Prepare this process for supervisord.

    Args:
        environment: variables that config/supervisord.conf refers to as %(ENV_NAME)s. supervisord fills them in
            from its own environment, and its programs inherit them.

    Raises:
        UserError: the installed version of supervisor is not the tested one.
    """
    require_tested(importlib.metadata.version("supervisor"))
    os.environ |= environment
    sys.stderr = NeverFailingStderr()
    _keep_signals_across_fork()


def require_tested(version: str) -> None:
    """Refuse a version of supervisor that this module was not tested with.

    Raises:
        UserError: naming both versions.
    """
    if tuple(version.split(".")[:2]) != tuple(map(str, TESTED)):
        tested = ".".join(map(str, TESTED))
        raise UserError(f"supervisor {version} is installed, tested is {tested}", "run make install")


class NeverFailingStderr(io.TextIOBase):
    """A standard error whose writes never fail.

    On a full disk supervisord cannot write its log, reports that on standard error, and ends if this fails too.
    """

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            os.write(2, text.encode("utf-8", "replace"))
        return len(text)


def _keep_signals_across_fork() -> None:
    """Block stop signals during a fork, and reset their handlers in the child.

    Between fork and exec, a child still has supervisord's handlers. A SIGTERM would run one of them in the child and
    be lost there; `make down` would then wait until stopwaitsecs has passed.
    """

    def in_child() -> None:
        for number in STOPPING:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)

    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING),
        after_in_child=in_child,
    )
