"""In the root of the archive, so that Python imports it before TorchServe: a worker starts at low priority."""

import sys

if any(word.endswith("model_service_worker.py") for word in sys.orig_argv):
    from handler.worker import priority

    priority.lower()
