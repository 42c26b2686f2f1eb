"""TensorRT's own Python bindings, those of version 11, on the libraries of TensorRT-RTX.

TensorRT's libraries are in no public package; its bindings are, and call entry points that TensorRT-RTX's libraries
have too. Linked to those, they do for real what latbench asks of TensorRT, as far as that goes without a GPU. Libraries
are found when a process starts: this file is also the program that runs in such a process and tells what it saw.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import numpy as np
import onnx.parser
import pytest
import torch
from torch import nn

from latbench.backend import CompileOptions
from latbench.errors import CompileError
from latbench.model import Model

MISSING = [name for name in ("tensorrt_bindings", "tensorrt_rtx_libs") if not find_spec(name)]
MISSING += [] if which("cc") else ["cc"]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"TensorRT's bindings are not linked: no {', '.join(MISSING)}")

PRECISIONS = ("fp32", "tf32", "fp16", "bf16")
DETERMINANT = '<ir_version: 8, opset_import: ["" : 17]> g (float[1,4,4] x) => (float[1] y) { [a_det] y = Det(x) }'
ON_A_GPU = {
    "Runtime": ("deserialize_cuda_engine",),
    "ICudaEngine": (
        *("create_engine_inspector", "create_execution_context", "device_memory_size_v2", "get_engine_stat"),
        *("get_tensor_dtype", "get_tensor_location", "get_tensor_mode", "get_tensor_name", "num_io_tensors"),
    ),
    "IExecutionContext": ("execute_async_v3", "get_tensor_shape", "profiler", "set_input_shape", "set_tensor_address"),
    "EngineInspector": ("get_engine_information",),
    "EngineStat": ("TOTAL_WEIGHTS_SIZE",),
    "IProfiler": ("report_layer_time",),
    "LayerInformationFormat": ("JSON",),
    "TensorIOMode": ("INPUT",),
    "TensorLocation": ("DEVICE",),
}
"""What is used of the bindings to run an engine."""


def linked(folder: Path) -> dict[str, str]:
    """Make the module `tensorrt` in a folder, and its libraries; return the environment in which they are found."""
    major = version("tensorrt_cu13_bindings").split(".")[0]
    (rtx,) = find_spec("tensorrt_rtx_libs").submodule_search_locations
    for name, stand_in in (("nvinfer", "tensorrt_rtx"), ("nvonnxparser", "tensorrt_onnxparser_rtx")):
        (path,) = Path(rtx).glob(f"lib{stand_in}.so.*")
        (folder / f"lib{name}.so.{major}").symlink_to(path)
    source = folder / "plugins.c"
    source.write_text("int initLibNvInferPlugins(void *logger, const char *space) { return 1; }\n")
    subprocess.run(
        [which("cc"), "-shared", "-fPIC", "-o", folder / f"libnvinfer_plugin.so.{major}", source], check=True
    )
    # As the package `tensorrt` does.
    (folder / "tensorrt.py").write_text("from tensorrt_bindings import *\nfrom tensorrt_bindings import __version__\n")
    return {"LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(folder), "LATBENCH_CACHE": str(folder / "cache")}


def what_happens() -> dict[str, object]:
    from latbench_tensorrt import build_engine
    from latbench_tensorrt.backend import refusal
    from latbench_tensorrt.engines import Engines
    from latbench_tensorrt.library import load_library
    from latbench_tensorrt.settings import Settings

    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 10))
    model = Model.from_module(network, {"x": np.zeros((1, 3, 16, 16), np.float32)})
    layers = {precision: build_engine(model, CompileOptions(precision=precision)).layers for precision in PRECISIONS}
    determinant = onnx.parser.parse_model(DETERMINANT).SerializeToString
    try:
        build_engine(Model("m", {"x": np.zeros((1, 4, 4), np.float32)}, onnx=determinant), CompileOptions())
    except CompileError as error:
        unsupported = str(error)
    settings = Settings.parse(CompileOptions(options={"workspace_mib": "64"}))
    library = load_library(settings.runtime)
    first, second = (Engines(library, "a GPU") for _ in range(2))
    return {
        "library": str(library),
        "precisions": {p: sorted({q for layer in layers[p] for q in layer.precisions}) for p in PRECISIONS},
        "nodes": {p: sorted({node for layer in layers[p] for node in layer.nodes}) for p in PRECISIONS},
        "unsupported": unsupported,
        "cached": [engines.get(model, settings).cached for engines in (first, second)],
        "state": first.state(),
        "refusal": refusal(settings.runtime),
        "missing": [
            f"{kind}.{name}"
            for kind, names in ON_A_GPU.items()
            for name in names
            if not hasattr(getattr(library.trt, kind), name)
        ],
    }


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    environment = os.environ | linked(tmp_path_factory.mktemp("tensorrt"))
    result = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_tensorrt_is_used_where_both_libraries_are_installed(seen):
    assert seen["library"] == f"TensorRT {version('tensorrt_cu13_bindings')}"


def test_engines_are_built_in_the_precision_asked_for(seen):
    assert seen["precisions"] == {"fp32": ["fp32"], "tf32": ["fp32"], "fp16": ["fp16"], "bf16": ["bf16", "fp32"]}
    for nodes in seen["nodes"].values():
        assert {"0/Conv", "4/Gemm"} <= {*nodes}


def test_an_unsupported_operator_is_named_with_its_node(seen):
    assert "cannot parse m: operator 'Det' of node 'a_det' (UNSUPPORTED" in seen["unsupported"]


def test_engines_and_timings_are_kept(seen):
    assert seen["cached"] == [False, True]
    assert len(seen["state"]["tensorrt_timing_cache"]) == 64
    assert not seen["state"]["tensorrt_timing_cache_frozen"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, on which these libraries might run")
def test_without_a_gpu_the_librarys_words_are_told(seen):
    assert seen["refusal"].startswith(f"{seen['library']} says: ")
    assert "CUDA driver version is insufficient" in seen["refusal"]


def test_what_a_gpu_is_needed_for_is_in_the_bindings_too(seen):
    assert seen["missing"] == []


if __name__ == "__main__":
    print(json.dumps(what_happens()))
