"""What moves the weights: the schedule and the average by hand, Muon beside PyTorch's and the singular values."""

import math
from itertools import pairwise

import pytest
import torch

from engine import optimizers
from train_etl9g_model import CNNConfig
from train_hiercode import HierCode, HierCodeConfig
from train_vit import VisionTransformer, ViTConfig


def test_the_learning_rate_rises_and_falls():
    settings = CNNConfig(warmup=0.1, final_learning_rate=0.01)
    factors = [optimizers.learning_rate_factor(step, 100, settings) for step in range(100)]
    assert factors[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
    middle = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * 0.5))
    assert factors[55] == pytest.approx(middle)
    assert optimizers.learning_rate_factor(100, 100, settings) == pytest.approx(0.01)
    assert all(a >= b for a, b in pairwise(factors[9:]))


def test_the_average_follows_by_hand():
    model = torch.nn.Linear(1, 1, bias=False)
    averaged = optimizers.average_weights(model, 0.9)
    expected = None
    for k, value in enumerate((1.0, 3.0, -2.0, 5.0)):
        with torch.no_grad():
            model.weight.fill_(value)
        averaged.update_parameters(model)
        decay = min(0.9, (1 + k) / (10 + k))
        expected = value if expected is None else decay * expected + (1 - decay) * value
        assert averaged.module.weight.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", [(24, 24), (16, 96), (96, 16)])
def test_an_update_is_made_orthogonal(shape):
    """All singular values near 1 (the iteration leaves them between 0.6 and 1.3), in the directions of the update."""
    update = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    u, _, v = torch.linalg.svd(update, full_matrices=False)
    found = optimizers.orthogonalized(update)
    inside = u.T @ found @ v.T
    assert inside.diagonal().min() > 0.3
    assert inside.diagonal().max() < 1.3
    assert (inside - inside.diagonal().diag()).abs().max() < 1e-4


@pytest.mark.parametrize("rank", [1, 20, 80])
def test_an_update_of_low_rank_is_made_as_orthogonal_as_the_iteration_makes_it(rank):
    """Written out, as Jordan et al. have it, in float64: what is lost by iterating the rows' products alone."""
    random = torch.Generator().manual_seed(5)
    update = torch.randn((80, rank), generator=random) @ torch.randn((rank, 300), generator=random)
    x = update.double() / update.norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    assert (optimizers.orthogonalized(update) - x).norm() < 1e-3 * x.norm()


def test_muon_takes_the_steps_of_pytorchs():
    """Five steps with weight decay, wide, tall and square; PyTorch's are rounded to bf16 on the way."""
    random = torch.Generator().manual_seed(2)
    start = [torch.randn(shape, generator=random) for shape in ((8, 8), (6, 40), (40, 6))]
    gradients = [[torch.randn(m.shape, generator=random) for m in start] for _ in range(5)]
    ends = []
    for kind, more in ((optimizers.Muon, {}), (torch.optim.Muon, {"adjust_lr_fn": "match_rms_adamw"})):
        parameters = [torch.nn.Parameter(m.clone()) for m in start]
        muon = kind(parameters, lr=0.05, weight_decay=0.1, **more)
        for step in gradients:
            for parameter, gradient in zip(parameters, step, strict=True):
                parameter.grad = gradient.clone()
            muon.step()
        ends.append(parameters)
    for mine, theirs, first in zip(*ends, start, strict=True):
        assert (mine - theirs).norm() < 0.03 * (theirs - first).norm()


def test_muon_takes_filters_as_rows_of_a_matrix():
    """A convolution and the linear layer of the same numbers take the same step."""
    random = torch.Generator().manual_seed(3)
    start, gradient = (torch.randn((4, 3, 3, 3), generator=random) for _ in range(2))
    ends = []
    for shape in (start.shape, (4, 27)):
        parameter = torch.nn.Parameter(start.reshape(shape).clone())
        parameter.grad = gradient.reshape(shape)
        optimizers.Muon([parameter], lr=0.05, weight_decay=0.1).step()
        ends.append(parameter.detach().reshape(start.shape))
    assert torch.equal(*ends)
    assert (ends[0] - start).norm() > 0.01


def test_muon_leaves_alone_what_has_no_gradient():
    parameter = torch.nn.Parameter(torch.ones(3, 3))
    optimizers.Muon([parameter], lr=1.0, weight_decay=0.5).step()
    assert torch.equal(parameter.detach(), torch.ones(3, 3))


@pytest.mark.parametrize(
    ("config", "model", "kinds"),
    [
        (ViTConfig(width=8, depth=1, embedding=8), VisionTransformer, torch.nn.Linear),
        (HierCodeConfig(optimizer="muon-all", width=0.3), HierCode, torch.nn.Linear | torch.nn.Conv2d),
    ],
)
def test_matrices_go_to_muon_and_the_rest_to_adamw(config, model, kinds):
    model = model(config, "あいう")
    adamw, muon = optimizers.make_optimizers(model, config)
    assert (type(adamw), type(muon)) == (torch.optim.AdamW, optimizers.Muon)
    seen = [p for o in (adamw, muon) for group in o.param_groups for p in group["params"]]
    assert sorted(map(id, seen)) == sorted(map(id, model.parameters()))
    taken = [p for group in muon.param_groups for p in group["params"]]
    layers = [m for m in model.modules() if isinstance(m, kinds) and getattr(m, "groups", 1) == 1]
    assert sorted(map(id, taken)) == sorted(id(layer.weight) for layer in layers)
    assert len(taken) >= 5
    assert [group["weight_decay"] for group in adamw.param_groups] == [config.weight_decay, 0.0]
