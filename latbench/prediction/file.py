"""A fitted predictor as one file: a safetensors container whose header says what it predicts. Nothing in it is code.

The header's ``latbench`` entry is a JSON object; format 1 has the keys

- ``format``: 1,
- ``plugin``: the predictor's plug-in name, ``params``: its keywords,
- ``state``: ``"arrays"`` (the tensors are `latbench.predictor.HasArrays.to_arrays`) or ``"skops"`` (one tensor of
  bytes, a skops archive of the whole estimator),
- ``space``: ``{"name", "config"}``, ``conditions``, ``facts``: see `latbench.prediction.trained.TrainedPredictor`.

A file is data from a stranger: it names plug-ins that are installed here and registered, it never causes the import of
anything else, and a skops archive restores only types that are known to be harmless (`latbench.prediction.sklearn`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latbench.errors import PredictorFileError
from latbench.plugins import PREDICTORS, SPACES, configure, names
from latbench.prediction.trained import TrainedPredictor
from latbench.predictor import HasArrays, Predictor
from latbench.records.measurement import Conditions
from latbench.records.writing import write_atomically
from latbench.space import SearchSpace, SpaceSpec

FORMAT = 1
HEADER = "latbench"
ARRAYS, SKOPS = "arrays", "skops"

Arrays = Mapping[str, NDArray[Any]]


def save_predictor(path: str | Path, trained: TrainedPredictor) -> None:
    """Write a predictor to a file; a crash or a full disk leaves what was there before.

    Raises:
        PredictorFileError: the file cannot be written, or the predictor cannot be restored from plain data.
    """
    from safetensors.numpy import save

    state, params, arrays = _dump(trained.estimator)
    space = SpaceSpec.of(trained.space)
    header = {
        "format": FORMAT,
        "plugin": trained.plugin,
        "params": params,
        "state": state,
        "space": {"name": space.name, "config": dict(space.config)},
        "conditions": trained.conditions.to_json(),
        "facts": dict(trained.facts),
    }
    data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, {HEADER: _to_json(header)})
    try:
        write_atomically(Path(path), data)
    except OSError as error:
        raise PredictorFileError(f"cannot write {path}: {error.strerror}: choose another place") from error


def load_predictor(
    path: str | Path, space: SearchSpace | None = None, *, plugin: str | None = None
) -> TrainedPredictor:
    """Read a predictor from a file.

    Args:
        path: what `save_predictor` wrote.
        space: the space to predict for; another one than the file's is an error. None builds the file's.
        plugin: a predictor named ``module:Class`` that the file may use although it is not registered.

    Raises:
        PredictorFileError: missing, truncated, foreign, of another format or space, or for a plug-in that is not here.
        PluginError: a library that the predictor needs is missing.
    """
    header, arrays = _read(Path(path))
    try:
        spec = SpaceSpec(str(header["space"]["name"]), dict(header["space"]["config"]))
        name, params, state = str(header["plugin"]), dict(header["params"]), header["state"]
        conditions, facts = Conditions.from_json(header["conditions"]), dict(header["facts"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PredictorFileError(f"{path} has a damaged header ({error!r}): fit the predictor again") from error
    space = _same_space(path, spec, space)
    estimator = _from_skops(path, arrays) if state == SKOPS else _from_arrays(path, name, params, arrays, plugin)
    columns, expected = getattr(estimator, "n_features_in_", None), len(space.columns)
    if columns not in (None, expected):  # a pipeline may not tell
        raise PredictorFileError(
            f"{path} predicts from {columns} columns, {spec} has {expected}: fit the predictor again"
        )
    return TrainedPredictor(estimator, name, space, conditions, facts)


def check_writable(estimator: Predictor) -> None:
    """Check that a predictor can be written; one with arrays need not be fitted yet.

    Raises:
        PredictorFileError: it holds what cannot be restored from plain data.
    """
    if isinstance(estimator, HasArrays):
        _to_json(estimator.get_params())
    else:
        _dump(estimator)


def _dump(estimator: Predictor) -> tuple[str, dict[str, Any], Arrays]:
    """Return how the state is written, the keywords and the tensors."""
    if isinstance(estimator, HasArrays):
        return ARRAYS, estimator.get_params(), estimator.to_arrays()
    from latbench.prediction.sklearn import skops_archive

    return SKOPS, {}, {SKOPS: np.frombuffer(skops_archive.dumps(estimator), dtype=np.uint8)}


def _from_skops(path: str | Path, arrays: Arrays) -> Predictor:
    from latbench.prediction.sklearn import skops_archive

    if arrays.keys() != {SKOPS} or arrays[SKOPS].dtype != np.uint8:
        raise PredictorFileError(f"{path} holds no skops archive: fit the predictor again")
    return skops_archive.loads(arrays[SKOPS].tobytes(), path)


def _from_arrays(path: str | Path, name: str, params: dict[str, Any], arrays: Arrays, plugin: str | None) -> Predictor:
    if name not in names(PREDICTORS) and name != plugin:
        raise PredictorFileError(
            f"{path} was fitted by predictor {name!r}, which is not installed here: install its package, "
            f"or load_predictor(..., plugin={name!r}) if you trust that class"
        )
    estimator = configure(PREDICTORS, name, {key: _tuples(value) for key, value in params.items()})
    try:
        restored: Predictor = estimator.from_arrays(arrays)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise PredictorFileError(f"{path} holds no state of predictor {name!r} ({error}): fit it again") from error
    return restored


def _same_space(path: str | Path, spec: SpaceSpec, space: SearchSpace | None) -> SearchSpace:
    if space is not None:
        if SpaceSpec.of(space) != spec:
            raise PredictorFileError(f"{path} was fitted for {spec}, not {SpaceSpec.of(space)}: fit one for this space")
        return space
    if spec.name not in names(SPACES):
        raise PredictorFileError(
            f"{path} was fitted for {spec}, and no such space is installed here: install its package, or pass the space"
        )
    return spec.create()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        data = path.read_bytes()
    except OSError as error:
        raise PredictorFileError(f"cannot read {path}: {error.strerror}") from error
    try:
        arrays = load(data)
        # safetensors opens with the header's length, 8 bytes little-endian, and the header; it has just checked both.
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        header = json.loads(metadata[HEADER])
        version = header["format"]
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise PredictorFileError(
            f"{path} is no predictor file, or a truncated one ({error}): write one with 'latbench fit'"
        ) from error
    if version != FORMAT:
        raise PredictorFileError(
            f"{path} has format {version!r}, this version reads {FORMAT}: update latbench, or fit again"
        )
    return header, arrays


def _to_json(header: dict[str, Any]) -> str:
    try:
        return json.dumps(header, default=_plain, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise PredictorFileError(
            f"this predictor cannot be written ({error}): build it with plain numbers, texts and lists as keywords"
        ) from error


def _plain(value: Any) -> Any:
    """Turn numpy's numbers and arrays into Python's."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{value!r} is no plain value")


def _tuples(value: Any) -> Any:
    """JSON has lists only; keywords such as groups are tuples."""
    return tuple(value) if isinstance(value, list) else value
