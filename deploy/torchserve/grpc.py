"""A client of TorchServe's gRPC API: it sends a photo's bytes without base64, and gets the handler's JSON.

The two messages are those of TorchServe's inference.proto (package org.pytorch.serve.grpc.inference). They are built
here with the protobuf library: a generated stub would depend on the version of its generator.
"""

import json
from functools import cache
from http import HTTPStatus
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from deploy.settings import HOST, Settings
from deploy.torchserve.keys import read_key
from deploy.torchserve.management import ANSWER_S
from handler.errors import CODES

PACKAGE = "org.pytorch.serve.grpc.inference"
METHOD = f"/{PACKAGE}.InferenceAPIsService/Predictions"
FIELD = descriptor_pb2.FieldDescriptorProto


class GrpcClient:
    """Inference over gRPC by one TorchServe, or by the front; use as a context manager.

    Args:
        token: of a client of the front; empty: ask TorchServe itself, with its own key.
    """

    def __init__(self, settings: Settings, token: str = "") -> None:
        self.settings, self.token = settings, token
        port = "front_grpc_port" if token else "grpc_inference_port"
        self.address = f"{HOST}:{settings.ports[port]}"
        options = [
            (f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")
        ]  # the server has its own limit
        self.channel = grpc.insecure_channel(self.address, [*options, ("grpc.enable_http_proxy", 0)])
        request, response = messages()
        self.request = request
        self.call = self.channel.unary_unary(
            METHOD, request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )

    def __enter__(self) -> "GrpcClient":
        return self

    def __exit__(self, *reason: object) -> None:
        self.channel.close()

    def predict(self, model: str, image: bytes, image_id: str, detail: bool = False) -> dict[str, Any]:
        """Classify one photo.

        Args:
            model: NAME or NAME/VERSION.

        Returns:
            the handler's answer with `status`, the status that it would have over HTTP; an `error` with the status None
            if TorchServe itself refused or nothing answered.
        """
        name, _, version = model.partition("/")
        fields = {"data": image, "image_id": image_id.encode(), "detail": str(detail).lower().encode()}
        request = self.request(model_name=name, model_version=version, input=fields)
        token = self.token or read_key(self.settings.var, "inference")
        try:
            answer = self.call(request, metadata=[("authorization", f"Bearer {token}")], timeout=ANSWER_S)
        except grpc.RpcError as error:
            return _refused(error, self.address)
        return _answered(answer.prediction)


@cache
def messages() -> tuple[Any, Any]:
    """The classes PredictionsRequest and PredictionResponse."""
    file = descriptor_pb2.FileDescriptorProto(name="inference.proto", package=PACKAGE, syntax="proto3")
    request = file.message_type.add(name="PredictionsRequest")
    request.field.add(name="model_name", number=1, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL)
    request.field.add(name="model_version", number=2, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL)
    entry = request.nested_type.add(name="InputEntry", options=descriptor_pb2.MessageOptions(map_entry=True))
    entry.field.add(name="key", number=1, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=FIELD.TYPE_BYTES, label=FIELD.LABEL_OPTIONAL)
    kind = f".{PACKAGE}.PredictionsRequest.InputEntry"
    request.field.add(name="input", number=3, type=FIELD.TYPE_MESSAGE, label=FIELD.LABEL_REPEATED, type_name=kind)
    response = file.message_type.add(name="PredictionResponse")
    response.field.add(name="prediction", number=1, type=FIELD.TYPE_BYTES, label=FIELD.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = ("PredictionsRequest", "PredictionResponse")
    classes = [message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in names]
    return classes[0], classes[1]


def _answered(prediction: bytes) -> dict[str, Any]:
    """The handler's JSON with `status`. Over gRPC an error has no status: it follows from the error's code."""
    try:
        content = dict(json.loads(prediction))
    except (ValueError, TypeError):
        message = prediction[:200].decode("utf-8", "replace")
        return {"error": {"code": "no_json", "message": message}, "status": None}
    if "error" not in content:
        return content | {"status": int(HTTPStatus.OK)}
    status = CODES.get(dict(content["error"]).get("code", ""))
    return content | {"status": status and int(status)}


def _refused(error: Any, address: str) -> dict[str, Any]:
    code, details = error.code(), str(error.details())
    try:  # an answer of the handler that TorchServe turned into an error
        content = json.loads(details)
        return _answered(json.dumps(content if "error" in content else {"error": content}).encode())
    except (ValueError, TypeError):
        pass
    if code is grpc.StatusCode.UNAVAILABLE:
        message = f"nothing answers at {address}: start the server with make serve"
        return {"error": {"code": "unreachable", "message": message}, "status": None}
    return {"error": {"code": code.name.lower(), "message": " ".join(details.split())[:200]}, "status": None}
