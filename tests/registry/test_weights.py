"""A safetensors file is judged by its header alone."""

import json

import pytest
from tests.factories import make_weights

from adapterhub_registry.service.weights import HeaderRefused, Inspection


def made(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(content) if length is None else length
    return size.to_bytes(8, "little") + content + data


def tensor(start: int, stop: int, **changes: object) -> dict[str, object]:
    count = (stop - start) // 4
    return {"dtype": "F32", "shape": [count], "data_offsets": [start, stop], **changes}


def check(content: bytes) -> None:
    inspected(content).finish()


def inspected(content: bytes, chunk: int = 3) -> Inspection:
    found = Inspection(len(content))
    for at in range(0, len(content), chunk):
        found.watch(content[at : at + chunk])
    return found


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(make_weights(), id="one tensor"),
        pytest.param(made({}), id="no tensor"),
        pytest.param(made({"b": tensor(4, 8), "a": tensor(0, 4)}, b"x" * 8), id="two tensors"),
        pytest.param(made({"a": tensor(0, 0, shape=[0, 3])}), id="an empty tensor"),
        pytest.param(
            made({"a": tensor(0, 4, shape=[])} | {"__metadata__": {"k": "v"}}, b"x" * 4),
            id="a scalar and metadata",
        ),
        pytest.param(
            made({"a": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}, b"x"),
            id="half a byte each",
        ),
    ],
)
def test_a_good_file_passes(content: bytes) -> None:
    found = [inspected(content, chunk).findings() for chunk in (3, 1 << 20)]

    assert [each.refusal for each in found] == [None, None]
    assert found[0] == found[1]


def test_what_the_library_writes_passes() -> None:
    numpy = pytest.importorskip("numpy")
    saved = pytest.importorskip("safetensors.numpy").save(
        {"b": numpy.ones((2, 3), "float32"), "a": numpy.ones(5, "float16")}, {"format": "pt"}
    )

    found = inspected(saved).findings()

    assert found.faults("0" * 64, "a.safetensors") == []
    assert found.shapes == {"a": (5,), "b": (2, 3)}


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        pytest.param(b"", "does not fit", id="nothing"),
        pytest.param(b"\x80\x04cos\nsystem\n(S'true'\ntR.", "does not fit", id="a pickle"),
        pytest.param(b"PK\x03\x04" + b"\0" * 40, "does not fit", id="a zip archive"),
        pytest.param(made({}, length=2**63), "does not fit", id="a huge length"),
        pytest.param(made({}, length=3), "does not fit", id="longer than the file"),
        pytest.param(made(b"{"), "not JSON", id="half of JSON"),
        pytest.param(made(b"[" * 100_000), "not JSON", id="nested JSON"),
        pytest.param(made(b"\xff\xff"), "not JSON", id="not text"),
        pytest.param(made([]), "not an object", id="a list"),
        pytest.param(made(b'{"a":1,"a":2}'), "twice", id="a key twice"),
        pytest.param(made({"__metadata__": {"k": 1}}), "__metadata__", id="wrong metadata"),
        pytest.param(made({"a": 1}), "lacks", id="a number as tensor"),
        pytest.param(made({"a": tensor(0, 4, dtype="F99")}, b"x" * 4), "dtype", id="dtype"),
        pytest.param(made({"a": tensor(0, 4, dtype=["F32"])}, b"x" * 4), "dtype", id="dtype list"),
        pytest.param(made({"a": tensor(0, 4, shape=[-1])}, b"x" * 4), "shape", id="negative"),
        pytest.param(made({"a": tensor(0, 4, shape=[True])}, b"x" * 4), "shape", id="a truth"),
        pytest.param(made({"a": tensor(0, 4, shape=[2])}, b"x" * 4), "bytes of", id="wrong size"),
        pytest.param(made({"a": tensor(4, 8)}, b"x" * 8), "starts at", id="a gap"),
        pytest.param(
            made({"a": tensor(0, 8), "b": tensor(4, 12)}, b"x" * 12), "starts at", id="an overlap"
        ),
        pytest.param(made({"a": tensor(0, 4)}, b"x" * 5), "take 4 bytes of 5", id="bytes left"),
        pytest.param(made({"a": tensor(0, 8)}, b"x" * 4), "take 8 bytes of 4", id="cut off"),
    ],
)
def test_anything_else_is_refused(content: bytes, fault: str) -> None:
    with pytest.raises(HeaderRefused, match=fault):
        check(content)


FLOATS = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}


@pytest.mark.parametrize("chunk", [7, 64, 1 << 20])
@pytest.mark.parametrize("dtype", [*FLOATS, "BF16"])
@pytest.mark.parametrize(
    ("value", "fault"),
    [
        pytest.param(float("nan"), "not finite", id="nan"),
        pytest.param(float("-inf"), "not finite", id="infinite"),
        pytest.param(-3.0, None, id="number"),
        pytest.param(0.0, "every value is zero", id="zero"),
    ],
)
def test_values_are_finite_and_not_all_zero(
    value: float, fault: str | None, dtype: str, chunk: int
) -> None:
    numpy = pytest.importorskip("numpy")
    values = numpy.zeros(101, FLOATS.get(dtype, "<f4"))
    values[37] = value
    data = values.tobytes()
    if dtype == "BF16":
        data = b"".join(data[at + 2 : at + 4] for at in range(0, len(data), 4))
    spans = {"a": [0, 3], "b": [3, 3 + len(data)], "c": [3 + len(data), 5 + len(data)]}
    header = {
        "a": {"dtype": "U8", "shape": [3], "data_offsets": spans["a"]},
        "b": {"dtype": dtype, "shape": [101], "data_offsets": spans["b"]},
        "c": {"dtype": "I16", "shape": [1], "data_offsets": spans["c"]},
    }
    content = made(header, bytes(3) + data + bytes(2))

    faults = inspected(content, chunk).findings().faults("0" * 64, "a.safetensors")

    assert [fault in each for each in faults if fault] == ([] if fault is None else [True])
    assert len(faults) == (fault is not None)


def test_integers_may_look_like_what_they_are_not() -> None:
    ones = {"a": {"dtype": "I32", "shape": [2], "data_offsets": [0, 8]}}

    assert inspected(made(ones, b"\xff" * 8)).findings().faults("0" * 64, "a.safetensors") == []


@pytest.mark.parametrize("dtype", [*FLOATS, "BF16"])
def test_every_way_to_be_not_finite_is_found_and_nothing_else(dtype: str) -> None:
    width = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}[dtype]
    mantissa = {"F16": 10, "BF16": 7, "F32": 23, "F64": 52}[dtype]
    top = 8 * width - 1
    exponents = 1 << (top - mantissa)
    for sign in (0, 1):
        for exponent in (0, 1, exponents // 2, exponents - 2, exponents - 1):
            for rest in (0, 1, (1 << mantissa) - 1, 1 << (mantissa - 1)):
                number = (sign << top) | (exponent << mantissa) | rest
                data = bytes(range(width)) * 3 + number.to_bytes(width, "little")
                header = {
                    "a": {"dtype": dtype, "shape": [4], "data_offsets": [0, 4 * width]},
                }
                found = inspected(made(header, data), 5).findings()
                assert (found.unbounded == "a") == (exponent == exponents - 1), hex(number)


def test_the_largest_number_is_finite() -> None:
    numpy = pytest.importorskip("numpy")
    data = numpy.array([-numpy.finfo("<f4").max, 1e-45], "<f4").tobytes()

    assert (
        inspected(made({"a": tensor(0, 8)}, data)).findings().faults("0" * 64, "a.safetensors")
        == []
    )
