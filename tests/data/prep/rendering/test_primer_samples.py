import numpy as np

from data.prep.rendering.primer_samples import samples


def test_the_same_seed_gives_the_same_samples() -> None:
    first, second = (list(samples(5, 8, 112)) for _ in range(2))
    for (image, *texts), (other, *others) in zip(first, second, strict=True):
        assert (image is None) == (other is None)
        assert image is None or np.array_equal(image, other)
        assert texts == others
