"""The labelled clips: manifest rows, decoded once into one memory-mapped file of 16-bit samples.

Also the contract's way to lay a clip for scoring (`cut_and_lay`): `host-tools eval` does the same in Rust.
"""

import csv
import hashlib
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

RATE = 16000


def read_rows(data, licences=None):
    """Rows of manifest.csv with a label, optionally of some licences alone."""
    rows = list(csv.DictReader(open(Path(data) / "manifest.csv", newline="")))
    rows = [row for row in rows if row["label"] in ("0", "1")]
    if licences:
        rows = [row for row in rows if row["licence"] in licences]
    return rows


class Clips:
    """All clips as one int16 array with an index; decoded on first use into `cache`."""

    def __init__(self, data, cache, licences=None):
        self.rows = read_rows(data, licences)
        cache = Path(cache)
        cache.mkdir(parents=True, exist_ok=True)
        key = hashlib.sha256("".join(r["file"] + r["sha256_pcm"] for r in self.rows).encode()).hexdigest()[:12]
        samples_file, ends_file = cache / f"clips-{key}.i16.npy", cache / f"ends-{key}.npy"
        if not ends_file.exists():
            parts, ends, end = [], [], 0
            for row in tqdm(self.rows, desc="decode"):
                sound, rate = soundfile.read(Path(data) / row["file"], dtype="int16")
                assert rate == RATE and sound.ndim == 1, row["file"]
                parts.append(sound)
                end += len(sound)
                ends.append(end)
            np.save(samples_file, np.concatenate(parts))
            np.save(ends_file, np.array(ends))
        self.samples = np.load(samples_file, mmap_mode="r")
        self.ends = np.load(ends_file)

    def sound(self, index):
        """Clip `index` as float32 of -1..1."""
        start = self.ends[index - 1] if index else 0
        return self.samples[start : self.ends[index]].astype(np.float32) / 32768


def loudest(sound, length):
    """The `length` samples of largest energy (the first of them where several are equal)."""
    if len(sound) <= length:
        return sound
    energy = np.concatenate([[0.0], np.cumsum(sound.astype(np.float64) ** 2)])
    start = int(np.argmax(energy[length:] - energy[:-length]))
    return sound[start : start + length]


def pink_noise(rng, length):
    """Noise whose power falls by 3 dB an octave, RMS 1."""
    spectrum = rng.standard_normal(length // 2 + 1) + 1j * rng.standard_normal(length // 2 + 1)
    spectrum *= 1 / np.sqrt(np.maximum(np.arange(length // 2 + 1), 1))
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, length)
    return (noise / np.sqrt(np.mean(noise**2) + 1e-20)).astype(np.float32)


def cut_and_lay(sound, name, window, cut=int(2.5 * RATE)):
    """The clip's loudest part in the middle of pink noise 40 dB under its level, one window at least."""
    if cut:
        sound = loudest(sound, cut)
    length = max(window, len(sound))
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    # Around digital silence -100 dB of full scale: no microphone gives zeros.
    level = np.sqrt(np.mean(sound**2)) * 10 ** (-40 / 20) or 1e-5
    laid = pink_noise(np.random.default_rng(seed), length) * level
    start = (length - len(sound)) // 2
    laid[start : start + len(sound)] += sound
    return laid
