"""thinwire with the Trainer of Hugging Face Transformers: a callback attaches when training starts.

    torchrun --nproc-per-node 2 -m examples.hf_trainer --steps 200 --codec int8

Run it as a module, as here: by its path, Transformers would take accelerate.py beside it for Accelerate.
"""

import argparse
import tempfile
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

import thinwire as tw

WORDS, LENGTH = 64, 32


class Thinwire(TrainerCallback):
    """Compresses the gradients of a Trainer that runs on several ranks."""

    def __init__(self, trainer: Trainer, codec: str) -> None:
        self.trainer, self.codec = trainer, codec

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.state = tw.ddp.attach(self.trainer.model_wrapped, codec=self.codec)


def main() -> tuple[nn.Module, tw.ddp.HookState]:
    """Train on this rank. Returns the model and the hook's state."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--codec", default="int8", help="int8, int4, sign1, topk:density=0.01, ...")
    options = parser.parse_args()

    # The task: to go on counting, from any number in steps of 1 to 8, modulo WORDS.
    starts, strides = torch.cartesian_prod(torch.arange(WORDS), torch.arange(1, 9)).T[..., None]
    rows = (starts + strides * torch.arange(LENGTH)) % WORDS
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=WORDS, max_position_embeddings=LENGTH, **shape))
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            use_cpu=True,
            ddp_backend="gloo",
            ddp_find_unused_parameters=False,
            max_steps=options.steps,
            per_device_train_batch_size=32,
            learning_rate=3e-3,
            logging_steps=0.1,  # of all steps
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = Trainer(model, arguments, train_dataset=[{"input_ids": row, "labels": row} for row in rows])
        thinwire = Thinwire(trainer, options.codec)
        trainer.add_callback(thinwire)
        trainer.train()

    if trainer.is_world_process_zero():
        print(thinwire.state.report())
    return model, thinwire.state


if __name__ == "__main__":
    main()
