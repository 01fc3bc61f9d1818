"""Records the trace of `thinwire bench pool` from training: `python -m thinwire.bench._pool_record FILE`.

A char transformer trains under DDP on one rank, and a hook notes its buckets. Of GPT-2 small and ResNet-50,
which would take long to train, the parameters are made and DDP's own function divides them into buckets.
Batches come out of a torch DataLoader. A checkpoint stages all tensors of model and AdamW at once.
"""

# Without annotations from the future: DDP looks at those of a hook, and does not take text.
import ast
import sys
import sysconfig
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from itertools import chain, islice, repeat
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

import thinwire as tw
from thinwire.bench._char_model import LARGE, CharTransformer
from thinwire.bench._pool_trace import RECORDED, Recorder, Trace, save
from thinwire.bench._text import Text, standard_library, windows

STEPS = 6
FUNCTIONS = 2000
PREFETCH = 2  # batches that a loader holds ready
FIRST_BUCKET, BUCKET = 1 << 20, 25 << 20  # bytes, DDP's defaults
FRAMES = tw.codec("int8")


def main(path: Path) -> None:
    """Records every workload."""
    images = [torch.empty(64, 3, 224, 224), torch.empty(64, dtype=torch.int64)]
    traces = [
        Trace("char transformer", char_transformer()),
        Trace("GPT-2 small", parameters_only(gpt2_small(), [torch.empty(8, 1025, dtype=torch.int64)])),
        Trace("ResNet-50", parameters_only(resnet50(), images)),
        Trace("padded text batches", text_batches()),
    ]
    source = {
        "command": "python -m thinwire.bench._pool_record",
        "torch": torch.__version__,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
    }
    save(path, source, traces)


def char_transformer() -> list[int]:
    """The model of the demo under DDP: the hook's buckets and the loader's batches, as they come."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    recorder, model = Recorder(), CharTransformer(LARGE)
    parallel = DistributedDataParallel(model)
    parallel.register_comm_hook(recorder, note_bucket)
    optimizer = torch.optim.AdamW(model.parameters())
    codes = Text(standard_library()).training
    starts = range(0, 64 * 10 * (STEPS + PREFETCH), 64)
    loader = DataLoader(list(windows(codes, starts, 65)), batch_size=10)
    for (batch,) in prefetched(recorder, ([batch] for batch in loader)):
        logits = parallel(batch[:, :-1])
        nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
    moments = (value for state in optimizer.state.values() for value in state.values())
    note_checkpoint(recorder, chain(model.state_dict().values(), moments))
    dist.destroy_process_group()
    return recorder.events


def note_bucket(recorder: Recorder, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """A communication hook that changes nothing."""
    note_exchange(recorder, bucket.buffer().numel())
    done: torch.futures.Future[Tensor] = torch.futures.Future()
    done.set_result(bucket.buffer())
    return done


def note_exchange(recorder: Recorder, count: int) -> None:
    """A bucket of so many fp32 values, and the frame that it becomes."""
    blocks = [recorder.take(4 * count), recorder.take(FRAMES.bound(count))]
    for block in blocks:
        recorder.give(block)


def note_checkpoint(recorder: Recorder, tensors: Iterable[Tensor]) -> None:
    """All tensors, staged at once."""
    blocks = [recorder.take(tensor.nbytes) for tensor in tensors]
    for block in blocks:
        recorder.give(block)


def prefetched(recorder: Recorder, batches: Iterable[Sequence[Tensor]]) -> Iterator[Sequence[Tensor]]:
    """The batches. While one is used, PREFETCH more of them lie in memory."""
    waiting: deque[tuple[Sequence[Tensor], list[int]]] = deque()
    for batch in batches:
        waiting.append((batch, [recorder.take(tensor.nbytes) for tensor in batch]))
        if len(waiting) > PREFETCH:
            yield from used(recorder, waiting.popleft())
    while waiting:
        yield from used(recorder, waiting.popleft())


def used(recorder: Recorder, held: tuple[Sequence[Tensor], list[int]]) -> Iterator[Sequence[Tensor]]:
    """A batch, whose blocks go back when the next is asked for."""
    batch, blocks = held
    yield batch
    for block in blocks:
        recorder.give(block)


def parameters_only(shapes: Sequence[tuple[int, ...]], batch: Sequence[Tensor]) -> list[int]:
    """Steps and a checkpoint of a model with parameters of these shapes; no memory is touched."""
    recorder = Recorder()
    gradients = [torch.empty(shape) for shape in reversed(shapes)]
    buckets, _ = dist._compute_bucket_assignment_by_size(gradients, [FIRST_BUCKET, BUCKET])
    for _ in prefetched(recorder, repeat(batch, STEPS)):
        for bucket in buckets:
            note_exchange(recorder, sum(gradients[index].numel() for index in bucket))
    count = torch.empty(())
    note_checkpoint(recorder, chain.from_iterable((tensor, count, tensor, tensor) for tensor in gradients))
    return recorder.events


def gpt2_small() -> list[tuple[int, ...]]:
    """The shapes of its parameters: 124 million."""
    width = 768
    layer = [(width,), (width,), (width, 3 * width), (3 * width,), (width, width), (width,)]
    layer += [(width,), (width,), (width, 4 * width), (4 * width,), (4 * width, width), (width,)]
    return [(50257, width), (1024, width), *(12 * layer), (width,), (width,)]


def resnet50() -> list[tuple[int, ...]]:
    """The shapes of its parameters: 26 million."""
    shapes: list[tuple[int, ...]] = []

    def convolution(outputs: int, inputs: int, size: int) -> None:
        shapes.extend([(outputs, inputs, size, size), (outputs,), (outputs,)])  # and its batch norm

    convolution(64, 3, 7)
    inputs = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            convolution(width, inputs, 1)
            convolution(width, width, 3)
            convolution(4 * width, width, 1)
            if block == 0:
                convolution(4 * width, inputs, 1)
            inputs = 4 * width
    return [*shapes, (1000, inputs), (1000,)]


def text_batches() -> list[int]:
    """The functions at the top of the standard library, shuffled, in batches padded to their longest."""
    recorder = Recorder()
    loader = DataLoader(
        [torch.tensor(list(function.encode())) for function in islice(functions(), FUNCTIONS)],
        batch_size=16,
        shuffle=True,
        generator=torch.Generator().manual_seed(0),
        collate_fn=lambda texts: [pad_sequence(texts, True), torch.tensor([len(text) for text in texts])],
    )
    for _ in prefetched(recorder, loader):
        pass
    return recorder.events


def functions() -> Iterator[str]:
    """The sources of functions, module after module."""
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        source = path.read_text(encoding="utf-8", errors="replace")
        lines = source.splitlines(keepends=True)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                yield "".join(lines[node.lineno - 1 : node.end_lineno])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else RECORDED)
