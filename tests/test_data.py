"""Real inputs: what they are, and that other data is refused."""

import hashlib
import importlib
import platform
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters import data
from adapters.data import common

# files whose name their package gives to a function
digit_file = importlib.import_module("adapters.data.digits")
photograph_file = importlib.import_module("adapters.data.photographs")
text_file = importlib.import_module("adapters.data.text")
video_file = importlib.import_module("adapters.data.video")

IMAGES, LENGTH, TOKENS = 16, 24, 300
#: name -> (a batch of so many examples, how many differ before they repeat), at a small size
BATCHES = {
    "digits": (lambda batch: data.digits(14, batch), 1797),
    "digit_rows": (data.digit_rows, 1797),
    "digit_sequence": (lambda batch: data.digit_sequence(batch, 5), 359),
    "photographs": (lambda batch: data.photographs(IMAGES, batch), 1024),
    "segmentation": (lambda batch: data.segmentation(IMAGES, batch), 1024),
    "detection": (lambda batch: data.detection(24, batch, 3), 1024),
    "volumes": (lambda batch: data.volumes(6, 10, batch), 449),
    "video": (lambda batch: data.video(4, 16, batch), 1797),
    "characters": (lambda batch: data.characters(4000, batch), None),
    "bpe": (lambda batch: data.bpe(TOKENS, 4000, batch), None),
    "masked_text": (lambda batch: data.masked_text(TOKENS, 2000, batch), None),
    "clicks": (lambda batch: data.clicks(batch, 26, 1000), 1797),
    "noised": (lambda batch: data.noised(8, 2, batch), 1797),
}
SPLITS = {
    "digits_split": lambda: data.digits_split(8),
    "photo_patches": lambda: data.photo_patches(8),
    "segmentation_split": lambda: data.segmentation_split(8),
    "characters_split": lambda: data.characters_split(200),  # a shorter phrase may come back
}


@pytest.fixture
def fresh():
    """Clears what a test makes of other data, before and after it."""

    def clear():
        for cached in (digit_file.originals, photograph_file._pixels, text_file._text):
            cached.cache_clear()

    clear()
    yield
    clear()


@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_has_inputs_and_targets_of_plain_types(name):
    make, _ = BATCHES[name]
    batch = make(5)
    assert {key.partition("/")[0] for key in batch} == {"x", "y"}
    for key, values in batch.items():
        assert values.dtype in (np.float64, np.int64, np.bool_), key
        assert len(values) == 5, key
        assert np.isfinite(values).all(), key
        assert values.flags.writeable, key
        assert len(np.unique(values)) > 1, f"{key} is constant"


@pytest.mark.parametrize("name", BATCHES)
def test_a_small_batch_is_the_beginning_of_a_large_one(name):
    make, _ = BATCHES[name]
    small, large = make(3), make(8)
    for key, values in small.items():
        np.testing.assert_array_equal(values, large[key][:3])


@pytest.mark.parametrize("name", BATCHES)
def test_data_repeats_after_its_last_example(name):
    make, count = BATCHES[name]
    count = count or next(n for n in range(2, 300) if same(make(n + 1), 0, n))
    batch = make(count + 2)
    assert same(batch, 0, count)
    assert same(batch, 1, count + 1)
    assert not same(batch, 0, 1)


def same(batch, i, j):
    return all(np.array_equal(values[i], values[j]) for values in batch.values())


@pytest.mark.parametrize("name", SPLITS)
def test_a_split_shares_no_example(name):
    train, held = SPLITS[name]()
    assert not {row.tobytes() for row in train["x"]} & {row.tobytes() for row in held["x"]}
    for part in (train, held):
        assert len(part["x"]) == len(part["y"])
        assert all(values.flags.writeable for values in part.values())
    assert 0.09 < len(held["x"]) / (len(train["x"]) + len(held["x"])) < 0.3


def test_the_same_in_another_process():
    code = "from tests.test_data import digest; print(digest())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest()


def digest():
    """The SHA-256 of a batch of each kind."""
    values = [v for make, _ in BATCHES.values() for v in make(5).values()]
    return hashlib.sha256(b"".join(v.tobytes() for v in values)).hexdigest()


def test_importing_the_package_loads_no_data():
    code = "import sys, adapters.data; print({'sklearn', 'PIL', 'tokenizers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# --- other data is refused ---------------------------------------------------------------------


def test_other_digits_are_refused(monkeypatch, fresh):
    monkeypatch.setattr(digit_file, "DIGITS_SHA256", "0" * 64)
    with pytest.raises(data.DataError, match=rf"digits have SHA-256 f6d9.*should have {'0' * 64}"):
        data.digits(8, 1)


def test_other_photographs_are_refused(monkeypatch, fresh):
    monkeypatch.setattr(photograph_file, "PHOTOGRAPHS_SHA256", "0" * 64)
    with pytest.raises(data.DataError, match=r"photographs.* have SHA-256 9931.*should have 0000"):
        data.photographs(8, 1)


def test_a_known_release_of_python_with_another_text_is_refused(monkeypatch, fresh):
    release = platform.python_version()
    monkeypatch.setitem(text_file.TEXT_SHA256, release, "0" * 64)
    with pytest.raises(data.DataError, match=rf"Python {release} have SHA-256 .*should have 0000"):
        data.checksum()


def test_an_unknown_release_of_python_is_taken_and_its_checksum_told(monkeypatch, fresh):
    monkeypatch.setattr(text_file, "TEXT_SHA256", {})
    assert data.checksum() == hashlib.sha256(text_file._text().encode()).hexdigest()


# --- resizing ----------------------------------------------------------------------------------


def test_resizing_keeps_a_linear_ramp():
    ramp = np.broadcast_to(np.arange(8.0), (1, 8, 8))
    wide = common.resize(ramp, 16)[0, 0]
    np.testing.assert_allclose(np.diff(wide)[1:-1], 0.5)


@given(old=st.integers(1, 40), new=st.integers(1, 40))
def test_resizing_weighs_and_keeps_order(old, new):
    matrix = common.weights(old, new)
    assert matrix.shape == (new, old)
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    assert (matrix >= 0).all()
    assert (np.diff(matrix @ np.arange(old)) >= -1e-12).all()
    np.testing.assert_allclose(matrix, matrix[::-1, ::-1], atol=1e-12)  # left as right


def test_shrinking_averages_what_it_leaves_out():
    stripes = np.tile([0.0, 1.0], 8)
    np.testing.assert_allclose((common.weights(16, 4) @ stripes)[1:-1], 0.5)


# --- digits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [8, 14, 28])
def test_digits_are_normalised_images_with_labels(side):
    batch = data.digits(side, 1797)
    assert batch["x"].shape == (1797, side, side, 1)
    assert set(batch["y"]) == set(range(10))
    assert abs(batch["x"].mean()) < 0.05
    assert batch["x"].std() == pytest.approx(1.0, abs=0.15)  # resizing smooths


def test_digits_at_their_own_size_are_not_resized():
    x = data.digits(8, 3)["x"][..., 0]
    assert len(np.unique(np.round(x, 9))) <= 17  # the data has 17 grey levels


def test_what_is_kept_of_the_digits_cannot_be_written():
    images, _ = digit_file.originals()
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def test_the_split_of_the_digits_is_stratified_and_complete():
    train, held = data.digits_split(8)
    assert (len(train["y"]), len(held["y"])) == (1438, 359)
    whole = {row.tobytes() for row in data.digits(8, 1797)["x"]}
    assert {row.tobytes() for part in (train, held) for row in part["x"]} == whole
    counts = np.bincount(train["y"]) + np.bincount(held["y"])
    np.testing.assert_allclose(np.bincount(held["y"]) / counts, 0.2, atol=0.005)


def test_rows_follow_one_another_digit_by_digit():
    images = data.digits(8, 6)
    rows = data.digit_rows(6)
    np.testing.assert_array_equal(rows["x"], images["x"][..., 0])
    long = data.digit_sequence(2, 3)
    np.testing.assert_array_equal(long["x"], images["x"].reshape(2, 24, 8))
    np.testing.assert_array_equal(long["y"], images["y"][[2, 5]])


# --- photographs -------------------------------------------------------------------------------


def test_photographs_are_crops_of_both():
    batch = data.photographs(IMAGES, 64)
    assert batch["x"].shape == (64, IMAGES, IMAGES, 3)
    np.testing.assert_array_equal(batch["y"], np.arange(64) % 2)
    pixels = batch["x"] * photograph_file.DEVIATION + photograph_file.MEAN
    assert -1e-9 <= pixels.min() < 0.1
    assert 0.9 < pixels.max() <= 1 + 1e-9
    assert len({row.tobytes() for row in batch["x"]}) == 64


def test_a_whole_crop_of_its_own_size_is_the_photograph():
    pixels = photograph_file._pixels()
    np.testing.assert_array_equal(
        photograph_file._cut(pixels, (1, 10, 20, 64), 64), pixels[1, 10:74, 20:84]
    )


@pytest.mark.parametrize("segments", [False, True])
def test_held_out_crops_share_no_pixel_with_those_for_training(segments):
    train, held = photograph_file._divided(segments=segments)
    assert max(left + edge for _, _, left, edge in train) <= photograph_file.BORDER
    assert min(left for _, _, left, _ in held) >= photograph_file.BORDER
    for _, top, left, edge in (*train, *held):
        assert 0 <= top <= top + edge <= 427
        assert left + edge <= 640


def test_segments_are_neither_empty_nor_full():
    batch = data.segmentation(32, 64)
    assert batch["y"].shape == (64, 32, 32, 1)
    assert set(np.unique(batch["y"])) == {0.0, 1.0}
    shares = batch["y"].mean(axis=(1, 2, 3))
    assert shares.min() > 0.03
    assert shares.max() < 0.97


def test_the_flower_is_red_and_its_background_is_not():
    batch = data.segmentation(64, 2)
    pixels = batch["x"][1] * photograph_file.DEVIATION + photograph_file.MEAN
    flower = batch["y"][1, ..., 0] == 1
    redness = pixels[..., 0] - pixels[..., 1]
    assert redness[flower].mean() > 0.1 > 0 > redness[~flower].mean()


@settings(deadline=None, max_examples=30)
@given(side=st.integers(24, 96), objects=st.integers(1, 9))
def test_pasted_digits_lie_inside_and_do_not_overlap(side, objects):
    batch = data.detection(side, 4, objects)
    assert batch["x"].shape == (4, side, side, 3)
    assert batch["y/boxes"].shape == (4, objects, 4)
    assert batch["y/labels"].shape == (4, objects)
    assert batch["y/labels"].min() >= 1
    assert batch["y/labels"].max() <= 10
    for boxes in batch["y/boxes"]:
        taken = np.zeros((side, side), int)
        for y1, x1, y2, x2 in boxes.astype(int):
            assert 0 <= y1 < y2 <= side
            assert 0 <= x1 < x2 <= side
            taken[y1:y2, x1:x2] += 1
        assert taken.max() == 1


def test_a_digit_is_pasted_into_its_box_only():
    plain, pasted = data.photographs(48, 4), data.detection(48, 4, 2)
    changed = np.abs(plain["x"] - pasted["x"]).max(axis=-1) > 1e-9
    for i, boxes in enumerate(pasted["y/boxes"].astype(int)):
        for y1, x1, y2, x2 in boxes:
            assert changed[i, y1:y2, x1:x2].mean() > 0.3
            changed[i, y1:y2, x1:x2] = False
    assert not changed.any()


def test_too_many_objects_are_refused():
    with pytest.raises(ValueError, match="side 16, but 9 objects should have 18 or more"):
        data.detection(16, 1, 9)


# --- volumes, films, recommendations -----------------------------------------------------------


def test_a_solid_begins_and_ends_with_a_digit_and_marks_its_ink():
    batch, digits = data.volumes(8, 8, 3), data.digits(8, 12)["x"]
    assert batch["x"].shape == batch["y"].shape == (3, 8, 8, 8, 1)
    np.testing.assert_allclose(batch["x"][:, 0], digits[0::4])
    np.testing.assert_allclose(batch["x"][:, -1], digits[3::4])
    marked = batch["y"] == 1
    assert 0.1 < marked.mean() < 0.6
    assert batch["x"][marked].min() > batch["x"][~marked].max()


@given(example=st.integers(0, 1796), frames=st.integers(1, 20), room=st.integers(0, 30))
def test_a_film_stays_inside_and_moves_steadily(example, frames, room):
    path = video_file._path(example, frames, room=room)
    assert path.shape == (frames, 2)
    assert path.min() >= 0
    assert path.max() <= room
    assert (np.abs(np.diff(path, axis=0)) <= room / max(1, frames - 1) + 1).all()


def test_a_film_shows_its_digit_in_each_frame():
    batch = data.video(6, 16, 4)
    assert batch["x"].shape == (4, 6, 16, 16, 1)
    ink = (batch["x"] - batch["x"].min()).sum(axis=(2, 3, 4))
    np.testing.assert_allclose(ink, np.broadcast_to(ink[:, :1], ink.shape))
    assert not np.array_equal(batch["x"][:, 0], batch["x"][:, -1])
    np.testing.assert_array_equal(batch["y"], data.digits(8, 4)["y"])


@given(fields=st.integers(1, 64), vocabulary=st.integers(2, 10**6))
def test_ids_for_a_recommender_are_in_its_vocabulary(fields, vocabulary):
    batch = data.clicks(4, fields, vocabulary)
    assert batch["x/ids"].shape == (4, fields, 64 // fields)
    assert batch["x/ids"].min() >= 0
    assert batch["x/ids"].max() < vocabulary


def test_clicks_are_features_of_digits():
    batch = data.clicks(1797, 64, 17)
    np.testing.assert_array_equal(batch["y"], data.digits(8, 1797)["y"] % 2 == 0)
    np.testing.assert_array_equal(batch["x/ids"][..., 0], digit_file.originals()[0].reshape(-1, 64))
    assert batch["x/dense"].shape == (1797, 13)
    np.testing.assert_allclose(batch["x/dense"].mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(batch["x/dense"].std(axis=0), 1)
    assert np.linalg.matrix_rank(batch["x/dense"]) >= 12  # the quarters make up the whole
    with pytest.raises(ValueError, match="65 fields"):
        data.clicks(1, 65, 10)


# --- text --------------------------------------------------------------------------------------


def test_characters_are_followed_by_the_next():
    batch = data.characters(LENGTH, 5)
    np.testing.assert_array_equal(batch["x"][:, 1:], batch["y"][:, :-1])
    np.testing.assert_array_equal(batch["x"][1:, 0], batch["y"][:-1, -1])
    shown = "".join(text_file.ALPHABET[i] for i in batch["x"].ravel())
    assert shown == text_file._text()[: 5 * LENGTH]  # the beginning is ASCII
    assert len(set(text_file.ALPHABET)) == data.CHARACTERS == 97


def test_a_split_of_the_text_is_its_beginning_and_its_end():
    train, held = data.characters_split(LENGTH)
    ids = text_file._characters()
    np.testing.assert_array_equal(train["x"].ravel()[:500], ids[:500])
    border = round(0.9 * len(ids))
    np.testing.assert_array_equal(held["x"].ravel(), ids[border : border + held["x"].size])
    assert train["y"].size <= border


def test_a_length_that_the_text_does_not_have_is_refused():
    with pytest.raises(ValueError, match="length 1000000, but the text has"):
        data.characters(10**6, 1)
    with pytest.raises(ValueError, match="a third at most"):
        data.masked_text(TOKENS, 10**6, 1)


@pytest.mark.parametrize("vocabulary", [256, 512, 50257])
def test_tokens_are_in_the_vocabulary_and_fewer_when_it_is_larger(vocabulary):
    batch = data.bpe(vocabulary, LENGTH, 4)
    np.testing.assert_array_equal(batch["x"][:, 1:], batch["y"][:, :-1])
    ids = text_file._tokens(vocabulary)
    assert ids.min() >= 0
    assert ids.max() < vocabulary
    if vocabulary == 256:
        assert len(ids) == len(text_file._text().encode())
    else:
        assert len(ids) < len(text_file._tokens(256)) / 2


def test_a_vocabulary_without_all_bytes_is_refused():
    with pytest.raises(ValueError, match="255 tokens for text, but single bytes need 256"):
        data.bpe(255, 8, 1)


def test_masked_text_is_made_as_for_bert():
    batch = data.masked_text(TOKENS, 64, 40)
    ids, asked, inside = batch["x/ids"], batch["y/tokens"] >= 0, batch["x/mask"]
    assert ids.max() < TOKENS
    assert (ids[:, 0] == text_file.CLASS).all()
    assert ((ids == text_file.SEPARATOR).sum(axis=1) == 2).all()
    np.testing.assert_array_equal(ids == text_file.PAD, ~inside)
    np.testing.assert_array_equal(inside.sum(axis=1), np.where(np.arange(40) % 4 == 3, 48, 64))
    for row, segment, used in zip(ids, batch["x/segments"], inside.sum(axis=1), strict=True):
        first, second = np.flatnonzero(row == text_file.SEPARATOR)
        assert second == used - 1
        np.testing.assert_array_equal(np.flatnonzero(segment), np.arange(first + 1, second + 1))
    assert asked.any(axis=1).all()
    assert not asked[ids < text_file.MASK].any()  # padding and separators are never asked for
    assert asked[ids == text_file.MASK].all()
    assert asked.sum() / inside.sum() == pytest.approx(0.15, abs=0.03)
    assert (ids[asked] == text_file.MASK).mean() == pytest.approx(0.8, abs=0.06)
    assert (batch["y/tokens"][asked] >= text_file.SPECIAL).all()
    assert batch["y/class"].mean() == 0.5


def test_a_second_segment_follows_the_first_where_the_class_says_so():
    batch = data.masked_text(TOKENS, 64, 12)
    tokens = text_file._tokens(TOKENS - text_file.SPECIAL) + text_file.SPECIAL
    original = np.where(batch["y/tokens"] >= 0, batch["y/tokens"], batch["x/ids"])
    for i, row in enumerate(original):
        both = row[row >= text_file.SPECIAL]  # A and B without what is special
        follows = np.array_equal(both, tokens[i * 64 : i * 64 + len(both)])
        assert follows == batch["y/class"][i]


def test_at_least_one_token_is_asked_for():
    assert ((data.masked_text(TOKENS, 8, 8, rate=0.0)["y/tokens"] >= 0).sum(axis=1) == 1).all()


# --- chance ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5])
def test_a_dropout_mask_keeps_the_mean(rate):
    mask = data.keep_mask((200, 300), rate, 3)
    assert mask.dtype == np.float64
    assert set(np.unique(mask)) <= {0.0, 1 / (1 - rate)}
    assert mask.mean() == pytest.approx(1, abs=0.02)
    np.testing.assert_array_equal(mask[:5], data.keep_mask((5, 300), rate, 3))
    if rate:
        assert not np.array_equal(mask, data.keep_mask((200, 300), rate, 4))


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_that_is_no_share_is_refused(rate):
    with pytest.raises(ValueError, match="should be at least 0 and below 1"):
        data.keep_mask((2,), rate, 0)


def test_noise_and_image_make_the_noised_image():
    batch = data.noised(8, 3, 64)
    time = batch["x/time"].astype(int)
    assert (time == batch["x/time"]).all()
    assert 0 <= time.min() < 200
    assert 800 < time.max() < 1000
    a = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[time][:, None, None, None]
    clean = (batch["x/image"] - np.sqrt(1 - a) * batch["y"]) / np.sqrt(a)
    images = digit_file.originals()[0][:64, ..., None] / 8 - 1
    np.testing.assert_allclose(clean, np.broadcast_to(images, clean.shape), atol=1e-9)
    assert batch["y"].std() == pytest.approx(1, abs=0.02)
    assert not np.array_equal(batch["y"], data.noised(8, 3, 64, seed=1)["y"])
