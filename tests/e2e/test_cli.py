"""Every command as people run it, in a terminal and in a pipe, against the running API."""

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from openreserve_client import Client, Status
from openreserve_client.errors import OutOfStock
from tests.e2e.runtime import ROOT, Runtime, free_port, started
from tests.support.terminal import COMMAND, Said, environment, in_a_pipe, in_a_terminal, plain

Run = Callable[..., Said]
LINES = 4_000


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    port = free_port()
    folder = tmp_path_factory.mktemp("checkout")
    with started(folder / ".openreserve" / str(port), port=port) as runtime:
        yield runtime


@pytest.fixture(params=["pipe", "terminal"])
def run(request: pytest.FixtureRequest, runtime: Runtime) -> Run:
    """Runs a command, as in the folder of the checkout, and takes the colours away."""
    way = {"pipe": in_a_pipe, "terminal": in_a_terminal}[request.param]
    folder = runtime.state.parents[1]

    def run(*arguments: str, typed: tuple[tuple[str, bytes], ...] = ()) -> Said:
        options = {"typed": typed} if typed else {}
        said = way(*arguments, variables=server(runtime), folder=folder, **options)
        return Said(said.code, plain(said.out), said.err)

    return run


def server(runtime: Runtime) -> dict[str, str]:
    return {"OPENRESERVE_SERVER_URL": runtime.url}


@pytest.fixture
def resource_id(runtime: Runtime) -> str:
    resource_id = f"room-{uuid4().hex[:8]}"
    runtime.set_stock(resource_id, 10)
    return resource_id


def held(runtime: Runtime, resource_id: str) -> str:
    return str(runtime.reserve(resource_id, uuid4().hex, 3).json["token"])


def test_stock_can_be_set_adjusted_checked_and_listed(run: Run, resource_id: str) -> None:
    assert run("stock", "set", "-r", resource_id, "-t", "20").code == 0
    adjusted = run("stock", "adjust", "-r", resource_id, "--by", "-5", "--reason", "water damage")
    checked = run("stock", "check", "--resource", resource_id)
    listed = run("stock", "list", "--prefix", resource_id)

    assert adjusted.out == f"{resource_id}: -5, new total 15 (water damage)\n"
    assert checked.lines[:5] == [
        f"Resource : {resource_id}",
        "─" * 37,
        "Available : 15 / 15  (100% remaining)",
        "Held      : 0",
        "Committed : 0",
    ]
    assert checked.lines[5] == "Version   : 3"
    assert listed.lines[1].split()[:6] == [resource_id, "15", "15", "0", "0", "3"]


def test_a_resource_may_have_the_name_of_a_route(runtime: Runtime) -> None:
    in_a_pipe("stock", "set", "-r", "batch", "-t", "7", variables=server(runtime))
    refused = runtime.call("DELETE", "/api/v1/resources/batch")

    assert runtime.stock("batch")["totalStock"] == 7
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD, POST")


def test_a_refusal_is_one_line_with_its_code(run: Run, resource_id: str) -> None:
    said = run("stock", "set", "-r", resource_id, "-t", "1", "--if-version", "7")

    assert said.code == 1
    assert (said.err or said.out).startswith("openreserve: version_mismatch: ")
    assert (said.err + said.out).count("\n") == 1


def test_an_adjustment_with_a_key_is_made_once(run: Run, resource_id: str) -> None:
    key = uuid4().hex
    command = ("stock", "adjust", "-r", resource_id, "--by", "5", "--reason", "box", "--key", key)

    assert run(*command, "--json").out == run(*command, "--json").out
    assert json.loads(run("stock", "check", "-r", resource_id, "--json").out)["totalStock"] == 15


def test_reservations_can_be_listed_shown_and_released(
    run: Run, runtime: Runtime, resource_id: str
) -> None:
    token = held(runtime, resource_id)

    listed = run("reservation", "list", "-r", resource_id, "--status", "held")
    shown = run("reservation", "show", token)
    released = run("reservation", "release", token)

    assert listed.lines[1].split()[:2] == [token, "HELD"]
    assert shown.lines[2] == "Status  : HELD"
    assert shown.lines[4] == f"Items   : 3 x {resource_id}"
    assert released.lines[2] == "Status  : RELEASED"
    assert run("reservation", "list", "-r", resource_id, "--status", "HELD").out == ""
    assert run("reservation", "show", str(uuid4())).code == 1


def test_events_can_be_read_from_a_cursor_on(run: Run, runtime: Runtime, resource_id: str) -> None:
    before = run("events", "tail", "-n", "1")
    cursor = re.findall(r"cursor: (\S+)", before.err or before.out)[0]
    runtime.call("POST", "/api/v1/release", {"token": held(runtime, resource_id)})

    said = run("events", "tail", "--after", cursor)

    assert said.code == 0
    assert re.search(rf"STOCK_RESTORED +10  {resource_id}  ", said.out)


def test_events_are_followed_until_ctrl_c(runtime: Runtime, resource_id: str) -> None:
    def trade() -> None:
        time.sleep(1)
        runtime.call("POST", "/api/v1/release", {"token": held(runtime, resource_id)})

    trader = threading.Thread(target=trade)
    trader.start()
    said = in_a_terminal(
        *("events", "tail", "-n", "1", "--follow", "--interval", "0.2"),
        variables=server(runtime),
        typed=[(resource_id, b"\x03")],
    )
    trader.join()

    assert said.code == 130
    assert resource_id in said.out
    assert "cursor: " in said.out
    assert "Traceback" not in said.out


def test_health_reports_postgres_and_redis(run: Run) -> None:
    said = run("health")

    assert (said.code, said.lines) == (
        0,
        ["API      : ok", "Postgres : ok", "Redis    : ok"],
    )


def test_counters_are_verified_and_repaired_in_the_database_of_make_run(
    run: Run, runtime: Runtime, resource_id: str
) -> None:
    held(runtime, resource_id)
    clean = run("verify")
    with psycopg.connect((runtime.state / "database-url").read_text()) as connection:
        connection.execute(
            "UPDATE openreserve.resources SET available_stock = available_stock + 2"
            " WHERE resource_id = %s",
            [resource_id],
        )
    drift = run("verify", "--json")
    table = run("verify")
    dry = run("repair")
    unchanged = run("verify", "--json")
    mended = run("repair", "--apply", "--reason", "a test broke it")

    assert (clean.code, drift.code, table.code) == (0, 1, 1)
    assert clean.out.endswith("reservations agree.\n")
    assert json.loads(drift.out)["drift"] == [
        {
            "resourceId": resource_id,
            "totalStock": 10,
            "availableStock": 9,
            "heldStock": 3,
            "committedStock": 0,
            "wrongMarks": 0,
            "difference": -2,
        }
    ]
    assert resource_id in table.out
    assert (dry.code, dry.out) == (1, f"{resource_id}: would set available 9 to 7\n")
    assert unchanged.code == 1
    assert (mended.code, mended.out) == (0, f"{resource_id}: changed available by -2\n")
    assert run("verify").code == 0
    assert run("repair").out == "Nothing to repair.\n"


def test_counters_that_cannot_be_read_are_not_reported_as_clean(run: Run) -> None:
    said = run("verify", "--database-url", "postgresql://x@127.0.0.1:1/x")

    assert said.code == 2
    assert "could_not_check" in said.err + said.out


def csv(tmp_path: Path, name: str, lines: int = LINES) -> Path:
    """A file of so many lines behind a comment, one in a hundred of them bad."""
    bad = (f"{name}-x,-1", f"{name}/x,5", f"{name}-x", f"{name}-x,many")
    rows = [
        bad[number // 100 % 4] if number % 100 == 50 else f"{name}-{number},{number % 100}"
        for number in range(lines)
    ]
    file = tmp_path / f"{name}.csv"
    file.write_text("\n".join(["# resource_id,total_stock", *rows, ""]))
    return file


def imported(runtime: Runtime, name: str) -> int:
    with Client(runtime.url) as client:
        return sum(1 for _ in client.list_resources(f"{name}-"))


def test_a_file_is_imported_but_for_its_bad_lines_and_a_re_run_is_harmless(
    run: Run, runtime: Runtime, tmp_path: Path
) -> None:
    name = uuid4().hex[:8]
    file = csv(tmp_path, name)

    first = run("stock", "import", "--file", str(file))
    again = run("stock", "import", "--file", str(file))

    assert (first.code, again.code) == (1, 1)
    assert re.search(
        rf"^{LINES:,} lines in [\d.]+ s: 3,960 created, 40 refused$", first.out, re.MULTILINE
    )
    assert "3,960 unchanged, 40 refused" in again.out
    printed = re.findall(rf"{file}:(\d+): line_invalid: ", first.err + first.out)
    assert [int(number) for number in printed] == [n + 2 for n in range(50, LINES, 100)]
    assert imported(runtime, name) == 3_960


def test_an_import_shows_a_bar_in_a_terminal_and_plain_lines_in_a_pipe(
    runtime: Runtime, tmp_path: Path
) -> None:
    file = csv(tmp_path, uuid4().hex[:8], lines=12_000)

    seen = in_a_terminal("stock", "import", "-f", str(file), variables=server(runtime)).out
    piped = in_a_pipe("stock", "import", "-f", str(file), variables=server(runtime))

    assert re.search(r"Importing  \[#+-+\] +\d+%", seen)
    assert "100%" in seen
    assert re.search(r"line_invalid: [^\n]*\n[^\n]*Importing  \[", seen)  # again, below a message
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")  # the cursor is shown again
    assert "\x1b" not in piped.out + piped.err
    assert "\r" not in piped.err
    assert re.search(r"^1\d,\d{3} lines: [\d,]+ unchanged, \d+ refused$", piped.err, re.MULTILINE)


def test_standard_input_can_be_imported(runtime: Runtime) -> None:
    name = uuid4().hex[:8]
    done = subprocess.run(
        [*COMMAND, "stock", "import", "-f", "-"],
        input=f"{name}-1,5\n{name}-2,6\n",
        capture_output=True,
        text=True,
        env=environment(server(runtime)),
        check=True,
    )

    assert ": 2 created, 0 refused\n" in done.stdout
    assert imported(runtime, name) == 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_an_import_that_is_stopped_half_way_can_be_run_again(
    runtime: Runtime, tmp_path: Path, number: signal.Signals
) -> None:
    name = uuid4().hex[:8]
    file = csv(tmp_path, name)
    command = [*COMMAND, "stock", "import", "--batch-rows", "20", "-f", str(file)]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment(server(runtime))
    ) as process:
        while imported(runtime, name) < 400:
            assert process.poll() is None, "it was over before it could be stopped"
        process.send_signal(number)
        _, printed = process.communicate(timeout=60)
    some = imported(runtime, name)
    first = re.findall(r"stopped at line (\d+), .* --from-line (\d+)$", printed.strip())

    assert 400 <= some < 3_960
    options = []
    if number is signal.SIGKILL:
        assert (process.returncode, first) == (-9, [])
    else:
        assert process.returncode == 2
        assert int(first[0][0]) > 100
        options = ["--from-line", first[0][1]]
    again = in_a_pipe("stock", "import", "-f", str(file), *options, variables=server(runtime))
    assert again.code == 1
    assert imported(runtime, name) == 3_960


@pytest.mark.slow
def test_an_import_outlives_a_restart_of_the_api(tmp_path: Path) -> None:
    port, name = free_port(), uuid4().hex[:8]
    file = csv(tmp_path, name)
    command = [*COMMAND, "stock", "import", "--batch-rows", "20", "-f", str(file)]
    with started(tmp_path / "state", port=port) as before:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment(server(before))
        )
        while imported(before, name) < 400:
            assert process.poll() is None
    assert process.poll() is None
    with started(tmp_path / "state", port=port) as after:
        printed, _ = process.communicate(timeout=120)
        assert process.returncode == 1
        assert "40 refused" in printed
        assert imported(after, name) == 3_960


def test_local_is_what_make_run_is(tmp_path: Path) -> None:
    port = free_port()
    process = subprocess.Popen(
        [*COMMAND, "local", "--port", str(port), "--state", str(tmp_path / "state")],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(None),
        cwd=tmp_path,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "Ctrl-C" in line:
            break
    said = in_a_pipe("--server", f"http://localhost:{port}", "health")
    process.send_signal(signal.SIGINT)

    assert said.code == 0
    assert process.wait(30) == 0
    process.stdout.close()


def test_blackfriday_is_what_make_blackfriday_is(runtime: Runtime) -> None:
    said = in_a_pipe(
        "blackfriday",
        f"HOST={runtime.url}",
        "USERS=60",
        "STOCK=7",
        "RAMP=1",
        "REPORTS=build/reports",
    )

    assert said.code == 0, said
    assert "7 distinct tokens were issued" in said.out


def test_the_client_keeps_its_promises_against_the_running_api(
    runtime: Runtime, resource_id: str
) -> None:
    with Client(runtime.url) as client:
        with client.hold(resource_id, 4, ttl_seconds=60) as hold:
            sold = hold.commit()
        with pytest.raises(ZeroDivisionError), client.hold({resource_id: 6}) as lost:
            _ = 1 / 0
        with pytest.raises(OutOfStock) as refused:
            client.hold(resource_id, 7)
        same = client.hold(resource_id, 1, key="k-" + resource_id)
        again = client.hold(resource_id, 1, key="k-" + resource_id)

        assert sold.status is Status.COMMITTED
        assert lost.reservation.status is Status.RELEASED
        assert refused.value.details["items"] == [
            {"resourceId": resource_id, "requested": 7, "available": 6}
        ]
        assert same.token == again.token
        stock = client.read_resource(resource_id)
        assert (stock.available_stock, stock.held_stock, stock.committed_stock) == (5, 1, 4)
        listed = {found.token for found in client.list_reservations(resource_id)}
        assert listed == {sold.token, lost.token, same.token}
        assert client.health().status == "ok"
        assert client.newest_events(5).events


def test_the_example_of_the_guide_runs(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```python\n(from openreserve_client .*?)```", GUIDE, re.DOTALL)
    runtime.set_stock("hotel-room-101", 50)
    monkeypatch.setenv("OPENRESERVE_SERVER_URL", runtime.url)
    taken: list[str] = []

    exec(example, {"charge_customer": lambda: taken.append("money")})  # noqa: S102

    assert taken == ["money"]
    assert runtime.stock("hotel-room-101")["committedStock"] == 2


def test_the_commands_of_the_guide_run(runtime: Runtime) -> None:
    runtime.call("POST", "/api/v1/resources", {"resourceId": "hotel-room-101", "totalStock": 50})
    shown = re.findall(r"^\$ (openreserve .*)$", GUIDE, re.MULTILINE)

    assert len(shown) >= 8
    for command in shown:
        done = subprocess.run(
            ["bash", "-c", command],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environment(
                server(runtime)
                | {
                    "PATH": f"{Path(COMMAND[0]).parent}:{os.environ['PATH']}",
                    "OPENRESERVE_DATABASE_URL": (runtime.state / "database-url").read_text(),
                }
            ),
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (command, done.stderr)


GUIDE = (ROOT / "docs/how-to/stock.md").read_text()
