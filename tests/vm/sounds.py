#!/usr/bin/env python3
"""What the rig plays: scream.wav, quiet.wav, and round.wav, the scream in a round of two seconds; 16 kHz, one channel, three minutes."""

import argparse
import array
import csv
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import wave

RATE_HZ, SECONDS = 16_000, 180
# Of `host-tools scene`: a quiet room at its beginning, the scream with its echo.
QUIET_S, SCREAM_S = (0.0, 1.9), (20.0, 23.0)
# A window of the model, which then holds the same sound whichever it is.
ROUND_S = 2
# Recordings that are tried before the scene's scream is taken.
TRIES = 10


def read(path):
    """The samples of a WAV or FLAC file, as bytes."""
    if path.suffix == ".flac":
        with tempfile.NamedTemporaryFile(suffix=".wav") as plain:
            subprocess.run(["flac", "--decode", "--silent", "--force", "-o", plain.name, str(path)], check=True)
            return read(pathlib.Path(plain.name))
    with wave.open(str(path), "rb") as sound:
        if (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) != (RATE_HZ, 1, 2):
            sys.exit(f"{path}: must have 16 kHz, one channel, 16 bits")
        return sound.readframes(sound.getnframes())


def write(path, samples, seconds=SECONDS):
    """`samples` again and again."""
    wanted = 2 * RATE_HZ * seconds
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        sound.writeframes((samples * (wanted // len(samples) + 1))[:wanted])


def restless(samples, seconds=SECONDS):
    """`samples` again and again, never the same to the bit: a card that gives that for a minute is rightly called frozen."""
    draw, wanted = random.Random(1), RATE_HZ * seconds
    room = array.array("h", samples)
    return array.array("h", (room[n % len(room)] + draw.randrange(-1, 2) for n in range(wanted))).tobytes()


def score(args, samples):
    """The lowest of the windows' scores, behind the first."""
    with tempfile.TemporaryDirectory() as folder:
        wav, figures = pathlib.Path(folder) / "a.wav", pathlib.Path(folder) / "a.json"
        write(wav, samples, 12)
        subprocess.run([args.tools, "score", wav, "--model", args.model, "--json", figures], check=True, stdout=subprocess.DEVNULL)
        said = json.loads(figures.read_text(encoding="utf-8"))
        return min(window["score"] for window in said["windows"][:4]), said["threshold_on"]


def candidates(args, scene):
    """Named recordings, the best first."""
    if args.recording:
        yield str(args.recording), read(args.recording)
        return
    manifest = args.data / "manifest.csv"
    if manifest.is_file():
        with open(manifest, newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["label"] == "1" and row["split"] == "test"]
        for row in rows[:TRIES]:
            yield f"recording {row['file']}", read(args.data / row["file"])
    yield "the scene's scream", part(scene, SCREAM_S)


def part(samples, span):
    """A stretch of seconds."""
    start, end = (2 * int(at * RATE_HZ) for at in span)
    return samples[start:end]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tools", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--scene", type=pathlib.Path, required=True)
    parser.add_argument("--recording", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    scene = read(args.scene)
    write(args.out / "quiet.wav", restless(part(scene, QUIET_S)))
    for name, samples in candidates(args, scene):
        lowest, threshold = score(args, samples)
        if lowest >= threshold:
            print(f"plays {name} again and again: scores of {lowest:.3f} and more on this machine, threshold {threshold}")
            write(args.out / "scream.wav", samples)
            round_of = samples[: 2 * RATE_HZ * ROUND_S]
            write(args.out / "round.wav", round_of + bytes(2 * RATE_HZ * ROUND_S - len(round_of)))
            return
    sys.exit(f"the model hears no scream in {name} (lowest score {lowest:.3f}, threshold {threshold})")


if __name__ == "__main__":
    main()
