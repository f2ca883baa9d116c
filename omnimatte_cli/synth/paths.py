"""Cameras, and smooth paths over the ground that stay in view and do not collide."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from omnimatte_cli.synth.families import Family
from omnimatte_cli.synth.shapes import turn

CANDIDATES = 40  # paths drawn at once for an object, of which a fitting one is taken


@dataclass(frozen=True)
class Camera:
    """eye, right, up, forward: (3,) in scene units, the ground at z = 0. tan: of half the vertical
    angle of view. aspect: width over height. distance: from the eye to the stage's middle."""

    eye: np.ndarray
    right: np.ndarray
    up: np.ndarray
    forward: np.ndarray
    tan: float
    aspect: float
    distance: float

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Screen x, y in [-1, 1] (y up) and depth of points (..., 3)."""
        rel = points - self.eye
        depth = np.maximum(rel @ self.forward, 1e-3)
        x = rel @ self.right / (depth * self.tan * self.aspect)
        return x, rel @ self.up / (depth * self.tan), depth

    def ground(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Where the rays through screen points meet the ground, (..., 3); far away above it."""
        d = (
            self.forward
            + (x * self.tan * self.aspect)[..., None] * self.right
            + (y * self.tan)[..., None] * self.up
        )
        reach = self.eye[2] / np.maximum(-d[..., 2], 1e-3)
        return self.eye + reach[..., None] * d


def random_camera(rng: np.random.Generator, aspect: float, count: int) -> Camera:
    """A camera that looks at the stage around the origin, low to high, near to far."""
    kind = rng.random()
    low, high = (5, 14) if kind < 0.2 else (14, 42) if kind < 0.8 else (42, 72)
    pitch = math.radians(rng.uniform(low, high))
    tan = math.tan(math.radians(rng.uniform(20, 60)) / 2)
    half = rng.uniform(1.0 + 0.14 * count, 1.5 + 0.3 * count)  # half the picture at the stage
    if aspect < 1:
        half /= aspect
    distance = half / tan
    target = np.array([0.0, 0.0, rng.uniform(0.0, 0.5)])
    forward = np.array([0.0, math.cos(pitch), -math.sin(pitch)])
    roll = math.radians(rng.normal() * 1.5)
    side, top = np.array([1.0, 0, 0]), np.array([0, math.sin(pitch), math.cos(pitch)])
    right = math.cos(roll) * side + math.sin(roll) * top
    eye = target - distance * forward
    eye[2] = max(eye[2], 0.25)
    return Camera(eye, right, np.cross(right, forward), forward, tan, aspect, distance)


@dataclass(frozen=True)
class Path:
    """Over S moments: position (S, 3) of the object's foot, turns (S, 3, 3) about its middle (rows
    are its axes), walked (S,) in scene units, speed (S,) in units per second. radius: of the
    footprint, height: of the object, both in units."""

    position: np.ndarray
    turns: np.ndarray
    walked: np.ndarray
    speed: np.ndarray
    radius: float
    height: float


def _integral(rate: np.ndarray, step: float) -> np.ndarray:
    out = np.zeros_like(rate)
    out[..., 1:] = np.cumsum((rate[..., 1:] + rate[..., :-1]) * (0.5 * step), -1)
    return out


def _smooth(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _profiles(rng: np.random.Generator, u: np.ndarray, may_rest: bool) -> np.ndarray:
    """Speeds over the clip relative to the cruising speed, (CANDIDATES, S): steady, stopping,
    starting, pausing, speeding up, resting."""
    kind = rng.random((CANDIDATES, 1))
    when = rng.uniform(0.25, 0.8, (CANDIDATES, 1))
    sharp = rng.uniform(0.15, 0.5, (CANDIDATES, 1))
    stop = 1 - _smooth((u - when) / sharp + 0.5)
    pause = 1 - np.exp(-(((u - when) / sharp) ** 2) * 6)
    out = np.ones((CANDIDATES, len(u)))
    out = np.where(kind < 0.5, stop, out)
    out = np.where(kind < 0.36, 1 - stop, out)
    out = np.where(kind < 0.24, pause, out)
    out = np.where(kind < 0.16, 0.5 + u, out)
    return np.where(kind < 0.07, 0.0, out) if may_rest else out


def random_flight(
    rng: np.random.Generator, times: np.ndarray, radius: float, height: float
) -> tuple[np.ndarray, np.ndarray]:
    """A thrown body that falls, bounces and tumbles, or one that hovers and turns.

    Returns how far its foot is lifted (S,), in units, and its turns about its middle (S, 3, 3).
    """
    hovers = rng.random() < 0.15
    gravity, bounce = 0.0 if hovers else rng.uniform(2.5, 8.0), rng.uniform(0.2, 0.65)
    above, rise = rng.uniform(0.0, 1.5), 0.0 if hovers else rng.uniform(-1.0, 2.5)
    axis = rng.normal(size=3)
    axis /= np.sqrt(axis @ axis)
    angle, rate = rng.uniform(-math.pi, math.pi), rng.normal() * 3.0
    steps = 8  # of the simulation from one moment to the next
    step = (times[1] - times[0]) / steps if len(times) > 1 else 0.0
    lifts, angles = np.empty(len(times)), np.empty(len(times))
    for moment in range(len(times)):
        lifts[moment], angles[moment] = above, angle
        for _ in range(steps):
            rise -= gravity * step
            above += rise * step
            angle += rate * step
            if above < 0:
                above, rise, rate = 0.0, max(-bounce * rise - 0.1, 0.0), rate * (1 - 3 * step)
    k = np.cross(np.eye(3), axis)
    turns = np.eye(3) + np.sin(angles)[:, None, None] * k
    turns += (1 - np.cos(angles))[:, None, None] * (k @ k)
    upright = np.abs(turns[:, 2, 2])
    lowest = 0.5 * height * upright + radius * np.sqrt(np.maximum(1 - upright**2, 0))
    return lifts + lowest - 0.5 * height, turns


def random_path(
    rng: np.random.Generator,
    camera: Camera,
    family: Family,
    size: float,
    times: np.ndarray,
    others: list[Path],
    walls: np.ndarray,
    thrower: np.random.Generator | None = None,
) -> Path | None:
    """A path for an object of a given size, or None where no candidate fits.

    times: (S,) seconds, evenly spaced. walls: (P, 6) a point of each wall and its inward normal.
    thrower: draws the object's flight; None leaves it on the ground.
    """
    n, moments = CANDIDATES, len(times)
    span = max(float(times[-1] - times[0]), 1e-3)
    u, step = (times - times[0]) / span, span / max(moments - 1, 1)
    radius, height = family.radius * size, family.height * size
    passing = rng.random() < 0.22
    reach = 1.15 if passing else 0.8
    start = camera.ground(rng.uniform(-reach, reach, n), rng.uniform(-0.95, 0.75, n))
    anchor = rng.random(n)
    heading = np.where(
        rng.random(n) < 0.45,
        rng.integers(0, 2, n) * math.pi + rng.normal(size=n) * 0.35,
        rng.uniform(-math.pi, math.pi, n),
    )
    turning = rng.normal(size=n) * (0.35 if family.speed[1] >= 2 else 0.8)
    cruise = rng.uniform(*family.speed, n) * size
    speed = cruise[:, None] * _profiles(rng, u, may_rest=bool(others))
    crossing = rng.random() < 0.45
    hop, hop_height, beat = rng.random() < family.hops, rng.uniform(0.15, 1.0), rng.random()
    air, drift = rng.uniform(0.3, 1.6) * size, rng.uniform(0, 6.3)
    spin = (rng.random() < family.spins) * rng.normal() * 1.5

    yaw = heading[:, None] + turning[:, None] * (u * span)
    x = _integral(speed * np.cos(yaw), step)
    y = _integral(speed * np.sin(yaw), step)
    middle = (anchor * (moments - 1)).round().astype(int)
    rows = np.arange(n)
    position = np.stack([x - x[rows, middle][:, None], y - y[rows, middle][:, None], 0 * x], -1)
    position += start[:, None]
    position[..., 2] = 0.0
    if hop:
        period = math.sqrt(8 * hop_height * size / 8.0)
        f = (times / period + beat) % 1
        position[..., 2] += 4 * hop_height * size * f * (1 - f)
    if family.flies:
        position[..., 2] += air * (1 + 0.15 * np.sin(times * 2 + drift))

    tumble = np.broadcast_to(np.eye(3), (moments, 3, 3))
    if thrower is not None:
        lift, tumble = random_flight(thrower, times, radius, height)
        position[..., 2] = lift
        radius = max(radius, height / 2)

    sx, sy, depth = camera.project(position + np.array([0, 0, height / 2]))
    seen = (np.abs(sx) < 0.93) & (np.abs(sy) < 0.93)
    part = height / (2 * camera.tan * depth)  # share of the picture's height
    good = seen.mean(1) >= (0.5 if passing else 0.75)
    good &= (part.max(1) < 0.7) & (part.max(1) > 0.09)
    good &= depth.min(1) > 0.4 * camera.distance + radius
    for wall in walls:
        good &= (((position - wall[:3]) @ wall[3:]) > radius + 0.05).all(1)
    bonus = np.zeros(n)
    for other in others:
        between = position[..., :2] - other.position[None, :, :2]
        apart = np.sqrt((between * between).sum(-1))
        good &= (apart > radius + other.radius + 0.03).all(1)
        ox, oy, od = camera.project(other.position + np.array([0, 0, other.height / 2]))
        near = np.abs(sx - ox) * camera.aspect < 0.5 * (part + other.height / (2 * camera.tan * od))
        bonus += (near & (np.abs(sy - oy) < 0.5)).any(1)
    if not good.any():
        return None
    best = int(np.argmax(good * (1 + crossing * np.minimum(bonus, 1))))
    return Path(
        position[best],
        tumble @ turn(yaw[best] + spin * (times - times[0]), 2),
        _integral(speed[best], step),
        speed[best],
        radius,
        height,
    )
