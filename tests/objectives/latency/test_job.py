import json

from protege.objectives.latency.device.loop import Sample
from protege.objectives.latency.job import Trace


def test_a_trace_reads_back_from_json_as_it_was() -> None:
    row = (Sample(1.5, 1.25, 0, 0.5, 0.25), Sample(2.5, 2.25, 3, 1.5, 1.25))
    trace = Trace((9.0, 8.0), (row, row))
    assert Trace.of(json.loads(json.dumps(trace.record()))) == trace
    assert trace.samples == (*row, *row)
