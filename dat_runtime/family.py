"""What differs between the families of models that can be tuned and asked, in one place.

A family shares its way of counting coordinates, its vision unit and its chat template. A folder
that depends on a family other than Qwen2.5-VL states it (`manifest.Manifest.family`); what states
none was made for Qwen2.5-VL. See `docs/decisions/031-families.md`.
"""

from dataclasses import dataclass

from dat_runtime.types import Size


@dataclass(frozen=True)
class Family:
    """The facts of one family.

    Attributes:
        name: `model_type` in the config.json of its models.
        title: for people.
        template: LLaMA-Factory's, of its chats and pictures.
        unit: side of the square of an image that one token stands for, pixels.
        least_pixels: its processor enlarges a smaller image.
        coordinates: how the system message says in what the corners of a box are counted.
        scale: what each axis is counted to, whatever the image's size; `None`: in its pixels.
    """

    name: str
    title: str
    template: str
    unit: int
    least_pixels: int
    coordinates: str
    scale: int | None = None

    def frame_of(self, image: Size) -> Size:
        """The frame in which prompt and answer count, for an image of that size."""
        return image if self.scale is None else Size(self.scale, self.scale)


QWEN2_5_VL = Family(
    name="qwen2_5_vl",
    title="Qwen2.5-VL",
    template="qwen2_vl",
    unit=28,  # patches of 14 pixels, merged 2 x 2
    least_pixels=56 * 56,
    coordinates="in pixels of the image",
)

QWEN3_VL = Family(
    name="qwen3_vl",
    title="Qwen3-VL",
    template="qwen3_vl_nothink",  # of the Instruct models, which do not think first
    unit=32,  # patches of 16 pixels, merged 2 x 2
    least_pixels=256 * 256,
    coordinates="from 0 to 1000, relative to the image",
    scale=1000,
)

FAMILIES = {family.name: family for family in (QWEN2_5_VL, QWEN3_VL)}
BY_TEMPLATE = {family.template: family for family in FAMILIES.values()}
