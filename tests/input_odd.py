"""More of what people put in: odd files, each made on the spot, as `input_cases.py` has them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from tests.conftest import encode, ffmpeg, write_masks
from tests.input_cases import (
    BOTH,
    CASES,
    DECOMPOSE,
    FRAMES,
    ONE,
    READ,
    SIZE,
    X264,
    Case,
    called,
    copied,
    labels,
    layer_files,
    named_by,
    numbered,
    plain,
    rows,
    shape_and_times,
    video,
    with_masks,
)

LOSSLESS = ("-c:v", "libx264", "-qp", "0")


def one_file(
    name: str, *args: str, rate: str = "10", masks: np.ndarray = ONE
) -> Callable[[Path], str]:
    """Masks of the car in one file."""

    def make(folder: Path) -> str:
        (folder / "masks").mkdir()
        raw = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{SIZE[1]}x{SIZE[0]}", "-r", rate]
        path = str(folder / "masks" / name)
        ffmpeg(*raw, "-i", "pipe:", *args, path, data=(masks * np.uint8(255)).tobytes())
        return plain(folder)

    return make


def stack(folder: Path) -> str:
    (folder / "masks").mkdir()
    cv2.imwritemulti(str(folder / "masks" / "car.tif"), [m * np.uint8(255) for m in ONE])
    return plain(folder)


def one_bit(folder: Path) -> str:
    (folder / "masks" / "car").mkdir(parents=True)
    for t, mask in enumerate(ONE):
        path = str(folder / "masks" / "car" / f"{t:05d}.png")
        assert cv2.imwrite(path, mask * np.uint8(255), [cv2.IMWRITE_PNG_BILEVEL, 1])
    return plain(folder)


def run_lengths(folder: Path) -> str:
    """COCO's uncompressed run lengths, column by column."""
    (folder / "masks").mkdir()
    found = []
    for t, mask in enumerate(ONE):
        ends = np.flatnonzero(np.diff(mask.T.reshape(-1), prepend=False, append=False))
        counts = np.diff(np.concatenate([[0], ends, [mask.size]])).tolist()
        found.append({"image_id": t, "segmentation": {"size": SIZE, "counts": counts}})
    (folder / "masks" / "instances.json").write_text(json.dumps({"annotations": found}))
    return plain(folder)


def in_its_colour(folder: Path) -> str:
    for name, mask, colour in (("car", BOTH[0], (0, 0, 230)), ("van", BOTH[1], (200, 90, 0))):
        image = np.zeros((*mask.shape, 3), np.uint8)
        image[mask] = colour
        write_masks(folder / "masks" / name, image)
    return plain(folder)


def from_number(first: int, step: int = 1) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        for t in range(FRAMES):
            write_masks(folder / "masks" / "car", ONE[t : t + 1], first + step * t)
        return plain(folder)

    return make


def rubbish(folder: Path) -> str:
    """What file managers leave beside frames and masks."""
    numbered(folder)
    write_masks(folder / "masks" / "car", ONE, 1001, "shot.{}.png")
    for where in (folder / "frames", folder / "masks", folder / "masks" / "car"):
        for name in ("Thumbs.db", ".DS_Store", "desktop.ini", "._shot.1001.png"):
            (where / name).write_bytes(b"\x00\x05\x16\x07")
        (where / "@eaDir").mkdir()
    return "frames"


def upper_case(folder: Path) -> str:
    write_masks(folder / "masks" / "car", ONE, 0, "{:05d}.PNG")
    plain(folder)
    (folder / "video.mp4").rename(folder / "VIDEO.MP4")
    return "VIDEO.MP4"


def two_takes(folder: Path) -> str:
    write_masks(folder / "masks" / "car", np.concatenate([ONE, ONE]))
    for take, seed in (("a", 0), ("b", 3)):
        write_masks(folder / "frames", video(seed)[..., ::-1], name=take + ".{:04d}.png")
    return "frames"


def part_of(frames: int, size: tuple[int, int] = SIZE) -> Callable[[Path], str]:
    """The first frames of the video and their masks, cut to a size."""
    cut = np.s_[:frames, : size[0], : size[1]]

    def make(folder: Path) -> str:
        write_masks(folder / "masks" / "car", ONE[cut])
        encode(folder / "video.mp4", video()[cut], *X264)
        return "video.mp4"

    return make


def pictures(turn: int | None = None) -> Callable[[Path], str]:
    """Frames as CMYK JPEGs, or as a camera held upright writes them, with EXIF's orientation."""

    def make(folder: Path) -> str:
        from PIL import Image

        write_masks(folder / "masks" / "car", ONE if turn is None else upright(BOTH)[0])
        (folder / "frames").mkdir()
        for t, frame in enumerate(video()):
            image = Image.fromarray(frame)
            exif = image.getexif()
            if turn is None:
                image = image.convert("CMYK")
            else:
                exif[0x0112] = turn
            image.save(folder / "frames" / f"{t:05d}.jpg", quality=95, exif=exif)
        return "frames"

    return make


def with_alpha(folder: Path) -> str:
    alpha = np.where(ONE, 255, 90).astype(np.uint8)[..., None]
    write_masks(folder / "frames", np.concatenate([video()[..., ::-1], alpha], -1))
    write_masks(folder / "masks" / "car", ONE)
    return "frames"


def of_different_sizes(folder: Path) -> str:
    write_masks(folder / "masks" / "car", ONE)
    for t, frame in enumerate(video()[..., ::-1]):
        write_masks(folder / "frames", frame[None, : 34 if t == 3 else 36], t)
    return "frames"


def on_a_phone(shown: bool) -> Callable[[Path], str]:
    """A video that players turn by 90 degrees; masks as it is shown, or as it is stored."""

    def make(folder: Path) -> str:
        write_masks(folder / "masks" / "car", np.rot90(ONE, 1, (1, 2)) if shown else ONE)
        encode(folder / "first.mp4", video(), *X264)
        turn = ["-display_rotation", "90", "-i", str(folder / "first.mp4"), "-c", "copy"]
        ffmpeg(*turn, str(folder / "video.mp4"))
        return "video.mp4"

    return make


def joined(folder: Path) -> str:
    write_masks(folder / "masks" / "car", ONE)
    parts = [encode(folder / f"{i}.ts", p, *X264) for i, p in enumerate(np.split(video(), 2))]
    (folder / "video.ts").write_bytes(b"".join(p.read_bytes() for p in parts))
    return "video.ts"


def animated(folder: Path) -> str:
    write_masks(folder / "masks" / "car", ONE)
    encode(folder / "video.gif", video())
    return "video.gif"


def upright(masks: np.ndarray) -> np.ndarray:
    """As EXIF's orientation 6 shows them: turned clockwise."""
    return np.rot90(masks, -1, (2, 3))


SIXTEEN = np.where((maps := labels(1, 2, 255)) == 255, 65535, maps).astype(np.uint16)
INSTANCES = (BOTH[0] * 26001 + BOTH[1] * 26002).astype(np.uint16)
LONGER = np.concatenate([ONE, ONE[-2:]])
HOURS = ("-c", "copy", "-output_ts_offset", "36000")
UNEVEN = (
    "-vf", r"settb=1/1000,setpts='N*100+if(gt(N\,3)\,250\,0)'", "-fps_mode", "passthrough",
    "-enc_time_base", "1/1000", "-c:v", "libvpx-vp9", "-lossless", "1",
)  # fmt: skip


def fine(kind: int, what: str, make: Callable[[Path], str], *says: str, **more) -> Case:
    return Case(kind, what, make, says=says, **more)


def refused(kind: int, what: str, make: Callable[[Path], str], *says: str, **more) -> Case:
    return Case(kind, what, make, code=2, says=says, objects=None, **more)


def coded(pixels: str) -> Case:
    """A lossless video of some kind of pixels."""
    return fine(4, f"`{pixels}`", named_by("-c:v", "ffv1", "-pix_fmt", pixels, suffix=".mkv"))


ODD = [
    fine(1, "masks in a GIF", one_file("car.gif")),
    fine(1, "masks of one bit", one_bit),
    fine(1, "0 and 1 in 16 bits", with_masks(ONE.astype(np.uint16))),
    fine(
        1,
        "labels of 16 bits, void 65535",
        with_masks(SIXTEEN, "masks"),
        objects=("object1", "object2"),
        least=0.85,
    ),
    fine(
        1,
        "instance numbers of 16 bits",
        with_masks(INSTANCES, "masks"),
        objects=("object26001", "object26002"),
    ),
    fine(1, "an object a folder, each in its colour", in_its_colour, objects=("car", "van")),
    fine(1, "a mask video with another frame rate", one_file("car.mp4", *LOSSLESS, rate="25")),
    refused(
        1, "a mask video two frames longer", one_file("car.mp4", *LOSSLESS, masks=LONGER), "goes on"
    ),
    refused(1, "an animated PNG", one_file("car.png", "-f", "apng"), "car.png holds 6 pictures"),
    refused(1, "a stack in a TIFF", stack, "car.tif holds 6 pictures"),
    refused(1, "run lengths in COCO's json", run_lengths, "instances.json", "as images"),
    fine(2, "frames with alpha", with_alpha, "alpha channel, which is not used"),
    fine(3, "a transport stream that begins at ten hours", copied(*HOURS, suffix=".ts")),
    Case(
        3,
        "variable frame rate in WebM",
        named_by(*UNEVEN, suffix=".webm"),
        DECOMPOSE,
        says=("unevenly",),
        check=shape_and_times,
    ),
    fine(3, "a GIF", animated),
    fine(
        3,
        "odd width and height",
        part_of(FRAMES, (35, 63)),
        shown=lambda masks: masks[..., :35, :63],
    ),
    fine(
        3,
        "a phone's video, masks as it is shown",
        on_a_phone(True),
        shown=lambda masks: np.rot90(masks, 1, (2, 3)),
    ),
    refused(3, "a phone's video, masks as it is stored", on_a_phone(False), "on its side"),
    refused(3, "two frames", part_of(2), "2 frames"),
    refused(3, "frames of different sizes", of_different_sizes, "Frame 3 is 64x34"),
    coded("gray"),
    coded("gray10le"),
    coded("yuv444p12le"),
    fine(4, "JPEGs in CMYK", pictures()),
    fine(4, "JPEGs of a camera held upright (EXIF)", pictures(6), shown=upright),
    fine(5, "two transport streams in one file", joined, "breaks off", "does not say when"),
    fine(6, "masks from 5", from_number(5)),
    refused(6, "masks from 5 in steps of 3", from_number(5, 3), "00006.png is missing"),
    refused(6, "two takes in one folder of frames", two_takes, "are both frame 0"),
    fine(7, "Thumbs.db, .DS_Store and the like", rubbish),
    fine(7, "suffixes in capitals", upper_case),
    fine(7, "a pattern's name, a%03d.mp4", called("a%03d.mp4")),
    fine(7, "characters that shells read", called("a b'c\"&;$(x)*?.mp4")),
    fine(7, "a line break", called("a\nb.mp4")),
    Case(
        10,
        "a part by time of a stream that begins at ten hours",
        copied(*HOURS, suffix=".ts"),
        READ + " --from 0.3",
        check=layer_files("00003.png"),
        objects=None,
    ),
]

if __name__ == "__main__":
    print("\n".join(rows([*CASES, *ODD])))
