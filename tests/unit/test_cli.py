"""The command line against a server that answers by a script: also late, broken, or not at all."""

import json
import shlex
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest

import openreserve
import openreserve_client
from infra import reference
from openreserve_client.cli.lazy import LazyGroup
from openreserve_client.cli.program import commands
from tests.e2e.runtime import free_port
from tests.support.scripted_http import Step, problem, scripted
from tests.support.terminal import COMMAND, Said, in_a_pipe, in_a_terminal, plain
from tests.unit.test_client import EVENT, HELD, RESOURCE, TOKEN

PANEL = """\
Resource : a
─────────────────────────────────────
Available : 35 / 50  (70% remaining)
Held      : 5
Committed : 10
Version   : 3
Updated   : 2026-03-31T10:42:11Z
─────────────────────────────────────
"""
CALLS = [
    ("stock", "check", "-r", "a"),
    ("stock", "set", "-r", "a", "-t", "5"),
    ("stock", "adjust", "-r", "a", "--by", "-5", "--reason", "counted"),
    ("stock", "list"),
    ("reservation", "show", TOKEN),
    ("reservation", "list"),
    ("reservation", "release", TOKEN),
    ("events", "tail"),
    ("health",),
]


def run(*arguments: str, answer: Step) -> Said:
    with scripted(answer) as server:
        return in_a_pipe("--server", server.url, "--patience", "0", *arguments)


def test_stock_check_prints_the_panel_with_held_and_committed_stock() -> None:
    said = run("stock", "check", "--resource", "a", answer=Step(200, RESOURCE))

    assert (said.code, said.out, said.err) == (0, PANEL, "")


@pytest.mark.parametrize(
    ("total", "available", "share"),
    [(0, 0, "0 / 0  (0%"), (1_000, 1, "1 / 1000  (<1%"), (3, 2, "2 / 3  (66%"), (9, 9, "(100%")],
)
def test_nothing_but_nothing_is_0_per_cent_and_nothing_but_all_is_100(
    total: int, available: int, share: str
) -> None:
    resource = RESOURCE | {"totalStock": total, "availableStock": available}

    assert share in run("stock", "check", "-r", "a", answer=Step(200, resource)).out


@pytest.mark.parametrize("arguments", CALLS, ids=" ".join)
def test_a_server_that_fails_is_one_line_on_standard_error_and_exit_code_2(
    arguments: tuple[str, ...],
) -> None:
    said = run(*arguments, answer=problem(500, "internal_error"))

    assert (said.code, said.out) == (2, "")
    assert said.err == "openreserve: internal_error: server error (500)\n"


AWS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "eu-west-1"}


@pytest.mark.parametrize(
    ("variables", "sent", "advice"),
    [
        ({}, "", {401: "set OPENRESERVE_TOKEN", 403: "--sigv4"}),
        ({"OPENRESERVE_TOKEN": "t"}, "Bearer t", {401: "get a new one", 403: "lacks the scope"}),
        (
            AWS | {"OPENRESERVE_SIGV4": "1"},
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE",
            {401: "set OPENRESERVE_TOKEN", 403: "OperatorPolicy"},
        ),
    ],
    ids=["nobody", "token", "sigv4"],
)
@pytest.mark.parametrize("status", [401, 403])
def test_a_gateway_that_refuses_the_caller_is_one_line_that_says_what_to_do(
    status: int, variables: dict[str, str], sent: str, advice: dict[int, str]
) -> None:
    with scripted(Step(status, {"message": "No"})) as server:
        arguments = ("--server", server.url, "stock", "check", "-r", "a")
        said = in_a_pipe(*arguments, variables=variables)

        (asked,) = server.asked
        assert asked.headers.get("authorization", "").startswith(sent)
        assert ("authorization" in asked.headers) == bool(sent)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"openreserve: http_{status}: ")
    assert advice[status] in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"OPENRESERVE_TOKEN": "t", "OPENRESERVE_SIGV4": "1"}, "are mutually exclusive"),
        ({"OPENRESERVE_TOKEN": "a b"}, "the access token is invalid"),
    ],
)
def test_a_caller_who_is_two_or_none_is_not_sent(variables: dict[str, str], complaint: str) -> None:
    with scripted(Step(200, RESOURCE)) as server:
        arguments = ("--server", server.url, "stock", "check", "-r", "a")
        said = in_a_pipe(*arguments, variables=variables)

        assert server.asked == []
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("openreserve: ")
    assert complaint in said.err


@pytest.mark.parametrize("arguments", CALLS, ids=" ".join)
def test_a_server_that_is_away_is_one_line_and_exit_code_2(arguments: tuple[str, ...]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    said = in_a_pipe("--patience", "0", *arguments, variables={"OPENRESERVE_SERVER_URL": url})

    assert (said.code, said.out) == (2, "")
    assert said.err == (
        f"openreserve: server_unreachable: could not connect to {url}: connection refused\n"
    )


@pytest.mark.parametrize("arguments", CALLS, ids=" ".join)
def test_a_server_that_is_too_slow_is_one_line_and_exit_code_2(arguments: tuple[str, ...]) -> None:
    with scripted(Step(200, RESOURCE, after_seconds=1)) as server:
        said = in_a_pipe("--server", server.url, "--timeout", "0.2", "--patience", "0", *arguments)

    assert (said.code, said.out) == (2, "")
    assert said.err.endswith(" timed out\n")
    assert said.err.count("\n") == 1


def test_a_server_that_was_busy_is_asked_again_within_patience() -> None:
    busy = problem(503, "contention")
    with scripted(busy, busy, Step(200, RESOURCE)) as server:
        said = in_a_pipe("--server", server.url, "stock", "check", "-r", "a")

        assert (said.code, len(server.asked)) == (0, 3)


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (
            problem(404, "resource_not_found", resourceId="a"),
            "resource_not_found: There is no resource with this id. (a)",
        ),
        (
            problem(400, "body_invalid", errors=[{"pointer": "/x", "message": "is wrong"}]),
            "body_invalid: Fields of the body are missing, unknown or invalid. (x: is wrong)",
        ),
    ],
)
def test_a_refusal_is_its_code_and_its_sentence_and_exit_code_1(answer: Step, line: str) -> None:
    said = run("stock", "check", "-r", "a", answer=answer)

    assert (said.code, said.out, said.err) == (1, "", f"openreserve: {line}\n")


def test_json_has_the_names_of_the_api() -> None:
    stock = run("stock", "check", "-r", "a", "--json", answer=Step(200, RESOURCE))
    shown = run("reservation", "show", TOKEN, "--json", answer=Step(200, HELD))
    page = {"events": [EVENT], "cursor": "c-1"}
    tail = run("events", "tail", "--json", answer=Step(200, page))

    assert json.loads(stock.out) == RESOURCE
    assert json.loads(shown.out) == {
        name: value for name, value in HELD.items() if name not in ("resourceId", "quantity")
    } | {"reacquired": False}
    assert json.loads(tail.out) == EVENT
    assert tail.err == "cursor: c-1\n"


def test_a_table_has_a_heading_and_numbers_to_the_right_and_is_silent_when_empty() -> None:
    rows = [RESOURCE | {"resourceId": "票-1"}, RESOURCE | {"resourceId": "abcdef", "version": 12}]
    full = run("stock", "list", answer=Step(200, {"resources": rows}))
    empty = run("stock", "list", answer=Step(200, {"resources": []}))

    assert full.lines == [
        "RESOURCE  TOTAL  AVAILABLE  HELD  COMMITTED  VERSION  UPDATED",
        "票-1         50         35     5         10        3  2026-03-31T10:42:11Z",
        "abcdef       50         35     5         10       12  2026-03-31T10:42:11Z",
    ]
    assert (empty.code, empty.out) == (0, "")


def test_a_limit_asks_for_no_more_pages_than_it_needs() -> None:
    with scripted(Step(200, {"resources": [RESOURCE] * 3, "nextCursor": "c-1"})) as server:
        said = in_a_pipe("--server", server.url, "stock", "list", "--limit", "2", "--json")

        assert (len(said.lines), len(server.asked)) == (2, 1)


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("degraded", 0), ("unavailable", 1)])
def test_health_says_with_its_exit_code_whether_stock_can_be_had(status: str, code: int) -> None:
    health = {"status": status, "postgres": "ok", "redis": "ok"}
    said = run("health", answer=Step(200 if status != "unavailable" else 503, health))

    assert said.code == code
    assert said.lines[0] == f"API      : {status}"


def test_colours_are_for_terminals_and_not_for_those_who_want_none() -> None:
    with scripted(Step(200, RESOURCE)) as server:
        check = ("--server", server.url, "stock", "check", "-r", "a")
        colourful = in_a_terminal(*check)
        unwanted = in_a_terminal(*check, variables={"NO_COLOR": "1"})
        piped = in_a_pipe(*check)

    assert "\x1b[" in colourful.out
    assert plain(colourful.out) == unwanted.out == piped.out == PANEL


def test_errors_are_coloured_on_terminals_only() -> None:
    with scripted(problem(500, "internal_error")) as server:
        check = ("--server", server.url, "stock", "check", "-r", "a")

        assert in_a_terminal(*check).out.startswith("\x1b[31mopenreserve:")
        assert in_a_terminal(*check, variables={"NO_COLOR": "1"}).out.startswith("openreserve: i")


@pytest.mark.parametrize(
    "arguments",
    [
        ("stock", "check"),
        ("stock", "set", "-r", "a", "-t", "-1"),
        ("stock", "check", "-r", ""),
        ("stock", "check", "-r", " row7"),
        ("stock", "check", "-r", "a/b"),
        ("stock", "set", "-r", "row7 ", "-t", "1"),
        ("stock", "adjust", "-r", "..", "--by", "1", "--reason", "x"),
        ("stock", "list", "--prefix", "a/"),
        ("stock", "check", "-r", "\udcff"),
        ("stock", "import", "-f", "/nowhere"),
        ("stock", "import", "-f", "/dev/null", "--lanes", "0"),
        ("reservation", "show", "x"),
        ("reservation", "list", "--status", "x"),
        ("reservation", "list", "-r", "\n"),
        ("events", "tail", "--interval", "inf"),
        ("repair", "--apply"),
        ("repair", "-r", " a"),
        ("verify", "--timeout", "nan"),
        ("--timeout", "nan", "health"),
        ("--timeout", "1e300", "health"),
        ("--patience", "inf", "health"),
        ("completion", "tcsh"),
        ("--nothing",),
        ("nothing",),
    ],
    ids=repr,
)
def test_a_command_that_is_not_understood_is_one_line_that_says_where_to_look_and_exit_code_2(
    arguments: tuple[str, ...],
) -> None:
    said = in_a_pipe(*arguments)

    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert said.err.startswith("openreserve: usage_invalid: ")
    assert said.err.endswith(" --help\n")


def test_without_arguments_the_commands_are_listed() -> None:
    said = in_a_pipe()

    assert "Usage: openreserve" in said.out + said.err
    assert "  stock " in said.out + said.err


@pytest.mark.parametrize(
    "url",
    [
        *("localhost:8080", "https://", "x", "http://a b/", "http://a\nb/", "http://[::1"),
        *("http://localhost:x", "http://localhost:65536", "http://.../", "http://\udcff/"),
        *("http://me:secret@localhost/", f"http://{'a' * 64}.example/"),
    ],
    ids=repr,
)
def test_a_server_that_is_no_url_is_said_in_one_line(url: str) -> None:
    said = in_a_pipe("--server", url, "stock", "check", "-r", "a")

    assert (said.code, said.err.count("\n")) == (2, 1)
    assert said.err.startswith("openreserve: usage_invalid: ")
    assert "is not a server URL" in said.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("events", "tail", "--after", "\udcff"),
        ("stock", "adjust", "-r", "a", "--by", "1", "--reason", "x", "--key", "\udcff"),
        ("stock", "adjust", "-r", "a", "--by", "1", "--reason", "x", "--key", "a\nb"),
        ("blackfriday", "=1"),
        ("blackfriday", "USERS"),
    ],
    ids=repr,
)
def test_an_argument_that_cannot_be_sent_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...],
) -> None:
    said = in_a_pipe(*arguments)

    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert said.err.startswith("openreserve: usage_invalid: ")


def test_an_id_is_sent_in_the_one_form_that_it_has() -> None:
    with scripted(Step(200, RESOURCE)) as server:
        in_a_pipe("--server", server.url, "stock", "set", "-r", "cafe\u0301", "-t", "1")

        assert server.asked[0].body["resourceId"] == "caf\u00e9"


def test_the_version_is_that_of_the_package() -> None:
    assert in_a_pipe("--version").out == f"openreserve {openreserve_client.__version__}\n"
    assert openreserve_client.__version__ == openreserve.__version__


PAGES = {
    "resources": [RESOURCE] * 200,
    "reservations": [HELD] * 200,
    "events": [EVENT] * 2_000,
    "nextCursor": "c-1",
    "cursor": "c-1",
}
"""More than a pipe holds, in the answers to all calls that list."""


@pytest.mark.parametrize(
    "arguments",
    [
        ("stock", "list"),
        ("stock", "list", "--json"),
        ("reservation", "list"),
        ("events", "tail", "-n", "200"),
        ("events", "tail", "--after", "c"),
        ("events", "tail", "--follow"),
    ],
    ids=" ".join,
)
def test_where_the_reader_has_seen_enough_a_command_ends_as_any_unix_program(
    arguments: tuple[str, ...],
) -> None:
    with scripted(Step(200, PAGES)) as server:
        listing = shlex.join([*COMMAND, "--server", server.url, *arguments])
        done = subprocess.run(
            ["bash", "-c", f"{listing} | head -1; exit ${{PIPESTATUS[0]}}"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert (done.stdout.count("\n"), done.stderr) == (1, "")
    assert done.returncode == 128 + signal.SIGPIPE


def test_help_without_a_reader_is_no_error() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{shlex.join(COMMAND)} stock import --help | true"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_following_events_ends_without_another_event_when_the_reader_has_gone() -> None:
    with scripted(Step(200, {"events": [EVENT], "cursor": "c"})) as server:
        server.steps.append(Step(200, {"events": [], "cursor": "c"}))
        follow = shlex.join([*COMMAND, "--server", server.url, "events", "tail", "--follow"])
        done = subprocess.run(
            ["bash", "-c", f"{follow} | head -1; exit ${{PIPESTATUS[0]}}"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize("arguments", [("stock", "check", "-r", "a"), ("stock", "list")])
def test_output_that_cannot_be_written_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...],
) -> None:
    with scripted(Step(200, RESOURCE | PAGES)) as server, Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "--server", server.url, *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("openreserve: io_failed: ")


def test_what_a_script_has_put_into_the_background_can_be_interrupted() -> None:
    """A shell without job control starts it with SIGINT ignored."""
    with scripted(Step(200, {"events": [], "cursor": "c"})) as server:
        follow = ["--server", server.url, "events", "tail", "--follow", "--interval", "0.1"]
        process = subprocess.Popen(
            ["sh", "-c", f"trap '' INT; exec {shlex.join([*COMMAND, *follow])}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while len(server.asked) < 3:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=60)

    assert (process.returncode, printed.split()) == (130, ["cursor:", "c"])


def test_without_the_packages_of_the_command_line_it_says_which_to_install() -> None:
    program = (
        "import sys; sys.modules['click'] = None; sys.argv[1:] = ['stock', 'list']\n"
        "from openreserve_client.cli import main\n"
        "sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "openreserve: packages_missing: click is not installed:"
        " pip install 'openreserve-client[cli]'\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify", "--database-url", "postgresql://x"),
        ("repair", "--apply", "--reason", "x", "--database-url", "postgresql://x"),
    ],
)
def test_without_the_server_package_an_audit_of_a_database_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...],
) -> None:
    program = (
        f"import sys; sys.modules['openreserve'] = None; sys.argv[1:] = {arguments!r}\n"
        "from openreserve_client.cli import main\n"
        "sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("openreserve: could_not_check: openreserve")
    assert "is not installed: " in done.stderr


def every_command(
    group: click.Group, names: tuple[str, ...] = ()
) -> list[tuple[tuple[str, ...], click.Command]]:
    found: list[tuple[tuple[str, ...], click.Command]] = []
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        if isinstance(command, click.Group):
            found += every_command(command, (*names, name))
        else:
            found.append(((*names, name), command))
    return found


def test_there_are_the_commands_that_operators_need() -> None:
    assert {" ".join(names) for names, _ in every_command(commands)} == {
        *("stock check", "stock set", "stock adjust", "stock list", "stock import"),
        *("reservation show", "reservation list", "reservation release"),
        *("events tail", "health", "verify", "repair", "local", "blackfriday", "completion"),
    }


def test_every_command_and_every_option_says_what_it_is_for() -> None:
    for names, command in every_command(commands):
        assert command.help, names
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (names, parameter.name)


def test_the_reference_has_every_command() -> None:
    page = "\n".join(reference.PAGES["reference/cli.md"]())

    for names, _ in every_command(commands):
        assert f"## openreserve {' '.join(names)}\n" in page


def test_a_group_says_of_a_command_what_can_be_read_without_importing_it() -> None:
    for group in (commands, import_module("openreserve_client.cli.stock").stock):
        assert isinstance(group, LazyGroup)
        listed = group.get_help(click.Context(group))
        for name in group.list_commands(click.Context(group)):
            assert f"\n  {name} " in listed


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete_commands_and_options(shell: str) -> None:
    assert "_OPENRESERVE_COMPLETE" in in_a_pipe("completion", shell).out
    asked = {"COMP_WORDS": "openreserve stock ch", "COMP_CWORD": "2"}
    if shell == "fish":
        asked["COMP_CWORD"] = "ch"
    said = in_a_pipe(variables=asked | {"_OPENRESERVE_COMPLETE": f"{shell}_complete"})

    assert "check" in said.out
    assert "import" not in said.out


def test_what_starts_does_not_import_what_other_commands_need() -> None:
    program = (
        "import sys; sys.argv[1:] = ['--version']\n"
        "from openreserve_client.cli import main\n"
        "main()\n"
        "print(*sorted(m for m in sys.modules if m.split('.')[0] in"
        " {'http', 'ssl', 'psycopg', 'pydantic', 'json', 'botocore', 'email'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[1:] == [""]


def test_a_dry_run_checks_all_lines_and_asks_no_server(tmp_path: Path) -> None:
    file = tmp_path / "stock.csv"
    file.write_text("a,1\nb\n# c\nd,4\n")

    with scripted(problem(500, "internal_error")) as server:
        said = in_a_pipe("--server", server.url, "stock", "import", "--dry-run", "-f", str(file))
        assert server.asked == []

    assert said.code == 1
    assert said.err.startswith(f"{file}:2: line_invalid: has 1 column ")
    assert said.out.endswith(": 2 valid, 1 refused\n")


def test_a_dry_run_of_the_sample_finds_nothing_wrong() -> None:
    sample = Path(__file__).parents[2] / "cli" / "sample-resources.csv"

    assert in_a_pipe("stock", "import", "--dry-run", "--file", str(sample)).code == 0


def test_an_import_whose_server_fails_says_where_to_go_on(tmp_path: Path) -> None:
    file = tmp_path / "stock.csv"
    file.write_text("".join(f"r-{number},1\n" for number in range(1, 11)))
    done = Step(200, {"results": [{"resourceId": "x", "outcome": "created"}] * 2})
    options = ("--lanes", "1", "--batch-rows", "2", "-f", str(file))

    with scripted(done, done, problem(500, "internal_error")) as server:
        said = in_a_pipe("--server", server.url, "stock", "import", *options)
    with scripted(done) as server:
        again = in_a_pipe("--server", server.url, "stock", "import", *options, "--from-line", "5")
        sent = [row["resourceId"] for asked in server.asked for row in asked.body["resources"]]

    assert (said.code, said.out) == (2, "")
    assert said.err == (
        "openreserve: internal_error: server error (500); stopped at line 5, all lines before it"
        f" are imported. Resume with: openreserve stock import --file {file} --from-line 5\n"
    )
    assert (again.code, sent) == (0, [f"r-{number}" for number in range(5, 11)])


def test_refused_rows_are_reported_with_their_line_numbers(tmp_path: Path) -> None:
    file = tmp_path / "stock.csv"
    file.write_text("# a comment\na,1\nb,2\n")
    results = [
        {"resourceId": "a", "outcome": "below_allocated", "allocatedStock": 4},
        {"resourceId": "b", "outcome": "created"},
    ]
    with scripted(Step(200, {"results": results})) as server:
        start = ("--server", server.url, "stock", "import", "--lanes", "1", "-f", str(file))
        said = in_a_pipe(*start)
        as_json = in_a_pipe(*start, "--json")

    assert (said.code, as_json.code) == (1, 1)
    assert said.err == f"{file}:2: below_allocated: a: 4 units are held or committed\n"
    assert [json.loads(line) for line in as_json.lines] == [
        {"line": 2, "code": "below_allocated", "reason": "a: 4 units are held or committed"},
        {"created": 1, "refused": 1},
    ]
