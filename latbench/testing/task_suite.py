"""The contract of a task as tests: a plug-in's test file is one subclass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from latbench.errors import UsageError
from latbench.plugins import TASKS, configure
from latbench.task import Batch, HasMetric, Metric, Part, ScoresOutputs


class TaskSuite:
    """Every promise of `latbench.task.Task`.

    Subclass it and set the entry-point name::

        class TestMyTask(TaskSuite):
            task = "mine"

    `config` gives it small data, so that the suite runs faster. `inputs` and `network` are those of a network that can
    learn it: by default images of 8x8 pixels, and a line to ten classes.
    """

    task: ClassVar[str]
    config: ClassVar[Mapping[str, Any]] = {}

    def create(self) -> Any:
        """Return the task under test, as the user's options give it."""
        return configure(TASKS, self.task, self.config)

    def inputs(self) -> Sequence[Tensor]:
        """Return sample inputs of a network that can learn it, a batch of two."""
        return [torch.zeros(2, 3, 8, 8)]

    def network(self) -> nn.Module:
        """Return a small network that can learn it, drawn from torch's generator."""
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10))

    def fitted(self) -> Any:
        """Return the task with samples for `inputs`."""
        return self.create().for_inputs(self.inputs())

    def test_an_unknown_keyword_is_a_usage_error(self) -> None:
        """The user misspelt it."""
        with pytest.raises(UsageError):
            configure(TASKS, self.task, {"no_such_keyword": 1})

    def test_it_has_a_name_that_stays(self) -> None:
        """Reports show it, and a search continues one that had a task of the same name."""
        task = self.create()
        assert isinstance(task.name, str)
        assert task.name
        assert task.name == self.create().name == self.fitted().name

    def test_samples_are_shaped_like_the_inputs(self) -> None:
        """A network takes them as they are."""
        for part in ("train", "first", "second", "test"):
            batch = next(self.fitted().batches(part, 2))
            given = [(each.shape[1:], each.dtype) for each in batch.inputs]
            assert given == [(each.shape[1:], each.dtype) for each in self.inputs()]

    def test_inputs_that_no_sample_fits_are_refused(self) -> None:
        """The space is for something else."""
        with pytest.raises(UsageError):
            self.create().for_inputs([torch.zeros(2)])

    def test_the_halves_are_the_training_samples(self) -> None:
        """Weights and alphas learn from different samples, and none is lost."""
        parts = {part: Counter(_samples(self.fitted(), part)) for part in ("train", "first", "second")}
        assert parts["first"] + parts["second"] == parts["train"]
        assert abs(parts["first"].total() - parts["second"].total()) <= 1

    @pytest.mark.parametrize("part", ["train", "first", "second"])
    def test_training_batches_are_full_and_drawn_from_torch_s_generator(self, part: Part) -> None:
        """A seed gives the same steps again, and another one gives others."""
        task, drawn = self.fitted(), []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            drawn.append([_key(batch) for batch in task.batches(part, 4)])
        assert drawn[0] == drawn[1] != drawn[2]
        assert {len(batch.inputs[0]) for batch in task.batches(part, 4)} == {4}

    def test_fewer_samples_than_a_batch_are_one_batch(self) -> None:
        """A small data set is learned too."""
        task = self.fitted()
        (batch,) = task.batches("train", 1_000_000)
        assert len(batch.inputs[0]) == len(_samples(task, "train"))

    def test_test_samples_come_in_order_all_of_them(self) -> None:
        """A score does not depend on a batch size."""
        task = self.fitted()
        one_by_one = [batch.inputs[0] for batch in task.batches("test", 1)]
        together = [batch.inputs[0] for batch in task.batches("test", 7)]
        assert torch.equal(torch.cat(one_by_one), torch.cat(together))

    def test_learning_lowers_the_loss_and_raises_the_score(self) -> None:
        """Higher is better, and gradients reach the weights."""
        torch.manual_seed(0)
        task, network = self.fitted(), self.network()
        optimizer = torch.optim.Adam(network.parameters(), 0.01)
        before, losses = task.score(network, "train"), []
        for _ in range(5):
            for batch in task.batches("train", 64):
                loss = task.loss(network(*batch.inputs), batch)
                assert loss.shape == ()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
        assert losses[-1] < losses[0]
        assert task.score(network, "train") > before

    def test_scoring_leaves_the_network_as_it_was(self) -> None:
        """It is scored in evaluation mode, without a gradient, and trained on afterwards."""
        task, network = self.fitted(), nn.Sequential(nn.Dropout(0.5), self.network())
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        assert isinstance(task.score(network), float)
        assert task.score(network) == task.score(network)
        assert network.training
        assert all(parameter.grad is None for parameter in network.parameters())
        assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())

    def test_outputs_score_as_the_network_does(self) -> None:
        """A search shows the score of outputs that it has already; only some tasks can."""
        task, network = self.fitted(), self.network().eval()
        score_outputs = task.score_outputs if isinstance(task, ScoresOutputs) else None
        if score_outputs is None:
            pytest.skip(f"{self.task} scores networks only")
        (batch,) = self.fitted().batches("test", 1_000_000)
        assert score_outputs(network(*batch.inputs), batch) == pytest.approx(self.fitted().score(network), abs=1e-6)

    def test_reports_can_show_its_score(self) -> None:
        """A metric has a name and a form."""
        task = self.create()
        metric = task.metric if isinstance(task, HasMetric) else Metric()
        assert metric.name
        assert format(0.5, metric.form)


def _samples(task: Any, part: Part) -> list[bytes]:
    return [_key(batch) for batch in task.batches(part, 1)]


def _key(batch: Batch) -> bytes:
    return b"".join(each.numpy().tobytes() for each in (*batch.inputs, batch.labels))
