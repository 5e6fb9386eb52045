"""Images: digits, IDX, folders and arrays; one common scale."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
import torch

from basin.datasets.load import load
from basin.datasets.read_images import read_idx

Image = pytest.importorskip("PIL.Image")


def pixels(n=12, height=4, width=5, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width)).astype(np.uint8)


def idx(x, code=0x08):
    return struct.pack(f">BBBB{x.ndim}I", 0, 0, code, x.ndim, *x.shape) + x.tobytes()


def folder(path, images):
    for index, image in enumerate(images):
        file = path / ("even" if index % 2 == 0 else "odd") / f"{index:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    return path


def test_binarised_digits_are_the_digits_above_half():
    digits, bits = load("digits", seed=1), load("binarised_digits", seed=1)
    grey, black = digits.train.take(0, 100), bits.train.take(0, 100)
    assert bits.kind == "images"
    assert torch.equal(black, (grey >= 8).float())
    assert 0.3 < float(black.mean()) < 0.4


def test_digits():
    digits = load("digits")
    assert (digits.kind, digits.event_shape, digits.num_rows) == ("images", (1, 8, 8), 1797)
    assert digits.shift.shape == digits.scale.shape == ()
    train = digits.train.take(0, digits.train.num_rows)
    assert (float(train.min()), float(train.max())) == (0.0, 16.0)
    torch.testing.assert_close(digits.shift, train.mean(), rtol=1e-5, atol=0)
    torch.testing.assert_close(digits.scale, train.std(correction=0), rtol=1e-5, atol=0)
    assert digits.columns is None
    assert digits.num_duplicates == 0


@pytest.mark.parametrize(
    ("code", "dtype"),
    [(8, "u1"), (9, ">i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")],
)
def test_idx_types(tmp_path, code, dtype):
    x = (pixels() // 2).astype(dtype)
    (tmp_path / "x-idx3-ubyte").write_bytes(idx(x, code))
    with gzip.open(tmp_path / "x-idx3-ubyte.gz", "wb") as file:
        file.write(idx(x, code))
    for name in ("x-idx3-ubyte", "x-idx3-ubyte.gz"):
        assert np.array_equal(read_idx(tmp_path / name).values[:, 0], x)
        assert load(tmp_path / name).event_shape == (1, 4, 5)


def test_a_folder_of_images_is_read_in_order(tmp_path):
    x = pixels()
    dataset = load(folder(tmp_path, x), seed=4)
    np.save(tmp_path / "x.npy", np.concatenate([x[::2], x[1::2]]))
    same = load(tmp_path / "x.npy", seed=4)
    assert torch.equal(dataset.test, same.test)
    assert dataset.kind == same.kind == "images"
    assert load(**dataset.to_config()).num_rows == 12
    Image.fromarray(x[0]).save(tmp_path / "new.png")
    with pytest.raises(ValueError, match="its content differs"):
        load(**dataset.to_config())


def test_coloured_images(tmp_path):
    x = np.stack([pixels(height=6, seed=seed) for seed in range(3)], axis=-1)
    dataset = load(folder(tmp_path, x))
    assert dataset.event_shape == (3, 6, 5)
    np.savez(tmp_path / "x.npz", x.transpose(0, 3, 1, 2))
    assert load(tmp_path / "x.npz").event_shape == (3, 6, 5)
    np.savez(tmp_path / "x.npz", x)
    with pytest.raises(ValueError, match=r"channels first.*save x.transpose\(0, 3, 1, 2\)"):
        load(tmp_path / "x.npz")


def test_memory_mapped_images(tmp_path):
    np.save(tmp_path / "x.npy", pixels(40))
    mapped, read = (load(tmp_path / "x.npy", memory_map=flag) for flag in (True, False))
    assert mapped.event_shape == read.event_shape == (1, 4, 5)
    assert torch.equal(mapped.test, read.test)
    assert torch.equal(mapped.shift, read.shift)
    assert mapped.train.draw(3, torch.Generator().manual_seed(0)).shape == (3, 1, 4, 5)
    assert read.train.values.dtype == torch.uint8


def test_images_that_cannot_be_used(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="got a folder without any"):
        load(tmp_path / "empty")
    path = folder(tmp_path / "sizes", [*pixels(3), *pixels(1, 4, 6)])
    with pytest.raises(
        ValueError, match=r"one size, got .* \(1, 4, 6\) in 003.png after \(1, 4, 5"
    ):
        load(path)
    path = folder(tmp_path / "mixed", [*pixels(3), np.zeros((4, 5, 3), dtype=np.uint8)])
    with pytest.raises(ValueError, match=r"one size, got"):
        load(path)
    path = folder(tmp_path / "alpha", [np.zeros((4, 5, 4), dtype=np.uint8)])
    with pytest.raises(ValueError, match=r"mode RGBA"):
        load(path)
    path = folder(tmp_path / "cut", pixels(8, 40, 40))
    file = path / "even" / "004.png"
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"004.png must be a whole image"):
        load(path)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.png").write_text("no image")
    with pytest.raises(ValueError, match=r"a.png must be a whole image"):
        load(tmp_path / "text")
    np.save(tmp_path / "flat.npy", np.full((12, 3, 3), 4.0))
    with pytest.raises(ValueError, match="must vary, got 4 in every pixel"):
        load(tmp_path / "flat.npy")
    with pytest.raises(ValueError, match="columns are for tables"):
        load("digits", columns=["x0"])


def test_nan_in_images_names_rows(tmp_path):
    x = pixels(40).astype(np.float32)
    x[7, 1, 1] = np.nan
    x[9, 1, 1] = -np.inf
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(ValueError, match=r"NaN or infinity in 2 images \(first: rows 7, 9"):
        load(tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (idx(pixels(12, 2, 2)[:, 0, 0]), "it looks like labels"),
        (idx(pixels())[:100], "cut short"),
        (idx(pixels())[:10], "cut short within its header"),
        (b"\0\0\x08", "must start as an IDX file"),
        (b"PK\x03\x04 something else", "must start as an IDX file"),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), "cut short"),
    ],
)
def test_idx_that_cannot_be_used(tmp_path, content, sentence):
    (tmp_path / "x.idx").write_bytes(content)
    with gzip.open(tmp_path / "x.idx.gz", "wb") as file:
        file.write(content)
    for name in ("x.idx", "x.idx.gz"):
        with pytest.raises(ValueError, match=sentence):
            load(tmp_path / name)
