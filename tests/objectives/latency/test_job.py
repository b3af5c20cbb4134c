import json
from collections.abc import Callable
from dataclasses import replace

from protege.objectives.latency import Plan, SavedModel, Workload
from protege.objectives.latency.device.loop import Sample
from protege.objectives.latency.job import Job, Question, Setting, Trace
from protege.spaces.models.blueprint import Blueprint


def test_a_job_reads_back_from_json_as_it_was(encoder: Callable[[int], Blueprint]) -> None:
    models = (encoder(2), SavedModel("BertModel", "/somewhere"))
    job = Job(models, Workload(2, 8, 0), Setting(2, cores=(0, 1)), Plan(back_off_s=(1.0, 2.0)))
    weighs = replace(job, question=Question("memory", windows=2))
    assert Job.of(json.loads(json.dumps(job.record()))) == job
    assert Job.of(json.loads(json.dumps(weighs.record()))) == weighs


def test_a_trace_reads_back_from_json_as_it_was() -> None:
    row = (Sample(1.5, 1.25, 0, 0.5, 0.25), Sample(2.5, 2.25, 3, 1.5, 1.25))
    trace = Trace((9.0, 8.0), (row, row))
    assert Trace.of(json.loads(json.dumps(trace.record()))) == trace
    assert trace.samples == (*row, *row)
