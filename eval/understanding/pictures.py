"""The test pictures of the instructions as the model saw them: raw where they are, else boxed."""

from pathlib import Path

from dat_runtime.truth import Frame


def picture_of(frame: Frame, instructions: Path) -> Path | None:
    """The file of a frame's picture; `None` where there is none.

    The id of a frame comes from a file that anyone may have written: a path that it leads out of
    the folder is not followed.
    """
    for inputs, suffix in (("raw", "jpg"), ("raw", "png"), ("boxed", "jpg")):
        folder = (instructions / "images" / inputs / "test").resolve()
        path = (folder / f"{frame.image_id}.{suffix}").resolve()
        if path.is_relative_to(folder) and path.is_file():
            return path
    return None
