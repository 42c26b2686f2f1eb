"""Every runtime of deployment profiles DARTS networks: each is converted, run, and computes what its module does."""

from __future__ import annotations

from pathlib import Path

import pytest

from latbench.measure.settings import Settings
from latbench.profiling import profile_space
from latbench.spaces.darts import DartsSpace
from latbench.store import Store

NETWORKS = 20
BACKENDS = {
    "onnxruntime": "latbench_onnxruntime:OnnxRuntimeBackend",
    "openvino": "latbench_openvino:OpenVinoBackend",
    "MNN": "latbench_mnn:MnnBackend",
}
# Whether they run and are right is asked here, not how precisely they are timed.
SETTINGS = Settings(half_width=1.0, min_rounds=2, max_rounds=2, runs=2, warmup_ms=1.0, verify="all")


@pytest.mark.parametrize("library", BACKENDS)
def test_twenty_darts_networks_are_profiled_and_compute_what_their_modules_do(library: str, tmp_path: Path) -> None:
    pytest.importorskip(library, reason=f"pip install 'latbench[{library.lower()}]'")
    space, store = DartsSpace(cells=3, channels=4, image=8), tmp_path / "profile.db"
    summary = profile_space(space, BACKENDS[library], store, samples=NETWORKS, settings=SETTINGS)
    assert summary.failures == ()
    assert summary.architectures == NETWORKS
    with Store(store) as opened:
        measured = [m for m in opened.measurements() if m.kind == "architecture"]
    assert all(m.value > 0 and m.digest for m in measured)
    assert len({round(m.value, 6) for m in measured}) > NETWORKS // 2
