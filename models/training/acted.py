"""Acted screams, and animals and shouts that are easily taken for some, from Debian packages of games.

    python acted.py --work DIR --background DIR --data DIR

Takes the files of acted.txt into one memory-mapped file of 16-bit samples at 16 kHz beside an index, as everyday.py does: a file that
shares a fingerprint with the background recordings or with a labelled clip is left out. No sound of it goes into the project.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from tqdm import tqdm

from clips import RATE
from everyday import Known, read, unpack

LIST = Path(__file__).with_name("acted.txt")
ARCHIVES = (".pk3", ".zip")
# What the kinds are called among the network's labels.
LABELS = {"scream": "scream", "animal": "animal", "shout": "shout_speech"}


def rows():
    """Rows of acted.txt: package, kind, the end of the file's path."""
    return [line.split(maxsplit=2) for line in LIST.read_text().splitlines() if line.strip() and not line.startswith("#")]


def found(package, wanted, folder):
    """The wanted files of a package, by the ends of their paths; None for one that is not there."""
    files = unpack(package, folder, ARCHIVES)
    return {end: next((path for path in files if str(path).endswith(end)), None) for end in wanted}


def trimmed(sound):
    """Without the silence around it, at half of full scale."""
    loud = np.flatnonzero(np.abs(sound) > 0.02 * np.abs(sound).max())
    sound = sound[loud[0] : loud[-1] + 1]
    return sound / np.abs(sound).max() * 0.5


class Acted:
    """The store as it is trained from."""

    def __init__(self, folder):
        self.samples = np.load(Path(folder) / "acted.i16.npy", mmap_mode="r")
        with open(Path(folder) / "acted.csv", newline="") as file:
            entries = list(csv.DictReader(file))
        self.places = {kind: [(int(row["start"]), int(row["end"])) for row in entries if row["kind"] == kind] for kind in LABELS}
        if missing := [kind for kind, places in self.places.items() if not places]:
            raise SystemExit(f"{folder}/acted.csv: no recording of kind {', '.join(missing)}; run acted.py again")

    def draw(self, rng, kind):
        """A whole recording of this kind, each as often as another; float32."""
        start, end = self.places[kind][int(rng.integers(len(self.places[kind])))]
        return self.samples[start:end].astype(np.float32) / 32768


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True)
    parser.add_argument("--background", required=True, help="recordings that must not be trained on")
    parser.add_argument("--data", required=True, help="labelled clips, none of which may come in again")
    args = parser.parse_args()
    folder = Path(args.work)
    folder.mkdir(parents=True, exist_ok=True)
    known = [Known(Path(args.background)), Known(Path(args.data))]
    packages = {}
    for package, kind, end in rows():
        packages.setdefault(package, {})[end] = kind
    kept, parts, place = [], [], 0
    for package, wanted in tqdm(packages.items(), desc="packages"):
        for end, path in found(package, wanted, folder).items():
            sound = read(path) if path else None
            if sound is None:
                print(f"left out, not there or not to be read: {package} {end}")
            elif twin := next((twin for each in known if (twin := each.match(sound))), None):
                print(f"left out, it is among the recordings: {package} {end} ({twin})")
            else:
                sound = trimmed(sound)
                parts.append((sound * 32767).astype(np.int16))
                kept.append([package, wanted[end], end, place, place + len(sound)])
                place += len(sound)
    np.save(folder / "acted.i16.npy", np.concatenate(parts))
    with open(folder / "acted.csv", "w", newline="") as file:
        csv.writer(file).writerows([["package", "kind", "file", "start", "end"], *kept])
    for kind in LABELS:
        lengths = [row[4] - row[3] for row in kept if row[1] == kind]
        print(f"{kind}: {len(lengths)} recordings, {sum(lengths) / RATE / 60:.1f} minutes")


if __name__ == "__main__":
    main()
