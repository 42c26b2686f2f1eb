"""What is kept between builds: engines by content, shared timings that freeze, and files that nobody wrote intact."""

from __future__ import annotations

import hashlib
import os
import random
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from latbench.backend import CompileOptions
from latbench.model import Model

pytest.importorskip("tensorrt_rtx", reason="engines are built with tensorrt_rtx: pip install 'latbench[tensorrt-rtx]'")

from latbench_tensorrt import CacheWarning, Engine, building, caching, engines
from latbench_tensorrt.caching import SEEDING, EngineCache, SharedCache, cache_folder, key_of
from latbench_tensorrt.engine import Layer
from latbench_tensorrt.engines import Engines
from latbench_tensorrt.library import load_library
from latbench_tensorrt.settings import Settings

X = np.zeros((1, 4), np.float32)
ENGINE = Engine(b"built" * 10, (Layer("a", "kgen", ("x/Conv", "x/Relu"), ("fp32",), "t"),), "fp32", 12.5)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LATBENCH_CACHE", str(tmp_path))
    return tmp_path / "tensorrt"


@pytest.fixture
def built(monkeypatch):
    """Count the builds of `Engines`."""
    calls = []
    build = engines.build
    monkeypatch.setattr(engines, "build", lambda *args: calls.append(args) or build(*args))
    return calls


def relu(name="relu"):
    return Model.from_module(nn.ReLU(), {"x": X}, name=name)


def parsed(precision="fp32", **options):
    return Settings.parse(CompileOptions(precision=precision, options={"runtime": "rtx", **options}))


def rtx(device="a GPU", capability="8.6"):
    return Engines(load_library("rtx"), device, capability)


def test_an_engine_is_built_once_and_then_found(built):
    first = rtx().get(relu(), parsed())
    second = rtx().get(relu("another name"), parsed())
    assert len(built) == 1
    assert not first.cached
    assert second.cached
    assert (second.data, second.layers, second.build_ms) == (first.data, first.layers, first.build_ms)


@pytest.mark.parametrize(
    "another",
    [
        lambda: rtx().get(Model.from_module(nn.Sigmoid(), {"x": X}), parsed()),
        lambda: rtx().get(relu(), parsed("fp16")),
        lambda: rtx().get(relu(), parsed(optimization_level="1")),
        lambda: rtx().get(relu(), parsed(workspace_mib="100")),
        lambda: rtx(device="another GPU").get(relu(), parsed()),
        lambda: rtx(capability="8.0").get(relu(), parsed()),
    ],
    ids=["model", "precision", "level", "workspace", "device", "capability"],
)
def test_an_engine_of_anything_else_is_built(another, built):
    rtx().get(relu(), parsed())
    assert not another().cached
    assert len(built) == 2


def test_how_an_engine_is_run_builds_no_other(built):
    rtx().get(relu(), parsed())
    assert rtx().get(relu(), parsed(launch="enqueue", time="e2e", transfers="yes")).cached
    assert len(built) == 1


def test_a_damaged_engine_is_built_anew_with_a_warning(folder, built):
    rtx().get(relu(), parsed())
    (path,) = (folder / "engines").iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(CacheWarning, match="damaged"):
        assert not rtx().get(relu(), parsed()).cached
    assert rtx().get(relu(), parsed()).cached


def test_an_engine_of_another_version_under_this_name_is_built_anew_with_a_warning(folder):
    cache = EngineCache(folder)
    cache.put("of version 10", ENGINE)
    os.replace(folder / "engines" / "of version 10", folder / "engines" / "of version 11")
    with pytest.warns(CacheWarning, match="made for another model, library or device"):
        assert cache.get("of version 11") is None


def test_every_flipped_bit_is_noticed(folder):
    cache, path = EngineCache(folder), folder / "engines" / "k"
    cache.put("k", ENGINE)
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.warns(CacheWarning):
            assert cache.get("k") is None, bit


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_no_damage_passes_for_an_engine(folder, data):
    """What the runtime is given is what the builder wrote, byte by byte: native code may crash on anything else."""
    cache, path = EngineCache(folder), folder / "engines" / "k"
    cache.put("k", ENGINE)
    whole = path.read_bytes()
    damage = data.draw(st.sampled_from(["truncate", "flip", "replace", "append"]))
    if damage == "truncate":
        damaged = whole[: data.draw(st.integers(0, len(whole) - 1))]
    elif damage == "flip":
        bit = data.draw(st.integers(0, 8 * len(whole) - 1))
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
    elif damage == "replace":
        damaged = data.draw(st.binary(max_size=300))
    else:
        damaged = whole + data.draw(st.binary(min_size=1, max_size=20))
    path.write_bytes(damaged)
    with pytest.warns(CacheWarning):
        assert cache.get("k") is None


def test_an_engine_survives_being_kept(folder):
    cache = EngineCache(folder)
    assert cache.get("k") is None
    cache.put("k", ENGINE)
    found = cache.get("k")
    assert found is not None
    assert (found.data, found.layers, found.precision, found.build_ms, found.cached) == (
        *(ENGINE.data, ENGINE.layers, ENGINE.precision, ENGINE.build_ms),
        True,
    )


def test_engines_not_used_for_longest_go_first(folder, monkeypatch):
    monkeypatch.setattr(caching, "MOST_MIB", 2)
    cache = EngineCache(folder)
    big = Engine(bytes(800 * 1024), (), "fp32", 1.0)
    for age, key in enumerate("ab"):
        cache.put(key, big)
        os.utime(folder / "engines" / key, (1000 + age, 1000 + age))
    cache.get("a")
    cache.put("c", big)
    assert cache.get("a") is not None
    assert cache.get("b") is None


def test_a_folder_that_is_a_file_costs_a_warning(folder):
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("in the way")
    with pytest.warns(CacheWarning, match="LATBENCH_CACHE|built again"):
        assert not rtx().get(relu(), parsed()).cached


def test_the_folder_is_the_users_cache_unless_told(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "tensorrt"
    monkeypatch.delenv("LATBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert str(cache_folder()) == "/cache/latbench/tensorrt"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert str(cache_folder()) == "/home/somebody/.cache/latbench/tensorrt"


def test_a_shared_cache_takes_a_sessions_builds_and_freezes(tmp_path):
    shared = SharedCache(tmp_path / "t", "k")
    assert (shared.data, shared.digest, shared.frozen) == (b"", "", False)
    for build in range(SEEDING):
        assert not shared.frozen
        shared.add(b"timings %d" % build)
    assert shared.frozen
    last = b"timings %d" % (SEEDING - 1)
    assert shared.digest == hashlib.sha256(last).hexdigest()
    shared.add(b"late")
    again = SharedCache(tmp_path / "t", "k")
    assert again.frozen
    assert shared.data == again.data == last


def test_another_process_may_freeze_it_first(tmp_path):
    ours, theirs = SharedCache(tmp_path / "t", "k"), SharedCache(tmp_path / "t", "k")
    for _ in range(SEEDING):
        theirs.add(b"theirs")
    ours.add(b"ours")
    assert ours.frozen
    assert ours.digest == theirs.digest


def test_builds_at_once_lose_no_count(tmp_path):
    caches = [SharedCache(tmp_path / "t", "k") for _ in range(SEEDING)]
    threads = [threading.Thread(target=cache.add, args=(b"timings",)) for cache in caches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert SharedCache(tmp_path / "t", "k").frozen


def test_a_damaged_or_foreign_shared_cache_starts_anew_with_a_warning(tmp_path):
    path = tmp_path / "t"
    SharedCache(path, "k").add(b"timings")
    with pytest.warns(CacheWarning, match="another model, library or device"):
        assert SharedCache(path, "of another device").data == b""
    path.write_bytes(random.Random(0).randbytes(1000))
    with pytest.warns(CacheWarning, match="damaged"):
        shared = SharedCache(path, "k")
    assert (shared.data, shared.frozen) == (b"", False)


def test_what_engines_share_is_told_in_the_state():
    ours = rtx()
    assert ours.state() == {}
    ours.shared(parsed()).add(b"kernels")
    assert ours.state() == {
        "rtx_kernel_cache": hashlib.sha256(b"kernels").hexdigest(),
        "rtx_kernel_cache_frozen": False,
    }
    assert rtx().shared(parsed()).data == b"kernels"
    assert rtx(device="another GPU").shared(parsed()).data == b""


# TensorRT-RTX has the calls of TensorRT, which keeps timings, and does nothing in them.
@pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX:DeprecationWarning")
def test_builds_add_to_shared_timings_until_they_are_frozen(tmp_path, monkeypatch):
    added = []
    monkeypatch.setattr(SharedCache, "add", lambda timings, data: added.append(data))
    timings = SharedCache(tmp_path / "t", "k")
    assert building.build(load_library("rtx"), relu(), parsed(), "8.6", timings).data
    assert [type(data) for data in added] == [bytes]
    monkeypatch.setattr(SharedCache, "frozen", True)
    building.build(load_library("rtx"), relu(), parsed(), "8.6", timings)
    assert len(added) == 1


def test_timings_that_the_library_refuses_are_left_out_with_a_warning(tmp_path):
    timings = SharedCache(tmp_path / "t", "k")
    timings.add(b"of another driver")
    used = []

    class Config:
        def create_timing_cache(self, data):
            return data

        def set_timing_cache(self, cache, ignore_mismatch):
            used.append(cache)
            return cache == b""

    with pytest.warns(CacheWarning, match="refuses the shared timing cache"):
        building._use_timings(Config(), timings)
    assert used == [b"of another driver", b""]


def test_a_key_tells_apart_what_is_joined_differently():
    assert key_of("ab", "c") != key_of("a", "bc")
    assert key_of(b"ab", 1) == key_of(b"ab", 1)
