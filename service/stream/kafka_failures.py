"""Errors of Kafka's client, mapped to `StoreUnavailable`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from confluent_kafka import KafkaError, KafkaException

from models.errors import StoreUnavailable

DENIED: Final = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError._SSL,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)
AWAY: Final = frozenset({KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._TRANSPORT})
LATE: Final = frozenset({KafkaError._TIMED_OUT, KafkaError.REQUEST_TIMED_OUT})

REASSIGNED: Final = frozenset(
    {
        KafkaError._ASSIGNMENT_LOST,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.UNKNOWN_MEMBER_ID,
    }
)
"""The group is sharing its partitions out again, or has done so without this consumer."""


@contextmanager
def kafka_unavailable(brokers: str, action: str) -> Iterator[None]:
    """Translate the errors of the calls inside.

    Args:
        brokers: URL for messages.
        action: completes "could not", e.g. `give out events`.

    Raises:
        StoreUnavailable: the brokers are away, refuse, or did not answer in time.
    """
    try:
        yield
    except KafkaException as e:
        error = e.args[0]
        raise StoreUnavailable(
            f"The brokers at {brokers} could not {action}: {error.str()}", reason=reason_of(error)
        ) from e


def reason_of(error: KafkaError) -> str:
    """Return `StoreUnavailable.reason`."""
    for reason, codes in (("denied", DENIED), ("connection", AWAY), ("timeout", LATE)):
        if error.code() in codes:
            return reason
    return "other"
