#!/usr/bin/env python3
"""The checks of run.sh. Every wait is for a condition; its limit is far beyond what a slow machine needs."""
import argparse
import datetime
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import wave

LIMIT_S = 60
DEVICE = "hall-1"
PLATFORMS = {
    "scream": "binary_sensor", "alarm": "binary_sensor", "event": "event", "siren": "siren", "armed": "switch",
    "threshold": "number", "cooldown": "number", "test_siren": "button", "silence": "button", "probability": "sensor",
    "level": "sensor", "latency": "sensor", "xruns": "sensor", "cpu_temp": "sensor", "audio_fault": "binary_sensor",
    "last_boot": "sensor", "update": "update",
}
# What is known as soon as the device is there; the rest comes with telemetry, once a minute.
AT_ONCE = ["scream", "alarm", "siren", "armed", "threshold", "cooldown", "audio_fault", "last_boot", "update"]
TELEMETRY = ["probability", "level", "latency", "xruns"]


class Failed(Exception):
    pass


class Table:
    """Checks with their results, in order."""

    def __init__(self):
        self.rows = []

    def check(self, name, test):
        try:
            detail, passed = test() or "", True
        except Failed as failure:
            detail, passed = str(failure), False
        self.rows.append((name, passed, detail))
        print(f"{'ok    ' if passed else 'FAILED'} {name}{': ' if detail else ''}{detail}", flush=True)

    def failed(self):
        return [row for row in self.rows if not row[1]]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Broker:
    def __init__(self, folder):
        self.port, self.child = free_port(), None
        self.conf = os.path.join(folder, "mosquitto.conf")
        with open(self.conf, "w") as f:
            f.write(f"user root\npersistence false\nlistener {self.port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n")
        self.start()

    def start(self):
        path = os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin"
        self.child = subprocess.Popen(["mosquitto", "-c", self.conf], stderr=subprocess.DEVNULL, env={**os.environ, "PATH": path})
        until = time.monotonic() + LIMIT_S
        while time.monotonic() < until:
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise SystemExit("mosquitto does not listen")

    def kill(self):
        self.child.kill()
        self.child.wait()


class Home:
    """Home Assistant in its own root."""

    def __init__(self, root, config, broker, frontend):
        self.port = free_port()
        shutil.copy(os.path.join(os.path.dirname(os.path.abspath(__file__)), "ha.py"), os.path.join(root, "ha/screamd-test.py"))
        command = ["chroot", root, "/ha/bin/python", "/ha/screamd-test.py", "--config", config,
                   "--broker", f"127.0.0.1:{broker.port}", "--http-port", str(self.port)]
        self.child = subprocess.Popen(command + (["--frontend"] if frontend else []), stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, stderr=open(os.path.join(root, "tmp/screamd-test.log"), "a"), text=True)
        first = self.child.stdout.readline()
        if json.loads(first or "{}") != {"ready": True}:
            raise SystemExit(f"Home Assistant does not start: {first} (see {root}/tmp/screamd-test.log)")

    def ask(self, **what):
        self.child.stdin.write(json.dumps(what) + "\n")
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())

    def states(self):
        return self.ask(do="states")

    def wait(self, key, state, seconds=LIMIT_S):
        answer = self.ask(do="wait", key=key, state=state, seconds=seconds)
        if "error" in answer:
            raise Failed(f"{answer['error']}, not {state}")
        return answer["after_s"]

    def call(self, service, key, **data):
        answer = self.ask(do="call", service=service, key=key, data=data)
        if "error" in answer:
            raise Failed(f"{service}: {answer['error']}")

    def quit(self):
        self.child.stdin.write('{"do":"quit"}\n')
        self.child.stdin.flush()
        try:
            self.child.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


class Device:
    def __init__(self, program, folder, port):
        self.program, self.folder, self.child = program, folder, None
        self.site = os.path.join(folder, "site.toml")
        with open(self.site, "w") as f:
            f.write(f'device_id = "{DEVICE}"\nzone = "Hallway"\n[mqtt]\nhost = "127.0.0.1"\nport = {port}\n'
                    f'[events]\ndir = "{folder}/events"\n[state]\ndir = "{folder}/state"\n')

    def start(self, sound):
        log = open(os.path.join(self.folder, "screamd.log"), "a")
        self.child = subprocess.Popen([self.program, "run", "--config", self.site, "--wav", sound, "--speed", "realtime", "--json"],
                                      stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def end(self, how=signal.SIGTERM):
        self.child.send_signal(how)
        self.child.wait(LIMIT_S)


class Wire:
    """Everything on the broker, in order."""

    def __init__(self, port):
        self.lines = []
        self.child = subprocess.Popen(["mosquitto_sub", "-p", str(port), "-t", "screamd/#", "-t", "homeassistant/#", "-F", "%t %p"],
                                      stdout=subprocess.PIPE, text=True)
        threading.Thread(target=lambda: self.lines.extend(line.rstrip("\n") for line in self.child.stdout), daemon=True).start()

    def wait(self, what, test):
        until = time.monotonic() + LIMIT_S
        while time.monotonic() < until:
            if test(list(self.lines)):
                return
            time.sleep(0.02)
        raise Failed(what)


def sounds(tools, folder):
    """The demo's scene, its quiet room alone, and a microphone that dies for 70 s."""
    scene, quiet, dead = (os.path.join(folder, name) for name in ("scene.wav", "quiet.wav", "dead.wav"))
    subprocess.run([tools, "scene", "--out", scene, "--seconds", "600"], check=True, stdout=subprocess.DEVNULL)
    with wave.open(scene) as f:
        rate, frames = f.getframerate(), f.readframes(f.getnframes())
    room = frames[2 * rate * 30:]
    for path, data in ((quiet, room), (dead, room[: 2 * rate * 6] + bytes(2 * rate * 75) + room)):
        with wave.open(path, "wb") as f:
            f.setnchannels(1)
            f.setsampwidth(2)
            f.setframerate(rate)
            f.writeframes(data)
    return scene, quiet, dead


def expect(found, wanted, what):
    if found != wanted:
        raise Failed(f"{what} is {found!r}, not {wanted!r}")


def checks(table, home, device, broker, wire, files, restart_home, screenshot):
    scene, quiet, dead = files
    check = table.check

    device.start(quiet)

    def entities():
        until = time.monotonic() + LIMIT_S
        while set(home().states()) != set(PLATFORMS) and time.monotonic() < until:
            time.sleep(0.1)
        found = {key: state["entity_id"].split(".")[0] for key, state in home().states().items()}
        expect(found, PLATFORMS, "the set of entities")
        return f"{len(found)} entities"

    def one_device():
        devices = home().ask(do="devices")
        expect(len(devices), 1, "the number of devices")
        d = devices[0]
        expect((d["name"], d["manufacturer"], d["area"]), ("Scream detector Hallway", "screamd", "hallway"), "the device")
        return f"{d['name']}, {d['model']}, version {d['sw_version']}"

    def known_at_once():
        for key in AT_ONCE:
            state = home().states()[key]["state"]
            if state in ("unknown", "unavailable"):
                raise Failed(f"{key} is {state}")
        return ", ".join(f"{key} {home().states()[key]['state']}" for key in ("armed", "threshold", "cooldown", "update"))

    check("every entity of the contract is there", entities)
    check("one device, in its area", one_device)
    home().wait("siren", "off")
    check("states are known at once", known_at_once)

    def echoed(service, key, state, echo=None, **data):
        def test():
            began = time.monotonic()
            home().call(service, key, **data)
            home().wait(echo or key, state)
            return f"echoed after {(time.monotonic() - began) * 1e3:.0f} ms"
        return test

    check("siren on for 2 s", echoed("siren.turn_on", "siren", "on", duration=2))
    check("... and off by itself", lambda: home().wait("siren", "off") and None)
    check("siren on", echoed("siren.turn_on", "siren", "on"))
    check("siren off", echoed("siren.turn_off", "siren", "off"))
    check("disarm", echoed("switch.turn_off", "armed", "off"))
    check("arm", echoed("switch.turn_on", "armed", "on"))
    check("threshold 0.9", echoed("number.set_value", "threshold", "0.9", value=0.9))
    check("threshold 0.62", echoed("number.set_value", "threshold", "0.62", value=0.62))
    check("cooldown 45", echoed("number.set_value", "cooldown", "45", value=45))
    check("test siren", echoed("button.press", "test_siren", "on", echo="siren"))
    check("... and off by itself", lambda: home().wait("siren", "off") and None)
    check("silence, where nothing sounds", lambda: home().call("button.press", "silence"))

    def last_event():
        wire.wait("no `silenced` on the wire", lambda lines: any('"event_type":"silenced"' in line for line in lines))
        until = time.monotonic() + LIMIT_S
        while time.monotonic() < until:
            kind = home().states()["event"]["attributes"].get("event_type")
            if kind == "silenced":
                return "the event entity says silenced"
            time.sleep(0.05)
        raise Failed(f"the event entity says {kind}")

    check("what a person did is an event", last_event)

    def answers():
        results = [json.loads(line.split(" ", 1)[1]) for line in list(wire.lines) if line.split(" ")[0].endswith("command/result")]
        refused = [r for r in results if not r["ok"]]
        if refused or len(results) < 10:
            raise Failed(f"{len(results)} answers, refused: {refused}")
        return f"{len(results)} answers, none refused"

    check("every command was answered", answers)

    def telemetry():
        until = time.monotonic() + 90
        while time.monotonic() < until:
            states = {key: home().states()[key]["state"] for key in TELEMETRY}
            if not {"unknown", "unavailable"} & set(states.values()):
                return ", ".join(f"{key} {value}" for key, value in states.items())
            time.sleep(0.5)
        raise Failed(str(states))

    check("health figures within a minute", telemetry)

    def born_again():
        before = len(wire.lines)
        home().ask(do="publish", topic="homeassistant/status", payload="online")
        config = f"homeassistant/device/screamd_{DEVICE}/config "
        wire.wait("no discovery after the birth message", lambda lines: any(line.startswith(config) for line in lines[before:]))
        wire.wait("no status after the birth message", lambda lines: f"screamd/{DEVICE}/status online" in lines[before:])
        expect(home().states()["siren"]["state"], "off", "the siren")

    check("discovery again after Home Assistant's birth message", born_again)

    def all_are(state):
        def test():
            waited = max(home().wait(key, state) for key in ("scream", "alarm", "siren", "armed", "event", "threshold"))
            return f"after {waited} s"
        return test

    def all_back():
        for key, state in (("scream", "off"), ("alarm", "off"), ("siren", "off"), ("armed", "on"), ("threshold", "0.62"), ("cooldown", "45")):
            home().wait(key, state)

    device.end(signal.SIGKILL)
    check("a device that is killed is unavailable", all_are("unavailable"))
    device.start(quiet)
    check("all back after the device's restart, with what was set", all_back)
    device.end()
    check("a device that is stopped is unavailable", all_are("unavailable"))
    device.start(quiet)
    check("all back", all_back)
    restart_home()
    check("all back after Home Assistant's restart", all_back)
    broker.kill()
    check("without the broker all are unavailable", all_are("unavailable"))
    broker.start()
    check("all back after the broker's restart without persistence", all_back)
    device.end()

    # The scream.
    device.start(scene)
    check("back for the scene", all_back)

    def scream():
        home().wait("scream", "on", 180)
        home().wait("alarm", "on")
        attributes = home().states()["scream"]["attributes"]
        if not (attributes.get("id") and attributes.get("score", 0) >= 0.62 and attributes.get("label")):
            raise Failed(f"attributes: {attributes}")
        return f"score {attributes['score']}, told {attributes['delayed_s']} s later"

    check("a scream is seen as scream and alarm", scream)
    check("... and sounds the siren", lambda: home().wait("siren", "on") and None)

    def started():
        until = time.monotonic() + LIMIT_S
        while time.monotonic() < until:
            kind = home().states()["event"]["attributes"].get("event_type")
            if kind in ("scream_start", "scream_end"):
                return f"the event entity says {kind}"
            time.sleep(0.05)
        raise Failed(f"the event entity says {kind}")

    check("... and is an event", started)
    if screenshot:
        check("a picture of the device's page", lambda: screenshot(home()))
    check("the scream ends", lambda: f"after {home().wait('scream', 'off', 120)} s")
    check("... and the alarm stays until somebody silences it", lambda: expect(home().states()["alarm"]["state"], "on", "the alarm"))
    check("silence ends it", echoed("button.press", "silence", "off", echo="alarm"))
    device.end()

    # The microphone.
    device.start(dead)
    check("back before the microphone dies", all_back)
    check("a dead microphone makes scream unavailable", lambda: f"after {home().wait('scream', 'unavailable', 180)} s")
    check("... and is a fault", lambda: home().wait("audio_fault", "on") and None)
    check("... while the siren still answers", echoed("siren.turn_on", "siren", "on", duration=1))
    check("scream is back when sound is", lambda: f"after {home().wait('scream', 'off', 120)} s")
    check("... and the fault is over", lambda: home().wait("audio_fault", "off") and None)
    device.end()


def chromium(root, path):
    """The device's page as a person sees it."""
    def take(home):
        device, port = home.ask(do="devices")[0], free_port()
        url = f"http://127.0.0.1:{home.port}/config/devices/device/{device['id']}"
        profile = tempfile.mkdtemp()
        browser = subprocess.Popen(["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--lang=en",
                                    "--window-size=1250,1750", f"--remote-debugging-port={port}", f"--user-data-dir={profile}",
                                    "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            shutil.copy(os.path.join(os.path.dirname(os.path.abspath(__file__)), "shot.py"), os.path.join(root, "ha/shot.py"))
            # The browser's own protocol needs a WebSocket, which Home Assistant's Python has.
            took = subprocess.run(["chroot", root, "/ha/bin/python", "/ha/shot.py", str(port), url, "Alert cooldown"],
                                  capture_output=True, timeout=240)
            if took.returncode:
                raise Failed(took.stderr.decode()[-300:])
            with open(path, "wb") as f:
                f.write(took.stdout)
            return path
        except subprocess.TimeoutExpired:
            raise Failed("the browser does not answer") from None
        finally:
            browser.kill()
            browser.wait()
            shutil.rmtree(profile, ignore_errors=True)
    return take


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--root", required=True)
    p.add_argument("--bin", required=True)
    p.add_argument("--result", help="write the table there as Markdown")
    p.add_argument("--screenshot", help="needs chromium")
    a = p.parse_args()
    folder = tempfile.mkdtemp()
    config_in_root = f"/tmp/screamd-{os.getpid()}"
    table, began = Table(), time.monotonic()
    broker = Broker(folder)
    device = Device(os.path.join(a.bin, "screamd"), folder, broker.port)
    wire = Wire(broker.port)
    homes, warnings = [], []

    def start_home():
        homes.append(Home(a.root, config_in_root, broker, bool(a.screenshot)))

    def restart_home():
        warnings.extend(homes[-1].ask(do="warnings"))
        homes[-1].quit()
        start_home()

    try:
        files = sounds(os.path.join(a.bin, "host-tools"), folder)
        start_home()
        shot = chromium(a.root, os.path.abspath(a.screenshot)) if a.screenshot else None
        checks(table, lambda: homes[-1], device, broker, wire, files, restart_home, shot)
        warnings.extend(homes[-1].ask(do="warnings"))
        table.check("no warning of Home Assistant", lambda: expect(warnings, [], "the list of warnings"))
    finally:
        for child in [device.child, wire.child, broker.child] + [home.child for home in homes]:
            if child and child.poll() is None:
                child.kill()
                child.wait()
        shutil.rmtree(os.path.join(a.root, config_in_root.lstrip("/")), ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
    bad, took = table.failed(), time.monotonic() - began
    summary = f"{len(table.rows) - len(bad)} of {len(table.rows)} checks passed in {took:.0f} s"
    print(summary)
    if a.result:
        version = subprocess.run([os.path.join(a.bin, "screamd"), "--version"], capture_output=True, text=True).stdout.strip()
        with open(a.result, "w") as f:
            f.write(f"# Last run of tests/home-assistant/run.sh\n\n{datetime.date.today()}, {version}, Home Assistant 2026.2.3, "
                    f"mosquitto: {summary}.\n\n| check | | |\n|---|---|---|\n")
            f.writelines(f"| {name} | {'ok' if passed else '**failed**'} | {detail} |\n" for name, passed, detail in table.rows)
    return 1 if bad else 0


sys.exit(main())
