"""Fields woven into frames: whether there are any, and frames of one moment made of them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator

import av
import numpy as np
from av.video.stream import VideoStream

LOOKED = 60  # frames in which combs are looked for
EVEN = 0.4  # combs that other fields add, the fewer by the more: frames of one moment are above it


def order_of_fields(frames: Iterable[av.VideoFrame]) -> str:
    """The order of fields of a video whose header tells none: "top", "bottom", "interlaced" where
    frames are flagged (each says which is first), or "progressive" where nothing shows any.

    frames: the video's, from the first one; the beginning is looked at. Where things move, rows of
    two moments form combs. The top rows of a frame are woven with the bottom rows of the frame
    before and of the one after: if both of these are worse than the frame's own, its rows are of
    one moment. If top rows come first, the bottom rows of the frame before are as near to them in
    time as their own; if bottom rows come first, those of the frame after are.
    """
    own = before = after = 0.0
    last: list[np.ndarray] = []
    for frame in itertools.islice(frames, LOOKED):
        if frame.interlaced_frame:
            return "interlaced"
        last = [*last[-2:], frame.to_ndarray(format="gray").astype(np.int16)]
        if len(last) == 3:
            earlier, now, later = last
            own += _combs(now, now)
            before += _combs(now, earlier)
            after += _combs(now, later)
    more_before, more_after = before - own, after - own
    least, most = sorted((more_before, more_after))
    if most <= 0 or least > EVEN * most:
        return "progressive"
    return "top" if more_before < more_after else "bottom"


def deinterlaced(
    frames: Iterator[av.VideoFrame], stream: VideoStream, order: str
) -> Iterator[av.VideoFrame]:
    """One progressive frame for each woven one, by ffmpeg's bwdif; "progressive" ones pass as they
    are, and of "interlaced" ones those that are not flagged."""
    if order == "progressive":
        yield from frames
        return
    parity = {"top": "tff", "bottom": "bff"}.get(order, "auto")
    which = "interlaced" if order == "interlaced" else "all"
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


def _combs(top: np.ndarray, bottom: np.ndarray) -> float:
    """How much neighbouring rows zigzag in a frame woven of the even rows of one image (H, W) int16
    and the odd ones of another: the mean second difference down the columns."""
    woven = top.copy()
    woven[1::2] = bottom[1::2]
    return float(np.abs(2 * woven[1:-1] - woven[:-2] - woven[2:]).mean()) if len(top) > 2 else 0.0


def _pulled(graph: av.filter.Graph) -> Iterator[av.VideoFrame]:
    with contextlib.suppress(av.error.BlockingIOError, av.error.EOFError):
        while True:
            yield graph.vpull()
