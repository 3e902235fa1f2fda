import re
from pathlib import Path

import pytest

from exr_pipeline.errors import BadInputError
from exr_pipeline.exr import Attribute, Channel, Header
from exr_pipeline.pictures.layers import UnknownLayerError, choose_layer


def header(*parts: tuple[str, str], deep: tuple[int, ...] = (), multi_view: tuple[str, ...] = ()) -> Header:
    """Parts given as (name, channels), channels as words `name` or `name:TYPE`; `name@view` names the part's view."""
    built = []
    for index, (name, words) in enumerate(parts):
        name, _, view = name.partition("@")
        split = [word.partition(":") for word in words.split()]
        channels = tuple(Channel(channel, type_name or "HALF") for channel, _, type_name in split)
        attributes = [Attribute.of("channels", "chlist", channels), Attribute.of("name", "string", name)]
        attributes.append(Attribute.of("type", "string", "deepscanline" if index in deep else "scanlineimage"))
        if view:
            attributes.append(Attribute.of("view", "string", view))
        if multi_view:
            attributes.append(Attribute.of("multiView", "stringvector", multi_view))
        built.append(attributes)
    return Header.build(built)


@pytest.mark.parametrize(
    ("parts", "part_index", "kind", "channels"),
    [
        ([("", "A B G R Z beauty.B beauty.G beauty.R")], 0, "rgb", "R G B"),
        ([("", "Z diffuse.B diffuse.G diffuse.R my_beauty.B my_beauty.G my_beauty.R")], 0, "rgb",
         "my_beauty.R my_beauty.G my_beauty.B"),
        ([("", "N.B N.G N.R Z diffuse.B diffuse.G diffuse.R")], 0, "rgb", "diffuse.R diffuse.G diffuse.B"),
        ([("", "crypto00.B crypto00.G crypto00.R diffuse.red diffuse.green diffuse.blue")], 0, "rgb",
         "diffuse.red diffuse.green diffuse.blue"),
        ([("", "ViewLayer.Combined.B ViewLayer.Combined.G ViewLayer.Combined.R a.B a.G a.R")], 0, "rgb",
         "ViewLayer.Combined.R ViewLayer.Combined.G ViewLayer.Combined.B"),
        ([("", "BY RY Y")], 0, "luminance-chroma", "Y RY BY"),
        ([("", "Y Z")], 0, "luminance", "Y"),
        ([("", "Z id:UINT")], 0, "depth", "Z"),
        ([("", "N.X N.Y N.Z depth.Z")], 0, "depth", "depth.Z"),
        ([("", "N.X N.Y N.Z")], 0, "data", "N.X"),
        ([("", "id:UINT")], 0, "id", "id"),
        ([("", "A B:UINT G:UINT R:UINT")], 0, "rgb", "R G B"),
        ([("", "rgba.B:UINT rgba.G:UINT rgba.R:UINT")], 0, "rgb", "rgba.R rgba.G rgba.B"),
        ([("", "Z mask.B:UINT mask.G:UINT mask.R:UINT")], 0, "depth", "Z"),
        ([("", "combineddiffuse.B combineddiffuse.G combineddiffuse.R rgba.B rgba.G rgba.R")], 0, "rgb",
         "rgba.R rgba.G rgba.B"),
        ([("", "beauty_left_light.B beauty_left_light.G beauty_left_light.R main.B main.G main.R")], 0, "rgb",
         "main.R main.G main.B"),
        ([("", "beautyunshadowed.B beautyunshadowed.G beautyunshadowed.R z_beauty.B z_beauty.G z_beauty.R")], 0, "rgb",
         "z_beauty.R z_beauty.G z_beauty.B"),
        ([("", "alb.B alb.G alb.R finalgather.B finalgather.G finalgather.R")], 0, "rgb", "alb.R alb.G alb.B"),
        ([("", "combineddiffuse.B combineddiffuse.G combineddiffuse.R"), ("C", "B G R")], 1, "rgb", "R G B"),
        ([("", "B. G. R. diffuse.B diffuse.G diffuse.R")], 0, "rgb", "R. G. B."),
        ([("", "albedo.B albedo.G albedo.R motionblur_beauty.B motionblur_beauty.G motionblur_beauty.R")], 0, "rgb",
         "motionblur_beauty.R motionblur_beauty.G motionblur_beauty.B"),
        ([("", "composition.B composition.G composition.R specular.B specular.G specular.R")], 0, "rgb",
         "composition.R composition.G composition.B"),
        ([("", "emotion.B emotion.G emotion.R specular.B specular.G specular.R")], 0, "rgb",
         "emotion.R emotion.G emotion.B"),
        ([("", "louvre.B louvre.G louvre.R specular.B specular.G specular.R")], 0, "rgb",
         "louvre.R louvre.G louvre.B"),
        ([("", "VRayNormals.B VRayNormals.G VRayNormals.R specular.B specular.G specular.R")], 0, "rgb",
         "specular.R specular.G specular.B"),
        ([("", "beauty_normal.B beauty_normal.G beauty_normal.R specular.B specular.G specular.R")], 0, "rgb",
         "specular.R specular.G specular.B"),
        ([("", "crypto00.A crypto00.B crypto00.G crypto00.R")], 0, "id", "crypto00.R"),
        ([("", "mask")], 0, "data", "mask"),
        ([("diffuse", "B G R"), ("beauty", "B G R")], 1, "rgb", "R G B"),
        ([("depth", "Z"), ("diffuse", "B G R")], 1, "rgb", "R G B"),
        ([("rgba_right@right", "B G R"), ("rgba_left@left", "B G R")], 1, "rgb", "R G B"),
    ],
)  # fmt: skip
def test_the_layer_that_a_viewer_would_expect_is_shown(
    parts: list[tuple[str, str]], part_index: int, kind: str, channels: str
) -> None:
    shown = choose_layer(header(*parts), name="x.exr")

    assert (shown.part_index, shown.kind, shown.channels) == (part_index, kind, tuple(channels.split()))


def test_the_left_view_of_a_single_part_stereo_file_is_shown_even_if_the_right_is_its_default() -> None:
    shown = choose_layer(header(("", "B G R left.B left.G left.R"), multi_view=("right", "left")), name="x.exr")

    assert (shown.channels, shown.view) == (("left.R", "left.G", "left.B"), "left")


@pytest.mark.parametrize(
    ("channels", "layer", "shown_channels"),
    [
        ("left.B left.G left.R right.B right.G right.R", "", "left.R left.G left.B"),
        ("B.left B.right G.left G.right R.left R.right", "", "R.left G.left B.left"),
        ("left.diffuse.B left.diffuse.G left.diffuse.R right.diffuse.B right.diffuse.G right.diffuse.R", "diffuse",
         "left.diffuse.R left.diffuse.G left.diffuse.B"),
        ("diffuse.left.B diffuse.left.G diffuse.left.R diffuse.right.B diffuse.right.G diffuse.right.R", "diffuse",
         "diffuse.left.R diffuse.left.G diffuse.left.B"),
        ("diffuse.B.left diffuse.G.left diffuse.R.left", "diffuse", "diffuse.R.left diffuse.G.left diffuse.B.left"),
        ("Left.rgba.B Left.rgba.G Left.rgba.R aov.B aov.G aov.R", "rgba", "Left.rgba.R Left.rgba.G Left.rgba.B"),
    ],
)  # fmt: skip
def test_views_that_nothing_declares_are_known_wherever_they_stand(
    channels: str, layer: str, shown_channels: str
) -> None:
    shown = choose_layer(header(("", channels)), name="x.exr")

    assert (shown.layer, shown.view.lower(), shown.channels) == (layer, "left", tuple(shown_channels.split()))
    assert shown.kind == "rgb"


@pytest.mark.parametrize("part", ["rgba.left", "rgba_left", "left.rgba", "left_rgba"])
def test_the_view_in_a_parts_name_is_no_part_of_the_layers(part: str) -> None:
    assert choose_layer(header((f"{part}@left", "B G R"), ("x@left", "B G R")), name="x.exr").layer == "rgba"


def table() -> list[tuple[str, list[str], list[str], list[str]]]:
    """The renderers of docs/color.md, with the names of their pictures, of other color, and of what is no picture."""
    text = (Path(__file__).parents[2] / "docs" / "color.md").read_text(encoding="utf-8")
    lines = text.partition("| renderer |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [(renderer, *(re.findall("`([^`]+)`", names) for names in rest)) for renderer, *rest in cells]  # type: ignore[misc]


def triples(*layers: str) -> Header:
    """One part with each layer as RGB, in the order of the format: by name."""
    channels = sorted(f"{layer}.{component}" for layer in layers for component in "BGR")
    attributes = [
        Attribute.of("channels", "chlist", tuple(Channel(channel, "HALF") for channel in channels)),
        Attribute.of("type", "string", "scanlineimage"),
    ]
    return Header.build([attributes])


@pytest.mark.parametrize(("renderer", "pictures", "colors", "others"), table(), ids=[row[0] for row in table()])
def test_what_renderers_write_is_told_apart_as_documented(
    renderer: str, pictures: list[str], colors: list[str], others: list[str]
) -> None:
    assert pictures
    assert colors
    assert others
    for picture in pictures:
        assert choose_layer(triples(picture, *colors, *others), name=renderer).layer == picture
    for color in colors:
        assert choose_layer(triples(color, *others), name=renderer).layer == color
    for other in others:
        shown = choose_layer(triples(other, "zzz"), name=renderer)
        assert shown.layer == "zzz", f"{other} is no picture"


def test_the_documented_table_names_the_renderers() -> None:
    assert [row[0] for row in table()] == ["Arnold", "Karma", "RenderMan", "V-Ray", "Redshift", "Blender", "Mantra"]


def test_a_flat_picture_is_preferred_to_a_deep_one_of_the_same_rank() -> None:
    shown = choose_layer(header(("rgba", "A B G R Z"), ("beauty", "B G R"), deep=(0,)), name="x.exr")

    assert shown.part_index == 1


def test_a_part_without_channels_is_bad_input() -> None:
    with pytest.raises(BadInputError, match=r"x\.exr: no channel"):
        choose_layer(header(("", "")), name="x.exr")


def test_the_description_says_layer_kind_and_view() -> None:
    assert str(choose_layer(header(("depth@left", "Z"), ("m@left", "mask")), name="x")) == "depth (depth), view left"


@pytest.mark.parametrize(
    ("wanted", "part_index", "kind", "channels"),
    [
        ("diffuse", 0, "rgb", "diffuse.R diffuse.G diffuse.B"),
        ("DIFFUSE", 0, "rgb", "diffuse.R diffuse.G diffuse.B"),
        ("utility", 1, "depth", "Z"),
        ("right", 2, "rgb", "R G B"),
        ("Z", 1, "depth", "Z"),
        ("diffuse.g", 0, "data", "diffuse.G"),
        ("id", 1, "id", "id"),
    ],
)
def test_a_layer_part_view_or_channel_can_be_asked_for(wanted: str, part_index: int, kind: str, channels: str) -> None:
    parts = header(("main", "B G R diffuse.B diffuse.G diffuse.R"), ("utility", "Z id:UINT"), ("other@right", "B G R"))

    shown = choose_layer(parts, name="x.exr", wanted=wanted)

    assert (shown.part_index, shown.kind, shown.channels) == (part_index, kind, tuple(channels.split()))


def test_asking_for_what_is_not_there_names_what_is() -> None:
    with pytest.raises(
        UnknownLayerError, match=r"no layer, part, view or channel 'beauty'; the file has R, G, B, depth, Z$"
    ):
        choose_layer(header(("", "R G B"), ("depth", "Z")), name="x.exr", wanted="beauty")
