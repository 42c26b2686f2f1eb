"""Archives from a stranger: whatever their arrays and texts hold, the interpreter lives on."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import zipfile
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.ensemble import BaggingRegressor, RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.svm import SVR

from latbench.errors import PredictorFileError, UsageError
from latbench.prediction.fit import fit
from latbench.prediction.sklearn import skops_archive
from latbench.prediction.trained import predict_values
from latbench.testing.additive_profile import additive_profile

NATIVE = [
    "sklearn.ensemble:RandomForestRegressor",
    "sklearn.ensemble:HistGradientBoostingRegressor",
    "sklearn.svm:SVR",
    "sklearn.neighbors:KNeighborsRegressor",
]
NUMBERS = [-(2**31), -5, -1, 0, 1, 5, 10**6, 2**31 - 1]
TEXTS = ["0", "-1", "100000", "null", "true", "[1]", '"linear"', '"precomputed"', '"c_svc"']


def changed_array(data: bytes, rng: random.Random) -> bytes:
    array = np.load(io.BytesIO(data), allow_pickle=False)
    kind = rng.choice(["value", "cut", "shape", "type", "twice"])
    if kind == "value" and array.size and array.dtype.kind in "if":
        array.flat[rng.randrange(array.size)] = rng.choice(NUMBERS)
    elif kind == "cut" and array.ndim:
        array = array[: rng.randrange(len(array) + 1)]
    elif kind == "twice" and array.ndim:
        array = np.concatenate([array, array])
    elif kind == "type" and array.dtype.kind in "if":
        array = array.astype(rng.choice(["<i4", "<i8", "<f4", "<f8"]))
    else:
        array = array.reshape(1, -1)
    written = io.BytesIO()
    np.save(written, array)
    return written.getvalue()


def changed_schema(data: bytes, rng: random.Random) -> bytes:
    schema, texts = json.loads(data), []

    def collect(node: Any) -> None:
        if isinstance(node, dict) and node.get("__loader__") == "JsonNode":
            texts.append(node)
        for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            collect(part)

    collect(schema)
    rng.choice(texts)["content"] = rng.choice(TEXTS)
    return json.dumps(schema).encode()


def changed(archive: bytes, rng: random.Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(archive)) as source:
        members = {name: source.read(name) for name in source.namelist()}
    for name in rng.sample(sorted(members), k=min(2, len(members))):
        members[name] = (changed_array if name.endswith(".npy") else changed_schema)(members[name], rng)
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as target:
        for name, data in members.items():
            target.writestr(name, data)
    return written.getvalue()


def fuzz(name: str, times: int) -> None:
    profile, rng = additive_profile(30), random.Random(0)
    archive = skops_archive.dumps(fit(profile, name).estimator)
    answers = {"refused": 0, "predicted": 0}
    for _ in range(times):
        try:
            predict_values(skops_archive.loads(changed(archive, rng), "file"), profile.X, name)
        except UsageError:
            answers["refused"] += 1
        else:
            answers["predicted"] += 1
    assert min(answers.values()) > times / 20, answers


def test_no_archive_ends_the_interpreter() -> None:
    code = (
        "import importlib.util as u, warnings; warnings.simplefilter('ignore')\n"
        f"spec = u.spec_from_file_location('archives', {__file__!r}); module = u.module_from_spec(spec)\n"
        f"spec.loader.exec_module(module)\nfor name in {NATIVE}: module.fuzz(name, 150)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_trees_of_scikit_learn_itself_are_refused() -> None:
    from skops import io as skops_io

    profile = additive_profile(30)
    forest = RandomForestRegressor(n_estimators=2).fit(profile.X, profile.y)
    with pytest.raises(PredictorFileError, match=r"file is refused: it holds sklearn\.tree\._tree\.Tree"):
        skops_archive.loads(skops_io.dumps(forest), "file")


@pytest.mark.parametrize("place", ["list", "dict", "array"])
def test_support_vectors_elsewhere_than_in_the_regressor_are_refused(place: str) -> None:
    from skops import io as skops_io

    profile = additive_profile(30)
    inner = SVR().fit(profile.X, profile.y)
    outer = BaggingRegressor(n_estimators=1).fit(profile.X, profile.y)
    outer.estimators_ = {"list": [inner], "dict": {"a": inner}, "array": np.array([inner], dtype=object)}[place]
    with pytest.raises(PredictorFileError, match="a fitted SVR is trusted nowhere"):
        skops_archive.loads(skops_io.dumps(outer), "file")


@pytest.mark.parametrize("kind", [Ridge, KNeighborsRegressor])
def test_sparse_matrices_whose_indices_lead_anywhere_are_refused(kind: type[Any]) -> None:
    """skops trusts ``spmatrix`` and reads whatever matrix is there; products follow its indices unchecked."""
    from skops import io as skops_io

    profile = additive_profile(30)
    wild = sparse.csr_matrix(np.ones((1, profile.X.shape[1])))
    wild.indices = np.full_like(wild.indices, 2**30)
    estimator = kind().fit(profile.X, profile.y)
    setattr(estimator, "coef_" if kind is Ridge else "_fit_X", wild)
    estimator._tree = None
    archive, crafted = zipfile.ZipFile(io.BytesIO(skops_io.dumps(estimator))), io.BytesIO()
    with zipfile.ZipFile(crafted, "w") as file:
        for name in archive.namelist():
            data = archive.read(name)
            if name == "schema.json":
                data = data.replace(b'"csr_matrix"', b'"spmatrix"').replace(
                    b"scipy.sparse._csr", b"scipy.sparse._matrix"
                )
            file.writestr(name, data)
    with pytest.raises(PredictorFileError, match="holds a sparse matrix, whose indices nobody checks"):
        skops_archive.loads(crafted.getvalue(), "file")
