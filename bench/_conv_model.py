"""A convolutional network that reads scikit-learn's handwritten digits (1797 images of 8 x 8 pixels)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

_TEST_IMAGES = 397
_NOISE = 0.25
"""Standard deviation of what is added to pixels in [0, 1]: without it the loss soon is nought."""


class DigitNet(nn.Module):
    """0.51 million parameters; float images [batch, 1, 8, 8] to float logits [batch, 10].

    No batch norm: its statistics would depend on how many ranks share the batch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.conv3 = nn.Conv2d(64, 128, 3, padding=1)
        self.hidden = nn.Linear(128 * 2 * 2, 800)
        self.head = nn.Linear(800, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the ten digits."""
        x = functional.relu(self.conv1(x))
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv3(x)), 2)
        logits: Tensor = self.head(functional.relu(self.hidden(x.flatten(1))))
        return logits


class DigitTask:
    """Reading digits that are shifted by up to a pixel and noisy. See `_tasks.Task`."""

    rates: Mapping[str, float] = {"adamw": 1e-3, "sgd": 0.05}

    def __init__(self, batch: int) -> None:
        """`batch` is the number of images in a global batch. ModuleNotFoundError without scikit-learn."""
        from sklearn.datasets import load_digits  # type: ignore[import-untyped]

        data = load_digits()
        order = torch.randperm(len(data.images), generator=torch.Generator().manual_seed(0))
        images = torch.from_numpy(data.images).float().div_(16).unsqueeze(1)[order]
        labels = torch.from_numpy(data.target).long()[order]
        self._images, self._labels = images[_TEST_IMAGES:], labels[_TEST_IMAGES:]
        self._test_images, self._test_labels = images[:_TEST_IMAGES], labels[:_TEST_IMAGES]
        self._batch = batch

    def model(self) -> nn.Module:
        return DigitNet()

    def batch(self, generator: torch.Generator, rank: int, world_size: int) -> tuple[Tensor, Tensor]:
        """This rank's part of a global batch: float [n, 1, 8, 8] and int64 [n]."""
        count = self._batch
        chosen = torch.randint(len(self._images), (count,), generator=generator)
        corner = torch.randint(3, (2, count), generator=generator)
        noise = _NOISE * torch.randn((count, 1, 8, 8), generator=generator)
        images = _cut_out(self._images[chosen], corner) + noise
        return images[rank::world_size], self._labels[chosen][rank::world_size]

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Mean cross-entropy in nats an image."""
        images, labels = batch
        return functional.cross_entropy(model(images), labels)

    def held_out_loss(self, model: nn.Module, rank: int, world_size: int) -> Tensor:
        """Mean loss over the test images, all on every rank: they are few."""
        with torch.no_grad():
            return self.loss(model, (self._test_images, self._test_labels))

    def accuracy(self, model: nn.Module) -> float | None:
        """Test images that are read right, in percent."""
        with torch.no_grad():
            right = model(self._test_images).argmax(1) == self._test_labels
        return float(100 * right.float().mean())


def _cut_out(images: Tensor, corner: Tensor) -> Tensor:
    """Each image [1, 8, 8] shifted: a cut-out at `corner` (int64 [2, batch], 0 to 2) of it with a margin."""
    cut_outs = functional.pad(images[:, 0], (1, 1, 1, 1)).unfold(1, 8, 1).unfold(2, 8, 1)
    return cut_outs[torch.arange(len(images)), corner[0], corner[1]].unsqueeze(1)
