"""The trace page in a real browser, on spans that try to break out of it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from observability.trace_store import Config, Running, running

if TYPE_CHECKING:
    from playwright.async_api import Page

browsers = pytest.importorskip(
    "playwright.async_api", reason="`make test BROWSER=1` installs playwright"
)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
STATIC = Path(__file__).resolve().parents[2] / "observability" / "static"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
HOSTILE = "</script><img src=x onerror=\"document.title='owned'\"><svg/onload=alert(1)>"
START_NS = 1_700_000_000 * 10**9


def hostile_trace() -> list[ResourceSpans]:
    def text(key: str, value: str) -> KeyValue:
        return KeyValue(key=key, value=AnyValue(string_value=value))

    def span(number: int, parent: int, **fields: object) -> Span:
        return Span(
            trace_id=bytes.fromhex(TRACE_ID),
            span_id=number.to_bytes(8, "big"),
            parent_span_id=parent.to_bytes(8, "big") if parent else b"",
            start_time_unix_nano=START_NS + number * 10**6,
            end_time_unix_nano=START_NS + 30 * 10**6,
            **fields,  # type: ignore[arg-type]
        )

    root = span(
        1,
        0,
        name=HOSTILE,
        kind=Span.SPAN_KIND_SERVER,
        attributes=[text(HOSTILE, HOSTILE), text("javascript", "javascript:alert(1)")],
        events=[Span.Event(name=HOSTILE, attributes=[text("a", HOSTILE)])],
        links=[Span.Link(trace_id=b"\x0b" * 16, span_id=b"\x0c" * 8)],
        status=Status(code=Status.STATUS_CODE_ERROR, message=HOSTILE),
    )
    scope = ScopeSpans(spans=[root, span(2, 1, name="child"), span(3, 2, name="grandchild")])
    service = Resource(attributes=[text("service.name", HOSTILE)])
    return [ResourceSpans(resource=service, scope_spans=[scope])]


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    async with running(Config(otlp_port=0, http_port=0)) as started:
        started.store.add(hostile_trace())
        yield started


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    if CHROMIUM is None:
        pytest.skip("needs chromium on PATH (Debian: apt-get install chromium)")
    async with browsers.async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield await browser.new_page()
        await browser.close()


def watch(page: Page) -> list[str]:
    """Whatever the page complains about: errors, refused scripts, dialogs."""
    trouble: list[str] = []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("console", lambda message: trouble.append(message.text))
    page.on("dialog", lambda dialog: trouble.append(dialog.message))
    return trouble


async def test_a_trace_is_shown_as_text_whatever_it_holds(server: Running, page: Page) -> None:
    trouble = watch(page)
    await page.goto(f"{server.http_url}/trace/{TRACE_ID}")
    await page.wait_for_selector(".row.span")
    assert await page.locator(".row.span").count() == 3
    await page.locator(".row.span").first.click()
    details = await page.locator(".details").inner_text()
    assert details.count(HOSTILE) >= 4, "status, key, value, event"
    link = await page.locator(".details a").first.get_attribute("href")
    assert link == f"/trace/{'0b' * 16}#{'0c' * 8}"
    assert await page.locator("main img, main svg, main script").count() == 0
    assert await page.title() == f"{HOSTILE} · trace"
    assert trouble == []


async def test_rows_fold_and_open_from_the_keyboard(server: Running, page: Page) -> None:
    await page.goto(f"{server.http_url}/trace/{TRACE_ID}")
    rows = page.locator(".row.span")
    await page.locator("button.fold").first.click()
    assert await rows.count() == 1
    await page.locator("button.fold").first.click()
    assert await rows.count() == 3
    await rows.nth(1).press("Enter")
    assert await page.locator(".details").count() == 1


async def test_the_list_leads_to_the_trace(server: Running, page: Page) -> None:
    trouble = watch(page)
    lookback_s = 100 * 365 * 86_400
    await page.goto(f"{server.http_url}/?lookback={lookback_s}&errors=1")
    card = page.locator(".card")
    await card.wait_for()
    text = await card.inner_text()
    assert HOSTILE in text
    assert "3 spans" in text
    assert "1 error" in text
    await card.click()
    await page.wait_for_url(f"**/trace/{TRACE_ID}")
    assert trouble == []


async def test_a_trace_that_is_not_there(server: Running, page: Page) -> None:
    await page.goto(f"{server.http_url}/trace/7")
    assert "No such trace" in await page.locator(".notice").inner_text()
    await page.fill("#go-id", TRACE_ID)
    await page.press("#go-id", "Enter")
    await page.locator(".row.span").first.wait_for()


def test_the_page_builds_no_html_from_text_and_asks_nobody_else() -> None:
    for path in STATIC.iterdir():
        source = path.read_text()
        assert len(source.splitlines()) < 300, path
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert word not in source, (path, word)
        assert "https://" not in source, path
