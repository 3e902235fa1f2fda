"""The scenes of the sample show: what stands where at which second, and how it is lit.

Belongs here: positions, colors and movements. Not here: how they become pictures (`scene`) or files (`show`).
"""

from math import cos, pi, sin

from exr_pipeline.sample.scene import Camera, Floor, Lamp, Point, Sky, Sphere, Sun, World

GOLD = (0.95, 0.62, 0.22)
CHROME = (0.90, 0.90, 0.92)
BLACK = (0.0, 0.0, 0.0)


def sunset(seconds: float) -> World:
    """Shot 010: low sun, a bouncing ball, a lamp that swings once a second."""
    swing = sin(2 * pi * seconds)
    bounce = 1.3 * abs(cos(pi * seconds * 1.5))
    return World(
        camera=Camera((-1.3 + 0.9 * seconds, 1.7, -8.2), (0.05, 1.25, 0.0), 42),
        spheres=(
            Sphere("clay", (-2.0, 0.85, 0.5), 0.85, (0.62, 0.13, 0.07), shininess=18),
            Sphere("chrome", (0.15, 1.05, 1.3), 1.05, BLACK, CHROME, 900),
            Sphere("gold", (1.95, 0.7, 0.1), 0.7, (0.05, 0.03, 0.01), GOLD, 160),
            Sphere("ball", (-0.55 + 0.3 * seconds, 0.36 + bounce, -1.3), 0.36, (0.03, 0.22, 0.60), shininess=90),
            Sphere("marble", (0.75, 0.24, -1.9), 0.24, (0.10, 0.45, 0.14), (0.06, 0.06, 0.06), 220),
            Sphere("pearl", (-1.25, 0.2, -2.2), 0.2, (0.75, 0.70, 0.62), (0.08, 0.08, 0.08), 140),
        ),
        lamps=(Lamp("lantern", (1.5 * swing + 0.2, 2.45 + 0.3 * swing * swing, -1.0), 0.10, (6.5, 4.0, 1.7)),),
        sun=Sun((-0.85, 0.33, 0.42), (3.0, 1.55, 0.72)),
        sky=Sky((0.10, 0.19, 0.42), (0.85, 0.46, 0.24), (0.11, 0.07, 0.09)),
        floor=Floor((0.60, 0.55, 0.48), (0.10, 0.10, 0.13)),
    )


def night(seconds: float, *, empty: bool = False) -> World:
    """Shot 020: night, wet floor, two colored lamps circling, the camera on a rail. `empty`: no set yet."""
    turn = 2 * pi * seconds * 0.6
    orbit = -0.35 + 0.5 * seconds
    props = (
        Sphere("moonstone", (0.0, 1.2, 0.6), 1.2, (0.30, 0.32, 0.36), (0.10, 0.10, 0.11), 60),
        Sphere("mirror", (-2.1, 0.75, -0.3), 0.75, BLACK, CHROME, 700),
        Sphere("amber", (1.8, 0.6, -0.7), 0.6, (0.55, 0.24, 0.04), (0.06, 0.06, 0.06), 200),
        Sphere("jade", (2.7, 0.95, 1.6), 0.95, (0.05, 0.30, 0.20), shininess=70),
        *(
            Sphere(f"bead_{i}", _ring(turn * 0.5 + i * pi * 2 / 3, 1.95, 0.2), 0.2, (0.55, 0.08, 0.22), shininess=120)
            for i in range(3)
        ),
    )
    return World(
        camera=Camera((8.4 * sin(orbit), 1.9, -8.4 * cos(orbit)), (0.0, 1.15, 0.0), 42),
        spheres=props[:1] if empty else props,
        lamps=(
            Lamp("ember", _ring(turn, 2.3, 1.55), 0.10, (13.0, 5.2, 1.6)),
            Lamp("neon", _ring(turn + pi * 0.9, 2.7, 2.1), 0.10, (1.4, 6.5, 12.0)),
        ),
        sun=Sun((-0.5, 0.6, -0.3), (0.22, 0.28, 0.42)),
        sky=Sky((0.010, 0.022, 0.080), (0.075, 0.115, 0.230), (0.012, 0.017, 0.034), stars=0.6),
        floor=Floor((0.20, 0.21, 0.24), (0.035, 0.04, 0.05), 0.10, 0.05),
    )


def noon(seconds: float) -> World:
    """Shot 030: bright day, a row of painted balls that hop one after the other, the camera trucking past."""
    paints = ((0.70, 0.09, 0.07), (0.80, 0.36, 0.05), (0.75, 0.62, 0.08), (0.10, 0.45, 0.12), (0.06, 0.25, 0.62))
    return World(
        camera=Camera((-2.2 + 2.6 * seconds, 1.5, -7.0), (-0.6 + 1.2 * seconds, 0.95, 0.0), 44),
        spheres=tuple(
            Sphere(
                f"paint_{i}",
                (-3.0 + 1.5 * i, 0.62 + 0.8 * max(0.0, sin(2 * pi * (seconds * 1.2 - i * 0.14))), 0.35 * (i % 2)),
                0.62,
                paint,
                shininess=80,
            )
            for i, paint in enumerate(paints)
        ),
        lamps=(),
        sun=Sun((-0.6, 0.7, -0.5), (1.5, 1.42, 1.25)),
        sky=Sky((0.07, 0.17, 0.46), (0.36, 0.46, 0.58), (0.05, 0.09, 0.05)),
        floor=Floor((0.42, 0.39, 0.34), (0.10, 0.12, 0.11)),
    )


def _ring(angle: float, radius: float, height: float) -> Point:
    return radius * sin(angle), height, -radius * cos(angle) + 0.4
