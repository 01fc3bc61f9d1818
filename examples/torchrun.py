"""thinwire with PyTorch alone.

    torchrun --nproc-per-node 2 -m examples.torchrun --steps 200 --codec int8

Wrap the model in DistributedDataParallel, then attach with one line.
"""

import argparse

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import thinwire as tw

BATCH, FEATURES, CLASSES = 64, 32, 10


def main() -> tuple[nn.Module, tw.ddp.HookState]:
    """Train on this rank. Returns the model and the hook's state."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--codec", default="int8", help="int8, int4, sign1, topk:density=0.01, ...")
    options = parser.parse_args()

    dist.init_process_group("gloo")
    torch.manual_seed(0)  # the same task on all ranks: which of ten directions is a point closest to?
    directions = torch.randn(FEATURES, CLASSES)
    layers = [nn.Linear(FEATURES, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, CLASSES)]
    model = DistributedDataParallel(nn.Sequential(*layers))
    state = tw.ddp.attach(model, codec=options.codec)

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    torch.manual_seed(1 + dist.get_rank())  # different points on each
    for step in range(1, options.steps + 1):
        points = torch.randn(BATCH, FEATURES)
        loss = cross_entropy(model(points), (points @ directions).argmax(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if dist.get_rank() == 0 and (step % 20 == 0 or step == options.steps):
            print(f"step {step}: loss {loss.item():.3f}", flush=True)

    if dist.get_rank() == 0:
        print(state.report())
    dist.destroy_process_group()
    return model.module, state


if __name__ == "__main__":
    main()
