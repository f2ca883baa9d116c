"""Fields woven into frames: whether there are any, and frames of one moment made of them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator

import av
import cv2
import numpy as np
from av.video.stream import VideoStream

LOOKED = 60  # frames in which combs are looked for
MOVES = 8  # levels of 255 by which a place (3x3 pixels) changes from frame to frame where it moves
LEAST = 40  # pixels that move in a frame whose combs are looked at
CLEAR = 0.1  # share of a frame's own zigzag that other rows add at least, or nothing is told
EVEN = 0.4  # combs that other fields add, the fewer by the more: frames of one moment are above it
AGREE = 0.7  # share of such frames that tell the same order
FEWEST = 3  # frames that must tell


def look_for_fields(frames: Iterable[av.VideoFrame]) -> tuple[bool, str]:
    """Whether frames are flagged as interlaced, and which field is first by what is seen: "top",
    "bottom", or "progressive" where nothing shows any.

    frames: the video's, from the first one; the beginning is looked at. Where things move, rows of
    two moments form combs. The top rows of a frame are woven with the bottom rows of the frame
    before and of the one after: if both of these are worse than the frame's own, its rows are of
    one moment. If top rows come first, the bottom rows of the frame before are as near to them in
    time as their own; if bottom rows come first, those of the frame after are.
    """
    told: list[str] = []
    last: list[np.ndarray] = []
    for frame in itertools.islice(frames, LOOKED):
        if frame.interlaced_frame:
            return True, "progressive"
        last = [*last[-2:], frame.to_ndarray(format="gray").astype(np.float32)]
        if len(last) == 3 and (order := _order_told(*last)) is not None:
            told.append(order)
    usual = max(told, key=told.count, default="progressive")
    if len(told) < FEWEST or told.count(usual) < AGREE * len(told):
        return False, "progressive"
    return False, usual


def _order_told(before: np.ndarray, now: np.ndarray, after: np.ndarray) -> str | None:
    """Which field is first in the second of three frames (H, W) float32; None where too little
    moves to tell."""
    smooth, *others = (cv2.blur(x, (3, 3)) for x in (now, before, after))
    moves = np.maximum(*(cv2.absdiff(smooth, x) for x in others))
    where = moves[1:-1] > MOVES
    if where.sum() < LEAST:
        return None
    own, earlier, later = (float(_combs(now, x)[where].mean()) for x in (now, before, after))
    least, most = sorted((earlier - own, later - own))
    if most < CLEAR * own:
        return None
    if least > EVEN * most:
        return "progressive"
    return "top" if earlier < later else "bottom"


def deinterlaced(
    frames: Iterator[av.VideoFrame], stream: VideoStream, order: str, unflagged: bool
) -> Iterator[av.VideoFrame]:
    """One progressive frame for each woven one, by ffmpeg's bwdif.

    order: as `Facts.field_order`; where it is neither "top" nor "bottom" each frame says it.
    unflagged: all frames are woven, though none is flagged; else those that are flagged, and others
    pass as they are.
    """
    parity = {"top": "tff", "bottom": "bff"}.get(order, "auto")
    which = "all" if unflagged else "interlaced"
    graph = av.filter.Graph()
    source = graph.add_buffer(template=stream)
    bwdif = graph.add("bwdif", f"mode=send_frame:parity={parity}:deint={which}")
    sink = graph.add("buffersink")
    source.link_to(bwdif)
    bwdif.link_to(sink)
    graph.configure()
    for frame in frames:
        graph.push(frame)
        yield from _pulled(graph)
    graph.push(None)
    yield from _pulled(graph)


def _combs(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """How much neighbouring rows zigzag in a frame woven of the even rows of one image (H, W) and
    the odd ones of another: the second difference down the columns, (H - 2, W)."""
    woven = top.copy()
    woven[1::2] = bottom[1::2]
    return np.abs(2 * woven[1:-1] - woven[:-2] - woven[2:])


def _pulled(graph: av.filter.Graph) -> Iterator[av.VideoFrame]:
    with contextlib.suppress(av.error.BlockingIOError, av.error.EOFError):
        while True:
            yield graph.vpull()
