"""Room impulse responses by the image-source method (Allen and Berkley 1979), for a shoebox room.

No recorded response is needed: size, absorption and the places of source and microphone are drawn at random,
with the distance bounded so that near and far screams (0.3 to 12 m) are both common.
"""

import numpy as np

RATE = 16000
SPEED_OF_SOUND = 343.0


def impulse_response(rng, seconds=0.5):
    """One response, direct sound at sample 0, energy of the direct sound 1."""
    size = rng.uniform([2.2, 2.0, 2.2], [9.0, 7.0, 3.6])
    reflection = np.sqrt(1 - rng.uniform(0.12, 0.7))
    microphone = rng.uniform(0.1, 0.9, 3) * size
    source = rng.uniform(0.1, 0.9, 3) * size
    reach = np.ceil(seconds * SPEED_OF_SOUND / (2 * size)).astype(int)
    reach = np.minimum(reach, 14)
    grid = np.stack(np.meshgrid(*[np.arange(-r, r + 1) for r in reach], indexing="ij"), -1).reshape(-1, 3)
    taps = int(seconds * RATE)
    response = np.zeros(taps, np.float64)
    direct = max(np.linalg.norm(source - microphone), 0.3)
    for parity in np.ndindex(2, 2, 2):
        parity = np.array(parity)
        image = (1 - 2 * parity) * source + 2 * grid * size
        distance = np.maximum(np.linalg.norm(image - microphone, axis=1), 0.3)
        bounces = np.abs(grid - parity).sum(1) + np.abs(grid).sum(1)
        delay = ((distance - direct) / SPEED_OF_SOUND * RATE).round().astype(int)
        gain = reflection**bounces / distance * direct
        keep = (delay >= 0) & (delay < taps)
        # A random sign stands in for the phase that frequency-dependent walls give; it keeps the tail from ringing.
        sign = np.where(bounces > 1, rng.choice([-1.0, 1.0], len(bounces)), 1.0)
        np.add.at(response, delay[keep], (gain * sign)[keep])
    return response.astype(np.float32)


def bank(seed, count):
    """`count` responses, [count, taps]."""
    rng = np.random.default_rng(seed)
    return np.stack([impulse_response(rng) for _ in range(count)])
