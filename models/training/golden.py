"""Golden numbers for the front end: torchaudio's own output for a few manifests, read by the tests of `detector`.

    python golden.py ../../firmware/detector/tests/golden

Writes, for each case, a manifest, the sound (float32) and torchaudio's mel power and picture (float32), little-endian and
raw; the sounds are synthesised here from a seed. Nothing of a recording is in them.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from front_end import FrontEnd

BASE = dict(sample_rate_hz=16000, window_s=1.0, n_fft=1024, hop=512, n_mels=64, f_min_hz=0.0, f_max_hz=8000.0, mel_scale="htk", log="log2", normalisation="min_max", colormap="none")
CASES = {
    "default": BASE,
    "viridis-22050": BASE | dict(sample_rate_hz=22050, window_s=0.75, f_max_hz=11025.0, colormap="viridis"),
    "imagenet": BASE | dict(window_s=0.5, colormap="viridis", rgb_mean=[0.485, 0.456, 0.406], rgb_deviation=[0.229, 0.224, 0.225]),
    "fixed-slaney": BASE | dict(n_fft=400, hop=160, n_mels=40, window_s=0.4, f_min_hz=60.0, f_max_hz=7600.0, mel_scale="slaney", normalisation="fixed", mean=-8.5, deviation=6.25),
    "none-8000": BASE | dict(sample_rate_hz=8000, f_max_hz=4000.0, n_fft=512, hop=200, n_mels=32, window_s=0.61, normalisation="none"),
}


def sound(rate, seconds):
    """A sweep, a tone that ends, a click, a silence of true zeros and noise: every kind of frame."""
    n = round(rate * seconds)
    t = np.arange(n) / rate
    rng = np.random.default_rng(20240611)
    wave = 0.4 * np.sin(2 * np.pi * (200 * t + 0.5 * (rate * 0.4 - 200) / seconds * t**2)) * (t < 0.6 * seconds)
    wave += 0.2 * np.sin(2 * np.pi * 1000 * t) * (t < 0.3 * seconds)
    wave += 0.01 * rng.standard_normal(n) * (t < 0.7 * seconds)
    wave[int(0.95 * n)] = 0.9
    return wave.astype(np.float32)


def toml(front_end):
    lines = ["schema = 1", 'name = "golden"', 'version = "1"', 'labels = ["other", "scream"]', 'alarm_labels = ["scream"]', "[front_end]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in front_end.items()]
    lines += ["[decision]", "stride_s = 2.0", "threshold_on = 0.8", "threshold_off = 0.5", "votes = { needed = 1, of = 2 }", "hold_s = 10.0", "cooldown_s = 30.0"]
    return "\n".join(lines) + "\n"


def main():
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for name, config in CASES.items():
        front_end = FrontEnd(config)
        wave = sound(config["sample_rate_hz"], config["window_s"])
        batch = torch.from_numpy(wave)[None]
        (out / f"{name}.toml").write_text(toml(config))
        wave.tofile(out / f"{name}.sound.f32")
        front_end.mel(batch)[0].numpy().tofile(out / f"{name}.mel.f32")
        front_end(batch)[0].numpy().astype(np.float32).tofile(out / f"{name}.picture.f32")


if __name__ == "__main__":
    main()
