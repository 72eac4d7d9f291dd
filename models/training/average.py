"""A network whose weights are the weighted average of others that began as the same one.

    python average.py OUT.pt --data DIR --work DIR A.pt=0.25 B.pt=0.25 ../scream-resnet34=0.5

A model folder stands with normalisation given back (warm_start.py), and with its priors taken off where `--prior LABEL=LOGITS` names them: they
are added again on export. The front end is that of the last `.pt`; weights that began elsewhere do not add up to a network.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from acted import Acted
from augment import Scenes
from clips import Clips
from everyday import Everyday
from front_end import read_manifest
from train import weights


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("parts", nargs="+", metavar="MODEL=SHARE")
    parser.add_argument("--data", required=True)
    parser.add_argument("--work", required=True, help="holds train.py's cache, and everyday/ and acted/ where they were trained with")
    parser.add_argument("--prior", nargs="*", default=[], metavar="LABEL=LOGITS", help="what a model folder's export added to its logits")
    args = parser.parse_args()
    parts = [(path, float(share)) for path, share in (part.rsplit("=", 1) for part in args.parts)]
    if abs(sum(share for _, share in parts) - 1) > 1e-6:
        raise SystemExit(f"the shares add up to {sum(share for _, share in parts)}, not 1")
    states = [torch.load(path, map_location="cpu") for path, _ in parts if Path(path).is_file()]
    if not states:
        raise SystemExit("one part must be a model.pt: the front end is taken from it")
    last = states[-1]
    labels = last["manifest"]["labels"]
    work = Path(args.work)
    scenes = Scenes(
        Clips(args.data, work / "cache"), "train", labels, last["manifest"]["alarm_labels"][0], np.load(work / "cache" / "rooms.npy"),
        everyday=Everyday(work / "everyday") if (work / "everyday").exists() else None,
        acted=Acted(work / "acted") if (work / "acted").exists() else None,
    )
    total = None
    for path, share in parts:
        state = weights(path, scenes, 1, torch.device("cpu"))
        if Path(path).is_dir():
            own = read_manifest(Path(path) / "manifest.toml")
            if own["front_end"] | {"mean": 0, "deviation": 0} != last["manifest"]["front_end"] | {"mean": 0, "deviation": 0}:
                raise SystemExit(f"{path}: another front end than {parts[-1][0]}'s")
            for label, logits in (prior.split("=") for prior in args.prior):
                state["fc.bias"][labels.index(label)] -= float(logits)
        shares = {key: value * share if value.is_floating_point() else value for key, value in state.items()}
        total = shares if total is None else {key: total[key] + value if value.is_floating_point() else value for key, value in shares.items()}
    torch.save({**last, "network": total}, args.out)
    print(f"{args.out}: the average of {', '.join(path for path, _ in parts)}")


if __name__ == "__main__":
    main()
