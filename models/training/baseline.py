"""What came before: MFCC and spectral contrast with a classical classifier, on the same split, beside the network.

    pip install -r requirements-baseline.txt
    python baseline.py --data DIR --background DIR --manifest ../default/manifest.toml [--network EVAL.json] [--bench BENCH.json]

Clips are cut and laid as `host-tools eval` lays them (clips.py), windows, stride, votes, hold and cooldown are the manifest's.
Features: mean and deviation over the window of 20 MFCC, their differences, and spectral contrast in 7 bands (librosa). A support
vector machine with a Gaussian kernel and a random forest (scikit-learn) learn from the training split; the better one on
the validation split is taken, at its threshold of best balanced accuracy there. The test split and the background's test half
only report. --network and --bench put the figures of `eval --json` and `bench --json` beside it.
"""

import argparse
import csv
import json
import time
import tomllib
from pathlib import Path

import librosa
import numpy as np
import soundfile
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from tqdm import tqdm

from clips import RATE, Clips, cut_and_lay

N_FFT, HOP = 1024, 512


def features(sound):
    """One vector a window."""
    power = np.abs(librosa.stft(sound, n_fft=N_FFT, hop_length=HOP)) ** 2
    mel = librosa.feature.melspectrogram(S=power, sr=RATE, n_mels=64)
    mfcc = librosa.feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=20)
    contrast = librosa.feature.spectral_contrast(S=np.sqrt(power), sr=RATE, fmin=100, n_bands=6)
    rows = np.concatenate([mfcc, np.diff(mfcc, axis=1, prepend=mfcc[:, :1]), contrast])
    return np.concatenate([rows.mean(1), rows.std(1)])


def of_clips(clips, split, window):
    """Features and truth of a split's clips, each cut and laid: one window."""
    picked = [i for i, row in enumerate(clips.rows) if row["split"] == split]
    laid = (cut_and_lay(clips.sound(i), clips.rows[i]["file"], window)[:window] for i in picked)
    vectors = np.stack([features(sound) for sound in tqdm(laid, split, len(picked))])
    return vectors, np.array([clips.rows[i]["label"] == "1" for i in picked])


def of_recording(path, window, stride):
    """Features of every window of a recording, its end zero-padded as the device does, and its length in seconds."""
    sound, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE and sound.ndim == 1, path
    count = 1 + max(0, -(-(len(sound) - window) // stride))
    padded = np.zeros((count - 1) * stride + window, np.float32)
    padded[: len(sound)] = np.clip(sound, -1, 1)
    return np.stack([features(padded[i * stride : i * stride + window]) for i in range(count)]), len(sound) / RATE


def alarms(scores, threshold, decision, window_s):
    """Alarm starts: the product's decision (firmware/detector/src/alarm.rs) with the threshold for both levels."""
    needed, of = decision["votes"]["needed"], decision["votes"]["of"]
    hits, starts, kept_until, free_from = [], 0, None, 0.0
    for i, score in enumerate(scores):
        now = window_s + i * decision["stride_s"]
        hits = (hits + [score >= threshold])[-of:]
        if kept_until is not None and now > kept_until + decision["hold_s"]:
            free_from, kept_until = kept_until + decision["hold_s"] + decision["cooldown_s"], None
        if kept_until is not None:
            kept_until = now if hits[-1] else kept_until
        elif hits[-1] and sum(hits) >= needed and now >= free_from:
            starts, kept_until = starts + 1, now
    return starts


def best_threshold(truth, scores):
    """Of best balanced accuracy: the middle between its score and the next lower one."""
    order = np.unique(scores)
    balanced = [((scores[truth] >= t).mean() + (scores[~truth] < t).mean()) / 2 for t in order]
    best = int(np.argmax(balanced))
    return float(order[best] if best == 0 else (order[best] + order[best - 1]) / 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--background", required=True)
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--cache", default="../../work/cache")
    parser.add_argument("--network")
    parser.add_argument("--bench")
    args = parser.parse_args()
    manifest = tomllib.loads(Path(args.manifest).read_text())
    decision, window_s = manifest["decision"], manifest["front_end"]["window_s"]
    window, stride = int(window_s * RATE), int(decision["stride_s"] * RATE)
    clips = Clips(args.data, args.cache)
    sets = {split: of_clips(clips, split, window) for split in ("train", "val", "test")}

    kinds = {
        "SVM, Gaussian kernel": make_pipeline(StandardScaler(), SVC(C=10, class_weight="balanced")),
        "random forest": RandomForestClassifier(500, class_weight="balanced", random_state=1),
    }
    found = []
    for name, model in kinds.items():
        model.fit(*sets["train"])
        score = getattr(model, "decision_function", None) or (lambda x, model=model: model.predict_proba(x)[:, 1])
        found.append((roc_auc_score(sets["val"][1], score(sets["val"][0])), name, score))
        print(f"{name}: AUC {found[-1][0]:.4f} on the validation split")
    _, name, score = max(found, key=lambda kind: kind[0])
    threshold = best_threshold(sets["val"][1], score(sets["val"][0]))
    truth, scores = sets["test"][1], score(sets["test"][0])
    hours, count = 0.0, 0
    rows = [r for r in csv.DictReader(open(Path(args.background) / "manifest.csv", newline="")) if r["split"] == "test"]
    for row in tqdm(rows, "background"):
        vectors, seconds = of_recording(Path(args.background) / row["file"], window, stride)
        hours, count = hours + seconds / 3600, count + alarms(score(vectors), threshold, decision, window_s)
    sound = clips.sound(0)
    sound = np.resize(sound, window)
    took = []
    for _ in range(100):
        began = time.perf_counter()
        score(features(sound)[None])
        took.append(1000 * (time.perf_counter() - began))

    table = [("test split", f"MFCC + contrast, {name}")]
    table.append(("accuracy", f"{np.mean((scores >= threshold) == truth):.4f}"))
    table.append(("ROC-AUC", f"{roc_auc_score(truth, scores):.4f}"))
    table.append(("false alarms an hour", f"{count / hours:.2f} ({count} in {hours:.2f} h)"))
    table.append(("time per window, ms", f"{np.median(took):.1f}"))
    if args.network:
        network = json.loads(Path(args.network).read_text())
        background = network.get("background")
        rate = f"{background['per_hour']:.2f} ({background['alarms']} in {background['hours']:.2f} h)" if background else "-"
        bench = json.loads(Path(args.bench).read_text())["total_ms"]["p50"] if args.bench else None
        beside = [
            network["model"],
            f"{network['clips']['accuracy']:.4f}",
            f"{network['clips']['roc_auc']:.4f}",
            rate,
            f"{bench:.1f}" if bench else "-",
        ]
        table = [(*row, cell) for row, cell in zip(table, beside)]
    for i, row in enumerate(table):
        print("| " + " | ".join(row) + " |")
        if i == 0:
            print("|---" * len(row) + "|")


if __name__ == "__main__":
    main()
