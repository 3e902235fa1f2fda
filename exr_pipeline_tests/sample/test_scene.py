from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from exr_pipeline.sample import worlds
from exr_pipeline.sample.scene import FAR, FLOOR, SKY, Camera, Raster, render_layers

SMALL = Raster.full(160, 90)


@pytest.mark.parametrize("world", [worlds.sunset, worlds.night, worlds.noon])
def test_a_scene_has_sky_above_floor_below_and_spheres_between(world: Callable[..., Any]) -> None:
    layers = render_layers(world(0.3), SMALL)

    assert (layers.object_id[0] == SKY).mean() > 0.8
    assert (layers.object_id[-1] == FLOOR).mean() > 0.5
    assert len(np.unique(layers.object_id)) >= 6
    assert (layers.z[layers.object_id == SKY] == FAR).all()
    assert (layers.z[layers.object_id != SKY] < 500).all()
    assert np.isfinite(layers.rgb).all()
    assert (layers.rgb >= 0).all()


def test_normals_are_unit_length_and_the_floor_faces_up() -> None:
    layers = render_layers(worlds.noon(0.0), SMALL)
    solid = (layers.coverage[..., 0] == 1) & (layers.coverage_ids[..., 0] == layers.object_id)
    balls = solid & (layers.object_id > FLOOR)

    np.testing.assert_allclose(np.linalg.norm(layers.normal[balls], axis=-1), 1, atol=0.05)
    assert (np.abs(layers.normal[solid & (layers.object_id == FLOOR)] - [0, 1, 0]) < 1e-6).all()


def test_a_ball_casts_a_shadow() -> None:
    world = worlds.noon(0.0)
    alone = type(world)(world.camera, world.spheres[:1], (), world.sun, world.sky, world.floor)
    far_away = type(world.spheres[0])("gone", (500.0, 1.0, 0.0), 0.5, (0.5, 0.5, 0.5))
    empty = type(world)(world.camera, (far_away,), (), world.sun, world.sky, world.floor)
    lit, shaded = (render_layers(w, SMALL) for w in (empty, alone))
    floor = (lit.object_id == FLOOR) & (shaded.object_id == FLOOR)

    darker = shaded.rgb[floor].sum(axis=-1) < 0.6 * lit.rgb[floor].sum(axis=-1)
    assert 20 < darker.sum() < 0.2 * floor.sum()


def test_coverage_is_shared_at_edges_only() -> None:
    layers = render_layers(worlds.sunset(0.0), SMALL)

    total = layers.coverage.sum(axis=-1)
    assert total.max() == pytest.approx(1)
    assert (total > 0.49).all()
    mixed = layers.coverage[..., 1] > 0
    assert 0.01 < mixed.mean() < 0.2


def test_only_visible_objects_are_shown_over_nothing() -> None:
    layers = render_layers(worlds.sunset(0.0), SMALL, visible=(2,))

    assert set(np.unique(layers.object_id)) == {SKY, 2}
    assert not layers.rgb[layers.alpha == 0].any()
    assert layers.alpha.max() == 1


def test_world_to_camera_puts_the_target_on_the_negative_z_axis() -> None:
    camera = Camera((1.0, 2.0, -5.0), (0.5, 1.0, 3.0))

    local = np.array([*camera.target, 1.0]) @ camera.world_to_camera()

    distance = float(np.linalg.norm(np.subtract(camera.target, camera.position)))
    np.testing.assert_allclose(local, np.array([0, 0, -distance, 1]), atol=1e-5)


def test_a_pixel_aspect_of_two_squeezes_the_picture_to_half_its_width() -> None:
    wide, squeezed = (render_layers(worlds.noon(0.0), raster) for raster in (SMALL, Raster.full(80, 90, 2.0)))

    agreement = wide.object_id[:, ::2] == squeezed.object_id
    assert agreement.mean() > 0.97
