"""TorchServe's BaseHandler, without the OpenVINO backend of torch.compile that it imports for nothing of ours.

`import openvino.torch` brings torch's compiler: 230 MB of a worker's memory and most of BaseHandler's import time
(docs/log.md). BaseHandler takes it as not installed where it cannot be imported, and None in `sys.modules` says so
(https://docs.python.org/3/reference/import.html#the-module-cache).
"""

import sys

_UNUSED = "openvino.torch"

_absent = _UNUSED not in sys.modules
if _absent:
    sys.modules[_UNUSED] = None  # type: ignore[assignment]
try:
    from ts.torch_handler.base_handler import BaseHandler
finally:
    if _absent:
        del sys.modules[_UNUSED]

__all__ = ["BaseHandler"]
