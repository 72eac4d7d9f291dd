#!/usr/bin/env python3
"""What the image is put through, in order: first boot, a scream, the power cut with the siren on, the second boot; with `--cuts`, an update by
the hub, one that never starts, and the power cut in the middle of updates. `image.sh` calls this.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import time

from machine import Broker, Failed, Lines, await_

SIREN = 5
# The releases that image.sh makes bundles of.
NEW, OLD = "9.1.0", "9.0.0"
# Emulated, and on a machine that does other things as well.
BOOT_S = 600


class Machine:
    """A running QEMU with the card in it."""

    def __init__(self, work, ssh_port):
        self.work, self.ssh_port = work, ssh_port
        (work / "monitor.sock").unlink(missing_ok=True)
        cmdline = (work / "cmdline.txt").read_text(encoding="utf-8").strip()
        # The board's own line, with this machine's console and sound card beside it.
        append = f"{cmdline} console=ttyAMA0 modules_load=snd-aloop"
        self.console = open(work / "console.log", "ab")
        self.child = subprocess.Popen(
            ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", "-smp", "2", "-m", "768", "-display", "none", "-serial", "stdio",
             "-monitor", f"unix:{work}/monitor.sock,server=on,wait=off", "-kernel", work / "vmlinuz", "-initrd", work / "initrd.img",
             "-append", append, "-drive", f"file={work}/screamd.img,format=raw,if=virtio,cache=writethrough", "-no-reboot",
             "-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{ssh_port}-:22", "-device", "virtio-net-pci,netdev=net,romfile=",
             # A hardware watchdog as a board has one; -no-reboot makes a reset the end of QEMU.
             "-device", "i6300esb"],
            stdin=subprocess.DEVNULL, stdout=self.console, stderr=self.console)
        (work / "machine.pid").write_text(str(self.child.pid), encoding="utf-8")
        self.lines = Lines(work / "monitor.sock")

    def _ssh(self, command, options=()):
        return ["ssh", "-q", "-p", str(self.ssh_port), "-i", self.work / "key", "-o", "StrictHostKeyChecking=no",
                "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "-o", "ConnectTimeout=60", *options, "root@127.0.0.1", command]

    def ssh(self, command, check=True, options=()):
        """What a command in the device prints, by the installer's key."""
        said = subprocess.run(self._ssh(command, options), capture_output=True, text=True)
        if check and said.returncode:
            raise Failed(f"in the device: {command}: {said.stdout}{said.stderr}")
        return said.stdout.strip() if check else said

    def log_in(self):
        """Waits until the key is taken."""
        await_("a login by the installer's key", lambda: self.gone() or self.ssh("true", check=False).returncode == 0, BOOT_S)

    def gone(self):
        if self.child.poll() is not None:
            raise Failed(f"the machine ended with {self.child.returncode}; see {self.work}/console.log")
        return False

    def put(self, file, folder="/tmp"):
        """A file into the device, by default into its memory; where it lies there."""
        path = f"{folder}/{file}"
        with open(self.work / file, "rb") as data:
            subprocess.run(self._ssh(f"cat >{path}"), stdin=data, check=True)
        return path

    def cut_the_power(self):
        self.lines.stop = True
        self.child.kill()
        self.child.wait()


class Run:
    """What the steps share."""

    def __init__(self, args):
        self.args, self.began = args, time.monotonic()
        self.broker = Broker(args.port, "rig", ("-u", "rig", "-P", (args.work / "mqtt.password").read_text(encoding="utf-8").strip()))

    def say(self, step, text):
        print(f"{time.monotonic() - self.began:7.1f} s  {step:<12} {text}", flush=True)


def first_boot(run):
    mark, began = run.broker.mark(), time.monotonic()
    machine = Machine(run.args.work, run.args.ssh_port)
    online, _ = run.broker.heard("status", "online", mark, BOOT_S)
    run.say("first boot", f"online at the broker {online - began:.0f} s after power (emulated): the card's site, its password, its board")
    machine.log_in()
    result = await_("the first boot's result", lambda: machine.ssh("cat /boot/firmware/screamd-result.txt", check=False).stdout.strip(), BOOT_S)
    if not result.startswith("well"):
        raise Failed(f"screamd-result.txt: {result}")
    run.say("first boot", f"screamd-result.txt on the card: {result}")
    return machine


def is_as_promised(run, machine):
    def same(what, command, wanted):
        if (said := machine.ssh(command)) != wanted:
            raise Failed(f"{what}: {command} says {said!r}")
    same("the root", "findmnt -no FSTYPE,OPTIONS / | cut -d, -f1", "squashfs ro")
    if machine.ssh("touch /usr/x", check=False).returncode == 0:
        raise Failed("the root can be written")
    same("failed units", "systemctl list-units --failed --plain --no-legend", "")
    same("the service", "systemctl is-active screamd ssh systemd-timesyncd systemd-networkd | uniq", "active")
    same("the secret", "stat -c '%a %U' /etc/credstore/screamd.mqtt.password", "600 root")
    same("secrets on the card", "ls /boot/firmware | grep -c screamd-secret || true", "0")
    same("its name", "hostname", "screamd-rig")
    size = int(machine.ssh("df --output=size -m /data | tail -1"))
    if size < 900:
        raise Failed(f"the data partition has {size} MiB of a card with a free GiB")
    if "passwd" in machine.ssh("cut -d: -f2 /etc/shadow | grep -vc '^[!*]' >/dev/null && echo passwd || true"):
        raise Failed("somebody has a password")
    refused = machine.ssh("true", check=False, options=("-o", "PubkeyAuthentication=no"))
    if refused.returncode == 0:
        raise Failed("a login without the key")
    memory = machine.ssh("systemctl show -p MemoryCurrent --value screamd")
    run.say("promises", f"squashfs read-only, no failed unit, data grown to {size} MiB, secrets of root alone and off the card, keys only; "
                        f"service at {int(memory) >> 20} MiB")


def hears_a_scream(run, machine):
    for file in ("aplay", "scream.wav", "quiet.wav"):
        machine.put(file)
    machine.ssh("mount -o remount,exec /tmp; chmod 755 /tmp/aplay")
    run.broker.heard("audio/status", "online", 0, BOOT_S)
    mark = run.broker.mark()
    run.broker.publish("threshold/set", "0.65")
    run.broker.heard("threshold/state", "0.65", mark)
    if machine.lines.level(SIREN):
        raise Failed("the siren sounds before anybody screams")
    mark, played = run.broker.mark(), time.monotonic()
    machine.ssh("systemd-run --quiet --unit=player /tmp/aplay -q -D plughw:Loopback,0,0 /tmp/scream.wav")
    machine.lines.await_level(SIREN, True, played, BOOT_S)
    _, payload = run.broker.heard("event", "scream_start", mark, BOOT_S)
    alert = json.loads(payload)
    run.say("scream", f"siren line high, scream_start {alert['id']} at the broker, score {alert.get('score', '?')}")


def well(machine, when):
    """The service runs beside no failed unit, the siren is off."""
    if machine.lines.level(SIREN):
        raise Failed(f"the siren sounds {when}")
    if failed := machine.ssh("systemctl list-units --failed --plain --no-legend"):
        raise Failed(f"failed units {when}: {failed}")
    if (state := machine.ssh("systemctl is-active screamd", check=False).stdout.strip()) != "active":
        raise Failed(f"the service is {state} {when}")


def power_cut(run, machine):
    """Kills QEMU and boots its card again: the machine then, and how long it took to be online with its settings and the siren off."""
    machine.cut_the_power()
    # It may have said so itself: an update starts the service anew.
    await_("offline at the broker", lambda: run.broker.last("status") == "offline", BOOT_S)
    mark, began = run.broker.mark(), time.monotonic()
    machine = Machine(run.args.work, run.args.ssh_port)
    online, _ = run.broker.heard("status", "online", mark, BOOT_S)
    run.broker.heard("threshold/state", "0.65", mark)
    run.broker.heard("siren/state", "OFF", mark)
    if machine.lines.level(SIREN):
        raise Failed("the siren sounds after the power came back")
    machine.log_in()
    return machine, online - began


def survives_the_power_cut(run, machine):
    machine, took_s = power_cut(run, machine)
    well(machine, "after the power cut")
    events = machine.ssh("ls /var/lib/screamd/events | wc -l")
    run.say("power cut", f"QEMU killed with the siren on: online again after {took_s:.0f} s (emulated), siren off, the threshold kept, "
                         f"{events} files of events")
    return machine


def is_reset_when_its_kernel_hangs(run, machine):
    """The image's kernel starts itself again after a panic; told not to, it hangs, and only the hardware's watchdog is left."""
    machine.ssh("echo 0 >/proc/sys/kernel/panic")
    mark, hung = run.broker.mark(), time.monotonic()
    machine.ssh("systemd-run --quiet --on-active=1 sh -c 'echo c >/proc/sysrq-trigger'")
    try:
        machine.child.wait(BOOT_S)
    except subprocess.TimeoutExpired:
        raise Failed(f"the kernel hangs for {BOOT_S} s") from None
    reset_s = time.monotonic() - hung
    machine.lines.stop = True
    run.broker.heard("status", "offline", mark, BOOT_S)
    mark = run.broker.mark()
    machine = Machine(run.args.work, run.args.ssh_port)
    run.broker.heard("status", "online", mark, BOOT_S)
    machine.log_in()
    well(machine, "after the watchdog's reset")
    run.say("watchdog", f"a hung kernel is reset after {reset_s:.0f} s and comes back by itself")
    return machine


def release(machine):
    """The current release's version, and whether it is still on trial."""
    status = json.loads(machine.ssh("screamd update status --json"))
    return status["version"], status["on_trial"]


def await_release(machine, version):
    await_(f"{version} proves itself", lambda: machine.gone() or release(machine) == (version, False), BOOT_S)


def is_updated_by_the_hub(run, machine):
    installed, _ = release(machine)
    bundle = machine.put("new.bundle", "/data")
    mark, began = run.broker.mark(), time.monotonic()
    machine.ssh(f"install -o screamd -m 644 {bundle} /var/lib/screamd/update/")
    run.broker.heard("update/state", f'"latest_version":"{NEW}"', mark, BOOT_S)
    mark = run.broker.mark()
    run.broker.publish("update/install", "INSTALL")
    run.broker.heard("update/state", '"in_progress":true', mark, BOOT_S)
    run.broker.heard("update/state", [f'"installed_version":"{NEW}"', '"in_progress":false'], mark, BOOT_S)
    await_release(machine, NEW)
    run.broker.heard("threshold/state", "0.65", mark, BOOT_S)
    well(machine, "after the update")
    run.say("update", f"{installed} to {NEW} by the hub's button, good after {time.monotonic() - began:.0f} s (emulated): under systemd, "
                      "its own units, the threshold kept")


def comes_back_from_one_that_never_starts(run, machine):
    bundle = machine.put("broken.bundle", "/data")
    mark, began = run.broker.mark(), time.monotonic()
    machine.ssh(f"screamd update apply {bundle}")
    _, payload = run.broker.heard("event", ['"fault"', "UpdateFailed"], mark, BOOT_S)
    run.broker.heard("event", ['"restore"', "UpdateFailed"], mark, BOOT_S)
    await_release(machine, NEW)
    well(machine, "after the update that failed")
    run.say("bad update", f"a program that ends at once: {NEW} is back by itself after {time.monotonic() - began:.0f} s: "
                          f"{json.loads(payload).get('detail', payload)}")


def survives_power_cuts_in_updates(run, machine, cuts):
    """Kills QEMU at a random moment of an update, to and fro between two releases; what was not on the disk is lost, as in a power cut."""
    for name in ("old", "new"):
        machine.put(f"{name}.bundle", "/data")
    began = time.monotonic()
    machine.ssh("screamd update apply --allow-downgrade /data/old.bundle")
    takes_s = time.monotonic() - began
    await_release(machine, OLD)
    draw, now, outcomes = random.Random(8), OLD, []
    for number in range(cuts):
        other, file = (NEW, "new") if now == OLD else (OLD, "old")
        # Beyond the command's end: the first start of the new one and its trial, too.
        after = draw.uniform(0, 1.5 * takes_s)
        machine.ssh(f"systemd-run --quiet --unit=cut{number} screamd update apply --allow-downgrade /data/{file}.bundle")
        time.sleep(after)
        machine, _ = power_cut(run, machine)
        await_("a release that proves itself", lambda: machine.gone() or not release(machine)[1], BOOT_S)
        found, _ = release(machine)
        if found not in (now, other):
            raise Failed(f"cut {number}, {after:.1f} s into an update from {now} to {other}: the device runs {found}")
        well(machine, f"after cut {number}")
        leftovers = machine.ssh("ls /var/lib/screamd-releases").split()
        outcomes.append("new" if found == other else "old")
        run.say("update cut", f"{number + 1} of {cuts}: power off {after:.1f} s into {now} to {other} (it takes {takes_s:.1f}): runs {found}, "
                              f"releases {' '.join(leftovers)}")
        now = found
    run.say("update cut", f"{cuts} cuts: {outcomes.count('old')} times the old release, {outcomes.count('new')} times the new one, always whole and good")
    return machine


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--ssh-port", required=True, type=int)
    parser.add_argument("--cuts", type=int, default=0, help="then updates, with the power cut in so many of them")
    args = parser.parse_args()
    (args.work / "console.log").unlink(missing_ok=True)
    run = Run(args)
    try:
        machine = first_boot(run)
        is_as_promised(run, machine)
        hears_a_scream(run, machine)
        machine = survives_the_power_cut(run, machine)
        machine = is_reset_when_its_kernel_hangs(run, machine)
        if args.cuts:
            is_updated_by_the_hub(run, machine)
            comes_back_from_one_that_never_starts(run, machine)
            machine = survives_power_cuts_in_updates(run, machine, args.cuts)
        machine.ssh("systemctl poweroff", check=False)
        machine.child.wait(BOOT_S)
    except Failed as failed:
        print(f"FAILED: {failed}", file=sys.stderr)
        return 1
    finally:
        run.broker.close()
    run.say("done", "the image boots, hears, alerts, and comes back")
    return 0


if __name__ == "__main__":
    sys.exit(main())
