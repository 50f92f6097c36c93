"""The lines that functions write are whole, whoever else is writing."""

import json
import subprocess
import sys

TWO_THREADS = """
import sys, threading
from openreserve.logs import logger, tell

sys.setswitchinterval(1e-6)

def write(path):
    for n in range(1_000):
        tell({"HoldsExpired": n}, dimensions={"path": path})
        logger().info("a line", extra={"path": path})

threads = [threading.Thread(target=write, args=(path,)) for path in ("prompt", "net")]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_lines_of_two_threads_never_mix() -> None:
    written = subprocess.run(
        [sys.executable, "-u", "-c", TWO_THREADS], check=True, capture_output=True, text=True
    ).stdout

    lines = [json.loads(line) for line in written.splitlines()]
    counted = [(line["path"], line["HoldsExpired"]) for line in lines if "HoldsExpired" in line]
    assert len(lines) == 4_000
    for path in ("prompt", "net"):
        assert [counts for named, counts in counted if named == path] == [
            [float(n)] for n in range(1_000)
        ]
