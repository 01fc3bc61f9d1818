"""thinwire with Lightning: a callback attaches when training starts.

    torchrun --nproc-per-node 2 -m examples.lightning --steps 200 --codec int8

Run it as a module, as here: by its path, Python would take this file for the package of the same name.
"""

import argparse
import os

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import thinwire as tw

BATCH, FEATURES, CLASSES = 64, 32, 10


class Thinwire(L.Callback):
    """Compresses the gradients of a run under DDPStrategy.

    DDPStrategy's own place for hooks, `ddp_comm_state` and `ddp_comm_hook`, does not do: Lightning ignores it
    unless the model is on a GPU, and asks for the state before the process group exists that it needs.
    """

    def __init__(self, codec: str) -> None:
        self.codec = codec

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.state = tw.ddp.attach(trainer.strategy.model, codec=self.codec)


class Classifier(L.LightningModule):
    """A small network that says which class a point is in."""

    def __init__(self) -> None:
        super().__init__()
        layers = nn.Linear(FEATURES, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, CLASSES)
        self.network = nn.Sequential(*layers)

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        points, classes = batch
        loss = cross_entropy(self.network(points), classes)
        step = self.global_step + 1
        if step % 20 == 0 or step == self.trainer.max_steps:
            self.print(f"step {step}: loss {loss.item():.3f}", flush=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def main() -> tuple[nn.Module, tw.ddp.HookState]:
    """Train on this rank. Returns the model and the hook's state."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--codec", default="int8", help="int8, int4, sign1, topk:density=0.01, ...")
    options = parser.parse_args()

    torch.manual_seed(0)
    points = torch.randn(16384, FEATURES)  # the task: which of ten directions is a point closest to?
    classes = (points @ torch.randn(FEATURES, CLASSES)).argmax(1)
    loader = DataLoader(TensorDataset(points, classes), BATCH, shuffle=True)
    model, thinwire = Classifier(), Thinwire(options.codec)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=int(os.environ["LOCAL_WORLD_SIZE"]),
        num_nodes=int(os.environ["GROUP_WORLD_SIZE"]),
        strategy=DDPStrategy(process_group_backend="gloo"),
        callbacks=[thinwire],
        max_steps=options.steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, loader)

    if trainer.is_global_zero:
        print(thinwire.state.report())
    return model, thinwire.state


if __name__ == "__main__":
    main()
