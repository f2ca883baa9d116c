"""The plan of a scene, drawn from its seed: stage, camera, objects, paths, mirrors and lights.

Everything here is NumPy and independent of the picture's size (but for its aspect ratio), of the
device and of the other scenes of a batch; `render.py` turns plans into pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path as FilePath

import numpy as np

from omnimatte_cli.synth import materials as mat
from omnimatte_cli.synth.families import CLUTTER, FAMILIES, THEMES, THROWN_THEME, build
from omnimatte_cli.synth.paths import Camera, Path, random_camera, random_path
from omnimatte_cli.synth.primitives import BOX, CAPSULE, ROWS
from omnimatte_cli.synth.seeds import EFFECTS
from omnimatte_cli.synth.shapes import Parts, turn
from omnimatte_cli.synth.stages import (
    EXTENT,
    NORMAL,
    ORIGIN,
    SURFACE,
    U,
    V,
    place_mirrors,
    plane,
    random_lights,
    random_walls,
    wall_bounds,
)

THROWN = 0.3  # share of the scenes in which things fly, bounce and tumble


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
    effect: str = "mixed"  # one of EFFECTS
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


def _posed(
    parts: Parts, size: float, position: np.ndarray, turns: np.ndarray, base: int, pivot: float = 0
) -> np.ndarray:
    """Rows (T, K, ROWS) of an object's primitives in the world.

    turns: (T, 3, 3), about the height `pivot` in the object's own units; base: its first material.
    """
    middle = np.array([0, 0, pivot])
    centres = np.einsum("ktc,tcd->tkd", np.stack(parts.centres) - middle, turns) + middle
    centres = centres * size + position[:, None]
    axes = np.einsum("ktac,tcd->tkad", np.stack(parts.axes), turns)
    half = np.array(parts.halves) * size
    kinds = np.array(parts.kinds)
    reach = np.where(kinds == BOX, np.sqrt((half * half).sum(-1)), half.max(-1))
    reach = np.where(kinds == CAPSULE, half[:, 0] + half[:, 2], reach)
    rows = np.empty((len(turns), len(kinds), ROWS))
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


def _cast(
    rng: np.random.Generator, options: SceneOptions
) -> tuple[Camera, list[np.ndarray], list[tuple[str, float]], list[Path]]:
    """A camera, walls, and as many objects (family, size) with paths as the options ask for.

    Paths are over 2 T - 1 moments, the frames and the moments half-way between them.
    """
    wanted = int(rng.integers(options.min_objects, options.max_objects + 1))
    moments = 2 * options.frames - 1
    times = np.linspace(0, (options.frames - 1) * options.gap / options.fps, moments)
    thrower = rng.spawn(1)[0]  # a stream of its own: the other scenes do not depend on it
    thrown = thrower.random() < THROWN
    for _ in range(40):  # a cramped stage is torn down and another one is built
        camera = random_camera(rng, options.width / options.height, wanted)
        walls = random_walls(rng, camera)
        theme = THEMES[int(rng.integers(len(THEMES)))]
        theme = THROWN_THEME if thrown else theme
        paths: list[Path] = []
        cast: list[tuple[str, float]] = []
        for attempt in range(4 * wanted):
            family = theme[int(rng.integers(len(theme)))]
            shrink = 0.85 ** (attempt / wanted)  # small objects find room where large ones do not
            size = float(np.exp(rng.uniform(math.log(0.65), math.log(1.5)))) * shrink
            flies = thrown and thrower.random() < 0.85
            path = random_path(
                rng,
                camera,
                FAMILIES[family],
                size,
                times,
                paths,
                wall_bounds(walls),
                thrower if flies else None,
            )
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
    bounds = wall_bounds(walls)

    side = turn(rng.uniform(0, 6.3), 2)
    ground = plane(np.zeros(3), side[0], side[1])
    faint = rng.random() < 0.3
    strong = effect != "shadow"
    panel = place_mirrors(rng, camera, ground, walls, paths, strong) if strong or faint else None
    lights, sky = random_lights(rng, camera, walls, effect != "reflection" or rng.random() < 0.3)
    clutter = _clutter(rng, camera, paths, bounds) if panel is None else []

    half = camera.distance * camera.tan
    grain = (0.15 / half, 1.2 / half)
    procedural, count, share = _tile_counts(options)
    # On dark floors and under dark walls reflections brighten, and shadows are faint.
    dark = effect != "shadow" and rng.random() < 0.6
    low, high = (0.1, 0.6) if dark else (0.3, 0.95)
    row = mat.material(rng, mat.GROUND, scale=grain, low=low, high=high, muted=True)
    rows = [mat.pictured(rng, row, procedural, count, 0.6)]
    planes = [ground]
    for wall in walls:
        wall[SURFACE] = len(rows)
        row = mat.material(
            rng, mat.WALL, scale=grain, contrast=(0.1, 0.7), low=low, high=high, muted=True
        )
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
        turns = turn(still + yaw, 2)
        rows_of = _posed(parts, size, np.tile(spot, (options.frames, 1)), turns, len(rows))
        rows += parts.rows
        slots[0] = np.concatenate([slots[0], rows_of], 1)
    if panel is not None and abs(panel[NORMAL][2]) < 0.9:  # its back, which casts the shadow
        back = Parts(options.frames, rng)
        centre = panel[ORIGIN] - 0.035 * panel[NORMAL]
        axes = np.stack([panel[U], panel[V], panel[NORMAL]])
        back.box(back.material(), centre, (*panel[EXTENT], 0.03), axes)
        slots[0] = np.concatenate(
            [slots[0], _posed(back, 1.0, np.zeros((options.frames, 3)), turn(still, 2), len(rows))],
            1,
        )
        rows += back.rows
    for (family, size), path in zip(cast, paths, strict=True):
        effort = np.clip(path.speed[::2] / size / 1.2, 0, 1.1)
        parts = build(family, rng, path.walked[::2] / size, effort)
        if family == "crate":
            parts.rows[0] = mat.pictured(rng, parts.rows[0], procedural, count, share)
        pivot = FAMILIES[family].height / 2
        slots.append(_posed(parts, size, path.position[::2], path.turns[::2], len(rows), pivot))
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
    from omnimatte_cli.synth.textures import load_atlas

    atlas = load_atlas(options.textures)
    return atlas.procedural, atlas.count, 0.7
