"""A fake load test for the tests of the dashboard: it exits with the code that the test sets.

It waits for the file `exit` in the folder VERDICTS, which contains the exit code.
"""

import json
import os
import sys
import time
import urllib.request
from pathlib import Path

SECONDS_MAX = 60


def main() -> int:
    verdicts = Path(os.environ["VERDICTS"])
    (verdicts / "pid").write_text(str(os.getpid()))
    body = json.dumps({"resourceId": os.environ["RESOURCE"], "totalStock": 100}).encode()
    url = f"{os.environ['HOST']}/api/v1/resources"
    request = urllib.request.Request(  # noqa: S310 - of this machine
        url, data=body, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30):  # noqa: S310
        print(f"✓ Seeded {os.environ['RESOURCE']} with 100 units")
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:
        if (verdicts / "exit").exists():
            return int((verdicts / "exit").read_text())
        time.sleep(0.05)
    return 2


if __name__ == "__main__":
    sys.exit(main())
