"""`kill -9` at random moments of a run, then the same run again: are the files the same?

    python -m tests.kill_points coordination 30

Runs are forks of this process, so that each begins within milliseconds. A kill may come at any
moment between the start and shortly after the end. Prints what was there after each kill; the exit
code is 1 where a second run's files differ from those of a run that nobody disturbed.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from omnimatte_cli.pipeline import decompose
from omnimatte_cli.settings import Settings
from tests.conftest import encode, scene, write_masks

# Times and memory differ between any two runs; the report shows them.
OWN_FACTS = ("seconds", "peak_memory_mb")
OWN_FILES = ("report.html",)
METHODS = {
    "ownership": {"method": "ownership"},
    "coordination": {
        "method": "coordination",
        "weights": "none",
        "iterations": 12,
        "assignments": ("save_interval=0", "batch_size=2"),
    },
}


@dataclass(frozen=True)
class Case:
    """One method on a tiny clip below `folder`."""

    folder: Path
    method: str

    @property
    def out(self) -> Path:
        return self.folder / "work" / "out"

    def prepare(self) -> None:
        """Make the clip."""
        video, masks = scene(7)
        encode(self.folder / "v.mkv", video, "-c:v", "ffv1", "-pix_fmt", "gbrp")
        write_masks(self.folder / "masks" / "block", masks)

    def start(self) -> int:
        """Begin a run in a process of its own."""
        self.out.parent.mkdir(exist_ok=True)
        process = os.fork()
        if process:
            return process
        code = 1
        try:
            for stream in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
            settings = Settings(
                masks=self.folder / "masks", size=(32, 48), overwrite=True, **METHODS[self.method]
            )  # type: ignore[arg-type]
            decompose(self.folder / "v.mkv", self.out, settings)
            code = 0
        finally:
            os._exit(code)

    def finish(self) -> float:
        """Run to the end; seconds that it took."""
        begin = time.monotonic()
        _, status = os.waitpid(self.start(), 0)
        assert os.waitstatus_to_exitcode(status) == 0, status
        return time.monotonic() - begin

    def kill_after(self, seconds: float) -> str:
        """Begin a run, kill it, and say what it left."""
        process = self.start()
        time.sleep(seconds)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        names = sorted(p.name for p in self.out.parent.iterdir())
        return ", ".join(names) or "nothing"

    def files(self) -> dict[str, str]:
        """A hash of every file of the result, and of what lies beside it."""
        found = {}
        for path in sorted(p for p in self.out.parent.rglob("*") if p.is_file()):
            name = path.relative_to(self.out.parent).as_posix()
            data = path.read_bytes()
            if path.name == "manifest.json":
                facts = json.loads(data)
                data = json.dumps({k: facts[k] for k in facts if k not in OWN_FACTS}).encode()
            if path.name not in OWN_FILES:
                found[name] = hashlib.sha256(data).hexdigest()
        return found

    def clear(self) -> None:
        shutil.rmtree(self.out.parent, ignore_errors=True)


def try_kills(case: Case, count: int, seed: int = 0) -> list[str]:
    """Kill `count` runs at random moments and run each again. Returns what went wrong."""
    case.clear()
    seconds = case.finish()
    expected = case.files()
    wrong = []
    moments = random.Random(seed)
    for i in range(count):
        case.clear()
        after = moments.uniform(0, 1.1 * seconds)
        left = case.kill_after(after)
        case.finish()
        found = case.files()
        differ = sorted(n for n in expected | found if expected.get(n) != found.get(n))
        print(f"{case.method} {i + 1}: killed after {after:.2f} s of {seconds:.2f}; left {left}; "
              f"again: {differ or 'the same files'}", flush=True)  # fmt: skip
        if differ:
            wrong.append(f"after {after:.2f} s: {differ}")
    return wrong


def main(method: str, count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        case = Case(Path(folder), method)
        case.prepare()
        wrong = try_kills(case, count)
    print(f"{method}: {count} kills, {len(wrong)} with other files")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
