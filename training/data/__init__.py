"""Logs in, columns out: the readers, the synthetic world, and the splits by time."""

from training.data._checks import check_joins, check_medians
from training.data._dataset import Dataset, feedback_columns
from training.data._fetch import ARCHIVES, fetch
from training.data._files import parts_of
from training.data._forget import Forgotten, read_ledgers, without
from training.data._interactions import History, Interactions
from training.data._likes_hates import LikesHates, read_likes_hates
from training.data._load import Inspected, checked_rows, inspect, load, profile_feature, scan_interactions
from training.data._prepare import READERS, STREAMED, Summary, prepare, write_tables
from training.data._published_splits import Protocol, cut
from training.data._split import (
    DAY_MS,
    Boundaries,
    Split,
    day_numbers,
    day_to_ms,
    ms_to_day,
    returned_next_day,
    split_by_time,
)
from training.data._tables import (
    INFO,
    INTERACTION_SCHEMA,
    INTERACTIONS,
    USERS,
    VIDEOS,
    Info,
    LogExtent,
    ProfileSchema,
    RowCounts,
    Tables,
)
from training.data.own_log import OwnLog
from training.data.synthetic import SyntheticConfig, SyntheticLog, planted_utility, simulate_log

__all__ = [
    "ARCHIVES",
    "DAY_MS",
    "INFO",
    "INTERACTIONS",
    "INTERACTION_SCHEMA",
    "READERS",
    "STREAMED",
    "USERS",
    "VIDEOS",
    "Boundaries",
    "Dataset",
    "Forgotten",
    "History",
    "Info",
    "Inspected",
    "Interactions",
    "LikesHates",
    "LogExtent",
    "OwnLog",
    "ProfileSchema",
    "Protocol",
    "RowCounts",
    "Split",
    "Summary",
    "SyntheticConfig",
    "SyntheticLog",
    "Tables",
    "check_joins",
    "check_medians",
    "checked_rows",
    "cut",
    "day_numbers",
    "day_to_ms",
    "feedback_columns",
    "fetch",
    "inspect",
    "load",
    "ms_to_day",
    "parts_of",
    "planted_utility",
    "prepare",
    "profile_feature",
    "read_ledgers",
    "read_likes_hates",
    "returned_next_day",
    "scan_interactions",
    "simulate_log",
    "split_by_time",
    "without",
    "write_tables",
]
