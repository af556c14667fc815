"""Sequence and candidates -> states: the served encoder, and LabelCraft's DIN."""

from training.encoders._co_visitation import CoVisitation
from training.encoders._din import DIN, Dice, DinConfig, DinInputs
from training.encoders._din_rows import DinRows, Slates, slates
from training.encoders._feedback import FeedbackEncoder
from training.encoders._feedback_config import FeedbackEncoderConfig
from training.encoders._inputs import HistoryAt, RankerInputs, batches_for, inputs_for, with_step
from training.encoders._plain import plain_features, plain_names
from training.encoders._sasrec import SASRec, SASRecConfig, SequenceInputs

__all__ = [
    "DIN",
    "CoVisitation",
    "Dice",
    "DinConfig",
    "DinInputs",
    "DinRows",
    "FeedbackEncoder",
    "FeedbackEncoderConfig",
    "HistoryAt",
    "RankerInputs",
    "SASRec",
    "SASRecConfig",
    "SequenceInputs",
    "Slates",
    "batches_for",
    "inputs_for",
    "plain_features",
    "plain_names",
    "slates",
    "with_step",
]
