"""A plan as a page, with the working."""

from __future__ import annotations

from loadtests.capacity.figures import Figure, Measured
from loadtests.capacity.plan import DAY_S, GIB, Assumed, Limit, Plan


def page(command: str, measured: Measured, assumed: Assumed, plan: Plan) -> str:
    """Markdown, ending with a newline."""
    parts = [_head(command, measured, assumed, plan), _asked(assumed, plan)]
    parts += [part(measured, assumed, plan) for part in (_workers, _state, _shards, _network, _breaks)]
    return "\n".join(line for part in parts for line in part)


def _head(command: str, m: Measured, a: Assumed, p: Plan) -> list[str]:
    return [
        f"# Capacity for {a.daily_users / 1e6:g} million daily users",
        "",
        f"Made by `{command}` from measured figures; not to be edited. Every figure names its report, every",
        "assumption is an option (`--help` has the reasons). Measured were:",
        "",
        *(f"* {line}" for line in m.stamps),
        "",
        f"**{p.worker_machines:,} machines of {a.worker_cores} cores for workers; {p.shards:,} shards of "
        f"{a.shard_gib:g} GiB, {_replicas(a)}.**",
        f"The number of shards goes by {p.decides}. {_verdict(a, p)}",
        "",
    ]


def _asked(a: Assumed, p: Plan) -> list[str]:
    def rate(each: float, peak: float) -> str:
        mean = f"{a.daily_users:,.0f} users x {each:g} a day / {DAY_S:,} s = {peak / a.peak_factor:,.0f}/s"
        return f"{mean}; at the peak x {a.peak_factor:g} = **{peak:,.0f}/s**"

    return [
        "## 1. What is asked",
        "",
        f"* slates: {rate(a.requests_per_user, p.slates_per_s)}",
        f"* events: {rate(a.events_per_user, p.events_per_s)}",
        "",
    ]


def _workers(m: Measured, a: Assumed, p: Plan) -> list[str]:
    each = f"{a.busy:.0%} of 1000 ms / {_ms(m.slate_ms)}"
    if m.slates_per_s is not None:
        seen = f"{m.slates_per_s.value:,.0f}/s with p99 under 10 ms ({m.slates_per_s.source})"
        each = f"the less of {seen} and {each}"
    workers = p.slate_workers + p.event_workers
    video = f"{a.videos:,.0f} videos x {_bytes(m.video_bytes)}"
    own = f"{a.worker_cores} x {m.worker_bytes.value / 2**20:,.0f} MiB ({m.worker_bytes.source})"
    return [
        "## 2. Workers",
        "",
        f"* slates a worker: {each} = {p.worker_slates_per_s:,.0f}/s",
        f"* workers for slates: {p.slates_per_s:,.0f} / {p.worker_slates_per_s:,.0f} = "
        f"**{p.slate_workers:,}**",
        f"* workers for events: {p.events_per_s:,.0f} x {_ms(m.event_ms)} / 1000 ms / {a.busy:.0%} = "
        f"**{p.event_workers:,}**",
        f"* machines, with a worker a core and {a.spare:.0%} to spare: {workers:,} / {a.worker_cores} x "
        f"{1 + a.spare:g} = **{p.worker_machines:,}**",
        f"* memory of each: {own} + the catalogue once, {video} = **{p.worker_machine_gib:.1f} GiB**",
        "",
    ]


def _state(m: Measured, a: Assumed, p: Plan) -> list[str]:
    left = _gib(p.left_bytes)
    window = f"{a.daily_users:,.0f} x {a.events_per_user:g} x {a.window_days:g} days"
    return [
        "## 3. State",
        "",
        f"* users: {a.daily_users:,.0f} x {a.known_share:g} known for each of a day x "
        f"{_bytes(m.user_bytes[a.history])}, with {a.history} exposures = {_gib(p.users * p.user_bytes)}",
        f"* event ids that are known: {window} x {_bytes(m.claim_bytes)} = {_gib(p.claims_bytes)}",
        f"* events that left a full sequence within that time: x {_bytes(m.left_bytes)} = {left}",
        f"* together **{_gib(p.state_bytes)}**",
        "",
    ]


def _shards(m: Measured, a: Assumed, p: Plan) -> list[str]:
    memory = f"{_gib(p.state_bytes)} / ({a.shard_gib:g} GiB x {a.shard_fill:.0%})"
    reads = f"{p.slates_per_s:,.0f}/s x {_ms(m.read_ms)}"
    writes = f"{p.events_per_s:,.0f}/s x {_ms(m.write_ms)}"
    appended = f"{p.events_per_s:,.0f}/s x {_bytes(m.append_bytes)}"
    return [
        "## 4. Shards",
        "",
        "| by | working | shards |",
        "|---|---|---|",
        f"| memory | {memory} | {p.shards_by_memory:,} |",
        f"| processor | ({reads} + {writes}) / 1000 ms / {a.busy:.0%} | {p.shards_by_processor:,} |",
        f"| disk | {appended} / ({a.disk_mb_per_s:g} MB/s x {a.busy:.0%}) | {p.shards_by_disk:,} |",
        f"| network | what is read and sent to replicas, see 5, / ({a.network_gbit_per_s:g} Gbit/s x "
        f"{a.busy:.0%}) | {p.shards_by_network:,} |",
        "",
        f"* **{p.shards:,} shards**, {_replicas(a)}: {p.store_processes:,} processes, "
        f"{p.store_gib:,.0f} GiB of memory",
        f"* a shard appends {p.append_per_shard / 1e6:.1f} MB/s at the peak; all of them "
        f"{p.append_per_day / 1e12:,.1f} TB a day, which rewriting takes back",
        f"* disk: {p.disk_per_shard / GIB:.0f} GiB a shard, three times its state: the file, as much again "
        "until it is rewritten, and the new one beside both",
        "",
    ]


def _network(m: Measured, a: Assumed, p: Plan) -> list[str]:
    slates = f"{p.slates_per_s:,.0f}/s x ({a.slate_in_bytes:,.0f} + {a.slate_out_bytes:,.0f} bytes)"
    read = f"{p.slates_per_s:,.0f}/s x {_bytes(m.packed_bytes[a.history])}"
    return [
        "## 5. Network, at the peak",
        "",
        f"* clients: {slates} + {p.events_per_s:,.0f}/s x {a.event_bytes:,.0f} bytes = "
        f"{_gbit(p.client_bits)}",
        f"* store: {read} = {_gbit(p.store_bits)}; to replicas: {p.events_per_s:,.0f}/s x "
        f"{_bytes(m.append_bytes)} x {a.replicas} = {_gbit(p.replica_bits)}",
        f"* a machine of workers: {_gbit(p.machine_bits)}",
        "",
    ]


def _breaks(m: Measured, a: Assumed, p: Plan) -> list[str]:
    first, *others = p.limits
    after = next(limit for limit in others if limit.of == first.of)
    return [
        "## 6. What breaks first",
        "",
        "The audience that one of each carries, least first. More of them carry more:",
        "",
        "| runs out | of one | daily users |",
        "|---|---|---|",
        *(f"| {limit.name} | {limit.of} | {limit.daily_users:,.0f} |" for limit in p.limits),
        "",
        f"Of a {first.of}, the {first.name} breaks first; the {after.name} comes next, at "
        f"{after.daily_users / first.daily_users:.1f} times as many.",
        "Workers hold nothing and are added at any time; to add a shard, keys must move.",
        "",
        f"What no number of machines lifts: event ids are compared across users, in {m.claim_hashes} hashes "
        "(`SHARDS` in `service/state/keys.py`) that cannot be divided. One must fit into a shard and its "
        f"work into a thread ({_ms(m.claim_ms)} an event):",
        "",
        "| runs out | daily users |",
        "|---|---|",
        *(f"| {wall.name} | {wall.daily_users:,.0f} |" for wall in p.walls),
        "",
        f"For {a.daily_users / 1e6:g} million there must be {p.hashes_needed:,}. {_verdict(a, p)}",
        "",
    ]


def _verdict(a: Assumed, p: Plan) -> str:
    """What breaks first, of all there is."""
    wall = p.walls[0]
    if wall.daily_users < a.daily_users:
        return (
            f"**What breaks first is the {wall.name}, at {wall.daily_users:,.0f} daily users, however many "
            "shards there are.**"
        )
    return f"**{_one(p.limits[0])}**"


def _one(limit: Limit) -> str:
    carries = f"one carries {limit.daily_users:,.0f} daily users"
    return f"What breaks first is the {limit.name} of a {limit.of}: {carries}."


def _replicas(a: Assumed) -> str:
    return "with a replica each" if a.replicas == 1 else f"with {a.replicas} replicas each"


def _ms(figure: Figure) -> str:
    return f"{figure.value:.3g} ms ({figure.source})"


def _bytes(figure: Figure) -> str:
    value = f"{figure.value:,.1f}" if figure.value < 1000 else f"{figure.value:,.0f}"
    return f"{value} bytes ({figure.source})"


def _gib(count: float) -> str:
    return f"{count / GIB:,.0f} GiB"


def _gbit(bits: float) -> str:
    return f"**{bits / 1e9:,.2f} Gbit/s**"
