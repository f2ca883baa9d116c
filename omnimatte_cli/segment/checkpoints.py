"""Find segment-anything's checkpoints, and download them once."""

from __future__ import annotations

import http.client
import os
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

from omnimatte_cli.errors import WeightsError
from omnimatte_cli.media.digest import sha256_of
from omnimatte_cli.media.lock import WorkFolder
from omnimatte_cli.progress import Progress, Silent

ADDRESS = "https://dl.fbaipublicfiles.com/segment_anything/"  # the authors'
FILES = {  # the six digits in each name begin the file's SHA-256
    "vit_b": "sam_vit_b_01ec64.pth",
    "vit_l": "sam_vit_l_0b3195.pth",
    "vit_h": "sam_vit_h_4b8939.pth",
}
BLOCK = 1 << 20  # bytes read at a time
TIMEOUT = 30.0  # seconds without an answer
POLL = 0.5  # seconds between looks whether another process has finished


def cache_folder() -> Path:
    """Where downloads are kept: OMNIMATTE_CACHE, else the user's cache folder."""
    import platformdirs

    given = os.environ.get("OMNIMATTE_CACHE")
    return Path(given) if given else Path(platformdirs.user_cache_dir("omnimatte", appauthor=False))


def find_checkpoint(
    model: str | None, path: Path | None, progress: Progress | None = None, address: str = ADDRESS
) -> Path:
    """The checkpoint's path, downloaded if a model is named and it is not in the cache.

    model: vit_b, vit_l, vit_h or None. path: the user's own file, which goes first. Raises
    WeightsError where there is none, or none can be had.
    """
    if path is not None:
        if not path.is_file():
            raise WeightsError(f"The SAM checkpoint {path} does not exist.")
        return path
    assert model in FILES, model
    target = cache_folder() / FILES[model]
    if not target.is_file():
        download(address + FILES[model], target, progress or Silent())
    return target


def download(address: str, target: Path, progress: Progress) -> None:
    """Download to `target`, going on where a broken download ended.

    One process at a time downloads a file; others wait for it. The bytes gather in a `.part` file
    that is renamed once its SHA-256 begins with the digits in the file's name.
    Raises WeightsError with address and path where that fails.
    """
    advice = f"Download {address} yourself and save it as {target}."
    place = WorkFolder(target.with_name(f".{target.name}.download"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        waits = not place.claim()
        if waits:
            progress.say(f"Another process downloads {target.name}: waiting for it.")
        while waits and not place.claim():
            time.sleep(POLL)
    except OSError as error:
        raise WeightsError(f"{target} cannot be written ({error.strerror}). {advice}") from error
    try:
        if not target.is_file():  # else the other process has brought it
            _download(address, target, advice, progress)
    finally:
        place.remove()


def _download(address: str, target: Path, advice: str, progress: Progress) -> None:
    part = target.with_name(target.name + ".part")
    try:
        _fetch(address, part, progress)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise WeightsError(
            f"The SAM checkpoint cannot be downloaded ({reason}). {advice}"
        ) from error
    wanted = _digits(target.name)
    found = sha256_of(part)
    if wanted and not found.startswith(wanted):
        part.unlink()
        raise WeightsError(
            f"What {address} sent is damaged: its SHA-256 begins with {found[:6]}, not {wanted}. "
            f"Try again, or save the right file as {target}."
        )
    os.replace(part, target)


def _fetch(address: str, part: Path, progress: Progress) -> None:
    """Bring `part` up to the whole file; what it holds already is not asked for again."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(address)
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if have and error.code == 416:  # nothing is left to send: the part is whole, or not of it
            return
        raise
    with answer:
        if answer.status != 206:  # this server sends everything again
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        progress.stage("downloading SAM", None if total is None else total // BLOCK)
        with part.open("ab" if have else "wb") as file:
            while block := answer.read(BLOCK):
                file.write(block)
                have += len(block)
                progress.step(have // BLOCK, "MB")
    if total is not None and have < total:
        raise OSError(f"the connection broke after {have} of {total} bytes; run it again to go on")


def _digits(name: str) -> str:
    """The beginning of the SHA-256 that a checkpoint's name tells, or nothing."""
    found = re.search(r"_([0-9a-f]{6,64})\.pth$", name)
    return found.group(1) if found else ""
