"""Rollouts: a second version that answers a share of the users (canary split), or scores a share of the
requests after they were answered (shadow).

    bundles/SPLIT      20260102-00000002=0.1      beside `CURRENT`: every worker follows them, and they
    bundles/SHADOW     20260102-00000002=0.05     outlive a restart

A share of 0 is a rollout that was stopped; it overrides a setting that would start it again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final, Literal

from models.errors import BadInput, ContractMismatch, CorruptBundle
from models.runtime import Bundle

Role = Literal["split", "shadow"]
"""`split`: answers its share of the users. `shadow`: scores its share of the requests, and changes no
answer."""

ROLES: Final[tuple[Role, ...]] = ("split", "shadow")

_UNITS: Final = 2**53
"""Values of the hash: as many as a float holds exactly."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """A version and its share."""

    version: str
    share: float
    """0 to 1: of the users, for a split; of the requests, for a shadow. 0 is a rollout that was stopped."""

    @classmethod
    def parse(cls, text: str, source: str) -> Rollout:
        """Parse `VERSION=SHARE`, as in a file or a setting.

        Args:
            text: of the file or setting.
            source: its name, for the message.

        Raises:
            BadInput: it is something else.
        """
        version, _, share = text.strip().partition("=")
        try:
            value = float(share)
        except ValueError:
            value = -1.0
        if not version or not 0 <= value <= 1:
            raise BadInput(
                f"{source} must be VERSION=SHARE with a share of 0 to 1, e.g. 20260101-0123abcd=0.1, "
                f"found {text.strip()[:60]!r}."
            )
        return cls(version, value)

    def includes(self, user_id: str) -> bool:
        """Return whether the user belongs to the share: always the same answer for one user and version.

        The version salts the hash, so that another rollout selects other users; a share that grows keeps
        those it had.
        """
        digest = blake2b(user_id.encode(), digest_size=8, key=self.version.encode()[:64]).digest()
        return (int.from_bytes(digest) >> 11) / _UNITS < self.share


class RolloutFiles:
    """The files `SPLIT` and `SHADOW`.

    Args:
        folder: of the versions.
        settings: what holds for a role as long as it has no file.
    """

    def __init__(self, folder: Path, settings: Mapping[Role, Rollout | None]) -> None:
        self._folder = folder
        self._settings = settings

    def read(self, role: Role) -> Rollout | None:
        """Return the rollout of a role; `None` without one.

        Raises:
            CorruptBundle: the file cannot be read, or holds something else.
        """
        path = self._folder / role.upper()
        try:
            rollout: Rollout | None = Rollout.parse(path.read_text("ascii", "replace"), str(path))
        except FileNotFoundError:
            rollout = self._settings[role]
        except OSError as e:
            raise CorruptBundle(f"{path} cannot be read: {e.strerror}. It is looked at again.") from e
        except BadInput as e:
            raise CorruptBundle(f"{e} Remove {path}, or name a version by POST /v1/models.") from e
        return rollout if rollout is not None and rollout.share > 0 else None

    def write(self, role: Role, rollout: Rollout) -> None:
        """Replace the file in one step, written through to the disk.

        Raises:
            BadInput: it cannot be written.
        """
        path = self._folder / role.upper()
        draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
        try:
            with draft.open("w", encoding="ascii") as file:
                file.write(f"{rollout.version}={rollout.share!r}\n")
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except OSError as e:
            raise BadInput(
                f"{path} cannot be written: {e.strerror or e}. The folder of versions must be one that this "
                "user may write to, with space left."
            ) from e


def check_compatible(bundle: Bundle, active: Bundle) -> None:
    """Check that `bundle` can answer users of `active`: that it has every label and objective of it.

    Raises:
        ContractMismatch: it lacks one.
    """
    version, active_version = bundle.manifest.version, active.manifest.version
    for kind, missing in (
        ("label", set(active.manifest.labels) - set(bundle.manifest.labels)),
        ("objective", set(active.manifest.objectives) - set(bundle.manifest.objectives)),
    ):
        if missing:
            raise ContractMismatch(
                f"{version} has no {kind} {min(missing)!r}, which {active_version} serves: the users "
                "of a split would lose it. Export it with all of them, or try it as a shadow."
            )
