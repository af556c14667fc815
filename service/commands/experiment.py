"""`python -m service experiment`: start, list and stop experiments in a folder of versions.

The services that follow the folder take it over within `REELRANK_POLL_S`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec

from models.errors import BadInput
from models.manifest import Manifest
from models.store import BundleStore
from service.inference.experiments import CURRENT, Arm, ExperimentsFile, NewExperiment, check_weights


def start(folder: Path, name: str, arms: str, share: float) -> None:
    """Start an experiment.

    Args:
        folder: of the versions.
        name: of the experiment.
        arms: `A=VERSION,B=VERSION:weights.json`.
        share: of the users.

    Raises:
        BadInput: an argument is not as it should be, or the file cannot be written.
        BundleError: a version cannot be used, or the file cannot be read.
    """
    store = BundleStore(folder)
    parsed = [_arm(part) for part in arms.split(",")]
    for arm in parsed:
        version = store.current() if arm.version == CURRENT else arm.version
        if version not in store.versions():
            known = ", ".join(store.versions()) or "none"
            raise BadInput(f"Arm {arm.name!r}: {folder} has no version {version!r}; it has {known}.")
        check_weights(arm, Manifest.read(store.path(version)))
    try:
        new = NewExperiment(name=name, share=share, arms=parsed)
    except ValueError as e:
        raise BadInput(f"{e}.") from None
    started = ExperimentsFile(folder).start(new)
    print(f"started {started.name}: {', '.join(arm.name for arm in parsed)}, {share:.2%} of the users")


def stop(folder: Path, name: str) -> None:
    """Stop an experiment; raises as `ExperimentsFile.stop` does."""
    stopped = ExperimentsFile(folder).stop(name)
    print(f"stopped {stopped.name}, which had {stopped.share:.2%} of the users")


def status(folder: Path, *, as_json: bool) -> None:
    """Print the experiments, oldest first; raises as `ExperimentsFile.read` does."""
    for experiment in ExperimentsFile(folder).read():
        if as_json:
            print(msgspec.json.encode(experiment).decode())
            continue
        arms = [f"{arm.name}={arm.version}{' with weights' * bool(arm.weights)}" for arm in experiment.arms]
        ended = "" if experiment.stopped_ms is None else f" until {_date(experiment.stopped_ms)}"
        since = _date(experiment.started_ms)
        print(f"{experiment.name}  {experiment.share:.2%} since {since}{ended}  {', '.join(arms)}")


def _arm(text: str) -> Arm:
    name, equals, rest = text.strip().partition("=")
    version, _, path = rest.partition(":")
    if not equals or not version:
        raise BadInput(f"--arms must be A=VERSION,B=VERSION:weights.json, found {text[:60]!r}.")
    weights = None
    if path:
        try:
            weights = msgspec.json.decode(Path(path).read_bytes(), type=dict[str, float])
        except (OSError, ValueError) as e:
            raise BadInput(f"The weights of arm {name!r}, {path}, cannot be read: {e}.") from None
    return Arm(name=name, version=version, weights=weights)


def _date(moment_ms: int) -> str:
    return f"{datetime.fromtimestamp(moment_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
