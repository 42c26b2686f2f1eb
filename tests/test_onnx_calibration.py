"""What a comparison can show: a network whose parts do nothing at first, and one that ignores its inputs."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from latbench.onnx_export import export_onnx
from latbench.onnx_export.calibration import calibrated, hides
from tests.test_onnx_export import run

X = {"x": np.random.default_rng(0).standard_normal((1, 4, 8, 8), dtype=np.float32)}


class Residual(nn.Module):
    """Its branch is multiplied by zero, as where the last norm of a branch starts at weight 0."""

    def __init__(self, *, branch: bool = True) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.scale = nn.BatchNorm2d(4), nn.Parameter(torch.full((4, 1, 1), 1e-6))
        nn.init.zeros_(self.norm.weight)
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return x + self.scale * self.norm(self.body(x)) if self.branch else x


def outputs(module: nn.Module) -> np.ndarray:
    with torch.no_grad():
        values: np.ndarray = module(torch.from_numpy(X["x"])).numpy()
    return values


def test_a_forgotten_branch_shows_in_a_calibrated_copy_alone() -> None:
    whole = Residual().eval()
    twin = calibrated(whole)
    forgetful = Residual(branch=False).eval()
    for module, seen in ((whole, False), (twin, True)):
        forgetful.load_state_dict(module.state_dict())
        (found,) = run(export_onnx(forgetful, X), X)
        assert np.allclose(found, outputs(module), atol=1e-4) is not seen
    (found,) = run(export_onnx(twin, X), X)
    np.testing.assert_allclose(found, outputs(twin), atol=1e-5)


def test_the_module_itself_and_what_is_not_constant_stay_as_they_are() -> None:
    module = Residual().eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    twin = calibrated(module).state_dict()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    changed = {name for name, value in before.items() if not torch.equal(value, twin[name])}
    assert changed == {"norm.weight", "norm.bias", "norm.running_mean", "norm.running_var", "scale"}
    assert (twin["norm.running_var"] > 0).all()


def test_small_weights_hide_what_they_scale_and_biases_nothing() -> None:
    module = Residual().eval()
    assert hides(module)
    assert not hides(calibrated(module))
    nn.init.zeros_(module.stem.bias)
    nn.init.ones_(module.norm.weight)
    assert hides(module)
    nn.init.ones_(module.scale)
    assert not hides(module)
