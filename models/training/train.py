"""Train the network on labelled clips.

    python train.py --data DIR --manifest scream-resnet34.toml --work DIR [--steps N] [--resume]

Seeded; saves every few minutes into `--work` and goes on from there. Uses a GPU where there is one. The last file is
`model.pt`: averaged weights (EMA), the manifest with measured mean and deviation, and the validation figures.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from augment import Scenes
from clips import RATE, Clips
from evaluate import score_clips, summary
from front_end import FrontEnd, read_manifest
from network import resnet34
from rooms import bank


class Windows(torch.utils.data.IterableDataset):
    """An endless stream of windows; window k of a run depends on the seed and k alone, so that a run resumes."""

    def __init__(self, scenes, seed, first, length_of):
        self.scenes, self.seed, self.first, self.length_of = scenes, seed, first, length_of

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        step, number, of = 0, (worker.id if worker else 0), (worker.num_workers if worker else 1)
        k = self.first + number
        while True:
            sound, labels = zip(*(self.scenes.window(np.random.default_rng([self.seed, k, i]), self.length_of(k)) for i in range(self.scenes.batch)))
            yield torch.from_numpy(np.stack(sound)), torch.tensor(labels)
            k += of
            step += 1


def spec_augment(picture, rng):
    """Masks of bands and of frames, set to the picture's mean (zero after fixed normalisation)."""
    _, _, bands, frames = picture.shape
    for row in range(len(picture)):
        for _ in range(int(rng.integers(0, 3))):
            n = int(rng.integers(1, 9))
            start = int(rng.integers(0, bands - n))
            picture[row, :, start : start + n] = 0
        for _ in range(int(rng.integers(0, 3))):
            n = int(rng.integers(1, max(2, frames // 8)))
            start = int(rng.integers(0, frames - n))
            picture[row, :, :, start : start + n] = 0
    return picture


def alarm_logit(logits, alarm):
    """Log-odds of the alarm label against all others together."""
    others = torch.cat([logits[:, :alarm], logits[:, alarm + 1 :]], 1)
    return logits[:, alarm] - torch.logsumexp(others, 1)


def measure_normalisation(scenes, front_end, length, seed, count=256):
    """Per-band mean and deviation of the log-mel picture over training windows."""
    sounds = np.stack([scenes.window(np.random.default_rng([seed, 10**9, i]), length)[0] for i in range(count)])
    log_mel = front_end.log_mel(torch.from_numpy(sounds))
    return log_mel.mean((0, 2)).tolist(), log_mel.std((0, 2)).tolist()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--short-steps", type=int, default=1800, help="the first steps see windows of --short-s")
    parser.add_argument("--short-s", type=float, default=2.0)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="bfloat16 autocast; faster where the processor computes it")
    parser.add_argument("--init", help="model.pt of an earlier run to start from")
    parser.add_argument("--licences", nargs="*", help="use rows of these licences alone")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    work = Path(args.work)
    work.mkdir(parents=True, exist_ok=True)
    manifest = read_manifest(args.manifest)
    labels = manifest["labels"]
    alarm = labels.index(manifest["alarm_labels"][0])
    clips = Clips(args.data, work.parent / "cache", args.licences)
    rooms_file = work.parent / "cache" / "rooms.npy"
    if not rooms_file.exists():
        np.save(rooms_file, bank(7, 300))
    scenes = Scenes(clips, "train", labels, manifest["alarm_labels"][0], np.load(rooms_file))
    scenes.batch = args.batch

    window = int(manifest["front_end"]["window_s"] * RATE)
    config = manifest["front_end"]
    if config["normalisation"] == "fixed" and "mean" not in config:
        config["mean"], config["deviation"] = [0.0] * config["n_mels"], [1.0] * config["n_mels"]
        config["mean"], config["deviation"] = measure_normalisation(scenes, FrontEnd(config), window, args.seed)
    front_end = FrontEnd(config).to(device)
    channels = 1 if config["colormap"] == "none" else 3
    network = resnet34(channels, len(labels)).to(device, memory_format=torch.channels_last)
    average = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998), use_buffers=True)
    if args.init:
        network.load_state_dict(torch.load(args.init, map_location=device)["network"])
    decay = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW([{"params": decay, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}], lr=args.rate)
    step = 0
    checkpoint = work / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step = state["step"]
        print(f"goes on from step {step}", flush=True)

    def length_of(k):
        return int(args.short_s * RATE) if k < args.short_steps else window

    loader = iter(torch.utils.data.DataLoader(Windows(scenes, args.seed, step, length_of), batch_size=None, num_workers=args.workers, prefetch_factor=4 if args.workers else None))
    rng = np.random.default_rng([args.seed, 77, step])
    began, losses, saved = time.time(), [], time.time()
    begin_step = step
    log = open(work / "log.jsonl", "a")

    def save(final=False):
        figures = validate(average.module)
        log.write(json.dumps({"step": step, "loss": float(np.mean(losses[-100:] or [0])), **figures}) + "\n")
        log.flush()
        print(f"step {step}: validation {figures}", flush=True)
        temporary = checkpoint.with_suffix(".new")
        torch.save({"network": network.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict(), "step": step}, temporary)
        temporary.rename(checkpoint)
        torch.save({"network": average.module.state_dict(), "manifest": manifest, "validation": figures, "step": step}, work / "model.pt")

    def validate(model):
        model.eval()
        rows = [i for i, row in enumerate(clips.rows) if row["split"] == "val"]
        scores = score_clips(model, front_end, clips, rows, labels, alarm, device, args.bf16)
        return summary(np.array([clips.rows[i]["label"] == "1" for i in rows]), scores)

    while step < args.steps:
        sound, target = next(loader)
        warm, total = 150, args.steps
        scale = min(1.0, (step + 1) / warm) * (0.5 + 0.5 * math.cos(math.pi * min(1, step / total))) + 1e-3
        for group in optimiser.param_groups:
            group["lr"] = args.rate * scale
        network.train()
        with torch.no_grad():
            picture = spec_augment(front_end(sound.to(device)), rng).contiguous(memory_format=torch.channels_last)
        target = target.to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=args.bf16):
            logits = network(picture)
        logits = logits.float()
        wanted = (target == alarm).float() * 0.94 + 0.03
        loss = F.cross_entropy(logits, target, label_smoothing=0.05) + F.binary_cross_entropy_with_logits(alarm_logit(logits, alarm), wanted)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        average.update_parameters(network)
        losses.append(loss.item())
        step += 1
        if step % 20 == 0:
            pace = (step - begin_step) / (time.time() - began)
            print(f"step {step}/{args.steps} loss {np.mean(losses[-50:]):.3f} {pace * args.batch:.0f} windows/s, {(args.steps - step) / pace / 60:.0f} min left", flush=True)
        if time.time() - saved > 600:
            save()
            saved = time.time()
    save(final=True)


if __name__ == "__main__":
    main()
