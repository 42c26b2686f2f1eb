"""The plug-in: TensorRT or TensorRT-RTX on the current CUDA device."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

import torch

from latbench.backend import CompileOptions, Device, Fact
from latbench.devices import nvml
from latbench.errors import CompileError, OutOfMemoryError, PluginError, reason
from latbench.model import Model
from latbench_tensorrt.building import CURRENT, check_precision, operators_of
from latbench_tensorrt.caching import warn
from latbench_tensorrt.engine import LoadedEngine, inspected_layers
from latbench_tensorrt.engines import Engines
from latbench_tensorrt.library import INSTALLED, Library, load_library, versions
from latbench_tensorrt.running import CompiledEngine
from latbench_tensorrt.settings import Settings


class TensorRtBackend:
    """TensorRT, or TensorRT-RTX, on the current CUDA device. Options: see `latbench_tensorrt.settings.Settings`.

    Engines read and write the precision that they compute in: inputs are cast before they are copied to the GPU.

    Raises:
        PluginError: there is no CUDA device that an installed library runs on; the message has the library's words.
    """

    name: ClassVar[str] = "tensorrt"

    def __init__(self) -> None:
        refusals = [refusal(runtime) for runtime in INSTALLED]
        if all(refusals):
            without = "; latbench_tensorrt.build_engine builds engines here" if "rtx" in INSTALLED else ""
            raise PluginError(
                f"backend 'tensorrt' has no CUDA device that it runs engines on{without}. {' '.join(refusals)} "
                "Update the NVIDIA driver, or use a machine with a supported GPU"
            )
        self._engines: dict[str, Engines] = {}

    def device(self) -> Device:
        """Return the GPU and the versions that a latency depends on, including those of both libraries."""
        gpu = torch.cuda.get_device_properties(torch.cuda.current_device())
        facts: dict[str, Fact] = {
            "capability": f"{gpu.major}.{gpu.minor}",
            "memory_mib": gpu.total_memory // 2**20,
            **versions(),
            **nvml.facts(str(gpu.uuid)),
        }
        return Device(gpu.name, "cuda", facts, unit=str(gpu.uuid))

    def state(self) -> dict[str, Fact]:
        """Return what `latbench.devices.nvml` reports, and the shared cache's SHA-256 and whether it is frozen."""
        shared = {key: value for engines in self._engines.values() for key, value in engines.state().items()}
        return {**nvml.state(nvml.current_uuid()), **shared}

    def compile(self, model: Model, options: CompileOptions) -> CompiledEngine:
        """Build an engine, or take it from the cache, and make it ready to run.

        Raises:
            UsageError: an unknown option or precision, or int8 for a file without Q/DQ nodes.
            PluginError: the library that the options name is missing, or does not run on this GPU.
            ModelError: the model has no sample for one of the file's inputs.
            CompileError: an operator is not supported, the library cannot build the network, or has built it in
                another precision.
            OutOfMemoryError: the GPU's memory does not hold the engine.
        """
        settings = Settings.parse(options)
        library = load_library(settings.runtime)
        refused = refusal(settings.runtime)
        if refused:
            raise PluginError(f"option runtime={settings.runtime} of backend 'tensorrt': {refused} Choose another one")
        loaded = self._loaded(library, model, settings)
        check_precision(library, model, loaded.layers, loaded.operators, settings.precision)
        kernels = self._engines_of(library).shared(settings) if library.is_rtx else None
        try:
            return CompiledEngine(library, model, loaded, settings, kernels)
        except torch.OutOfMemoryError as error:
            raise OutOfMemoryError(f"the GPU's memory does not hold {model.name}: {error}") from None

    def _loaded(self, library: Library, model: Model, settings: Settings) -> LoadedEngine:
        engines = self._engines_of(library)
        engine = engines.get(model, settings)
        native = _deserialised(library, engine.data)
        if native is None and engine.cached:
            warn(f"{library} refuses the cached engine of {model.name} ({library.log.words()}): it is built again")
            engine = engines.build(model, settings)
            native = _deserialised(library, engine.data)
        if native is None:
            raise CompileError(f"{library} cannot load its engine of {model.name}: {library.log.words()}")
        information = native.create_engine_inspector().get_engine_information(library.trt.LayerInformationFormat.JSON)
        return LoadedEngine(native, engine, inspected_layers(information), operators_of(model))

    def _engines_of(self, library: Library) -> Engines:
        if library.runtime not in self._engines:
            device = self.device()
            name = f"{device.name}, {device.facts['capability']}, {device.facts['memory_mib']} MiB"
            self._engines[library.runtime] = Engines(library, name, CURRENT)
        return self._engines[library.runtime]


@cache
def refusal(runtime: str) -> str:
    """Return why a library runs nothing here, in its own words; empty where it runs.

    A network of one operator is built, loaded and given a context, as a GPU that a library does not support may be
    refused at any of these steps.
    """
    try:
        library = load_library(runtime)
        _try_out(library)
    except Exception as error:  # noqa: BLE001 - whatever the library raises, it does not run
        return f"{reason(error)}."
    if not torch.cuda.is_available():
        return f"{library} finds a GPU, but torch {torch.__version__} does not: install a build of torch for CUDA."
    return ""


def _try_out(library: Library) -> None:
    trt, log = library.trt, library.log
    log.clear()
    words = f"{library} says: "
    try:
        builder = trt.Builder(log)
    except TypeError as error:  # what the bindings raise for a null pointer
        raise CompileError(words + log.words()) from error
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    tensor = network.add_input("x", trt.float32, (1,))
    network.mark_output(network.add_activation(tensor, trt.ActivationType.RELU).get_output(0))
    config = builder.create_builder_config()
    config.builder_optimization_level = 0
    if library.is_rtx:
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.CURRENT, 0)
    data = builder.build_serialized_network(network, config)
    loaded = None if data is None else _deserialised(library, bytes(data))
    if loaded is None or loaded.create_execution_context() is None:
        raise CompileError(words + log.words())


def _deserialised(library: Library, data: bytes) -> Any:
    """Return an engine, or None where the library refuses it."""
    library.log.clear()
    return _runtime(library).deserialize_cuda_engine(data)


@cache
def _runtime(library: Library) -> Any:
    return library.trt.Runtime(library.log)
