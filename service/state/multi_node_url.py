"""URLs of a store: those of more than one server, a cluster or a primary that sentinels name, and what
messages call any of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from redis.asyncio.connection import parse_url

from models.errors import BadInput

PORTS: Final = {"cluster": 6379, "sentinel": 26379}

Host = tuple[str, int]


@dataclass(frozen=True, slots=True)
class MultiNodeUrl:
    """The parts of such a URL.

    Attributes:
        kind: what the hosts are.
        hosts: some of the cluster's nodes, or of the sentinels; one that answers is enough.
        service: the sentinels' name of the primary.
        replicas: that must have a write before it counts.
        tls: of all connections.
        options: to connect to a node with, as the client takes them; host and port are not among them.
        sentinel_options: the same for a sentinel.
        display_url: the URL without user, password and options, for messages.
    """

    kind: Literal["cluster", "sentinel"]
    hosts: tuple[Host, ...]
    service: str
    replicas: int
    display_url: str
    tls: bool
    options: dict[str, Any] = field(repr=False)
    sentinel_options: dict[str, Any] = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> Self | None:
        """Parse a URL; return `None` if it is that of one server.

        Args:
            url: `redis+cluster://[user:password@]host[:port][,host[:port]…]` or
                `redis+sentinel://[user:password@]host[:port][,…]/service[/db]`; `rediss+…` is TLS. Options
                are those of one server, `replicas`, and `sentinel_username`, `sentinel_password` where the
                sentinels ask for a password too.

        Raises:
            BadInput: it begins like one of these and is malformed. The message has no secrets.
        """
        scheme, _, kind = url.partition("://")[0].partition("+")
        if scheme not in ("redis", "rediss"):
            return None
        try:
            if kind == "cluster":
                return cls._parse(url, scheme, "cluster")
            if kind == "sentinel":
                return cls._parse(url, scheme, "sentinel")
        except ValueError:  # its text may hold a part of the password
            raise BadInput(
                f"The store's URL ({scheme}+{kind}://…) cannot be used. Write "
                "redis+cluster://[user:password@]host:port,host:port or "
                "redis+sentinel://[user:password@]host:port,host:port/service, with rediss+… for TLS and "
                "special characters of the password percent-encoded; the option `replicas` is a number."
            ) from None
        return None

    @classmethod
    def _parse(cls, url: str, scheme: str, kind: Literal["cluster", "sentinel"]) -> Self:
        parts = urlsplit(url)
        login, at, named = parts.netloc.rpartition("@")
        service, _, db = parts.path.strip("/").partition("/")
        if kind == "cluster" and (service or db) not in ("", "0"):
            raise ValueError("a cluster has one database and no name")
        if kind == "sentinel" and not service:
            raise ValueError("sentinels look after primaries by name")
        if db and not db.isdecimal():
            raise ValueError("databases are numbers")
        given = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
        replicas = int(given.pop("replicas", ["0"])[-1])
        if replicas < 0:
            raise ValueError("replicas")
        sentinel_login = {
            name: given.pop(f"sentinel_{name}", [""])[-1] or None for name in ("username", "password")
        }
        hosts = tuple(_host(each, PORTS[kind]) for each in named.split(","))
        options: dict[str, Any] = dict(
            parse_url(f"{scheme}://{login}{at}host/{db}?{urlencode(given, doseq=True)}")
        )
        del options["host"]
        options.pop("connection_class", None)
        display_url = f"{scheme}+{kind}://" + ",".join(format_host(each) for each in hosts)
        return cls(
            kind=kind,
            hosts=hosts,
            service=unquote(service),
            replicas=replicas,
            display_url=display_url if kind == "cluster" else f"{display_url}/{service}",
            tls=scheme == "rediss",
            options=options,
            sentinel_options={**options, **sentinel_login, "db": 0},
        )


def format_host(host: Host) -> str:
    """Return a host and port as they are written in a URL."""
    name, port = host
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def _host(text: str, port: int) -> Host:
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.path or parts.query or "@" in text:
        raise ValueError("no host")
    return parts.hostname, parts.port or port


def display_url(url: str) -> str:
    """Return the URL without user, password and options, for messages."""
    if nodes := MultiNodeUrl.parse(url):
        return nodes.display_url
    try:
        parts = urlsplit(url)
        if parts.scheme == "unix":
            return f"unix://{parts.path}"
        if parts.scheme in ("redis", "rediss") and parts.hostname:
            return f"{parts.scheme}://{parts.hostname}:{parts.port or 6379}{parts.path}"
    except ValueError:
        pass
    return "an unreadable URL"
