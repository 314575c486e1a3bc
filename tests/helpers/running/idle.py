"""Whether this user may leave the scheduler's idle class: root in most containers, but not in all."""

import subprocess
import sys

import pytest

_TRY = """
import os
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
"""
_DONE = subprocess.run([sys.executable, "-c", _TRY], capture_output=True, timeout=60, check=False)

needs_idle_class = pytest.mark.skipif(_DONE.returncode != 0, reason="this user may not leave the idle class")
