"""Each operation of the kernels against a slow one in torch, in float64 and float32."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metadist.kernels.library import Library
from tests.kernels.operations import NormPass, Operations, apart, norm_reference

CLOSE = {torch.float64: 1e-12, torch.float32: 2e-5}
#: Sizes of an image, examples, channels, filters: whole vectors and not, odd sizes, one pixel.
SIZES = [(7, 3, 5, 12), (6, 2, 16, 16), (1, 3, 8, 5), (2, 1, 3, 40), (5, 4, 32, 64), (28, 1, 7, 9)]


@pytest.fixture(params=CLOSE, ids=str)
def operations(request: pytest.FixtureRequest, kernels: Library) -> Operations:
    return Operations(kernels, request.param)


def numbers(operations: Operations, *shape: int) -> Tensor:
    return torch.randn(shape, dtype=operations.dtype)


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_convolution(operations: Operations, size: tuple[int, int, int, int], stride: int):
    image, n, channels, filters = size
    close = CLOSE[operations.dtype]
    x = numbers(operations, n, channels, image, image + 1).requires_grad_()
    w = numbers(operations, filters, channels, 3, 3).requires_grad_()
    y = F.conv2d(x, w, stride=stride, padding=1)
    dy = torch.randn_like(y)
    dx, dw = torch.autograd.grad(y, (x, w), dy)
    x, w = x.detach(), w.detach()
    x1, w1 = torch.randn_like(x), torch.randn_like(w)
    for bordered in (False, True):
        assert apart(operations.convolve(x, w, stride, bordered=bordered), y) <= close
        both = y + F.conv2d(x1, w1, stride=stride, padding=1)
        found = operations.convolve(x, w, stride, bordered=bordered, x1=x1, w1=w1)
        assert apart(found, both) <= close
        assert apart(operations.weight_gradient(x, dy, stride, bordered=bordered), dw) <= close
    assert apart(operations.convolve_back(dy, w, tuple(x.shape), stride), dx) <= close


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("affine", ["none", "shift", "scale_shift"])
@pytest.mark.parametrize("size", [(7, 3, 5), (6, 2, 16), (2, 2, 40)], ids=str)
def test_normalisation(operations: Operations, size: tuple[int, int, int], affine: str, pool: bool):
    image, n, channels = size
    close = 20 * CLOSE[operations.dtype]
    y = numbers(operations, n, channels, image, image + 1).requires_grad_()
    gamma = beta = None
    if affine == "scale_shift":
        gamma = (1 + 0.3 * numbers(operations, channels)).requires_grad_()
    if affine != "none":
        beta = (0.3 * numbers(operations, channels)).requires_grad_()
    leaves = [leaf for leaf in (y, gamma, beta) if leaf is not None]
    z = norm_reference(y, gamma, beta, pool)
    passed = NormPass(operations, y.detach(), gamma, beta, pool)
    assert apart(passed.out(passed.z)[0], z) <= close
    assert apart(passed.out(passed.variance)[0], y.var((0, 2, 3), unbiased=False)) <= close

    dz = torch.randn_like(z).requires_grad_()
    first = torch.autograd.grad(z, leaves, dz, create_graph=True)
    found = dict(zip(("y", "gamma", "beta"), passed.backward(dz.detach()), strict=True))
    names = [n for n, leaf in (("y", y), ("gamma", gamma), ("beta", beta)) if leaf is not None]
    for name, wanted in zip(names, first, strict=True):
        assert apart(found[name], wanted) <= close

    # <first, v> has the derivatives that a tangent's backward gives; its derivative by dz is z1.
    v = dict(zip(names, (torch.randn_like(leaf) for leaf in leaves), strict=True))
    dotted = torch.stack([(f * v[n]).sum() for n, f in zip(names, first, strict=True)]).sum()
    *second, z1 = torch.autograd.grad(dotted, [*leaves, dz], retain_graph=True)
    along = (v["y"], v.get("gamma"), v.get("beta"))
    assert apart(passed.tangent(*along), z1) <= close
    dz1 = torch.randn_like(z)
    plain = torch.autograd.grad(z, leaves, dz1)
    got = passed.tangent_backward(*along, dz.detach(), dz1)
    found = dict(zip(("y", "gamma", "beta"), got, strict=True))
    for name, a, b in zip(names, second, plain, strict=True):
        assert apart(found[name], a + b) <= close


def test_a_tie_goes_to_the_first_as_in_torch(operations: Operations):
    y = torch.ones(1, 1, 2, 2, dtype=operations.dtype)
    y = torch.cat([y, -y])
    passed = NormPass(operations, y, None, None, True)
    dy, *_ = passed.backward(torch.ones(2, 1, 1, 1, dtype=operations.dtype))
    leaf = y.clone().requires_grad_()
    z = norm_reference(leaf, None, None, True)
    (wanted,) = torch.autograd.grad(z, leaf, torch.ones_like(z))
    assert apart(dy, wanted) <= 20 * CLOSE[operations.dtype]


def test_what_is_not_a_number_stays_visible(operations: Operations):
    y = numbers(operations, 2, 3, 4, 4)
    y[0, 1, 2, 2] = torch.nan
    for pool in (False, True):
        z = NormPass(operations, y, None, None, pool)
        (out,) = z.out(z.z)
        assert out[:, 1].isnan().all()
        assert out[:, [0, 2]].isfinite().all()


def test_elementary_functions(kernels: Library):
    x = torch.cat([torch.linspace(-700, 20, 4001), torch.logspace(-12, 2, 2000), torch.zeros(1)])
    x = torch.cat([x, -x[x < 600]]).double()
    found = torch.empty(3, len(x), dtype=torch.float64)
    size = len(x)
    rows = [row.data_ptr() for row in found]
    kernels.function("elementary", torch.float64)(size, x.data_ptr(), *rows)
    e, _, t = found
    fine = x <= 700
    assert torch.allclose(e[fine], x[fine].exp(), rtol=2e-15, atol=0)
    assert torch.allclose(t, x.tanh(), rtol=2e-15, atol=0)
    y = torch.logspace(-300, 300, 5001, dtype=torch.float64)
    found = torch.empty(3, len(y), dtype=torch.float64)
    kernels.function("elementary", torch.float64)(
        len(y), y.data_ptr(), *[r.data_ptr() for r in found]
    )
    assert torch.allclose(found[1], y.log(), rtol=2e-15, atol=1e-16)
    odd = torch.tensor([torch.nan, -torch.inf], dtype=torch.float64)
    found = torch.empty(3, 2, dtype=torch.float64)
    kernels.function("elementary", torch.float64)(2, odd.data_ptr(), *[r.data_ptr() for r in found])
    assert found[0, 0].isnan()
    assert found[0, 1] == 0
    assert found[2].isnan().tolist() == [True, False]
