"""Partition keys: they are reversible, survive in a URL, and what a page shows of two of them differs."""

import os
import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.partition_keys import VISIBLE, address_of, key_of
from exr_pipeline_tests.storage.former_keys import former_key

UNRESERVED = set(string.ascii_letters + string.digits + "-._~")

# Every address that a store or a file system can hold: UTF-8 text, and bytes that are none as surrogates.
awkward = st.text(alphabet="/.~%# +é2FfE9pin\n\udcff", max_size=60)
with_numbers = st.lists(st.sampled_from(["#", "####", "<UDIM>", "9", "/", ".", "a~~in~", "udim", "p4"])).map("".join)
any_address = (
    st.binary(max_size=60).map(os.fsdecode)
    | st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60)
    | awkward
    | with_numbers
)


def elided(key: str) -> str:
    """What Dagster's page shows of a key that has no room."""
    return key if len(key) <= 2 * VISIBLE + 1 else f"{key[:VISIBLE]}…{key[-VISIBLE:]}"


@given(any_address)
def test_a_key_is_reversible_and_made_of_unreserved_characters_only(address: str) -> None:
    key = key_of(address)
    assert address_of(key) == address
    assert set(key) <= UNRESERVED
    assert "..." not in key


@given(any_address, any_address)
def test_two_addresses_never_share_a_key(one: str, other: str) -> None:
    assume(one != other)
    assert key_of(one) != key_of(other)


@given(any_address)
def test_keys_of_earlier_versions_are_understood(address: str) -> None:
    assert address_of(former_key(address)) == address


def test_a_key_holds_the_whole_path_and_name_as_text_to_search_for() -> None:
    location = Location("s3", "renders", "show/shot_020/plates/plate.####.dpx")
    assert location.partition_key == "shot_020~plate~~in~renders~show~shot_020~plates~plate.~~p4.dpx"
    assert Location("s3", "renders", "show/beauty.0001.exr").partition_key == "renders~show~beauty.0001.exr"


def test_a_label_adds_no_more_than_what_is_visible() -> None:
    address = "renders/" + "a folder of a long name/" * 20 + "a long name indeed.0001.exr"
    assert len(key_of(address)) <= len(former_key(address)) + VISIBLE + len("~~in~")


@pytest.mark.parametrize(
    "listing",
    [
        # Folders tell.
        [f"renders/show/shot_{shot:03}/plates/plate.####.dpx" for shot in (10, 20, 30)],
        [f"renders/show/shot_{shot:04}/comp/v004/beauty.0001.exr" for shot in (10, 20)],
        [f"renders/show/shot_0010/comp/v{version:03}/shot_0010_comp.####.exr" for version in (3, 4)],
        [f"/mnt/nas/show/sq{sequence:03}/sh0010/fx/smoke.####.exr" for sequence in (10, 20)],
        [f"projects/show/textures/{material}/baseColor_2k.exr" for material in ("wood", "stone", "walnut")],
        [f"gs:/renders/show/shot_{shot:03}/beauty/{frame:04}.exr" for shot in (10, 20) for frame in (1, 2)],
        # Names tell.
        [f"renders/show/shot_030/plates/A042C{clip:03}_240517_R1ZQ.####.exr" for clip in (7, 8)],
        [f"jobs/thelongshowname/comp/thelongshowname_sq010_sh{shot:04}_comp_v003.1001.exr" for shot in (10, 20)],
        [f"renders/show/shot_010/beauty/main_beauty_denoised.{frame:04}.exr" for frame in (1001, 1002, 1100)],
        [f"renders/show/shot 010/Comp (final) {version}.####.exr" for version in (1, 2)],
        # Both do.
        [
            f"renders/show/shot_{shot:03}/{layer}/shot_{shot:03}_{layer}.{number}.exr"
            for shot in (10, 20)
            for layer in ("beauty", "mattes", "comp_v002")
            for number in ("####", "1001", "1002")
        ],
    ],
)
def test_what_the_page_shows_of_neighbours_differs(listing: list[str]) -> None:
    assert len({elided(key_of(address)) for address in listing}) == len(listing)
