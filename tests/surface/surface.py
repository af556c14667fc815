"""Read the public surface off the code, as plain JSON.

Texts meant for people (descriptions, summaries, help) are left out: they may be reworded. Everything a
client, a dashboard or a script can depend on is in.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any, Final

import typer
import typer.main

import training
from models.store import BundleStore
from service.__main__ import app as service_commands
from service.settings import Settings
from tests.conftest import ROOT
from tests.service.memory_store import MemoryStore
from tests.service.running import served
from training.__main__ import app as training_commands

BUNDLES: Final = ROOT / "models" / "bundles"
PROSE: Final = {"description", "summary", "title"}

Json = Any


def bundle_files() -> Json:
    """Files of the released version and the members of its manifest."""
    store = BundleStore(BUNDLES)
    folder = store.path(store.current())
    manifest = json.loads((folder / "manifest.json").read_text())
    return {
        "root": sorted(path.name for path in BUNDLES.iterdir() if path.is_file()),
        "version": sorted(path.name for path in folder.iterdir()),
        "manifest": sorted(manifest),
    }


def settings() -> Json:
    """Per `REELRANK_*` variable its default; paths below the checkout are shown relative to it."""
    found = {}
    for name, field in Settings.model_fields.items():
        default = str(field.default).replace(str(ROOT), "ROOT")
        found[f"REELRANK_{name.upper()}"] = default
    return found


def commands() -> Json:
    """Per command its arguments and options, with type, default and whether it must be given."""
    found: dict[str, Json] = {}
    for program, app in (("service", service_commands), ("training", training_commands)):
        _walk(f"python -m {program}", typer.main.get_command(app), found)
    return found


def _walk(path: str, command: Any, found: dict[str, Json]) -> None:
    if hasattr(command, "commands"):
        for name, child in command.commands.items():
            _walk(f"{path} {name}", child, found)
        if not command.invoke_without_command:
            return
    found[path] = {
        "/".join([*parameter.opts, *parameter.secondary_opts]): {
            "type": _type_name(parameter.type_descriptor.annotation),
            "default": str(parameter.default).replace(str(ROOT), "ROOT"),
            "required": parameter.required,
        }
        for parameter in command.params
        if parameter.name != "help"
    }


def _type_name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def python() -> Json:
    """Per name of `training` its signature; of a class those of its public methods."""
    found: dict[str, Json] = {}
    for name in training.__all__:
        value = getattr(training, name)
        members = vars(value) if inspect.isclass(value) else {}
        methods = {
            member: str(inspect.signature(method))
            for member, method in members.items()
            if inspect.isfunction(method) and not member.startswith("_")
        }
        found[name] = {"": str(inspect.signature(value)), **methods}
    return found


def http(tmp: Path) -> Json:
    """The OpenAPI document, the metric families, and what the released bundle answers, over HTTP."""
    with served(BUNDLES, MemoryStore(), tmp, deadline_ms=60_000.0) as client:
        events = [event for user in range(3) for event in _events(f"u{user}")]
        names = client.get("/v1/models").json()["models"][0]["labels"]
        labels = client.post("/label", params={"labels": ",".join(names)}, json=events)
        slates = {}
        for user in ("u0", "u1", "a user without events"):
            body = {"user_id": user, "timestamp_ms": 1_651_400_000_000, "candidates": _candidates()}
            slates[user] = client.post("/rerank", params={"explain": "true"}, json=body).json()["items"]
        document = _without_prose(client.get("/openapi.json").json())
        document["info"].pop("version")  # changes with every release
        metrics = client.get("/metrics").text
    return {
        "openapi": document,
        "metrics": _families(metrics),
        "answers": {"labels": labels.json()["labels"], "slates": slates},
    }


def _events(user_id: str) -> list[dict[str, Json]]:
    number = int(user_id[1:])
    return [
        {
            "event_id": f"{user_id}-{i}",
            "user_id": user_id,
            "video_id": str(20 + 13 * i + number),
            "timestamp_ms": 1_651_330_969_569 + 60_000 * i,
            "watch_time_s": round(3.0 + 7.3 * ((i * (number + 2)) % 9), 1),
            "duration_s": 10.0 + 9.0 * (i % 7),
            "like": i % 5 == 0,
            "follow": i % 11 == 3,
            "comment": i % 7 == 4,
            "forward": i % 9 == 1,
            "hate": i % 13 == 6,
            "profile_enter": i % 6 == 2,
        }
        for i in range(12)
    ]


def _candidates() -> list[dict[str, Json]]:
    return [
        {"video_id": str(7 * i), "duration_s": 5.0 + 6.5 * i, "author_id": str(i % 9), "tag": str(1 + i % 30)}
        for i in range(12)
    ]


def _without_prose(document: Json) -> Json:
    if isinstance(document, list):
        return [_without_prose(item) for item in document]
    if not isinstance(document, dict):
        return document
    # A member of a schema may itself be called "title": those are dictionaries.
    return {
        name: _without_prose(value)
        for name, value in document.items()
        if not (name in PROSE and isinstance(value, str))
    }


def _families(text: str) -> Json:
    """Per metric its type and the names of its labels."""
    kinds = {}
    labels: dict[str, set[str]] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            kinds[name] = kind
            labels[name] = set()
        elif line and not line.startswith("#"):
            series = line.partition(" ")[0]
            name, _, rest = series.partition("{")
            family = next((f for f in (name, name[: name.rfind("_")]) if f in kinds), name)
            labels[family] |= {part.partition("=")[0] for part in rest.rstrip("}").split(",") if "=" in part}
    return {name: {"type": kind, "labels": sorted(labels[name] - {"le"})} for name, kind in kinds.items()}
