"""A trained predictor as one file: a safetensors container whose header says what it predicts. Nothing in it is code.

The header's ``latbench`` entry is a JSON object; format 2 has the keys

- ``format``: 2,
- ``plugin``: the predictor's plug-in name, or ``module:Class``,
- ``state``: ``"arrays"`` (the tensors are `latbench.predictor.HasArrays.to_arrays`, ``params`` the keywords) or
  ``"sklearn"`` (the tensors and ``params`` are those of `latbench.prediction.sklearn.plain_state`),
- ``space``: ``{"name", "config"}``, ``columns``: the names of an encoding's columns,
- ``conditions``, ``facts``, ``unseen`` (as a list; files may lack it): see
  `latbench.prediction.trained.TrainedPredictor`.

Format 1 kept no column names, and scikit-learn's regressors as skops archives.

A file is data from a stranger: it may name a predictor and a space that can be imported here, and nothing is called but
classes that are such (`latbench.plugins.configure` checks it).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latbench.errors import PredictorFileError
from latbench.plugins import PREDICTORS, SPACES, Kind, configure, names
from latbench.prediction.trained import TrainedPredictor
from latbench.predictor import HasArrays, Predictor
from latbench.records.measurement import Conditions
from latbench.records.writing import write_atomically
from latbench.space import SearchSpace, SpaceSpec

FORMAT = 2
HEADER = "latbench"
ARRAYS, SKLEARN = "arrays", "sklearn"

Arrays = Mapping[str, NDArray[Any]]


def save_predictor(path: str | Path, trained: TrainedPredictor) -> None:
    """Write a trained predictor to a file; a crash or a full disk leaves what was there before.

    Raises:
        PredictorFileError: the file cannot be written, or the predictor cannot be restored from plain data.
    """
    from safetensors.numpy import save

    state, params = _keywords(trained.estimator)
    space = SpaceSpec.of(trained.space)
    header = {
        "format": FORMAT,
        "plugin": trained.plugin,
        "params": params,
        "state": state,
        "space": {"name": space.name, "config": dict(space.config)},
        "columns": [column.name for column in trained.space.columns],
        "conditions": trained.conditions.to_json(),
        "facts": dict(trained.facts),
        "unseen": np.minimum(trained.unseen, np.finfo(np.float32).max).tolist(),
    }
    arrays = {name: np.ascontiguousarray(array) for name, array in _arrays(trained.estimator).items()}
    try:
        write_atomically(Path(path), save(arrays, {HEADER: _to_json(header)}))
    except OSError as error:
        raise PredictorFileError(f"cannot write {path}: {error.strerror}: choose another file") from error


def load_predictor(path: str | Path, space: SearchSpace | None = None) -> TrainedPredictor:
    """Read a trained predictor from a file.

    Args:
        path: what `save_predictor` wrote.
        space: the space to predict for, which must equal the file's; None builds the file's.

    Raises:
        PredictorFileError: it is missing, truncated, foreign, of another format or space, or its plug-in is not here.
        PluginError: what the file names is not a predictor or a space, or needs a library that is missing.
        UsageError: what the file names is not a class.
    """
    header, arrays = _read(Path(path))
    try:
        spec = SpaceSpec(str(header["space"]["name"]), dict(header["space"]["config"]))
        name, params, state = str(header["plugin"]), dict(header["params"]), header["state"]
        columns = [str(column) for column in header["columns"]]
        conditions, facts = Conditions.from_json(header["conditions"]), dict(header["facts"])
        unseen = np.array([float(error) for error in header.get("unseen", ())], dtype=np.float64)
        if not ((unseen >= 0).all() and (np.diff(unseen) >= 0).all()):
            raise ValueError("errors that are negative or not sorted")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PredictorFileError(f"{path} has a damaged header ({error!r}): fit the predictor again") from error
    space = _same_space(path, spec, space)
    _check_columns(path, columns, [column.name for column in space.columns])
    restore = _from_sklearn if state == SKLEARN else _from_arrays
    estimator = restore(path, name, params, arrays, len(columns))
    given = getattr(estimator, "n_features_in_", len(columns))
    if given != len(columns):
        raise PredictorFileError(
            f"{path} predicts from {given} columns, {spec} has {len(columns)}: fit the predictor again"
        )
    return TrainedPredictor(estimator, name, space, conditions, facts, unseen)


def check_writable(estimator: Predictor) -> None:
    """Check that a predictor, fitted or not, can be written.

    Raises:
        PredictorFileError: it cannot be restored from plain data.
    """
    _to_json({"params": _keywords(estimator)})


def _keywords(estimator: Predictor) -> tuple[str, dict[str, Any]]:
    """Return how the state is written, and the keywords."""
    if isinstance(estimator, HasArrays):
        return ARRAYS, estimator.get_params()
    from latbench.prediction.sklearn.plain_state import WRITABLE, describe
    from latbench.prediction.sklearn.standardised_labels import StandardisedLabels

    regressor = estimator.regressor if isinstance(estimator, StandardisedLabels) else estimator
    try:
        return SKLEARN, dict(describe(regressor))
    except ValueError as error:
        raise PredictorFileError(
            f"a {type(regressor).__name__} cannot be kept in a file ({error}): choose from {WRITABLE}, or give it "
            "to_arrays and from_arrays (latbench.predictor.HasArrays)"
        ) from error


def _arrays(estimator: Predictor) -> Arrays:
    if isinstance(estimator, HasArrays):
        return estimator.to_arrays()
    from latbench.prediction.sklearn.plain_state import to_arrays
    from latbench.prediction.sklearn.standardised_labels import StandardisedLabels

    if not isinstance(estimator, StandardisedLabels):
        raise PredictorFileError(
            f"a bare {type(estimator).__name__} cannot be kept in a file: fit it with latbench.fit"
        )
    return to_arrays(estimator)


def _from_sklearn(path: str | Path, name: str, params: dict[str, Any], arrays: Arrays, columns: int) -> Predictor:
    from latbench.prediction.sklearn.plain_state import restore

    try:
        restored: Predictor = restore(params, arrays, columns)
    except Exception as error:  # a crafted file raises anything
        raise PredictorFileError(f"{path} holds no state of predictor {name!r} ({error}): fit it again") from error
    return restored


def _from_arrays(path: str | Path, name: str, params: dict[str, Any], arrays: Arrays, columns: int) -> Predictor:
    _check_installed(path, PREDICTORS, name)
    estimator = configure(PREDICTORS, name, {key: _tuples(value) for key, value in params.items()})
    try:
        restored: Predictor = estimator.from_arrays(arrays)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise PredictorFileError(f"{path} holds no state of predictor {name!r} ({error}): fit it again") from error
    return restored


def _same_space(path: str | Path, spec: SpaceSpec, space: SearchSpace | None) -> SearchSpace:
    if space is None:
        _check_installed(path, SPACES, spec.name)
        return spec.create()
    if SpaceSpec.of(space) != spec:
        raise PredictorFileError(f"{path} was fitted for {spec}, not {SpaceSpec.of(space)}: fit one for this space")
    return space


def _check_installed(path: str | Path, kind: Kind, name: str) -> None:
    if ":" not in name and name not in names(kind):
        raise PredictorFileError(
            f"{path} was fitted with {kind.word} {name!r}, which is not installed here: install its package"
        )


def _check_columns(path: str | Path, written: list[str], here: list[str]) -> None:
    for number, (before, now) in enumerate(zip_longest(written, here, fillvalue="nothing"), start=1):
        if before != now:
            raise PredictorFileError(
                f"{path} was fitted for another space: column {number} was {before!r} and is {now!r} here: "
                "profile this space, and fit the predictor again"
            )


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
            f"{path} is not a predictor file, or is truncated ({error}): write one with 'latbench fit'"
        ) from error
    if version == 1:
        raise PredictorFileError(
            f"{path} was written by an older latbench: fit it again from its store: "
            f"latbench fit STORE --predictor {header.get('plugin', 'NAME')}"
        )
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
    """Turn numpy's numbers into Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} is not a plain value")


def _tuples(value: Any) -> Any:
    """Turn lists into tuples: JSON has lists only, and keywords hold tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
