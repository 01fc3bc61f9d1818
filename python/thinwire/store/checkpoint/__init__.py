"""Checkpoints of torch in a store: `Checkpointer`, and what torch.distributed.checkpoint needs."""

from __future__ import annotations

from thinwire.store.checkpoint.checkpointer import Checkpointer
from thinwire.store.checkpoint.filling import Skipped
from thinwire.store.checkpoint.saving import Save

__all__ = ["Checkpointer", "Save", "Skipped"]
