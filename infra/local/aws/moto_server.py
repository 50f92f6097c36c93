"""Serves moto's SQS and Secrets Manager: `python -m infra.local.aws.moto_server PORT`.

moto's queues are not thread-safe: two receivers can get the same message, and a message that is
sent while another thread deletes can be lost. This server handles one request at a time, and
implements long polling itself so that it does not block other requests.
"""

import json
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

from moto.moto_server.werkzeug_app import create_backend_app
from moto.sqs import models
from werkzeug.serving import WSGIRequestHandler, make_server

RECHECK_SECONDS = 0.1
"""Maximum delay until a message is seen whose visibility timeout has expired."""

StartResponse = Callable[..., Any]
App = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


def main() -> None:
    """Serve until killed."""
    _speed_up_retention_checks()
    disable_message_tracking()
    make_server(
        "127.0.0.1", int(sys.argv[1]), SerializedApp(), threaded=True, request_handler=_Handler
    ).serve_forever()


def disable_message_tracking() -> None:
    """Stop moto from keeping every message ever sent, 2.7 kB each, for its dashboard.

    The dashboard is not served here.
    """
    vars(models)["Message"].instances_tracked = deque(maxlen=0)


class SerializedApp:
    """The WSGI applications of both services, behind one lock.

    moto's own dispatcher is not used: it searches its folders for the service of a request.
    """

    def __init__(self) -> None:
        self._apps: dict[str, App] = {
            "AmazonSQS": create_backend_app("sqs"),
            "secretsmanager": create_backend_app("secretsmanager"),
        }
        self._lock = threading.Condition()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        """Handle a request. ReceiveMessage releases the lock while it waits for messages."""
        content = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        deadline = time.monotonic()
        if environ["HTTP_X_AMZ_TARGET"].endswith(".ReceiveMessage"):
            parameters = json.loads(content)
            deadline += parameters.pop("WaitTimeSeconds", 0)
            content = json.dumps(parameters | {"WaitTimeSeconds": 0}).encode()
        with self._lock:
            while True:
                body, *start = self._call(environ, content)
                left_seconds = deadline - time.monotonic()
                if left_seconds <= 0 or b'"Messages"' in body:
                    self._lock.notify_all()
                    start_response(*start)
                    return [body]
                self._lock.wait(min(left_seconds, RECHECK_SECONDS))

    def _call(self, environ: dict[str, Any], content: bytes) -> tuple[bytes, str, Any]:
        started: list[Any] = []
        request = environ | {
            "wsgi.input": BytesIO(content),
            "CONTENT_LENGTH": str(len(content)),
        }
        app = self._apps[environ["HTTP_X_AMZ_TARGET"].partition(".")[0]]
        body = b"".join(app(request, lambda *start: started.extend(start[:2])))
        return body, started[0], started[1]


class _Handler(WSGIRequestHandler):
    """Keeps connections alive, and logs no requests: logging took a quarter of the time."""

    protocol_version = "HTTP/1.1"

    def log_request(self, *_: object) -> None:
        pass


def _speed_up_retention_checks() -> None:
    """Read the clock without moto's overhead.

    For each message sent or received, moto checks the retention of all messages of the queue. With
    a thousand messages that took a quarter of a second.
    """

    def now_ms(_: object = None) -> float:
        return time.time() * 1_000

    def is_fresh(self: Any, queue_name: str, message: Any) -> bool:
        retention_seconds: int = self.get_queue(queue_name).message_retention_period
        return bool(message.sent_timestamp + retention_seconds * 1_000 > now_ms())

    vars(models)["unix_time_millis"] = now_ms
    models.SQSBackend.is_message_valid_based_on_retention_period = is_fresh  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
