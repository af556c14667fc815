"""`python -m training fetch`: the authors' archive, checked and unpacked."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from rich.console import Console

from models.errors import BadInput
from training.data._download import download
from training.data._source import first_line


class Archive(NamedTuple):
    """Where a data set is published."""

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
"""The authors' own addresses, linked from https://kuairand.com. Zenodo publishes MD5 sums; this one was
not read there by us: several independent projects state it as the one they checked the download against.
If it should be wrong, `fetch` refuses the archive and says what it found; `md5` overrides it."""


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
    """Download and unpack a data set into `dest`.

    Interrupted at any moment, it leaves either nothing or a part that the next call goes on from; the
    unpacked folder appears whole. A folder that is already there is left alone.

    Args:
        dataset: a name in `ARCHIVES`.
        dest: made if missing. Holds the archive while it is being fetched.
        url: another address. The archive there may be another one, so the known checksum is not asked of
            it: give `sha256` or `md5`.
        sha256: of the archive, hexadecimal.
        md5: of the archive, hexadecimal.
        progress: show a bar on stderr.
        retry_wait_s: pause before a broken download is resumed, growing with every failure.

    Returns:
        The unpacked folder, for `prepare --source`.

    Raises:
        BadInput: an unknown data set, an address that does not answer, a wrong checksum, or an archive that
            is damaged or would write outside its folder.
    """
    if dataset not in ARCHIVES:
        raise BadInput(f"unknown data set {dataset!r}; choose one of {', '.join(ARCHIVES)}.")
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
    for kind, wanted in (("sha256", sha256), ("md5", md5)):
        if wanted is not None:
            _check(archive, kind, wanted)
    _unpack(archive, folder)
    archive.unlink()
    console.print(f"{folder} is ready", soft_wrap=True)
    return folder


def _check(archive: Path, kind: str, wanted: str) -> None:
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, kind).hexdigest()
    if found != wanted.lower():
        archive.unlink()  # nothing to resume: the bytes are complete, and wrong
        raise BadInput(
            f"{archive.name} has the {kind} {found}, not {wanted}; it was deleted. Fetch it again; if the "
            f"authors published a new version, give its {kind}."
        )


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack beside `folder`, then rename. Only plain files and folders below the top folder are taken."""
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                _unpack_one(tar, member, work)
            while tar.fileobj is not None and tar.fileobj.read(1 << 20):
                pass  # to the end of the stream: only there is gzip's own checksum compared
        top = work / folder.name
        if not top.is_dir():
            raise BadInput(f"{archive.name} holds no folder {folder.name}; is it the right archive?")
        top.replace(folder)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as e:
        if isinstance(e, OSError) and e.errno is not None:  # the disk's fault, not the archive's
            raise BadInput(f"cannot unpack {archive.name} in {folder.parent}: {e.strerror}.") from e
        archive.unlink(missing_ok=True)
        raise BadInput(f"{archive.name} is damaged: {first_line(e)}; it was deleted, fetch it again.") from e
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _unpack_one(tar: tarfile.TarFile, member: tarfile.TarInfo, work: Path) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\\" in member.name:
        raise BadInput(f"the archive would write {member.name!r}, outside its folder; it was not unpacked.")
    target = work / name
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    content = tar.extractfile(member) if member.isreg() else None
    if content is None:
        raise BadInput(f"the archive holds {member.name!r}, no plain file; it was not unpacked.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with content, target.open("wb") as file:
        shutil.copyfileobj(content, file)
