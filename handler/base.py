"""TorchServe's BaseHandler, imported without the OpenVINO backend of torch.compile, which this project does not use.

`import openvino.torch` loads torch's compiler: 230 MB of a worker's memory and most of BaseHandler's import time
(docs/log.md). BaseHandler works without it if the import fails, and None in `sys.modules` makes it fail
(https://docs.python.org/3/reference/import.html#the-module-cache).
"""

import sys

_BLOCKED = "openvino.torch"

_not_imported = _BLOCKED not in sys.modules
if _not_imported:
    sys.modules[_BLOCKED] = None  # type: ignore[assignment]
try:
    from ts.torch_handler.base_handler import BaseHandler
finally:
    if _not_imported:
        del sys.modules[_BLOCKED]

__all__ = ["BaseHandler"]
