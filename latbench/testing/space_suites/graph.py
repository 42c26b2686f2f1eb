"""The contract of a space's graphs as tests."""

from __future__ import annotations

from collections import Counter

import numpy as np

from latbench.testing.space_suites.base import SpaceSuite


class GraphSuite(SpaceSuite):
    """Every promise of `latbench.space.HasGraph`."""

    def test_graphs_are_made_of_columns(self) -> None:
        """Each names columns of the space, and no column runs in two places."""
        space = self.create()
        graphs = space.graphs()
        assert graphs
        assert len({graph.name for graph in graphs}) == len(graphs)
        known = {column.name for column in space.columns}
        used = Counter(name for graph in graphs for columns in graph.columns for name in columns)
        assert set(used) <= known
        assert set(used.values()) == {1}

    def test_nodes_are_inputs_or_have_edges(self) -> None:
        """What nothing computes cannot be used."""
        for graph in self.create().graphs():
            computed = {node for _, node in graph.edges}
            assert graph.inputs
            assert graph.outputs
            assert not computed & set(graph.inputs)
            assert {source for source, _ in graph.edges} | set(graph.outputs) <= computed | set(graph.inputs)

    def test_an_edge_runs_one_operation_or_is_not_there(self) -> None:
        """Encodings of architectures say which; every node keeps as many edges as the graph says."""
        space = self.create()
        number = {column.name: index for index, column in enumerate(space.columns)}
        rows = space.encode(self.architectures(30, seed=3))
        for graph in space.graphs():
            there = np.stack([rows[:, [number[name] for name in columns]].sum(axis=1) for columns in graph.columns])
            np.testing.assert_allclose(there, there.round(), atol=1e-5)
            assert there.max() < 1.5
            if graph.keeps is not None:
                for node in {node for _, node in graph.edges}:
                    kept = there[[edge[1] == node for edge in graph.edges]].sum(axis=0)
                    np.testing.assert_allclose(kept, graph.keeps, atol=1e-5)
