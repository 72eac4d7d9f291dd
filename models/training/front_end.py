"""The picture that the network sees, in PyTorch, read from the same manifest.toml as the device reads.

Terms: a *window* is `window_s` of sound; a *picture* is [channels, n_mels, frames], lowest band first.
The device computes the same picture in Rust (firmware/detector/src/front_end.rs); golden.py writes the
numbers that hold the two together.
"""

import tomllib
from pathlib import Path

import torch
import torchaudio

LOG_FLOOR = 1e-10


def read_manifest(path):
    """The manifest as a dict."""
    return tomllib.loads(Path(path).read_text())


class FrontEnd(torch.nn.Module):
    """Sound [batch, samples] to pictures [batch, channels, n_mels, frames].

    The sound comes at `sound_rate` Hz and is resampled where the network hears another rate; by default it comes at the network's.
    """

    def __init__(self, front_end, sound_rate=None):
        super().__init__()
        self.config = front_end
        self.sample_rate = front_end["sample_rate_hz"]
        # Long and steep: what leaks past the band's end would be the picture's darkest value under min-max.
        self.resample = torchaudio.transforms.Resample(
            sound_rate or self.sample_rate, self.sample_rate, lowpass_filter_width=64, rolloff=0.98, resampling_method="sinc_interp_kaiser"
        )
        self.mel = torchaudio.transforms.MelSpectrogram(
            sample_rate=self.sample_rate,
            n_fft=front_end["n_fft"],
            hop_length=front_end["hop"],
            n_mels=front_end["n_mels"],
            f_min=front_end["f_min_hz"],
            f_max=front_end["f_max_hz"],
            power=2.0,
            center=True,
            pad_mode="reflect",
            norm=None,
            mel_scale=front_end["mel_scale"],
        )
        if front_end["normalisation"] == "fixed":
            shape = (-1, 1)
            self.register_buffer("mean", torch.as_tensor(front_end["mean"]).float().reshape(shape))
            self.register_buffer("deviation", torch.as_tensor(front_end["deviation"]).float().reshape(shape))

    def log_mel(self, sound):
        """log2 of the mel power, [batch, n_mels, frames]."""
        return torch.log2(self.mel(self.resample(sound)) + LOG_FLOOR)

    def normalise(self, log_mel):
        """The manifest's normalisation, and its colours where it has some."""
        kind = self.config["normalisation"]
        if kind == "fixed":
            picture = (log_mel - self.mean) / self.deviation
        elif kind == "min_max":
            low = log_mel.amin((-2, -1), keepdim=True)
            high = log_mel.amax((-2, -1), keepdim=True)
            span = high - low
            picture = torch.where(span > 0, (log_mel - low) / span.clamp_min(1e-30), 0.0)
        else:
            picture = log_mel
        if self.config["colormap"] == "none":
            return picture.unsqueeze(1)
        return self.colours(picture)

    def colours(self, picture):
        """Viridis as matplotlib's imsave writes it with vmin 0 and vmax 1: 256 steps of 8-bit colours."""
        import matplotlib

        table = (torch.tensor(matplotlib.colormaps["viridis"].colors) * 255).to(torch.uint8).float() / 255
        index = (picture.clamp(0, 1) * 256).long().clamp_max(255)
        rgb = table.to(picture.device)[index].movedim(-1, 1)
        if "rgb_mean" in self.config:
            mean = torch.tensor(self.config["rgb_mean"], device=rgb.device).reshape(1, 3, 1, 1)
            deviation = torch.tensor(self.config["rgb_deviation"], device=rgb.device).reshape(1, 3, 1, 1)
            rgb = (rgb - mean) / deviation
        return rgb

    def forward(self, sound):
        return self.normalise(self.log_mel(sound))
