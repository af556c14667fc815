"""`kafka://broker:9092,broker:9092/topic?option=value`: where a topic is, and how to reach it.

Options are those of librdkafka. A secret is in a file of its own, one `name=value` a line, as Kafka's own
tools read it; a URL on the command line is seen by other users.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self
from urllib.parse import parse_qsl, urlsplit

from models.errors import BadInput

FORM: Final = "kafka://broker:9092,broker:9092/topic?option=value"
TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
SECRET: Final = re.compile(r"password|passphrase|secret|key\.pem|oauthbearer\.config")
CRITICAL: Final = 2
"""As of syslog: below it the client repeats what its errors say, several times a second."""

FIXED: Final = frozenset(
    {
        "auto.offset.reset",
        "bootstrap.servers",
        "enable.auto.commit",
        "group.id",
        "isolation.level",
        "metadata.broker.list",
        "transactional.id",
    }
)
"""Options that what a consumer promises depends on."""


@dataclass(frozen=True, slots=True)
class KafkaUrl:
    """Brokers, a topic, and options.

    Attributes:
        brokers: separated by commas.
        topic: empty if the URL names none.
        options: of librdkafka, those of the file among them.
    """

    brokers: str
    topic: str
    options: dict[str, str] = field(repr=False)

    @classmethod
    def parse(cls, url: str, properties: Path | None = None) -> Self:
        """Parse a URL.

        Args:
            url: as above.
            properties: a file with more options.

        Raises:
            BadInput: the URL or a line of the file cannot be read, names what is fixed, or the URL has a
                secret. No message has a value.
        """
        try:
            parts = urlsplit(url)
            given = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
        except ValueError:
            raise BadInput(f"The URL of Kafka cannot be read. Write {FORM}.") from None
        if "@" in parts.netloc or any(SECRET.search(name) for name in given):
            raise BadInput(
                "The URL of Kafka holds a secret, which other users would see. Write sasl.username=… and "
                "sasl.password=… into a file that only you can read, and pass it as --kafka-properties FILE."
            )
        topic = parts.path.removeprefix("/")
        if not parts.netloc or parts.fragment or (topic and not TOPIC.fullmatch(topic)):
            raise BadInput(
                f"The URL of Kafka has no brokers, or its topic is no name of a topic. Write {FORM}; a topic "
                "has letters, digits, dots, _ and -."
            )
        options = given | (_read(properties) if properties else {})
        if fixed := sorted(FIXED & options.keys()):
            raise BadInput(f"{fixed[0]} is set by `consume` itself; leave it out.")
        return cls(parts.netloc, topic, options)

    @property
    def display_url(self) -> str:
        """The URL without options, for messages."""
        return f"kafka://{self.brokers}/{self.topic}"

    def config(self, **more: str | int | bool) -> dict[str, str | int | bool]:
        """Return the configuration of a client; `more` has _ for each dot."""
        fixed = {name.replace("_", "."): value for name, value in more.items()}
        defaults = {"client.id": "reelrank", "log_level": str(CRITICAL)}
        return defaults | self.options | {"bootstrap.servers": self.brokers} | fixed


def _read(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise BadInput(f"--kafka-properties: {path} cannot be read: {e}.") from e
    options: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        name, equals, value = (part.strip() for part in line.partition("="))
        if not name or name.startswith("#"):
            continue
        if not equals:
            raise BadInput(f"--kafka-properties: line {number} of {path} is not name=value.")
        options[name] = value
    return options
