"""`python -m tests.helpers.running.dying train ...`: python -m training, which dies after its first checkpoint."""

import os
from typing import Any

from training.__main__ import main
from training.fitting.checkpoints import Recorder


def die(*_: Any) -> None:
    os._exit(9)


if __name__ == "__main__":
    Recorder.epoch = die  # type: ignore[assignment, method-assign]
    main(prog_name="python -m training")
