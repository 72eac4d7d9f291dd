"""Screams that nobody recorded: a voice's source and its tract, as loud voices are described, so that no scream can be known by heart.

The source is a harmonic series that breaks as a strained voice does: subharmonics, a second pitch, chaos, and the throb of 30 to 150 Hz that is
heard as rough (Arnal et al. 2015, "Human screams occupy a privileged niche"; Fitch et al. 2002, "Calls out of chaos"). The tract is
five resonances of an open mouth (Peterson and Barney 1952), wide and scaled from a man's to a child's.
`throat` and `bent` make of a recorded scream one of another tract or another melody.
"""

import numpy as np
from scipy import fft, signal

from clips import RATE

# First three resonances of a man's open vowels, Hz; the mouth of who screams is open.
VOWELS = np.array([(850, 1300, 2600), (760, 1700, 2550), (600, 1900, 2600), (650, 1100, 2500), (400, 2200, 3000), (500, 900, 2400)])
VOWEL_SHARES = (0.35, 0.25, 0.15, 0.1, 0.08, 0.07)


def smooth(rng, length, rate_hz, deviation):
    """A random curve, of about `rate_hz` turns a second, mean 0."""
    count = max(4, int(length / RATE * rate_hz * 2) + 3)
    return np.interp(np.linspace(0, count - 1, length), np.arange(count), rng.normal(0, deviation, count))


def passages(rng, length, share):
    """1 where something happens, 0 elsewhere, with soft edges: about `share` of the length."""
    rate = rng.uniform(1, 6)
    curve = smooth(rng, length, rate, 1)
    edge = np.quantile(curve, 1 - share)
    return np.clip((curve - edge) * 4, 0, 1)


def pitch(rng, length):
    """The fundamental, Hz: it rises, holds with small unrest, falls; at times it jumps as a voice that breaks."""
    base = np.exp(rng.uniform(np.log(450), np.log(1900)))
    t = np.linspace(0, 1, length)
    seconds = length / RATE
    rise, fall = rng.uniform(0.02, 0.35) / max(seconds, 0.3), rng.uniform(0.05, 0.6) / max(seconds, 0.3)
    octave = -rng.uniform(0, 0.9) * np.exp(-t / max(rise, 1e-3) * 2) - rng.uniform(0, 1.3) * np.clip((t - 1 + fall) / fall, 0, 1) ** 2
    octave += rng.uniform(-0.4, 0.4) * t + smooth(rng, length, 2, rng.uniform(0, 0.1))
    octave += smooth(rng, length, rng.uniform(15, 60), rng.uniform(0.002, 0.03))
    if rng.random() < 0.3:
        octave += rng.uniform(0.01, 0.06) * np.sin(2 * np.pi * rng.uniform(4, 8) * seconds * t + rng.uniform(0, 6))
    if rng.random() < 0.25:
        octave += rng.choice([-1, -0.6, 0.5, 0.8]) * (t > rng.uniform(0.2, 0.9))
    return base * 2**octave


def source(rng, length):
    """The voice before the tract."""
    f0 = pitch(rng, length)
    if rng.random() < 0.5:  # Chaos: the pitch is thrown about from one period to the next.
        f0 = f0 * 2 ** (passages(rng, length, rng.uniform(0.1, 0.9)) * smooth(rng, length, rng.uniform(60, 300), rng.uniform(0.03, 0.25)))
    phase = 2 * np.pi * np.cumsum(f0) / RATE
    # Loud voices fall by 3 to 9 dB an octave.
    tilt = rng.uniform(0.3, 1.5)
    first = np.exp(1j * phase)
    turn, voice = np.ones_like(first), np.zeros(length)
    for k in range(1, 25):
        turn = turn * first
        inside = f0 * k < 7800
        if not inside.any():
            break
        voice += (turn * np.exp(1j * rng.uniform(0, 2 * np.pi))).real * inside * k**-tilt * np.exp(rng.normal(0, 0.25))
    if rng.random() < 0.5:  # Every second or third period is another.
        voice *= 1 + rng.uniform(0.3, 1) * passages(rng, length, rng.uniform(0.1, 0.9)) * np.cos(phase / rng.choice([2, 2, 3, 4]))
    if rng.random() < 0.7:  # Rough.
        rate = rng.uniform(30, 150) * 2 ** smooth(rng, length, 4, 0.15)
        throb = 0.5 + 0.5 * np.sin(2 * np.pi * np.cumsum(rate) / RATE + smooth(rng, length, 20, 0.5))
        voice *= 1 - rng.uniform(0.2, 0.95) * passages(rng, length, rng.uniform(0.3, 1)) * throb
    if rng.random() < 0.15:  # A second pitch at once.
        second = np.sin(phase * rng.uniform(1.1, 1.9) + smooth(rng, length, 5, 1)) * passages(rng, length, 0.5)
        voice += rng.uniform(0.1, 0.6) * second
    voice /= np.std(voice) + 1e-9
    breath = signal.lfilter([1, -rng.uniform(-0.5, 0.9)], [1], rng.standard_normal(length))
    breath *= 10 ** (rng.uniform(-35, -3) / 20) / (np.std(breath) + 1e-9) * (1 + 0.5 * smooth(rng, length, 4, 1))
    return voice + breath


def tract(rng):
    """Gain at even steps of frequency, dB: five resonances, the mouth's lift of the highs."""
    scale = rng.uniform(0.95, 1.55)
    lower = VOWELS[rng.choice(len(VOWELS), p=VOWEL_SHARES)] * scale * np.exp(rng.normal(0, 0.08, 3))
    # A wide mouth raises the first.
    lower[0] *= rng.uniform(1, 1.5)
    resonances = [*lower, 3500 * scale * np.exp(rng.normal(0, 0.06)), 4400 * scale * np.exp(rng.normal(0, 0.06))]
    f = np.linspace(0, RATE / 2, 257)
    power = np.full(len(f), 10 ** (-rng.uniform(15, 30) / 10))
    for number, resonance in enumerate(resonances):
        width = rng.uniform(80, 350) * (1 + 0.2 * number)
        power += 10 ** (-rng.uniform(0, 3 + 2.5 * number) / 10) / (1 + ((f - resonance) / width) ** 2)
    return 10 * np.log10(power)


def through(sound, gain_db):
    spectrum = fft.rfft(sound)
    gain = np.interp(np.linspace(0, len(gain_db) - 1, len(spectrum)), np.arange(len(gain_db)), 10 ** (gain_db / 20))
    return fft.irfft(spectrum * gain, len(sound))


def burst(rng, length):
    """One breath's scream of `length` samples, RMS about 1."""
    voice = source(rng, length)
    sound = through(voice, tract(rng))
    if rng.random() < 0.4:  # The mouth moves.
        share = np.clip(smooth(rng, length, 2, 0.5) + 0.5, 0, 1)
        sound = sound * share + through(voice, tract(rng)) * (1 - share)
    t = np.arange(length) / RATE
    attack, release = np.exp(rng.uniform(np.log(0.01), np.log(0.2))), np.exp(rng.uniform(np.log(0.03), np.log(0.5)))
    sound = sound * np.clip(t / attack, 0, 1) * np.clip((t[-1] - t) / release, 0, 1) ** rng.uniform(0.5, 2)
    sound *= 10 ** (smooth(rng, length, 3, rng.uniform(0, 4)) / 20)
    if rng.random() < 0.2:  # Too loud for its microphone.
        sound = np.tanh(sound / (np.std(sound) + 1e-9) * rng.uniform(0.5, 3))
    return sound / (np.std(sound) + 1e-9)


def scream(rng):
    """A scream, or a few in one go; float32 at RATE, 0.2 to 3 s."""
    count = int(rng.choice([1, 1, 1, 1, 2, 3]))
    seconds = np.exp(rng.uniform(np.log(0.2), np.log(2.2 if count == 1 else 0.8)))
    state = rng.integers(2**32)
    parts = []
    for _ in range(count):
        # The same person: the same draw, a little longer or shorter.
        own = np.random.default_rng(state) if rng.random() < 0.7 else rng
        parts += [burst(own, int(seconds * rng.uniform(0.8, 1.2) * RATE)), np.zeros(int(rng.uniform(0.05, 0.4) * RATE))]
    return (np.concatenate(parts[:-1]) * 0.1).astype(np.float32)


FRAME, HOP = 1024, 256


def throat(rng, sound):
    """The same voice from a shorter or longer tract: the spectrum's envelope moved by up to a fifth, the pitch left."""
    if len(sound) < 2 * FRAME:
        return sound
    _, _, frames = signal.stft(sound, nperseg=FRAME, noverlap=FRAME - HOP)
    log = np.log(np.abs(frames) + 1e-7)
    # Cepstral smoothing: quefrencies under 1.2 ms, so that harmonics from 800 Hz down are no envelope.
    cepstrum = fft.irfft(log, axis=0)
    keep = int(0.0012 * RATE)
    cepstrum[keep + 1 : -keep] = 0
    envelope = fft.rfft(cepstrum, axis=0).real
    places = np.arange(len(log)) / np.exp(rng.uniform(-0.2, 0.2))
    left = np.minimum(places.astype(int), len(log) - 2)
    share = np.minimum(places - left, 1)[:, None]
    moved = envelope[left] * (1 - share) + envelope[left + 1] * share
    _, other = signal.istft(frames * np.exp(np.clip(moved - envelope, -3, 3)), nperseg=FRAME, noverlap=FRAME - HOP)
    return other[: len(sound)].astype(np.float32)


def bent(rng, sound):
    """The same voice with another melody: played faster and slower in turns, by up to a fifth."""
    speed = np.exp(np.clip(smooth(rng, len(sound), rng.uniform(0.5, 2.5), 0.12), -0.25, 0.25))
    places = np.cumsum(speed)
    places = places[places < len(sound) - 1]
    left = places.astype(np.int64)
    share = (places - left).astype(np.float32)
    return (sound[left] * (1 - share) + sound[left + 1] * share).astype(np.float32)
