"""An early opinion: a dense layer over the means of the network's third stage, whose logits add to the last stage's.

    python early.py OUT.pt --data DIR --work DIR --model ../scream-resnet34 [--share 2]

The last stage (13 of 21 million weights) knows its training screams by heart; what the stage before has learnt holds on sounds that it never
heard (linear probes: Alain and Bengio 2016; heads at several depths: Lee et al. 2015, "Deeply-supervised nets"). The network stays as it
is. The layer learns the labels from `--windows` training windows, which are blended as mixup blends pictures, by train.py's loss;
`--share` times its logits are added to the last stage's: what both believe is surer than what either does.
"""

import argparse
from multiprocessing import Process
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from acted import Acted
from augment import Scenes
from clips import RATE, Clips
from everyday import Everyday
from front_end import FrontEnd, read_manifest
from network import STAGE_CHANNELS, two_depths
from train import alarm_logit, weights

BATCH = 64


def scenes_of(args, manifest):
    """Training windows as train.py draws them."""
    work = Path(args.work)
    return Scenes(
        Clips(args.data, work / "cache"), "train", manifest["labels"], manifest["alarm_labels"][0], np.load(work / "cache" / "rooms.npy"),
        everyday=Everyday(work / "everyday") if (work / "everyday").exists() else None,
        acted=Acted(work / "acted") if (work / "acted").exists() else None,
    )


@torch.no_grad()
def draw(args, manifest, state, worker, file):
    """The third stage's means over this worker's share of the windows, and their labels."""
    torch.set_num_threads(1)
    scenes = scenes_of(args, manifest)
    scenes.batch = BATCH
    network = two_depths(manifest)
    network.load_state_dict(state, strict=False)
    network.eval()
    front_end = FrontEnd(manifest["front_end"], RATE)
    window = int(manifest["front_end"]["window_s"] * RATE)
    means, labels = [], []
    for batch in tqdm(range(args.windows // args.workers // BATCH), f"windows, part {worker}", disable=worker > 0):
        sound, label = zip(*(scenes.window(np.random.default_rng([args.seed, worker, batch, i]), window) for i in range(BATCH)))
        means.append(network.third_stage(front_end(torch.from_numpy(np.stack(sound)))).mean((2, 3)).numpy())
        labels += label
    np.savez(file, mean=np.concatenate(means), label=np.array(labels))


def learn(means, labels, alarm, args):
    """The layer, on means that are brought to mean 0 and deviation 1; which is then put into its weights."""
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    centre, deviation = means.mean(0), means.std(0) + 1e-3
    means = (means - centre) / deviation
    layer = torch.nn.Linear(STAGE_CHANNELS, labels.shape[1])
    optimiser = torch.optim.AdamW(layer.parameters(), lr=5e-3, weight_decay=0.1)
    size = 256
    steps = args.epochs * (len(means) // size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        at = step % (len(means) // size)
        if at == 0:
            order = torch.from_numpy(rng.permutation(len(means)))
        rows = order[at * size :][:size]
        others = rows[torch.from_numpy(rng.permutation(size))]
        keep = torch.from_numpy(rng.uniform(0.5, 1.0, (size, 1))).float()
        logits = layer(F.dropout(means[rows] * keep + means[others] * (1 - keep), 0.3))
        wanted = labels[rows] * keep + labels[others] * (1 - keep)
        loss = F.cross_entropy(logits, wanted, label_smoothing=0.05)
        loss = loss + F.binary_cross_entropy_with_logits(alarm_logit(logits, alarm), wanted[:, alarm] * 0.94 + 0.03)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    print(f"loss {loss.item():.3f}")
    with torch.no_grad():
        layer.weight.div_(deviation)
        layer.bias.sub_(layer.weight @ centre)
    return layer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--data", required=True)
    parser.add_argument("--work", required=True, help="holds train.py's cache, and everyday/ and acted/ where they are to be drawn from")
    parser.add_argument("--model", required=True, help="a model folder, or a model.pt; such a layer that it has is trained anew")
    parser.add_argument("--share", type=float, default=2.0, help="how much the early opinion counts beside the last stage's")
    parser.add_argument("--windows", type=int, default=26000)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=21)
    args = parser.parse_args()
    path = Path(args.model)
    manifest = read_manifest(path / "manifest.toml") if path.is_dir() else torch.load(path, map_location="cpu")["manifest"]
    alarm = manifest["labels"].index(manifest["alarm_labels"][0])
    state = weights(args.model, scenes_of(args, manifest), 1, torch.device("cpu"))
    files = [Path(args.work) / "cache" / f"early-{worker}.npz" for worker in range(args.workers)]
    parts = [Process(target=draw, args=(args, manifest, state, worker, file)) for worker, file in enumerate(files) if not file.exists()]
    for part in parts:
        part.start()
    for part in parts:
        part.join()
        if part.exitcode:
            raise SystemExit(f"drawing windows ended with {part.exitcode}")
    drawn = [np.load(file) for file in files]
    means = torch.from_numpy(np.concatenate([part["mean"] for part in drawn]))
    labels = torch.from_numpy(np.concatenate([part["label"] for part in drawn]))
    layer = learn(means, F.one_hot(labels, len(manifest["labels"])).float(), alarm, args)
    network = two_depths(manifest)
    network.load_state_dict(state, strict=False)
    with torch.no_grad():
        network.early_fc.weight.copy_(layer.weight * args.share)
        network.early_fc.bias.copy_(layer.bias * args.share)
    torch.save({"network": network.state_dict(), "manifest": manifest, "depth": 34, "validation": None, "step": 0}, args.out)
    print(f"{args.out}: {args.model} with an early opinion")


if __name__ == "__main__":
    main()
