"""`python -m service store`: the embedded store while no service runs on it."""

from __future__ import annotations

from redis import Redis

from service.settings import Settings
from service.state import EmbeddedServer
from service.state.repair import drop_damaged_end


def repair() -> None:
    """Drop the damaged end of the append-only file, start the store on the rest, and print what is there.

    Raises:
        BadInput: there is no store, a service runs on it, or more than the end of it is damaged.
        StoreUnavailable: the store does not start all the same; the dropped bytes are kept.
    """
    data_dir = Settings.read().data_dir
    damage = drop_damaged_end(data_dir)
    with EmbeddedServer(data_dir) as server, Redis.from_url(server.url) as client:
        keys = client.dbsize()
    if damage is None:
        print(f"nothing to repair in {data_dir}: its {keys:,} keys can be read")
    else:
        print(f"kept: the first {damage.kept_bytes:,} bytes of {damage.file.name}, {keys:,} keys in all")
        print(f"dropped: its last {damage.dropped_bytes:,} bytes, which are now in {damage.dropped_to}")
