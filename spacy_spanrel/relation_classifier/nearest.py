"""The nearest pairs among the entities of a Doc, without a list of all pairs. Arrays in, arrays out.

The entities within a distance of an entity that have one type are counted by two binary searches,
in the sorted starts and in the sorted ends of the entities of that type. So the pairs of all types
are counted in O(n * types * log n), the distance that admits enough pairs is found by bisection over
such counts, and only the pairs within that distance are made. Memory and time grow with the number
of entities and with the number of pairs that are wanted, not with the square of the entities.
"""

from __future__ import annotations

import numpy as np

from ..arrays import BoolArray, IntArray


class EntityIndex:
    """The entities of a Doc, sorted so that pairs of near ones are counted and found quickly.

    Pairs have a direction, lie in one group (a sentence), and join different token ranges.

    spans (int64 array, (n, 2)): Token ranges, end exclusive, none of them empty.
    groups (int64 array, (n,)): The group of each entity.
    types (int64 array, (n,)): The type of each entity, from 0 to n_types - 1.
    n_types (int): Number of types.
    """

    def __init__(self, spans: IntArray, groups: IntArray, types: IntArray, n_types: int):
        self.order = np.lexsort((spans[:, 1], spans[:, 0], groups))
        spans, groups = spans[self.order], groups[self.order]
        self.types = types[self.order]
        # Groups stand one behind the other on one axis, so that one search serves all of them.
        self.length = int(spans.max(initial=0)) + 1
        self.group_starts = groups * self.length
        self.starts, self.ends = spans.T + self.group_starts
        # Entities with the same token range stand together; each knows where they begin and end.
        is_new = np.ones(len(spans), dtype=bool)
        is_new[1:] = (np.diff(self.starts) != 0) | (np.diff(self.ends) != 0)
        first = np.flatnonzero(is_new)
        place = np.cumsum(is_new) - 1
        self.same_from, self.same_to = first[place], np.append(first[1:], len(spans))[place]
        self.of_type = [np.flatnonzero(self.types == kind) for kind in range(n_types)]
        self.ends_of_type = [np.sort(self.ends[entities]) for entities in self.of_type]

    def count_tails(self, distance: int) -> IntArray:
        """Count the entities that each entity can be paired with.

        distance (int): Largest number of tokens between the two, at least 0.
        RETURNS (int64 array, (n, n_types)): Rows in sorted order; counts by type of the other entity.
        """
        latest = np.minimum(self.ends + distance, self.group_starts + self.length - 1)
        earliest = np.maximum(self.starts - distance, self.group_starts)
        counts = np.empty((len(self.order), len(self.of_type)), dtype=np.int64)
        for kind, (entities, ends) in enumerate(zip(self.of_type, self.ends_of_type, strict=True)):
            counts[:, kind] = (
                np.searchsorted(self.starts[entities], latest, side="right")
                - np.searchsorted(ends, earliest)
                - np.searchsorted(entities, self.same_to)
                + np.searchsorted(entities, self.same_from)
            )
        return counts

    def count_by_types(self, distance: int) -> IntArray:
        """Count pairs by the types of head and tail.

        distance (int): Largest number of tokens between head and tail, at least 0.
        RETURNS (int64 array, (n_types, n_types)): Counts.
        """
        counts = self.count_tails(distance)
        return np.asarray(
            [counts[entities].sum(axis=0) for entities in self.of_type], dtype=np.int64
        ).reshape(len(self.of_type), len(self.of_type))

    def nearest(self, allowed: BoolArray, distance: int, max_pairs: int | None = None) -> IntArray:
        """Return the nearest pairs.

        allowed (bool array, (n_types, n_types)): Whether head and tail may have these types.
        distance (int): Largest number of tokens between head and tail.
        max_pairs (int | None): Largest number of pairs; pairs at the same distance are taken in the
            order of head and tail. None for all pairs.
        RETURNS (int64 array, (n_pairs, 2)): Rows (head, tail), indices into the given entities,
            ordered by head, then tail.
        """
        allowed_tails = allowed[self.types]

        def count(limit: int) -> IntArray:
            counts: IntArray = (self.count_tails(limit) * allowed_tails).sum(axis=1)
            return counts

        low, high = 0, min(distance, self.length)
        counts = count(high)
        if max_pairs is None or counts.sum() <= max_pairs:
            return self._sorted(self._pairs(counts > 0, allowed, high))
        while low < high:
            middle = (low + high) // 2
            if count(middle).sum() >= max_pairs:
                high = middle
            else:
                low = middle + 1
        # All pairs that are nearer than the last distance; of those at this distance as many as are
        # still wanted, for which only the first heads need to be looked at.
        nearer = count(low - 1) if low else np.zeros_like(counts)
        n_wanted = max_pairs - int(nearer.sum())
        at_last = np.zeros_like(counts)
        at_last[self.order] = count(low) - nearer
        is_needed = (at_last > 0) & (np.cumsum(at_last) - at_last < n_wanted)
        pairs = self._pairs(is_needed[self.order], allowed, low)
        pairs = self._sorted(pairs[self._distances(pairs) == low])[:n_wanted]
        if not low:
            return pairs
        near = self._sorted(self._pairs(nearer > 0, allowed, low - 1))
        pairs = np.concatenate([near, pairs])
        return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]

    def _pairs(self, is_head: BoolArray, allowed: BoolArray, distance: int) -> IntArray:
        """Make the pairs of some heads; heads, and the pairs returned, in sorted order."""
        pairs = [np.zeros((2, 0), dtype=np.int64)]
        for kind, entities in enumerate(self.of_type):
            heads = np.flatnonzero(is_head & allowed[self.types, kind])
            pairs.append(np.stack(self._followers(heads, entities, distance)))
            tails = np.flatnonzero(allowed[kind, self.types])
            heads = entities[is_head[entities]]
            pairs.append(np.stack(self._followers(tails, heads, distance)[::-1]))
        return np.concatenate(pairs, axis=1).T

    def _followers(
        self, entities: IntArray, others: IntArray, distance: int
    ) -> tuple[IntArray, IntArray]:
        """Pair entities with those of the others that stand behind them, at most so far away."""
        limit = self.group_starts[entities] + self.length - 1
        latest = np.minimum(self.ends[entities] + distance, limit)
        first = np.searchsorted(others, self.same_to[entities])
        n_followers = np.searchsorted(self.starts[others], latest, side="right") - first
        before = np.cumsum(n_followers) - n_followers
        position = np.arange(n_followers.sum()) + np.repeat(first - before, n_followers)
        return np.repeat(entities, n_followers), others[position]

    def _distances(self, pairs: IntArray) -> IntArray:
        heads, tails = pairs.T
        apart = np.maximum(
            self.starts[tails] - self.ends[heads], self.starts[heads] - self.ends[tails]
        )
        return np.maximum(0, apart)

    def _sorted(self, pairs: IntArray) -> IntArray:
        """Translate pairs of sorted entities into pairs of the given ones, and order them."""
        pairs = self.order[pairs]
        return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
