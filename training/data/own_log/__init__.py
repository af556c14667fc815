"""A log of one's own: any CSV, NDJSON or Parquet with columns of its own, read out of core."""

from training.data.own_log._columns import OwnLog
from training.data.own_log._faults import Fault
from training.data.own_log._guess import NAMES_OF_SIGNALS
from training.data.own_log._mapping import MAPPING, ColumnMapping, Source
from training.data.own_log._write import OwnInfo, database, write_own_log, write_users_and_videos

__all__ = [
    "MAPPING",
    "NAMES_OF_SIGNALS",
    "ColumnMapping",
    "Fault",
    "OwnInfo",
    "OwnLog",
    "Source",
    "database",
    "write_own_log",
    "write_users_and_videos",
]
