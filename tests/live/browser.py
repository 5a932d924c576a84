"""A real browser for pages: Chromium, told what to do over its DevTools protocol."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

import aiohttp

from tests.live.processes import SOON_S

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
_listens = re.compile(r"DevTools listening on (ws://\S+)")


@contextmanager
def chromium(folder: Path) -> Iterator[str]:
    """Start one that keeps its things in a folder, and give the address of its protocol."""
    assert CHROMIUM
    # Without a graphics card; root may not use its sandbox, and a container's /dev/shm may be small.
    options = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0"]
    if os.geteuid() == 0:
        options.append("--no-sandbox")
    command = [CHROMIUM, *options, f"--user-data-dir={folder}", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        errors = process.stderr
        try:
            address = next(found[1] for line in errors if (found := _listens.search(line)))
            # A browser that complains to nobody would stand still once the pipe is full.
            listening = Thread(target=errors.read, daemon=True)
            listening.start()
            yield address
            process.terminate()
            listening.join()
        finally:
            process.kill()


class Page:
    """A page in a browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, session: str) -> None:
        self._socket, self._session, self._numbers = socket, session, count(1_000)
        #: What the browser complains of: errors of scripts, what the page's policy does not let it do.
        self.complaints: list[str] = []

    async def call(self, method: str, **parameters: Any) -> Any:
        """What a method of the protocol gives."""
        number = next(self._numbers)
        await self._socket.send_json(
            {"id": number, "method": method, "params": parameters, "sessionId": self._session}
        )
        async with asyncio.timeout(SOON_S):
            while (answer := await self._socket.receive_json()).get("id") != number:
                self._hear(answer.get("method"), answer.get("params"))
        assert "error" not in answer, answer
        return answer["result"]

    def _hear(self, event: str | None, told: Any) -> None:
        if event == "Runtime.exceptionThrown":
            self.complaints.append(str(told["exceptionDetails"]))
        # That the network has failed, or has refused, is what some tests are about; advice is not for tests.
        if event == "Log.entryAdded" and told["entry"]["source"] != "network":
            self.complaints += (
                [told["entry"]["text"]] if told["entry"]["level"] in {"warning", "error"} else []
            )

    async def run(self, code: str) -> Any:
        """What an expression gives, once it has it."""
        answer = await self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, code: str) -> Any:
        """What an expression gives once that is true; the page is looked at again and again."""
        look = f"const found = {code}; found ? resolve(found) : setTimeout(look, 20);"
        try:
            return await self.run(f"new Promise((resolve) => {{ const look = () => {{ {look} }}; look(); }})")
        except TimeoutError:
            text = await self.run("document.body.innerText")
            raise AssertionError(f"never came: {code}; the page says:\n{text}") from None

    async def open(self, url: str) -> None:
        """Go to a page, and wait until it is loaded."""
        await self.call("Page.navigate", url=url)
        await self.until(f"document.readyState === 'complete' && location.href.startsWith({json.dumps(url)})")

    async def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key: its name, its number, the letter that it types."""
        told = {"key": key, "windowsVirtualKeyCode": code}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **told, **({"text": text} if text else {}))
        await self.call("Input.dispatchKeyEvent", type="keyUp", **told)

    async def resize(self, width: int, height: int) -> None:
        """Be a screen of this size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        await self.call("Emulation.setDeviceMetricsOverride", **size)

    async def prefer(self, scheme: str) -> None:
        """Be set to `light` or `dark`."""
        wanted = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.call("Emulation.setEmulatedMedia", features=wanted)


async def _asked(socket: aiohttp.ClientWebSocketResponse, number: int, method: str, **parameters: Any) -> Any:
    await socket.send_json({"id": number, "method": method, "params": parameters})
    async with asyncio.timeout(SOON_S):
        while (answer := await socket.receive_json()).get("id") != number:
            pass
    return answer["result"]


@asynccontextmanager
async def opened(address: str) -> AsyncIterator[Page]:
    """Give an empty page that shares nothing with others, in the browser at this address."""
    async with aiohttp.ClientSession() as http, http.ws_connect(address, max_msg_size=0) as socket:
        context = (await _asked(socket, 1, "Target.createBrowserContext"))["browserContextId"]
        made = await _asked(socket, 2, "Target.createTarget", url="about:blank", browserContextId=context)
        target = made["targetId"]
        joined = await _asked(socket, 3, "Target.attachToTarget", targetId=target, flatten=True)
        page = Page(socket, joined["sessionId"])
        for domain in ("Page", "Runtime", "Log"):
            await page.call(f"{domain}.enable")
        yield page
        await _asked(socket, 4, "Target.disposeBrowserContext", browserContextId=context)
