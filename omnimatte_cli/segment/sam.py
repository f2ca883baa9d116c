"""segment-anything as a second opinion: masks from points and boxes, one frame at a time.

The package imports torchvision for four small functions. Where that is missing or does not fit this
torch, stand-ins take its place while it is imported.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import torch

from omnimatte_cli.errors import OptionError, WeightsError
from omnimatte_cli.segment.prompts import Prompt

HEADS = {768: 12, 1024: 16, 1280: 16}  # attention heads by width, of the published encoders
DECODER_HEADS = 8
KEPT_IMAGES = 128  # embeddings that are remembered, 2 MB each: both sweeps and all objects ask
INTERIOR_POINTS = 3


class Sam:
    """A loaded checkpoint and the frames it looks at.

    frames: (T, h, w, 3) uint8; prompts are in their pixels.
    """

    def __init__(self, model: Any, frames: np.ndarray, device: torch.device) -> None:
        self.predictor = import_segment_anything().SamPredictor(model.to(device).eval())
        self.frames = frames
        self.images: OrderedDict[int, torch.Tensor] = OrderedDict()

    def prompt(self, t: int, prompt: Prompt) -> tuple[np.ndarray, float]:
        """Mask (h, w) bool of the user's prompt in frame t, and SAM's predicted IoU in [0, 1]."""
        points = np.array([[p.x, p.y] for p in prompt.points], np.float32).reshape(-1, 2)
        signs = np.array([p.inside for p in prompt.points], np.int32)
        b = prompt.box
        box = None if b is None else np.array([b.x0, b.y0, b.x1, b.y1], np.float32)
        # One point is ambiguous (a button, the coat, the person): take the best of three.
        return self._predict(t, points, signs, box, several=box is None and len(points) == 1)

    def again(self, t: int, mask: np.ndarray) -> tuple[np.ndarray, float]:
        """Frame t prompted with the box and interior points of a mask (h, w) bool that is near."""
        x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
        edge = 1 + 0.02 * max(w, h)
        box = np.array([x - edge, y - edge, x + w + edge, y + h + edge], np.float32)
        points = interior_points(mask, INTERIOR_POINTS)
        signs = np.ones(len(points), np.int32)
        return self._predict(t, points, signs, box, several=False)

    def _predict(
        self, t: int, points: np.ndarray, signs: np.ndarray, box: np.ndarray | None, several: bool
    ) -> tuple[np.ndarray, float]:
        self._look_at(t)
        masks, quality, _ = self.predictor.predict(
            points if len(points) else None,
            signs if len(points) else None,
            box=box,
            multimask_output=several,
        )
        best = int(np.argmax(quality))
        return np.asarray(masks[best], bool), float(np.clip(quality[best], 0, 1))

    def _look_at(self, t: int) -> None:
        """Make frame t the predictor's image, from memory where it was seen before."""
        predictor = self.predictor
        if t in self.images:
            self.images.move_to_end(t)
            predictor.features = self.images[t].to(predictor.device, torch.float32)
            return
        # Sets the sizes too, which are the same for all frames.
        predictor.set_image(self.frames[t])
        self.images[t] = predictor.features.to("cpu", torch.float16)
        # Rounded the first time as well, so that every answer on a frame is the same.
        predictor.features = self.images[t].to(predictor.device, torch.float32)
        if len(self.images) > KEPT_IMAGES:
            self.images.popitem(last=False)


def interior_points(mask: np.ndarray, count: int) -> np.ndarray:
    """Up to `count` points (x, y) deep inside a mask (h, w) bool and far apart, (n, 2) float32."""
    padded = np.pad(mask.astype(np.uint8), 1)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1]
    radius = float(depth.max())
    points = []
    yy, xx = np.mgrid[: mask.shape[0], : mask.shape[1]]
    for _ in range(count):
        y, x = np.unravel_index(int(np.argmax(depth)), depth.shape)
        if depth[y, x] < max(1.0, 0.4 * radius):
            break
        points.append((float(x), float(y)))
        depth[(xx - x) ** 2 + (yy - y) ** 2 < (1.5 * radius + 2) ** 2] = 0
    return np.array(points, np.float32).reshape(-1, 2)


# ---------------------------------------------------------------------------------- checkpoints


@dataclass(frozen=True)
class Shape:
    """The architecture that a checkpoint's tensors tell."""

    width: int  # of the encoder
    depth: int
    patch: int  # pixels
    grid: int  # patches along the image's side
    heads: int
    window: int  # patches along a local attention window
    global_blocks: tuple[int, ...]
    channels: int  # of the embedding
    mask_channels: int
    decoder_depth: int
    decoder_width: int  # of its hidden layers
    masks: int  # that the decoder offers for an ambiguous prompt
    quality_depth: int
    quality_width: int


def read_checkpoint(path: Path) -> Any:
    """What a checkpoint holds; nothing in it is executed. Raises WeightsError."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds
        raise WeightsError(
            f"The SAM checkpoint {path} cannot be read: it is damaged, or not a checkpoint."
        ) from error


def load_sam(path: Path, state: Any = None) -> Any:
    """Build segment-anything's `Sam` from a checkpoint, whatever its size.

    state: what `read_checkpoint` gave, if it was read. Raises WeightsError where it is no SAM, and
    OptionError where the package is not installed.
    """
    package = import_segment_anything()
    if state is None:
        state = read_checkpoint(path)
    wrong = f"{path} is not a checkpoint of segment-anything (vit_b, vit_l or vit_h) or SAM 2"
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise WeightsError(f"{wrong}: it does not hold named tensors.")
    try:
        model = _build(package, read_shape(state))
    except (KeyError, IndexError, ValueError, ZeroDivisionError, AssertionError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else "odd sizes"
        raise WeightsError(f"{wrong}: {reason}.") from error
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        line = str(error).splitlines()[-1].strip()
        raise WeightsError(f"{wrong}: {line}") from error
    return model.eval()


def read_shape(state: dict[str, torch.Tensor]) -> Shape:
    """Read the architecture off the tensors' shapes. Raises KeyError where one is missing."""
    encoder, decoder = "image_encoder.", "mask_decoder."
    projection = state[encoder + "patch_embed.proj.weight"].shape
    grid = state[encoder + "pos_embed"].shape[1]
    depth = _numbered(state, encoder + "blocks.")
    # Relative positions of a block reach over its window: 2 n - 1 of them for n patches.
    spans = [(state[f"{encoder}blocks.{i}.attn.rel_pos_h"].shape[0] + 1) // 2 for i in range(depth)]
    head_width = state[encoder + "blocks.0.attn.rel_pos_h"].shape[1]
    local = [s for s in spans if s != grid]
    quality = decoder + "iou_prediction_head.layers."
    return Shape(
        width=projection[0],
        depth=depth,
        patch=projection[2],
        grid=grid,
        heads=HEADS.get(projection[0], projection[0] // head_width),
        window=local[0] if local else 0,
        global_blocks=tuple(i for i, s in enumerate(spans) if s == grid),
        channels=state[encoder + "neck.0.weight"].shape[0],
        mask_channels=state["prompt_encoder.mask_downscaling.3.weight"].shape[0],
        decoder_depth=_numbered(state, decoder + "transformer.layers."),
        decoder_width=state[decoder + "transformer.layers.0.mlp.lin1.weight"].shape[0],
        masks=state[decoder + "mask_tokens.weight"].shape[0] - 1,
        quality_depth=_numbered(state, quality),
        quality_width=state[quality + "0.weight"].shape[0],
    )


def _numbered(state: dict[str, torch.Tensor], prefix: str) -> int:
    """How many numbered layers there are below a name."""
    found = {k[len(prefix) :].split(".")[0] for k in state if k.startswith(prefix)}
    if not found:
        raise KeyError(prefix + "0")
    return len(found)


def _build(package: ModuleType, shape: Shape) -> Any:
    from functools import partial

    parts = sys.modules[package.__name__ + ".modeling"]
    side = shape.patch * shape.grid
    return parts.Sam(
        image_encoder=parts.ImageEncoderViT(
            img_size=side,
            patch_size=shape.patch,
            embed_dim=shape.width,
            depth=shape.depth,
            num_heads=shape.heads,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=shape.window,
            global_attn_indexes=shape.global_blocks,
            out_chans=shape.channels,
        ),
        prompt_encoder=parts.PromptEncoder(
            embed_dim=shape.channels,
            image_embedding_size=(shape.grid, shape.grid),
            input_image_size=(side, side),
            mask_in_chans=shape.mask_channels,
        ),
        mask_decoder=parts.MaskDecoder(
            num_multimask_outputs=shape.masks,
            transformer=parts.TwoWayTransformer(
                depth=shape.decoder_depth,
                embedding_dim=shape.channels,
                mlp_dim=shape.decoder_width,
                num_heads=DECODER_HEADS,
            ),
            transformer_dim=shape.channels,
            iou_head_depth=shape.quality_depth,
            iou_head_hidden_dim=shape.quality_width,
        ),
    )


# ------------------------------------------------------------------------------------ the package


def import_segment_anything() -> ModuleType:
    """The package segment_anything. Raises OptionError with the way to install it."""
    if "segment_anything" in sys.modules:
        return sys.modules["segment_anything"]
    try:
        with _torchvision():
            import segment_anything
    except ModuleNotFoundError as error:
        raise OptionError(
            "Masks by SAM need the package segment-anything: pip install 'omnimatte[sam]'."
        ) from error
    return segment_anything


@contextmanager
def _torchvision() -> Iterator[None]:
    """The real torchvision where it imports, else stand-ins that vanish afterwards."""
    try:
        import torchvision.ops.boxes
        import torchvision.transforms.functional  # noqa: F401
    except (ImportError, RuntimeError, AttributeError, OSError):
        pass
    else:
        yield
        return
    # A failed import leaves pieces behind that would break the next one.
    _forget("torchvision")
    modules = {
        f"torchvision{name}": ModuleType(f"torchvision{name}")
        for name in ("", ".transforms", ".transforms.functional", ".ops", ".ops.boxes")
    }
    functional: Any = modules["torchvision.transforms.functional"]
    functional.to_pil_image, functional.resize = np.asarray, _resize
    boxes: Any = modules["torchvision.ops.boxes"]
    # Only the automatic generator calls these, which is not used here.
    boxes.batched_nms = boxes.box_area = _not_here
    sys.modules.update(modules)
    try:
        yield
    finally:
        _forget("torchvision")


def _forget(package: str) -> None:
    for name in [n for n in sys.modules if n == package or n.startswith(package + ".")]:
        del sys.modules[name]


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 to (h, w, 3) uint8, bilinear with antialiasing, as Pillow does it."""
    planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    small = torch.nn.functional.interpolate(
        planes, size, mode="bilinear", antialias=True, align_corners=False
    )
    return small[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()


def _not_here(*_: Any, **__: Any) -> Any:
    raise NotImplementedError("The automatic generator of segment-anything needs torchvision.")
