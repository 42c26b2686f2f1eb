"""What every backend promises, as tests."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from latbench import plugins
from latbench.backend import Backend, Compiled, CompileOptions, Device, HasMemory, HasOperatorTimes, HasUnits
from latbench.errors import ModelError, PluginError, UsageError
from latbench.measure.verify import verify_outputs
from latbench.model import Model


def convolutions(count: int) -> Model:
    """Return a small network of `count` convolutions."""
    torch.manual_seed(0)
    layers = [
        nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()) for _ in range(count)
    ]
    network = nn.Sequential(nn.Conv2d(3, 8, 1), *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    x = np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)
    return Model.from_module(network, {"x": x}, name=f"{count} convolutions")


class BackendSuite:
    """Subclass it with the name of a backend; pytest does the rest.

    Attributes:
        backend: entry-point name, or ``module:Class``.
    """

    backend: str

    @pytest.fixture
    def engine(self) -> Backend:
        """Return the backend; where it is not available, pytest's summary says why."""
        try:
            built: Backend = plugins.configure(plugins.BACKENDS, self.backend, {})
        except PluginError as error:
            pytest.skip(str(error))
        return built

    def test_its_name_is_the_one_it_registers_under(self, engine: Backend) -> None:
        """A record that holds the name finds the backend again."""
        assert ":" in self.backend or engine.name == self.backend

    def test_its_device_is_described_by_plain_facts_that_stay(self, engine: Backend) -> None:
        """Facts are compared and stored as JSON; what moves belongs to `HasState`."""
        device = engine.device()
        assert isinstance(device, Device)
        assert device.name
        assert json.loads(json.dumps(dataclasses.asdict(device))) == dataclasses.asdict(engine.device())

    def test_its_units_are_told_apart(self, engine: Backend) -> None:
        """`HasUnits` is optional; each unit is chosen by variables of its own."""
        if not isinstance(engine, HasUnits):
            return
        units = engine.units()
        assert len({unit for unit, _ in units}) == len(units)
        assert all(unit and environment for unit, environment in units)
        assert engine.device().unit in {"", *(unit for unit, _ in units)}

    def test_a_run_takes_time_on_a_named_clock(self, engine: Backend) -> None:
        """Seconds are positive, and the record says whose they are."""
        with engine.compile(convolutions(2), CompileOptions()) as compiled:
            assert isinstance(compiled, Compiled)
            assert compiled.clock
            seconds = [compiled.run() for _ in range(5)]
        assert all(math.isfinite(second) and second > 0 for second in seconds)

    def test_it_computes_what_the_module_computes(self, engine: Backend) -> None:
        """The time of something else means nothing."""
        model = convolutions(3)
        with engine.compile(model, CompileOptions()) as compiled:
            compiled.run()
            verify_outputs(compiled, model, "fp32")

    def test_the_model_stays_as_it_was(self, engine: Backend) -> None:
        """Other backends, and the check of the outputs, use the same module."""
        model = convolutions(2)
        before = model.reference_outputs()[0]
        with engine.compile(model, CompileOptions()) as compiled:
            compiled.run()
        np.testing.assert_array_equal(model.reference_outputs()[0], before)

    def test_more_work_takes_longer(self, engine: Backend) -> None:
        """A run goes to completion: launching alone would take as long for either."""
        with (
            engine.compile(convolutions(2), CompileOptions()) as small,
            engine.compile(convolutions(40), CompileOptions()) as large,
        ):
            fastest = [min(compiled.run() for _ in range(10)) for compiled in (small, large)]
        assert fastest[0] < fastest[1]

    def test_models_coexist_and_leaving_frees_one_alone(self, engine: Backend) -> None:
        """A session holds many compiled models and visits them in turn."""
        models = convolutions(1), convolutions(2)
        with engine.compile(models[0], CompileOptions()) as kept:
            with engine.compile(models[1], CompileOptions()) as left:
                left.run()
            kept.run()
            verify_outputs(kept, models[0], "fp32")

    def test_a_model_without_module_runs_or_is_refused_in_words(self, engine: Backend) -> None:
        """ONNX files are models too."""
        model = convolutions(1)
        only_onnx = Model("net.onnx", model.inputs, onnx=lambda: model.onnx)
        try:
            with engine.compile(only_onnx, CompileOptions()) as compiled:
                np.testing.assert_allclose(compiled.outputs()[0], model.reference_outputs()[0], atol=1e-3)
        except ModelError as error:
            assert "ONNX" in str(error)  # noqa: PT017 - both outcomes are right

    def test_the_memory_it_tells_grows_with_the_model(self, engine: Backend) -> None:
        """`HasMemory` is optional; a number that says nothing of the model is worse than none."""
        told = []
        for width in (8, 512):
            layer = nn.Linear(width, width)
            model = Model.from_module(layer, {"x": np.zeros((1, width), np.float32)})
            with engine.compile(model, CompileOptions()) as compiled:
                if not isinstance(compiled, HasMemory):
                    return
                told.append(compiled.memory_mib())
        # The weights alone, as fp32.
        assert told[1] - told[0] > 0.9 * (512 * 512 - 8 * 8) * 4 / 2**20

    def test_the_operators_it_tells_are_those_of_the_model(self, engine: Backend) -> None:
        """`HasOperatorTimes` is optional; each operator is told once, and all of them together take some time."""
        with engine.compile(convolutions(4), CompileOptions()) as compiled:
            if not isinstance(compiled, HasOperatorTimes):
                return
            times = compiled.operator_times()
            compiled.run()
        assert any("conv" in time.type.lower() for time in times)
        assert len({(time.type, time.name) for time in times}) == len(times)
        assert all(math.isfinite(time.ms) and time.ms >= 0 for time in times)
        assert sum(time.ms for time in times) > 0

    def test_an_unknown_option_is_refused_by_name(self, engine: Backend) -> None:
        """A misspelt option must not be ignored."""
        with pytest.raises(UsageError, match="no_such_option"):
            engine.compile(convolutions(1), CompileOptions(options={"no_such_option": "1"}))

    def test_an_unknown_precision_is_refused_by_name(self, engine: Backend) -> None:
        """Nothing else may be built silently."""
        with pytest.raises(UsageError, match="fp3"):
            engine.compile(convolutions(1), CompileOptions(precision="fp3"))
