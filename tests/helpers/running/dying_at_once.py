"""`python -m tests.helpers.running.dying_at_once`: a command that is killed."""

import os
import signal

os.kill(os.getpid(), signal.SIGKILL)
