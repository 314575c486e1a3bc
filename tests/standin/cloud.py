"""Stands in for the cloud: reads a package's config.json, installs nothing, builds its service and serves it.

    python cloud.py PACKAGE      # with PACKAGE and this folder alone on sys.path

prints one JSON line when it listens: the port, and which modules of the project it can see (none, it should be).
Requests are checked against config.json before the service sees them (400), answers after (502).
"""

import importlib.util
import inspect
import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import jsonschema
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

PROJECT = ("config", "dataset", "training", "deploy")
# The editable install puts the checkout on sys.path; on the platform there is none.
sys.path = [folder for folder in sys.path if not Path(folder, "pyproject.toml").is_file()]


def validator(schema: dict[str, Any]) -> Any:
    """JSON schema, with the cloud's type `file`."""
    types = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("file", lambda _, value: hasattr(value, "read"))
    return jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=types)(schema)


class Cloud:
    def __init__(self, package: Path) -> None:
        self.config = json.loads((package / "config.json").read_text(encoding="utf-8"))
        assert self.config["model_type"] == "PyTorch"
        for dependency in self.config["dependencies"]:
            for required in dependency["packages"]:
                have = metadata.version(required["package_name"]).partition("+")[0]
                assert have == required["package_version"], required
        (self.api,) = self.config["apis"]
        base: Any = importlib.import_module("model_service.pytorch_model_service").PTServingBaseService
        module = importlib.import_module("customize_service")
        classes: list[Any] = [
            value for _, value in inspect.getmembers(module, inspect.isclass) if issubclass(value, base)
        ]
        (service,) = (value for value in classes if value is not base)
        self.service: Any = service("model", str(package / "weights.pth"))

    def __call__(self, environ: Any, start_response: Any) -> Any:
        return self.answer(Request(environ))(environ, start_response)

    def answer(self, request: Request) -> Response:
        expected = self.api["request"]
        if (request.path, request.method.lower()) != (self.api["url"], self.api["method"]):
            return Response("no such api", 404)
        if request.mimetype != expected["Content-type"]:
            return Response(f"send {expected['Content-type']}", 415)
        fault = jsonschema.exceptions.best_match(validator(expected["data"]).iter_errors(dict(request.files)))
        if fault:
            return Response(fault.message, 400)
        data = {name: {file.filename: file.stream for file in files} for name, files in request.files.lists()}
        answer = self.service.inference(data)
        fault = jsonschema.exceptions.best_match(validator(self.api["response"]["data"]).iter_errors(answer))
        if fault:
            return Response(fault.message, 502)
        return Response(json.dumps(answer), content_type=self.api["response"]["Content-type"])


if __name__ == "__main__":
    seen = [name for name in PROJECT if importlib.util.find_spec(name)]
    server = make_server("127.0.0.1", 0, Cloud(Path(sys.argv[1])))
    print(json.dumps({"port": server.server_port, "sees": seen}), flush=True)
    server.serve_forever()
