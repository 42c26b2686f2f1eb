"""What every meter promises, as tests."""

from __future__ import annotations

import math
import time

import pytest

from latbench import plugins
from latbench.backend import Backend, Device
from latbench.errors import NoCounterError, PluginError
from latbench.meter import Counter, Meter


class MeterSuite:
    """Subclass it with the name of a meter; pytest does the rest.

    Attributes:
        meter: entry-point name, or ``module:Class``.
        backends: backends whose devices the meter is asked for beside those that are registered.
    """

    meter: str
    backends: tuple[str, ...] = ()

    @pytest.fixture
    def instance(self) -> Meter:
        """Return the meter; where it is not available, pytest's summary says why."""
        try:
            built: Meter = plugins.configure(plugins.METERS, self.meter, {})
        except PluginError as error:
            pytest.skip(str(error))
        return built

    @pytest.fixture
    def counters(self, instance: Meter) -> list[Counter]:
        """Return the counters of the devices of this machine; where there is none, pytest's summary says why."""
        found, reasons = [], []
        for name in (*plugins.names(plugins.BACKENDS), *self.backends):
            try:
                backend: Backend = plugins.configure(plugins.BACKENDS, name, {})
                found.append(instance.counter(backend.device()))
            except (PluginError, NoCounterError) as error:
                reasons.append(str(error))
        if not found:
            pytest.skip("; ".join(dict.fromkeys(reasons)))
        return found

    def test_its_name_is_the_one_it_registers_under(self, instance: Meter) -> None:
        """A record that holds the name finds the meter again."""
        assert ":" in self.meter or instance.name == self.meter

    def test_a_device_that_it_does_not_know_is_refused_by_name(self, instance: Meter) -> None:
        """The reason takes the place of the energy, so it says whose."""
        with pytest.raises(NoCounterError, match="abacus 3000"):
            instance.counter(Device("abacus 3000", "beads"))

    def test_a_counter_never_goes_back(self, counters: list[Counter]) -> None:
        """The core takes a counter that does to be broken."""
        for counter in counters:
            assert isinstance(counter, Counter)
            read = [counter.energy_mj() for _ in range(100)]
            assert all(math.isfinite(mj) for mj in read)
            assert read == sorted(read)

    def test_a_counter_counts_millijoules(self, counters: list[Counter]) -> None:
        """No device of one machine draws 10 kW; a counter in another unit is off by a factor of a thousand."""
        for counter in counters:
            begin, start = counter.energy_mj(), time.perf_counter()
            while time.perf_counter() - start < 0.5:
                pass
            watts = (counter.energy_mj() - begin) / (time.perf_counter() - start) / 1e3
            assert 0 <= watts < 10_000
