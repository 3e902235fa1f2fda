import numpy as np
import pytest

from exr_pipeline.sample.cryptomatte import attributes, channels, murmur3_32, object_id


@pytest.mark.parametrize(
    ("text", "value"),
    [("", 0), ("test", 0xBA6BD213), ("hello", 0x248BFA47), ("Hello, world!", 0xC0363E43), ("clay", 0xEC7F5C59)],
)
def test_hashes_are_murmurhash3_of_the_name(text: str, value: int) -> None:
    assert murmur3_32(text) == value


def test_ids_are_ordinary_floats_for_any_name() -> None:
    values = np.array([object_id(f"object_{i}") for i in range(3000)], np.uint32)
    hashes = np.array([murmur3_32(f"object_{i}") for i in range(3000)], np.uint32)

    floats = values.view(np.float32)
    assert np.isfinite(floats).all()
    assert (np.abs(floats) >= np.finfo(np.float32).tiny).all()
    assert 0 < (values != hashes).sum() < 60


def test_the_attribute_prefix_is_the_start_of_the_layer_names_hash() -> None:
    assert {key.split("/")[1] for key in attributes("CryptoObject", ("sky", "ball"))} == {"3ae39a5"}


def test_the_background_has_no_id_and_no_coverage() -> None:
    ids = np.array([[[1, 0], [0, 1]]], np.uint32)
    coverage = np.array([[[0.75, 0.25], [1.0, 0.0]]], np.float32)

    made = channels("Crypto", ("sky", "ball"), ids, coverage)

    assert made["Crypto00.R"].view(np.uint32).tolist() == [[object_id("ball"), 0]]
    assert made["Crypto00.G"].tolist() == [[0.75, 0.0]]
    assert not made["Crypto00.B"].any()
    assert not made["Crypto00.A"].any()
