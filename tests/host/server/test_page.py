"""The server's page in a real browser: type, watch tokens come, see where they come from, stop."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("selenium", reason="selenium is not installed: pip install 'ternac[browser]'")
from selenium import webdriver
from selenium.webdriver.chrome.service import Service as Driver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from ternac.host.server.worker import Source
from ternac.run.sampling import Sampling
from tests.host.boards import numpy_backend, small_program
from tests.host.server.http_server import Running, running
from tests.host.server.serving import Shaky, alone, source

PROGRAM = small_program()
TOKEN = "a-token-of-some-length"
PATIENCE = 120


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("Chromium is not installed: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    profile = tmp_path_factory.mktemp("profile")
    alone = ["disable-background-networking", "disable-component-update", "disable-sync", "no-first-run"]
    for option in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "disable-dev-shm-usage",
        *alone,
    ):
        options.add_argument(f"--{option}")
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    environment = {**os.environ, "HOME": str(profile)}
    found = webdriver.Chrome(options, Driver(driver, env=environment))
    found.set_page_load_timeout(PATIENCE)
    yield found
    found.quit()


def open_page(browser: Any, server: Running) -> None:
    browser.get("about:blank")  # a page of the test before may still ask its server, which is gone
    browser.get_log("browser")
    browser.get(server.url)
    wait(browser, lambda b: PROGRAM.name in text(b, "model"))


def wait(browser: Any, what: Any) -> None:
    WebDriverWait(browser, PATIENCE, 0.05).until(what)


def text(browser: Any, name: str) -> str:
    return str(browser.find_element(By.ID, name).get_property("textContent"))


def fill(browser: Any, **values: Any) -> None:
    for name, value in values.items():
        box = browser.find_element(By.ID, name)
        box.clear()
        box.send_keys(str(value))


def press(browser: Any, name: str) -> None:
    browser.find_element(By.ID, name).click()


def no_complaints(browser: Any) -> None:
    """Nothing that the page does is refused by its own policy, and no script fails."""
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_tokens_come_and_say_where_from(browser: Any) -> None:
    backend = Shaky(PROGRAM, fail_at=30)
    spare = Source("spare", lambda: numpy_backend(PROGRAM), fallback=True)
    with running(PROGRAM, sources=[source(backend), spare], reopen=0) as server:
        open_page(browser, server)
        fill(browser, prompt="abc", tokens=200, temperature=1, seed=5)
        press(browser, "go")
        wait(browser, lambda b: text(b, "state") == "done (length)")
        sampling = Sampling.from_temperature(1.0, PROGRAM.logit_scale_bits)
        want = bytes(alone(PROGRAM, list(b"abc"), 200, sampling, 5)).decode(errors="replace")
        assert text(browser, "text") == "abc" + want
        assert "spare" in text(browser, "executor")
        assert "moved 1 times" in text(browser, "executor")
        assert float(text(browser, "speed").replace(",", "")) > 0
        assert "this server's clock" in text(browser, "speedorigin")
        assert (text(browser, "joules"), text(browser, "joulesorigin")) == ("not known", "not measured")
        assert text(browser, "count") == "200"
        wait(browser, lambda b: "lost" in text(b, "devices"))
        no_complaints(browser)


def test_stop_ends_the_text_on_the_server(browser: Any) -> None:
    backend = Shaky(
        PROGRAM, pause=0.05
    )  # the text takes a minute, so that it has not ended when stop is pressed
    with running(PROGRAM, sources=[source(backend)]) as server:
        open_page(browser, server)
        fill(browser, prompt="abc", tokens=4096)
        press(browser, "go")
        wait(browser, lambda b: len(text(b, "text")) > 20)
        press(browser, "stop")
        wait(browser, lambda b: text(b, "state") == "stopped")
        server.settle(PATIENCE)
        assert backend.open_sessions == 0
        assert 20 < len(text(browser, "text")) < 4000
        fill(browser, tokens=5)
        press(browser, "go")
        wait(browser, lambda b: text(b, "state") == "done (length)")
        no_complaints(browser)


def test_text_goes_on_and_a_chat_keeps_its_turns(browser: Any) -> None:
    """Ctrl+Enter begins, Continue appends what the server says after the whole text, chat sends all turns."""
    greedy = Sampling()
    with running(PROGRAM, ["numpy"]) as server:
        open_page(browser, server)
        fill(browser, prompt="abc", tokens=6, temperature=0)
        browser.find_element(By.ID, "prompt").send_keys(Keys.CONTROL, Keys.ENTER)
        wait(browser, lambda b: text(b, "state") == "done (length)")
        first = text(browser, "text")
        assert first == "abc" + bytes(alone(PROGRAM, list(b"abc"), 6, greedy)).decode(errors="replace")
        press(browser, "more")
        wait(browser, lambda b: len(text(b, "text")) == len(first) + 6)
        wait(browser, lambda b: text(b, "state") == "done (length)")
        more = alone(PROGRAM, list(first.encode()), 6, greedy)
        assert text(browser, "text") == first + bytes(more).decode(errors="replace")
        browser.find_element(By.ID, "mode").send_keys("chat")
        wait(browser, lambda b: text(b, "text") == "")
        said = shown = ""
        for turn in ("one", "two"):
            shown += "\n\n" * bool(shown) + f"User:\n{turn}\n\nAssistant:\n"
            said += f"User:\n{turn}\n\nAssistant:\n"
            fill(browser, prompt=turn)
            press(browser, "go")
            wait(browser, lambda b, want=shown: len(text(b, "text")) >= len(want))
            wait(browser, lambda b: text(b, "state").startswith("done"))
            answer = text(browser, "text").removeprefix(shown)
            made = bytes(alone(PROGRAM, list(said.encode()), 6, greedy)).decode(errors="replace")
            assert answer == made.partition("\n\n")[0]
            said += f"{answer.strip()}\n\n"
            shown += answer
        no_complaints(browser)


def test_the_page_asks_for_the_token(browser: Any) -> None:
    with running(PROGRAM, ["numpy"], tokens=[TOKEN]) as server:
        open_page(browser, server)
        fill(browser, prompt="abc", tokens=5)
        press(browser, "go")
        wait(browser, lambda b: "the token is missing or wrong" in text(b, "state"))
        fill(browser, access=TOKEN)
        press(browser, "go")
        wait(browser, lambda b: text(b, "state") == "done (length)")
