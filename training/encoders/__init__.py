"""Sequence and candidates -> states."""

from training.encoders._feedback import FeedbackEncoder, FeedbackEncoderConfig
from training.encoders._inputs import RankerInputs, inputs_for

__all__ = ["FeedbackEncoder", "FeedbackEncoderConfig", "RankerInputs", "inputs_for"]
