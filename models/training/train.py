"""Train the network on labelled clips.

    python train.py --data DIR --manifest scream-resnet34.toml --work DIR [--steps N]

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

from acted import Acted
from augment import Scenes
from clips import RATE, Clips
from everyday import Everyday
from evaluate import score_clips, summary
from front_end import FrontEnd, read_manifest
from network import imagenet, of_manifest, take
from rooms import bank
from teachers import Teachers
from warm_start import warm_start


class Windows(torch.utils.data.IterableDataset):
    """An endless stream of batches; batch k depends on the seed, k and its length alone, so that a run resumes."""

    def __init__(self, scenes, seed, first, length_of):
        self.scenes, self.seed, self.first, self.length_of = scenes, seed, first, length_of

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        number, of = (worker.id if worker else 0), (worker.num_workers if worker else 1)
        k = self.first + number
        while True:
            length = self.length_of(k)
            sound, labels = zip(*(self.scenes.window(np.random.default_rng([self.seed, k, i]), length) for i in range(self.scenes.batch)))
            yield torch.from_numpy(np.stack(sound)), torch.tensor(labels)
            k += of


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


def hide(picture, rng, share):
    """A share of the pictures loses a quarter of its bands: what rests on one band alone is no scream."""
    bands = picture.shape[2]
    for row in np.flatnonzero(rng.random(len(picture)) < share):
        part = int(rng.integers(4))
        picture[row, :, bands * part // 4 : bands * (part + 1) // 4] = 0
    return picture


def partners(picture, rng, share):
    """For each picture another of the batch, and how much of its own it keeps: at least half, and all of it but in a share of them."""
    weight = np.where(rng.random(len(picture)) < share, rng.beta(0.4, 0.4, len(picture)), 1.0)
    weight = torch.from_numpy(np.maximum(weight, 1 - weight)).float().to(picture.device)
    return torch.from_numpy(rng.permutation(len(picture))).to(picture.device), weight.view(-1, 1, 1, 1)


def mixup(picture, wanted, rng, share):
    """Some pictures are blended with another of the batch, and what is wanted of them likewise (Zhang et al. 2018)."""
    partner, weight = partners(picture, rng, share)
    mixed = picture * weight + picture[partner] * (1 - weight)
    weight = weight.view(-1, 1)
    return mixed, wanted * weight + wanted[partner] * (1 - weight)


def splice(picture, target, rng, share):
    """A share of the pictures takes the bands above a random one from another picture of the same label: a voice that nobody has, so that
    no recording can be known by heart (CutMix, Yun et al. 2019, along frequency and within a class). The label stays."""
    whole = picture.clone()
    rows = np.flatnonzero(rng.random(len(picture)) < share)
    labels = target.numpy()
    bands = picture.shape[2]
    for row in rows:
        other = int(rng.choice(np.flatnonzero(labels == labels[row])))
        edge = int(rng.integers(bands // 8, bands - bands // 8))
        if rng.random() < 0.5:
            picture[row, :, edge:] = whole[other, :, edge:]
        else:
            picture[row, :, :edge] = whole[other, :, :edge]
    return picture


def drop_out(network, share):
    """Drops a share of what the last layer is given, while training: a hook, so that the weights keep torchvision's names."""
    network.avgpool.register_forward_hook(lambda module, _input, output: F.dropout(output, share, module.training))


@torch.no_grad()
def shrink(network, fresh, keep):
    """Weights drawn towards a fresh draw: what was learnt by heart goes first, the rest is found again (Ash and Adams 2020).
    Normalisation and the last layer stay."""
    for (name, own), new in zip(network.named_parameters(), fresh.parameters()):
        if own.ndim == 4:
            own.mul_(keep).add_(new, alpha=1 - keep)


def mix_style(picture, rng, share):
    """A share of the pictures takes on, band by band, some of another's mean and deviation over time: another microphone, another
    room (MixStyle, Zhou et al. 2021, over frequency as in Schmid et al. 2022). The label stays: more than half is its own."""
    mean, deviation = picture.mean((1, 3), keepdim=True), picture.std((1, 3), keepdim=True) + 1e-3
    partner, weight = partners(picture, rng, share)
    mixed = [own * weight + own[partner] * (1 - weight) for own in (mean, deviation)]
    return (picture - mean) / deviation * mixed[1] + mixed[0]


def alarm_logit(logits, alarm):
    """Log-odds of the alarm label against all others together."""
    others = torch.cat([logits[:, :alarm], logits[:, alarm + 1 :]], 1)
    return logits[:, alarm] - torch.logsumexp(others, 1)


@torch.no_grad()
def towards(averaged, current, count):
    """An exponential average with a memory of 500 steps, and of a tenth of the run while that is shorter: what a run began with is forgotten."""
    keep = min(0.998, (1 + int(count)) / (10 + int(count)))
    for mean, value in zip(averaged, current):
        # Counters are whole numbers.
        mean.lerp_(value, 1 - keep) if mean.is_floating_point() else mean.copy_(value)


def measure_normalisation(scenes, front_end, length, seed, count=256):
    """Per-band mean and deviation of the log-mel picture over training windows."""
    sounds = np.stack([scenes.window(np.random.default_rng([seed, 10**9, i]), length)[0] for i in range(count)])
    log_mel = front_end.log_mel(torch.from_numpy(sounds))
    return log_mel.mean((0, 2)).tolist(), log_mel.std((0, 2)).tolist()


def beginning(init):
    """The front end that `--init`'s weights were trained behind; None where that is none of ours."""
    if not init or init == "imagenet":
        return None
    manifest = read_manifest(Path(init) / "manifest.toml") if Path(init).is_dir() else torch.load(init, map_location="cpu")["manifest"]
    return manifest["front_end"]


def weights(init, scenes, seed, device):
    """`--init`'s weights as a state dict."""
    if init == "imagenet":
        return imagenet()
    if not Path(init).is_dir():
        return torch.load(init, map_location=device)["network"]
    # Behind its own front end: the figures of its normalisation layers are those of the pictures it knows.
    manifest = read_manifest(Path(init) / "manifest.toml")
    front_end = FrontEnd(manifest["front_end"], RATE).to(device)
    network = of_manifest(manifest).to(device)
    window = int(manifest["front_end"]["window_s"] * RATE)
    batches = [np.stack([scenes.window(np.random.default_rng([seed, 10**9 + 1 + b, i]), window)[0] for i in range(64)]) for b in range(4)]
    off = warm_start(network, init, [front_end(torch.from_numpy(batch).to(device)) for batch in batches])
    print(f"giving normalisation back moved a logit by {off:.1e}", flush=True)
    return network.state_dict()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--short-share", type=float, default=0.6, help="share of the schedule that sees windows of --short-s")
    parser.add_argument("--short-s", type=float, default=2.0)
    parser.add_argument("--depth", type=int, default=34, choices=[18, 34], help="18: half the work, for comparisons")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="bfloat16 autocast; faster where the processor computes it")
    parser.add_argument("--minutes", type=float, help="spread the schedule over this time instead of --steps; a busy machine takes fewer steps")
    parser.add_argument("--init", help="what to start from: model.pt of an earlier run, a model folder, or `imagenet` (torchvision's weights)")
    parser.add_argument("--everyday", help="the folder that everyday.py filled: hours of music, talk and engines to train on")
    parser.add_argument("--acted", help="the folder that acted.py filled: acted screams, and animals, to train on")
    parser.add_argument("--hard", type=float, default=0, help="draw what the network so far takes for a scream up to so many times more often")
    parser.add_argument("--mix-style", type=float, default=0, help="share of pictures that take on some of another's colour")
    parser.add_argument("--mixup", type=float, default=0.3, help="share of pictures that are blended with another, and what is wanted of them too")
    parser.add_argument("--splice", type=float, default=0, help="share of pictures whose bands above or below one come from another of the same label")
    parser.add_argument("--hide", type=float, default=0, help="share of pictures that lose a quarter of their bands")
    parser.add_argument("--drop-out", type=float, default=0, help="share of the last layer's input that is dropped")
    parser.add_argument("--shrink", type=float, default=1, help="how much of --init's convolutions is kept, the rest drawn anew")
    parser.add_argument("--acted-share", type=float, default=0.2, help="share of the screams that --acted's actors scream")
    parser.add_argument("--synthesised-share", type=float, default=0, help="share of the screams that screams.py makes up")
    parser.add_argument("--throats", type=float, default=0, help="share of clips whose voice is given another tract or melody")
    parser.add_argument("--teach", nargs="+", default=[], metavar="MODEL=SHARE", help="networks whose opinion together is half of what is wanted")
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
    everyday = Everyday(args.everyday) if args.everyday else None
    acted = Acted(args.acted) if args.acted else None
    scenes = Scenes(
        clips, "train", labels, manifest["alarm_labels"][0], np.load(rooms_file), everyday=everyday,
        acted=acted, acted_share=args.acted_share, synthesised_share=args.synthesised_share, throats=args.throats,
    )
    scenes.batch = args.batch

    window = int(manifest["front_end"]["window_s"] * RATE)
    config = manifest["front_end"]
    earlier = beginning(args.init)
    # Weights fit the normalisation they were trained with.
    if config["normalisation"] == "fixed" and earlier and earlier["normalisation"] == "fixed":
        config.update({key: earlier[key] for key in ("mean", "deviation")})
    if config["normalisation"] == "fixed" and "mean" not in config:
        config["mean"], config["deviation"] = [0.0] * config["n_mels"], [1.0] * config["n_mels"]
        config["mean"], config["deviation"] = measure_normalisation(scenes, FrontEnd(config, RATE), window, args.seed)
    front_end = FrontEnd(config, RATE).to(device)
    network = of_manifest(manifest, args.depth).to(device, memory_format=torch.channels_last)
    checkpoint = work / "checkpoint.pt"
    # A run that goes on has its weights already.
    if args.init and not checkpoint.exists():
        take(network, weights(args.init, scenes, args.seed, device))
        if args.shrink < 1:
            shrink(network, of_manifest(manifest, args.depth).to(device), args.shrink)
        print(f"starts from {args.init}", flush=True)
    if args.drop_out:
        drop_out(network, args.drop_out)
    teachers = Teachers(args.teach, labels, device) if args.teach else None
    average = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=towards, use_buffers=True)
    decay = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW([{"params": decay, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}], lr=args.rate)
    step, spent_s = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step, spent_s = state["step"], state["spent_s"]
        print(f"goes on from step {step}", flush=True)

    if args.hard:
        average.module.eval()
        rows = [int(i) for i in scenes.other[0]]
        scores = score_clips(average.module, front_end, clips, rows, labels, alarm, device, args.bf16)
        scenes.favour(dict(zip(rows, scores)), args.hard)
        print(f"{np.sum(scores > 0.5)} of {len(rows)} other clips are taken for screams and drawn more often", flush=True)

    # Shared with the workers, which draw ahead: how far the schedule is, 0..1.
    progress = torch.multiprocessing.Value("d", 0.0)
    began = time.time()

    def advance():
        progress.value = min(1.0, (spent_s + time.time() - began) / (60 * args.minutes) if args.minutes else step / args.steps)
        return progress.value

    def length_of(k):
        short = progress.value < args.short_share if args.minutes else k < args.short_share * args.steps
        return int(args.short_s * RATE) if short else window

    loader = iter(torch.utils.data.DataLoader(Windows(scenes, args.seed, step, length_of), batch_size=None, num_workers=args.workers, prefetch_factor=4 if args.workers else None))
    rng = np.random.default_rng([args.seed, 77, step])
    losses, saved = [], time.time()
    begin_step = step
    log = open(work / "log.jsonl", "a")

    def save(final=False):
        figures = validate(average.module)
        log.write(json.dumps({"step": step, "loss": float(np.mean(losses[-100:] or [0])), **figures}) + "\n")
        log.flush()
        print(f"step {step}: validation {figures}", flush=True)
        temporary = checkpoint.with_suffix(".new")
        torch.save({"network": network.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "spent_s": spent_s + time.time() - began}, temporary)
        temporary.rename(checkpoint)
        torch.save({"network": average.module.state_dict(), "manifest": manifest, "depth": args.depth, "validation": figures, "step": step}, work / "model.pt")

    def validate(model):
        model.eval()
        rows = [i for i, row in enumerate(clips.rows) if row["split"] == "val"]
        scores = score_clips(model, front_end, clips, rows, labels, alarm, device, args.bf16)
        return summary(np.array([clips.rows[i]["label"] == "1" for i in rows]), scores)

    while (done := advance()) < 1:
        sound, target = next(loader)
        scale = min(1.0, (step + 1) / 150) * (0.5 + 0.5 * math.cos(math.pi * done)) + 1e-3
        for group in optimiser.param_groups:
            group["lr"] = args.rate * scale
        network.train()
        wanted = F.one_hot(target, len(labels)).float().to(device)
        with torch.no_grad():
            sound = sound.to(device)
            picture = front_end(sound)
            if teachers:
                wanted = (wanted + teachers(sound)) / 2
            if args.mix_style:
                picture = mix_style(picture, rng, args.mix_style)
            if args.splice:
                picture = splice(picture, target, rng, args.splice)
            picture, wanted = mixup(picture, wanted, rng, args.mixup)
            picture = spec_augment(picture, rng)
            if args.hide:
                picture = hide(picture, rng, args.hide)
            picture = picture.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=args.bf16):
            logits = network(picture)
        logits = logits.float()
        scream = wanted[:, alarm] * 0.94 + 0.03
        loss = F.cross_entropy(logits, wanted, label_smoothing=0.05) + F.binary_cross_entropy_with_logits(alarm_logit(logits, alarm), scream)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        average.update_parameters(network)
        losses.append(loss.item())
        step += 1
        if step % 20 == 0:
            pace = (step - begin_step) / (time.time() - began)
            print(f"step {step}, {done:.1%}, loss {np.mean(losses[-50:]):.3f} {pace * args.batch:.0f} windows/s", flush=True)
        if time.time() - saved > 600:
            save()
            saved = time.time()
    save(final=True)


if __name__ == "__main__":
    main()
