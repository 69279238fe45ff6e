"""What clients of the lock service ask, as a Hypothesis strategy; it is for tests, and the service does without it."""

from __future__ import annotations

from hypothesis import strategies as st

from examples.locks import ACQUIRE, HOLDER, RELEASE
from trio_pb import canonical
from trio_pb.testing import Command, Query

NAMES = st.sampled_from(["door", "cellar", "attic", ""]).map(lambda name: canonical.encode([name]))
requests = st.one_of(
    st.builds(Command, st.sampled_from([ACQUIRE, RELEASE]), NAMES),
    st.builds(Query, st.just(HOLDER), NAMES, st.booleans()),
)
