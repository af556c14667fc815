"""Trials: a second version that answers a share of the users, or scores a share of the requests unseen.

    bundles/SPLIT      20260102-00000002=0.1      beside `CURRENT`: every worker follows them, and they are
    bundles/SHADOW     20260102-00000002=0.05     there after a restart

A share of 0 says that the trial was ended; it stands against a setting that would begin it again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final, Literal

from models.errors import BadInput, CorruptBundle

Role = Literal["split", "shadow"]
"""`split`: answers its share of the users. `shadow`: scores its share of the requests, and nobody sees it."""

ROLES: Final[tuple[Role, ...]] = ("split", "shadow")

_UNITS: Final = 2**53
"""Places a user may have: as many as a float can tell apart."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A version on trial."""

    version: str
    share: float
    """0 to 1: of the users, for a split; of the requests, for a shadow. 0 is a trial that was ended."""

    @classmethod
    def parse(cls, text: str, source: str) -> Trial:
        """`VERSION=SHARE`, as in a file or a setting.

        Args:
            text: what was found.
            source: where, for the message.

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
        """Whether the user belongs to the share: always the same answer for one user and version.

        The version salts the hash, so that another trial draws other users, and whoever belongs to a share
        still does when it grows.
        """
        digest = blake2b(user_id.encode(), digest_size=8, key=self.version.encode()[:64]).digest()
        return (int.from_bytes(digest) >> 11) / _UNITS < self.share


class Trials:
    """The files `SPLIT` and `SHADOW`.

    Args:
        folder: of the versions.
        settings: what holds for a role as long as it has no file.
    """

    def __init__(self, folder: Path, settings: Mapping[Role, Trial | None]) -> None:
        self._folder = folder
        self._settings = settings

    def read(self, role: Role) -> Trial | None:
        """What is wanted now; `None` where nothing is on trial.

        Raises:
            CorruptBundle: the file cannot be read, or holds something else.
        """
        path = self._folder / role.upper()
        try:
            trial: Trial | None = Trial.parse(path.read_text("ascii", "replace"), str(path))
        except FileNotFoundError:
            trial = self._settings[role]
        except (OSError, BadInput) as e:
            raise CorruptBundle(f"{e} Remove {path}, or name a version by POST /v1/models.") from e
        return trial if trial is not None and trial.share > 0 else None

    def write(self, role: Role, trial: Trial) -> None:
        """Replace the file in one step, written through to the disk.

        Raises:
            BadInput: it cannot be written.
        """
        path = self._folder / role.upper()
        draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
        try:
            with draft.open("w", encoding="ascii") as file:
                file.write(f"{trial.version}={trial.share!r}\n")
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except OSError as e:
            raise BadInput(
                f"{path} cannot be written: {e.strerror or e}. The folder of versions must be one that this "
                "user may write to, with space left."
            ) from e
