"""An HTTP server with scripted responses: also late, invalid or missing ones."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Step:
    """One response. With the status None the connection is closed instead."""

    status: int | None = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    after_seconds: float = 0


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass
class Scripted:
    """URL, received requests and remaining responses; the last response is repeated."""

    url: str
    steps: list[Step]
    asked: list[Asked] = field(default_factory=list)

    @property
    def keys(self) -> list[str]:
        return [asked.headers["idempotency-key"] for asked in self.asked]


def problem(status: int, code: str, **more: Any) -> Step:
    headers = {"content-type": "application/problem+json"} | more.pop("headers", {})
    document = {"type": "about:blank", "status": status, "code": code, "requestId": "r-1"}
    return Step(status, document | more, headers)


@contextmanager
def scripted(*steps: Step) -> Iterator[Scripted]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    script = Scripted(f"http://127.0.0.1:{server.server_address[1]}", list(steps))
    server.script = script  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        script: Scripted = self.server.script  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        document = json.loads(body) if body else None
        script.asked.append(Asked(self.command, self.path, headers, document))
        step = script.steps.pop(0) if len(script.steps) > 1 else script.steps[0]
        time.sleep(step.after_seconds)
        if step.status is None:
            self.close_connection = True
            return
        content = step.body if isinstance(step.body, bytes) else json.dumps(step.body).encode()
        with suppress(ConnectionError):  # the client did not wait
            self.send_response(step.status)
            for name, value in step.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    do_POST = do_GET  # noqa: N815 - http.server calls it

    def log_message(self, *_: Any) -> None:
        pass
