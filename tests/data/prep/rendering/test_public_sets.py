from data.prep.rendering import public_sets


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    def made(seed: int) -> list[bytes]:
        return [jpeg for _, jpeg, _ in public_sets.accident_frames(seed, 0, 3, size=160)]

    assert made(1) == made(1)
    assert not set(made(1)) & set(made(2))


def test_no_frame_of_one_split_is_in_another() -> None:
    splits = [
        {jpeg for _, jpeg in public_sets.negative_frames(0, split, 2, size=160)}
        for split in range(3)
    ]
    assert len(set.union(*splits)) == 6
