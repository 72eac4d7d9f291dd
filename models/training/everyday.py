"""Everyday sound that the clips lack (hours of music, spoken words in many languages), from Debian packages.

    python everyday.py --work DIR --background DIR

Downloads the packages of everyday.txt by name (`apt-get download`), unpacks their sound, and leaves one memory-mapped file of 16-bit
samples at 16 kHz beside an index. Nothing that is also in the background recordings may train: a file that shares a fingerprint
(Haitsma and Kalker 2002) with one of those is left out. No sound of it goes into the project.
"""

import argparse
import csv
import re
import subprocess
import zipfile
from math import gcd
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly
from tqdm import tqdm

from clips import RATE

LIST = Path(__file__).with_name("everyday.txt")
# No package counts for more than this, so that one composer or speaker is not most of what is heard.
MOST_S = {"music": 40 * 60, "voice": 12 * 60, "machine": 10 * 60}
LONGEST_S = 180
# A spoken-word package may hold sounds too; a game's pain is no everyday sound.
LEFT_OUT = re.compile(r"scream|pain|die|death|dead|hurt|cry|yell|kill|dying|ouch", re.IGNORECASE)
KINDS = list(MOST_S)
SOUNDS = (".ogg", ".oga", ".wav", ".mp3", ".flac", ".opus")


def packages():
    """Rows of everyday.txt: package, kind, regular expression."""
    return [line.split() for line in LIST.read_text().splitlines() if line.strip() and not line.startswith("#")]


def unpack(package, folder, archives=()):
    """The package's sound files, sorted by path; also those inside of its zip files that end as one of `archives`."""
    target = folder / package
    if not target.exists():
        found = sorted(folder.glob(f"{package}_*.deb"))
        if not found:
            subprocess.run(["apt-get", "download", "-qq", package], cwd=folder, check=True, stderr=subprocess.DEVNULL)
            found = sorted(folder.glob(f"{package}_*.deb"))
        part = folder / f"{package}.part"
        part.mkdir(exist_ok=True)
        tar = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", found[0]], stdout=subprocess.PIPE)
        kinds = [f"*{end}" for end in (*SOUNDS, *archives)]
        subprocess.run(["tar", "-x", "-C", part, "--wildcards", "--no-anchored", *kinds], stdin=tar.stdout, stderr=subprocess.DEVNULL, check=False)
        tar.wait()
        for archive in [path for path in part.rglob("*") if path.suffix in archives]:
            with zipfile.ZipFile(archive) as inside:
                inside.extractall(part, [name for name in inside.namelist() if name.endswith(SOUNDS)])
            archive.unlink()
        part.rename(target)
    return sorted(path for path in target.rglob("*") if path.is_file() and not path.is_symlink())


def read(path):
    """A recording, mono at 16 kHz, -1..1; None where it cannot be read or is silent."""
    try:
        sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
        sound = sound.mean(1)
    except (soundfile.LibsndfileError, RuntimeError):
        return None
    if rate != RATE:
        common = gcd(rate, RATE)
        sound = resample_poly(sound, RATE // common, rate // common).astype(np.float32)
    if len(sound) < RATE // 2 or np.abs(sound).max() < 0.003:
        return None
    return np.clip(sound, -1, 1)


def fingerprint(sound):
    """A 32-bit word each 32 ms: the signs of the differences of 33 band energies along frequency and time."""
    n, hop = 4096, 512
    if len(sound) < n + hop:
        return np.zeros(0, np.uint32)
    edges = (np.exp(np.linspace(np.log(300), np.log(2000), 34)) / RATE * n).round().astype(int)
    window = np.hanning(n).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(sound, n)[::hop]
    energy = np.concatenate([np.add.reduceat(np.abs(np.fft.rfft(block * window)[:, : edges[-1]]) ** 2, edges[:-1], 1) for block in np.array_split(frames, max(1, len(frames) // 256))])
    bits = np.diff(np.diff(energy, axis=1), axis=0) > 0
    return (bits.astype(np.uint32) << np.arange(32, dtype=np.uint32)).sum(1, dtype=np.uint32)


class Known:
    """Fingerprints of recordings that must not be trained on."""

    def __init__(self, folder):
        rows = list(csv.DictReader(open(folder / "manifest.csv", newline="")))
        words, places = [], []
        for number, row in enumerate(tqdm(rows, desc="fingerprints of the background")):
            sound = read(folder / row["file"])
            found = fingerprint(sound) if sound is not None else np.zeros(0, np.uint32)
            words.append(found)
            places.append(np.int64(number) * 1_000_000 + np.arange(len(found)))
        words, places = np.concatenate(words), np.concatenate(places)
        order = np.argsort(words, kind="stable")
        self.words, self.places, self.rows = words[order], places[order], rows

    def match(self, sound, least=12):
        """The recording that shares `least` words with `sound` at one offset, or None."""
        words = fingerprint(sound)
        # Steady or silent sound gives the same words over and over: they say nothing.
        left, right = np.searchsorted(self.words, words, "left"), np.searchsorted(self.words, words, "right")
        offsets = [self.places[a:b] - place for place, (a, b) in enumerate(zip(left, right)) if 0 < b - a <= 20]
        if not offsets:
            return None
        values, counts = np.unique(np.concatenate(offsets), return_counts=True)
        best = int(counts.argmax())
        return self.rows[int(values[best] + 500_000) // 1_000_000]["file"] if counts[best] >= least else None


class Everyday:
    """The store as it is trained from; `excerpt` draws from one kind."""

    def __init__(self, folder):
        folder = Path(folder)
        self.samples = np.load(folder / "everyday.i16.npy", mmap_mode="r")
        rows = list(csv.DictReader(open(folder / "everyday.csv", newline="")))
        self.pools = {}
        for kind in KINDS:
            mine = [(int(row["start"]), int(row["end"])) for row in rows if row["kind"] == kind]
            if mine:
                lengths = np.array([end - start for start, end in mine], float)
                self.pools[kind] = (mine, np.cumsum(lengths / lengths.sum()))

    def excerpt(self, rng, kind, length):
        """`length` samples of a recording of this kind, or fewer where it is shorter; float32."""
        places, cumulative = self.pools[kind]
        start, end = places[min(int(np.searchsorted(cumulative, rng.random())), len(places) - 1)]
        if end - start > length:
            start += int(rng.integers(0, end - start - length))
        return self.samples[start : min(end, start + length)].astype(np.float32) / 32768


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True)
    parser.add_argument("--background", required=True, help="recordings that must not be trained on")
    args = parser.parse_args()
    folder = Path(args.work)
    folder.mkdir(parents=True, exist_ok=True)
    known = Known(Path(args.background))
    rows, parts, end, dropped = [], [], 0, []
    for package, kind, wanted in tqdm(packages(), desc="packages"):
        files = [path for path in unpack(package, folder) if re.search(wanted, str(path)) and not LEFT_OUT.search(path.name)]
        # The same draw every time, and from the whole of the package.
        np.random.default_rng(5).shuffle(files)
        spent = 0
        for path in files:
            if spent > MOST_S[kind] * RATE:
                break
            sound = read(path)
            if sound is None:
                continue
            if (twin := known.match(sound)) is not None:
                dropped.append((str(path.relative_to(folder)), twin))
                continue
            # All of it was compared; its middle is kept.
            spare = max(0, len(sound) - LONGEST_S * RATE) // 2
            sound = sound[spare : spare + LONGEST_S * RATE]
            parts.append((sound * 32767).astype(np.int16))
            rows.append([package, kind, str(path.relative_to(folder)), end, end + len(sound)])
            end += len(sound)
            spent += len(sound)
    np.save(folder / "everyday.i16.npy", np.concatenate(parts))
    with open(folder / "everyday.csv", "w", newline="") as file:
        csv.writer(file).writerows([["package", "kind", "file", "start", "end"], *rows])
    for kind in KINDS:
        print(f"{kind}: {sum(row[4] - row[3] for row in rows if row[1] == kind) / RATE / 3600:.2f} h")
    for path, twin in dropped:
        print(f"left out, it is in the background: {path} ({twin})")


if __name__ == "__main__":
    main()
