"""Bodies of requests that are anything, and often look like events or slates."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from tests.service.running import event

EVENTS = st.fixed_dictionaries(
    {},
    optional={
        name: st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
        for name in event()
    },
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | EVENTS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["events", "user_id", "candidates", "weights", "top_k"]) | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
BODIES = st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode())

UNREADABLE = {
    "310 digits": b"9" * 310,
    "5,000 digits": b"9" * 5000,
    "deep arrays": b"[" * 5000 + b"]" * 5000,
    "deep objects": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "an infinite float": b"1e999",
    "a lone surrogate": b'"\\ud800"',
}
"""JSON that Python holds in no number, in no object, or in no UTF-8, by its name."""
