"""SAM's checkpoints are downloaded whole or not at all."""

from __future__ import annotations

import hashlib
import http.server
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from omnimatte_cli.errors import WeightsError
from omnimatte_cli.progress import Silent
from omnimatte_cli.segment import checkpoints

DATA = np.random.default_rng(0).integers(0, 256, 3_000_000, np.uint8).tobytes()
NAME = f"sam_vit_b_{hashlib.sha256(DATA).hexdigest()[:6]}.pth"


class Server:
    """A web server on this machine; `asked` holds the Range of each request."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []
        self.ranges = True
        self.stop_after: int | None = None
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                outer.asked.append(wanted)
                if not self.path.endswith(".pth"):
                    self.send_error(404)
                    return
                start = int(wanted[6:-1]) if wanted and outer.ranges else 0
                if start >= len(DATA):
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(DATA) - start))
                self.end_headers()
                end = None if outer.stop_after is None else start + outer.stop_after
                self.wfile.write(DATA[start:end])

            def log_message(self, *_: object) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMNIMATTE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(checkpoints.FILES, "vit_b", NAME)
    running = Server()
    yield running
    running.close()


class Watch(Silent):
    """Remembers the stages."""

    def __init__(self) -> None:
        self.totals: list[int | None] = []
        self.done = 0

    def stage(self, name: str, total: int | None = None) -> None:
        self.totals.append(total)

    def step(self, done: int, note: str = "") -> None:
        self.done = done


def test_downloads_once_to_the_cache(server: Server, tmp_path: Path) -> None:
    watch = Watch()
    path = checkpoints.find_checkpoint("vit_b", None, watch, server.address)
    assert path == tmp_path / "cache" / NAME and path.read_bytes() == DATA
    assert watch.totals == [len(DATA) >> 20] and watch.done == len(DATA) >> 20
    assert not list(path.parent.glob("*.part"))
    assert checkpoints.find_checkpoint("vit_b", None, None, server.address) == path
    assert len(server.asked) == 1


def test_workers_that_need_the_same_checkpoint_download_it_once(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They do not append to one another's part."""
    monkeypatch.setattr(checkpoints, "POLL", 0.01)

    def find(_: int) -> bytes:
        return checkpoints.find_checkpoint("vit_b", None, None, server.address).read_bytes()

    with ThreadPoolExecutor(4) as pool:
        assert all(data == DATA for data in pool.map(find, range(4)))
    assert server.asked == [None]


def test_goes_on_where_the_connection_broke(server: Server, tmp_path: Path) -> None:
    server.stop_after = 1_200_000
    with pytest.raises(WeightsError, match=f"broke after.*{NAME} yourself.*cache"):
        checkpoints.find_checkpoint("vit_b", None, None, server.address)
    part = tmp_path / "cache" / (NAME + ".part")
    assert part.stat().st_size == 1_200_000 and not part.with_suffix("").exists()
    server.stop_after = None
    path = checkpoints.find_checkpoint("vit_b", None, None, server.address)
    assert path.read_bytes() == DATA
    assert server.asked == [None, "bytes=1200000-"]


def test_starts_again_where_the_server_cannot_resume(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    part = tmp_path / "cache" / (NAME + ".part")
    part.parent.mkdir()
    part.write_bytes(b"x" * 1000)
    assert checkpoints.find_checkpoint("vit_b", None, None, server.address).read_bytes() == DATA


def test_a_whole_part_is_only_renamed(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "cache" / (NAME + ".part")
    part.parent.mkdir()
    part.write_bytes(DATA)
    assert checkpoints.find_checkpoint("vit_b", None, None, server.address).read_bytes() == DATA


def test_a_wrong_hash_is_refused_and_forgotten(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(checkpoints.FILES, "vit_b", "sam_vit_b_000000.pth")
    with pytest.raises(WeightsError, match=r"damaged: its SHA-256 begins with .* not 000000"):
        checkpoints.find_checkpoint("vit_b", None, None, server.address)
    assert not any((tmp_path / "cache").iterdir())


def test_offline_the_error_says_address_and_target(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OMNIMATTE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/"
    with pytest.raises(WeightsError) as caught:
        checkpoints.find_checkpoint("vit_h", None, None, address)
    assert f"Download {address}sam_vit_h_4b8939.pth yourself" in str(caught.value)
    assert str(tmp_path / "cache" / "sam_vit_h_4b8939.pth") in str(caught.value)


def test_the_users_own_file_goes_first(tmp_path: Path) -> None:
    own = tmp_path / "mine.pth"
    with pytest.raises(WeightsError, match=r"mine\.pth does not exist"):
        checkpoints.find_checkpoint("vit_b", own)
    own.write_bytes(b"")
    assert checkpoints.find_checkpoint("vit_b", own) == own
