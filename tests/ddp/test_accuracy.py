"""A codec chosen by the gap it promises."""

from __future__ import annotations

from itertools import pairwise

import pytest

import thinwire as tw
from thinwire import InvalidArgument
from thinwire.ddp import Options, accuracy


def _options(codec: str, **more: object) -> Options:
    return Options.parse({"codec": codec, **more})


def test_the_smallest_codec_that_promises_it_is_taken() -> None:
    for promise in accuracy.PROMISES:
        chosen = _options(f"auto-accuracy:{promise.gap_percent}%")
        ratio = tw.codec(chosen.codec).info.ratio
        better = [p for p in accuracy.PROMISES if p.gap_percent <= promise.gap_percent]
        assert ratio == max(tw.codec(p.codec).info.ratio for p in better)
    assert _options("auto-accuracy:100%") == _options(accuracy.PROMISES[0].codec)


def test_what_promises_nothing_is_lossless() -> None:
    assert _options("auto-accuracy:0%").codec == "raw"


def test_promises_are_in_the_order_of_their_bytes() -> None:
    ratios = [tw.codec(promise.codec).info.ratio for promise in accuracy.PROMISES]
    assert all(more > less for more, less in pairwise(ratios))


@pytest.mark.parametrize(
    "request_",
    ["auto-accuracy", "auto-accuracy:", "auto-accuracy:1", "auto-accuracy:-1%", "auto-accuracy:x%"],
)
def test_another_form_is_refused(request_: str) -> None:
    with pytest.raises(InvalidArgument, match="as in 'auto-accuracy:1%'"):
        _options(request_)


@pytest.mark.parametrize("part", ["basis", "share", "warmup", "feedback", "small", "residual_dtype"])
def test_what_it_chooses_cannot_be_given(part: str) -> None:
    with pytest.raises(InvalidArgument, match=rf"^{part} is part of what codec='auto-accuracy:1%' chooses"):
        _options("auto-accuracy:1%", **{part: 4})
