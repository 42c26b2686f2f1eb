"""The null backend: latencies are what the script says."""

from __future__ import annotations

import signal
import subprocess
import sys

import numpy as np
import pytest
from torch import nn

from latbench.backend import CompileOptions
from latbench.errors import CompileError, OutputMismatchError, UsageError
from latbench.measure.verify import verify_outputs
from latbench.model import Model
from latbench.testing import NullBackend


def model(convolutions: int = 1, name: str = "") -> Model:
    layers = [nn.Sequential(nn.ReLU(), nn.Conv2d(2, 2, 3, padding=1)) for _ in range(convolutions)]
    return Model.from_module(nn.Sequential(*layers), {"x": np.ones((1, 2, 4, 4), np.float32)}, name=name)


def runs(count: int, backend: NullBackend | None = None, subject: Model | None = None, **script: str) -> np.ndarray:
    with (backend or NullBackend()).compile(subject or model(), CompileOptions(options=script)) as compiled:
        return np.array([compiled.run() for _ in range(count)]) * 1e3


def test_undisturbed_runs_take_the_known_time_which_adds_up() -> None:
    backend = NullBackend()
    np.testing.assert_allclose(runs(3), backend.known_ms(model()))
    # A ReLU, a convolution and nine elements of its kernel.
    assert backend.known_ms(model()) == pytest.approx(0.01 + 0.01 + 9 * 0.002)
    assert backend.known_ms(model(5)) == pytest.approx(5 * backend.known_ms(model()))


def test_a_function_gives_the_known_time_instead() -> None:
    backend = NullBackend(cost_ms=lambda subject: 1.0 + (subject.name == "delayed"))
    assert runs(1, backend).item() == pytest.approx(1)
    assert runs(1, backend, model(name="delayed")).item() == pytest.approx(2)


def test_noise_has_the_scripted_spread() -> None:
    logarithms = np.log(runs(4000, noise="0.05"))
    assert logarithms.std() == pytest.approx(0.05, rel=0.05)


def test_one_script_gives_one_sequence_and_other_company_another() -> None:
    first = runs(10, noise="0.1", drift="0.1", session="0.1")
    np.testing.assert_array_equal(runs(10, noise="0.1", drift="0.1", session="0.1"), first)
    assert not np.array_equal(runs(10, noise="0.1", drift="0.1", session="0.1", seed="1"), first)
    backend = NullBackend()
    runs(1, backend, model(name="other"))
    assert not np.isclose(runs(10, backend, noise="0.1", drift="0.1", session="0.1"), first).any()


def test_drift_is_common_to_all_models_of_a_backend() -> None:
    backend, options = NullBackend(cost_ms=lambda subject: 10.0), CompileOptions(options={"drift": "0.3"})
    with (
        backend.compile(model(name="a"), options) as left,
        backend.compile(model(name="b"), options) as right,
    ):
        pairs = np.log([(left.run(), right.run()) for _ in range(300)])
    assert pairs[:, 0].std() > 0.05
    assert np.abs(pairs[:, 0] - pairs[:, 1]).max() < 0.3 * np.sqrt(0.01) * 6


def test_a_trend_is_linear_in_virtual_time() -> None:
    milliseconds = runs(100, NullBackend(cost_ms=lambda subject: 10.0), trend="0.1")
    assert milliseconds[-1] == pytest.approx(10 * (1 + 0.1 * milliseconds[:-1].sum() * 1e-3))


def test_a_session_shifts_all_runs_of_a_compiled_model_alike() -> None:
    shifts = [np.log(runs(2, NullBackend(lambda subject: 1.0), model(name=str(n)), session="0.1")) for n in range(300)]
    np.testing.assert_allclose(np.ptp(shifts, axis=1), 0, atol=1e-12)
    assert np.std(shifts) == pytest.approx(0.1, rel=0.15)


def test_preempted_runs_are_longer_by_1_to_10_ms() -> None:
    late = runs(2000, NullBackend(lambda subject: 1.0), preempted="0.1") - 1
    late = late[late > 1e-9]
    assert len(late) == pytest.approx(200, rel=0.2)
    assert late.min() >= 1
    assert late.max() <= 10


def test_wrong_outputs_fail_the_check_and_only_for_the_named_model() -> None:
    script = CompileOptions(options={"fail": "outputs", "failing": "bad"})
    good, bad = model(name="good"), model(name="bad")
    with NullBackend().compile(good, script) as compiled:
        verify_outputs(compiled, good, "fp32")
    with NullBackend().compile(bad, script) as compiled, pytest.raises(OutputMismatchError):
        verify_outputs(compiled, bad, "fp32")


def test_a_scripted_compile_error_names_the_model() -> None:
    with pytest.raises(CompileError, match="bad, as scripted"):
        NullBackend().compile(model(name="bad"), CompileOptions(options={"fail": "compile"}))


def test_a_scripted_crash_aborts_the_process() -> None:
    code = """
from latbench.backend import CompileOptions
from latbench.model import Model
from latbench.testing import NullBackend
NullBackend().compile(Model("bad", {}, onnx=bytes), CompileOptions(options={"fail": "crash", "failing": "bad"}))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGABRT


def test_a_scripted_hang_sleeps_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            raise InterruptedError

    monkeypatch.setattr("time.sleep", sleep)
    with pytest.raises(InterruptedError):
        NullBackend().compile(model(), CompileOptions(options={"fail": "hang"}))


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"nose": "1"}, "did you mean 'noise'"),
        ({"noise": "much"}, "noise=much"),
        ({"fail": "loudly"}, "compile, crash"),
    ],
)
def test_a_wrong_option_is_refused(option: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        NullBackend().compile(model(), CompileOptions(options=option))
