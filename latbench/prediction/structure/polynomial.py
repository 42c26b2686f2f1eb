"""Expectations of what a graph decides, as polynomials in the columns of an encoding.

Whether a node is reached, or two operations follow each other, is made of sums and products of columns. Where an edge
draws one operation, and every edge for itself, the expectation of such a value is a polynomial in the probabilities: a
product of columns of different edges is the probability that all of them are drawn, two columns of one edge exclude
each other, and a factor counts once however often it is multiplied in. So the same sums and products that give a value
of an architecture give its expectation at a relaxed encoding, exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

Monomial = frozenset[int]
"""The factors of a product, at most one of an edge; the empty product is 1."""

MOST_PRODUCTS = 256
"""A polynomial of more products has every prediction wait; graphs with that many overlapping paths have no columns."""


class TooManyPaths(Exception):  # noqa: N818 - no error: whoever asks goes on without
    """A polynomial would have more than `MOST_PRODUCTS` products."""


class Polynomial:
    """A sum of products of factors.

    Args:
        terms: the coefficient of each product.
        algebra: what its factors mean.

    Raises:
        TooManyPaths: there are more than `MOST_PRODUCTS`.
    """

    __slots__ = ("algebra", "terms")

    def __init__(self, terms: Mapping[Monomial, float], algebra: Algebra) -> None:
        self.terms = {product: value for product, value in terms.items() if value}
        self.algebra = algebra
        if len(self.terms) > MOST_PRODUCTS:
            raise TooManyPaths

    def __add__(self, other: Polynomial) -> Polynomial:
        terms = dict(self.terms)
        for product, value in other.terms.items():
            terms[product] = terms.get(product, 0.0) + value
        return Polynomial(terms, self.algebra)

    def __sub__(self, other: Polynomial) -> Polynomial:
        return self + other.scaled(-1.0)

    def __mul__(self, other: Polynomial) -> Polynomial:
        terms: dict[Monomial, float] = {}
        for one, a in self.terms.items():
            for two, b in other.terms.items():
                product = self.algebra.product(one, two)
                if product is not None:
                    terms[product] = terms.get(product, 0.0) + a * b
        return Polynomial(terms, self.algebra)

    def __or__(self, other: Polynomial) -> Polynomial:
        return self + other - self * other

    def scaled(self, factor: float) -> Polynomial:
        """Return the polynomial times a number."""
        return Polynomial({product: factor * value for product, value in self.terms.items()}, self.algebra)

    @property
    def degree(self) -> int:
        """The most factors of a product; at most 1 is a line in the columns."""
        return max(map(len, self.terms), default=0)


class Algebra:
    """The factors of a space: its columns, and for each edge whether it is there.

    Args:
        edges: the columns of each edge, by index.
        width: columns of an encoding; the factor of edge ``e`` being there is ``width + e``.
    """

    def __init__(self, edges: Sequence[Sequence[int]], width: int) -> None:
        self.edges, self.width = edges, width
        self.edges, self.width = edges, width
        self._edge = {column: edge for edge, columns in enumerate(edges) for column in (*columns, width + edge)}

    def constant(self, value: float) -> Polynomial:
        """Return a polynomial without factors."""
        return Polynomial({frozenset(): value}, self)

    def factor(self, index: int) -> Polynomial:
        """Return a column, or from `width` on an edge's being there, as a polynomial."""
        return Polynomial({frozenset((index,)): 1.0}, self)

    def total(self, polynomials: Iterable[Polynomial]) -> Polynomial:
        """Return a sum, 0 of none."""
        terms: dict[Monomial, float] = {}
        for polynomial in polynomials:
            for product, value in polynomial.terms.items():
                terms[product] = terms.get(product, 0.0) + value
        return Polynomial(terms, self)

    def any_of(self, polynomials: Iterable[Polynomial]) -> Polynomial:
        """Return the probability that one of some events happens, given their probabilities."""
        union = self.constant(0.0)
        for polynomial in polynomials:
            union = union | polynomial
        return union

    def product(self, one: Monomial, two: Monomial) -> Monomial | None:
        """Return the product of two; None where they exclude each other."""
        found: dict[int, int] = {self._edge[factor]: factor for factor in one}
        for factor in two:
            edge = self._edge[factor]
            known = found.setdefault(edge, factor)
            if known != factor:
                # An operation implies that its edge is there; two operations exclude each other.
                if known < self.width and factor < self.width:
                    return None
                found[edge] = min(known, factor)
        return frozenset(found.values())
