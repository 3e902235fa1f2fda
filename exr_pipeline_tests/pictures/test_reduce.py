import numpy as np
import pytest

from exr_pipeline.pictures.reduce import AreaReducer
from exr_pipeline.pictures.still import Size


def by_definition(picture: np.ndarray, size: Size) -> np.ndarray:
    """The mean over areas, one axis after the other, from an integral."""
    for axis, count in ((0, size.height), (1, size.width)):
        total = np.concatenate([np.zeros_like(picture.take([0], axis)), picture.cumsum(axis)], axis)
        edges = np.linspace(0, picture.shape[axis], count + 1)
        below = np.minimum(edges.astype(int), picture.shape[axis] - 1)
        part = np.expand_dims(edges - below, tuple(other for other in range(3) if other != axis))
        at_edges = total.take(below, axis) + part * picture.take(below, axis)
        picture = np.diff(at_edges, axis=axis) * count / picture.shape[axis]
    return picture


@pytest.mark.parametrize("size", [(90, 60), (89, 59), (45, 30), (31, 17), (90, 17), (31, 60), (1, 1), (90, 59)])
@pytest.mark.parametrize("lines", [7, 32, 60])
def test_lines_added_one_block_after_another_become_the_mean_over_areas(size: tuple[int, int], lines: int) -> None:
    picture = np.random.default_rng(1).random((60, 90, 3))
    reducer = AreaReducer(Size(90, 60), Size(*size), 3)

    for y in reversed(range(0, 60, lines)):
        reducer.add(y, 0, picture[y : y + lines].astype(np.float32))

    assert np.abs(reducer.result - by_definition(picture, Size(*size))).max() < 2e-6


def test_what_is_never_added_is_black() -> None:
    reducer = AreaReducer(Size(90, 60), Size(30, 20), 1)

    reducer.add(30, 60, np.ones((30, 15, 1), np.float32))

    assert reducer.result[10:, 20:25].min() == pytest.approx(1)
    assert reducer.result.sum() == pytest.approx(50)
