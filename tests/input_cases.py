"""What people put in, a line a case: the input is made on the spot, the command is what they typed.

`test_input_cases.py` runs every line, and holds the table of docs/inputs.md to it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from tests.conftest import encode, ffmpeg, write_indexed, write_masks
from tests.test_container import with_aperture

FRAMES, SIZE = 6, (36, 64)
RATE = 10  # frames a second of every video
X264 = ("-c:v", "libx264", "-qp", "0", "-pix_fmt", "yuv444p")
CAR, VAN = (48, 112, 32), (250, 50, 83)  # RGB of two labels
DECOMPOSE = "decompose {video} --masks masks -o out"
READ = "trimask {video} --masks masks -o out --images"  # the quickest that reads all


@dataclass(frozen=True)
class Case:
    """One input and what comes of it.

    kind: number in the list of docs/inputs.md. make: fills the working folder, and returns the name
    of the video. says: words of stdout and stderr together. objects: that are written, each with
    masks as `truth` has them and `shown` turns or cuts them; None: nothing is written, or it is
    for `check` alone. check: what else is true of the folder.
    """

    kind: int
    what: str
    make: Callable[[Path], str]
    command: str = READ
    code: int = 0
    says: tuple[str, ...] = ()
    objects: tuple[str, ...] | None = ("car",)
    least: float = 0.9
    check: Callable[[Path], None] | None = None
    shown: Callable[[np.ndarray], np.ndarray] = np.asarray


def truth() -> np.ndarray:
    """Masks of the car and of the van, (2, T, H, W) bool; they do not touch."""
    masks = np.zeros((2, FRAMES, *SIZE), bool)
    for t in range(FRAMES):
        masks[0, t, 5:15, 4 + 7 * t : 18 + 7 * t] = True
        masks[1, t, 20:31, 44 - 7 * t : 57 - 7 * t] = True
    return masks


def video(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    """The clip that the masks belong to, (T, H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    small = rng.integers(60, 200, (size[0] // 3, size[1] // 3, 3), dtype=np.uint8)
    frames = np.repeat(
        cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)[None], FRAMES, 0
    )
    if size == SIZE:
        for mask, colour in zip(truth(), ((220, 40, 30), (40, 60, 220)), strict=True):
            frames[mask] = colour
    return frames


ONE = truth()[0]
BOTH = truth()


def plain(folder: Path, name: str = "video.mp4", *args: str) -> str:
    encode(folder / name, video(), *(args or X264))
    return name


def numbered(folder: Path, first: int = 1001, step: int = 1, name: str = "shot.{}.png") -> str:
    for t, frame in enumerate(video()):
        write_masks(folder / "frames", frame[None, ..., ::-1], first + step * t, name)
    return "frames"


def labels(car: int, van: int, void: int = 0) -> np.ndarray:
    """A label map a frame, (T, H, W) uint8; void: a rim around each object that is neither."""
    maps = BOTH[0] * np.uint8(car) + BOTH[1] * np.uint8(van)
    if void:
        for image in maps:
            rim = cv2.dilate((image > 0).astype(np.uint8), np.ones((3, 3))) > 0
            image[rim & (image == 0)] = void
    return maps


def coloured() -> np.ndarray:
    """Colour labels as CVAT exports them, (T, H, W, 3) uint8 BGR."""
    out = np.zeros((FRAMES, *SIZE, 3), np.uint8)
    out[BOTH[0]], out[BOTH[1]] = CAR[::-1], VAN[::-1]
    return out


def with_masks(images: np.ndarray | None = None, where: str = "masks/car") -> Callable[[Path], str]:
    """The plain video beside masks in one folder: the car's, or these images."""

    def make(folder: Path) -> str:
        write_masks(folder / where, ONE if images is None else images)
        return plain(folder)

    return make


def also(make: Callable[[Path], str], name: str, text: str) -> Callable[[Path], str]:
    """The same with a text file."""

    def made(folder: Path) -> str:
        video = make(folder)
        (folder / name).write_text(text)
        return video

    return made


def named_by(
    *args: str, suffix: str = ".mp4", before: tuple[str, ...] = ()
) -> Callable[[Path], str]:
    """Masks of the car and a video that is encoded like this."""

    def make(folder: Path) -> str:
        write_masks(folder / "masks" / "car", ONE)
        encode(folder / f"video{suffix}", video(), *args, before=before)
        return f"video{suffix}"

    return make


def copied(*args: str, suffix: str, before: tuple[str, ...] = ()) -> Callable[[Path], str]:
    """Masks of the car and a video that was copied like this into another container."""

    def make(folder: Path) -> str:
        write_masks(folder / "masks" / "car", ONE)
        encode(folder / "first.mp4", video(), *X264)
        ffmpeg(*before, "-i", str(folder / "first.mp4"), *args, str(folder / f"video{suffix}"))
        (folder / "first.mp4").unlink()
        return f"video{suffix}"

    return make


# ------------------------------------------------------------------------------------ single makers


def webm_with_alpha(folder: Path) -> str:
    rgba = np.concatenate([video(), (ONE * np.uint8(255))[..., None]], -1)
    (folder / "masks").mkdir()
    raw = ["-f", "rawvideo", "-pix_fmt", "rgba", "-s", f"{SIZE[1]}x{SIZE[0]}", "-i", "pipe:"]
    args = ["-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", "-crf", "10", "-b:v", "1M"]
    path = str(folder / "masks" / "car.webm")
    ffmpeg(*raw, *args, "-auto-alt-ref", "0", path, data=rgba.tobytes())
    return plain(folder)


def palette_with_smoothed_edges(folder: Path) -> str:
    palette = np.zeros((256, 3), np.uint8)
    palette[1:5] = [(200, 0, 0), (0, 200, 0), (100, 0, 0), (0, 100, 0)]
    for t, image in enumerate(labels(1, 2)):
        for inner, rim in ((1, 3), (2, 4)):
            thin = cv2.erode((image == inner).astype(np.uint8), np.ones((3, 3)))
            image[(image == inner) & (thin == 0)] = rim
        write_indexed(folder / "masks" / f"{t:05d}.png", image, palette)
    return plain(folder)


def folder_a_frame(folder: Path) -> str:
    for t in range(FRAMES):
        for name, mask in zip(("car", "van"), BOTH, strict=True):
            write_masks(folder / "masks" / f"{t:05d}", mask[t : t + 1], name=f"{name}.png")
    return plain(folder)


def limited_range(folder: Path) -> str:
    (folder / "masks").mkdir()
    grey = np.repeat(np.where(ONE, 235, 16).astype(np.uint8)[..., None], 3, -1)
    encode(folder / "masks" / "car.mp4", grey, "-c:v", "libx264", "-crf", "24")
    return plain(folder)


def foreground_and_matte(folder: Path) -> str:
    (folder / "masks").mkdir()
    matte = np.repeat((ONE * np.uint8(255))[..., None], 3, -1)
    for name, frames in (("clip_fgr", video()), ("clip_pha", matte)):
        encode(folder / "masks" / f"{name}.mp4", frames, "-c:v", "libx264", "-crf", "20")
    return plain(folder)


def two_mattes_in_one(folder: Path) -> str:
    for name, mask in zip(("car", "van"), BOTH, strict=True):
        write_masks(folder / "masks", mask, name=name + "_{:04d}.png")
    return plain(folder)


def shown_size(folder: Path) -> str:
    write_masks(folder / "masks" / "car", ONE.repeat(2, 2))
    encode(folder / "video.mp4", video(), "-vf", "setsar=2", *X264)
    return "video.mp4"


def two_streams(folder: Path) -> str:
    write_masks(folder / "masks" / "car", ONE)
    encode(folder / "small.mkv", video()[:, ::2, ::2], *X264)
    encode(folder / "large.mkv", video(), *X264)
    sides = [x for n in ("small", "large") for x in ("-i", str(folder / f"{n}.mkv"))]
    maps = ["-map", "0:v", "-map", "1:v", "-c", "copy", "-disposition:v", "0"]
    ffmpeg(*sides, *maps, "-default_mode", "passthrough", str(folder / "video.mkv"))
    return "video.mkv"


def cover_art(folder: Path) -> str:
    write_masks(folder / "masks" / "car", ONE)
    encode(folder / "first.mp4", video(), *X264)
    cv2.imwrite(str(folder / "cover.png"), np.full((90, 90, 3), 77, np.uint8))
    sides = ["-i", str(folder / "cover.png"), "-i", str(folder / "first.mp4")]
    maps = ["-map", "0:v", "-map", "1:v", "-c", "copy", "-disposition:v:0", "attached_pic"]
    ffmpeg(*sides, *maps, str(folder / "video.mp4"))
    return "video.mp4"


def stale_duration(folder: Path) -> str:
    name = copied("-c", "copy", suffix=".mkv")(folder)
    data = (folder / name).read_bytes()
    at = data.index(b"00:00:0", data.index(b"DURATION"))
    (folder / name).write_bytes(data[:at] + b"00:59:0" + data[at + 7 :])
    return name


def film(suffix: str) -> Callable[[Path], str]:
    """A folder of EXR, DPX, TGA or float TIFF, numbered from 1001."""

    def make(folder: Path) -> str:
        import OpenImageIO as oiio

        write_masks(folder / "masks" / "car", ONE, first=1001)
        (folder / "frames").mkdir()
        for t, frame in enumerate(video()):
            path = str(folder / "frames" / f"shot.{1001 + t}.{suffix}")
            light = (frame / 255) ** 2.2
            kind, pixels = {
                "exr": (oiio.HALF, light.astype(np.float32)),
                "tif": (oiio.FLOAT, light.astype(np.float32)),
                "dpx": (oiio.UINT16, frame.astype(np.uint16) * 257),
                "tga": (oiio.UINT8, frame),
            }[suffix]
            spec = oiio.ImageSpec(SIZE[1], SIZE[0], 3, kind)
            file = oiio.ImageOutput.create(path)
            assert file and file.open(path, spec) and file.write_image(pixels) and file.close()
        return "frames"

    return make


def frames_and_masks(masks: int, name: str = "shot.{}.png") -> Callable[[Path], str]:
    """Frames 1001 to 1006, masks from another number on."""

    def make(folder: Path) -> str:
        for t in range(FRAMES):
            write_masks(folder / "masks" / "car", ONE[t : t + 1], masks + t, name)
        return numbered(folder)

    return make


def time_stamps(folder: Path) -> str:
    for t in range(FRAMES):
        write_masks(folder / "masks" / "car", ONE[t : t + 1], 100 + 17 * t, "{}.png")
    return numbered(folder, 100, 17, "{}.png")


def called(name: str, link: bool = False) -> Callable[[Path], str]:
    """The plain video under a name that other programs stumble over."""

    def make(folder: Path) -> str:
        write_masks(folder / "masks" / "car", ONE)
        encode(folder / "plain.mp4", video(), *X264)
        if link:
            os.symlink(folder / "plain.mp4", folder / name)
        else:
            (folder / "plain.mp4").rename(folder / name)
        return name

    return make


def two_shots(folder: Path) -> str:
    write_masks(folder / "masks" / "car", np.concatenate([ONE, ONE]))
    other = video(5)
    encode(folder / "video.mp4", np.concatenate([video(), other]), *X264)
    return "video.mp4"


def in_a_folder(folder: Path) -> str:
    with_masks()(folder)
    (folder / "out").mkdir()
    os.chdir(folder / "out")  # the test's working folder, which it puts back
    return "../video.mp4"


def out_folder(*inside: str) -> Callable[[Path], str]:
    """An output folder that exists, with these files or folders."""

    def make(folder: Path) -> str:
        (folder / "out").mkdir()
        for name in inside:
            if name.endswith("/"):
                (folder / "out" / name).mkdir()
            else:
                (folder / "out" / name).write_text("mine")
        return with_masks()(folder)

    return make


def names_json(folder: Path) -> str:
    write_masks(folder / "masks", labels(1, 2))
    names = [{"id": 1, "name": "car"}, {"id": 2, "name": "van"}]
    coco = {"categories": names, "annotations": []}
    (folder / "masks" / "instances.json").write_text(json.dumps(coco))
    return plain(folder)


def cvat_json(folder: Path) -> str:
    write_masks(folder / "masks", coloured())
    colours = (("car", CAR), ("van", VAN))
    named = [{"name": n, "color": "#{:02x}{:02x}{:02x}".format(*c)} for n, c in colours]
    (folder / "masks" / "labels.json").write_text(json.dumps(named))
    return plain(folder)


def turned(folder: Path) -> str:
    write_masks(folder / "masks" / "car", np.rot90(ONE, 1, (1, 2)))
    encode(folder / "first.mp4", video(), *X264)
    turn = ["-display_rotation", "90", "-i", str(folder / "first.mp4"), "-c", "copy"]
    ffmpeg(*turn, str(folder / "video.mp4"))
    return "video.mp4"


def cropped(folder: Path) -> str:
    """A clean aperture of 60x30, one pixel right of the middle and one above it."""
    write_masks(folder / "masks" / "car", ONE[:, 2:32, 3:63])
    encode(folder / "video.mp4", video(), *X264)
    with_aperture(folder / "video.mp4", 60, 30, 2, -2)
    return "video.mp4"


# ------------------------------------------------------------------------------------------- checks


def facts(folder: Path, key: str) -> object:
    """An entry of the manifest's facts about the input."""
    found: object = json.loads((folder / "out" / "manifest.json").read_text())["input"][key]
    return found


def stored(key: str, value: object) -> Callable[[Path], None]:
    def check(folder: Path) -> None:
        assert facts(folder, key) == value, facts(folder, key)

    return check


def shape_and_times(folder: Path) -> None:
    """The composite's pixels have the shape of the video's, and its frames their times."""
    import av

    seen = []
    for name in (next(p.name for p in folder.glob("video.*")), "out/composite.mp4"):
        with av.open(str(folder / name)) as container:
            stream = container.streams.video[0]
            frames = list(container.decode(stream))
            start = frames[0].time or 0.0
            seen.append((stream.sample_aspect_ratio or 1, [f.time - start for f in frames]))
    assert seen[0][0] == seen[1][0], seen
    np.testing.assert_allclose(seen[1][1], seen[0][1], atol=2e-3)


def layer_files(*names: str) -> Callable[[Path], None]:
    """How the first files of the car's layer, or trimask, are called."""

    def check(folder: Path) -> None:
        layers = folder / "out" / "layers" / "car"
        files = sorted(
            p.name for p in (layers if layers.exists() else folder / "out" / "car").iterdir()
        )
        assert files[: len(names)] == list(names), files

    return check


def kept(name: str) -> Callable[[Path], None]:
    def check(folder: Path) -> None:
        assert (folder / name).read_text() == "mine"

    return check


SQUEEZED = ("-vf", "setsar=2", *X264)
UNEVEN = (
    "-vf", r"settb=1/1000,setpts='if(eq(N\,5)\,800\,N*100)'", "-fps_mode", "passthrough",
    "-enc_time_base", "1/1000", *X264,
)  # fmt: skip
WOVEN = ("-flags", "+ilme+ildct", "-c:v", "libx264", "-x264opts", "tff=1", "-crf", "5")
HDR = (
    "-vf", "setparams=range=tv:colorspace=bt2020nc:color_primaries=bt2020:color_trc=smpte2084",
    "-c:v", "libx264", "-pix_fmt", "yuv420p10le",
)  # fmt: skip
HELD = ("-c", "copy", "-bsf:v", r"setts=duration='if(eq(N\,5)\,2/TB\,DURATION)'")

CASES = [
    # 1. What is a mask, and of what
    Case(1, "masks 0 and 255", with_masks()),
    Case(1, "masks 40 and 90", with_masks(np.where(ONE, 90, 40).astype(np.uint8))),
    Case(1, "alpha in a VP9 video", webm_with_alpha),
    Case(1, "a mask video in limited range, compressed", limited_range, least=0.7),
    Case(1, "labels 1 and 2", with_masks(labels(1, 2), "masks"), objects=("object1", "object2")),
    Case(
        1,
        "labels 38 and 75, void 255",
        with_masks(labels(38, 75, 255), "masks"),
        objects=("object38", "object75"),
        least=0.85,
    ),
    Case(
        1,
        "a palette with smoothed edges",
        palette_with_smoothed_edges,
        objects=("object1", "object2"),
        least=0.5,
    ),
    Case(
        1, "colours, one an object", with_masks(coloured(), "masks"), objects=("object1", "object2")
    ),
    Case(
        1,
        "labels with a labels.txt",
        also(with_masks(labels(1, 2), "masks"), "masks/labels.txt", "background\ncar\nvan\n"),
        objects=("car", "van"),
    ),
    Case(1, "labels with names in COCO's json", names_json, objects=("car", "van")),
    Case(1, "colours with names in CVAT's json", cvat_json, objects=("car", "van")),
    Case(1, "masks one folder deeper", with_masks(where="masks/export/car")),
    Case(1, "a folder for each frame", folder_a_frame, objects=("car", "van")),
    Case(
        1,
        "a picture in place of a mask",
        with_masks(video()[..., ::-1]),
        code=2,
        says=("'car'", "colour picture"),
        objects=None,
    ),
    Case(
        1,
        "foreground and matte in one folder",
        foreground_and_matte,
        code=2,
        says=("clip_fgr", "colour picture"),
        objects=None,
    ),
    Case(
        1,
        "two mattes in one folder",
        two_mattes_in_one,
        code=2,
        says=("folder of its own",),
        objects=None,
    ),
    Case(
        1,
        "inverted masks",
        with_masks(~ONE),
        code=2,
        says=("inverted", "--invert-masks"),
        objects=None,
    ),
    Case(1, "inverted masks, said so", with_masks(~ONE), READ + " --invert-masks"),
    # 2. Streams
    Case(2, "two video streams", two_streams, code=0, says=("2 video streams", "--stream")),
    Case(2, "two video streams, one chosen", two_streams, READ + " --stream 1"),
    Case(2, "cover art", cover_art),
    # 3. What the container says
    Case(
        3,
        "pixels that are not square",
        named_by(*SQUEEZED),
        DECOMPOSE,
        says=("not square",),
        check=shape_and_times,
    ),
    Case(3, "masks of the displayed size", shown_size),
    Case(3, "interlaced", named_by(*WOVEN, "-pix_fmt", "yuv444p"), says=("interlaced", "--deint")),
    Case(
        3,
        "interlaced, --deinterlace",
        named_by(*WOVEN, "-pix_fmt", "yuv444p"),
        READ + " --deinterlace",
        says=("Deinterlaced",),
    ),
    Case(
        3, "a frame that is held", named_by(*UNEVEN, suffix=".mkv"), DECOMPOSE, says=("unevenly",)
    ),
    Case(
        3,
        "a time code",
        named_by(*X264, "-timecode", "01:02:03:04", suffix=".mov"),
        DECOMPOSE,
        check=stored("timecode", "01:02:03:04"),
    ),
    # 4. Colour
    Case(4, "HDR (PQ)", named_by(*HDR, suffix=".mkv"), says=("PQ", "--tone-map")),
    Case(4, "EXR", film("exr"), says=("scene-linear",)),
    Case(4, "float TIFF", film("tif"), says=("scene-linear",)),
    Case(4, "DPX", film("dpx")),
    Case(4, "TGA", film("tga")),
    # 5. Hints
    Case(5, "a last frame that is held in Matroska", copied(*HELD, suffix=".mkv")),
    Case(5, "a stale DURATION tag", stale_duration, says=("announces",)),
    # 6. Frame numbers
    Case(
        6,
        "frames and masks from 1001",
        frames_and_masks(1001),
        DECOMPOSE,
        check=layer_files("01001.png", "01002.png"),
    ),
    Case(6, "frames named by time stamps", time_stamps),
    Case(
        6, "masks shifted by one", frames_and_masks(1002), code=2, says=("shot.1001",), objects=None
    ),
    Case(
        6,
        "--start-frame 1001",
        with_masks(),
        DECOMPOSE + " --start-frame 1001",
        check=layer_files("01001.png"),
    ),
    # 7. Paths
    Case(7, "a colon", called("take2:x.mp4")),
    Case(7, "a percent sign", called("100%d.mp4")),
    Case(7, "a leading dash", called("-i.mp4"), READ.replace("{video} ", "") + " -- {video}"),
    Case(7, "bytes that are no UTF-8", called(os.fsdecode(b"\xff.mp4"))),
    Case(7, "a control character", called("a\x1b[2Jb.mp4"), DECOMPOSE),
    Case(7, "a link", called("link", link=True)),
    # 8. The output folder
    Case(8, "an empty folder", out_folder()),
    Case(
        8,
        "the working folder",
        in_a_folder,
        READ.replace("-o out", "-o .").replace("masks masks", "masks ../masks"),
    ),
    Case(8, "a mount point", out_folder("lost+found/")),
    Case(
        8,
        "a folder with a file of the user's",
        out_folder("notes.txt"),
        code=2,
        says=("out",),
        objects=None,
        check=kept("out/notes.txt"),
    ),
    # 10. Cuts and parts
    Case(10, "a cut", two_shots, DECOMPOSE, says=("--split-cuts",)),
    Case(10, "a cut, --split-cuts", two_shots, DECOMPOSE + " --split-cuts", objects=None),
    Case(10, "a part", two_shots, READ + " --frames 6:12", check=layer_files("00006.png")),
    Case(10, "a part by time", two_shots, READ + " --from 0.6", check=layer_files("00006.png")),
]


def rows(cases: Sequence[Case]) -> list[str]:
    """The table of docs/inputs.md, a line a case."""
    result = []
    for case in sorted(cases, key=lambda c: c.kind):
        command = case.command.format(video="VIDEO").replace(" --masks masks -o out", "")
        said = ", ".join(f"`{w}`" for w in case.says)
        if case.objects:
            written = " and ".join(f"`{n}`" for n in case.objects)
        else:
            several = "a result for each shot" if "split" in case.command else "the part"
            written = "nothing" if case.code else several
        result.append(
            f"| {case.kind} | {case.what} | `{command}` | {case.code} | {said} | {written} |"
        )
    return result
