"""A job that goes on where it was when a rank dies.

    torchrun --standalone --nproc-per-node 2 --max-restarts 3 -m examples.resume --folder checkpoints

Kill a rank (kill -9), or all of it, and start it again: the weights come out bit for bit as if nothing had
happened. A checkpoint holds everything that the next step depends on: model and optimizer, the step (it says
where the sampler is), and for each rank its random numbers and what its compressed gradients still owe.
"""

import argparse
import os
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DistributedSampler, TensorDataset

import thinwire as tw

BATCH, FEATURES, CLASSES, POINTS = 64, 32, 10, 4096


def main() -> tuple[nn.Module, tw.ddp.HookState]:
    """Train on this rank. Returns the model and the hook's state."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--codec", default="int8", help="int8, int4, sign1, topk:density=0.01, ...")
    parser.add_argument("--folder", required=True, help="where the checkpoints are kept")
    parser.add_argument("--every", type=int, default=5, help="steps between two checkpoints")
    options = parser.parse_args()

    join()
    torch.manual_seed(0)  # the same task on all ranks: which of ten directions is a point closest to?
    points, directions = torch.randn(POINTS, FEATURES), torch.randn(FEATURES, CLASSES)
    data = TensorDataset(points, (points @ directions).argmax(1))
    layers = [
        nn.Linear(FEATURES, 256),
        nn.ReLU(),
        nn.Linear(256, 256),
        nn.Dropout(0.1),
        nn.Linear(256, CLASSES),
    ]
    # Else DDP rearranges its buckets after the first step of every start, and other ranks round first in it.
    model = DistributedDataParallel(nn.Sequential(*layers), find_unused_parameters=True)
    state = tw.ddp.attach(model, codec=options.codec)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    torch.manual_seed(1 + dist.get_rank())  # different dropout on each

    saver = tw.store.Checkpointer(options.folder, process_group=dist.group.WORLD, keep_last=3)
    step = resume(saver, model, optimizer, state)
    while step < options.steps:
        inputs, targets = data[batch(step)]
        loss = cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % options.every == 0:
            save(saver, step, model, optimizer, state)
        if dist.get_rank() == 0 and (step % 20 == 0 or step == options.steps):
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    saver.close()  # waits for the last one

    if dist.get_rank() == 0:
        print(state.report())
    dist.destroy_process_group()
    return model.module, state


def join() -> None:
    """Join the process group of this start of the job.

    torchrun may keep one store for all starts: without a prefix, a rank can find the address of a dead one.
    """
    store, rank, world_size = next(dist.rendezvous("env://"))
    start = dist.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    dist.init_process_group("gloo", store=start, rank=rank, world_size=world_size)


def batch(step: int) -> list[int]:
    """This rank's points in a step, wherever training began: their order depends on the epoch alone."""
    sampler: DistributedSampler[Any] = DistributedSampler(range(POINTS), seed=0)  # type: ignore[arg-type]
    steps_an_epoch = len(sampler) // BATCH
    sampler.set_epoch(step // steps_an_epoch)
    first = step % steps_an_epoch * BATCH
    return list(sampler)[first : first + BATCH]


def save(
    saver: Any, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, state: tw.ddp.HookState
) -> None:
    """Stage a checkpoint; training goes on while it is stored."""
    shared = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
    own = {"hook": state.state_dict(), "random": torch.get_rng_state()}
    saver.save(shared, step, blocking=False, rank_state=own)


def resume(saver: Any, model: nn.Module, optimizer: torch.optim.Optimizer, state: tw.ddp.HookState) -> int:
    """Take up the latest checkpoint; the number of steps done, 0 where there is none."""
    step: int | None = saver.latest()
    if step is None:
        return 0
    shared, own = saver.load(step=step), saver.load_rank_state(step)
    model.load_state_dict(shared["model"])
    optimizer.load_state_dict(shared["optimizer"])
    state.load_state_dict(own["hook"])
    torch.set_rng_state(own["random"])
    return step


if __name__ == "__main__":
    main()
