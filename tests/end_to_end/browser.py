"""A Chromium without a screen, driven as a person would: who reads pages, types into fields and presses a button."""

from __future__ import annotations

import atexit
import os
import tempfile
from base64 import b64decode
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Self

from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.end_to_end.programs import find, reserved_port

SECONDS = 120  # the most that one page may take
POLL = 0.02  # seconds until it is looked at again
WHOLE = "return document.readyState === 'complete'"  # which a driver may ask where pages may run no scripts, too
NO_SCRIPTS = {"profile.managed_default_content_settings.javascript": 2}


class Browser:
    """One browser with a profile of its own below ``home``. As a context manager it is closed at the end."""

    def __init__(
        self,
        home: Path,
        *,
        language: str = "en",
        javascript: bool = True,
        trusting: str = "",
        size: tuple[int, int] = (900, 700),
        dark: bool = False,
    ) -> None:
        """:param trusting: the SHA-256 of a public key, in base64, whose certificate is good.
        :param size: of the window, in pixels.
        """
        options = ChromeOptions()
        options.binary_location = find("chromium") or "chromium"
        for argument in (
            "--headless=new",
            "--no-sandbox",  # where the tests run as root there is none
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            f"--user-data-dir={home / 'chromium'}",
            f"--window-size={size[0]},{size[1]}",
            "--force-color-profile=srgb",
            *([f"--ignore-certificate-errors-spki-list={trusting}"] if trusting else []),
        ):
            options.add_argument(argument)
        options.add_experimental_option(
            "prefs",
            {"intl.accept_languages": language, "credentials_enable_service": False}
            | ({} if javascript else NO_SCRIPTS),
        )
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        environment = os.environ | {"HOME": str(home)}
        with reserved_port() as port:  # Selenium would let go of the one that it finds before its driver has it
            self._driver = Chrome(options, ChromeService(find("chromedriver"), port, env=environment))
        self._driver.set_page_load_timeout(SECONDS)
        if dark:
            self._driver.execute_cdp_cmd(
                "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
            )
        if size[0] < 500:  # no window is so narrow
            self._driver.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": True},
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._driver.quit()

    def forget(self) -> Self:
        """Throw the cookies away, and what was said of pages."""
        self._driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
        self.complaints()
        return self

    def open(self, url: str) -> Self:
        self._driver.get(url)
        return self

    @property
    def url(self) -> str:
        return self._driver.current_url

    @property
    def title(self) -> str:
        return self._driver.title

    @property
    def language(self) -> str | None:
        """Of the page, as it says itself."""
        return self.element("html").get_attribute("lang")

    @property
    def text(self) -> str:
        """All that is to be read on the page."""
        return self.element("body").text

    @property
    def headline(self) -> str:
        return self.element("h1").text

    def element(self, selector: str) -> WebElement:
        """The first element that a CSS selector finds; it must be there."""
        return self._driver.find_element(By.CSS_SELECTOR, selector)

    def elements(self, selector: str) -> list[WebElement]:
        return self._driver.find_elements(By.CSS_SELECTOR, selector)

    def follow(self, text: str) -> Self:
        """Press the link that has this text in it."""
        return self._leave(self._driver.find_element(By.PARTIAL_LINK_TEXT, text).click)

    def type(self, **fields: str) -> Self:
        """Type into fields, each by its name in the form, in the place of what stands there."""
        for name, text in fields.items():
            field = self.element(f"[name={name}]")
            field.clear()
            field.send_keys(text)
        return self

    def press(self) -> Self:
        """Press the button of the form, and wait for what comes."""
        return self._leave(self.element("main button").click)

    def press_twice(self) -> Self:
        """Press the button as who is used to icons does."""
        return self._leave(ActionChains(self._driver).double_click(self.element("main button")).perform)

    def submit(self, **fields: str) -> Self:
        """Type, and press the button."""
        return self.type(**fields).press()

    def tab_to(self, tag: str, text: str = "") -> Self:
        """Press the tabulator until an element of this kind, with this text in it, has the focus."""
        for _ in range(30):
            self.keys(Keys.TAB)
            now = self._driver.switch_to.active_element
            if now.tag_name == tag and text in now.text:
                return self
        raise AssertionError(f"the tabulator comes to no {tag} {text!r}")

    def keys(self, text: str) -> Self:
        """Type where the focus is."""
        ActionChains(self._driver).send_keys(text).perform()
        return self

    def enter(self) -> Self:
        """Press the key that follows a link or sends a form, and wait for what comes."""
        return self._leave(partial(self.keys, Keys.ENTER))

    def field(self, name: str) -> str | None:
        """What stands in a field."""
        return self.element(f"[name={name}]").get_attribute("value")

    def error(self, name: str) -> str:
        """What the page says beside a field, which must name that as its description."""
        described = self.element(f"[name={name}]").get_attribute("aria-describedby") or ""
        assert f"{name}-error" in described.split(), f"the field {name} is described by {described!r}"
        return self.element(f"#{name}-error").text

    def fits(self) -> bool:
        """Whether nothing of the page is beyond the right edge."""
        return bool(self._driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth"))

    def runs_scripts(self) -> bool:
        """Whether scripts of pages run."""
        self.open("data:text/html,<title>none</title><script>document.title='run'</script>")
        return self.title == "run"

    def complaints(self) -> list[str]:
        """What the browser has had to say of the pages since it was last asked, but for their HTTP status."""
        said = [entry["message"] for entry in self._driver.get_log("browser")]
        return [message for message in said if "the server responded with a status of" not in message]

    def picture(self, path: Path) -> None:
        """Write what is to be seen as PNG: the whole page."""
        height = self._driver.execute_script("return document.documentElement.scrollHeight")
        width = self._driver.execute_script("return window.innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = self._driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"format": "png", "clip": clip, "captureBeyondViewport": True}
        )
        path.write_bytes(b64decode(shot["data"]))

    def _leave(self, act: Callable[[], object]) -> Self:
        """Do what leads to another page, and wait for that."""
        page = self.element("html")
        act()
        # Between two pages there may be none to ask.
        waiting = WebDriverWait(self._driver, SECONDS, POLL, ignored_exceptions=[WebDriverException])
        waiting.until(lambda driver: self.element("html") != page and driver.execute_script(WHOLE))
        return self


@cache
def shared(language: str, javascript: bool) -> Browser:
    """One that tests share, as each takes seconds to begin; it ends with this process."""
    home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    browser = Browser(Path(home.name), language=language, javascript=javascript)
    atexit.register(home.cleanup)
    atexit.register(browser.close)  # before
    return browser


def accessible_names(elements: Iterable[WebElement]) -> list[str]:
    """What a screen reader calls them."""
    return [element.accessible_name for element in elements]
