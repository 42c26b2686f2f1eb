"""Energy beside latency: one store, two passes, resumable; the predictors and the loss do not mind the unit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from latbench.backend import CompileOptions
from latbench.errors import StoreError, UsageError
from latbench.measure.energy.windows import EnergySettings
from latbench.measure.quantities.energy import EnergyQuantity
from latbench.measure.quantities.latency import LatencyQuantity
from latbench.measure.quantity import Quantity
from latbench.measure.settings import Settings
from latbench.prediction.file import load_predictor, save_predictor
from latbench.prediction.fit import fit
from latbench.profiling import Summary, profile_space
from latbench.profiling.architectures import measure_architectures
from latbench.profiling.plan import plan
from latbench.profiling.progress import Progress
from latbench.records.measurement import Measurement
from latbench.runs import compare_runs, profile_run, read_run
from latbench.search import campaign
from latbench.search.objectives.latency_loss import LatencyLoss
from latbench.spaces.nasbench201 import NasBench201Space
from latbench.store import Store
from latbench.tables import export_table, import_table
from latbench.testing.meters import IDLE_W, RUN_W
from tests.patience import PATIENCE_S
from tests.test_cli import SPACE as SPACE_FLAGS
from tests.test_cli import call, document

SPACE = NasBench201Space(cells=1, channels=4, image=8)
NULL, METER = "latbench.testing:NullBackend", "latbench.testing:NullMeter"
FAST = Settings(min_rounds=2, max_rounds=2, warmup_ms=0, verify="none")
SAMPLES = 30


def run(store: Path, samples: int, *, window_s: float = 0.01, operations: bool = False, **script: str) -> Summary:
    return profile_space(
        SPACE,
        NULL,
        store,
        samples=samples,
        options=CompileOptions(options=script),
        settings=FAST,
        with_operations=operations,
        meter=METER,
        window_s=window_s,
        timeout=PATIENCE_S,
    )


def rows(store: Path, quantity: str) -> tuple[Measurement, ...]:
    with Store(store, quantity=quantity) as opened:
        return opened.measurements()


def counts(store: Path, quantity: str) -> Counter[tuple[str, str, int]]:
    return Counter((m.kind, m.subject, m.replicate) for m in rows(store, quantity) if m.kind != "reference")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "null.db"
    told: list[Progress] = []
    summary = profile_space(
        SPACE,
        NULL,
        path,
        samples=SAMPLES,
        settings=FAST,
        with_operations=True,
        meter=METER,
        window_s=0.02,
        on_progress=told.append,
    )
    assert list(dict.fromkeys(progress.quantity for progress in told)) == ["latency", "energy"]
    assert (summary.more["energy"].architectures, summary.more["energy"].operations) == (SAMPLES, summary.operations)
    assert summary.more["energy"].noise_floor.mape is not None
    assert summary.more["energy"].noise_floor.mape < 0.03
    return path


def test_every_subject_has_its_energy_beside_its_latency(store: Path) -> None:
    assert counts(store, "energy") == counts(store, "latency")
    latency = {(m.subject, m.replicate): m for m in rows(store, "latency")}
    energies = rows(store, "energy")
    ratios = [m.value / latency[m.subject, m.replicate].value for m in energies]
    assert sorted(ratios)[len(ratios) // 2] == pytest.approx(RUN_W, rel=0.01)  # mJ for each ms
    for m in energies:
        assert m.low < m.value < m.high
        assert len(m.blocks) == 3
        assert m.mean_power_w is not None
        assert m.mean_power_w > IDLE_W
        assert m.environment["meter"] == METER
        assert m.environment["idle_power_w"] == pytest.approx(IDLE_W, rel=0.2)
    with Store(store, quantity="energy") as opened:
        conditions = opened.conditions
    assert conditions is not None
    assert (conditions.quantity, conditions.unit, conditions.clock) == ("energy", "mJ", METER)


def test_a_store_of_both_is_read_as_latency_unless_asked(store: Path) -> None:
    with Store(store) as opened:
        assert opened.quantities == ("energy", "latency")
        assert opened.profile().conditions.unit == "ms"


COMMAND = ["profile", *SPACE_FLAGS, "--backend", NULL, "--verify", "none", "--samples", SAMPLES, "--operators"]


def test_the_same_command_measures_nothing_again(store: Path) -> None:
    said = document(*COMMAND, "--meter", METER, "--window", "0.02s", "--store", store)
    assert (said["measured_now"], said["energy"]["measured_now"]) == (0, 0)
    assert said["energy"]["architectures"] == SAMPLES


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--meter", "powr"], "did you mean 'power'"),
        (["--meter", METER, "--window", "0s"], "give --window 5s"),
        (["--meter", METER, "--window", "long"], "not a duration"),
    ],
)
def test_a_mistake_with_the_meter_is_explained(tmp_path: Path, flags: list[str], message: str) -> None:
    result = call(*COMMAND, *flags, "--store", tmp_path / "a.db")
    assert result.exit_code == 2
    assert message in result.stderr
    assert not list(tmp_path.iterdir())


def test_energy_is_added_to_a_profile_of_latencies_where_there_is_one(tmp_path: Path) -> None:
    path, victim = tmp_path / "a.db", plan(SPACE, 4, 0)[0].first[2].text
    options = CompileOptions(options={"fail": "compile", "failing": victim})
    profile_space(SPACE, NULL, path, samples=4, options=options, settings=FAST)
    result = call("fit", path, "--quantity", "energy")
    assert result.exit_code == 2
    assert "holds latency and no energy" in result.stderr
    assert "--meter" in result.stderr
    summary = run(path, 4, fail="compile", failing=victim)
    assert summary.progress.measured == 0
    assert {f.subject for f in summary.failures} == {victim}
    assert summary.more["energy"].failures == ()
    assert (summary.more["energy"].architectures, summary.more["energy"].progress.total) == (3, 6)


PROFILE = """
from tests.test_energy_profile import *
run(Path({store!r}), 10, window_s=0.05)
"""


def start(store: Path) -> subprocess.Popen[bytes]:
    root = Path(__file__).parent.parent
    return subprocess.Popen(
        [sys.executable, "-c", PROFILE.format(store=str(store))], cwd=root, stderr=subprocess.DEVNULL
    )


def test_killed_while_metering_it_keeps_both_quantities(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    process = start(path)
    while not metered(path):
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = {quantity: counts(path, quantity) for quantity in ("latency", "energy")}
    assert 0 < len(before["energy"]) < len(before["latency"])
    summary = run(path, 10)
    assert summary.progress.measured == 0
    after = counts(path, "energy")
    assert before["energy"].items() <= after.items()
    assert after == counts(path, "latency") == before["latency"]
    assert set(after.values()) == {1}


def metered(store: Path) -> bool:
    try:
        return bool(rows(store, "energy"))
    except StoreError:  # the file is there before its tables are
        return False


def test_a_predictor_learns_energy_and_a_loss_steps_it(store: Path, tmp_path: Path) -> None:
    with Store(store, quantity="energy") as opened:
        trained = fit(opened.profile(), "mlp", seed=0)
    assert trained.unit == "mJ"
    save_predictor(tmp_path / "energy.safetensors", trained)
    loss = LatencyLoss(load_predictor(tmp_path / "energy.safetensors"))
    assert loss.unit == "mJ"
    alphas = [torch.zeros(shape, requires_grad=True) for shape in SPACE.relaxation().shapes]
    optimizer = torch.optim.SGD(alphas, lr=1.0)
    before = loss.expected(alphas).item()
    for _ in range(20):
        optimizer.zero_grad()
        loss(alphas).backward()
        optimizer.step()
    assert loss.expected(alphas).item() < 0.9 * before


def test_fit_compare_and_export_take_a_quantity(store: Path, tmp_path: Path) -> None:
    both = [
        document("compare", store, "--predictors", "ridge", "--train", 15, "--quantity", q)
        for q in ("latency", "energy")
    ]
    assert both[0] != both[1]
    path = tmp_path / "ridge.safetensors"
    assert call("fit", store, "--predictor", "ridge", "--quantity", "energy", "--out", path).exit_code == 0
    assert load_predictor(path).conditions.quantity == "energy"
    assert call("fit", store, "--predictor", "ridge").exit_code == 0
    assert load_predictor(store.with_name("null-ridge.safetensors")).unit == "ms"
    assert call("fit", store, "--quantity", "energy_kwh").exit_code == 2


def test_tables_keep_the_quantity(store: Path, tmp_path: Path) -> None:
    tables = [tmp_path / "latency.csv", tmp_path / "energy.csv"]
    copy = tmp_path / "copy.db"
    for table, quantity in zip(tables, ("latency", "energy"), strict=True):
        with Store(store, quantity=quantity) as opened:
            written = export_table(opened, table)
        assert import_table(table, copy).added == written
    for quantity in ("latency", "energy"):
        pairs = zip(rows(store, quantity), rows(copy, quantity), strict=True)
        assert all(replace(mine, blocks=()) == replace(theirs, blocks=()) for mine, theirs in pairs)


def test_a_foreign_table_of_millijoules_is_energy(tmp_path: Path) -> None:
    table, path = tmp_path / "published.csv", tmp_path / "a.db"
    table.write_text("arch,mj\n" + "".join(f"{a},{3 + i}\n" for i, a in enumerate(SPACE.sample(3, seed=0))))
    import_table(table, path, space=SPACE, architecture_column="arch", value_column="mj", unit="mJ")
    with Store(path) as opened:
        assert (opened.quantity, opened.profile().conditions.unit) == ("energy", "mJ")


def test_runs_of_different_quantities_are_not_compared(store: Path) -> None:
    with Store(store) as latency, Store(store, quantity="energy") as energy:
        a, b = (profile_run(opened.profile(), opened.quantity) for opened in (latency, energy))
    with pytest.raises(UsageError, match="not comparable: fields quantity"):
        compare_runs(a, b)
    with pytest.raises(UsageError, match="no ratio"):
        compare_runs(a, b, ignore=["quantity", "unit", "clock"])
    assert compare_runs(b, read_run(store, "energy")).mean is not None


def test_energies_that_differ_are_less_or_more(tmp_path: Path) -> None:
    for name, factor in (("before", 1.0), ("after", 0.8)):
        table = tmp_path / name / "published.csv"
        table.parent.mkdir()
        rows = (f"{a},{factor * (3 + i)}\n" for i, a in enumerate(SPACE.sample(3, seed=0)))
        table.write_text("arch,mj\n" + "".join(rows))
        import_table(
            table, table.with_name("a.db"), space=SPACE, architecture_column="arch", value_column="mj", unit="mJ"
        )
    stores = [tmp_path / name / "a.db" for name in ("before", "after")]
    result = call("compare-runs", *stores, "--quantity", "energy")
    assert result.stdout.startswith("LESS: B / A is -20.0%")
    assert "each: 3 LESS" in result.stdout
    document = json.loads(call("compare-runs", *reversed(stores), "--json").stdout)
    assert document["mean"]["verdict"] == "MORE"


def test_what_a_search_finds_is_metered_again(store: Path) -> None:
    known = {m.subject: m.value for m in rows(store, "energy") if m.replicate == 0}
    subject = next(iter(plan(SPACE, 1, 0)[0].again)).text
    settings = replace(FAST, verify="all")
    (measured,) = measure_architectures(
        SPACE,
        [SPACE.parse(subject)],
        NULL,
        settings=settings,
        quantity=EnergyQuantity(EnergySettings(METER, window_s=0.02)),
    )
    assert measured.value == pytest.approx(known[subject], rel=0.1)


def test_a_search_on_energy_is_verified_with_the_meter_of_its_profile(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Quantity] = []

    def measure(*_: object, quantity: Quantity, **__: object) -> list[Measurement]:
        asked.append(quantity)
        return []

    monkeypatch.setattr(campaign, "measure_architectures", measure)
    for quantity in ("latency", "energy"):
        with Store(store, quantity=quantity) as opened:
            trained = fit(opened.profile(), "ridge")
        campaign._measure(trained, SPACE.sample(1, seed=0))
    assert asked == [LatencyQuantity(), EnergyQuantity(EnergySettings(METER))]
