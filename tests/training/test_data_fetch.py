"""`fetch` against a real HTTP server on this machine that misbehaves in every way we know."""

from __future__ import annotations

import hashlib
import http.server
import io
import random
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from models.errors import BadInput
from tests.training.kuairand_csv import write_kuairand
from training.data import fetch, prepare


@dataclass
class Origin:
    """What the server has and how it behaves; and what it was ranges_requested."""

    body: bytes
    etag: str | None = '"v1"'
    ranges: bool = True
    heeds_if_range: bool = True
    drop_after: list[int] = field(default_factory=list)
    """Bytes of the body after which each of the next answers breaks off."""
    statuses: list[int] = field(default_factory=list)
    """Errors that the next answers are instead."""
    redirect: bool = False
    ranges_requested: list[str | None] = field(default_factory=list)
    """The `Range` header of each request."""
    url: str = ""


class Handler(http.server.BaseHTTPRequestHandler):
    origin: Origin

    def do_GET(self) -> None:
        origin = self.origin
        wanted = self.headers.get("Range")
        origin.ranges_requested.append(wanted)
        if origin.statuses:
            self.send_error(origin.statuses.pop(0))
            return
        if self.path == "/missing":
            self.send_error(404)
            return
        if origin.redirect and self.path == "/archive":
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = 0
        unchanged = not origin.heeds_if_range or self.headers.get("If-Range") == origin.etag
        if wanted and origin.ranges and unchanged:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(origin.body):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(origin.body) - 1}/{len(origin.body)}")
        else:
            self.send_response(200)
        body = origin.body[start:]
        self.send_header("Content-Length", str(len(body)))
        if origin.etag is not None:
            self.send_header("ETag", origin.etag)
        self.end_headers()
        if origin.drop_after:
            self.wfile.write(body[: origin.drop_after.pop(0)])
            self.close_connection = True
            return
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


def packed(files: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    """A tar.gz of these files; a TarInfo is put in as it is."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


LOG = random.Random(0).randbytes(300_000)
ARCHIVE = packed({"KuaiRand-Pure/data/log_standard_x.csv": LOG, "KuaiRand-Pure/load_data_pure.py": b"#"})


@pytest.fixture
def origin() -> Iterator[Origin]:
    state = Origin(ARCHIVE)
    handler = type("OneHandler", (Handler,), {"origin": state})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/archive"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def get(origin: Origin, dest: Path, **more: str) -> Path:
    return fetch("kuairand-pure", dest, url=origin.url, progress=False, retry_wait_s=0.001, **more)


def refusal(origin: Origin, dest: Path, **more: str) -> str:
    with pytest.raises(BadInput) as caught:
        get(origin, dest, **more)
    assert "\n" not in str(caught.value)
    assert not (dest / "KuaiRand-Pure").exists()
    return str(caught.value)


def log_of(folder: Path) -> bytes:
    return (folder / "data" / "log_standard_x.csv").read_bytes()


class TestAGoodServer:
    def test_the_archive_is_unpacked_and_nothing_else_is_left(self, origin: Origin, tmp_path: Path) -> None:
        folder = get(origin, tmp_path / "raw", sha256=hashlib.sha256(ARCHIVE).hexdigest())
        assert folder == tmp_path / "raw" / "KuaiRand-Pure"
        assert log_of(folder) == LOG
        assert [p.name for p in folder.parent.iterdir()] == ["KuaiRand-Pure"]

    def test_what_is_there_is_not_fetched_again(self, origin: Origin, tmp_path: Path) -> None:
        get(origin, tmp_path)
        get(origin, tmp_path)
        assert len(origin.ranges_requested) == 1

    def test_redirects_are_followed(self, origin: Origin, tmp_path: Path) -> None:
        origin.redirect = True
        assert log_of(get(origin, tmp_path)) == LOG

    def test_progress_goes_to_stderr_alone(
        self, origin: Origin, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        fetch("kuairand-pure", tmp_path, url=origin.url)
        printed = capfd.readouterr()
        assert printed.out == ""
        assert "is ready" in printed.err

    def test_prepare_takes_the_folder(self, origin: Origin, tmp_path: Path) -> None:
        source = write_kuairand(tmp_path / "made")
        files = {f"KuaiRand-Pure/data/{p.name}": p.read_bytes() for p in (source / "data").iterdir()}
        origin.body = packed(dict(files))
        summary = prepare("kuairand-pure", get(origin, tmp_path / "raw"), tmp_path / "out", progress=False)
        assert summary.info.rows.kept == 10


class TestABrokenConnection:
    def test_is_resumed_from_the_byte_it_broke_at(self, origin: Origin, tmp_path: Path) -> None:
        origin.drop_after = [100_000, 50_000]
        assert log_of(get(origin, tmp_path)) == LOG
        assert origin.ranges_requested == [None, "bytes=100000-", "bytes=150000-"]

    def test_a_later_call_goes_on_where_the_last_gave_up(self, origin: Origin, tmp_path: Path) -> None:
        origin.drop_after = [100_000, 0, 0, 0, 0, 0]
        assert "100,000 bytes are kept" in refusal(origin, tmp_path)
        origin.drop_after, origin.ranges_requested = [], []
        assert log_of(get(origin, tmp_path)) == LOG
        assert origin.ranges_requested == ["bytes=100000-"]

    @pytest.mark.parametrize("heeds_if_range", [True, False])
    def test_a_file_that_changed_meanwhile_is_fetched_anew(
        self, origin: Origin, tmp_path: Path, heeds_if_range: bool
    ) -> None:
        origin.heeds_if_range = heeds_if_range
        origin.drop_after = [100_000, 0, 0, 0, 0, 0]
        refusal(origin, tmp_path)
        changed = LOG[::-1]
        origin.body = packed({"KuaiRand-Pure/data/log_standard_x.csv": changed})
        origin.etag, origin.drop_after = '"v2"', []
        assert log_of(get(origin, tmp_path)) == changed

    def test_a_server_without_ranges_starts_over(self, origin: Origin, tmp_path: Path) -> None:
        origin.ranges, origin.drop_after = False, [100_000]
        assert log_of(get(origin, tmp_path)) == LOG

    @pytest.mark.parametrize("etag", [None, 'W/"weak"'])
    def test_without_a_validator_nothing_is_pieced_together(
        self, origin: Origin, tmp_path: Path, etag: str | None
    ) -> None:
        origin.etag, origin.drop_after = etag, [100_000]
        assert log_of(get(origin, tmp_path)) == LOG
        assert origin.ranges_requested == [None, None]

    def test_a_part_of_another_address_is_not_gone_on_with(self, origin: Origin, tmp_path: Path) -> None:
        origin.drop_after = [100_000, 0, 0, 0, 0, 0]
        refusal(origin, tmp_path)
        origin.url = origin.url.replace("/archive", "/other")
        origin.drop_after, origin.ranges_requested = [], []
        assert log_of(get(origin, tmp_path)) == LOG
        assert origin.ranges_requested == [None]

    def test_a_part_longer_than_the_file_is_thrown_away(self, origin: Origin, tmp_path: Path) -> None:
        origin.drop_after = [100_000, 0, 0, 0, 0, 0]
        refusal(origin, tmp_path)
        with (tmp_path / "KuaiRand-Pure.tar.gz.part").open("ab") as file:
            file.write(bytes(len(ARCHIVE)))
        assert log_of(get(origin, tmp_path)) == LOG

    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_a_server_in_trouble_is_asked_again(self, origin: Origin, tmp_path: Path, status: int) -> None:
        origin.statuses = [status, status]
        assert log_of(get(origin, tmp_path)) == LOG

    def test_a_server_in_lasting_trouble_is_given_up(self, origin: Origin, tmp_path: Path) -> None:
        origin.statuses = [503] * 20
        assert "503" in refusal(origin, tmp_path)


class TestWhatIsRefused:
    def test_an_address_that_is_not_there(self, origin: Origin, tmp_path: Path) -> None:
        origin.url = origin.url.replace("/archive", "/missing")
        assert "404" in refusal(origin, tmp_path)
        assert len(origin.ranges_requested) == 1

    @pytest.mark.parametrize(
        "url", ["ftp://127.0.0.1/x", "nonsense", "http://127.0.0.1:1/x", "http://[bad/x"]
    )
    def test_an_address_that_leads_nowhere(self, origin: Origin, tmp_path: Path, url: str) -> None:
        origin.url = url
        assert url in refusal(origin, tmp_path)

    @pytest.mark.parametrize("kind", ["sha256", "md5"])
    def test_a_wrong_checksum_and_the_archive_is_deleted(
        self, origin: Origin, tmp_path: Path, kind: str
    ) -> None:
        assert f"has the {kind} {hashlib.new(kind, ARCHIVE).hexdigest()}" in refusal(
            origin, tmp_path, **{kind: "0" * 32}
        )
        assert list(tmp_path.iterdir()) == []
        assert log_of(get(origin, tmp_path)) == LOG

    @pytest.mark.parametrize("name", ["../evil", "KuaiRand-Pure/../../evil"])
    def test_an_archive_that_would_write_outside(self, origin: Origin, tmp_path: Path, name: str) -> None:
        origin.body = packed({"KuaiRand-Pure/ok": b"1", name: b"evil"})
        assert "outside the destination" in refusal(origin, tmp_path / "raw")
        assert not (tmp_path / "evil").exists()
        assert [p.name for p in (tmp_path / "raw").iterdir() if p.is_dir()] == []

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
    def test_an_archive_with_anything_but_files(self, origin: Origin, tmp_path: Path, kind: bytes) -> None:
        member = tarfile.TarInfo("KuaiRand-Pure/link")
        member.type, member.linkname = kind, "/etc/passwd"
        origin.body = packed({"KuaiRand-Pure/link": member})
        assert "not a plain file" in refusal(origin, tmp_path)

    @pytest.mark.parametrize("spoil", ["cut", "garbage", "flipped", "empty"])
    def test_a_damaged_archive(self, origin: Origin, tmp_path: Path, spoil: str) -> None:
        flipped = bytearray(ARCHIVE)
        flipped[len(flipped) // 2] ^= 0xFF
        spoilt = {"cut": ARCHIVE[:-5_000], "garbage": LOG, "flipped": bytes(flipped), "empty": b""}
        origin.body = spoilt[spoil]
        assert "damaged" in refusal(origin, tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_another_archive_than_the_one_expected(self, origin: Origin, tmp_path: Path) -> None:
        origin.body = packed({"Other/file": b"1"})
        assert "no folder KuaiRand-Pure" in refusal(origin, tmp_path)

    def test_an_unknown_data_set(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match="choose one of kuairand-pure"):
            fetch("movielens", tmp_path, progress=False)
