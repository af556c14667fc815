"""`python -m training fetch`: download, check and unpack the authors' archive."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import Final, NamedTuple

from rich.console import Console

from models.errors import BadInput
from training.data._download import download
from training.data._files import first_line


class Archive(NamedTuple):
    """Where a dataset is published."""

    url: str
    md5: str
    folder: str
    """Top folder inside the archive, and the one that `fetch` makes."""


ARCHIVES: Final = {
    "kuairand-pure": Archive(
        url="https://zenodo.org/records/10439422/files/KuaiRand-Pure.tar.gz",
        md5="0820331067a3784d9691136f772b35a7",
        folder="KuaiRand-Pure",
    )
}
"""The authors' own addresses, linked from https://kuairand.com. The MD5 sum is the one that several
independent projects check the download against. A mismatch refuses the archive; `md5` overrides it."""


def fetch(
    dataset: str,
    dest: Path,
    *,
    url: str | None = None,
    sha256: str | None = None,
    md5: str | None = None,
    progress: bool = True,
    retry_wait_s: float = 1.0,
) -> Path:
    """Download and unpack a dataset.

    An interrupted download is resumed by the next call, and the unpacked folder appears whole or not at all.
    An existing folder is left alone.

    Args:
        dataset: a name in `ARCHIVES`.
        dest: folder, created if missing. Holds the archive during the download.
        url: another address. Its archive may differ, so it is checked only against `sha256` or `md5`.
        sha256: of the archive, hexadecimal.
        md5: of the archive, hexadecimal.
        progress: show a progress bar on standard error.
        retry_wait_s: pause before the first retry of a broken download; it grows with every failure.

    Returns:
        The unpacked folder, for `prepare --source`.

    Raises:
        BadInput: an unknown dataset, an address that does not answer, a wrong checksum, or an archive that
            is damaged or would write outside its folder.
    """
    if dataset not in ARCHIVES:
        raise BadInput(f"unknown dataset {dataset!r}; choose one of {', '.join(ARCHIVES)}.")
    known = ARCHIVES[dataset]
    folder = dest / known.folder
    console = Console(stderr=True, quiet=not progress)
    if folder.exists():
        console.print(f"{folder} is already there; delete it to fetch it again.", soft_wrap=True)
        return folder
    try:
        dest.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise BadInput(f"cannot make the folder {dest}: {e.strerror}; give another one.") from e
    if url is None and sha256 is None and md5 is None:
        md5 = known.md5
    archive = dest / f"{known.folder}.tar.gz"
    if not archive.exists():
        download(url or known.url, archive, progress=progress, retry_wait_s=retry_wait_s)
    for kind, expected in (("sha256", sha256), ("md5", md5)):
        if expected is not None:
            _check(archive, kind, expected)
    _unpack(archive, folder)
    archive.unlink()
    console.print(f"{folder} is ready", soft_wrap=True)
    return folder


def _check(archive: Path, kind: str, expected: str) -> None:
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, kind).hexdigest()
    if found != expected.lower():
        archive.unlink()  # nothing to resume: the bytes are complete, and wrong
        raise BadInput(
            f"{archive.name} has the {kind} {found}, not {expected}; it was deleted. Fetch it again; if the "
            f"authors published a new version, give its {kind}."
        )


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack beside `folder`, then rename. Members outside the top folder and special files are refused."""
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                if not (member.isreg() or member.isdir()):
                    raise BadInput(f"the archive holds {member.name!r}, which is not a plain file.")
                tar.extract(member, work, filter="data")
            while tar.fileobj is not None and tar.fileobj.read(1 << 20):
                pass  # to the end of the stream: only there is gzip's own checksum compared
        top = work / folder.name
        if not top.is_dir():
            raise BadInput(f"{archive.name} holds no folder {folder.name}; is it the right archive?")
        top.replace(folder)
    except tarfile.FilterError as e:
        raise BadInput(f"{archive.name} was not unpacked: {first_line(e)}.") from e
    except (tarfile.TarError, EOFError, zlib.error, OSError) as e:
        if isinstance(e, OSError) and e.errno is not None:  # the disk's fault, not the archive's
            raise BadInput(f"cannot unpack {archive.name} in {folder.parent}: {e.strerror}.") from e
        archive.unlink(missing_ok=True)
        raise BadInput(f"{archive.name} is damaged: {first_line(e)}; it was deleted, fetch it again.") from e
    finally:
        shutil.rmtree(work, ignore_errors=True)
