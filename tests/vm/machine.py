"""The rig's two ends as the steps see them: the machine (console, GPIO lines) and the broker on the host."""

import re
import socket
import subprocess
import threading
import time


class Failed(Exception):
    """A step did not see what it waited for."""


def await_(what, condition, limit_s=120.0, pause_s=0.05):
    """Waits until `condition` gives something true, and gives it back. The limit is far beyond what a busy machine needs."""
    until = time.monotonic() + limit_s
    while not (found := condition()):
        if time.monotonic() > until:
            raise Failed(f"not within {limit_s:.0f} s: {what}")
        time.sleep(pause_s)
    return found


def connect(path, limit_s=30.0):
    """A stream to QEMU's socket at `path`."""
    stream = socket.socket(socket.AF_UNIX)

    def tried():
        try:
            stream.connect(str(path))
            return True
        except OSError:
            return False

    await_(f"QEMU's socket {path}", tried, limit_s)
    return stream


class Console:
    """Commands to the machine's process 1, one at a time."""

    def __init__(self, path, log):
        self.stream = connect(path)
        self.lines, self.changed = [], threading.Condition()
        self.log = open(log, "w", encoding="utf-8")
        self.number = 0
        self.gone = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.stream.makefile("r", encoding="utf-8", errors="replace"):
            line = line.rstrip("\r\n")
            self.log.write(line + "\n")
            self.log.flush()
            with self.changed:
                self.lines.append(line)
                self.changed.notify_all()
        with self.changed:
            self.gone = True
            self.changed.notify_all()

    def wait_for(self, pattern, limit_s=300.0, since=0):
        """The first line from `since` on that begins with `pattern`, and its place."""
        until = time.monotonic() + limit_s
        with self.changed:
            while True:
                for at in range(since, len(self.lines)):
                    if re.match(pattern, self.lines[at]):
                        return at, self.lines[at]
                since = len(self.lines)
                if self.gone or not self.changed.wait(until - time.monotonic()) and time.monotonic() > until:
                    raise Failed(f"the console never said {pattern}")

    def send(self, command):
        """Does not wait for the answer: for what must happen now."""
        self.number += 1
        self.stream.sendall(f"{self.number} {command}\n".encode())
        return self.number

    def run(self, command, check=True, limit_s=120.0):
        """What the command prints; it must succeed unless `check` says otherwise."""
        since = len(self.lines)
        number = self.send(command)
        at, line = self.wait_for(rf"@{number} \d+$", limit_s, since)
        said = "\n".join(line for line in self.lines[since:at] if not line.startswith("@"))
        if check and not line.endswith(" 0"):
            raise Failed(f"in the machine: {command}: {said or line}")
        return said


class Lines:
    """The levels of the PL061's lines, read from outside the machine: nothing in it is asked or disturbed."""

    DATA = "0x90303fc"

    def __init__(self, path):
        self.stream = connect(path)
        self.stream.settimeout(30)
        self.asking = threading.Lock()
        self.value, self.stop = 0, False
        self.changes = []
        self._answer()
        self._look()
        threading.Thread(target=self._poll, daemon=True).start()

    def _answer(self):
        out = b""
        while not out.endswith(b"(qemu) "):
            got = self.stream.recv(4096)
            if not got:
                raise OSError("the machine is gone")
            out += got
        return out.decode()

    def _look(self):
        with self.asking:
            self.stream.sendall(f"xp /1wx {self.DATA}\n".encode())
            found = re.search(r"90303fc: 0x([0-9a-f]+)", self._answer())
        if found and (value := int(found.group(1), 16) & 0xFF) != self.value:
            self.changes.append((time.monotonic(), self.value, value))
            self.value = value

    def _poll(self):
        try:
            while not self.stop:
                self._look()
                time.sleep(0.02)
        except OSError:
            self.stop = True

    def path_of(self, kind):
        """The first device of this kind in QEMU's tree."""
        with self.asking:
            self.stream.sendall(b"info qom-tree\n")
            tree = self._answer()
        path = []
        for line in tree.splitlines():
            if found := re.match(r"( *)/(\S*) \((\S+)\)", line):
                depth = len(found.group(1)) // 2
                path = path[:depth] + [found.group(2)]
                if found.group(3) == kind:
                    return "/" + "/".join(part for part in path if part)
        raise Failed(f"QEMU has no {kind}")

    def level(self, line):
        """Whether it is high now."""
        return bool(self.value >> line & 1)

    def await_level(self, line, high, since, limit_s=120.0):
        """Waits for the level; when it came, on the host's monotonic clock. `since` where it has been there all along."""
        await_(f"line {line} {'high' if high else 'low'}", lambda: self.stop or self.level(line) == high, limit_s)
        if self.level(line) != high:
            raise Failed("the machine is gone")
        turned = [at for at, old, new in self.changes if (old ^ new) >> line & 1 and bool(new >> line & 1) == high]
        return turned[-1] if turned and turned[-1] >= since else since


class Hands:
    """Drives the PL061's input lines from outside the machine, by QEMU's test protocol."""

    def __init__(self, path, chip):
        self.stream, self.chip = connect(path), chip
        self.answers = self.stream.makefile("r", encoding="utf-8")

    def drive(self, line, high):
        self.stream.sendall(f"set_irq_in {self.chip} unnamed-gpio-in {line} {int(high)}\n".encode())
        if not (answer := self.answers.readline()).startswith("OK"):
            raise Failed(f"line {line} cannot be driven: QEMU said {answer!r}")


class Broker:
    """What the device says: every message of its topics with the time at which it came."""

    def __init__(self, port, device, login=()):
        self.port, self.root, self.login = port, f"screamd/{device}/", login
        self.messages = []
        self.child = subprocess.Popen(
            ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), *login, "-q", "1", "-t", self.root + "#", "-F", "%t %p"],
            stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.child.stdout:
            topic, _, payload = line.rstrip("\n").partition(" ")
            self.messages.append((time.monotonic(), topic.removeprefix(self.root), payload))

    def publish(self, topic, payload):
        subprocess.run(
            ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(self.port), *self.login, "-q", "1", "-t", self.root + topic, "-m", payload],
            check=True)

    def mark(self):
        """A place in what has been said: `heard` looks behind it."""
        return len(self.messages)

    def heard(self, topic, matches, since, limit_s=120.0):
        """The first message of `topic` behind `since` that holds every text of `matches`, when it came; waits for it."""
        matches = [matches] if isinstance(matches, str) else matches

        def found():
            for at, its_topic, payload in self.messages[since:]:
                if its_topic == topic and all(text in payload for text in matches):
                    return at, payload
            return None

        return await_(f"{topic} with {' and '.join(matches)} at the broker", found, limit_s)

    def last(self, topic):
        """What was said last on `topic`."""
        return next((payload for _, its_topic, payload in reversed(self.messages) if its_topic == topic), None)

    def close(self):
        self.child.kill()
        self.child.wait()
