"""make deploy: the order of its steps, with a fake sam that records its calls; the smoke test."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import takewhile
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from samcli.cli.types import CfnParameterOverridesType

from infra.deploy import settings, smoke
from openreserve_client import Client
from tests.e2e.runtime import ROOT, Runtime, free_port, started
from tests.support.scripted_http import Step, scripted

SAM = """#!{python}
import json, os, sys
from pathlib import Path
folder = Path(__file__).parent
arguments = sys.argv[1:]
with (folder / "notes").open("a") as notes:
    notes.write(json.dumps(arguments) + "\\n")
if arguments[0] == "build":
    layer = Path(".aws-sam/build/OpenReserveLayer/python/code.py")
    layer.parent.mkdir(parents=True, exist_ok=True)
    layer.write_text((folder / "code.py").read_text())
answers = json.loads((folder / "answers.json").read_text())
code, text = answers.get(" ".join(arguments[:2]), answers.get(arguments[0], [0, ""]))
if "--config-env" in arguments:
    code, text = answers.get(arguments[arguments.index("--config-env") + 1], [code, text])
print(text)
sys.exit(code)
"""
DEPLOYED = [
    ["build"],
    ["deploy", "--config-env", "dev-network", "--no-fail-on-empty-changeset"],
    ["deploy", "--config-env", "dev-database", "--no-fail-on-empty-changeset"],
    ["deploy", "--config-env", "dev-cache", "--no-fail-on-empty-changeset"],
    ["deploy", "--config-env", "dev", "--no-fail-on-empty-changeset"],
    ["remote", "invoke", "MigrateFunction"],
    ["list", "stack-outputs"],
]


@dataclass
class Account:
    """A fake sam that records its calls, and a fake AWS account."""

    folder: Path
    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    protected: list[str] = field(default_factory=list)
    url: str = ""
    stored: dict[str, str] = field(default_factory=dict)
    """Values of Parameter Store; the default value of a parameter is its name."""
    missing: set[str] = field(default_factory=set)

    @property
    def checkout(self) -> Path:
        """The directory that is deployed."""
        return self.folder / "checkout"

    @property
    def overrides(self) -> dict[str, str]:
        """The parameters that the app was deployed with last."""
        (*_, last) = (note for note in self.calls if note[:3] == ["deploy", "--config-env", "dev"])
        passed = last[last.index("--parameter-overrides") + 1 :]
        overrides: dict[str, str] = CfnParameterOverridesType().convert(tuple(passed), None, None)
        return overrides

    def deploy(
        self, *arguments: str, variables: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        (self.folder / "answers.json").write_text(json.dumps(self.answers))
        known = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/nowhere",
            "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
        }
        return subprocess.run(
            [sys.executable, "-m", "infra.deploy", *arguments],
            cwd=self.checkout,
            env={"PATH": f"{self.folder}:{os.environ['PATH']}", **known, **(variables or {})},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def calls(self) -> list[list[str]]:
        """The arguments of each call of sam."""
        file = self.folder / "notes"
        lines = file.read_text().splitlines() if file.exists() else []
        return [json.loads(line) for line in lines]

    @property
    def short_calls(self) -> list[list[str]]:
        """The arguments of each call of sam, up to the name of the stack or the parameters."""
        ends = {"--stack-name", "--parameter-overrides"}
        return [list(takewhile(lambda word: word not in ends, note)) for note in self.calls]


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    sam = tmp_path / "sam"
    sam.write_text(SAM.format(python=sys.executable))
    sam.chmod(0o755)
    (tmp_path / "code.py").write_text("VERSION = 1")
    account = Account(tmp_path)
    account.checkout.mkdir()
    for name in ("infra", "layers", "openreserve", "template.yaml"):
        (account.checkout / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "samconfig.toml", account.checkout)
    account.answers["remote invoke"] = (0, '{"StatusCode": 200, "Payload": {"applied": []}}')
    account.answers["list stack-outputs"] = outputs("http://127.0.0.1:1")

    class Aws(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if self.headers.get("X-Amz-Target", "").endswith(".GetParameters"):
                self._answer(json.dumps(_parameters(account, json.loads(body)["Names"])).encode())
                return
            query = parse_qs(body)
            (action,) = query["Action"]
            inner = "<Account>123456789012</Account>"
            if action == "UpdateTerminationProtection":
                assert query["EnableTerminationProtection"] == ["true"]
                account.protected += query["StackName"]
                inner = "<StackId>it</StackId>"
            self._answer(
                (
                    f"<{action}Response><{action}Result>{inner}</{action}Result>"
                    f"<ResponseMetadata/></{action}Response>"
                ).encode()
            )

        def _answer(self, answer: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Aws) as server:
        account.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield account
        server.shutdown()
        thread.join()


def _parameters(account: Account, names: list[str]) -> dict[str, object]:
    """The response of GetParameters, which accepts at most ten names."""
    assert len(names) <= 10
    known = [name for name in names if name not in account.missing]
    return {
        "Parameters": [{"Name": name, "Value": account.stored.get(name, name)} for name in known],
        "InvalidParameters": [name for name in names if name in account.missing],
    }


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with started(tmp_path_factory.mktemp("state")) as runtime:
        yield runtime


def outputs(url: str) -> tuple[int, str]:
    return 0, json.dumps([{"OutputKey": "ApiUrl", "OutputValue": f"{url}/api/v1"}])


def test_a_deployment_runs_every_step_in_order_and_ends_with_the_smoke_test(
    account: Account, runtime: Runtime
) -> None:
    account.answers["list stack-outputs"] = outputs(runtime.url)

    done = account.deploy("dev")

    assert done.returncode == 0, done.stderr
    assert account.short_calls == DEPLOYED
    assert account.protected == [
        "openreserve-dev-network",
        "openreserve-dev-database",
        "openreserve-dev-cache",
    ]
    assert "to account 123456789012" in done.stdout
    assert "✓ committed stock after the test: " in done.stdout


@pytest.mark.parametrize(
    ("failing", "steps"), [("build", 1), ("dev-network", 2), ("dev-database", 3), ("dev", 5)]
)
def test_the_first_failed_step_ends_the_deployment(
    account: Account, failing: str, steps: int
) -> None:
    account.answers[failing] = (3, "")

    done = account.deploy("dev")

    assert done.returncode == 1
    assert account.short_calls == DEPLOYED[:steps]
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("Not deployed: exit code 3 of sam ")
    assert "smoke" not in done.stdout


def test_a_stack_whose_deployment_failed_is_not_protected(account: Account) -> None:
    account.answers["dev-database"] = (1, "")

    account.deploy("dev")

    assert account.protected == ["openreserve-dev-network"]


def test_a_failed_migration_ends_the_deployment_even_if_sam_exits_with_0(account: Account) -> None:
    failed = {
        "StatusCode": 200,
        "FunctionError": "Unhandled",
        "Payload": {"errorMessage": "locked"},
    }
    account.answers["remote invoke"] = (0, json.dumps(failed))

    done = account.deploy("dev")

    assert done.returncode == 1
    assert account.short_calls == DEPLOYED[:6]
    assert "the migrations failed, and changed nothing" in done.stderr
    assert "locked" in done.stderr
    assert "smoke" not in done.stdout


def test_a_stack_without_an_api_url_fails_the_deployment(account: Account) -> None:
    account.answers["list stack-outputs"] = (0, "[]")

    done = account.deploy("dev")

    assert done.returncode == 1
    assert done.stderr == "Not deployed: openreserve-dev has no output ApiUrl\n"


@pytest.mark.parametrize("stage", ["qa", "", "dev-network", "default"])
def test_an_unknown_stage_is_rejected_before_any_step(account: Account, stage: str) -> None:
    done = account.deploy(*([stage] if stage else []))

    assert (done.returncode, account.short_calls) == (2, [])
    assert done.stderr == (
        f"Not deployed: STAGE is {stage or 'not given'}, and must be one of dev, staging, prod\n"
    )


def test_without_credentials_no_step_runs(account: Account) -> None:
    done = account.deploy("dev", variables={"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""})

    assert (done.returncode, account.short_calls) == (2, [])
    assert len(done.stderr.splitlines()) == 1
    assert "no AWS credentials found" in done.stderr


def test_a_dry_run_prints_each_step_and_runs_none(account: Account) -> None:
    stack = "--stack-name openreserve-prod --region eu-central-1"
    quiet = "--no-fail-on-empty-changeset --no-confirm-changeset"
    config = tomllib.loads((ROOT / "samconfig.toml").read_text())
    given = settings.overrides(config, "prod") | {settings.HASH: "<hash>"}
    overrides = shlex.join(settings.options(given))

    done = account.deploy("prod", "--dry-run", "--yes", variables={"AWS_ACCESS_KEY_ID": ""})

    assert (done.returncode, account.short_calls, account.protected) == (0, [], [])
    assert done.stdout.splitlines() == [
        "+ sam build",
        *(
            line
            for name in ("network", "database", "cache")
            for line in (
                f"+ sam deploy --config-env prod-{name} {quiet}",
                f"+ protect openreserve-prod-{name} from termination",
            )
        ),
        f"+ sam deploy --config-env prod {quiet} --parameter-overrides {overrides}",
        f"+ sam remote invoke MigrateFunction {stack} --output json",
        f"+ sam list stack-outputs {stack} --output json",
        "+ python -m infra.deploy.smoke '<ApiUrl>' --sigv4 --region eu-central-1",
    ]


def test_the_app_is_deployed_with_the_overrides_of_its_stage_and_a_hash(account: Account) -> None:
    account.deploy("dev")

    given = settings.overrides(tomllib.loads((ROOT / "samconfig.toml").read_text()), "dev")
    passed = account.overrides
    assert len(passed.pop(settings.HASH)) == 64
    assert passed == given


def test_a_repeated_deployment_has_the_same_hash_and_each_change_a_new_one(
    account: Account,
) -> None:
    hashes = []

    def deploy() -> None:
        account.deploy("dev")
        hashes.append(account.overrides[settings.HASH])

    deploy()
    deploy()
    (account.folder / "code.py").write_text("VERSION = 2")
    deploy()
    account.stored["/openreserve/dev/database/host"] = "restored.example"
    deploy()
    config = account.checkout / "samconfig.toml"
    config.write_text(config.read_text().replace('"LogRetentionDays=7"', '"LogRetentionDays=14"'))
    deploy()

    assert all(len(text) == 64 for text in hashes)
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 4


def test_a_missing_parameter_of_a_data_stack_ends_the_deployment(account: Account) -> None:
    account.missing = {"/openreserve/dev/cache/host"}

    done = account.deploy("dev")

    assert (done.returncode, account.short_calls) == (1, DEPLOYED[:4])
    assert done.stderr == "Not deployed: Parameter Store has no /openreserve/dev/cache/host\n"


def test_a_fix_can_be_deployed_while_alarms_go_off(account: Account) -> None:
    account.deploy("dev")
    assert "DeploymentAlarms" not in account.overrides

    account.deploy("dev", "--without-alarms")
    assert account.overrides["DeploymentAlarms"] == "ignored"


def test_the_smoke_test_passes_repeatedly(runtime: Runtime) -> None:
    assert smoke.main([runtime.url]) == 0
    assert smoke.main([runtime.url]) == 0

    with Client(runtime.url) as client:
        resource = client.read_resource(smoke.RESOURCE)
    assert (resource.available_stock, resource.held_stock) == (1, 0)


@pytest.mark.parametrize(
    ("variables", "scheme"),
    [
        ({"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}, "AWS4-HMAC-SHA256"),
        ({"OPENRESERVE_TOKEN": "of-an-operator"}, "Bearer of-an-operator"),
    ],
)
def test_the_smoke_test_authenticates_as_the_stage_requires(
    variables: dict[str, str], scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with scripted(Step(200, {"status": "degraded", "postgres": "ok", "redis": "x"})) as server:
        assert smoke.main([server.url, "--sigv4", "--region", "eu-central-1"]) == 1

    (request,) = server.asked
    assert request.headers["authorization"].startswith(scheme)


def test_the_smoke_test_reports_a_stage_without_its_database(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Postgres is stopped after the start."""
    with started(tmp_path) as runtime:
        postmaster = int((tmp_path / "postgres" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(postmaster, 3)

        assert smoke.main([runtime.url, "--patience", "1"]) == 1

    assert "health is unavailable, expected ok. postgres unavailable" in capsys.readouterr().err


def test_the_smoke_test_reports_a_stage_that_does_not_answer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert smoke.main([f"http://127.0.0.1:{free_port()}", "--patience", "0"]) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("✗ The smoke test failed: NotAnswered")
