"""Our own task through the suite that a stranger's goes through."""

from __future__ import annotations

from latbench.testing import TaskSuite


class TestClassification(TaskSuite):
    task = "classification"
