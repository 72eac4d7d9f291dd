"""Networks whose opinion another is trained towards: an ensemble, distilled into one (Hinton et al. 2015).

Each hears the same sound through its own front end; what they say together is the softmax of their logits' weighted mean.
"""

import torch
import torch.nn.functional as F

from clips import RATE
from front_end import FrontEnd
from network import of_model


class Teachers:
    """`parts`: `MODEL.pt=SHARE` each, as for average.py; the shares add up to 1 and the labels are those of the network that is taught."""

    def __init__(self, parts, labels, device):
        self.members = []
        for part in parts:
            path, _, share = part.rpartition("=")
            if not path:
                raise SystemExit(f"--teach {part}: MODEL.pt=SHARE is asked for")
            state = torch.load(path, map_location=device)
            if state["manifest"]["labels"] != labels:
                raise SystemExit(f"--teach {path}: its labels are not those of the manifest")
            network = of_model(state).to(device, memory_format=torch.channels_last)
            self.members.append((network, FrontEnd(state["manifest"]["front_end"], RATE).to(device), float(share)))
        total = sum(share for *_, share in self.members)
        if abs(total - 1) > 1e-6:
            raise SystemExit(f"--teach: the shares add up to {total}, not 1")

    @torch.no_grad()
    def __call__(self, sound):
        """Sound of shape (batch, samples) to probabilities of shape (batch, labels)."""
        logits = 0
        for network, front_end, share in self.members:
            picture = front_end(sound).contiguous(memory_format=torch.channels_last)
            logits = logits + share * F.log_softmax(network(picture).float(), 1)
        return torch.softmax(logits, 1)
