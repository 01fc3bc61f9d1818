"""thinwire with Hugging Face Accelerate: attach to the model that `prepare` returns.

    torchrun --nproc-per-node 2 -m examples.accelerate --steps 200 --codec int8

Run it as a module, as here: by its path, Python would take this file for the package of the same name.
"""

import argparse

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import thinwire as tw

BATCH, FEATURES, CLASSES = 64, 32, 10


def main() -> tuple[nn.Module, tw.ddp.HookState]:
    """Train on this rank. Returns the model and the hook's state."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--codec", default="int8", help="int8, int4, sign1, topk:density=0.01, ...")
    options = parser.parse_args()

    accelerator = Accelerator(cpu=True)
    torch.manual_seed(0)
    # The task: which of ten directions is a point closest to? One epoch has as many steps as were asked for.
    points = torch.randn(options.steps * BATCH * accelerator.num_processes, FEATURES)
    classes = (points @ torch.randn(FEATURES, CLASSES)).argmax(1)
    layers = [nn.Linear(FEATURES, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, CLASSES)]
    model = nn.Sequential(*layers)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loader = DataLoader(TensorDataset(points, classes), BATCH, shuffle=True)

    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    # DistributedDataParallelKwargs(comm_hook=...) knows PyTorch's own hooks only.
    state = tw.ddp.attach(model, codec=options.codec)

    for step, (inputs, targets) in enumerate(loader, 1):
        loss = cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
        if accelerator.is_main_process and (step % 20 == 0 or step == options.steps):
            print(f"step {step}: loss {loss.item():.3f}", flush=True)

    if accelerator.is_main_process:
        print(state.report())
    accelerator.end_training()
    return accelerator.unwrap_model(model), state


if __name__ == "__main__":
    main()
