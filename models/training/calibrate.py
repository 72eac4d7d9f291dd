"""Temperature and threshold from the validation split.

    python calibrate.py SCORES.csv

SCORES.csv is what `host-tools eval --split val --scores` writes with `temperature = 1`. The temperature is the one of least
negative log-likelihood on the log-odds of scream against all else; the threshold the one of best balanced accuracy between
its neighbours' plateau. Both are printed, with the accuracy that each threshold gives.
"""

import csv
import sys

import numpy as np


def main():
    rows = [row for row in csv.DictReader(open(sys.argv[1], newline="")) if row["label"] in ("0", "1")]
    truth = np.array([row["label"] == "1" for row in rows])
    score = np.clip(np.array([float(row["score"]) for row in rows]), 1e-6, 1 - 1e-6)
    odds = np.log(score / (1 - score))

    def loss(temperature, shift):
        z = (odds + shift) / temperature
        return np.mean(np.logaddexp(0, np.where(truth, -z, z)))

    temperatures, shifts = np.linspace(0.2, 2, 91), np.linspace(-3, 3, 61)
    table = np.array([[loss(t, s) for s in shifts] for t in temperatures])
    t, s = np.unravel_index(table.argmin(), table.shape)
    plain = np.array([loss(t, 0.0) for t in temperatures])
    print(f"temperature {temperatures[plain.argmin()]:.2f} (NLL {plain.min():.4f}, at 1: {loss(1.0, 0.0):.4f}); "
          f"with a shift of {shifts[s]:.1f} it would be {temperatures[t]:.2f} ({table.min():.4f})")
    for threshold in np.arange(0.1, 0.96, 0.05):
        flagged = score >= threshold
        recall, wrong = flagged[truth].mean(), flagged[~truth].mean()
        print(f"threshold {threshold:.2f}: accuracy {np.mean(flagged == truth):.4f} recall {recall:.4f} false {wrong:.4f} balanced {(recall + 1 - wrong) / 2:.4f}")


if __name__ == "__main__":
    main()
