"""A headless Chromium for the tests of this folder: one browser, and pages that report what goes wrong."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from helpers.page_results import HOSTILE, rich_results, write_page

_AXE = (Path(__file__).parent / "axe" / "axe.min.js").read_text(encoding="utf-8")


@dataclass
class Opened:
    """A page in the browser, with all messages and requests since it was opened."""

    page: Any  # of Playwright
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def count(self, selector: str) -> int:
        return self.page.locator(selector).count()

    def marks(self, chart: str, kind: str) -> int:
        """How many marks of a kind (line, area, symbol, rect, text) a chart has."""
        return self.count(f"#chart-{chart} .mark-{kind} > *:not(.background)")

    def violations(self, *rules: str) -> list[str]:
        """Serious and critical findings of axe-core, of all rules or of these."""
        self.page.evaluate(_AXE)
        options = {"resultTypes": ["violations"], **({"runOnly": [*rules]} if rules else {})}
        found = self.page.evaluate("(options) => axe.run(options)", options)["violations"]
        return [
            f"{one['id']}: {json.dumps([node['html'][:200] for node in one['nodes']])}"
            for one in found
            if one["impact"] in ("serious", "critical")
        ]

    def settle(self) -> None:
        """Wait until all charts have drawn what the controls say."""
        self.page.evaluate(
            "async () => { for (const one of Object.values(window.page.views)) await one.runAsync(); }"
        )


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium; skip without it, but not in CI. VSP_TEST_CHROMIUM names another program."""
    program = os.environ.get("VSP_TEST_CHROMIUM") or shutil.which("chromium")
    if program is None:
        assert os.environ.get("CI") != "true", "CI has no chromium; tests/run.sh installs it"
        pytest.skip("no chromium; `bash tests/run.sh` installs it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="session")
def open_page(browser: Any) -> Callable[..., Any]:
    """`with open_page(path, …) as opened`: a file in a new context with these options."""

    @contextmanager
    def opening(address: Path | str, **options: Any) -> Iterator[Opened]:
        context = browser.new_context(**{"viewport": {"width": 1000, "height": 900}, **options})
        opened = Opened(context.new_page())
        opened.page.on("console", lambda one: opened.errors.append(f"{one.type}: {one.text}"))
        opened.page.on("pageerror", lambda one: opened.errors.append(str(one)))
        opened.page.on("request", lambda one: opened.requests.append(one.url))
        opened.page.goto(address.as_uri() if isinstance(address, Path) else address)
        if options.get("java_script_enabled", True):
            opened.page.wait_for_selector("html[data-drawn]", timeout=30_000)
        try:
            yield opened
        finally:
            context.close()

    return opening


@pytest.fixture(scope="session")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of one run."""
    folder = tmp_path_factory.mktemp("one_run")
    results = rich_results(folder / "results" / "small")
    return write_page(folder / "page.html", [results], gallery=12)


@pytest.fixture(scope="session")
def several_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of three runs, one with hostile labels."""
    folder = tmp_path_factory.mktemp("several_runs")
    names = {"first": (), "second": (), "hostile": HOSTILE}
    results = [rich_results(folder / "results" / name, labels) for name, labels in names.items()]
    return write_page(folder / "page.html", results, title=HOSTILE[0])
