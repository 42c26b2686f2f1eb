"""An engine from the cache, or built."""

from __future__ import annotations

from latbench.backend import Fact
from latbench.model import Model
from latbench_tensorrt.building import build
from latbench_tensorrt.caching import EngineCache, SharedCache, cache_folder, key_of
from latbench_tensorrt.engine import Engine
from latbench_tensorrt.library import Library
from latbench_tensorrt.settings import Settings


class Engines:
    """The engines of one library for one device.

    Args:
        library: builds them.
        device: what distinguishes the device from others that engines and timings would not fit.
        capability: see `latbench_tensorrt.build_engine`.
    """

    def __init__(self, library: Library, device: str, capability: str = "") -> None:
        self._library, self._capability = library, capability
        self._target = (str(library), device, capability)
        self._folder = cache_folder()
        self._cache = EngineCache(self._folder)
        self._shared: dict[str, SharedCache] = {}

    def get(self, model: Model, settings: Settings) -> Engine:
        """Return the engine from the cache, or build it.

        Raises:
            CompileError, UsageError: see `latbench_tensorrt.build_engine`.
        """
        return self._cache.get(self._key(model, settings)) or self.build(model, settings)

    def build(self, model: Model, settings: Settings) -> Engine:
        """Build the engine, and keep it."""
        timings = None if self._library.is_rtx else self.shared(settings)
        engine = build(self._library, model, settings, self._capability, timings)
        self._cache.put(self._key(model, settings), engine)
        return engine

    def shared(self, settings: Settings) -> SharedCache:
        """Return what engines of these settings share: kernel timings or, for RTX, the kernels themselves."""
        key = key_of(*self._target, settings.of_build)
        if key not in self._shared:
            self._shared[key] = SharedCache(self._folder / "shared" / key, key)
        return self._shared[key]

    def state(self) -> dict[str, Fact]:
        """Return what the engines depend on besides their model: the content of what they share."""
        facts: dict[str, Fact] = {}
        for cache in self._shared.values():
            name = f"{self._library.runtime}_{'kernel' if self._library.is_rtx else 'timing'}_cache"
            facts |= {name: cache.digest, f"{name}_frozen": cache.frozen}
        return facts

    def _key(self, model: Model, settings: Settings) -> str:
        return key_of(model.onnx, *self._target, settings.of_build)
