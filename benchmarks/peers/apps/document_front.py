"""The classroom document's front service (Django REST framework): stores the photo, then calls the model service.

    gunicorn -w 4 -b 127.0.0.1:8087 benchmarks.peers.apps.document_front:application

That document runs it under uwsgi with a configuration that it does not show; gunicorn is used instead, as for its model
service. Instead of its `eval` of the client's text, `ast.literal_eval` parses the same literal.
"""

import ast
import base64
import json
import os
from pathlib import Path
from typing import Any

import django
import requests
from django.conf import settings

settings.configure(
    SECRET_KEY="measured on loopback only",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "rest_framework"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    DATA_UPLOAD_MAX_MEMORY_SIZE=32_000_000,
)
django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework.decorators import api_view  # noqa: E402
from rest_framework.response import Response  # noqa: E402

from benchmarks.peers.work import LABELS  # noqa: E402


@api_view(["POST"])
def get_pm(request: Any) -> Any:
    """{"image_id", "image_base64": str(bytes)} -> {"image_id", "result"}."""
    content = json.loads(request.body.decode())
    photo = Path(os.environ["BENCH_PHOTOS"]) / f"{content['image_id']}.png"
    photo.write_bytes(base64.b64decode(ast.literal_eval(content["image_base64"])))
    reply = requests.post(os.environ["BENCH_INNER"], json={"image_path": str(photo)}, timeout=200)
    return Response({"image_id": content["image_id"], "result": LABELS[int(reply.text)]})


urlpatterns = [path("api/v1/get_pm/", get_pm)]
application = get_wsgi_application()
