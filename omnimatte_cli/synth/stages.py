"""What a scene plays on: ground, walls, mirrors and lights, as rows of numbers."""

from __future__ import annotations

import math

import numpy as np

from omnimatte_cli.synth.paths import Camera, Path
from omnimatte_cli.synth.shapes import turn

# Columns of a plane: origin, its two axes and its normal, half extents, material, reflectance
# straight down and at grazing angles, tile, scale and threshold of puddles (tile -1: everywhere),
# height and frequency of ripples, roughness, distance at which a reflection fades by e (units).
PLANE_COLUMNS = 24
ORIGIN, U, V, NORMAL = slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 12)
EXTENT, SURFACE, REFLECT, PUDDLE = slice(12, 14), 14, slice(15, 17), slice(17, 20)
RIPPLE, ROUGH, FADE = slice(20, 22), 22, 23
LIGHT_COLUMNS = 8  # position, colour, tangent of the angular radius, distance of unit brightness
FAR = 1e4  # scene units


def plane(origin, u, v, extent=(FAR, FAR)) -> np.ndarray:
    row = np.zeros(PLANE_COLUMNS)
    row[ORIGIN], row[U], row[V], row[NORMAL] = origin, u, v, np.cross(u, v)
    row[EXTENT] = extent
    row[PUDDLE.start], row[RIPPLE.start + 1], row[FADE] = -1, 1.0, FAR
    return row


def random_walls(rng: np.random.Generator, camera: Camera) -> list[np.ndarray]:
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
        wall = plane(away * reach, side, up, (FAR, height))
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
            best, most = plane(centre, u, v, (wide[i], high[i])), score
    return best


def place_mirrors(
    rng: np.random.Generator, camera: Camera, ground: np.ndarray, walls: list[np.ndarray],
    paths: list[Path], strong: bool,
) -> np.ndarray | None:  # fmt: skip
    """Make the ground, a wall or a panel reflect, strongly or faintly; the panel, if any."""
    kind = rng.random()
    half = camera.distance * camera.tan
    share = rng.uniform(0.28, 0.62) if strong else rng.uniform(0.02, 0.08)
    panel = None
    if kind < 0.24:  # polished floor, the same from everywhere
        ground[REFLECT] = share, min(share * rng.uniform(1.0, 1.6), 0.9)
    elif kind < 0.35:  # gloss: weak straight down, strong at grazing angles, blurred away by height
        ground[REFLECT] = share * 0.45, min(share * 1.6, 0.9)
        ground[FADE] = rng.uniform(0.5, 2.5)
        ground[ROUGH] = rng.uniform(0, 0.03)
    elif kind < 0.44:  # puddles
        ground[REFLECT] = share * 0.8, min(share * 1.6, 0.95)
        ground[PUDDLE] = rng.integers(3, 6), rng.uniform(0.12, 0.4) / half, rng.uniform(0.4, 0.52)
        ground[RIPPLE] = rng.uniform(0, 0.01), rng.uniform(4, 12)
    elif kind < 0.52:  # water
        ground[REFLECT] = share * 0.6, min(share * 1.8, 0.95)
        ground[RIPPLE] = rng.uniform(0.004, 0.03), np.exp(rng.uniform(0.7, 2.7))
    elif kind < 0.67:  # a lying panel
        centre = camera.ground(rng.uniform(-0.3, 0.3, ()), rng.uniform(-0.4, 0.1, ()))
        angle = rng.uniform(0, math.pi)
        u, v = turn(angle, 2)[:2]
        panel = plane(centre + np.array([0, 0, 0.004]), u, v, rng.uniform(0.7, 2.0, 2) * half)
    else:
        panel = _panel(rng, camera, paths, wall_bounds(walls))
        if panel is None and walls and rng.random() < 0.5:
            walls[0][REFLECT] = share, min(share * 1.4, 0.9)
        elif panel is None:
            ground[REFLECT] = share, min(share * 1.3, 0.9)
    if panel is not None:
        panel[REFLECT] = share, min(share * rng.uniform(1.0, 1.3), 0.9)
        panel[ROUGH] = rng.uniform(0, 0.01) * (rng.random() < 0.3)
    return panel


def random_lights(
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
        top = np.full(3, rng.uniform(0.05, 1.1))
    horizon = np.clip(top * rng.uniform(0.8, 1.2) + rng.uniform(0, 0.2), 0, 1.3)
    tint = 1 - 0.7 * np.array([warm, 0.0, -warm])
    sky = np.r_[ambient * tint, ambient * tint * rng.uniform(0.45, 0.95, 3), top, horizon,
                math.exp(rng.normal() * 0.25) * 1.1, rng.uniform(1.9, 2.4)]  # fmt: skip
    return np.stack(rows), sky


def wall_bounds(walls: list[np.ndarray]) -> np.ndarray:
    """A point and the inward normal of each wall, (P, 6)."""
    return np.array([np.r_[w[ORIGIN], w[NORMAL]] for w in walls]).reshape(-1, 6)
