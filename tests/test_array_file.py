"""Arrays come back as they were written, or a sentence says what is wrong with the file."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from rctaf_jax.array_file import read_arrays
from rctaf_jax.errors import InputError
from rctaf_jax.files import write_arrays


def test_missing_arrays_are_named_and_damaged_ones_kept_aside(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.npz"
    with pytest.raises(InputError, match=r"outcomes\.npz does not exist; copy it\.$"):
        read_arrays(path, remedy="copy it")
    path.write_bytes(b"half")
    with pytest.raises(InputError, match=r"kept aside as outcomes\.npz\.damaged; copy it\.$"):
        read_arrays(path, remedy="copy it")
    assert os.listdir(tmp_path) == ["outcomes.npz.damaged"]


def test_arrays_that_are_not_there_are_damage(tmp_path: Path) -> None:
    path = write_arrays(tmp_path / "sums.npz", {"leaf0": np.arange(3)})
    assert read_arrays(path, remedy="copy it", names=["leaf0"])["leaf0"].tolist() == [0, 1, 2]
    with pytest.raises(InputError, match=r"holds no array num_done\) and was kept aside"):
        read_arrays(path, remedy="copy it", names=["leaf0", "num_done"])
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("note", "no array")
    with pytest.raises(InputError, match=r"'note' is no array\) and was kept aside"):
        read_arrays(path, remedy="copy it")


def test_what_the_system_refuses_is_not_damage(tmp_path: Path) -> None:
    (tmp_path / "sums.npz").mkdir()
    with pytest.raises(IsADirectoryError):
        read_arrays(tmp_path / "sums.npz", remedy="copy it")
    assert os.listdir(tmp_path) == ["sums.npz"]


@pytest.mark.parametrize("compressed", [True, False])
def test_a_changed_byte_is_damage_or_changes_nothing(tmp_path: Path, compressed: bool) -> None:
    arrays = {"leaf0": np.arange(40.0).reshape(8, 5), "num_done": np.array(7)}
    path = write_arrays(tmp_path / "whole.npz", arrays, compressed=compressed)
    whole = path.read_bytes()
    num_damaged = 0
    for place in range(len(whole)):
        for mask in (0x01, 0x06, 0xFF):
            changed = bytearray(whole)
            changed[place] ^= mask
            path.write_bytes(changed)
            try:
                found = read_arrays(path, remedy="copy it", names=arrays)
            except InputError:
                num_damaged += 1
                continue
            for name, values in arrays.items():
                np.testing.assert_array_equal(found[name], values)
    assert num_damaged > len(whole)


def archive(path: Path, content: bytes, name: str = "a.npy", **settings: int) -> Path:
    with zipfile.ZipFile(path, "w", **settings) as file:
        file.writestr(name, content)
    return path


def npy(header: str, values: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    """The bytes of an .npy whose header is any text."""
    length = len(header).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    return b"\x93NUMPY" + version + length + header.encode("latin1") + values


def header(shape: str, descr: str = "'<f8'", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


NOT_LONG = "not as long as its shape"
NO_HEADER = "the header of a is no array's"
HEADERS = {
    "a quintillion elements": (npy(header("(10**18,)"), bytes(80)), NO_HEADER),
    "a quintillion elements in digits": (npy(header(f"({10**18},)"), bytes(80)), NOT_LONG),
    "more elements than 64 bits count": (npy(header(f"({2**64}, {2**64})")), NOT_LONG),
    "nothing, many times": (npy(header(f"(0, {10**30})")), "is damaged"),
    "nothing, in many dimensions": (npy(header(f"({'0, ' * 100})")), "is damaged"),
    "a negative length": (npy(header("(-10,)"), bytes(80)), NOT_LONG),
    "two negative lengths": (npy(header("(-2, -5)"), bytes(80)), NOT_LONG),
    "a fractional length": (npy(header("(1.5,)"), bytes(12)), NO_HEADER),
    "a text for a length": (npy(header("('10',)"), bytes(80)), NO_HEADER),
    "no tuple": (npy(header("10"), bytes(80)), NO_HEADER),
    "one element too few": (npy(header("(11,)"), bytes(80)), NOT_LONG),
    "one element too many": (npy(header("(9,)"), bytes(80)), NOT_LONG),
    "objects": (npy(header("(10,)", "'|O'"), bytes(80)), "a is of type object"),
    "bytes without a meaning": (npy(header("(10,)", "'|V8'"), bytes(80)), "a is of type"),
    "records": (npy(header("(10,)", "[('x', '<f8')]"), bytes(80)), "a is of type"),
    "values without a size": (npy(header(f"({10**18},)", "'<U0'")), "a is of type <U0"),
    "times": (npy(header("(10,)", "'<M8[s]'"), bytes(80)), "a is of type datetime64"),
    "an unknown type": (npy(header("(10,)", "'<q99'"), bytes(80)), NO_HEADER),
    "a number for a type": (npy(header("(10,)", "7"), bytes(80)), NO_HEADER),
    "no order": (npy(header("(10,)", order="None"), bytes(80)), NO_HEADER),
    "a key too few": (npy("{'descr': '<f8', 'shape': (10,), }"), NO_HEADER),
    "no dictionary": (npy("[]"), NO_HEADER),
    "no Python": (npy("{" * 5000), NO_HEADER),
    "nested Python": (npy("(" * 9000 + ")" * 9000), NO_HEADER),
    "an operation": (npy("1 +" * 3000 + "1"), NO_HEADER),
    "a header that is too long": (npy(" " * 20_000), NO_HEADER),
    "a header that is cut": (npy(header("(10,)"))[:30], NO_HEADER),
    "another version": (npy(header("(10,)"), bytes(80), b"\x09\x00"), NO_HEADER),
    "no magic": (b"\x93NUMPX" + bytes(100), NO_HEADER),
    "nothing at all": (b"", NO_HEADER),
}


@pytest.mark.parametrize(("content", "sentence"), HEADERS.values(), ids=HEADERS)
def test_an_absurd_header(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = archive(tmp_path / "a.npz", content)
    with pytest.raises(InputError, match=sentence) as caught:
        read_arrays(path, remedy="copy it", keeps_aside=False)
    assert str(caught.value).startswith(f"{path} is damaged (")
    assert str(caught.value).endswith("; copy it.")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(path))
    assert os.listdir(tmp_path) == ["a.npz"]


def test_what_a_directory_claims_is_not_allocated(tmp_path: Path) -> None:
    """Both the header and the directory claim a petabyte, of which 80 bytes are there."""
    content = npy(header(f"({10**15 // 8},)"), bytes(80))
    path = archive(tmp_path / "a.npz", content)
    raw = bytearray(path.read_bytes())
    place = raw.index(b"PK\1\2")
    raw[place + 24 : place + 28] = (2**32 - 2).to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(InputError, match="is damaged"):
        read_arrays(path, remedy="copy it")


def test_an_array_by_columns_is_read(tmp_path: Path) -> None:
    values = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    path = write_arrays(tmp_path / "a.npz", {"a": values, "big-endian": values.astype(">f4")})
    found = read_arrays(path, remedy="copy it")
    np.testing.assert_array_equal(found["a"], values)
    np.testing.assert_array_equal(found["big-endian"], values)


@pytest.mark.parametrize("kind", ["?", "u1", "i8", "f2", "f4", "f8", "c8", "U3"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3, 4)])
def test_what_is_written_is_read(tmp_path: Path, kind: str, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).integers(0, 2, shape).astype(kind)
    path = write_arrays(tmp_path / "a.npz", {"a": values})
    found = read_arrays(path, remedy="copy it", names=["a"])["a"]
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)


def test_two_arrays_of_one_name(tmp_path: Path) -> None:
    content = io.BytesIO()
    np.save(content, np.arange(3))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("a.npy", content.getvalue())
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("a.npy", content.getvalue())
    with pytest.raises(InputError, match="it holds two arrays of one name"):
        read_arrays(tmp_path / "a.npz", remedy="copy it")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_that_numpy_does_not_write(tmp_path: Path, method: int) -> None:
    """Damage in such an entry raises errors that nobody documents."""
    content = npy(header("(10,)"), bytes(80))
    path = archive(tmp_path / "a.npz", content, compression=method)
    with pytest.raises(InputError, match="a is encrypted, or compressed as NumPy never does"):
        read_arrays(path, remedy="copy it")


def test_damaged_deflation(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=500)
    path = write_arrays(tmp_path / "a.npz", {"a": values})
    whole = path.read_bytes()
    for place in range(60, len(whole) - 200, 97):
        path.write_bytes(whole[:place] + b"\xff\x00\xff" + whole[place + 3 :])
        with pytest.raises(InputError, match="is damaged"):
            read_arrays(path, remedy="copy it", keeps_aside=False)
