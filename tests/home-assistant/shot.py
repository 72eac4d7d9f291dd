#!/usr/bin/env python3
"""shot.py PORT URL WORD: has a chromium with --remote-debugging-port=PORT open URL, waits until WORD stands on the page
(inside shadow roots too), and writes the picture to standard output. For the Python of Home Assistant, which has aiohttp."""
import asyncio
import base64
import json
import sys
import time

import aiohttp

FIND = """(() => {
  const has = node => (node.nodeType === 3 && node.textContent.includes(%s))
    || [...node.childNodes].some(has) || (node.shadowRoot ? has(node.shadowRoot) : false);
  return has(document.body);
})()"""


async def main(port, url, word):
    async with aiohttp.ClientSession() as http:
        for _ in range(120):
            try:
                async with http.put(f"http://127.0.0.1:{port}/json/new?about:blank") as answer:
                    page = (await answer.json())["webSocketDebuggerUrl"]
                break
            except aiohttp.ClientError:
                await asyncio.sleep(0.5)
        async with http.ws_connect(page, max_msg_size=0) as ws:
            number = 0

            async def ask(method, **params):
                nonlocal number
                number += 1
                await ws.send_json({"id": number, "method": method, "params": params})
                while True:
                    answer = json.loads((await ws.receive()).data)
                    if answer.get("id") == number:
                        return answer.get("result", {})

            await ask("Page.enable")
            await ask("Page.navigate", url=url)
            until = time.monotonic() + 180
            while time.monotonic() < until:
                found = await ask("Runtime.evaluate", expression=FIND % json.dumps(word))
                if found.get("result", {}).get("value"):
                    break
                await asyncio.sleep(1)
            else:
                raise SystemExit(f"`{word}` never came onto the page")
            # Cards are drawn one after the other.
            await asyncio.sleep(5)
            picture = await ask("Page.captureScreenshot", format="png")
            sys.stdout.buffer.write(base64.b64decode(picture["data"]))


asyncio.run(main(*sys.argv[1:]))
