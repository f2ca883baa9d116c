"""SAM 2's video predictor: it follows what the prompts show through the whole clip by itself.

It takes its frames from a folder of JPEGs and holds all of them as float32, 12 MB each: the clip is
handed to it in stretches, each of which begins with the masks that ended the one before. (An object
that is away in that very frame is not found again.)
"""

from __future__ import annotations

import contextlib
import importlib
import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import torch

from omnimatte_cli.arrays import pack_mask
from omnimatte_cli.errors import OptionError, OutputError, WeightsError
from omnimatte_cli.progress import Progress
from omnimatte_cli.segment.prompts import Prompt
from omnimatte_cli.segment.propagate import Carried

STRETCH = 120  # frames at a time: 1.5 GB
JPEG_QUALITY = 97
# Sizes of the published models by width of the encoder and number of its blocks.
SIZES = {(96, 12): "t", (96, 16): "s", (112, 24): "b+", (144, 48): "l"}
TRUNK = "image_encoder.trunk."
NEW = "no_obj_embed_spatial"  # in checkpoints of SAM 2.1, not of 2.0

Known = Mapping[str, Mapping[int, Prompt | np.ndarray]]  # object -> frame -> prompt or (h, w) bool


@dataclass
class _Seen:
    """One object in one frame: logits' mask (h, w) bool and how sure the model is, in [0, 1]."""

    mask: np.ndarray
    confidence: float


class Sam2:
    """A loaded video predictor and the clip it looks at.

    frames: (T, h, w, 3) uint8; prompts are in their pixels.
    """

    def __init__(self, predictor: Any, frames: np.ndarray, stretch: int = STRETCH) -> None:
        self.predictor, self.frames, self.stretch = predictor, frames, max(2, stretch)

    def follow(self, known: Known, progress: Progress) -> dict[str, list[Carried]]:
        """Every object in every frame, from prompts and masks that are `known` of it.

        Forwards from an object's first known frame, and backwards from it. Masks that are known
        stay as they are, with confidence 1.
        """
        count = len(self.frames)
        first = {name: min(there) for name, there in known.items()}
        seen: dict[str, dict[int, _Seen]] = {name: {} for name in known}
        windows = self._windows(count)
        progress.stage("SAM 2 follows the objects", count)
        done = 0
        for forwards in (True, False):
            for window in windows if forwards else windows[::-1]:
                names = [n for n in known if _concerned(first[n], window, forwards)]
                if not names:
                    continue
                for name, t, here in self._track(window, names, known, seen, forwards):
                    if (t >= first[name]) == forwards:
                        seen[name].setdefault(t, here)
                done += len(window)
                progress.step(min(done, count))
        return {name: self._carried(known[name], seen[name]) for name in known}

    def _windows(self, count: int) -> list[range]:
        """Stretches of the clip that share one frame with the next."""
        step = self.stretch - 1
        starts = range(0, max(count - 1, 1), step)
        return [range(s, min(s + self.stretch, count)) for s in starts]

    def _track(
        self,
        window: range,
        names: Sequence[str],
        known: Known,
        seen: Mapping[str, Mapping[int, _Seen]],
        forwards: bool,
    ) -> Iterator[tuple[str, int, _Seen]]:
        """What the model sees of some objects in a stretch, in the order in which it looks."""
        with tempfile.TemporaryDirectory() as folder, self._at_work():
            for place, t in enumerate(window):
                picture = np.ascontiguousarray(self.frames[t][..., ::-1])
                quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
                if not cv2.imwrite(str(Path(folder) / f"{place:05d}.jpg"), picture, quality):
                    raise OutputError(f"No picture can be written to {folder}: is it full?")
            with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
                state = self.predictor.init_state(
                    folder, offload_video_to_cpu=True, offload_state_to_cpu=True
                )
            starts = []
            for number, name in enumerate(names):
                inside = {t: p for t, p in known[name].items() if t in window}
                edge = window[0] if forwards else window[-1]
                if edge in seen[name] and edge not in inside and (forwards or not inside):
                    inside[edge] = seen[name][edge].mask
                for t, prompt in inside.items():
                    self._tell(state, number, t - window.start, prompt)
                starts.append((min if forwards else max)(inside) - window.start)
            start = min(starts) if forwards else max(starts)
            answers = self.predictor.propagate_in_video(
                state, start_frame_idx=start, reverse=not forwards
            )
            for place, numbers, logits in _quietly(answers):
                for number, plane in zip(numbers, logits, strict=True):
                    t = window.start + int(place)
                    yield names[int(number)], t, _read(plane)

    def _tell(self, state: Any, number: int, place: int, prompt: Prompt | np.ndarray) -> None:
        if isinstance(prompt, np.ndarray):
            self.predictor.add_new_mask(state, place, number, torch.from_numpy(prompt))
            return
        told: dict[str, Any] = {}
        if prompt.points:
            told["points"] = np.array([[p.x, p.y] for p in prompt.points], np.float32)
            told["labels"] = np.array([p.inside for p in prompt.points], np.int32)
        if prompt.box is not None:
            b = prompt.box
            told["box"] = np.array([b.x0, b.y0, b.x1, b.y1], np.float32)
        self.predictor.add_new_points_or_box(state, place, number, **told)

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        """No gradients, and bfloat16, in which the package keeps its memory of other frames."""
        kind = torch.device(getattr(self.predictor, "device", "cpu")).type
        half = torch.autocast(kind, torch.bfloat16)
        with torch.inference_mode(), half:
            yield

    def _carried(
        self, known: Mapping[int, Prompt | np.ndarray], seen: Mapping[int, _Seen]
    ) -> list[Carried]:
        nothing = _Seen(np.zeros(self.frames.shape[1:3], bool), 0.0)
        result = []
        for t in range(len(self.frames)):
            here, told = seen.get(t, nothing), known.get(t)
            if isinstance(told, np.ndarray):
                here = _Seen(told, 1.0)
            distance = min(abs(t - k) for k in known)
            area = int(here.mask.sum())
            result.append(Carried(pack_mask(here.mask), here.confidence, distance, area))
        return result


def _concerned(first: int, window: range, forwards: bool) -> bool:
    """Whether a stretch holds frames of an object that is first known in frame `first`."""
    return first < window.stop if forwards else first > window.start


def _read(plane: torch.Tensor) -> _Seen:
    """Logits (1, h, w) to a mask, and the mean probability on it."""
    logits = plane[0].float().cpu().numpy()
    mask = logits > 0
    if not mask.any():
        return _Seen(mask, 0.0)
    return _Seen(mask, float((1 / (1 + np.exp(-logits[mask].clip(-30, 30)))).mean()))


def _quietly(answers: Iterator[Any]) -> Iterator[Any]:
    """The same, without the package's own progress bar."""
    while True:
        with contextlib.redirect_stderr(io.StringIO()):
            answer = next(answers, None)
        if answer is None:
            return
        yield answer


# ------------------------------------------------------------------------- checkpoint and package


def is_sam2(state: object) -> bool:
    """Whether a checkpoint's content is SAM 2's: named tensors below "model"."""
    inner = state.get("model") if isinstance(state, dict) else None
    return isinstance(inner, dict) and any(str(k).startswith(TRUNK) for k in inner)


def config_of(state: Mapping[str, Any], path: Path) -> str:
    """The package's configuration file for a checkpoint. Raises WeightsError for an unknown one."""
    tensors = state["model"]
    try:
        width = int(tensors[TRUNK + "patch_embed.proj.weight"].shape[0])
    except (KeyError, AttributeError, IndexError) as error:
        raise WeightsError(f"{path} is no whole checkpoint of SAM 2: its encoder lacks.") from error
    prefix = TRUNK + "blocks."
    depth = len({k[len(prefix) :].split(".")[0] for k in tensors if k.startswith(prefix)})
    size = SIZES.get((width, depth))
    if size is None:
        raise WeightsError(
            f"{path} is a checkpoint of SAM 2 of a size that is not known ({depth} blocks, "
            f"{width} wide): the published ones are tiny, small, base_plus and large."
        )
    family = "2.1" if NEW in tensors else "2"
    return f"configs/sam{family}/sam{family}_hiera_{size}.yaml"


def load_sam2(state: Mapping[str, Any], path: Path, device: torch.device) -> Any:
    """The video predictor of a checkpoint. Raises WeightsError, and OptionError without package."""
    build = import_sam2().build_sam2_video_predictor
    config = config_of(state, path)
    try:
        predictor = build(config, str(path), device=str(device))
    except (RuntimeError, KeyError, ValueError) as error:
        raise WeightsError(f"The SAM 2 checkpoint {path} does not fit its model.") from error
    if device.type != "cuda":
        predictor.fill_hole_area = 0  # the package can do this on a GPU only, and warns elsewhere
    return predictor


def import_sam2() -> ModuleType:
    """The module sam2.build_sam. Raises OptionError with the way to install it."""
    try:
        return importlib.import_module("sam2.build_sam")
    except ImportError as error:
        raise OptionError(
            "This checkpoint is SAM 2's, which needs the package sam2: pip install "
            f"'omnimatte[sam2]' ({error})."
        ) from error
