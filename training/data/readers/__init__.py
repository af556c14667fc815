"""Readers of datasets: the files of a release, or of a service's log, to the tables that `prepare` writes."""

from training.data.readers._kuairand_large import write_kuairand_1k, write_kuairand_27k
from training.data.readers._kuairand_pure import read_kuairand_pure
from training.data.readers._kuairec import read_kuairec
from training.data.readers._served import served_exposures, signals_of, with_signal_names, write_served
from training.data.readers._wechat import read_wechat

__all__ = [
    "read_kuairand_pure",
    "read_kuairec",
    "read_wechat",
    "served_exposures",
    "signals_of",
    "with_signal_names",
    "write_kuairand_1k",
    "write_kuairand_27k",
    "write_served",
]
