"""Graph -> polynomials: operations that are alive, and counts on what is left when the dead ones are taken out.

An operation is dead where no path leads from it to the graph's outputs, or none to it from the inputs. Every compiler
can see the first, few the second (that zeros are all it will ever read): the measurements show which do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from latbench.prediction.structure.polynomial import Algebra, Polynomial
from latbench.space import Column, Graph


@dataclass(frozen=True, slots=True)
class Named:
    """A polynomial as a column of its own.

    Args:
        polynomial: its value for an encoding.
        group: columns of one group do the same elsewhere, as in `latbench.space.Column`.
    """

    polynomial: Polynomial
    group: str


class GraphPolynomials:
    """What one graph says about encodings; where a node keeps a number of edges, those are taken as independent.

    Args:
        graph: the graph.
        columns: what each column of an encoding stands for.
        algebra: has the graph's edges from index `first_edge` on.
        first_edge: see `algebra`.
    """

    def __init__(self, graph: Graph, columns: Sequence[Column], algebra: Algebra, first_edge: int) -> None:
        self.graph, self.algebra = graph, algebra
        self._first_edge = first_edge
        self._groups = {column.name: column.group for column in columns}
        self._index = {column.name: index for index, column in enumerate(columns)}

    @cached_property
    def there(self) -> list[Polynomial]:
        """For each edge, whether something runs on it."""
        keeps, nodes = self.graph.keeps, [node for _, node in self.graph.edges]
        return [
            self.algebra.constant(1.0)
            if nodes.count(node) == keeps
            else self.algebra.factor(self.algebra.width + self._first_edge + edge)
            for edge, node in enumerate(nodes)
        ]

    @cached_property
    def reached(self) -> Mapping[int, Polynomial]:
        """For each node, whether a path leads to it from the inputs."""
        found = {node: self.algebra.constant(1.0) for node in self.graph.inputs}
        for node in sorted({node for _, node in self.graph.edges}):
            incoming = [(edge, source) for edge, (source, to) in enumerate(self.graph.edges) if to == node]
            # Any edges that it keeps come from nodes that are reached.
            certain = self.graph.keeps and all(found[source].terms == {frozenset(): 1.0} for _, source in incoming)
            paths = (self.there[edge] * found[source] for edge, source in incoming)
            found[node] = self.algebra.constant(1.0) if certain else self.algebra.any_of(paths)
        return found

    @cached_property
    def used(self) -> Mapping[int, Polynomial]:
        """For each node, whether a path leads from it to the outputs."""
        found: dict[int, Polynomial] = {}
        for node in sorted(self.reached, reverse=True):
            outgoing = ((edge, to) for edge, (source, to) in enumerate(self.graph.edges) if source == node)
            paths = (self.there[edge] * found[to] for edge, to in outgoing)
            found[node] = self.algebra.constant(1.0) if node in self.graph.outputs else self.algebra.any_of(paths)
        return found

    def masked(self) -> list[Named]:
        """Return each operation where its output is used, and where it is reached, too."""
        found = []
        for (source, node), columns in zip(self.graph.edges, self.graph.columns, strict=True):
            for kind, mask in (("used", self.used[node]), ("alive", self.used[node] * self.reached[source])):
                found += [Named(self._column(name) * mask, f"{kind} {self._groups[name]}") for name in columns]
        return found

    def counts(self) -> list[Named]:
        """Return sums, live nodes, nodes that several live edges read, and live pairs of equal operations on one node.

        A pair of live edges is counted for each group of columns that both run.
        """
        graph, alive = self.graph, self.alive
        nodes = {node: self.reached[node] * self.used[node] for node in self.reached}
        computed = [nodes[node] for node in nodes if node not in graph.inputs]
        found = [Named(self.algebra.total(alive) - self.algebra.total(computed), f"{graph.name} sums")]
        siblings: dict[str, list[Polynomial]] = {}
        for node, live in nodes.items():
            found.append(Named(live, f"{graph.name} live nodes"))
            outgoing = [edge for edge, (source, _) in enumerate(graph.edges) if source == node]
            both = {pair: alive[pair[0]] * alive[pair[1]] for pair in combinations(outgoing, 2)}
            found.append(Named(self.algebra.any_of(both.values()), f"{graph.name} shared nodes"))
            for (one, other), pair in both.items():
                for group, equal in self._equal(one, other):
                    siblings.setdefault(group, []).append(equal * pair)
        return found + [Named(self.algebra.total(pairs), f"{graph.name} siblings") for pairs in siblings.values()]

    @cached_property
    def alive(self) -> list[Polynomial]:
        """For each edge, whether something runs on it, from the inputs to the outputs."""
        return [
            there * self.reached[source] * self.used[node]
            for there, (source, node) in zip(self.there, self.graph.edges, strict=True)
        ]

    def _equal(self, one: int, other: int) -> list[tuple[str, Polynomial]]:
        """Return the groups that two edges may both run, with whether they do."""
        first, second = ({self._groups[name]: name for name in self.graph.columns[edge]} for edge in (one, other))
        shared = [group for group in first if group in second]
        return [(group, self._column(first[group]) * self._column(second[group])) for group in shared]

    def _column(self, name: str) -> Polynomial:
        return self.algebra.factor(self._index[name])
