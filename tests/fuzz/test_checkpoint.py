"""Damaged and foreign checkpoints: a CheckpointError, or the weights that were saved.

A refused file leaves the model as it was, and no object but tensors is ever made of one.
"""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fuxictr.errors import CheckpointError
from fuxictr.pytorch.checkpoint.weights import load_weights, save_weights
from tests.fuzz.mutations import case_counts, cases, mutated, no_hang
from tests.pytorch.tiny import make, tiny_map

PICKLE, VERSION = "archive/data.pkl", "archive/version"
LARGE = (2**40).to_bytes(6, "little")


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("real") / "m.model"
    save_weights(make(tiny_map()).state_dict(), path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def saved() -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in make(tiny_map()).state_dict().items()}


@pytest.fixture
def model() -> nn.Module:
    return make(tiny_map(), seed=2)


def parts_of(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(parts: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> bytes:
    """Returns a zip of the parts, with their own checksums."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


def zip_of(opcodes: bytes) -> bytes:
    return packed({PICKLE: opcodes, VERSION: b"3"})


def dumped(content: object, is_zip: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=is_zip)
    return file.getvalue()


def call(module: str, name: str, argument: str) -> bytes:
    """Returns the opcodes that call a function with a text, as a stranger's pickle would."""
    text = argument.encode()
    return f"c{module}\n{name}\n".encode() + b"X" + struct.pack("<I", len(text)) + text + b"\x85R"


def is_loaded(path: Path, model: nn.Module, content: bytes) -> bool:
    """Whether a model takes the content of a file; if not, its weights are as they were."""
    path.write_bytes(content)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    try:
        with no_hang():
            load_weights(model, path)
    except CheckpointError as error:
        assert str(path) in str(error) and len(str(error)) < 2000
        assert_equal(model.state_dict(), before)
        return False
    return True


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, weight in found.items():
        assert torch.equal(weight, expected[name]), name


def reset(model: nn.Module) -> None:
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(7.0)


@pytest.mark.parametrize("count", case_counts)
def test_damaged_bytes(tmp_path, real, saved, model, count):
    tokens = (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"archive/data/0", b"data.pkl", b"\x08")

    @cases(count)
    @given(mutated(real, tokens))
    def check(content):
        reset(model)
        loaded.append(is_loaded(tmp_path / "m.model", model, content))
        if loaded[-1]:
            assert_equal(model.state_dict(), saved)

    loaded = []
    check()
    assert 0 < sum(loaded) < count / 2


def test_a_flipped_bit_anywhere(tmp_path, real, saved, model):
    for place in range(0, len(real), 13):
        reset(model)
        content = bytearray(real)
        content[place] ^= 1 << place % 8
        if is_loaded(tmp_path / "m.model", model, content):
            assert_equal(model.state_dict(), saved)


@pytest.mark.parametrize("count", case_counts)
def test_another_pickle_with_a_right_checksum(tmp_path, real, saved, model, count):
    canary = tmp_path / "canary"
    calls = [call(module, "mkdir", str(canary)) for module in ("os", "posix")]
    calls += [call("builtins", "exec", f"import os; os.mkdir({str(canary)!r})")]
    tokens = (*calls, b"ctorch\nload\n", b"ctorch\nFloatStorage\n", b"cbuiltins\nbytearray\n")
    tokens += (b"ctorch\nDoubleStorage\n", b"K\x00", b"M\xff\xff", b"J\xff\xff\xff\x7f", b"R", b"b")
    tokens += (b"\x81", b"t", b"}", b")", b"Q", b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f")
    tokens += (b"ctorch.nn.parameter\nParameter\n", b"ctorch\nTensor\n", b"0", b"2", b"N")
    parts = parts_of(real)
    known = torch.cat([weight.flatten() for weight in saved.values()])

    @cases(count)
    @given(mutated(parts[PICKLE], tokens, max_mutations=2))
    def check(content):
        reset(model)
        loaded.append(is_loaded(tmp_path / "m.model", model, packed({**parts, PICKLE: content})))
        assert not canary.exists()
        if loaded[-1]:
            for name, weight in model.state_dict().items():
                assert weight.shape == saved[name].shape and weight.dtype == saved[name].dtype
                assert torch.isin(weight, known).all(), name

    loaded = []
    check()
    assert count / 100 < sum(loaded) < count / 2


@pytest.mark.filterwarnings("ignore:.*quantized tensor creation functions")
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize("count", case_counts)
def test_other_values_in_the_state(tmp_path, saved, model, count):
    names = st.sampled_from([*saved])

    @cases(count)
    @given(st.dictionaries(names, st.sampled_from([*CHANGES]), min_size=1, max_size=2))
    def check(changes):
        state = dict(saved)
        for name, change in changes.items():
            CHANGES[change](state, name)
        reset(model)
        file = dumped(state)
        loaded.append(is_loaded(tmp_path / "m.model", model, file))
        if loaded[-1]:
            assert_equal(model.state_dict(), state)

    loaded = []
    check()
    assert 0 < sum(loaded) < count / 2


def put(value):
    """Returns what replaces a weight by ``value(weight)``."""

    def change(state, name):
        weight = state.get(name, torch.zeros(2))
        state[name] = value(weight) if isinstance(weight, torch.Tensor) else weight

    return change


CHANGES = {
    "missing": lambda state, name: state.pop(name, None),
    "renamed": lambda state, name: state.update({name + "x": state.pop(name, None)}),
    "number for a name": lambda state, name: state.update({3: state.pop(name, None)}),
    "float64": put(torch.Tensor.double),
    "float16": put(torch.Tensor.half),
    "ints": put(torch.Tensor.int),
    "complex": put(lambda w: w.to(torch.complex64)),
    "bools": put(torch.Tensor.bool),
    "sparse": put(lambda w: w.flatten().to_sparse()),
    "quantized": put(lambda w: torch.quantize_per_tensor(w.float(), 0.1, 0, torch.quint8)),
    "meta": put(lambda w: w.to("meta")),
    "parameter": put(lambda w: nn.Parameter(w.float())),
    "expanded": put(lambda w: w.flatten()[:1].expand(w.numel()).view(w.shape)),
    "transposed": put(lambda w: w.t().contiguous().t() if w.dim() == 2 else w),
    "a slice": put(lambda w: torch.cat([w, w])[: len(w)]),
    "longer": put(lambda w: torch.cat([w, w])),
    "empty": put(lambda w: w[:0]),
    "scalar": put(lambda w: w.sum()),
    "a huge view": put(lambda w: w.flatten()[:1].expand(2**50)),
    "text": put(lambda w: "weight"),
    "none": put(lambda w: None),
    "number": put(lambda w: 1.0),
    "list": put(torch.Tensor.tolist),
    "storage": put(torch.Tensor.untyped_storage),
    "dict": put(lambda w: {"weight": w}),
}

FOREIGN = {
    "nothing": b"",
    "one zero": b"\0",
    "text": b"weights\n" * 100,
    "a pickle": b"\x80\x02}q\x00.",
    "an empty zip": packed({}),
    "a zip of another kind": packed({"a.txt": b"x"}),
    "a zip without weights": zip_of(b"\x80\x02}q\x00."),
    "a zip of TorchScript": packed({"archive/constants.pkl": b"\x80\x02).", VERSION: b"3"}),
    "legacy format": dumped({"a": torch.zeros(3)}, is_zip=False),
    "a list": dumped([torch.zeros(3)]),
    "a tensor": dumped(torch.zeros(3)),
    "a number": dumped(1),
    "nested deep": zip_of(b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b"."),
    "a large bytearray": zip_of(b"\x80\x02cbuiltins\nbytearray\n\x8a\x06" + LARGE + b"\x85R."),
    "a large storage": zip_of(b"\x80\x02ctorch\nFloatStorage\n\x8a\x06" + LARGE + b"\x85R."),
    "a large tensor": zip_of(b"\x80\x02ctorch\nTensor\n\x8a\x06" + LARGE + b"\x85R."),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN.keys())
def test_foreign_files(tmp_path, model, content):
    assert not is_loaded(tmp_path / "m.model", model, content)


def test_a_tar_and_a_folder(tmp_path, model):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("pickle"), io.BytesIO())
    assert not is_loaded(tmp_path / "m.model", model, path.read_bytes())
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_weights(model, tmp_path)


def test_compressed_members(tmp_path, real, model):
    content = packed(parts_of(real), zipfile.ZIP_DEFLATED)
    assert not is_loaded(tmp_path / "m.model", model, content)
    assert is_loaded(tmp_path / "m.model", model, packed(parts_of(real)))


def test_two_members_of_one_name(tmp_path, real, saved, model):
    file, parts = io.BytesIO(), parts_of(real)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(file, "w") as archive:
        for name, content in [*parts.items(), ("archive/data/0", bytes(320))]:
            archive.writestr(name, content)
    assert not is_loaded(tmp_path / "m.model", model, file.getvalue())


@pytest.mark.parametrize("name", ["byteorder", "version", ".format_version", "data.pkl", "data/0"])
@pytest.mark.parametrize("content", [None, b"", b"xyz", b"-1", b"9" * 5000])
def test_other_members(tmp_path, real, saved, model, name, content):
    parts = parts_of(real)
    parts[f"archive/{name}"] = content or b""
    if content is None:
        del parts[f"archive/{name}"]
    if is_loaded(tmp_path / "m.model", model, packed(parts)):
        assert name not in ("data.pkl", "data/0")
        assert_equal(model.state_dict(), saved)


@pytest.mark.parametrize("metadata", [3, [1], {"": 3}, {"head": None}, {"": {"version": "x"}}])
def test_what_torch_notes_beside_the_weights_is_not_looked_at(tmp_path, saved, model, metadata):
    state = OrderedDict(saved)
    state._metadata = metadata
    assert is_loaded(tmp_path / "m.model", model, dumped(state))
    assert_equal(model.state_dict(), saved)


def test_weights_that_are_not_numbers_are_as_they_were_saved(tmp_path, saved, model):
    state = {**saved, "head.bias": torch.tensor([float("nan")])}
    assert is_loaded(tmp_path / "m.model", model, dumped(state))
    assert model.head.bias.isnan().all()


HOSTILE = {
    "reduce": lambda path: call("os", "mkdir", path) + b".",
    "posix": lambda path: call("posix", "mkdir", path) + b".",
    "builtins": lambda path: call("builtins", "exec", f"import os; os.mkdir('{path}')") + b".",
    "pathlib": lambda path: call("pathlib", "Path.mkdir", path) + b".",
    "torch": lambda path: call("torch.serialization", "os.mkdir", path) + b".",
    "inst": lambda path: b"(S'" + path.encode() + b"'\nios\nmkdir\n.",
    "obj": lambda path: b"(cos\nmkdir\nS'" + path.encode() + b"'\no.",
    "in a dict": lambda path: b"}X\x01\x00\x00\x00a" + call("os", "mkdir", path) + b"s.",
    "build": lambda path: b"ccollections\nOrderedDict\n)R" + call("os", "mkdir", path) + b"b.",
}


@pytest.mark.parametrize("opcodes", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("protocol", [b"", b"\x80\x02", b"\x80\x04"])
def test_no_call_of_a_file_is_made(tmp_path, real, model, opcodes, protocol):
    canary = tmp_path / "canary"
    hostile = protocol + opcodes(str(canary))
    legacy = dumped({"a": 1}, is_zip=False)
    legacy = legacy[: legacy.index(b"}")] + hostile
    for content in (hostile, packed({**parts_of(real), PICKLE: hostile}), legacy):
        assert not is_loaded(tmp_path / "m.model", model, content)
        assert not canary.exists()


@pytest.mark.parametrize("note", ["[]", "null", "\xff", "[" * 100_000, '{"encoders_hash": [1]}'])
def test_a_damaged_note_of_the_encoders(tmp_path, real, saved, model, note):
    (tmp_path / "m.model").write_bytes(real)
    (tmp_path / "m.model.json").write_text(note, encoding="latin-1")
    with pytest.raises(CheckpointError, match="m.model.json: not readable"):
        load_weights(model, tmp_path / "m.model", "abc")
