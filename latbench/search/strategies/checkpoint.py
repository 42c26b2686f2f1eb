"""The state of a search on disk: one safetensors file, replaced atomically after every epoch.

Tensors hold the supernet and both optimisers, the header the identity of the search and its history as JSON.
Random states are not stored: every epoch draws from a generator of its own (`latbench.search.strategies.darts`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from latbench.errors import UsageError
from latbench.records.writing import write_atomically
from latbench.search.strategies.identity import Identity, check_identity
from latbench.search.strategies.result import Epoch

_ENTRY = "search"
"""The entry of the file's header that holds identity and history."""


def made_folder(folder: str | Path) -> Path:
    """Make the folder of a search, if it is missing, and return its path.

    Raises:
        UsageError: it cannot be made.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {folder}: {error.strerror}") from error
    return Path(folder)


def replace_file(path: Path, data: bytes) -> None:
    """Write the state of a search; a reader sees either the old file or the new one.

    Raises:
        UsageError: the folder is read-only or full; the old file stays as it was.
    """
    try:
        write_atomically(path, data)
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror}; make the folder writable, or free some space, and search again"
        ) from error


class Checkpoint:
    """A checkpoint file of one search.

    Args:
        folder: where it lies; made if missing.
        identity: of the search that reads and writes it.

    Raises:
        UsageError: the folder cannot be made.
    """

    def __init__(self, folder: str | Path, identity: Identity) -> None:
        self.path = made_folder(folder) / "checkpoint.safetensors"
        self.identity = identity

    def save(self, supernet: nn.Module, optimizers: Sequence[Optimizer], history: Sequence[Epoch]) -> None:
        """Write the state; a reader sees either the old file or the new one.

        Raises:
            UsageError: the folder is read-only or full; the old file stays as it was.
        """
        tensors = {f"supernet/{name}": tensor for name, tensor in supernet.state_dict().items()}
        for index, optimizer in enumerate(optimizers):
            for parameter, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer/{index}/{parameter}/{name}": tensor for name, tensor in state.items()}
        # One entry: safetensors does not keep the order of several, and equal states give equal files.
        header = {_ENTRY: json.dumps({"identity": self.identity, "history": [asdict(epoch) for epoch in history]})}
        data = save({name: tensor.contiguous() for name, tensor in tensors.items()}, header)
        replace_file(self.path, data)

    def restore(self, supernet: nn.Module, optimizers: Sequence[Optimizer]) -> list[Epoch]:
        """Restore the state and return the history; without a file nothing changes and the history is empty.

        Raises:
            UsageError: the file is not a checkpoint, or belongs to another search; the message names what differs.
        """
        if not self.path.exists():
            return []
        header, tensors = self._read()
        check_identity(self.path, header["identity"], self.identity)
        supernet.load_state_dict(_below("supernet/", tensors))
        for index, optimizer in enumerate(optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for name, tensor in _below(f"optimizer/{index}/", tensors).items():
                parameter, _, key = name.partition("/")
                state.setdefault(int(parameter), {})[key] = tensor
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        return [_epoch(record) for record in header["history"]]

    def _read(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        try:
            with safe_open(self.path, framework="pt") as file:
                header = json.loads((file.metadata() or {}).get(_ENTRY, "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        except (SafetensorError, ValueError, OSError) as error:
            raise UsageError(f"{self.path} cannot be read ({error}): delete it to start the search again") from error
        if not header:
            raise UsageError(f"{self.path} is not a checkpoint of a search: choose another folder")
        return header, tensors


def _epoch(record: Mapping[str, Any]) -> Epoch:
    """Return an epoch from JSON, which has lists where it has tuples."""
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in record.items()
    }
    return Epoch(**fields)


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
