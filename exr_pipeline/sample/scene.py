"""Pictures of a lit scene by ray casting in numpy: spheres on a floor under a sky, with lamps and a sun.

Belongs here: geometry, light, and what a renderer hands out per pixel. Not here: the scenes (`worlds`), files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.floating[Any]]
    Ids = NDArray[np.uint32]

RGB = tuple[float, float, float]
Point = tuple[float, float, float]

# Object ids: the sky is 0, the floor 1, the spheres follow in order, then the bulbs of the lamps.
SKY: Final = 0
FLOOR: Final = 1
FIRST_SPHERE: Final = 2
FAR: Final = 10_000.0

# Rotated grid, in pixels from the pixel's centre.
_SUBSAMPLES: Final = ((-0.125, -0.375), (0.375, -0.125), (0.125, 0.375), (-0.375, 0.125))
_LUMA: Final = np.array([[0.2126], [0.7152], [0.0722]], np.float32)


@dataclass(frozen=True, slots=True)
class Sphere:
    """A ball. `reflectance` is that of the mirror at normal incidence (0.04 for plastic, near the tint for metal)."""

    name: str
    center: Point
    radius: float
    albedo: RGB
    reflectance: RGB = (0.04, 0.04, 0.04)
    shininess: float = 60.0


@dataclass(frozen=True, slots=True)
class Lamp:
    """A glowing bulb. `power` is the light it gives at distance 1; the bulb itself is far brighter than white."""

    name: str
    center: Point
    radius: float
    power: RGB


@dataclass(frozen=True, slots=True)
class Sun:
    """Light from far away; `direction` points towards it."""

    direction: Point
    power: RGB


@dataclass(frozen=True, slots=True)
class Sky:
    """A gradient from horizon to zenith, with hills before it. `stars` is their brightness (0: none)."""

    zenith: RGB
    horizon: RGB
    hills: RGB
    stars: float = 0.0


@dataclass(frozen=True, slots=True)
class Floor:
    """A checkerboard at height 0 of tiles with sides of 1; `reflectance` makes it wet, 0 is matte."""

    light: RGB
    dark: RGB
    reflectance: float = 0.0
    haze: float = 0.03


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole: where it stands, what it looks at, its horizontal field of view."""

    position: Point
    target: Point
    fov_degrees: float = 40.0

    def basis(self) -> Array:
        """Rows: right, up, backward (the camera looks along its negative z axis)."""
        backward = np.subtract(self.position, self.target)
        backward = backward / np.linalg.norm(backward)
        right = np.cross((0.0, 1.0, 0.0), backward)
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(backward, right), backward]).astype(np.float32)

    def moved_right(self, distance: float) -> Camera:
        """The same camera, parallel, to the right by `distance`: the other eye."""
        shift = self.basis()[0] * distance
        return Camera(_point(self.position + shift), _point(self.target + shift), self.fov_degrees)

    def world_to_camera(self) -> Array:
        """4x4 matrix for row vectors, as the `worldToCamera` attribute has it (right-handed, looking along -z)."""
        matrix = np.eye(4, dtype=np.float32)
        matrix[:3, :3] = self.basis().T
        matrix[3, :3] = -(self.basis() @ np.asarray(self.position, np.float32))
        return matrix


@dataclass(frozen=True, slots=True)
class World:
    """Everything at one moment."""

    camera: Camera
    spheres: tuple[Sphere, ...]
    lamps: tuple[Lamp, ...]
    sun: Sun
    sky: Sky
    floor: Floor

    @property
    def balls(self) -> tuple[Sphere | Lamp, ...]:
        """Spheres and bulbs, in the order of their object ids."""
        return (*self.spheres, *self.lamps)

    @property
    def object_names(self) -> tuple[str, ...]:
        """Names by object id."""
        return ("sky", "floor", *(ball.name for ball in self.balls))


@dataclass(frozen=True, slots=True)
class Raster:
    """Which pixels to make: the size of the frame and the window in it (`x`, `y` of its corner, may be outside).

    `pixel_aspect` is a pixel's width over its height.
    """

    frame_width: int
    frame_height: int
    x: int
    y: int
    width: int
    height: int
    pixel_aspect: float = 1.0

    @classmethod
    def full(cls, width: int, height: int, pixel_aspect: float = 1.0) -> Raster:
        """The whole frame."""
        return cls(width, height, 0, 0, width, height, pixel_aspect)


@dataclass(frozen=True, slots=True)
class Layers:
    """What was rendered, height x width (x components), scene-linear.

    `rgb` is diffuse + specular + what glows; `z` is the distance along the view axis in scene units (FAR for the sky);
    `motion` is in pixels since the previous frame (x right, y down); `coverage` holds the two objects that fill most of
    each pixel as (id, share) pairs.
    """

    rgb: Array
    alpha: Array
    diffuse: Array
    specular: Array
    normal: Array
    z: Array
    motion: Array
    object_id: Ids
    coverage_ids: Ids
    coverage: Array


@dataclass(frozen=True, slots=True)
class _Samples:
    """Shaded rays; arrays are 3 x n or n."""

    diffuse: Array
    specular: Array
    glow: Array
    normal: Array
    distance: Array
    object_id: Ids

    @property
    def rgb(self) -> Array:
        return self.diffuse + self.specular + self.glow


def render_layers(
    world: World, raster: Raster, *, before: World | None = None, visible: tuple[int, ...] | None = None
) -> Layers:
    """The picture of a world; edges are sampled four times.

    `before` is the world one frame earlier, for motion vectors. `visible` limits what the camera sees to these object
    ids; the others still cast shadows and show in reflections.
    """
    columns, rows = np.meshgrid(np.arange(raster.width, dtype=np.float32), np.arange(raster.height, dtype=np.float32))
    x, y = (columns + raster.x + 0.5).ravel(), (rows + raster.y + 0.5).ravel()
    directions, axial = _rays(world.camera, raster, x, y)
    origin = _column(world.camera.position)
    samples = _trace(world, origin, directions, 1, visible)
    z = np.where(samples.object_id == SKY, np.float32(FAR), samples.distance * axial)
    motion = _motion(world, before or world, raster, samples, directions)

    shape = (raster.height, raster.width)
    count = len(world.object_names)
    shares = np.zeros((count, x.size), np.float32)
    shares[samples.object_id, np.arange(x.size)] = 1
    edge = np.flatnonzero(_edges(samples, shape))
    if edge.size:
        fine = []
        for dx, dy in _SUBSAMPLES:
            rays, _ = _rays(world.camera, raster, x[edge] + np.float32(dx), y[edge] + np.float32(dy))
            fine.append(_trace(world, origin, rays, 1, visible))
        for name in ("diffuse", "specular", "glow", "normal"):
            getattr(samples, name)[:, edge] = sum(getattr(one, name) for one in fine) / np.float32(len(fine))
        shares[:, edge] = 0
        for one in fine:
            shares[one.object_id, edge] += np.float32(1 / len(fine))
    order = np.argsort(-shares, axis=0, kind="stable")[:2]

    def image(values: Array) -> Array:
        return np.ascontiguousarray(values.reshape(-1, *shape).transpose(1, 2, 0))

    shown = 1 - shares[SKY] if visible is not None else np.ones(x.size, np.float32)
    return Layers(
        rgb=image(samples.rgb),
        alpha=shown.reshape(shape),
        diffuse=image(samples.diffuse),
        specular=image(samples.specular),
        normal=image(samples.normal),
        z=z.reshape(shape),
        motion=image(motion),
        object_id=samples.object_id.reshape(shape),
        coverage_ids=np.ascontiguousarray(order.astype(np.uint32).reshape(2, *shape).transpose(1, 2, 0)),
        coverage=image(np.take_along_axis(shares, order, axis=0)),
    )


def _point(values: Array) -> Point:
    return float(values[0]), float(values[1]), float(values[2])


def _column(values: Point | RGB) -> Array:
    return np.array(values, np.float32)[:, None]


def _at(values: Array, index: NDArray[Any]) -> Array:
    """Columns by number (many times faster than indexing)."""
    return np.take(values, index, axis=-1)


def _put(target: Array, index: NDArray[Any], values: Array) -> None:
    """Sets columns by number; the counterpart of `_at`."""
    for row, value in zip(target, values, strict=True):
        row[index] = value


def _dot(a: Array, b: Array) -> Array:
    result: Array = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    return result


def _rays(camera: Camera, raster: Raster, x: Array, y: Array) -> tuple[Array, Array]:
    """Unit directions (3 x n) through image points, and their component along the view axis."""
    scale = np.float32(2 * np.tan(np.radians(camera.fov_degrees) / 2) / raster.frame_width)
    right, up, backward = camera.basis()[:, :, None]
    across = (x - np.float32(raster.frame_width / 2)) * scale
    down = (y - np.float32(raster.frame_height / 2)) * (scale / np.float32(raster.pixel_aspect))
    axial = 1 / np.sqrt(1 + across * across + down * down)
    return (right * across - up * down - backward) * axial, axial


def _edges(samples: _Samples, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels beside another object, or at a step in brightness on a sphere (the floor and the sky are smooth)."""
    luma = np.sum(samples.rgb * _LUMA, axis=0).reshape(shape)
    tone = np.where(samples.object_id.reshape(shape) >= FIRST_SPHERE, luma / (luma + np.float32(0.3)), 0)
    ids = samples.object_id.reshape(shape)
    edge = np.zeros(shape, bool)
    down = (ids[1:] != ids[:-1]) | (np.abs(tone[1:] - tone[:-1]) > 0.07)
    across = (ids[:, 1:] != ids[:, :-1]) | (np.abs(tone[:, 1:] - tone[:, :-1]) > 0.07)
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    return edge.ravel()


def _motion(world: World, before: World, raster: Raster, samples: _Samples, directions: Array) -> Array:
    """Image movement of what each pixel shows since `before` (2 x n, pixels)."""
    offsets = np.zeros((3, len(world.object_names)), np.float32)
    for index, (now, then) in enumerate(zip(world.balls, before.balls, strict=True)):
        offsets[:, FIRST_SPHERE + index] = np.subtract(now.center, then.center)
    distance = np.where(samples.object_id == SKY, np.float32(FAR), samples.distance)
    points = _column(world.camera.position) + directions * distance
    now_xy = _project(world.camera, raster, points)
    return now_xy - _project(before.camera, raster, points - _at(offsets, samples.object_id))


def _project(camera: Camera, raster: Raster, points: Array) -> Array:
    offset = points - _column(camera.position)
    # Not a matrix product: its library starts a thread per core, which then spin until the next one.
    local = [_dot(axis, offset) for axis in camera.basis()]
    scale = np.float32(raster.frame_width / (2 * np.tan(np.radians(camera.fov_degrees) / 2)))
    depth = np.minimum(local[2], np.float32(-1e-3))
    return np.stack([local[0] * scale / -depth, local[1] * scale * np.float32(raster.pixel_aspect) / depth])


def _intersect(
    world: World, origin: Array, directions: Array, visible: tuple[int, ...] | None
) -> tuple[Array, NDArray[np.int64]]:
    """Distance to the nearest object (FAR for none) and its id."""
    distance = np.full(directions.shape[1], FAR, np.float32)
    ids = np.zeros(directions.shape[1], np.int64)
    if visible is None or FLOOR in visible:
        falling = np.minimum(directions[1], np.float32(-1e-6))
        t = -origin[1] / falling
        hit = (directions[1] < -1e-4) & (t > 1e-3) & (t < 400)
        distance, ids = np.where(hit, t, distance), np.where(hit, FLOOR, ids)
    for index, ball in enumerate(world.balls, FIRST_SPHERE):
        if visible is not None and index not in visible:
            continue
        to_center = _column(ball.center) - origin
        along = _dot(to_center, directions)
        # r² - (distance of the ray to the centre)²; the vector form keeps precision that |oc|² - b² loses.
        away = to_center - along * directions
        inside = np.float32(ball.radius**2) - _dot(away, away)
        t = along - np.sqrt(np.maximum(inside, 0))
        hit = (inside > 0) & (t > 1e-3) & (t < distance)
        distance, ids = np.where(hit, t, distance), np.where(hit, index, ids)
    return distance, ids


def _trace(
    world: World, origin: Array, directions: Array, bounces: int, visible: tuple[int, ...] | None = None
) -> _Samples:
    distance, ids = _intersect(world, origin, directions, visible)
    n = directions.shape[1]
    diffuse, specular, glow, normals = (np.zeros((3, n), np.float32) for _ in range(4))
    result = _Samples(diffuse, specular, glow, normals, distance, ids.astype(np.uint32))
    sky = np.flatnonzero(ids == SKY)
    if visible is None:
        _put(result.glow, sky, _sky(world, _at(directions, sky)))
    bulbs = FIRST_SPHERE + len(world.spheres)
    for index, lamp in enumerate(world.lamps, bulbs):
        own = np.flatnonzero(ids == index)
        if own.size:
            points = (origin if origin.shape[1] == 1 else _at(origin, own)) + _at(directions, own) * distance[own]
            normal = (points - _column(lamp.center)) / np.float32(lamp.radius)
            facing = np.clip(-_dot(normal, _at(directions, own)), 0, 1)
            result.glow[:, own] = _column(lamp.power) * np.float32(6) * (np.float32(0.35) + np.float32(0.65) * facing)
            result.normal[:, own] = normal
    solid = np.flatnonzero((ids != SKY) & (ids < bulbs))
    if solid.size:
        starts = origin if origin.shape[1] == 1 else _at(origin, solid)
        _shade(world, result, solid, starts + _at(directions, solid) * distance[solid], _at(directions, solid), bounces)
    return result


def _shade(world: World, out: _Samples, index: NDArray[np.int64], points: Array, view: Array, bounces: int) -> None:
    """Fills `out` at `index` with the light of floor and spheres."""
    ids = out.object_id[index].astype(np.int64)
    centers = np.array([(0, 0, 0), (0, 0, 0), *(s.center for s in world.spheres)], np.float32).T
    radii = np.array([1, 1, *(s.radius for s in world.spheres)], np.float32)
    on_floor = ids == FLOOR
    normal = (points - _at(centers, ids)) / radii[ids]
    normal = np.where(on_floor, _column((0, 1, 0)), normal)

    floor_f0 = (world.floor.reflectance,) * 3
    albedo = _at(np.array([(0, 0, 0), (0, 0, 0), *(s.albedo for s in world.spheres)], np.float32).T, ids)
    f0 = _at(np.array([(0, 0, 0), floor_f0, *(s.reflectance for s in world.spheres)], np.float32).T, ids)
    shininess = np.array([1, 120, *(s.shininess for s in world.spheres)], np.float32)[ids]
    tiles = np.flatnonzero(on_floor)
    _put(albedo, tiles, _checker(world, _at(points, tiles), _at(view, tiles), out.distance[index[tiles]]))

    facing = np.clip(-_dot(normal, view), 0, 1)
    fresnel = f0 + (1 - f0) * (_fifth_power(1 - facing) * np.minimum(1, shininess / 40) * np.sign(f0))
    lit, shine = _lights(world, points, normal, view, shininess, ids)
    ambient = _ambient(world, points, normal, ids)
    diffuse = albedo * (lit + ambient) * (1 - f0)
    specular = fresnel * shine
    if bounces:
        mirror = np.flatnonzero(np.max(fresnel, axis=0) > 0.02)
        bounce = _at(view, mirror) + 2 * facing[mirror] * _at(normal, mirror)
        seen = _trace(world, _at(points, mirror) + _at(normal, mirror) * np.float32(2e-3), bounce, bounces - 1)
        # A bulb's mirror image is the highlight, which `shine` already has.
        seen_rgb = np.minimum(seen.rgb, 12)
        _put(specular, mirror, _at(specular, mirror) + _at(fresnel, mirror) * seen_rgb)
    else:
        # At the last bounce what would have been mirrored is taken from the sky.
        specular += fresnel * _ambient_color(world) * np.float32(0.7)

    haze = np.where(on_floor, 1 - np.exp(-np.maximum(out.distance[index] - 6, 0) * np.float32(world.floor.haze)), 0)
    _put(out.diffuse, index, diffuse * (1 - haze))
    _put(out.specular, index, specular * (1 - haze))
    _put(out.glow, index, _column(world.sky.horizon) * haze)
    _put(out.normal, index, normal)


def _fifth_power(x: Array) -> Array:
    squared = x * x
    result: Array = squared * squared * x
    return result


def _checker(world: World, points: Array, view: Array, distance: Array) -> Array:
    """Checkerboard, box-filtered over the pixel's footprint (analytic, so that the distance doesn't shimmer)."""
    footprint = np.maximum(distance * np.float32(0.0016), 1e-4)
    width = np.stack([footprint, footprint / np.maximum(-view[1], 0.02)])

    def triangle(x: Array) -> Array:
        result: Array = np.abs(x / 2 - np.floor(x / 2) - np.float32(0.5))
        return result

    across = 2 * (triangle(points[0] - width[0] / 2) - triangle(points[0] + width[0] / 2)) / width[0]
    away = 2 * (triangle(points[2] - width[1] / 2) - triangle(points[2] + width[1] / 2)) / width[1]
    share = np.clip(np.float32(0.5) - np.float32(0.5) * across * away, 0, 1)
    color: Array = _column(world.floor.dark) * (1 - share) + _column(world.floor.light) * share
    return color


def _lights(
    world: World, points: Array, normal: Array, view: Array, shininess: Array, ids: NDArray[np.int64]
) -> tuple[Array, Array]:
    """Light that arrives (for diffuse surfaces) and light mirrored by roughness (for the highlight)."""
    lit = np.zeros_like(points)
    shine = np.zeros_like(points)
    gloss = (shininess + 8) / np.float32(8)
    lights: tuple[Sun | Lamp, ...] = (world.sun, *world.lamps)
    for light in lights:
        towards, far, radius, falloff = _towards(light, points)
        arriving = falloff * np.maximum(_dot(normal, towards), 0)
        # Shadows are the dearest part: look for them only where the light would be seen.
        some = np.flatnonzero(arriving * np.float32(max(light.power)) > 2e-3)
        if not some.size:
            continue
        to_light = _at(towards, some)
        reach = arriving[some] * _unshadowed(world, _at(points, some), to_light, far[some], radius, ids[some])
        half = to_light - _at(view, some)
        half = half / np.sqrt(np.maximum(_dot(half, half), 1e-6))
        _put(lit, some, _at(lit, some) + _column(light.power) * reach)
        highlight = np.maximum(_dot(_at(normal, some), half), 0) ** shininess[some]
        _put(shine, some, _at(shine, some) + _column(light.power) * (reach * gloss[some] * highlight))
    return lit, shine


def _towards(light: Sun | Lamp, points: Array) -> tuple[Array, Array, np.float32, Array]:
    """Unit directions to a light, its distance, its radius, and how much it weakens on the way."""
    if isinstance(light, Sun):
        direction = _column(light.direction) / np.float32(np.linalg.norm(light.direction))
        ones = np.ones(points.shape[1], np.float32)
        return np.broadcast_to(direction, points.shape), ones * np.float32(1e4), np.float32(120), ones
    offset = _column(light.center) - points
    squared = _dot(offset, offset)
    far = np.sqrt(squared)
    return offset / far, far, np.float32(light.radius), 1 / np.maximum(squared, np.float32(0.05))


def _unshadowed(
    world: World, points: Array, towards: Array, far: Array, radius: np.float32, ids: NDArray[np.int64]
) -> Array:
    """Share of a light that is seen past the spheres, with penumbras as wide as the light looks from there."""
    share = np.ones(points.shape[1], np.float32)
    middle, reach = _bounds(world)
    along, miss = _passing(points, towards, middle, reach)
    near = np.flatnonzero((along > -reach) & (miss < radius * (along + reach) / far))
    points, towards, distance, ids = _at(points, near), _at(towards, near), far[near], ids[near]
    some = np.ones(near.size, np.float32)
    for index, ball in enumerate(world.spheres, FIRST_SPHERE):
        along, miss = _passing(points, towards, _column(ball.center), np.float32(ball.radius))
        penumbra = np.maximum(radius * along / distance, np.float32(1e-3))
        step = np.clip((miss / penumbra + 1) / 2, 0, 1)
        blocks = (along > 0) & (along < distance) & (ids != index)
        some *= 1 - blocks * (1 - step * step * (3 - 2 * step))
    share[near] = some
    return share


def _passing(points: Array, towards: Array, center: Array, radius: np.float32) -> tuple[Array, Array]:
    """How far along a ray a sphere is passed, and by how much it is missed (negative inside)."""
    to_center = center - points
    along = _dot(to_center, towards)
    away = to_center - along * towards
    return along, np.sqrt(_dot(away, away)) - radius


def _bounds(world: World) -> tuple[Array, np.float32]:
    """Centre and radius of a sphere around all spheres."""
    centers = np.array([s.center for s in world.spheres], np.float32).T
    middle = centers.mean(axis=1, keepdims=True)
    reach = np.linalg.norm(centers - middle, axis=0) + np.array([s.radius for s in world.spheres], np.float32)
    return middle, np.float32(reach.max())


def _ambient_color(world: World) -> Array:
    return (_column(world.sky.zenith) + _column(world.sky.horizon)) * np.float32(0.5)


def _ambient(world: World, points: Array, normal: Array, ids: NDArray[np.int64]) -> Array:
    """Light of the sky and of the floor, less what near spheres hide (solid angle times cosine)."""
    up = np.float32(0.5) + np.float32(0.5) * normal[1]
    floor = (_column(world.floor.light) + _column(world.floor.dark)) * np.float32(0.5)
    open_share = np.ones(points.shape[1], np.float32)
    for index, ball in enumerate(world.spheres, FIRST_SPHERE):
        to_center = _column(ball.center) - points
        squared = np.maximum(_dot(to_center, to_center), np.float32(ball.radius**2))
        cosine = np.maximum(_dot(normal, to_center) / np.sqrt(squared), 0)
        hidden = cosine * np.float32(ball.radius**2) / squared
        open_share *= np.where(ids == index, 1, 1 - np.minimum(hidden, 0.95))
    # A ball standing on the floor is darkest underneath.
    height = np.where(ids == FLOOR, 1, np.clip(points[1] * 2, 0.15, 1))
    sky = _ambient_color(world)
    light: Array = (sky * up + floor * sky * (1 - up) * height) * open_share
    return light


def _sky(world: World, directions: Array) -> Array:
    sky = world.sky
    height = np.clip(directions[1], 0, 1)
    blend = np.sqrt(height)
    color = _column(sky.horizon) * (1 - blend) + _column(sky.zenith) * blend
    sun = _column(world.sun.direction) / np.float32(np.linalg.norm(world.sun.direction))
    towards = np.clip(_dot(directions, sun), 0, 1)
    color += _column(world.sun.power) * (np.float32(0.10) * towards**24 + np.float32(0.5) * towards**400)
    color += _column(world.sun.power) * np.clip((towards - np.float32(0.9994)) * 4000, 0, 1) * np.float32(14)
    angle = np.arctan2(directions[0], directions[2])
    if sky.stars:
        # A hash of the direction's cell, so that stars stand still in the sky.
        cells = np.floor(np.stack([angle * 420, directions[1] * 420])).astype(np.int64).astype(np.uint32)
        noise = (cells[0] * np.uint32(374761393)) ^ (cells[1] * np.uint32(668265263))
        noise = (noise ^ (noise >> np.uint32(13))) * np.uint32(1274126177)
        brightness = (noise & np.uint32(15)).astype(np.float32) * np.float32(sky.stars / 8)
        color += brightness * ((noise >> np.uint32(16)) % 601 == 0)
    for layer, fade in ((0.105, 0.55), (0.06, 0.0)):
        ridge = np.float32(layer) * (
            np.float32(0.55)
            + np.float32(0.25) * np.sin(angle * 5 + np.float32(layer * 90))
            + np.float32(0.14) * np.sin(angle * 13 + np.float32(layer * 40))
            + np.float32(0.05) * np.sin(angle * 37)
        )
        hills = _column(sky.hills) * np.float32(1 - fade) + _column(sky.horizon) * np.float32(fade)
        edge = np.clip((ridge - directions[1]) * 600 + np.float32(0.5), 0, 1)
        color = color * (1 - edge) + hills * edge
    result: Array = color
    return result
