import contextlib
import io
import os
import pickle
import struct
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

import kaldi_native_io
import kaldiio
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from speakerkit.errors import DataError, DataErrors, MachineError
from speakerkit.io import ark, files
from speakerkit.io.ark import ArkLocation, ArkWriter


def random(*shape, seed=0, scale=5.0):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def write_ark(folder, arrays, name="emb", **kwargs):
    path = folder / f"{name}.ark"
    with ArkWriter(path, folder / f"{name}.scp") as writer:
        for key, array in arrays.items():
            writer.write(key, array, **kwargs)
    return path


def refusal(read, path, *args):
    """Every line of a refusal, without the folder."""
    with pytest.raises(DataError) as caught:
        read(path, *args)
    return str(caught.value).replace(f"{path.parent}/", "")


def read_all(path):
    return dict(ark.iter_ark(path))


def assert_same(found, wanted):
    assert list(found) == list(wanted)
    for key in wanted:
        assert found[key].dtype == wanted[key].dtype
        np.testing.assert_array_equal(found[key], wanted[key])


def kaldi_read(reader, specifier):
    """What Kaldi reads; its arrays lie in memory that the next record takes, so they are copied."""
    return {key: array.copy() for key, array in reader(specifier)}


def read_matrices_by_kaldi(path):
    return kaldi_read(kaldi_native_io.SequentialFloatMatrixReader, f"ark:{path}")


@pytest.fixture
def ram_folder(tmp_path):
    """A folder in memory where there is one: tests that sync to the disk many times wait for it otherwise."""
    in_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=in_memory or tmp_path) as folder:
        yield Path(folder)


VECTORS = {f"utt{index}": random(8, seed=index) for index in range(4)}

# --- write, read, and the oracles ----------------------------------------------------------------------------------

ODD_IDS = {key: random(3) for key in ("说话人-1", "utt#1", "a|b", "1", "PKL", "[", "-")}


@pytest.mark.parametrize("arrays", [
    VECTORS, ODD_IDS, {"m": random(5, 3), "v": random(4), "d": random(4).astype(np.float64), "one": random(1, 1),
                       "dm": random(3, 2).astype(np.float64), "empty": np.zeros((0, 0), np.float32),
                       "none": np.zeros(0, np.float32)},
])
def test_read_gives_back_what_was_written(tmp_path, arrays):
    path = write_ark(tmp_path, arrays)
    assert_same(read_all(path), arrays)
    locations = ark.read_scp(tmp_path / "emb.scp")
    assert list(locations) == list(arrays)
    assert_same({key: ark.read_array(location, key) for key, location in locations.items()},
                {key: array.astype(np.float32) for key, array in arrays.items()})
    assert {location.ark_path for location in locations.values()} == {str(path)}


@given(arrays=st.dictionaries(
    st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=5),
    st_numpy.arrays(st.sampled_from([np.float32, np.float64]),
                    st_numpy.array_shapes(min_dims=1, max_dims=2, min_side=1, max_side=5),
                    elements=st.floats(-100, 100, width=32)), min_size=1, max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # each example writes the same file anew
def test_any_arrays_come_back(ram_folder, arrays):
    assert_same(read_all(write_ark(ram_folder, arrays)), arrays)


def test_kaldi_and_kaldiio_read_what_we_write(tmp_path):
    matrices = {f"m{rows}": random(rows, 7) for rows in (1, 2, 300)}
    vectors, matrix_ark = write_ark(tmp_path, VECTORS), write_ark(tmp_path, matrices, "m")
    for specifier in (f"ark:{vectors}", f"scp:{tmp_path}/emb.scp"):
        assert_same(kaldi_read(kaldi_native_io.SequentialFloatVectorReader, specifier), VECTORS)
    assert_same(kaldi_read(kaldi_native_io.SequentialFloatMatrixReader, f"scp:{tmp_path}/m.scp"), matrices)
    assert_same(dict(kaldiio.load_ark(str(vectors))), VECTORS)
    assert_same(dict(kaldiio.load_scp_sequential(str(tmp_path / "m.scp"))), matrices)
    assert_same(read_all(matrix_ark), matrices)


@pytest.mark.parametrize("flags", ["", ",t"])
def test_we_read_what_kaldi_writes(tmp_path, flags):
    matrices, doubles = {"a": random(3, 2), "b": random(1, 2)}, {"d": random(4).astype(np.float64)}
    for name, writer, arrays in [("v", kaldi_native_io.FloatVectorWriter, VECTORS),
                                 ("m", kaldi_native_io.FloatMatrixWriter, matrices),
                                 ("d", kaldi_native_io.DoubleVectorWriter, doubles)]:
        with writer(f"ark,scp{flags}:{tmp_path}/{name}.ark,{tmp_path}/{name}.scp") as out:
            for key, array in arrays.items():
                out.write(key, array)
        found = read_all(tmp_path / f"{name}.ark")
        locations = ark.read_scp(tmp_path / f"{name}.scp")
        for key, array in arrays.items():
            tolerance = 1e-5 if flags else 0  # text holds seven digits
            np.testing.assert_allclose(found[key], array, rtol=tolerance)
            np.testing.assert_allclose(ark.read_array(locations[key], key), array, rtol=max(tolerance, 1e-7))
            assert found[key].shape == array.shape


def test_we_read_what_kaldiio_writes(tmp_path):
    kaldiio.save_ark(str(tmp_path / "a.ark"), VECTORS, scp=str(tmp_path / "a.scp"))
    kaldiio.save_ark(str(tmp_path / "t.ark"), VECTORS, text=True)
    assert_same(read_all(tmp_path / "a.ark"), VECTORS)
    assert_same(ark.read_vectors(tmp_path / "a.scp"), VECTORS)
    for key, array in ark.read_vectors(tmp_path / "t.ark").items():
        np.testing.assert_allclose(array, VECTORS[key], rtol=1e-6)


# --- compressed matrices -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 8, 9, 300])
def test_compression_is_kaldis(tmp_path, rows):
    matrix = random(rows, 80)
    path = write_ark(tmp_path, {"m": matrix}, compress=True)
    assert path.read_bytes()[2:7] == b"\0BCM "
    assert path.stat().st_size == len("m ") + 21 + 80 * (8 + rows)
    found = read_all(path)["m"]
    kaldi = read_matrices_by_kaldi(path)["m"]
    np.testing.assert_allclose(found, kaldi, atol=1e-5)  # the same integers, multiplied in another order
    # A step is at most 1/63 of the span above the upper quartile (here under 20) or below the lower; rounding is half.
    assert np.abs(found - matrix).max() <= 0.5 * 20 / 63 + 1e-3
    np.testing.assert_array_equal(found, dict(kaldiio.load_ark(str(path)))["m"].astype(np.float32))
    with np.errstate(invalid="ignore"):
        kaldiio.save_ark(str(tmp_path / "k.ark"), {"m": matrix}, compression_method=2)
    assert path.read_bytes() == (tmp_path / "k.ark").read_bytes()


@pytest.mark.parametrize("method", range(1, 8))
def test_every_compression_of_kaldi_is_read(tmp_path, method):
    matrix = np.random.default_rng(0).uniform(0, 1, (30, 6)).astype(np.float32)
    name = [None, "kAutomaticMethod", "kSpeechFeature", "kTwoByteAuto", "kTwoByteSignedInteger", "kOneByteAuto",
            "kOneByteUnsignedInteger", "kOneByteZeroOne"][method]
    path = tmp_path / "c.ark"
    with kaldi_native_io.CompressedMatrixWriter(f"ark:{path}") as writer:
        writer.write("m", matrix, method=getattr(kaldi_native_io.CompressionMethod, name))
    kaldi = read_matrices_by_kaldi(path)["m"]
    np.testing.assert_allclose(read_all(path)["m"], kaldi, atol=1e-5)


def test_constant_and_empty_matrices_survive_compression(tmp_path):
    arrays = {"zero": np.zeros((20, 3), np.float32), "same": np.full((20, 3), -15.942, np.float32)}
    found = read_all(write_ark(tmp_path, arrays | {"none": np.zeros((0, 0), np.float32)}, compress=True))
    for key, array in arrays.items():
        np.testing.assert_allclose(found[key], array, atol=1e-3)
    assert found["none"].shape == (0, 0)


@pytest.mark.parametrize("array, told", [
    (random(5), "'a' is a vector; only a matrix can be compressed"),
    (np.array([[3e38, -3e38]] * 9, np.float32), "'a' spans more than a float32 holds; it can't be compressed"),
])
def test_what_cannot_be_compressed(tmp_path, array, told):
    with pytest.raises(ValueError, match=told), ArkWriter(tmp_path / "a.ark") as writer:
        writer.write("a", array, compress=True)
    assert os.listdir(tmp_path) == []


# --- rows of a matrix ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["float32", "float64", "compressed", "text"])
def test_rows_of_a_matrix(tmp_path, kind):
    matrix = random(50, 4)
    if kind == "text":
        with kaldi_native_io.FloatMatrixWriter(f"ark,scp,t:{tmp_path}/emb.ark,{tmp_path}/emb.scp") as writer:
            writer.write("other", matrix)
            writer.write("m", matrix)
    else:
        array = matrix.astype(np.float64) if kind == "float64" else matrix
        write_ark(tmp_path, {"other": matrix + 1, "m": array}, compress=kind == "compressed")
    location = ark.read_scp(tmp_path / "emb.scp")["m"]
    whole = ark.read_matrix(location, "m")
    assert ark.read_matrix_shape(location, "m") == (50, 4)
    for start, stop in [(0, 50), (0, 1), (49, 50), (10, 30)]:
        rows = ark.read_matrix_rows(location, "m", start, stop)
        assert rows.dtype == np.float32 and rows.flags.writeable
        np.testing.assert_array_equal(rows, whole[start:stop])
    for start, stop in [(-1, 3), (0, 51), (5, 5), (6, 5)]:
        with pytest.raises(ValueError, match=f"rows {start} to {stop} of 'm', which has 50"):
            ark.read_matrix_rows(location, "m", start, stop)


def test_a_file_that_is_one_matrix(tmp_path):
    matrix = random(5, 3)
    kaldiio.save_mat(str(tmp_path / "mean.mat"), matrix)
    (tmp_path / "f.scp").write_text(f"utt {tmp_path}/mean.mat\n")
    location = ark.read_scp(tmp_path / "f.scp")["utt"]
    np.testing.assert_array_equal(ark.read_matrix(location, "utt"), matrix)
    np.testing.assert_array_equal(ark.read_matrix_rows(location, "utt", 1, 3), matrix[1:3])


READS = [ark.read_matrix, ark.read_matrix_shape, lambda location, key: ark.read_matrix_rows(location, key, 0, 1)]


@pytest.mark.parametrize("read", READS)
def test_a_wrong_place_in_an_archive(tmp_path, read):
    path = write_ark(tmp_path, {"utt0": random(3, 2), "utt1": random(3, 2), "v": random(3)})
    offsets = {key: location.offset for key, location in ark.read_scp(tmp_path / "emb.scp").items()}

    def told(offset, key="utt1", ark_path=path):
        with pytest.raises(DataError) as caught:
            read(ArkLocation(str(ark_path), offset, 4, "feats.scp"), key)
        return str(caught.value).replace(f"{tmp_path}/", "")

    assert told(offsets["utt0"]) == f"feats.scp:4: offset {offsets['utt0']} in emb.ark holds 'utt0', wanted 'utt1'"
    between = offsets["utt1"] + 4
    assert told(between) == f"feats.scp:4: offset {between} in emb.ark holds no key, wanted 'utt1'"
    assert told(0) == "feats.scp:4: offset 0 in emb.ark holds no key, wanted 'utt1'"
    assert told(10**6) == "feats.scp:4: offset 1000000 lies past the end of emb.ark (112 bytes)"
    assert "'v' " in told(offsets["v"], "v") and "is a vector; wanted a matrix" in told(offsets["v"], "v")
    assert told(5, ark_path=tmp_path / "gone.ark") == "gone.ark: no such file"
    assert told(5, ark_path=tmp_path) == f"{tmp_path}: is no regular file; wanted a Kaldi archive"
    whole = path.read_bytes()
    path.write_bytes(whole[:offsets["utt1"] + 20])
    assert told(offsets["utt1"]) == f"emb.ark: 'utt1' at byte {offsets['utt1']} has 5 of 24 bytes; truncated"


# --- vectors of a whole file ---------------------------------------------------------------------------------------


def test_vectors_from_ark_and_scp_are_the_same(tmp_path):
    path = write_ark(tmp_path, VECTORS)
    ids, matrix = ark.read_vector_matrix(path)
    assert ids == list(VECTORS)
    np.testing.assert_array_equal(matrix, np.stack(list(VECTORS.values())))
    assert matrix.flags.writeable and matrix.dtype == np.float32
    assert_same(ark.read_vectors(path), VECTORS)
    lines = (tmp_path / "emb.scp").read_text().splitlines(keepends=True)
    (tmp_path / "emb.scp").write_text("".join(reversed(lines)))  # the order is the list's, wherever the records lie
    assert_same(ark.read_vectors(tmp_path / "emb.scp"), dict(reversed(VECTORS.items())))


def test_an_scp_may_name_several_archives(tmp_path):
    arrays = {f"u{index}": random(4, seed=index) for index in range(6)}
    lines = []
    for part in range(3):
        write_ark(tmp_path, {key: arrays[key] for key in list(arrays)[part::3]}, f"part{part}")
        lines += (tmp_path / f"part{part}.scp").read_text().splitlines(keepends=True)
    (tmp_path / "all.scp").write_text("".join(sorted(lines)))
    assert_same(ark.read_vectors(tmp_path / "all.scp"), arrays)


def test_a_matrix_of_one_row_counts_as_a_vector(tmp_path):
    arrays = {"a": random(1, 4), "b": random(4).astype(np.float64), "c": random(1, 4).astype(np.float64)}
    found = ark.read_vectors(write_ark(tmp_path, arrays))
    assert_same(found, {key: array.reshape(4).astype(np.float32) for key, array in arrays.items()})
    compressed = {f"u{index}": random(1, 40, seed=index) for index in range(50)}  # far smaller than four bytes a value
    assert len(ark.read_vectors(write_ark(tmp_path, compressed, compress=True))) == 50


def test_one_vector(tmp_path):
    np.testing.assert_array_equal(ark.read_vector(write_ark(tmp_path, {"mean": random(3)})), random(3))
    assert refusal(ark.read_vector, write_ark(tmp_path, VECTORS)) == "emb.ark: holds 4 vectors; wanted one"


@pytest.mark.parametrize("name", ["emb.ark", "emb.scp"])
def test_embeddings_that_are_none(tmp_path, name):
    arrays = {"a": random(8), "b": random(6), "c": random(2, 8), "d": np.zeros(8, np.float32), "e": random(0),
              "f": np.array([np.inf, -np.inf, 0, 0, 0, 0, 0, 0], np.float32), "g": np.full(8, 1e300)}
    kaldiio.save_ark(str(tmp_path / "emb.ark"), arrays, scp=str(tmp_path / "emb.scp"))
    assert refusal(ark.read_vectors, tmp_path / name).splitlines() == [
        f"{name}: 'b' has 6 values, 'a' has 8: embeddings of two models?",
        f"{name}: 'c' is a 2 x 8 matrix; wanted a vector",
        f"{name}: 'e' is empty",
        f"{name}: nan-embedding: 'f' holds nan or inf",
        f"{name}: nan-embedding: 'g' holds nan or inf",
        f"{name}: zero-embedding: 'd' is zero in every dimension",
    ]


def test_many_wrong_embeddings_are_not_all_kept(tmp_path):
    arrays = {"a": random(3)} | {f"u{index}": random(2) for index in range(1200)}
    with pytest.raises(DataErrors) as caught:
        ark.read_vectors(write_ark(tmp_path, arrays))
    assert len(caught.value.faults) == 1000


# --- archives that are refused -------------------------------------------------------------------------------------


class _Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_is_not_run(tmp_path):
    data = pickle.dumps(_Payload(tmp_path / "marker"))
    (tmp_path / "a.ark").write_bytes(b"utt0 PKL" + data)
    (tmp_path / "b.ark").write_bytes(b"utt0 \0BPKL " + data)
    (tmp_path / "a.scp").write_text(f"utt0 {tmp_path}/a.ark:5\n")
    for read in (read_all, ark.read_vectors):
        assert refusal(read, tmp_path / "a.ark") == "a.ark: 'utt0' at byte 5 is no Kaldi vector or matrix"
        assert refusal(read, tmp_path / "b.ark") == ("b.ark: 'utt0' at byte 5 is no Kaldi vector or matrix (record type"
                                                     " 'PKL'); wanted FV, DV, FM, DM, CM, CM2, CM3 or text")
    assert "is no Kaldi vector or matrix" in refusal(ark.read_vectors, tmp_path / "a.scp")
    assert not (tmp_path / "marker").exists()


def fv(key, dim, data):
    return key + b" \0BFV \x04" + struct.pack("<i", dim) + data


@pytest.mark.parametrize("data, told", [
    (b"", "is empty; wanted a Kaldi archive"),
    (b"utt0", "ends inside a key at byte 0; truncated"),
    (b"utt0 ", "'utt0' at byte 5 is cut before its value; truncated"),
    (b"utt0 \0BF", "'utt0' at byte 5 is no Kaldi vector or matrix (record type 'F')"),
    (b"utt0 \0BFV \x04\x08", "'utt0' at byte 5 is cut in its header; truncated"),
    (fv(b"utt0", 8, b"x" * 28), "'utt0' at byte 5 has 28 of 32 bytes; truncated"),
    (fv(b"utt0", 2**31 - 1, b"x" * 16), "'utt0' at byte 5 has 16 of 8589934588 bytes; truncated"),
    (fv(b"utt0", -1, b""), "'utt0' at byte 5 claims the size -1"),
    (b"a \0BFM \x04" + struct.pack("<ibi", 2**31 - 1, 4, 2**31 - 1), "'a' at byte 2 has 0 of 184467"),
    (b"a \0BFM \x04" + struct.pack("<ibi", 2**31 - 1, 4, 0), "'a' at byte 2 claims the size 2147483647 x 0"),
    (b"a \0BFM \x04" + struct.pack("<ibi", 1, 5, 1) + b"abcd", "'a' at byte 2 has a damaged header"),
    (b"a \0BFV \x08" + b"\0" * 20, "'a' at byte 2 has a damaged header"),
    (b"a \0BCM " + struct.pack("<ffii", 0, 1, -3, 2), "'a' at byte 2 claims the size -3 x 2"),
    (fv(b"a", 1, b"abcd") * 2, "'a' twice; the second at byte 18"),
    (fv(b"", 1, b"abcd"), "no key at byte 1: b''; damaged, or no Kaldi archive"),
    (fv(b"a", 1, b"abcd") + fv(b"", 1, b"abcd"), "no key at byte 16: b''; damaged, or no Kaldi archive"),
    (fv("a\u3000".encode(), 1, b"abcd"), "no key at byte 0: b'a\\xe3\\x80\\x80'; damaged, or no Kaldi archive"),
    (fv(b"\xff", 1, b"abcd"), "no key at byte 0: b'\\xff'; damaged, or no Kaldi archive"),
    (b"x" * 10_000, "no key at byte 0: b'xxxxxxxxxxxxxxxxxxxx'; damaged, or no Kaldi archive"),
    (b"utt1\n[ 1 ]\n", "no key at byte 0: b'utt1'; damaged, or no Kaldi archive"),
    (b"utt98 98\n", "'utt98' at byte 6 is no Kaldi vector or matrix"),
    (b"utt1 /x/emb.ark:5\n", "'utt1' at byte 5 is no Kaldi vector or matrix"),
    (b"a [ 1 2", "'a' at byte 2 has no ']'; truncated"),
    (b"a [ 1 x ]\n", "'a' at byte 2 holds text that is no number"),
    (b"a [ 1 1_0 ]\n", "'a' at byte 2 holds text that is no number"),
    (b"a [ 1 e ]\n", "'a' at byte 2 holds text that is no number: could not convert"),
    (b"a [\n 1 2\n 3 ]\n", "'a' at byte 2 has rows of different lengths"),
])
def test_a_bad_archive(tmp_path, data, told):
    (tmp_path / "emb.ark").write_bytes(data)
    assert refusal(read_all, tmp_path / "emb.ark").startswith(f"emb.ark: {told}")


def test_nothing_is_allocated_for_a_lying_header(tmp_path):
    (tmp_path / "emb.ark").write_bytes(fv(b"utt0", 2**31 - 1, b"x" * 16))
    tracemalloc.start()
    refusal(ark.read_vectors, tmp_path / "emb.ark")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6


@pytest.mark.parametrize("text, values", [
    ("a  [ 1 2.5 3 ]\n", [1, 2.5, 3]), ("a [ 1e-3 -2 +3.e2 ]\r\n", [1e-3, -2, 300]), ("a\t[ 98 ]", [98]),
    ("\na [ nan -inf 1 ]\n\n", [np.nan, -np.inf, 1]), ("a  [ ]\n", []), ("a [ 1e300 ]", [np.inf]),
    ("a  [\n  1 2\n  3 4 ]\n", [[1, 2], [3, 4]]), ("a  [\n  1 2 ]\n", [[1, 2]]),
    ("a [ 1 2\n 3 4\n]\n", [[1, 2], [3, 4]]),
    ("a  [\n]\n", np.zeros((0, 0))),
])
def test_text_archives(tmp_path, text, values):
    (tmp_path / "a.ark").write_bytes(text.encode())
    found = read_all(tmp_path / "a.ark")["a"]
    np.testing.assert_array_equal(found, np.array(values, np.float32))
    assert found.dtype == np.float32


@pytest.mark.parametrize("text", [b"utt1 /x/emb.ark:5\n", b"hello\n"])
def test_what_is_neither_ark_nor_scp(tmp_path, text):
    (tmp_path / "x").write_bytes(text)
    with pytest.raises(DataError):
        ark.read_vectors(tmp_path / "x")


@pytest.mark.parametrize("read", [read_all, ark.read_vectors])
def test_what_is_no_file(tmp_path, read):
    assert refusal(read, tmp_path / "nope.ark") == "nope.ark: no such file"
    os.mkfifo(tmp_path / "pipe")
    assert refusal(read, tmp_path / "pipe") == "pipe: is no regular file; wanted a Kaldi archive"
    (tmp_path / "empty.ark").write_bytes(b"")
    assert refusal(read, tmp_path / "empty.ark").startswith("empty.ark: is empty; wanted a Kaldi archive")


# --- scp -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value, told", [
    ("touch MARKER |", "is a shell pipe; wanted an archive and an offset"),
    ("|touch MARKER", "is a shell pipe; wanted an archive and an offset"),
    ("-", "'-' is standard input; wanted an archive and an offset"),
    ("~/emb.ark:5", f"'~/emb.ark:5' begins with '~'; write {os.path.expanduser('~/emb.ark:5')}"),
])
def test_an_scp_runs_nothing(tmp_path, value, told):
    value = value.replace("MARKER", str(tmp_path / "marker"))
    (tmp_path / "emb.scp").write_text(f"a {value}\n")
    for read in (ark.read_scp, ark.read_vectors):
        assert refusal(read, tmp_path / "emb.scp").endswith(told)
    assert not (tmp_path / "marker").exists()


def test_an_scp_named_like_a_command(tmp_path):
    name = tmp_path / "touch marker |"
    name.write_text("a b:5\n")
    assert ark.read_scp(name)["a"].offset == 5


def test_a_cut_scp_line_is_noticed(tmp_path):
    path = write_ark(tmp_path, VECTORS)
    text = (tmp_path / "emb.scp").read_text().splitlines()
    (tmp_path / "emb.scp").write_text(f"utt1 {path}:5\n")  # was utt1 .../emb.ark:52
    assert text[1].endswith(":52")
    assert refusal(ark.read_vectors, tmp_path / "emb.scp") == (
        "emb.scp:1: offset 5 in emb.ark holds 'utt0', wanted 'utt1'")


def test_a_name_that_looks_like_an_offset(tmp_path):
    odd = tmp_path / "odd.ark:5"
    os.rename(write_ark(tmp_path, {"a": random(3)}), odd)
    (tmp_path / "x.scp").write_text(f"a {odd}:2\nb {odd}\nc {tmp_path}/a[1].ark:2\n")
    locations = ark.read_scp(tmp_path / "x.scp")
    assert [(os.path.basename(location.ark_path), location.offset) for location in locations.values()] == [
        ("odd.ark:5", 2), ("odd.ark:5", None), ("a[1].ark", 2)]
    np.testing.assert_array_equal(ark.read_array(locations["a"], "a"), random(3))


def test_an_archive_that_is_gone_is_told_at_the_scps_line(tmp_path):
    (tmp_path / "emb.scp").write_text("a gone.ark:5\n")
    assert refusal(ark.read_vectors, tmp_path / "emb.scp") == f"emb.scp:1: {os.getcwd()}/gone.ark: no such file"


def test_relative_archives(tmp_path, monkeypatch, caplog):
    write_ark(tmp_path, VECTORS)
    text = (tmp_path / "emb.scp").read_text().replace(f"{tmp_path}/", "")
    (tmp_path / "emb.scp").write_text(text)
    with caplog.at_level("INFO", "speakerkit"):
        assert_same(ark.read_vectors(tmp_path / "emb.scp"), VECTORS)
        assert_same(ark.read_vectors(tmp_path / "emb.scp"), VECTORS)
    assert caplog.messages == [f"{tmp_path}/emb.scp: relative paths are taken from its own folder"]
    monkeypatch.chdir(tmp_path)
    assert ark.read_scp("emb.scp")["utt0"].ark_path == f"{tmp_path}/emb.ark"


# --- the writer ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key, array, error, told", [
    ("", random(3), DataError, "an id is empty"),
    ("a b", random(3), DataError, "holds U.0020"),
    ("a\nb", random(3), DataError, "holds U.000A"),
    ("a\ud800", random(3), DataError, "holds U.D800"),
    ("first", random(3), DataError, "'first' twice"),
    ("a", np.array([1, np.nan], np.float32), DataError, "'a' holds nan at 1"),
    ("a", np.array([[1, 2], [3, -np.inf]]), DataError, "'a' holds -inf at 1, 1"),
    ("a", random(3).astype(np.float16), ValueError, "'a' is float16 of shape"),
    ("a", np.arange(3), ValueError, "'a' is int64 of shape"),
    ("a", random(1, 2, 3), ValueError, "'a' is float32 of shape"),
    ("a", np.float32(1), ValueError, "'a' is float32 of shape"),
])
def test_what_is_not_written(tmp_path, key, array, error, told):
    with pytest.raises(error, match=told), ArkWriter(tmp_path / "a.ark", tmp_path / "a.scp") as writer:
        writer.write("first", random(3))
        writer.write(key, array)
    assert os.listdir(tmp_path) == []


def test_an_archive_whose_name_an_scp_cannot_hold(tmp_path):
    for name in ("a\n.ark", "a |", "a ", "\udcff.ark"):
        with pytest.raises(DataError, match="can't name"):
            ArkWriter(tmp_path / name, tmp_path / "a.scp")


@pytest.mark.parametrize("name", ["a b,c.ark", "说话人.ark", "a:5.ark", "x[1][2].ark"])
def test_odd_names_of_archives(tmp_path, name):
    with ArkWriter(tmp_path / name, tmp_path / "a.scp") as writer:
        writer.write("a", random(3))
        assert writer.num_records == 1
    np.testing.assert_array_equal(ark.read_vectors(tmp_path / "a.scp")["a"], random(3))


def test_the_scp_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ArkWriter("exp/a.ark", "exp/a.scp") as writer:
        writer.write("说", random(3))
        writer.write("b", random(3))
    assert (tmp_path / "exp/a.scp").read_text() == f"说 {tmp_path}/exp/a.ark:4\nb {tmp_path}/exp/a.ark:28\n"


def test_arrays_of_any_layout(tmp_path):
    matrix = random(6, 4)
    found = read_all(write_ark(tmp_path, {"t": matrix.T, "step": matrix[::2, ::2], "big": matrix.astype(">f4")}))
    np.testing.assert_array_equal(found["t"], matrix.T)
    np.testing.assert_array_equal(found["step"], matrix[::2, ::2])
    np.testing.assert_array_equal(found["big"], matrix)


def test_parts_are_joined_as_they_are(tmp_path):
    matrices = {f"m{index}": random(20, 3, seed=index) for index in range(4)}
    whole = write_ark(tmp_path, matrices, "whole", compress=True)
    for part in (0, 1):
        write_ark(tmp_path, dict(list(matrices.items())[2 * part:2 * part + 2]), f"part{part}", compress=True)
    with ArkWriter(tmp_path / "joined.ark", tmp_path / "joined.scp") as writer:
        for part in (0, 1):
            writer.copy_from(tmp_path / f"part{part}.ark")
    assert (tmp_path / "joined.ark").read_bytes() == whole.read_bytes()
    assert (tmp_path / "joined.scp").read_text() == (tmp_path / "whole.scp").read_text().replace("whole", "joined")
    with pytest.raises(DataError, match="'m0' twice"), ArkWriter(tmp_path / "twice.ark") as writer:
        writer.copy_from(tmp_path / "part0.ark")
        writer.copy_from(tmp_path / "part0.ark")


def test_a_text_archive_is_joined_in_binary(tmp_path):
    (tmp_path / "t.ark").write_text("a [ 1 2 ]\nb [\n 3 4\n 5 6 ]\n")
    with ArkWriter(tmp_path / "b.ark") as writer:
        writer.copy_from(tmp_path / "t.ark")
    assert_same(read_all(tmp_path / "b.ark"), {"a": np.array([1, 2], np.float32),
                                               "b": np.array([[3, 4], [5, 6]], np.float32)})


# --- damage --------------------------------------------------------------------------------------------------------


def small_archive():
    stream = io.BytesIO()
    kaldiio.save_ark(stream, {"utt0": random(3), "utt1": random(2, 2), "utt2": random(2).astype(np.float64)})
    kaldiio.save_ark(stream, {"utt3": random(9, 2)}, compression_method=2)
    stream.write(b"utt4  [ 1 2.5 ]\n")
    return stream.getvalue()


def test_a_cut_at_any_byte_is_an_error_or_fewer_whole_records(tmp_path):
    data, path = small_archive(), tmp_path / "a.ark"
    path.write_bytes(data)
    whole = read_all(path)
    ends = {data.index(f"utt{index}".encode()): index for index in range(1, 5)}  # cuts between two records
    ends |= {len(data): 5, len(data) - 1: 5}  # the last line break may be missing
    for length in range(len(data) + 1):
        path.write_bytes(data[:length])
        if length in ends:
            assert_same(read_all(path), dict(list(whole.items())[:ends[length]]))
        else:
            refusal(read_all, path)


@pytest.mark.parametrize("beside", ["ark", "scp"])
def test_a_cut_between_records_is_noticed_by_the_manifest(tmp_path, beside):
    path = write_ark(tmp_path, VECTORS)
    scp = tmp_path / "emb.scp"
    outputs = [path, scp] if beside == "ark" else [scp, path]
    files.write_manifest(outputs[0], files.Manifest("extract-embeddings", {}, {}, "1"), {}, outputs[1:])
    assert_same(ark.read_vectors(path), VECTORS)
    assert_same(ark.read_vectors(scp), VECTORS)
    whole_ark, whole_scp = path.read_bytes(), scp.read_text()
    path.write_bytes(whole_ark[:whole_ark.index(b"utt3")])
    told = f"has {path.stat().st_size} bytes, was written with {len(whole_ark)}; cut or changed since"
    for read in (read_all, ark.read_vectors):
        assert refusal(read, path) == f"emb.ark: {told}"
    path.write_bytes(whole_ark)
    scp.write_text(whole_scp[:whole_scp.index("utt3")])
    assert "emb.scp: has " in refusal(ark.read_vectors, scp)


def test_a_flipped_byte_harms_only_its_own_record(ram_folder):
    # An archive has no checksum (its manifest has), so a flipped value or id shows nowhere, and a flipped length may
    # swallow what follows; but what stands before is unharmed, and an scp still finds what stands behind.
    data = small_archive()
    path = ram_folder / "a.ark"
    path.write_bytes(data)
    whole = read_all(path)
    starts = {key: data.index(key.encode()) for key in whole}
    ends = dict(zip(whole, [*list(starts.values())[1:], len(data)], strict=True))
    for place in range(len(data)):
        for flip in (1, 2, 16, 128, 255):
            path.write_bytes(data[:place] + bytes([data[place] ^ flip]) + data[place + 1:])
            found = {}
            with contextlib.suppress(DataError):
                for key, array in ark.iter_ark(path):
                    found[key] = array
            assert_same({key: found[key] for key in whole if ends[key] <= place},
                        {key: whole[key] for key in whole if ends[key] <= place})
        for key in whole:  # of the last flip
            if not starts[key] <= place < ends[key]:
                location = ArkLocation(str(path), starts[key] + 5)
                np.testing.assert_array_equal(ark.read_array(location, key), whole[key].astype(np.float32))


records = st.sampled_from([b"a ", b"b ", b"\0B", b"FV ", b"DV ", b"FM ", b"CM ", b"CM2 ", b"CM3 ", b"\4", b"PKL", b" ",
                           b"[ ", b"1 ", b"]\n", b"nan ", struct.pack("<i", 1), struct.pack("<i", 2),
                           struct.pack("<i", -1), struct.pack("<f", 1.5), b"\xff" * 4, b"\x7f\xff\xff\x7f"])


@given(st.one_of(st.binary(max_size=80), st.lists(records, max_size=20).map(b"".join)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_arrays_or_a_data_error(ram_folder, data):
    path = ram_folder / "a.ark"
    path.write_bytes(data)
    for read in (read_all, ark.read_vectors):
        try:
            found = read(path)
        except DataError as error:
            assert str(path) in str(error)
        else:
            assert all(isinstance(array, np.ndarray) for array in found.values())


@given(st.binary(max_size=60), st.integers(-3, 200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_offset_is_an_array_or_a_data_error(ram_folder, data, offset):
    path = ram_folder / "a.ark"
    path.write_bytes(b"a " + data)
    for read in (*READS, ark.read_array):
        try:
            read(ArkLocation(str(path), max(offset, 0)), "a")
        except (DataError, ValueError) as error:
            assert isinstance(error, DataError) or "rows 0 to 1 of 'a', which has 0" in str(error)


# --- crashes and memory --------------------------------------------------------------------------------------------

FAIL_EVERYWHERE = """
import os, sys
import numpy as np
from speakerkit.io import ark

def write(folder, value):
    with ark.ArkWriter(folder + "/emb.ark", folder + "/emb.scp") as writer:
        for index in range(3):
            writer.write(f"utt{index}", np.full(150_000, value))

folder, action = sys.argv[1:]
write(folder + "/old", 1.0)
for number in range(1, 100):  # until a run passes untouched
    for name in ("emb.ark", "emb.scp"):
        text = open(f"{folder}/old/{name}", "rb").read()
        open(f"{folder}/{name}", "wb").write(text.replace(b"/old/", b"/") if name == "emb.scp" else text)
    child = os.fork()
    if child == 0:
        os.environ["SPEAKERKIT_FAULT"] = f"any:{number}:{action}"
        write(folder, 2.0)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    print(*sorted({array[0] for array in ark.read_vectors(folder + "/emb.scp").values()}))
    if status == 0:
        break
"""


@pytest.mark.parametrize("action", ["kill", "enospc"])
def test_a_failure_at_any_point_leaves_whole_files(ram_folder, action):
    result = subprocess.run([sys.executable, "-c", FAIL_EVERYWHERE, ram_folder, action], capture_output=True, text=True)
    found = result.stdout.splitlines()
    assert set(found) == {"1.0", "2.0"} and found[-1] == "2.0"  # never a mixture
    assert len(found) > 10
    assert not [name for name in os.listdir(ram_folder) if not name.startswith((".tmp-", "emb.", "old"))]


def test_a_full_disk_is_told(tmp_path):
    code = """
import resource, sys
import numpy as np
from speakerkit.io.ark import ArkWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
with ArkWriter(sys.argv[1] + "/emb.ark", sys.argv[1] + "/emb.scp") as writer:
    writer.write("utt0", np.zeros(400_000))
"""
    result = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    assert f"{tmp_path}/emb.ark: can't be written: file too large" in result.stderr
    assert os.listdir(tmp_path) == []


def test_an_unusable_place_is_told_before_the_work(tmp_path):
    (tmp_path / "emb.ark").mkdir()
    with pytest.raises(MachineError, match="emb.ark: can't be written: is a folder"), \
            ArkWriter(tmp_path / "emb.ark", tmp_path / "emb.scp"):
        pytest.fail("the work began")
    assert os.listdir(tmp_path) == ["emb.ark"]


def test_one_record_in_memory_at_a_time(tmp_path):
    path = write_ark(tmp_path, {f"u{index}": np.zeros((1000, 100), np.float32) for index in range(50)})  # 20 MB
    tracemalloc.start()
    num_rows = sum(len(matrix) for _, matrix in ark.iter_ark(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert num_rows == 50_000 and peak < 5e6
