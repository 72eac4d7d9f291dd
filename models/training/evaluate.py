"""Clip figures in PyTorch, laid as the contract says; `host-tools eval` gives the figures that count.

    python evaluate.py --data DIR --model WORK/model.pt [--split val] [--lay-s 20]

With `--lay-s` a clip lies in the middle of so many seconds and is scored chunk by chunk, each of the model's window and computed once;
the largest score counts. That is what a chunk-local network sees of a long window.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from clips import RATE, Clips, cut_and_lay


def score_clips(model, front_end, clips, rows, labels, alarm, device, bf16=False, batch=32, lay_s=None):
    """The alarm label's probability of each clip, cut and laid; of `lay_s` seconds the largest of its whole windows."""
    window = int(front_end.config["window_s"] * RATE)
    chunks = max(1, int((lay_s or 0) * RATE) // window)
    batch = max(1, batch // chunks)
    scores = []
    with torch.no_grad():
        for start in range(0, len(rows), batch):
            sounds = [cut_and_lay(clips.sound(i), clips.rows[i]["file"], chunks * window)[: chunks * window] for i in rows[start : start + batch]]
            picture = front_end(torch.from_numpy(np.stack(sounds).reshape(-1, window)).to(device)).contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
                logits = model(picture).float()
            scores.append(torch.softmax(logits, 1)[:, alarm].view(-1, chunks).amax(1).cpu().numpy())
    return np.concatenate(scores)


def roc_auc(truth, scores):
    """Area under the ROC curve by ranks, ties counted half."""
    order = np.argsort(scores)
    ranks = np.empty(len(scores))
    _, inverse, counts = np.unique(scores[order], return_inverse=True, return_counts=True)
    ranks[order] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positives = truth.sum()
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * (len(truth) - positives)))


def summary(truth, scores):
    """AUC, accuracy at 0.5 and the best accuracy with its threshold."""
    candidates = np.unique(scores)
    accuracy = [(np.mean((scores >= c) == truth), c) for c in candidates]
    best, threshold = max(accuracy)
    return {
        "auc": round(roc_auc(truth, scores), 4),
        "accuracy_0.5": round(float(np.mean((scores >= 0.5) == truth)), 4),
        "accuracy_best": round(float(best), 4),
        "threshold_best": round(float(threshold), 3),
    }


def main():
    from front_end import FrontEnd
    from network import of_model

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--lay-s", type=float, help="seconds that a clip is laid in, scored in chunks")
    args = parser.parse_args()
    state = torch.load(args.model, map_location="cpu")
    manifest = state["manifest"]
    labels = manifest["labels"]
    alarm = labels.index(manifest["alarm_labels"][0])
    network = of_model(state).to(memory_format=torch.channels_last)
    clips = Clips(args.data, Path(args.model).parent.parent / "cache")
    rows = [i for i, row in enumerate(clips.rows) if row["split"] == args.split]
    scores = score_clips(network, FrontEnd(manifest["front_end"], RATE), clips, rows, labels, alarm, torch.device("cpu"), lay_s=args.lay_s)
    truth = np.array([clips.rows[i]["label"] == "1" for i in rows])
    print(json.dumps({"step": state["step"], **summary(truth, scores)}))
    flagged = {}
    for i, score in zip(rows, scores):
        name = clips.rows[i]["class"]
        n, hit = flagged.get(name, (0, 0))
        flagged[name] = (n + 1, hit + (score >= 0.5))
    for name, (n, hit) in sorted(flagged.items()):
        print(f"{name:18} {hit:4} of {n}")


if __name__ == "__main__":
    main()
