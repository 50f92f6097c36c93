"""The dashboard of a running runtime in Chromium."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.e2e.runtime import ROOT, Runtime, free_port, started

CHROMIUM = shutil.which("chromium")
PATIENCE_MS = 20_000
"""Timeout for the content of the page. The tests assert nothing about durations."""
PAIRS = [
    *((text, ground, 4.5) for text in ("text", "text-muted") for ground in ("ground", "surface")),
    *(
        (text, ground, 4.5)
        for text in ("good", "bad", "accent")
        for ground in ("ground", "surface")
    ),
    ("on-accent", "accent", 4.5),
    *((part, "surface", 3.0) for part in ("available", "held", "committed")),
    *((f"line-{number}", "surface", 3.0) for number in range(1, 7)),
]
"""Colours, their backgrounds, and the contrast that WCAG requires."""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("verdicts")


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory, verdicts: Path) -> Iterator[Runtime]:
    variables = variables_of(verdicts)
    state = tmp_path_factory.mktemp("runtime")
    with started(state, "--load-test", "tests.e2e.stand_in", variables=variables) as runtime:
        yield runtime


@pytest.fixture
def page(browser: Browser, runtime: Runtime) -> Iterator[Page]:
    """The dashboard, connected to the runtime."""
    with browser.new_context() as context:
        yield opened(context.new_page(), runtime)


def variables_of(verdicts: Path) -> dict[str, str]:
    """The variables of a runtime with the fake load test, which works without Locust."""
    modules = verdicts / "modules"
    modules.mkdir(exist_ok=True)
    (modules / "locust.py").touch()
    return {"VERDICTS": str(verdicts), "PYTHONPATH": str(modules)}


def opened(page: Page, runtime: Runtime) -> Page:
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    page.goto(f"{runtime.url}/dashboard")
    expect(page.get_by_role("status").first).to_have_text("Live")
    return page


def number(page: Page, panel: str, series: str, column: int = 2) -> Locator:
    """The cell in the table of a panel: column 1 is the current value, 2 the maximum."""
    table = page.get_by_role("table", name=panel)
    title = page.get_by_role("rowheader", name=series, exact=True)
    return table.locator("tr", has=title).locator(f"td:nth-of-type({column})")


def test_the_dashboard_loads_from_one_host_without_console_errors(
    browser: Browser, runtime: Runtime
) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        complaints: list[str] = []
        hosts: set[str] = set()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))

        opened(page, runtime)
        expect(number(page, "Environments by state", "idle", 1)).to_have_text(re.compile(r"\d"))

        assert complaints == []
        assert hosts == {urlsplit(runtime.url).netloc}
        answer = page.request.get(f"{runtime.url}/dashboard")
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy


def test_metrics_count_api_calls_and_not_the_calls_of_the_dashboard(
    page: Page, runtime: Runtime, name: str
) -> None:
    expect(page.get_by_role("table", name="Throughput by endpoint")).not_to_contain_text("GET")

    runtime.set_stock(name, 1)
    replies = [runtime.reserve(name, f"{name}-{n}") for n in range(5)]

    assert [reply.status for reply in replies] == [200, 409, 409, 409, 409]
    more_than_none = re.compile(r"^(?!0/s)\d")
    throughput = "Throughput by endpoint"
    expect(number(page, throughput, "POST /api/v1/reserve")).to_have_text(more_than_none)
    expect(number(page, "Answers", "409 refused")).to_have_text(more_than_none)
    expect(number(page, "Answers", "2xx")).to_have_text(more_than_none)
    expect(number(page, "Answers", "5xx")).to_have_text("0/s")
    expect(number(page, "Latency", "p99")).to_have_text(re.compile(r"^[\d.]+ m?s$"))
    expect(number(page, "Postgres connections", "idle")).to_have_text(re.compile(r"^\d"))
    expect(page.get_by_role("table", name=throughput)).not_to_contain_text("GET")


def test_the_stock_bar_of_a_resource_follows_holds_and_releases(
    page: Page, runtime: Runtime, name: str
) -> None:
    runtime.set_stock(name, 10)
    item = page.locator(f"#stock-list [data-resource='{name}']")
    available = item.locator(".bar .available")
    expect(item).to_contain_text("10 of 10 available, 0 held, 0 committed")

    held = runtime.reserve(name, name, quantity=4).json["token"]

    expect(item).to_contain_text("6 of 10 available, 4 held, 0 committed")
    expect(available).to_have_attribute("style", "width: 60%;")
    runtime.call("POST", "/api/v1/release", {"token": held})
    expect(item).to_contain_text("10 of 10 available, 0 held, 0 committed")
    expect(available).to_have_attribute("style", "width: 100%;")


def test_the_list_of_resources_can_be_filtered(page: Page, runtime: Runtime, name: str) -> None:
    for suffix in ("one", "two"):
        runtime.set_stock(f"{name}-{suffix}", 1)
    listed = page.locator("#stock-list")
    expect(listed).to_contain_text(f"{name}-one")

    page.get_by_label("Resources that begin with").fill(f"{name}-t")

    expect(listed.get_by_role("listitem")).to_have_count(1)
    expect(listed).to_contain_text(f"{name}-two")


def test_events_are_listed_without_tokens(page: Page, runtime: Runtime, name: str) -> None:
    runtime.set_stock(name, 1)

    token = runtime.reserve(name, name).json["token"]

    event = page.locator("#events-list li", has_text=name).first
    expect(event).to_contain_text("STOCK_DEPLETED")
    expect(event).to_contain_text(f"0 available, {token[:8]}…")
    assert token not in page.content()


def test_the_button_starts_one_run_and_shows_its_result(
    page: Page, runtime: Runtime, verdicts: Path
) -> None:
    button = page.get_by_role("button", name="Start Black Friday")
    verdict = page.locator("#black-friday-verdict")
    for code, text in ((0, "Passed"), (1, "Failed"), (2, "Could not run"), (-9, "Could not run")):
        (verdicts / "exit").unlink(missing_ok=True)

        button.click()

        expect(verdict).to_contain_text("Running")
        expect(button).to_be_disabled()
        expect(page.get_by_label("What the load test prints")).to_contain_text("✓ Seeded")
        expect(page.locator("#black-friday-stock")).to_contain_text("100 of 100 available")
        second = runtime.call("POST", "/dashboard/black-friday")
        assert (second.status, second.code) == (409, "black_friday_running")
        assert second.headers["content-type"].startswith("application/problem+json")
        if code < 0:
            psutil.Process(int((verdicts / "pid").read_text())).kill()
        else:
            (verdicts / "exit").write_text(str(code))
        expect(verdict).to_contain_text(text)
        expect(button).to_be_enabled()


def test_the_dashboard_can_be_used_with_the_keyboard(page: Page, verdicts: Path) -> None:
    (verdicts / "exit").write_text("0")
    button = page.get_by_role("button", name="Start Black Friday")
    for _ in range(3):  # after two links
        page.keyboard.press("Tab")
    expect(button).to_be_focused()
    outline = button.evaluate("button => getComputedStyle(button).outlineStyle")

    page.keyboard.press("Enter")

    assert outline == "solid"
    expect(page.locator("#black-friday-verdict")).to_contain_text("Passed")
    expect(button).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_label("What the load test prints")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Resources that begin with")).to_be_focused()


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", "http://["])
def test_a_page_of_another_origin_cannot_start_a_run(runtime: Runtime, origin: str) -> None:
    before = runtime.call("GET", "/dashboard/black-friday").json

    refused = runtime.call("POST", "/dashboard/black-friday", headers={"Origin": origin})

    assert (refused.status, refused.code) == (403, "origin_not_allowed")
    assert runtime.call("GET", "/dashboard/black-friday").json == before


def test_a_black_friday_run_stops_with_the_runtime(tmp_path: Path) -> None:
    options = ("--load-test", "tests.e2e.stand_in")
    with started(tmp_path / "state", *options, variables=variables_of(tmp_path)) as runtime:
        assert runtime.call("POST", "/dashboard/black-friday").status == 202
        while not runtime.call("GET", "/dashboard/black-friday").json["lines"]:
            assert runtime.process.poll() is None
        run = psutil.Process(int((tmp_path / "pid").read_text()))

        assert runtime.stop() == 0

        assert not run.is_running()


def test_without_the_load_test_the_dashboard_shows_how_to_install_it(
    browser: Browser, tmp_path: Path
) -> None:
    with (
        started(tmp_path, "--load-test", "no_such_module") as runtime,
        browser.new_context() as context,
    ):
        page = opened(context.new_page(), runtime)

        page.get_by_role("button", name="Start Black Friday").click()

        expect(page.locator("#black-friday-verdict")).to_contain_text("run `make blackfriday`")
        expect(page.get_by_role("button", name="Start Black Friday")).to_be_enabled()
        refused = runtime.call("POST", "/dashboard/black-friday")
        assert (refused.status, refused.code) == (501, "load_test_not_installed")


def test_the_dashboard_shows_that_the_runtime_is_unreachable_and_reconnects(
    browser: Browser, tmp_path: Path, name: str
) -> None:
    port = free_port()
    with browser.new_context() as context:
        with started(tmp_path, port=port) as runtime:
            page = opened(context.new_page(), runtime)
            runtime.set_stock(name, 7)
            expect(page.locator("#stock-list")).to_contain_text("7 of 7 available")
        connection = page.locator("#connection")
        expect(connection).to_contain_text("No answer since")

        with started(tmp_path, port=port) as runtime:
            expect(connection).to_have_text("Live", timeout=60_000)
            runtime.reserve(name, name, quantity=2)
            expect(page.locator("#stock-list")).to_contain_text("5 of 7 available, 2 held")
            series = "POST /api/v1/reserve"
            expect(number(page, "Throughput by endpoint", series)).to_have_text(re.compile(r"\d"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_dashboard_has_a_light_and_a_dark_theme(
    browser: Browser, runtime: Runtime, scheme: str
) -> None:
    with browser.new_context(color_scheme="dark" if scheme == "dark" else "light") as context:
        page = opened(context.new_page(), runtime)

        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (luminance(ground) < 0.5) == (scheme == "dark")
        for colour, behind, least in PAIRS:
            assert contrast(drawn(page, colour), drawn(page, behind)) >= least, (colour, behind)


def drawn(page: Page, variable: str) -> str:
    """The computed colour of a variable of the style sheet, as rgb(...)."""
    script = """variable => {
        const probe = document.body.appendChild(document.createElement("i"));
        probe.style.color = `var(--${variable})`;
        const { color } = getComputedStyle(probe);
        probe.remove();
        return color;
    }"""
    return str(page.evaluate(script, variable))


def contrast(one: str, other: str) -> float:
    """The contrast ratio as defined by WCAG."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    shares = [int(part) / 255 for part in re.findall(r"\d+", colour)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in shares]
    return sum(w * x for w, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_accessibility_violation(
    browser: Browser, runtime: Runtime, name: str, scheme: str
) -> None:
    runtime.set_stock(name, 1)
    runtime.reserve(name, name)
    with browser.new_context(color_scheme="dark" if scheme == "dark" else "light") as context:
        page = opened(context.new_page(), runtime)
        expect(page.locator("#events-list")).to_contain_text(name)

        result = Axe().run(page)

        assert result.violations_count == 0, result.generate_report()


def test_the_dashboard_fits_the_width_of_a_phone(
    browser: Browser, runtime: Runtime, name: str
) -> None:
    unbreakable = name.replace("-", "_") * 12
    runtime.set_stock(unbreakable, 1)
    with browser.new_context(viewport={"width": 360, "height": 740}) as context:
        page = opened(context.new_page(), runtime)
        expect(page.locator("#stock-list")).to_contain_text(unbreakable)

        assert page.evaluate("document.documentElement.scrollWidth") == 360
        chart = page.locator(".chart").first.bounding_box()
        assert chart is not None
        assert 250 < chart["width"] <= 360


def test_reduced_motion_disables_animations(browser: Browser, runtime: Runtime, name: str) -> None:
    runtime.set_stock(name, 1)
    durations = {}
    for motion in ("no-preference", "reduce"):
        with browser.new_context() as context:
            page = context.new_page()
            page.emulate_media(reduced_motion="reduce" if motion == "reduce" else "no-preference")
            bar = opened(page, runtime).locator(".bar .available").first
            durations[motion] = bar.evaluate("bar => getComputedStyle(bar).transitionDuration")

    assert durations == {"no-preference": "0.4s", "reduce": "0s"}


def test_rates_and_quantiles_equal_those_of_prometheus(page: Page) -> None:
    def text(seconds: int, *buckets: int) -> str:
        bounds = ("0.1", "0.5", "+Inf")
        return (
            "\n".join(
                f'wait_bucket{{le="{bound}",route="a \\"b\\\\"}} {count}.0'
                for bound, count in zip(bounds, buckets, strict=True)
            )
            + f"\n# HELP calls a\ncalls_total {seconds * 3}.0\n"
        )

    script = """async (texts) => {
        const { Polls } = await import("/dashboard/polls.js");
        const { parse } = await import("/dashboard/prometheus.js");
        const polls = new Polls();
        texts.forEach((text, number) => polls.add(number * 2, parse(text)));
        return [polls.rate("calls_total"), polls.rate("no_such_total"),
            ...[0.5, 0.9, 0.99].map((share) => polls.quantile(share, "wait")),
            polls.quantile(0.5, "no_such"), polls.quantilesBy("route", 0.5, "wait")];
    }"""

    values = page.evaluate(script, [text(10, 5, 5, 5), text(12, 15, 23, 25)])
    began_anew = page.evaluate(script, [text(10, 5, 5, 5), text(2, 4, 4, 4)])

    assert values[:2] == [3.0, 0]  # 6 in 2 seconds
    assert values[2:5] == pytest.approx([0.1, 0.5, 0.5])  # of 10, 8 and 2 new ones
    assert values[5:] == [None, {'a "b\\': pytest.approx(0.1)}]
    assert began_anew[0] == 3.0


def test_the_dashboard_serves_only_its_own_files(runtime: Runtime) -> None:
    vendored = runtime.call("GET", "/dashboard/vendor/uplot/uPlot.min.css")
    for path in ("/dashboard/../dashboard.py", "/dashboard/%2e%2e/dashboard.py", "/dashboard/x"):
        assert runtime.call("GET", path).status == 404

    assert vendored.status == 200
    assert vendored.text == (ROOT / "infra/local/dashboard/vendor/uplot/uPlot.min.css").read_text()
