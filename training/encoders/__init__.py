"""Sequence and candidates -> states: the served encoder, and LabelCraft's DIN."""

from training.encoders._din import DIN, DinConfig, DinInputs
from training.encoders._din_rows import DinRows, Slates, slates
from training.encoders._feedback import FeedbackEncoder, FeedbackEncoderConfig
from training.encoders._inputs import RankerInputs, inputs_for

__all__ = [
    "DIN",
    "DinConfig",
    "DinInputs",
    "DinRows",
    "FeedbackEncoder",
    "FeedbackEncoderConfig",
    "RankerInputs",
    "Slates",
    "inputs_for",
    "slates",
]
