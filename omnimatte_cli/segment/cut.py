"""Objects by their colours alone, by GrabCut: first masks, and movers completed."""

from __future__ import annotations

import cv2
import numpy as np

from omnimatte_cli.matte.box import disc
from omnimatte_cli.segment.prompts import Prompt

DOT = 0.008  # share of the picture's width around a point that surely is the object
REACH = 0.15  # share of the picture's width to which an object with points only may extend
SMALL = 60  # pixels of a mask below which its colours say nothing
NEAR = 0.15  # of the root of an object's area: how far from its mask it may go on
ROUNDS = 5  # of GrabCut for a prompt
CROP = 260  # pixels, longest side of the picture that GrabCut sees: bounds its time


def cut_prompt(frame: np.ndarray, prompt: Prompt, seed: int) -> np.ndarray:
    """The object of one prompt by GrabCut, (h, w) bool, in a frame (h, w, 3) uint8.

    The prompt is in this frame's pixels. Colours inside the box (or around the points) against
    colours outside of it.
    """
    h, w = frame.shape[:2]
    labels = np.full((h, w), cv2.GC_BGD, np.uint8)
    dot, reach = max(round(DOT * w), 2), max(round(REACH * w), 8)
    if prompt.box is not None:
        b = prompt.box
        x0, y0 = max(int(b.x0), 0), max(int(b.y0), 0)
        x1, y1 = min(int(np.ceil(b.x1)), w), min(int(np.ceil(b.y1)), h)
        labels[y0:y1, x0:x1] = cv2.GC_PR_FGD
        if prompt.points == ():
            # The middle of a box is on the object more often than not.
            centre = ((x0 + x1) // 2, (y0 + y1) // 2)
            axes = (max((x1 - x0) // 6, 1), max((y1 - y0) // 6, 1))
            cv2.ellipse(labels, centre, axes, 0, 0, 360, cv2.GC_FGD, -1)
    else:
        inside = [p for p in prompt.points if p.inside]
        for p in inside:
            cv2.circle(labels, (round(p.x), round(p.y)), reach, cv2.GC_PR_BGD, -1)
        for p in inside:
            cv2.circle(labels, (round(p.x), round(p.y)), reach // 2, cv2.GC_PR_FGD, -1)
    for p in prompt.points:
        label = cv2.GC_FGD if p.inside else cv2.GC_BGD
        cv2.circle(labels, (round(p.x), round(p.y)), dot, label, -1)
    # Of what has the right colours, that which is joined to the points or the box's middle.
    return _joined_cut(frame, labels, labels == cv2.GC_FGD, seed)


def cut_disc(
    frame: np.ndarray, sure: np.ndarray, likely: np.ndarray, reach: np.ndarray, seed: int
) -> np.ndarray:
    """An object by GrabCut, (h, w) bool: surely here, likely there, nowhere but within reach.

    frame: (h, w, 3) uint8; the rest (h, w) bool. Only what is joined to `sure` is returned.
    """
    labels = np.full(frame.shape[:2], cv2.GC_BGD, np.uint8)
    labels[reach], labels[likely & reach], labels[sure] = cv2.GC_PR_BGD, cv2.GC_PR_FGD, cv2.GC_FGD
    return _joined_cut(frame, labels, sure, seed)


def _joined_cut(frame: np.ndarray, labels: np.ndarray, sure: np.ndarray, seed: int) -> np.ndarray:
    """What GrabCut finds from labels (h, w) uint8, without specks, and joined to `sure`."""
    mask = _grab(frame, labels, ROUNDS, seed)
    mask = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
    return joined_to(mask, sure)


def joined_to(mask: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """The components of a mask (h, w) bool that hold any of `sure`; all where none does."""
    count, parts = cv2.connectedComponents(mask.astype(np.uint8))
    wanted = np.zeros(count, bool)
    wanted[parts[sure & mask]] = True
    return wanted[parts] if wanted.any() else mask


def complete(frame: np.ndarray, mask: np.ndarray, others: np.ndarray, seed: int) -> np.ndarray:
    """A moving object's mask (h, w) bool with what has its colours beside it or in it.

    frame: (h, w, 3) uint8. others: (h, w) bool, what other objects hold. Motion misses what looks
    like the ground behind it and what has not moved yet; where it was found, it stays.
    """
    area = int(np.count_nonzero(mask))
    if area < SMALL:
        return mask
    radius = int(np.clip(NEAR * np.sqrt(area), 2, 14))
    kernel = disc(radius)
    labels = np.full(mask.shape, cv2.GC_BGD, np.uint8)
    labels[cv2.dilate(mask.astype(np.uint8), kernel) > 0] = cv2.GC_PR_BGD
    labels[mask] = cv2.GC_PR_FGD
    # A mover's outline is uncertain by a pixel.
    sure = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8))
    labels[sure > 0] = cv2.GC_FGD
    labels[others] = cv2.GC_BGD
    return _grab(frame, labels, 1, seed)


def _grab(frame: np.ndarray, labels: np.ndarray, rounds: int, seed: int) -> np.ndarray:
    """GrabCut on the part of the picture that is in question; (h, w) bool."""
    h, w = labels.shape
    x, y, bw, bh = cv2.boundingRect((labels != cv2.GC_BGD).astype(np.uint8))
    # Enough background around it to learn its colours.
    edge = max(bw, bh) // 3 + 8
    x0, y0 = max(x - edge, 0), max(y - edge, 0)
    x1, y1 = min(x + bw + edge, w), min(y + bh + edge, h)
    part, part_labels = frame[y0:y1, x0:x1], labels[y0:y1, x0:x1]
    scale = min(1.0, CROP / max(part.shape[:2]))
    if scale < 1:
        size = (max(round(part.shape[1] * scale), 8), max(round(part.shape[0] * scale), 8))
        part = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        part_labels = cv2.resize(part_labels, size, interpolation=cv2.INTER_NEAREST)
    part_labels = np.ascontiguousarray(part_labels)
    sides = [np.isin(part_labels, s) for s in ((0, 2), (1, 3))]
    result = np.zeros((h, w), bool)
    if min(np.count_nonzero(s) for s in sides) < 10:  # too few pixels for a colour model
        result[y0:y1, x0:x1] = np.isin(labels[y0:y1, x0:x1], (1, 3))
        return result
    cv2.setRNGSeed(seed)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    bgr = np.ascontiguousarray(part[..., ::-1])
    cv2.grabCut(bgr, part_labels, None, *models, rounds, cv2.GC_INIT_WITH_MASK)  # type: ignore
    found: np.ndarray = np.isin(part_labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    if scale < 1:
        found = cv2.resize(found, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
    result[y0:y1, x0:x1] = found >= 0.5
    return result
