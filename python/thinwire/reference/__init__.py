"""thinwire in NumPy: slow, readable, the executable specification of `docs/wire/`.

Every codec is a module of one shape. `**params` are the codec's parameters by name, all optional:

- `WIRE_ID`: the frame's codec id; `wire_param(**params)`: the frame's `param`.
- `payload_bytes(n, **params)`: bytes of the payload for `n` values.
- `encode(y, *, step=0, key=0, **params)`: fp32 values (n,) to (payload bytes, residual fp32 (n,)).
- `decode(payload, n, **params)`: back to fp32 values (n,).
- `unit(**params)`: how many values share a scale, and so turn non-finite together.

`y` is what `numerics.encoder_input` makes of a gradient, a scale and a residual. `CODECS` names the modules.
Frames are in `frame`, the DDP hook's all-reduce over ranks in memory in `direct`, the schedules of all others
in `schedules`, the collectives in `collectives`, where data is cut into chunks in `cuts`, the order of
shuffled samples in `permutation`. Checksums, stochastic keys and cuts need the `xxhash` package, which the
extra `test` installs.
"""

from .codecs import CODECS, resolve

__all__ = ["CODECS", "resolve"]
