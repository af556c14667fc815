"""Runs that are worth repeating: one function, one complete config. `fit NAME` calls the function NAME."""

from __future__ import annotations

from training.encoders import FeedbackEncoderConfig
from training.fit import RunConfig
from training.labels import LabelCraftConfig
from training.loop import LoopConfig
from training.quantize import AnchorsConfig
from training.watch_time import LDAConfig

__all__ = ["any_log", "kuairand_pure", "smoke"]


def kuairand_pure() -> RunConfig:
    """The released bundle: KuaiRand-Pure, 04-25 to 05-05. Under 20 minutes on 2 cores and 4 GB."""
    return RunConfig()


def any_log() -> RunConfig:
    """One's own log of four days or more: a day to test, a day to stop early, a day for the meta hold-out."""
    return RunConfig(test_days=1, stop_days=1, meta_days=1)


def smoke() -> RunConfig:
    """The synthetic world in about a minute: everything is fitted, nothing is fitted well."""
    return RunConfig(
        test_days=1,
        stop_days=1,
        meta_days=2,
        min_count=1,
        labelcraft=LabelCraftConfig(epochs=1, batch_size=2048, history=20),
        encoder=FeedbackEncoderConfig(width=16, token=16, heads=2, hidden=32),
        lda=LDAConfig(anchors=AnchorsConfig(sequences=512, epochs=10)),
        loop=LoopConfig(epochs=1, sequence_length=50),
    )
