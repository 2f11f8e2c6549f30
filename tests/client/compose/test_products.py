"""Products by oneDNN: the same numbers and gradients as torch's own, and nothing left behind."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from adapterhub_client.compose.engine import products

ROWS, IN, OUT = 64, 256, 192  # enough multiplications to be worth while


@pytest.fixture(autouse=True)
def anywhere(monkeypatch):
    """Whatever processor this is."""
    if products.operator() is None:
        pytest.fail("this torch has no oneDNN: the quick products are never taken")
    monkeypatch.setattr(products, "are_there", lambda: True)


@pytest.fixture
def counted(monkeypatch):
    """How many products went by oneDNN."""
    calls, real = [], products.multiplied
    monkeypatch.setattr(products, "multiplied", lambda *given: calls.append(1) or real(*given))
    return calls


def outcome(layer, hidden, weights):
    """The output, and every gradient of a weighted sum of it."""
    output = layer(hidden)
    (output * weights).sum().backward()
    found = [output.detach(), hidden.grad, *(p.grad for p in layer.parameters())]
    hidden.grad = None
    layer.zero_grad()
    return [each for each in found if each is not None]


@pytest.mark.parametrize("is_trained", [True, False])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("shape", [(ROWS, IN), (2, ROWS // 2, IN), (2, 4, ROWS // 8, IN)])
def test_outputs_and_gradients_are_those_of_torch(counted, shape, has_bias, is_trained):
    torch.manual_seed(0)
    layer = nn.Linear(IN, OUT, bias=has_bias).requires_grad_(is_trained)
    hidden = torch.randn(shape, requires_grad=True)
    weights = torch.randn(*shape[:-1], OUT)

    plain = outcome(layer, hidden, weights)
    assert not counted
    with products.quick(layer):
        quick = outcome(layer, hidden, weights)

    assert len(counted) == (3 if is_trained else 2)
    assert len(plain) == 2 + is_trained * (1 + has_bias)
    for own, theirs in zip(quick, plain, strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-5, atol=1e-4)


def test_a_bias_is_trained_alone(counted):
    layer = nn.Linear(IN, OUT)
    layer.weight.requires_grad_(requires_grad=False)

    with products.quick(layer):
        layer(torch.randn(ROWS, IN)).sum().backward()

    assert len(counted) == 1
    assert layer.bias.grad.tolist() == [ROWS] * OUT


def test_a_gradient_that_is_one_number_everywhere_is_read_as_such(counted):
    layer = nn.Linear(IN, OUT)
    hidden = torch.randn(ROWS, IN, requires_grad=True)

    with products.quick(layer):
        layer(hidden).sum().backward()

    assert len(counted) == 3
    expected = layer.weight.detach().sum(0).expand(ROWS, IN)
    torch.testing.assert_close(hidden.grad, expected, rtol=1e-5, atol=1e-4)
    expected = hidden.detach().sum(0).expand(OUT, IN)
    torch.testing.assert_close(layer.weight.grad, expected, rtol=1e-5, atol=1e-4)


def test_a_transposed_input_is_read_in_its_own_order(counted):
    layer = nn.Linear(IN, OUT)
    hidden = torch.randn(IN, ROWS).T

    with torch.no_grad(), products.quick(layer):
        quick = layer(hidden)

    assert counted
    torch.testing.assert_close(quick, layer(hidden), rtol=1e-5, atol=1e-4)


def test_hooks_of_a_layer_still_run(counted):
    layer = nn.Linear(IN, OUT)
    layer.register_forward_hook(lambda _module, _args, output: output * 0)

    with products.quick(layer):
        assert not layer(torch.randn(ROWS, IN)).any()

    assert counted


def test_the_engine_takes_them_within_alone(counted):
    hidden, weight = torch.randn(ROWS, IN), torch.randn(OUT, IN)

    with products.quick(nn.Module()):
        products.linear(hidden, weight)
    assert len(counted) == 1
    products.linear(hidden, weight)

    assert len(counted) == 1


def test_layers_are_as_they_were_even_after_an_error():
    layer = nn.Linear(IN, OUT)

    with pytest.raises(KeyError), products.quick(layer):
        raise KeyError

    assert "forward" not in vars(layer)


@pytest.mark.parametrize("rows", [0, 1])
def test_small_products_are_left_to_torch(counted, rows):
    layer = nn.Linear(IN, OUT)

    with products.quick(layer):
        output = layer(torch.randn(rows, IN))

    assert output.shape == (rows, OUT)
    assert not counted


def test_other_number_formats_are_left_to_torch(counted):
    layer = nn.Linear(IN, OUT)

    with products.quick(layer):
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(torch.randn(ROWS, IN)).dtype is torch.bfloat16
        layer.double()
        assert layer(torch.randn(ROWS, IN).double()).dtype is torch.float64

    assert not counted


@pytest.mark.parametrize(("vendor", "expected"), [("AuthenticAMD", True), ("GenuineIntel", False)])
def test_intel_keeps_its_own_library(monkeypatch, vendor, expected):
    monkeypatch.undo()
    monkeypatch.setattr(products, "_vendor", lambda: vendor)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    products.are_there.cache_clear()

    assert products.are_there() is expected

    products.are_there.cache_clear()


@pytest.mark.parametrize("is_quick", [True, False])
def test_a_compiler_takes_products_of_its_own_in_one_graph(counted, is_quick):
    hidden, weight = torch.randn(ROWS, IN), torch.randn(OUT, IN)
    compiled = torch.compile(products.linear, backend="eager", fullgraph=True)

    with products.quick(nn.Module()) if is_quick else nullcontext():
        output = compiled(hidden, weight)

    assert not counted
    torch.testing.assert_close(output, hidden @ weight.T)
