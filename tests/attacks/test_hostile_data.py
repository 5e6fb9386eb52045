"""Files made to harm: nothing is unpickled, no header makes room it has no bytes for."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import resource
import struct
import zipfile
import zlib

import numpy as np
import pytest

from basin.datasets.load import load
from basin.datasets.rows import MemoryMappedRows


class Bomb:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def npy_bytes(x, **options):
    stream = io.BytesIO()
    np.save(stream, x, **options)
    return stream.getvalue()


def header_bytes(text, version=1):
    text = text.encode("latin1")
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text


def claims(shape, descr="<f4"):
    return header_bytes(f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}\n")


def assert_refused(path, sentence):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=sentence):
        load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


@pytest.mark.parametrize("ending", ["npy", "npz", "csv", "parquet", "idx", "data", "pt", "pkl"])
def test_a_pickle_under_any_name_is_not_opened(tmp_path, ending):
    target = tmp_path / "harm"
    path = tmp_path / f"x.{ending}"
    path.write_bytes(pickle.dumps(Bomb(target)))
    with pytest.raises(ValueError, match=r"x\."):
        load(path)
    assert not target.exists()


def test_object_arrays_are_refused_before_reading(tmp_path):
    target = tmp_path / "harm"
    x = np.array([[Bomb(target)], [1.0]], dtype=object)
    (tmp_path / "x.npy").write_bytes(npy_bytes(x, allow_pickle=True))
    np.savez(tmp_path / "x.npz", X=x)
    for name in ("x.npy", "x.npz"):
        with pytest.raises(ValueError, match=r"Python objects.*never unpickles"):
            load(tmp_path / name)
    with pytest.raises(ValueError, match="never unpickles"):
        load(tmp_path / "x.npy", memory_map=True)
    with pytest.raises(ValueError, match="never unpickles"):
        MemoryMappedRows(tmp_path / "x.npy")
    assert not target.exists()
    # the same bytes do harm where pickles are allowed: the attack is real
    np.load(tmp_path / "x.npy", allow_pickle=True)
    assert target.exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (npy_bytes(np.zeros((1000, 2)))[:5000], r"16,000 bytes of numbers .* got 4,872: it is cut"),
        (npy_bytes(np.zeros((1000, 2)))[:40], "no valid header"),
        (b"\x93NUMPY", "no valid header"),
        (b"x", "no valid header"),
        (claims((10**15, 2)), "8,000,000,000,000,000 bytes of numbers"),
        (claims((2**62, 2**62)), "cut short"),
        (claims((-1, 2)), "sizes above zero"),
        (claims((0, 2)), "must have rows, got none"),
        (claims((2, 2), "|O"), "never unpickles"),
        (claims((2, 2), "<f4; import os"), "no valid header"),
        (claims(("2", 2)), "no valid header"),
        (header_bytes("__import__('os').mkdir('harm')\n"), "no valid header"),
        (header_bytes("{" * 5000 + "\n"), "no valid header"),
        (header_bytes("{'shape': (1,)}\n"), "no valid header"),
        (header_bytes("9" * 60_000 + "\n", version=2), "no valid header"),
        (b"\x93NUMPY\x09\x00" + b"\0" * 100, "format version"),
    ],
)
def test_npy_headers_that_lie(tmp_path, content, sentence):
    (tmp_path / "x.npy").write_bytes(content)
    assert_refused(tmp_path / "x.npy", sentence)
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X.npy", content)
    with pytest.raises(ValueError, match=r"x\.npz"):
        load(tmp_path / "x.npz")
    assert not (tmp_path / "harm").exists()


def test_zip_files_that_lie(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, X=np.random.default_rng(0).normal(size=(500, 2)))
    content = path.read_bytes()
    for cut in (10, 200, len(content) // 2, len(content) - 5):
        path.write_bytes(content[:cut])
        assert_refused(path, "whole NPZ file")
    broken = bytearray(content)
    broken[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(broken))
    assert_refused(path, "whole NPZ file|cut short")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../escape.txt", "no array")
    assert_refused(path, "zip file with none")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../X.npy", npy_bytes(np.zeros((9, 2)) + np.arange(9)[:, None]))
    assert load(path).num_rows == 9  # read in place: no path of the archive is ever written
    assert not (tmp_path.parent / "X.npy").exists()


def test_cut_compressed_files(tmp_path):
    table = "a,b\n" + "".join(f"{i},{i * i}\n" for i in range(2000))
    packed = gzip.compress(table.encode())
    for cut in (5, 100, len(packed) - 4):
        (tmp_path / "x.csv.gz").write_bytes(packed[:cut])
        assert_refused(tmp_path / "x.csv.gz", "whole gzip file")
    images = struct.pack(">BBBB3I", 0, 0, 8, 3, 100, 8, 8) + bytes(range(64)) * 100
    packed = gzip.compress(images)
    for cut in (5, 60, len(packed) - 4):
        (tmp_path / "x.idx.gz").write_bytes(packed[:cut])
        assert_refused(tmp_path / "x.idx.gz", "whole gzip file|cut short")
    broken = bytearray(packed)
    broken[40] ^= 0xFF
    (tmp_path / "x.idx.gz").write_bytes(bytes(broken))
    with pytest.raises(ValueError, match=r"x\.idx\.gz"):
        load(tmp_path / "x.idx.gz")


def test_cut_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"
    parquet.write_table(pyarrow.table({"a": list(range(5000))}), path)
    content = path.read_bytes()
    for cut in (3, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:cut])
        assert_refused(path, "whole Parquet file")


def test_an_image_that_would_unpack_to_gigabytes(tmp_path):
    pytest.importorskip("PIL")

    def chunk(kind, data):
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    data = zlib.compress(b"\0" * 10_000)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(png)
    assert_refused(tmp_path / "pictures", "must be a whole image")


def test_text_that_python_would_read_as_a_number(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("a,b\n" + "".join(f"{i},{i * i}\n" for i in range(10)) + "1_000,2\n")
    assert_refused(path, r"got text: column 'a' in 1 row \(line 12 \('1_000'\)\)")
    path.write_text("a,b\n" + "1,2\n" * 10 + '1,"' + "9" * 200_000 + '"\n')
    assert_refused(path, r"must be a table in text")
    path.write_text("a,b\n1,2\x00\n3,4\n5,6\n")
    assert_refused(path, r"got text: column 'b'")


def test_a_loop_of_links_and_a_fifo(tmp_path):
    (tmp_path / "x.csv").symlink_to(tmp_path / "y.csv")
    (tmp_path / "y.csv").symlink_to(tmp_path / "x.csv")
    with pytest.raises((FileNotFoundError, ValueError)):
        load(tmp_path / "x.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(ValueError, match="neither"):
        load(tmp_path / "pipe.csv")
    folder = tmp_path / "pictures"
    folder.mkdir()
    os.mkfifo(folder / "a.png")
    with pytest.raises(ValueError, match="folder without any"):
        load(folder)


def test_a_name_with_odd_characters(tmp_path):
    with pytest.raises((ValueError, FileNotFoundError)):
        load("x\0y.npy")
    with pytest.raises((ValueError, FileNotFoundError)):
        load("a" * 5000)
    with pytest.raises((ValueError, FileNotFoundError)):
        load("../" * 2000 + "x.npy")
