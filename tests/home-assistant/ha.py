#!/usr/bin/env python3
"""Home Assistant itself, headless, told what to do by lines of JSON on standard input; one line of JSON answers each.

    ha.py --config DIR --broker HOST:PORT --http-port N

Joins the broker through Home Assistant's own MQTT flow (once; DIR keeps it over a restart). Entities are named by the end
of their unique id: screamd_<device>_<key> is "key".
    {"do":"states"}                                              {"key": {"state", "attributes", "entity_id"}, ...}
    {"do":"wait","key","state","seconds"}                        {"after_s"} or {"error"}
    {"do":"call","service":"siren.turn_on","key","data":{}}      {} or {"error"}
    {"do":"publish","topic","payload"}  {"do":"devices"}  {"do":"warnings"}  {"do":"quit"}
"""
import argparse
import asyncio
import json
import logging
import os
import sys
import time

from homeassistant import bootstrap, runner
from homeassistant.helpers import device_registry, entity_registry

CONFIGURATION = """\
homeassistant:
  name: Home
  auth_providers:
    - type: trusted_networks
      trusted_networks: [127.0.0.1]
      allow_bypass_login: true
http:
  server_host: 127.0.0.1
  server_port: {port}
{frontend}"""
# Nobody clicks through the first-run pages.
ONBOARDING = {"version": 4, "minor_version": 1, "key": "onboarding",
              "data": {"done": ["user", "core_config", "analytics", "integration"]}}


class Keep(logging.Handler):
    """Collects what Home Assistant complains of."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        # The client's own lines about a broker that the test itself has killed.
        if record.name in ("paho.mqtt.client", "homeassistant.components.mqtt.client"):
            return
        # The same, told by the task that it was cut off in.
        if "mqtt_broker_error" in record.getMessage():
            return
        self.lines.append(f"{record.levelname} {record.name}: {record.getMessage()}")


class Driver:
    def __init__(self, hass, keep):
        self.hass, self.keep = hass, keep

    def entries(self):
        found = entity_registry.async_get(self.hass).entities.values()
        return {e.unique_id.split("_", 2)[2]: e for e in found if e.platform == "mqtt" and e.unique_id.startswith("screamd_")}

    def states(self):
        out = {}
        for key, entry in self.entries().items():
            state = self.hass.states.get(entry.entity_id)
            if state:
                out[key] = {"state": state.state, "entity_id": entry.entity_id,
                            "attributes": json.loads(json.dumps(dict(state.attributes), default=str))}
        return out

    async def do(self, ask):
        what = ask["do"]
        if what == "states":
            return self.states()
        if what == "warnings":
            return self.keep.lines
        if what == "devices":
            registry = device_registry.async_get(self.hass)
            return [{"id": d.id, "name": d.name, "model": d.model, "sw_version": d.sw_version, "manufacturer": d.manufacturer,
                     "area": d.area_id} for d in registry.devices.values() if any("mqtt" in i for i in d.identifiers)]
        if what == "wait":
            began = time.monotonic()
            while time.monotonic() - began < ask["seconds"]:
                state = self.states().get(ask["key"], {}).get("state")
                if state == ask["state"]:
                    return {"after_s": round(time.monotonic() - began, 2)}
                await asyncio.sleep(0.02)
            return {"error": f"{ask['key']} is {state}"}
        if what == "publish":
            await self.hass.services.async_call("mqtt", "publish", {"topic": ask["topic"], "payload": ask["payload"]}, blocking=True)
            return {}
        if what == "call":
            domain, name = ask["service"].split(".", 1)
            data = {"entity_id": self.entries()[ask["key"]].entity_id, **ask.get("data", {})}
            await self.hass.services.async_call(domain, name, data, blocking=True)
            return {}
        return {"error": f"unknown: {what}"}


async def join(hass, broker):
    """Through the pages that a person clicks through."""
    if hass.config_entries.async_entries("mqtt"):
        return
    host, port = broker.rsplit(":", 1)
    flow = await hass.config_entries.flow.async_init("mqtt", context={"source": "user"})
    if flow["type"] == "menu":
        flow = await hass.config_entries.flow.async_configure(flow["flow_id"], {"next_step_id": "broker"})
    flow = await hass.config_entries.flow.async_configure(flow["flow_id"], {"broker": host, "port": int(port)})
    if flow["type"] != "create_entry":
        raise SystemExit(f"cannot join {broker}: {flow.get('errors') or flow['type']}")


async def main(args):
    os.makedirs(os.path.join(args.config, ".storage"), exist_ok=True)
    with open(os.path.join(args.config, "configuration.yaml"), "w") as f:
        f.write(CONFIGURATION.format(port=args.http_port, frontend="frontend:\n" if args.frontend else ""))
    onboarding = os.path.join(args.config, ".storage", "onboarding")
    if not os.path.exists(onboarding):
        with open(onboarding, "w") as f:
            json.dump(ONBOARDING, f)
    hass = await bootstrap.async_setup_hass(runner.RuntimeConfig(config_dir=args.config, skip_pip=True, log_no_color=True))
    for handler in list(logging.getLogger().handlers):
        handler.setLevel(logging.ERROR)
    if not [user for user in await hass.auth.async_get_users() if not user.system_generated]:
        await hass.auth.async_create_user("Owner", group_ids=["system-admin"])
    keep = Keep()
    await hass.async_start()
    await hass.async_block_till_done()
    logging.getLogger().addHandler(keep)
    await join(hass, args.broker)
    driver, loop = Driver(hass, keep), asyncio.get_running_loop()
    print(json.dumps({"ready": True}), flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        ask = json.loads(line)
        if ask["do"] == "quit":
            break
        try:
            answer = await driver.do(ask)
        except Exception as error:  # what a person would read in the interface
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
    await hass.async_stop(force=True)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--config", required=True)
parser.add_argument("--broker", required=True, metavar="HOST:PORT")
parser.add_argument("--http-port", type=int, required=True)
parser.add_argument("--frontend", action="store_true")
asyncio.run(main(parser.parse_args()))
