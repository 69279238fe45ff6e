"""What the harness of whole directories found, in words."""

from __future__ import annotations

from tests.fuzz.directory import chunk_record, directory_of, image_page, place_pages, proof_page, record, start
from trio_pb.storage.disk import run
from trio_pb.storage.inspect import survey


def test_a_survey_takes_the_certified_checkpoint_where_the_own_one_is_damaged() -> None:
    """As a start does (R-SCAN 1): the state is not lost."""
    records = b"".join(map(record, range(1, 7)))
    certified = b"".join(map(chunk_record, range(4)))
    disk = directory_of(place_pages(image_page(1) * 4 + proof_page(6) * 2 + records + certified))
    seen = run(disk.copy(), survey()).recovered
    found, _ = start(disk)
    assert seen is not None
    assert found is not None
    assert not found.is_state_lost
    assert not seen.is_state_lost
