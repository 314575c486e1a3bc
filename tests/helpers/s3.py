"""A real S3 server on loopback: moto's, as a separate process."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import requests


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def s3_server(*buckets: str) -> Iterator[dict[str, str]]:
    """Start it with empty buckets; yields the environment in which every S3 client finds it."""
    endpoint = f"http://127.0.0.1:{(port := free_port())}"
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    env = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    try:
        _wait(endpoint, server)
        client = client_of(env)
        for bucket in buckets:
            client.create_bucket(Bucket=bucket)
        yield env
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def client_of(env: dict[str, str]) -> Any:
    """A client of boto3, which the project does not use."""
    return boto3.client(
        "s3",
        endpoint_url=env["AWS_ENDPOINT_URL"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        region_name=env["AWS_DEFAULT_REGION"],
    )


def keys(env: dict[str, str], bucket: str, prefix: str = "") -> dict[str, bytes]:
    """Every object below a prefix, by its key without the prefix."""
    client = client_of(env)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    names = [row["Key"] for page in pages for row in page.get("Contents", [])]
    return {
        name.removeprefix(prefix): client.get_object(Bucket=bucket, Key=name)["Body"].read() for name in sorted(names)
    }


def put(env: dict[str, str], bucket: str, files: dict[str, bytes]) -> None:
    client = client_of(env)
    for name, data in files.items():
        client.put_object(Bucket=bucket, Key=name, Body=data)


def _wait(endpoint: str, server: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        assert server.poll() is None, f"moto's server ended with {server.returncode}"
        try:
            requests.get(endpoint, timeout=5)
            return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise AssertionError("moto's server does not answer")
