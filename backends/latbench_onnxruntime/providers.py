"""Execution providers: which ones the installed build has, and which one an operator runs on."""

from __future__ import annotations

import os
from typing import Any

import onnxruntime

from latbench.backend import Device, Fact
from latbench.devices import nvml
from latbench.devices.host import cpu_name
from latbench.errors import CompileError, PluginError, UsageError
from latbench.model import Model

CPU = "cpu"
_SUFFIX = "ExecutionProvider"
_REMOTE = "azure"
_ON_CPU = {CPU, "acl", "dnnl", "openvino", "xnnpack"}
_ON_CUDA = {"cuda", "nvtensorrtrtx", "tensorrt"}
_SHOWN_KINDS = 4
TELL_ASSIGNMENT = "session.record_ep_graph_assignment_info"
"""What a session has to be asked for so that `check_assignment` finds who runs its operators."""


def installed() -> dict[str, str]:
    """Return ONNX Runtime's names of the providers by the value of the option ``provider``, the CPU's first.

    The provider that sends its work to another machine measures that machine, and is left out.
    """
    names = {name.removesuffix(_SUFFIX).lower(): name for name in onnxruntime.get_available_providers()}
    return {CPU: names[CPU], **{short: name for short, name in names.items() if short not in (CPU, _REMOTE)}}


def check_provider(provider: str) -> None:
    """Refuse what the installed build does not have.

    Raises:
        UsageError: the message names what it has, and how to get another build.
    """
    if provider not in installed():
        raise UsageError(
            f"this build of ONNX Runtime has no provider {provider!r}: it has {', '.join(installed())}. "
            "Others come as packages of their own in place of onnxruntime: onnxruntime-openvino, onnxruntime-gpu, "
            "onnxruntime-qnn, ..."
        )


def arguments(provider: str, threads: int) -> dict[str, str]:
    """Return what a provider has to be told to run fp32, on so many threads.

    Raises:
        UsageError: the provider would compute in less without a word.
    """
    if provider == "openvino":
        # Its own default computes in bf16 where the processor has it.
        return {"device_type": "CPU", "precision": "FP32", "num_of_threads": str(threads), "num_streams": "1"}
    if provider == "xnnpack":
        return {"intra_op_num_threads": str(threads)}
    if provider == "cuda":
        return {"use_tf32": "0"}
    if provider in _ON_CUDA and os.environ.get("NVIDIA_TF32_OVERRIDE") != "0":
        raise UsageError(
            f"provider {provider} multiplies in TF32 and does not tell: set NVIDIA_TF32_OVERRIDE=0 in the environment "
            "for fp32, or take the backend tensorrt for other precisions"
        )
    if provider == "qnn":
        return {"enable_htp_fp16_precision": "0"}
    return {}


def described(provider: str) -> Device:
    """Return what a provider runs on.

    Raises:
        PluginError: torch, which tells GPUs apart, finds none.
    """
    facts: dict[str, Fact] = {"onnxruntime": onnxruntime.__version__}
    if provider in _ON_CPU:
        return Device(cpu_name(), "cpu", facts)
    if provider not in _ON_CUDA:
        return Device(f"{provider} on {cpu_name()}", provider, facts)
    import torch

    if not torch.cuda.is_available():
        raise PluginError(
            f"provider {provider} runs on a GPU, and torch {torch.__version__} finds none to tell which: "
            "install a build of torch for CUDA"
        )
    gpu = torch.cuda.get_device_properties(0)
    return Device(gpu.name, "cuda", {**facts, "uuid": str(gpu.uuid), **nvml.facts(str(gpu.uuid))})


def check_assignment(session: Any, provider: str, model: Model, *, fallback: bool) -> tuple[str, ...]:
    """Refuse a session that runs elsewhere than asked for; return a flag for one that may, in part.

    Raises:
        CompileError: the provider does not start, runs none of the operators, or not all where it has to.
    """
    if provider == CPU:
        return ()
    name = installed()[provider]
    if name not in session.get_providers():
        raise CompileError(
            f"provider {provider} of ONNX Runtime does not start here, and {model.name} would run on the CPU without "
            "a word: see that its device, driver and libraries are there"
        )
    operators = [
        (node.op_type, subgraph.ep_name)
        for subgraph in session.get_provider_graph_assignment_info()
        for node in subgraph.get_nodes()
    ]
    others = [kind for kind, assigned in operators if assigned != name]
    if len(others) == len(operators):
        raise CompileError(
            f"provider {provider} of ONNX Runtime runs no operator of {model.name}, which would run on the CPU "
            "without a word: leave --option provider out"
        )
    if others and not fallback:
        kinds = sorted(set(others))
        shown = ", ".join(kinds[:_SHOWN_KINDS]) + (", ..." if len(kinds) > _SHOWN_KINDS else "")
        raise CompileError(
            f"provider {provider} leaves {len(others)} of {len(operators)} operators of {model.name} to another "
            f"({shown}): give --option fallback=yes to measure them together, as they would be deployed"
        )
    return (f"{len(others)} of {len(operators)} operators not on {provider}",) if others else ()
