"""The commands of docker/README.md, and the parts of it that are written from a report."""

from __future__ import annotations

import re
from typing import Any, Final

from loadtests.topology.images import ROOT

README: Final = ROOT / "docker" / "README.md"


def commands() -> dict[str, str]:
    """Named blocks of the page: ```` ```sh NAME ````."""
    return dict(re.findall(r"^```sh ([\w-]+)\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL))


def deployment(report: dict[str, Any]) -> str:
    """Markdown of what was found, ending with a newline."""
    lines = [
        f"`{report['command']}`, {report['date']}, commit `{report['commit']}`, {report['machine']}; "
        f"{report['engine']}; {report['seconds'] / 60:.1f} minutes. Base images: {report['base_images']}.",
        "",
        "| | what was found | s |",
        "|---|---|---|",
    ]
    lines += [
        f"| {step['name']} | {_named(step['found'])} | {step['took_s']:.0f} |" for step in report["steps"]
    ]
    return "\n".join(lines) + "\n"


def capacity(report: dict[str, Any]) -> str:
    """One paragraph, ending with a newline."""
    found = next(step["found"] for step in report["steps"] if step["name"] == "capacity")
    return (
        f"Measured by the run above: a user with 30 exposures takes {found['bytes_a_user']:,} bytes of the "
        "store, records of what was sent within the last day included, so "
        f"{found['users_a_gib']:,} such users fit a GiB; a replica held {found['replica_mib']} MiB; two "
        f"replicas with the store's disk, the proxy and the client on the same {found['cores']} cores took "
        f"{found['events_a_second']:,} events a second in requests of ten.\n"
    )


def written(text: str, report: dict[str, Any]) -> str:
    """The page with both parts as the report has them."""
    for name, part in (("deployment", deployment(report)), ("capacity", capacity(report))):
        text = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)",
            lambda found, part=part: found[1] + part + found[2],  # type: ignore[misc]
            text,
            flags=re.DOTALL,
        )
    return text


def _named(found: dict[str, Any]) -> str:
    parts = []
    for name, value in found.items():
        if isinstance(value, dict):
            value = _named(value)
        elif isinstance(value, bool):
            value = "yes" if value else "no"
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        elif isinstance(value, int):
            value = f"{value:,}"
        parts.append(f"{name.replace('_', ' ')}: {value}")
    return "; ".join(parts)
