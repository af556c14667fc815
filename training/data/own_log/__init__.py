"""A log of one's own: any CSV, NDJSON or Parquet with columns of its own, read out of core."""

from training.data.own_log._columns import SAMPLE_ROWS, Opened, OwnLog, complete, described, known_mapping
from training.data.own_log._faults import Fault, Rule, refuse_lost_digits, rules
from training.data.own_log._files import Connection, Relation, TextTable, as_text, open_table
from training.data.own_log._guess import NAMES_OF_SIGNALS
from training.data.own_log._mapping import MAPPING, OF_VIDEOS, ColumnMapping, Source
from training.data.own_log._rows import (
    FROM_VIDEOS,
    KEY,
    check_rules,
    faults_of,
    faults_of_repeats,
    fill_from_videos,
    staged_columns,
    type_rows,
)
from training.data.own_log._users_videos import write_users, write_videos
from training.data.own_log._write import (
    OwnInfo,
    database,
    describe,
    open_videos,
    write_own_log,
    write_users_and_videos,
)

__all__ = [
    "FROM_VIDEOS",
    "KEY",
    "MAPPING",
    "NAMES_OF_SIGNALS",
    "OF_VIDEOS",
    "SAMPLE_ROWS",
    "ColumnMapping",
    "Connection",
    "Fault",
    "Opened",
    "OwnInfo",
    "OwnLog",
    "Relation",
    "Rule",
    "Source",
    "TextTable",
    "as_text",
    "check_rules",
    "complete",
    "database",
    "describe",
    "described",
    "faults_of",
    "faults_of_repeats",
    "fill_from_videos",
    "known_mapping",
    "open_table",
    "open_videos",
    "refuse_lost_digits",
    "rules",
    "staged_columns",
    "type_rows",
    "write_own_log",
    "write_users",
    "write_users_and_videos",
    "write_videos",
]
