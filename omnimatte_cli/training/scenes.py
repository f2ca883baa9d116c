"""The plan of a scene, drawn from its seed: stage, camera, objects, paths, mirrors and lights.

Everything here is NumPy and independent of the picture's size (but for its aspect ratio), of the
device and of the other scenes of a batch; `render.py` turns plans into pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path as FilePath

import numpy as np

from . import materials as mat
from .paths import Camera, Path, random_camera, random_path
from .primitives import BOX, CAPSULE, ROWS
from .shapes import CLUTTER, FAMILIES, THEMES, Parts, build, turn

# Columns of a plane: origin, its two axes and its normal, half extents, material, reflectance
# straight down and at grazing angles, tile, scale and threshold of puddles (tile -1: everywhere),
# height and frequency of ripples, roughness, distance at which a reflection fades by e (units).
PLANE_COLUMNS = 24
ORIGIN, U, V, NORMAL = slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 12)
EXTENT, SURFACE, REFLECT, PUDDLE = slice(12, 14), 14, slice(15, 17), slice(17, 20)
RIPPLE, ROUGH, FADE = slice(20, 22), 22, 23
LIGHT_COLUMNS = 8  # position, colour, tangent of the angular radius, distance of unit brightness
FAR = 1e4
EFFECTS = ("shadow", "reflection", "both", "mixed")


@dataclass(frozen=True)
class SceneOptions:
    """What to render."""

    frames: int = 5  # frames a clip
    gap: int = 3  # ticks of the clock between two frames
    fps: float = 12.0  # ticks per second
    height: int = 64  # pixels
    width: int = 64  # pixels
    min_objects: int = 1
    max_objects: int = 5
    effect: str = "mixed"  # shadow | reflection | both | mixed
    supersample: int = 1  # rays along each side of a pixel
    textures: FilePath | None = None  # folder of pictures for ground, walls and boxes


@dataclass(frozen=True)
class ScenePlan:
    """One scene in numbers. K primitives, N objects, T frames; slot 0 holds what never moves.

    primitives: (T, K, ROWS), slot after slot; counts: (N + 1,) primitives a slot;
    spheres: (T, N + 1, 4) bounding spheres; materials: (M, COLUMNS); planes: (Q, PLANE_COLUMNS);
    lights: (L, LIGHT_COLUMNS); sky: (14,) ambient from above and below, colours of zenith and
    horizon, exposure, gamma; distance: (T, N) of the objects from the camera.
    """

    camera: Camera
    primitives: np.ndarray
    counts: np.ndarray
    spheres: np.ndarray
    materials: np.ndarray
    planes: np.ndarray
    lights: np.ndarray
    sky: np.ndarray
    distance: np.ndarray
    effect: str


def _plane(origin, u, v, extent=(FAR, FAR)) -> np.ndarray:
    row = np.zeros(PLANE_COLUMNS)
    row[ORIGIN], row[U], row[V], row[NORMAL] = origin, u, v, np.cross(u, v)
    row[EXTENT] = extent
    row[PUDDLE.start], row[RIPPLE.start + 1], row[FADE] = -1, 1.0, FAR
    return row


def _walls(rng: np.random.Generator, camera: Camera) -> list[np.ndarray]:
    """No wall, one behind the stage, or a corner; low ones show sky above them."""
    kind = rng.random()
    half = camera.distance * camera.tan
    out = []
    angles = [] if kind < 0.25 else [rng.normal() * 0.3]
    if kind > 0.75:
        angles.append(angles[0] + rng.choice([-1, 1]) * rng.uniform(1.1, 1.7))
    for number, angle in enumerate(angles):
        away = np.array([math.sin(angle), math.cos(angle), 0.0])
        reach = half * (rng.uniform(0.9, 3.5) if number == 0 else
                        rng.uniform(1.1, 2.2) * max(camera.aspect, 1))  # fmt: skip
        height = FAR if rng.random() < 0.6 else rng.uniform(0.4, 2.5) * half
        side = np.array([-math.cos(angle), math.sin(angle), 0.0])
        up = np.array([0.0, 0.0, 1.0])
        wall = _plane(away * reach, side, up, (FAR, height))
        wall[NORMAL] = -away
        if (camera.eye - wall[ORIGIN]) @ wall[NORMAL] > 0.5:
            out.append(wall)
    return out


def _panel(
    rng: np.random.Generator, camera: Camera, paths: list[Path], walls: np.ndarray
) -> np.ndarray | None:
    """A standing mirror, of many candidates the one in which most of the objects are seen."""
    n, half = 48, camera.distance * camera.tan
    spot = camera.ground(rng.uniform(-0.8, 0.8, n), rng.uniform(-0.5, 0.9, n))
    facing = rng.normal(size=n) * 0.6
    wide, high = rng.uniform(0.5, 1.6, n) * half, rng.uniform(0.35, 1.1, n) * half
    tilt = np.where(rng.random(n) < 0.3, rng.uniform(0, 0.3, n), 0)
    best, most = None, 0.0
    moments = [
        p.position[:: max(len(p.position) // 4, 1)] + np.array([0, 0, p.height / 2]) for p in paths
    ]
    for i in range(n):
        if not 0.8 < (spot[i] - camera.eye) @ camera.forward / camera.distance < 2.2:
            continue
        toward = np.array([math.sin(facing[i]), -math.cos(facing[i]), 0.0])
        u = np.array([-toward[1], toward[0], 0.0])
        v = np.array([0, 0, 1.0]) * math.cos(tilt[i]) - toward * math.sin(tilt[i])
        centre = spot[i] + v * (high[i] + 0.03)
        centre[2] = high[i] * math.cos(tilt[i]) + 0.03
        normal = np.cross(u, v)
        score, clear = 0.0, (camera.eye - centre) @ normal > 0
        clear &= all((spot[i] - w[:3]) @ w[3:] > 0.05 for w in walls)
        for path, points in zip(paths, moments, strict=True):
            rel = path.position - centre
            ahead = rel @ normal
            room = path.radius + 0.1 + 0.3 * high[i] * (tilt[i] > 0)
            aside = np.abs(rel @ u) > wide[i] + path.radius + 0.1
            clear &= bool(((ahead > room) | aside | (ahead < -path.radius - 0.3)).all())
            front = (points - centre) @ normal
            image = points - 2 * front[:, None] * normal
            ray = image - camera.eye
            t = ((centre - camera.eye) @ normal) / np.minimum(ray @ normal, -1e-6)
            hit = camera.eye + t[:, None] * ray
            sx, sy, _ = camera.project(hit)
            inside = (np.abs((hit - centre) @ u) < wide[i]) & (np.abs((hit - centre) @ v) < high[i])
            score += float((inside & (front > 0) & (np.abs(sx) < 1) & (np.abs(sy) < 1)).mean())
        if clear and score > most:
            best, most = _plane(centre, u, v, (wide[i], high[i])), score
    return best


def _mirrors(
    rng: np.random.Generator, camera: Camera, ground: np.ndarray, walls: list[np.ndarray],
    paths: list[Path], strong: bool,
) -> np.ndarray | None:  # fmt: skip
    """Make the ground, a wall or a panel reflect, strongly or faintly; the panel, if there is one."""
    kind = rng.random()
    half = camera.distance * camera.tan
    share = rng.uniform(0.28, 0.62) if strong else rng.uniform(0.02, 0.08)
    panel = None
    if kind < 0.28:  # polished floor, the same from everywhere
        ground[REFLECT] = share, min(share * rng.uniform(1.0, 1.6), 0.9)
    elif kind < 0.42:  # gloss: weak straight down, strong at grazing angles, blurred away by height
        ground[REFLECT] = share * 0.45, min(share * 1.6, 0.9)
        ground[FADE] = rng.uniform(0.5, 2.5)
        ground[ROUGH] = rng.uniform(0, 0.03)
    elif kind < 0.52:  # puddles
        ground[REFLECT] = share * 0.8, min(share * 1.6, 0.95)
        ground[PUDDLE] = rng.integers(3, 6), rng.uniform(0.12, 0.4) / half, rng.uniform(0.4, 0.52)
        ground[RIPPLE] = rng.uniform(0, 0.01), rng.uniform(4, 12)
    elif kind < 0.6:  # water
        ground[REFLECT] = share * 0.6, min(share * 1.8, 0.95)
        ground[RIPPLE] = rng.uniform(0.004, 0.03), np.exp(rng.uniform(0.7, 2.7))
    elif kind < 0.74:  # a lying panel
        centre = camera.ground(rng.uniform(-0.3, 0.3, ()), rng.uniform(-0.4, 0.1, ()))
        angle = rng.uniform(0, math.pi)
        u, v = turn(angle, 2)[:2]
        panel = _plane(centre + np.array([0, 0, 0.004]), u, v, rng.uniform(0.7, 2.0, 2) * half)
    else:
        panel = _panel(rng, camera, paths, _bounds(walls))
        if panel is None and walls and rng.random() < 0.5:
            walls[0][REFLECT] = share, min(share * 1.4, 0.9)
        elif panel is None:
            ground[REFLECT] = share, min(share * 1.3, 0.9)
    if panel is not None:
        panel[REFLECT] = share, min(share * rng.uniform(1.0, 1.3), 0.9)
        panel[ROUGH] = rng.uniform(0, 0.01) * (rng.random() < 0.3)
    return panel


def _lights(
    rng: np.random.Generator, camera: Camera, walls: list[np.ndarray], clear_shadows: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Lights (L, LIGHT_COLUMNS) and sky (14,): brightness sums to about 1 on the ground."""
    ambient = rng.uniform(0.1, 0.48) if clear_shadows else rng.uniform(0.35, 0.8)
    count = int(rng.choice(3, p=(0.45, 0.3, 0.25))) + 1
    warm = rng.normal() * 0.12
    share = rng.uniform(0.6, 0.9) if count > 1 else 1.0
    shares = [share] + [(1 - share) / (count - 1)] * (count - 1) if count > 1 else [1.0]
    evening = rng.random() < 0.28
    rows = []
    for number in range(count):
        for _ in range(4):
            azimuth = rng.uniform(-math.pi, math.pi)
            elevation = math.radians(rng.uniform(10, 25) if evening and number == 0 else
                                     rng.uniform(20, 68))  # fmt: skip
            toward = np.array([math.cos(elevation) * math.sin(azimuth),
                               math.cos(elevation) * math.cos(azimuth),
                               math.sin(elevation)])  # fmt: skip
            if all(toward @ w[NORMAL] > -0.1 for w in walls):
                break
        outdoors = rng.random() < 0.5
        distance = 60.0 if outdoors else camera.distance * rng.uniform(0.8, 2.5)
        soft = rng.random()
        spread = rng.uniform(0.004, 0.03) if soft < 0.5 else rng.uniform(0.03, 0.25)
        if not clear_shadows:
            spread = rng.uniform(0.1, 0.4)
        colour = np.array([1 + warm, 1.0, 1 - warm]) * (1 + 0.06 * rng.normal(size=3))
        colour *= shares[number] * (1 - ambient) / max(math.sin(elevation), 0.3)
        rows.append(np.r_[toward * distance, colour, spread, FAR if outdoors else distance])
    blue = np.array([0.55, 0.7, 1.0]) * rng.uniform(0.5, 1.1)
    top = np.clip(blue + 0.1 * rng.normal(size=3), 0, 2)
    if rng.random() < 0.4:
        top = np.full(3, rng.uniform(0.3, 1.1))
    horizon = np.clip(top * rng.uniform(0.8, 1.3) + rng.uniform(0, 0.3), 0, 2)
    tint = 1 - 0.7 * np.array([warm, 0.0, -warm])
    sky = np.r_[ambient * tint, ambient * tint * rng.uniform(0.4, 0.8, 3), top, horizon,
                math.exp(rng.normal() * 0.25) * 1.1, rng.uniform(1.9, 2.4)]  # fmt: skip
    return np.stack(rows), sky


def _posed(
    parts: Parts, size: float, position: np.ndarray, yaw: np.ndarray, base: int
) -> np.ndarray:
    """Rows (T, K, ROWS) of an object's primitives in the world; `base`: its first material."""
    frame = turn(yaw, 2)
    centres = np.einsum("ktc,tcd->tkd", np.stack(parts.centres), frame) * size + position[:, None]
    axes = np.einsum("ktac,tcd->tkad", np.stack(parts.axes), frame)
    half = np.array(parts.halves) * size
    kinds = np.array(parts.kinds)
    reach = np.where(kinds == BOX, np.sqrt((half * half).sum(-1)), half.max(-1))
    reach = np.where(kinds == CAPSULE, half[:, 0] + half[:, 2], reach)
    rows = np.empty((len(yaw), len(kinds), ROWS))
    rows[..., :3], rows[..., 3:12] = centres, axes.reshape(*axes.shape[:2], 9)
    rows[..., 12:15], rows[..., 15], rows[..., 16] = half, reach, kinds
    rows[..., 17] = np.array(parts.surfaces) + base
    return rows


def _sphere(rows: np.ndarray) -> np.ndarray:
    """Bounding spheres (T, 4) of primitives (T, K, ROWS); radius -1 where there are none."""
    if rows.shape[1] == 0:
        return np.tile([0.0, 0, -1e3, -1.0], (len(rows), 1))
    low = (rows[..., :3] - rows[..., 15:16]).min(1)
    high = (rows[..., :3] + rows[..., 15:16]).max(1)
    centre = (low + high) / 2
    rel = rows[..., :3] - centre[:, None]
    radius = (np.sqrt((rel * rel).sum(-1)) + rows[..., 15]).max(1)
    return np.concatenate([centre, radius[:, None]], 1)


def _clutter(
    rng: np.random.Generator, camera: Camera, paths: list[Path], walls: np.ndarray
) -> list[tuple[str, float, np.ndarray, float]]:
    """Things that stand around: family, size, position (3,), yaw."""
    out: list[tuple[str, float, np.ndarray, float]] = []
    wanted = int(rng.choice(4, p=(0.45, 0.25, 0.2, 0.1)))
    taken = [(p.position[:, :2], p.radius) for p in paths]
    for _ in range(wanted):
        family = CLUTTER[int(rng.integers(len(CLUTTER)))]
        size = rng.uniform(0.4, 1.3)
        radius = FAMILIES[family].radius * size
        spots = camera.ground(rng.uniform(-1.1, 1.1, 12), rng.uniform(-0.9, 0.9, 12))
        yaw = rng.uniform(0, 6.3)
        depth = (spots - camera.eye) @ camera.forward / camera.distance
        good = (depth > 0.75) & (depth < 2.5)
        for wall in walls:
            good &= ((spots - wall[:3]) @ wall[3:]) > radius + 0.02
        for where, other in taken:
            between = spots[:, None, :2] - where[None]
            good &= (np.sqrt((between * between).sum(-1)) > radius + other + 0.05).all(1)
        if good.any():
            spot = spots[int(np.argmax(good))].copy()
            spot[2] = 0
            out.append((family, size, spot, yaw))
            taken.append((spot[None, :2], radius))
    return out


def _bounds(walls: list[np.ndarray]) -> np.ndarray:
    """A point and the inward normal of each wall, (P, 6)."""
    return np.array([np.r_[w[ORIGIN], w[NORMAL]] for w in walls]).reshape(-1, 6)


def _cast(
    rng: np.random.Generator, options: SceneOptions
) -> tuple[Camera, list[np.ndarray], list[tuple[str, float]], list[Path]]:
    """A camera, walls, and as many objects (family, size) with paths as the options ask for.

    Paths are over 2 T - 1 moments, the frames and the moments half-way between them.
    """
    wanted = int(rng.integers(options.min_objects, options.max_objects + 1))
    moments = 2 * options.frames - 1
    times = np.linspace(0, (options.frames - 1) * options.gap / options.fps, moments)
    for _ in range(40):  # a cramped stage is torn down and another one is built
        camera = random_camera(rng, options.width / options.height, wanted)
        walls = _walls(rng, camera)
        theme = THEMES[int(rng.integers(len(THEMES)))]
        paths: list[Path] = []
        cast: list[tuple[str, float]] = []
        for attempt in range(4 * wanted):
            family = theme[int(rng.integers(len(theme)))]
            shrink = 0.85 ** (attempt / wanted)  # small objects find room where large ones do not
            size = float(np.exp(rng.uniform(math.log(0.65), math.log(1.5)))) * shrink
            path = random_path(rng, camera, FAMILIES[family], size, times, paths, _bounds(walls))
            if path is not None:
                paths.append(path)
                cast.append((family, size))
            if len(paths) == wanted:
                return camera, walls, cast, paths
    raise ValueError(f"a scene has no room for {wanted} objects")


def plan_scene(seed: int, options: SceneOptions) -> ScenePlan:
    """The scene of a seed. `options.effect`, counts, clock and aspect ratio shape it."""
    assert options.effect in EFFECTS, options.effect
    rng = np.random.default_rng([seed, 0x0A7E])
    effect = options.effect
    drawn = ("shadow", "reflection", "both")[int(rng.choice(3, p=(0.4, 0.25, 0.35)))]
    effect = drawn if effect == "mixed" else effect
    camera, walls, cast, paths = _cast(rng, options)
    bounds = _bounds(walls)

    side = turn(rng.uniform(0, 6.3), 2)
    ground = _plane(np.zeros(3), side[0], side[1])
    faint = rng.random() < 0.3
    strong = effect != "shadow"
    panel = _mirrors(rng, camera, ground, walls, paths, strong) if strong or faint else None
    lights, sky = _lights(rng, camera, walls, effect != "reflection" or rng.random() < 0.3)
    clutter = _clutter(rng, camera, paths, bounds) if panel is None else []

    half = camera.distance * camera.tan
    grain = (0.15 / half, 1.2 / half)
    procedural, count, share = _tile_counts(options)
    row = mat.material(rng, mat.GROUND, scale=grain, low=0.3, muted=True)
    rows = [mat.pictured(rng, row, procedural, count, 0.6)]
    planes = [ground]
    for wall in walls:
        wall[SURFACE] = len(rows)
        row = mat.material(rng, mat.WALL, scale=grain, contrast=(0.1, 0.7), low=0.3, muted=True)
        rows.append(mat.pictured(rng, row, procedural, count, 0.6))
        planes.append(wall)
    if panel is not None:
        panel[SURFACE] = len(rows)
        rows.append(mat.material(rng, ("plain", "noise"), scale=grain, low=0.25, high=0.85))
        planes.append(panel)

    still = np.zeros(options.frames)
    slots: list[np.ndarray] = [np.empty((options.frames, 0, ROWS))]
    for family, size, spot, yaw in clutter:
        parts = build(family, rng, still, still)
        rows_of = _posed(parts, size, np.tile(spot, (options.frames, 1)), still + yaw, len(rows))
        rows += parts.rows
        slots[0] = np.concatenate([slots[0], rows_of], 1)
    if panel is not None and abs(panel[NORMAL][2]) < 0.9:  # its back, which casts the shadow
        back = Parts(options.frames, rng)
        centre = panel[ORIGIN] - 0.035 * panel[NORMAL]
        axes = np.stack([panel[U], panel[V], panel[NORMAL]])
        back.box(back.material(), centre, (*panel[EXTENT], 0.03), axes)
        slots[0] = np.concatenate(
            [slots[0], _posed(back, 1.0, np.zeros((options.frames, 3)), still, len(rows))], 1
        )
        rows += back.rows
    for (family, size), path in zip(cast, paths, strict=True):
        effort = np.clip(path.speed[::2] / size / 1.2, 0, 1.1)
        parts = build(family, rng, path.walked[::2] / size, effort)
        if family == "crate":
            parts.rows[0] = mat.pictured(rng, parts.rows[0], procedural, count, share)
        slots.append(_posed(parts, size, path.position[::2], path.yaw[::2], len(rows)))
        rows += parts.rows
    spheres = np.stack([_sphere(s) for s in slots], 1)
    away = spheres[:, 1:, :3] - camera.eye
    return ScenePlan(
        camera=camera,
        primitives=np.concatenate(slots, 1).astype(np.float32),
        counts=np.array([s.shape[1] for s in slots]),
        spheres=spheres.astype(np.float32),
        materials=np.stack(rows).astype(np.float32),
        planes=np.stack(planes).astype(np.float32),
        lights=lights.astype(np.float32),
        sky=sky.astype(np.float32),
        distance=np.sqrt((away * away).sum(-1)),
        effect=effect,
    )


def _tile_counts(options: SceneOptions) -> tuple[int, int, float]:
    """Procedural tiles, all tiles, and the share of crates that wear one of the user's pictures."""
    from .textures import load_atlas

    atlas = load_atlas(options.textures)
    return atlas.procedural, atlas.count, 0.7
