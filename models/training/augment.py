"""Training windows: a clip at a random place in a sounding room, never in digital zeros.

Length and padding would give the label away (../../README.md, "Data"), so screams are cut like the other clips and
every window is filled: with other clips, with noise, or both.
"""

import numpy as np
from scipy import fft

from acted import LABELS
from clips import RATE, loudest
from screams import bent, scream, throat

FADE = RATE // 200
# In an index's place: a recording of acted.py's, or a scream of screams.py's.
SCREAM, ANIMAL, SHOUT, SYNTHESISED = -1, -2, -3, -4
ACTED = {SCREAM: "scream", ANIMAL: "animal", SHOUT: "shout"}
# What a detector of screams takes for one most easily, on the validation split: drawn twice as often.
HARD = ("animal", "bird", "cat", "cheer", "child_cry", "child_voice", "crowd", "crying", "dog", "music", "singing", "vocal_burst")
# Few clips of these stand for very many songs: any key and tempo.
TUNEFUL = ("music", "singing")
# Whose voices together make a crowd, a school yard, a bar.
CROWD = ("cheer", "child_voice", "crowd", "emotional_speech", "laughter", "shout_speech", "singing", "speech")
# What an hour of everyday sound (everyday.py) is, and what it is called where a label is wanted.
EVERYDAY = {"music": (0.72, "music"), "voice": (0.2, "speech"), "machine": (0.08, "vehicle")}


EXPONENTS = np.linspace(-1, 2.5, 36)
NOISE_LENGTH = 32 * RATE


def noise_bank():
    """One long noise for each exponent, power ~ 1/f^exponent: 0 white, 1 pink, 2 brown, -1 blue; RMS 1."""
    rng = np.random.default_rng(11)
    bank = []
    for exponent in EXPONENTS:
        spectrum = rng.standard_normal(NOISE_LENGTH // 2 + 1) + 1j * rng.standard_normal(NOISE_LENGTH // 2 + 1)
        spectrum *= np.maximum(np.arange(NOISE_LENGTH // 2 + 1), 60) ** (-exponent / 2)
        noise = fft.irfft(spectrum, NOISE_LENGTH)
        bank.append((noise / np.std(noise)).astype(np.float32))
    return bank


BANK = noise_bank()


def coloured_noise(rng, length, exponent):
    """An excerpt of the noise whose exponent is nearest: drawing anew costs ten times as much."""
    noise = BANK[int(np.argmin(np.abs(EXPONENTS - exponent)))]
    start = int(rng.integers(0, NOISE_LENGTH - length))
    return noise[start : start + length] * (1.0 if rng.random() < 0.5 else -1.0)


def convolved(sound, response):
    """Linear convolution, as long as `sound` and the response together."""
    n = fft.next_fast_len(len(sound) + len(response), real=True)
    return fft.irfft(fft.rfft(sound, n) * fft.rfft(response, n), n)[: len(sound) + len(response)]


def rms(sound):
    return float(np.sqrt(np.mean(sound**2) + 1e-12))


def faded(sound):
    """Short ramps at both ends: a cut must not click, a click would be a cue."""
    sound = sound.copy()
    n = min(FADE, len(sound) // 2)
    if n:
        ramp = np.linspace(0, 1, n, dtype=np.float32)
        sound[:n] *= ramp
        sound[-n:] *= ramp[::-1]
    return sound


def speed(rng, sound, most=1.25):
    """Speed and pitch together, by `most` at the most, up or down."""
    return played(sound, np.exp(rng.uniform(-np.log(most), np.log(most))))


def played(sound, factor):
    """`factor` times as fast, and as high."""
    places = np.arange(0, len(sound) - 1, factor)
    left = places.astype(np.int64)
    share = (places - left).astype(np.float32)
    return sound[left] * (1 - share) + sound[left + 1] * share


def excerpt(rng, sound, longest):
    """At most `longest` samples around where the clip is loud (its label need not hold for every moment)."""
    length = int(min(len(sound), longest) * rng.uniform(0.5, 1.0)) if rng.random() < 0.5 else min(len(sound), longest)
    if length >= len(sound):
        return sound
    if rng.random() < 0.5:
        return loudest(sound, length)
    block = RATE // 10
    cumulative = np.concatenate([[0.0], np.cumsum(sound * sound)])
    energy = (cumulative[length:] - cumulative[:-length])[::block]
    good = np.flatnonzero(energy >= 0.5 * energy.max())
    start = int(rng.choice(good)) * block
    return sound[start : start + length]


def filtered(sound, gain_db):
    """`sound` with a gain for each frequency: `gain_db` at even steps from 0 to half of the rate, straight lines between."""
    spectrum = fft.rfft(sound)
    last = len(gain_db) - 1
    # Laid out by index: logarithms for each line would cost more than the FFT.
    gain = np.interp(np.linspace(0, last, len(spectrum)), np.arange(last + 1), 10 ** (gain_db / 20)).astype(np.float32)
    return fft.irfft(spectrum * gain, len(sound))


def over_octaves(gain_db, points=513):
    """Gains at even steps of octaves up to half of the rate, as `filtered` takes them: at even steps of frequency."""
    octave = np.log2(np.linspace(0, RATE / 2, points) + 1)
    return np.interp(octave, np.linspace(0, octave[-1], len(gain_db)), gain_db)


def coloured(rng, sound):
    """Another throat, another wall beside it: gains at every octave, as loud as before. Its background keeps its own colour."""
    other = filtered(sound, over_octaves(rng.normal(0, 5, 14)))
    return (other * (rms(sound) / (rms(other) + 1e-9))).astype(np.float32)


def shaped(noise, frequencies, widths, gains_db):
    """Noise with humps at `frequencies` (Hz), `widths` octaves wide and `gains_db` high, RMS 1."""
    octave = np.log2(np.linspace(0, RATE / 2, 257) + 20)
    gain_db = np.full(257, -25.0)
    for frequency, width, gain in zip(frequencies, widths, gains_db):
        gain_db = np.maximum(gain_db, gain - 12 * ((octave - np.log2(frequency)) / width) ** 2)
    sound = filtered(noise, gain_db)
    return sound / (rms(sound) + 1e-9)


def steam(rng, length):
    """What hisses and roars through a resonance: a coffee machine, a kettle, a hair dryer, cars that pass."""
    count = int(rng.integers(1, 5))
    frequencies = np.exp(rng.uniform(np.log(400), np.log(6000), count))
    sound = shaped(coloured_noise(rng, length, rng.uniform(-0.5, 1.5)), frequencies, rng.uniform(0.08, 0.8, count), rng.uniform(-10, 0, count))
    if rng.random() < 0.4:  # A motor within: its harmonics, as steady as mains.
        t = np.arange(length) / RATE
        f = np.exp(rng.uniform(np.log(60), np.log(450)))
        wobble = 0.004 * rng.random() * np.sin(2 * np.pi * rng.uniform(0.3, 4) * t)
        partials = [k for k in range(1, 16) if f * k < 7500]
        motor = sum(np.sin(2 * np.pi * f * k * (t + wobble / 4) + rng.uniform(0, 6)) * np.exp(rng.normal(-1, 0.7)) for k in partials)
        sound = sound * rng.uniform(0.1, 1) + motor / (rms(motor) + 1e-9)
    # It swells, ebbs, begins or ends.
    places = np.linspace(0, length, int(rng.integers(2, 6)))
    swell = np.interp(np.arange(length), places, 10 ** (rng.uniform(-25, 0, len(places)) / 20 * rng.choice([0, 0.3, 1])))
    if rng.random() < 0.3:
        edge = int(rng.integers(0, length))
        swell[: edge] *= rng.choice([1, 0.05])
        swell[edge:] *= rng.choice([1, 0.05])
    return sound * swell


def bell(rng, length):
    """Bells of a telephone, a door, a school: inharmonic partials that are struck again and again, or ring out once."""
    t = np.arange(length) / RATE
    partials = np.exp(rng.uniform(np.log(500), np.log(7000), int(rng.integers(2, 10))))
    rate = rng.choice([rng.uniform(8, 35), rng.uniform(0.4, 3)])
    since = (t + rng.uniform(0, 1)) % (1 / rate)
    sound = np.zeros(length)
    for f in partials:
        decay = np.exp(rng.uniform(np.log(0.03), np.log(1.5)))
        sound += np.sin(2 * np.pi * f * t + rng.uniform(0, 6)) * np.exp(-since / decay) * np.exp(rng.normal(0, 0.8))
    on, off = rng.uniform(0.3, 2.5, 2)
    if rng.random() < 0.7:
        sound *= (t + rng.uniform(0, 4)) % (on + off) < on
    return sound / (rms(sound) + 1e-9)


def trill(rng, length):
    """Electronic ringers: of a telephone, an alarm clock, a till. A tone and its harmonics that warble between two pitches or throb, and
    stop in silence."""
    t = np.arange(length) / RATE
    f = np.exp(rng.uniform(np.log(350), np.log(2500)))
    rate = np.exp(rng.uniform(np.log(8), np.log(60)))
    beat = np.sin(2 * np.pi * rate * t + rng.uniform(0, 6))
    beat = np.sign(beat) if rng.random() < 0.5 else beat
    other = 2 ** rng.uniform(0.05, 0.6) if rng.random() < 0.6 else 1.0
    phase = 2 * np.pi * np.cumsum(f * other ** (0.5 + 0.5 * beat)) / RATE
    tilt = rng.uniform(0.2, 1.2)
    sound = sum(np.sin(k * phase + rng.uniform(0, 6)) * np.exp(rng.normal(0, 0.7)) / k**tilt for k in range(1, 13) if f * other * k < 7800)
    sound = sound * (1 - rng.choice([0, rng.random()]) * (0.5 + 0.5 * beat))
    on, off = rng.uniform(0.25, 2.5), rng.uniform(0.1, 4)
    since = (t + rng.uniform(0, on + off)) % (on + off)
    rise, fall = rng.uniform(0.005, 0.2, 2)
    sound = sound * np.clip(since / rise, 0, 1) * np.clip((on - since) / fall, 0, 1)
    return sound / (rms(sound) + 1e-9)


def synthetic(rng, length):
    """Sounds that the clips lack and that must never alarm: noise with and without resonances, tones, sweeps, bells, ringers, beepers, near
    silence."""
    t = np.arange(length) / RATE
    kind = rng.integers(14)
    if kind > 11:
        return np.asarray(trill(rng, length) * 0.3, np.float32)
    if kind in (7, 8, 9):
        return np.asarray(steam(rng, length) * 0.3, np.float32)
    if kind > 9:
        return np.asarray(bell(rng, length) * 0.3, np.float32)
    if kind == 0:
        sound = coloured_noise(rng, length, rng.uniform(-1, 2.5))
    elif kind == 1:  # A steady tone with harmonics: a mains hum, a fan, a whistle.
        f = np.exp(rng.uniform(np.log(50), np.log(4000)))
        sound = sum(np.sin(2 * np.pi * f * k * t + rng.uniform(0, 6)) * rng.uniform(0, 1) / k for k in range(1, 6) if f * k < 7800)
    elif kind == 2:  # A sweep, up or down, once or again and again, as a siren does.
        low, high = np.sort(np.exp(rng.uniform(np.log(150), np.log(5000), 2)))
        period = rng.uniform(0.15, 6)
        phase = (t / period) % 1
        shape = {0: phase, 1: 1 - phase, 2: 1 - np.abs(2 * phase - 1), 3: 0.5 - 0.5 * np.cos(2 * np.pi * phase)}[int(rng.integers(4))]
        sound = np.sin(2 * np.pi * np.cumsum(low * (high / low) ** shape) / RATE)
        if rng.random() < 0.5:
            sound = np.tanh(3 * sound)
    elif kind in (3, 4):  # A beeper or a smoke alarm (ISO 8201: three pulses of 0.5 s, then 1.5 s of silence).
        f = rng.choice([520, 1000, 2000, 3100, 3200, 3400, rng.uniform(400, 4500)])
        on, off = (0.5, 0.5) if kind == 3 else rng.uniform(0.05, 0.8, 2)
        place = (t + rng.uniform(0, 4)) % (4 * on + 2 * off if kind == 3 else on + off)
        gate = (place % (on + off) < on) & ((place < 3 * on + 2 * off) if kind == 3 else True)
        sound = np.sin(2 * np.pi * f * t) * gate
        if rng.random() < 0.5:
            sound = np.sign(sound) * 0.7 * gate
    elif kind == 5:  # Clicks and knocks.
        sound = np.zeros(length)
        for _ in range(int(rng.integers(1, 12))):
            n = int(rng.uniform(0.003, 0.15) * RATE)
            start = int(rng.integers(0, max(1, length - n)))
            sound[start : start + n] += (coloured_noise(rng, n, rng.uniform(-1, 2)) * np.exp(-np.linspace(0, 7, n)))
    else:
        sound = coloured_noise(rng, length, 1.0) * 1e-4
    return np.asarray(sound, np.float32) * 0.3


def microphone(rng, sound):
    """A microphone's and codec's response: a smooth random curve, band limits, now and then 8-bit mu-law."""
    f = np.linspace(0, RATE / 2, 513)
    gain_db = over_octaves(rng.normal(0, rng.uniform(2, 8), 8), len(f))
    if rng.random() < 0.3:
        cut = np.exp(rng.uniform(np.log(2500), np.log(7500)))
        gain_db -= 24 * np.log2(np.maximum(f / cut, 1)) * rng.uniform(0.7, 4)
    if rng.random() < 0.3:
        cut = np.exp(rng.uniform(np.log(50), np.log(400)))
        gain_db -= 12 * np.log2(np.maximum(cut / np.maximum(f, 1), 1))
    sound = filtered(sound, gain_db)
    if rng.random() < 0.05:
        peak = np.abs(sound).max() + 1e-9
        code = np.sign(sound) * np.log1p(255 * np.abs(sound) / peak) / np.log(256)
        code = np.round(code * 127) / 127
        sound = (np.sign(code) * (256 ** np.abs(code) - 1) / 255 * peak).astype(np.float32)
    return sound


class Scenes:
    """Draws training windows from clips of one split."""

    def __init__(self, clips, split, labels, alarm_label, rooms, positives=0.3, everyday=None, acted=None, acted_share=0.2, synthesised_share=0.0, throats=0.0):
        self.clips, self.labels, self.rooms, self.everyday, self.acted = clips, labels, rooms, everyday, acted
        self.alarm = labels.index(alarm_label)
        self.positives, self.acted_share, self.synthesised_share, self.throats = positives, acted_share, synthesised_share, throats
        rows = clips.rows
        keep = [i for i, row in enumerate(rows) if row["split"] == split]
        self.scream = self._balanced([i for i in keep if rows[i]["label"] == "1"], "source_repo", 0.5)
        self.other = self._balanced([i for i in keep if rows[i]["label"] == "0"], "class", 0.5, HARD)
        self.voices = self._balanced([i for i in keep if rows[i]["class"] in CROWD], "class", 0.5)

    def _balanced(self, indices, column, power, favour=()):
        """Indices with probabilities that flatten `column`: each value counts as its size to the `power`, a favoured twice."""
        values = [self.clips.rows[i][column] for i in indices]
        sizes = {value: values.count(value) for value in set(values)}
        weight = np.array([sizes[value] ** (power - 1) * (2 if value in favour else 1) for value in values])
        return np.array(indices), np.cumsum(weight / weight.sum())

    def favour(self, scores, times):
        """Draws each other clip up to `times` more often, by what the network makes of it (`scores` by row, 0..1)."""
        indices, cumulative = self.other
        weight = np.diff(cumulative, prepend=0.0) * np.array([1 + times * scores.get(int(i), 0.0) for i in indices])
        self.other = indices, np.cumsum(weight / weight.sum())

    def _draw(self, rng, pool):
        indices, cumulative = pool
        return int(indices[min(np.searchsorted(cumulative, rng.random()), len(indices) - 1)])

    def _pick(self, rng, positive):
        """A scream's clip or another's; now and then one that an actor, or an animal, or somebody who shouts, left in a package: other voices, other microphones."""
        if positive and self.synthesised_share and rng.random() < self.synthesised_share:
            return SYNTHESISED
        if self.acted is not None and rng.random() < (self.acted_share if positive else 0.1):
            return SCREAM if positive else int(rng.choice([ANIMAL, SHOUT]))
        return self._draw(rng, self.scream if positive else self.other)

    def _class(self, index):
        if index == SYNTHESISED:
            return "scream"
        return LABELS[ACTED[index]] if index in ACTED else self.clips.rows[index]["class"]

    def _named(self, name):
        """The label of a class: a crowd cheers, and what has no label of its own is `other`."""
        name = "cheer" if name == "crowd" else name
        return self.labels.index(name if name in self.labels else "other")

    def _label(self, index):
        return self._named(self._class(index))

    def _prepared(self, rng, index, longest):
        if index == SYNTHESISED:
            whole = scream(rng)
        else:
            whole = self.acted.draw(rng, ACTED[index]) if index in ACTED else self.clips.sound(index)
        sound = excerpt(rng, whole, longest)
        # Whatever it is: what is done to screams alone would give them away.
        if self.throats and index != SYNTHESISED and rng.random() < self.throats:
            sound = throat(rng, sound) if rng.random() < 0.5 else bent(rng, sound)
        if rng.random() < 0.6:
            sound = speed(rng, sound, 1.6 if self._class(index) in TUNEFUL else 1.35)
        if rng.random() < 0.3:
            sound = coloured(rng, sound)
        return faded(sound)

    def _place(self, rng, scene, sound):
        """Adds `sound` at a random place; at least 0.7 s or 60 % of it lies inside. Returns the share inside."""
        least = min(len(sound), max(int(0.7 * RATE), int(0.6 * len(sound))), len(scene))
        start = int(rng.integers(least - len(sound), len(scene) - least + 1))
        a, b = max(start, 0), min(start + len(sound), len(scene))
        scene[a:b] += sound[a - start : b - start]

    def _filled(self, rng, length):
        """A window filled with everyday sound: other clips after one another."""
        scene = np.zeros(length, np.float32)
        place = -int(rng.integers(0, RATE))
        label = None
        while place < length:
            index = self._draw(rng, self.other)
            sound = self._prepared(rng, index, 3 * RATE)
            sound = sound / (rms(sound) + 1e-4) * 0.05 * 10 ** (rng.normal(0, 4) / 20)
            a, b = max(place, 0), min(place + len(sound), length)
            if b > a:
                scene[a:b] += sound[a - place : b - place]
                label = self._label(index) if label is None or rng.random() < 0.5 else label
            place += max(len(sound) - FADE, RATE // 4)
        return scene, label

    def _continuous(self, rng, length):
        """A window of music, talk or engines as they go on for hours; a label."""
        kind = str(rng.choice(list(EVERYDAY), p=[share for share, _ in EVERYDAY.values()]))
        scene, place = np.zeros(length, np.float32), 0
        while place < length:
            factor = 1.3 if kind == "music" else 1.15
            sound = self.everyday.excerpt(rng, kind, int((length - place) * factor) + 2)
            if rng.random() < 0.5:
                sound = speed(rng, sound, factor)
            sound = faded(sound[: length - place])
            scene[place : place + len(sound)] = sound
            place += len(sound) + int(rng.integers(RATE // 20, RATE // 2))
        return scene / (rms(scene) + 1e-4) * 0.05, self._named(EVERYDAY[kind][1])

    def _babble(self, rng, length):
        """Many voices at once: a crowd, a school yard, a bar; a label."""
        scene = np.zeros(length, np.float32)
        # Children at play: grown-ups' voices as high as theirs.
        high = rng.random() < 0.4
        for _ in range(int(rng.integers(4, 16))):
            sound = self.clips.sound(self._draw(rng, self.voices))[: (5 if high else 3) * RATE]
            if high:
                sound = played(sound, rng.uniform(1.2, 1.9))
            elif rng.random() < 0.5:
                sound = speed(rng, sound, 1.3)
            sound = faded(sound)[:length]
            start = int(rng.integers(-len(sound) // 2, max(1, length - len(sound) // 2)))
            a, b = max(start, 0), min(start + len(sound), length)
            scene[a:b] += sound[a - start : b - start] * (0.05 / (rms(sound) + 1e-4) * 10 ** (rng.normal(0, 6) / 20))
        return scene / (rms(scene) + 1e-4) * 0.05, self._named("cheer")

    def _ambience(self, rng, length):
        """A window of everyday sound of one kind or another; a label."""
        kind = rng.random()
        if kind < 0.15:
            return self._babble(rng, length)
        if kind < 0.5 and self.everyday is not None:
            return self._continuous(rng, length)
        return self._filled(rng, length)

    def _wet(self, rng, sound):
        if rng.random() < 0.5:
            response = self.rooms[int(rng.integers(len(self.rooms)))]
            # Distance: the direct sound weakens against the tail.
            response = response.copy()
            response[1:] *= rng.uniform(0.3, 1.5)
            wet = convolved(sound, response)[: len(sound) + RATE // 4]
            sound = (wet * (rms(sound) / (rms(wet[: len(sound)]) + 1e-9))).astype(np.float32)
        return sound

    def window(self, rng, length):
        """One window and its label."""
        positive = rng.random() < self.positives
        if not positive and rng.random() < 0.12:
            scene = synthetic(rng, length)
            label = self._named("silence")
            if rng.random() < 0.3:
                other, label = self._filled(rng, length)
                scene = scene * rng.uniform(0.05, 1) + other * rng.uniform(0.5, 3)
            level = 10 ** (rng.uniform(-50, 0) / 20)
            scene *= level
        elif not positive and rng.random() < 0.45:
            # What a device hears all day: one sound after another and over another, none of them a scream.
            scene, label = self._ambience(rng, length)
            if rng.random() < 0.4:
                scene = scene + self._ambience(rng, length)[0] * rng.uniform(0.2, 1)
            scene = self._wet(rng, scene)[:length] * 10 ** (rng.uniform(-30, 15) / 20)
        else:
            index = self._pick(rng, positive)
            label = self._label(index)
            sound = self._wet(rng, self._prepared(rng, index, int(rng.uniform(0.6, 2.6) * RATE)))
            scene = np.zeros(length, np.float32)
            self._place(rng, scene, sound)
            again = rng.random()
            if again < 0.15:  # The same kind twice: repetition is no cue either.
                more = self._pick(rng, positive)
                if not positive or rng.random() < 0.8:
                    self._place(rng, scene, self._wet(rng, self._prepared(rng, more, 2 * RATE)) * rng.uniform(0.3, 1.5))
            level = rms(sound)
            if rng.random() < 0.55:
                snr_db = rng.uniform(-5, 20) if positive else rng.uniform(-5, 25)
                if rng.random() < 0.85:
                    background, name = self._ambience(rng, length)
                    if not positive and snr_db < 0 and name is not None:
                        label = name
                else:
                    background = synthetic(rng, length)
                scene += background * (level / (rms(background) + 1e-9) * 10 ** (-snr_db / 20))
            scene += coloured_noise(rng, length, rng.uniform(-0.3, 2)) * level * 10 ** (-rng.uniform(15, 60) / 20)
            scene *= 10 ** (rng.uniform(-30, 6) / 20) if rng.random() < 0.7 else 1.0
        if rng.random() < 0.5:
            scene = microphone(rng, scene)
        scene = scene + coloured_noise(rng, length, 0) * np.float32(10 ** (-rng.uniform(60, 100) / 20))
        if rng.random() < 0.07:
            scene *= rng.uniform(1, 20)
        if rng.random() < 0.02:
            scene += rng.uniform(-0.3, 0.3)
        return np.clip(scene, -1, 1, dtype=np.float32), label
