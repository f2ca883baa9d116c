"""Put a finished folder in its place: whole or not at all, and nothing of the user's is lost.

A new folder is written beside its place under a hidden name and renamed. A folder that is there
already (the working folder, a mount point, a result to replace) is filled: the new files gather in
a hidden folder inside it and are moved in at the end. A move that was cut off is completed by the
next run.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from omnimatte_cli.errors import OmnimatteError, OutputError
from omnimatte_cli.interrupt import ignored_interrupts, insist
from omnimatte_cli.media.atomic import write_text
from omnimatte_cli.media.listing import (
    MARK,
    add_to_list,
    is_empty,
    read_list,
    remove_listed,
    strangers_in,
    write_list,
)
from omnimatte_cli.media.lock import WorkFolder

__all__ = ["MARK", "add_to_list", "check_apart", "output_folder", "state_path"]

log = logging.getLogger(__name__)

WORK = ".omnimatte.work"  # hidden folder that is worked in; ".NAME.omnimatte.work" beside a new one
NEW, OLD, READY = "new", "old", "moving.json"  # in it: what is written, what it replaces, the plan
# Moved in last: their presence says "finished".
LAST = (MARK, "trimasks.json", "masks.json", "manifest.json")


@contextlib.contextmanager
def output_folder(
    out: Path,
    overwrite: bool,
    inputs: Sequence[Path] = (),
    say: Callable[[str], None] = log.info,
) -> Iterator[Path]:
    """A hidden folder to write into, whose content stands at `out` when the block ends well.

    When it does not (an interrupt included), `out` is as it was. A folder that is not empty is
    replaced only with `overwrite`, only if its list says that this tool wrote all that is in it,
    and only if none of `inputs` lies inside; nor may `out` lie in a folder of `inputs`, which would
    read it the next time. say: told about what earlier runs left.
    Raises OutputError, for all that can be known beforehand before the block begins.
    """
    out = Path(out).resolve()
    _check_place(out, inputs)
    made = [p for p in out.parents if not p.exists()]  # the deepest first
    work = _claim(out, made)
    new = work.path / NEW
    try:
        _clear_leftovers(out, work, say)
        _check_content(out, overwrite, inputs)
        new.mkdir()
        made_one = new.stat()
        try:
            yield new
        except Exception:
            _check_there(new, made_one, out)  # else a file would be missed that the run wrote
            raise
        _check_there(new, made_one, out)
        with ignored_interrupts():
            write_list(new)
            _put_in_place(work.path, out)
    except BaseException as error:
        insist(lambda: _give_up(work, made))
        raise _without_hidden_names(error, new, out) from error.__cause__
    insist(lambda: _finish(out, work))


def state_path(out: Path, what: str = "finetune") -> Path:
    """The beginning of the path that an interrupted training is kept under, hidden.

    In the folder where it is there (what lies beside it may not be writable), else beside it.
    """
    out = out.resolve()
    return out / f".omnimatte.{what}" if out.is_dir() else out.parent / f".{out.name}.{what}"


# ------------------------------------------------------------------------------------------ checks


def check_apart(out: Path, inputs: Sequence[Path]) -> None:
    """Raise OutputError where a file or folder that is written is one of `inputs`, or lies in one.

    What lies among images or masks would be taken for one of them the next time.
    """
    place = out.resolve()
    for source in (Path(s).resolve() for s in inputs):
        if place == source:
            raise OutputError(f"{out} is what is read: choose another name.")
        if source.is_dir() and place.is_relative_to(source):
            raise OutputError(
                f"{out} lies in {source}, which is read: the next run would take it for input; "
                "write to a place outside of it."
            )


def _check_place(out: Path, inputs: Sequence[Path]) -> None:
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file: give a folder to write to.")
    # One that is read itself is refused for what it holds.
    check_apart(out, [s for s in inputs if Path(s).resolve() != out])


def _check_content(out: Path, overwrite: bool, inputs: Sequence[Path]) -> None:
    if not out.exists() or is_empty(out):
        return
    if not overwrite:
        raise OutputError(f"{out} exists and is not empty: choose another, or --overwrite it.")
    for source in inputs:
        if Path(source).resolve().is_relative_to(out):
            raise OutputError(f"{source} lies in {out}, which --overwrite would delete.")
    if read_list(out) is None:
        raise OutputError(
            f"{out} is not a result of this tool (it has no {MARK} with its signature): "
            "it is not overwritten; delete it yourself, or write to another folder."
        )
    strange = strangers_in(out)
    if strange:
        more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        raise OutputError(
            f"{out} also holds {strange[0]}{more}, which this tool did not write: move it away, "
            "or write to another folder."
        )


# -------------------------------------------------------------------------------- beginning and end


def _check_there(new: Path, made: os.stat_result, out: Path) -> None:
    """Raise OutputError where what was written is no longer in the folder that was made for it.

    Whoever writes a file makes its folder: one that was deleted under way would come back, without
    what had been in it.
    """
    try:
        if os.path.samestat(new.stat(), made):
            return
    except OSError:
        pass
    raise OutputError(f"What was written for {out} was deleted under way: run it again.")


def _claim(out: Path, made: Sequence[Path]) -> WorkFolder:
    """Lock the place that a run to `out` works in. Raises OutputError.

    made: folders above that are made for it, the deepest first.
    """
    inside = out.is_dir()
    work = WorkFolder(out / WORK if inside else out.parent / f".{out.name}{WORK}")
    place = out if inside else out.parent
    try:
        place.mkdir(parents=True, exist_ok=True)
        free = work.claim()
    except OSError as error:
        _remove_empty(made)
        raise OutputError(f"{place} cannot be written to: {error.strerror}.") from error
    if not free:
        raise OutputError(f"{out} is being written by another run: wait for it, or stop it.")
    return work


def _clear_leftovers(out: Path, work: WorkFolder, say: Callable[[str], None]) -> None:
    """Complete what a dead run was moving into place, and remove what it left."""
    inside = work.path.parent == out
    others = [] if not inside else [WorkFolder(out.parent / f".{out.name}{WORK}")]
    for other in others:  # of a run that was cut off before the folder was made
        if other.path.is_dir() and os.access(other.path, os.W_OK) and other.claim():
            shutil.rmtree(other.path / NEW, ignore_errors=True)
            other.remove()
    if not work.found:
        return
    if (work.path / READY).exists():
        _move(work.path, out)
        say(f"An earlier run was cut off while it put its result into {out}: it is complete now.")
    else:
        say(f"What an earlier run to {out} left when it was cut off was removed.")
    _clean(work.path, out)


def _give_up(work: WorkFolder, made: Sequence[Path]) -> None:
    """Remove what was written; a move that cannot be taken back stays for the next run."""
    if not (work.path / READY).exists():
        shutil.rmtree(work.path / NEW, ignore_errors=True)
        _remove_empty([work.path / OLD])
    work.remove()
    _remove_empty(made)


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):  # not empty: something else is there by now
            folder.rmdir()


def _finish(out: Path, work: WorkFolder) -> None:
    _clean(work.path, out)
    work.remove()


def _clean(work: Path, out: Path) -> None:
    """Delete an incomplete new result and a replaced old one; files of others go back to `out`."""
    shutil.rmtree(work / NEW, ignore_errors=True)
    old = work / OLD
    if not old.exists():
        return
    for name in remove_listed(old, [*(read_list(old) or ()), MARK]):
        back = out / name
        if name.endswith("/") or os.path.lexists(back):
            back = out / f"{name.rstrip('/')}.kept"
        back.parent.mkdir(parents=True, exist_ok=True)
        os.rename(old / name, back)
    shutil.rmtree(old, ignore_errors=True)


# ------------------------------------------------------------------------------------------- moving


def _put_in_place(work: Path, out: Path) -> None:
    """Move the finished files of `work` to `out`. Raises OutputError; `out` is then as it was."""
    new = work / NEW
    if work.parent != out:
        try:
            os.rename(new, out)
        except OSError as error:
            reason = "it is not empty by now" if out.exists() else str(error.strerror)
            raise OutputError(f"{out} cannot be put in place: {reason}.") from error
        return
    listed = read_list(out) or frozenset()
    mine = {name.split("/")[0] for name in listed} | ({MARK} if listed else set())
    coming = sorted(os.listdir(new), key=lambda n: (n in LAST, LAST.index(n) if n in LAST else 0))
    taken = [name for name in coming if name not in mine and os.path.lexists(out / name)]
    if taken:
        raise OutputError(
            f"{out} holds {taken[0]} by now, which this tool did not write: move it away."
        )
    (work / OLD).mkdir()
    going = [n for n in LAST if n in mine] + sorted(mine.difference(LAST))
    write_text(work / READY, json.dumps({"going": going, "coming": coming}))
    try:
        _move(work, out)
    except OSError as error:
        _move_back(work, out, going, coming)
        (work / READY).unlink()
        raise OutputError(f"{out} cannot be put in place: {error.strerror}.") from error


def _move(work: Path, out: Path) -> None:
    """Move old entries out and new ones in, from wherever an earlier attempt ended."""
    plan = json.loads((work / READY).read_text(encoding="utf-8"))
    (work / OLD).mkdir(exist_ok=True)
    if all((work / NEW / name).exists() for name in plan["coming"]):  # none has been moved in yet
        for name in plan["going"]:
            if os.path.lexists(out / name) and not os.path.lexists(work / OLD / name):
                os.rename(out / name, work / OLD / name)
    for name in plan["coming"]:
        if os.path.lexists(work / NEW / name):
            os.rename(work / NEW / name, out / name)
    (work / READY).unlink()


def _move_back(work: Path, out: Path, going: Sequence[str], coming: Sequence[str]) -> None:
    for name in coming:
        if not os.path.lexists(work / NEW / name):
            os.rename(out / name, work / NEW / name)
    for name in reversed(going):
        if os.path.lexists(work / OLD / name):
            os.rename(work / OLD / name, out / name)


def _without_hidden_names(error: BaseException, new: Path, out: Path) -> BaseException:
    """The same error, naming the files as the user knows them."""
    if isinstance(error, OmnimatteError) and str(new) in str(error):
        return type(error)(str(error).replace(str(new), str(out)))
    if isinstance(error, OSError):
        if error.filename is not None:
            error.filename = str(error.filename).replace(str(new), str(out))
        elif error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
            error.filename = str(out)
    return error
