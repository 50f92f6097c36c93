"""A client of the Lambda Runtime API, for systems that awslambdaric has no wheels for.

A program with the arguments of awslambdaric, and the same behaviour towards the function.
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import http.client
import importlib
import io
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

RUNTIME = "/2018-06-01/runtime"

Handler = Callable[[Any, "Context"], Any]


@dataclass(frozen=True)
class Context:
    """The context object of a handler."""

    aws_request_id: str
    invoked_function_arn: str
    deadline_ms: int
    function_name: str = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "")
    function_version: str = os.environ.get("AWS_LAMBDA_FUNCTION_VERSION", "")
    memory_limit_in_mb: str = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
    log_group_name: str = os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME", "")
    log_stream_name: str = os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME", "")

    def get_remaining_time_in_millis(self) -> int:
        """Time until the invocation times out."""
        return max(0, self.deadline_ms - int(time.time() * 1_000))


class Api:
    """A client of the Runtime API that uses one connection."""

    def __init__(self, address: str) -> None:
        """`address`: host and port."""
        self._connection = http.client.HTTPConnection(address)

    def next(self) -> tuple[bytes, Context]:
        """Wait for the next event."""
        event, headers = self._call("GET", "/invocation/next")
        _set_trace(headers["Lambda-Runtime-Trace-Id"])
        context = Context(
            headers["Lambda-Runtime-Aws-Request-Id"],
            headers["Lambda-Runtime-Invoked-Function-Arn"],
            int(headers["Lambda-Runtime-Deadline-Ms"]),
        )
        return event, context

    def respond(self, context: Context, response: bytes) -> None:
        """Report the result of the handler."""
        self._call("POST", f"/invocation/{context.aws_request_id}/response", response)

    def fail(self, context: Context, error: dict[str, Any]) -> None:
        """Report an exception of the handler."""
        path = f"/invocation/{context.aws_request_id}/error"
        self._call("POST", path, json.dumps(error).encode(), error["errorType"])

    def fail_to_start(self, error: dict[str, Any]) -> None:
        """Report that the handler could not be loaded."""
        self._call("POST", "/init/error", json.dumps(error).encode(), error["errorType"])

    def _call(
        self, method: str, path: str, body: bytes | None = None, error_type: str = ""
    ) -> tuple[bytes, Message]:
        headers = {"Lambda-Runtime-Function-Error-Type": error_type} if error_type else {}
        self._connection.request(method, RUNTIME + path, body, headers)
        response = self._connection.getresponse()
        content = response.read()
        if response.status >= http.client.BAD_REQUEST:
            raise RuntimeError(f"the Runtime API returned {response.status} for {path}")
        return content, response.headers


def run(name: str, api: Api) -> None:
    """Load the handler, then process events one at a time."""
    try:
        module, _, function = name.rpartition(".")
        handler: Handler = getattr(importlib.import_module(module), function)
    except Exception as error:  # noqa: BLE001 - reported to the API
        api.fail_to_start(_error_document(error))
        sys.exit(1)
    while True:
        event, context = api.next()
        _handle(event, context, handler, api)


def _handle(event: bytes, context: Context, handler: Handler, api: Api) -> None:
    try:
        response = json.dumps(handler(json.loads(event), context)).encode()
    except Exception as error:  # noqa: BLE001 - fails the event, not the environment
        api.fail(context, _error_document(error))
    else:
        api.respond(context, response)


def _set_trace(trace_id: str | None) -> None:
    """Set the variable that the X-Ray SDK and Powertools read."""
    os.environ.pop("_X_AMZN_TRACE_ID", None)
    if trace_id is not None:
        os.environ["_X_AMZN_TRACE_ID"] = trace_id


def _error_document(error: Exception) -> dict[str, Any]:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename != __file__]
    return {
        "errorMessage": str(error),
        "errorType": type(error).__name__,
        "stackTrace": traceback.format_list(own),
    }


def main() -> None:
    """Run in the function's folder, which comes first on the import path, as on Lambda."""
    sys.path.insert(0, str(Path.cwd()))
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(line_buffering=True)
    run(sys.argv[1], Api(os.environ["AWS_LAMBDA_RUNTIME_API"]))


if __name__ == "__main__":
    main()
