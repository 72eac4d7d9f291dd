"""What a network is shown and asked, compared: ResNet18s trained alike on one manifest but for one thing each.

    python compare_inputs.py --data DIR --manifest scream-resnet34.toml --work WORK [--steps 900] [options of train.py ...]

The manifest's own mean and deviation of each band come from --measured, a model folder's manifest. Variants: those; one mean and
deviation for all bands (measured over the same pictures); min-max; the labels `other` and `scream` alone. Each is trained for the same
number of steps from the same seed, hence on the same sound, and leaves WORK/NAME/model.pt and manifest.toml for export.py. Goes on
where it was stopped. Prints a table of validation figures; false alarms are `host-tools eval`'s to count.
"""

import argparse
import re
import statistics
import subprocess
import sys
from pathlib import Path

import torch

from export import with_normalisation
from front_end import read_manifest


def variants(text, measured):
    """Name and manifest text of each; `measured` holds the mean and deviation of each band."""
    mean, deviation = measured["mean"], measured["deviation"]
    # Over all bands the variance is that within bands, and that of their means.
    overall = (statistics.fmean(d**2 for d in deviation) + statistics.pvariance(mean)) ** 0.5
    line = 'normalisation = "fixed"\n'
    if line not in text:
        raise SystemExit("the manifest's normalisation must be `fixed`, which the others are compared with")
    bands = with_normalisation(text, measured)
    alike = {"mean": [statistics.fmean(mean)] * len(mean), "deviation": [overall] * len(mean)}
    return {
        "bands": bands,
        "one": with_normalisation(text, measured | alike),
        "min-max": text.replace(line, 'normalisation = "min_max"\n'),
        "two-labels": re.sub(r"^labels = .*$", 'labels = ["other", "scream"]', bands, flags=re.M),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--measured", default=str(Path(__file__).parent.parent / "scream-resnet34"))
    parser.add_argument("--work", required=True)
    parser.add_argument("--steps", type=int, default=900)
    args, others = parser.parse_known_args()
    measured = read_manifest(Path(args.measured) / "manifest.toml")["front_end"]
    made = variants(Path(args.manifest).read_text(), measured)
    train = Path(__file__).parent / "train.py"
    print("| | ROC-AUC | accuracy at its best threshold |\n|---|---|---|")
    for name, text in made.items():
        work = Path(args.work) / name
        work.mkdir(parents=True, exist_ok=True)
        (work / "manifest.toml").write_text(text)
        command = [sys.executable, train, "--data", args.data, "--manifest", work / "manifest.toml", "--work", work]
        command += ["--depth", "18", "--steps", str(args.steps), "--short-share", "1", *others]
        with open(work / "train.log", "a") as log:
            subprocess.run([str(part) for part in command], stdout=log, stderr=log, check=True)
        figures = torch.load(work / "model.pt", map_location="cpu")["validation"]
        print(f"| {name} | {figures['auc']} | {figures['accuracy_best']} |", flush=True)


if __name__ == "__main__":
    main()
