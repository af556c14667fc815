"""What the text of a column means, as expressions of DuckDB; null where it means nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from models.schema import CONTROL_CHARACTERS, MAX_ID_BYTES
from models.video_features import MAX_VALUES
from training.data.own_log._files import quoted
from training.data.own_log._mapping import Source

FACTORS: Final = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60.0}
"""Seconds in a unit."""

_MISSING: Final = r"('', 'NULL', 'null', 'None', 'NaN', 'nan', '\N')"
"""What programs write for a missing value."""
_QUOTES: Final = """' "'''"""
"""A space and both quotation marks, as SQL writes them."""
_YES: Final = "('true', 't', 'yes', 'y')"
_NO: Final = "('false', 'f', 'no', 'n')"
_CLOCK: Final = r"[0-9]+:[0-9]{1,2}(:[0-9]{1,2})?(\.[0-9]+)?"
_ZONE: Final = r":[0-9.]+ *([+-][0-9]{2}(:?[0-9]{2})?|Z|z|UTC|GMT)$"


def text(source: Source) -> str:
    """The first value of the columns that is not missing."""
    values = [
        f"CASE WHEN trim({quoted(name)}) NOT IN {_MISSING} THEN trim({quoted(name)}) END"
        for name in source.columns
    ]
    return f"coalesce({', '.join(values)})" if len(values) > 1 else values[0]


def identifier(value: str) -> str:
    """Text without the decimals that a spreadsheet has given a whole number: `12.0` is `12`."""
    return rf"regexp_replace({value}, '^(-?[0-9]+)\.0*$', '\1')"


def category(value: str) -> str:
    """An id that may be one on the wire, too; null for others."""
    spelled = identifier(value)
    return (
        f"CASE WHEN strlen({spelled}) <= {MAX_ID_BYTES} "
        f"AND NOT regexp_matches({spelled}, '{CONTROL_CHARACTERS}') THEN {spelled} END"
    )


def one_identifier(source: Source) -> str:
    """The identifier that a column holds; of several the first."""
    value = text(source)
    return identifier(f"{_parts(value)}[1]" if source.unit == "ids" else value)


def categories(source: Source) -> str:
    """The categories that a column holds, as a list, at most as many as a video may have; null for none."""
    value = text(source)
    parts = _parts(value) if source.unit == "ids" else f"[{value}]"
    known = f"list_filter(list_transform({parts}, lambda p: {category('p')}), lambda p: p IS NOT NULL)"
    return f"nullif({known}[1:{MAX_VALUES}], [])"


def vector(value: str) -> str:
    """The numbers that a text holds, with brackets around or not, as a list; null if one is none."""
    numbers = f"list_transform(regexp_split_to_array({_bare(value)}, '[,;| ]+'), lambda p: {number('p')})"
    return f"CASE WHEN list_count({numbers}) = len({numbers}) AND len({numbers}) > 0 THEN {numbers} END"


def is_several(value: str) -> str:
    """Whether a text holds several: in brackets, or with `|` or `;` between."""
    return f"({value} LIKE '[%]' OR contains({value}, '|') OR contains({value}, ';'))"


def _bare(value: str) -> str:
    return f"trim({value}, '[](){{}} ')"


def _parts(value: str) -> str:
    """The texts between `,`, `;` or `|`, without quotes."""
    parts = f"regexp_split_to_array({_bare(value)}, '[,;|]')"
    return f"list_filter(list_transform({parts}, lambda p: trim(p, {_QUOTES})), lambda p: p <> '')"


def has_lost_digits(value: str) -> str:
    """Whether a spreadsheet or a floating-point column has rounded a long number."""
    return rf"regexp_full_match({value}, '-?[0-9.]+[eE][+][0-9]+')"


def number(value: str) -> str:
    """A finite number."""
    return f"CASE WHEN isfinite(TRY_CAST({value} AS DOUBLE)) THEN TRY_CAST({value} AS DOUBLE) END"


def is_clock(value: str) -> str:
    """Whether a value is `00:04`, `1:02:03`, or two of them with a slash between."""
    return rf"regexp_full_match({value}, '{_CLOCK}( */ *{_CLOCK})?')"


def seconds(value: str, unit: str, target: str) -> str:
    """A length in seconds; of `watched/length` the part that `target` asks for."""
    if unit != "clock":
        return f"{number(value)} * {FACTORS[unit]!r}"
    part = f"trim(split_part({value}, '/', {1 if target == 'watch_time_s' else -1}))"
    parts = f"list_transform(string_split({part}, ':'), lambda p: TRY_CAST(p AS DOUBLE))"
    return f"CASE WHEN {is_clock(value)} THEN list_reduce({parts}, lambda a, b: a * 60 + b) END"


def milliseconds(value: str, unit: str, utc_offset_hours: float) -> str:
    """A moment in Unix milliseconds; one without a time zone is in that of the log."""
    if unit != "datetime":
        return f"TRY_CAST(round({number(value)} * {FACTORS[unit] * 1000!r}) AS BIGINT)"
    zone = f"regexp_extract({value}, '{_ZONE}', 1)"
    minutes = (
        f"CASE WHEN {zone} = '' THEN {round(utc_offset_hours * 60)} "
        f"WHEN {zone}[1] NOT IN ('+', '-') THEN 0 "
        f"ELSE CAST({zone}[1:3] AS INTEGER) * 60 "
        f"+ CAST({zone}[1] || coalesce(nullif(replace({zone}[4:], ':', ''), ''), '0') AS INTEGER) END"
    )
    return f"epoch_ms(TRY_CAST({value} AS TIMESTAMP)) - ({minutes}) * 60000"


def flag(source: Source) -> str:
    """Whether any of the columns is set; null where one is neither yes, no, nor a count."""
    if source.unit == "present":
        return f"{text(source)} IS NOT NULL"
    return " OR ".join(f"({_flag(text(Source(columns=(name,))))})" for name in source.columns)


def _flag(value: str) -> str:
    return (
        f"CASE WHEN {value} IS NULL OR lower({value}) IN {_NO} THEN false "
        f"WHEN lower({value}) IN {_YES} THEN true "
        f"WHEN {number(value)} >= 0 THEN {number(value)} > 0 END"
    )


def bits(flags: Sequence[str]) -> str:
    """Flags as one whole number, the first in the lowest bit."""
    return " + ".join(f"(CAST({flag} AS BIGINT) << {bit})" for bit, flag in enumerate(flags)) or "0"
