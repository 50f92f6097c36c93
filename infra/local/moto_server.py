"""moto's SQS and Secrets Manager, one request at a time: `python -m infra.local.moto_server PORT`.

Its queues are not made for threads: two that receive can get one message, and while one rebuilds
the list of messages without what it deletes, what another adds to the old list is lost. So requests
take turns here, and long polling, which would hold up the others, is done here, too.
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

LOOK_SECONDS = 0.1
"""How late a message is seen whose time to be hidden is over."""

StartResponse = Callable[..., Any]
App = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


def main() -> None:
    """Serve until killed."""
    _spare_moto_needless_looks()
    let_moto_forget()
    make_server(
        "127.0.0.1", int(sys.argv[1]), TakingTurns(), threaded=True, request_handler=_Handler
    ).serve_forever()


def let_moto_forget() -> None:
    """Have no list of all messages that there ever were, deleted or not: 2.7 kB each.

    moto keeps it for a page of its own, which is not served here.
    """
    vars(models)["Message"].instances_tracked = deque(maxlen=0)


class TakingTurns:
    """The applications of both services, for one request at a time.

    moto has one that finds the service of a request, and looks through its folders for that.
    """

    def __init__(self) -> None:
        self._apps: dict[str, App] = {
            "AmazonSQS": create_backend_app("sqs"),
            "secretsmanager": create_backend_app("secretsmanager"),
        }
        self._turn = threading.Condition()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        """Answer a request; one to receive waits for messages, as long as it says, off its turn."""
        content = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        deadline = time.monotonic()
        if environ["HTTP_X_AMZ_TARGET"].endswith(".ReceiveMessage"):
            asked = json.loads(content)
            deadline += asked.pop("WaitTimeSeconds", 0)
            content = json.dumps(asked | {"WaitTimeSeconds": 0}).encode()
        with self._turn:
            while True:
                answer, *start = self._ask(environ, content)
                left_seconds = deadline - time.monotonic()
                if left_seconds <= 0 or b'"Messages"' in answer:
                    self._turn.notify_all()
                    start_response(*start)
                    return [answer]
                self._turn.wait(min(left_seconds, LOOK_SECONDS))

    def _ask(self, environ: dict[str, Any], content: bytes) -> tuple[bytes, str, Any]:
        started: list[Any] = []
        request = environ | {
            "wsgi.input": BytesIO(content),
            "CONTENT_LENGTH": str(len(content)),
        }
        app = self._apps[environ["HTTP_X_AMZ_TARGET"].partition(".")[0]]
        answer = b"".join(app(request, lambda *start: started.extend(start[:2])))
        return answer, started[0], started[1]


class _Handler(WSGIRequestHandler):
    """Keeps connections, and writes no line for each request: that took a quarter of its time."""

    protocol_version = "HTTP/1.1"

    def log_request(self, *_: object) -> None:
        pass


def _spare_moto_needless_looks() -> None:
    """For each message that it takes or gives, moto counts all that there are, reading the clock.

    With a thousand messages that is a quarter of a second.
    """

    def now_ms(_: object = None) -> float:
        return time.time() * 1_000

    def is_fresh(self: Any, queue_name: str, message: Any) -> bool:
        kept_seconds: int = self.get_queue(queue_name).message_retention_period
        return bool(message.sent_timestamp + kept_seconds * 1_000 > now_ms())

    vars(models)["unix_time_millis"] = now_ms
    models.SQSBackend.is_message_valid_based_on_retention_period = is_fresh  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
