"""A server of the S3 protocol on loopback: moto's, an emulator. Requests are counted from its log."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time

BUCKET = "lake"


class Server:
    """The server; ``variables`` are what a program needs to use it."""

    def __init__(self, log, port):
        self.log = log
        self.variables = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret-of-the-store",
            "AWS_REGION": "us-east-1",
        }

    @property
    def requests(self):
        """The requests so far: method, and path with its query."""
        return re.findall(r'"([A-Z]+) (\S+) HTTP', self.log.read_text(errors="replace"))


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def served(folder):
    """A server with an empty bucket, whose variables are set in this process as well."""
    import boto3

    server = Server(folder / "server.log", free_port())
    program = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", server.variables["AWS_ENDPOINT_URL"][17:]]
    with server.log.open("wb") as log:
        process = subprocess.Popen(program, stdout=log, stderr=subprocess.STDOUT)
    before = {name: os.environ.get(name) for name in server.variables}
    os.environ.update(server.variables)
    try:
        until = time.monotonic() + 60
        while "Running on" not in server.log.read_text():
            assert process.poll() is None, server.log.read_text()
            assert time.monotonic() < until, server.log.read_text()
            time.sleep(0.1)
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield server
    finally:
        process.kill()
        process.wait()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
