"""Monte-Carlo arithmetic under PyTorch programs."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from adapters import model as models  # noqa: E402
from adapters.base import Noise, Setting, Spec, Unsupported  # noqa: E402
from adapters.exercise import Call  # noqa: E402
from adapters.torch_noise import MonteCarlo  # noqa: E402
from adapters.training import RECIPES  # noqa: E402


def normal(*shape):
    # a seed that no noise has here: the noise would be correlated with the values
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(99))


def noisy(function, *, bits=24, seed=0, input_bits=0):
    with MonteCarlo(Noise(bits, seed, input_bits)):
        return function()


def spread(noise, clean):
    return float((noise - clean).norm() / clean.norm())


@pytest.mark.parametrize("bits", [8, 24])
def test_a_result_is_off_by_the_unit_roundoff(bits):
    x = torch.ones(10_000, dtype=torch.float64)
    relative = noisy(lambda: x + x, bits=bits).numpy() / 2 - 1
    assert np.abs(relative).max() <= 2.0**-bits * (1 + 1e-6)
    assert relative.std() == pytest.approx(2.0**-bits / math.sqrt(3), rel=0.05)
    assert abs(relative.mean()) < 0.03 * 2.0**-bits


def test_the_error_of_a_product_grows_with_the_root_of_its_terms():
    def error(terms):
        x, w = normal(200, terms), normal(terms, 50)
        return spread(noisy(lambda: x @ w), x @ w)

    assert error(1600) / error(400) == pytest.approx(2.0, rel=0.1)


def test_the_error_of_a_sum_is_that_of_adding_one_after_the_other():
    """The very sums in float32, of random signs and of one sign."""
    for x in (normal(200, 3000), 1 + torch.rand(200, 3000, dtype=torch.float64)):
        x = x.float().double()
        total = torch.zeros(200)
        for column in x.float().unbind(1):
            total = total + column
        real = spread(total.double(), x.sum(1))
        assert 0.5 < spread(noisy(lambda x=x: x.sum(1)), x.sum(1)) / real < 2


def test_what_moves_values_is_left_alone():
    x = normal(2, 4, 4, 3)
    for move in (
        lambda: x.permute(0, 3, 1, 2).contiguous(),
        lambda: torch.cat([x.flatten(1), x.reshape(2, -1)], dim=1)[:, 3:7],
        lambda: x.relu().clamp(max=1.0),
        lambda: torch.nn.functional.max_pool2d(x, 2, 2),
        lambda: torch.where(x > 0, x, 0.0),
        lambda: x.index_select(1, torch.tensor([2, 0])),
        lambda: x.clone().copy_(x.detach()).amax(-1),
    ):
        assert torch.equal(noisy(move, bits=4), move())


def test_the_backward_pass_is_disturbed():
    x = normal(1000)

    def gradient():
        y = x.clone().requires_grad_()
        total = (y * y).sum()  # disturbed or not, its gradient by the product is 1
        total.backward()
        return y.grad

    assert 0.3e-3 < spread(noisy(gradient, bits=10), 2 * x) < 3e-3
    assert spread(gradient(), 2 * x) == 0


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_storing_a_parameter_rounds_it(optimizer, fused):
    start = 1 + torch.rand(5000, dtype=torch.float64)

    def stepped():
        p = start.clone().requires_grad_()
        p.grad = torch.full_like(start, 1e-3)
        step = optimizer([p], lr=1e-3, fused=fused)
        step.step()
        assert all(s.get("step", 1) == 1 for s in step.state.values())
        return p.detach()

    unit = 2.0**-24
    error = spread(noisy(stepped), stepped())
    assert 0.9 * unit / math.sqrt(3) < error < 2 * unit


def test_a_seed_gives_the_same_noise_and_another_seed_another():
    x = normal(100)
    first, again, other = (noisy(x.exp, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_noise_is_new_at_every_call():
    x = normal(100)
    with MonteCarlo(Noise(24, 0)):
        assert not torch.equal(x.exp(), x.exp())


def test_contractions_alone_see_coarse_inputs():
    x, w = normal(64, 16), normal(16, 64)
    fine, coarse = (spread(noisy(lambda: x @ w, input_bits=b), x @ w) for b in (0, 11))
    assert fine < 1e-6
    assert coarse == pytest.approx(2.0**-11 * math.sqrt(2 / 3), rel=0.1)  # of two factors
    assert spread(noisy(lambda: x * 3, input_bits=11), x * 3) < 1e-7
    assert spread(noisy(lambda: x @ w, bits=8, input_bits=11), x @ w) > 2.0**-9


def test_a_logarithm_of_a_sum_has_an_absolute_error():
    """However small the loss: log s (1 + d) = log s + d."""
    logits = torch.tensor([[40.0, 0, 0]], dtype=torch.float64).repeat(1000, 1)
    clean = torch.nn.functional.log_softmax(logits, dim=-1)[:, 0]
    found = noisy(lambda: torch.nn.functional.log_softmax(logits, dim=-1))[:, 0]
    assert 0.2 < float((found - clean).square().mean().sqrt()) / 2.0**-24 < 2


def test_what_has_no_model_of_its_rounding_is_refused():
    x = normal(3, 3)
    with pytest.raises(Unsupported, match=r"no model of the rounding in aten.*svd"):
        noisy(lambda: torch.linalg.svd(x))


@pytest.mark.parametrize("name", models.names())
def test_a_program_with_noise_is_near_the_one_without(name):
    from adapters.torch_eager import Adapter

    model = models.get(name)
    config = model.sizes["tiny"]
    params, buffers = model.initial(config, np.random.default_rng(0))

    def stepped(noise):
        spec = Spec(name, "tiny", "train", "cpu", "fp64", model.recipe, 1, noise)
        program = Adapter().build(spec, params, buffers)
        program.step(program.put(model.example(config, model.batch["tiny"])))
        return program.state().params

    clean, disturbed = RECIPES[model.recipe].trained(stepped(None)), stepped(Noise(24, 1))
    errors = [np.linalg.norm(disturbed[n] - v) / np.linalg.norm(v) for n, v in clean.items()]
    assert min(errors) > 1e-9
    # of most: where a gradient is nothing but noise (an attention's key bias), so is AdamW's step
    assert np.median(errors) < 1e-6


def test_a_function_with_noise_is_disturbed_forward_and_backward():
    from adapters.torch_eager import Adapter

    x = np.arange(1.0, 100.0)
    function = Adapter().function(Call("exp"), Setting("cpu", "fp64", 1, Noise(10, 0)))
    output = function({"x": x / 10})["output"] / np.exp(x / 10) - 1
    gradient = function.pullback({"x": x / 10}, {"output": np.ones_like(x)}, ["x"])["x"]
    for relative in (output, gradient / np.exp(x / 10) - 1):
        assert 2.0**-13 < np.std(relative) < 2.0**-9


def test_a_compiled_program_takes_no_noise():
    from adapters.torch_compile import Adapter

    with pytest.raises(Unsupported, match="measured eagerly"):
        Adapter().function(Call("exp"), Setting("cpu", "fp64", 1, Noise(10, 0)))
