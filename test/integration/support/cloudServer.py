"""moto's server, with three additions for the tests of the commands that drive a cloud run:

- Batch jobs are processes of this machine: `sh -c $JOB_SCRIPT <command of the job>`, with the AWS_BATCH_JOB_* variables; their
  output goes to CloudWatch Logs; TerminateJob sends SIGTERM, and a job that is left running keeps its status.
- `batch:submitJob.sync` speaks Batch's own spelling of names to it (jobName) and the state machine's to the states (JobName).
- RedriveExecution, which moto lacks: a stopped execution of the same input starts again under its own name.

Usage: cloudServer.py <port>. Executions run for real (moto's interpreter, JSONPath only).
"""
import datetime
import os
import signal
import subprocess
import sys
import threading
import time

port = sys.argv[1]
os.environ["MOTO_PORT"] = port
os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")

from moto.batch.models import Job  # noqa: E402
from moto.core import config  # noqa: E402
from moto.core.responses import ActionResult  # noqa: E402
from moto.stepfunctions.exceptions import AWSError  # noqa: E402
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_batch import StateTaskServiceBatch  # noqa: E402
from moto.stepfunctions.responses import StepFunctionResponse  # noqa: E402

config.default_user_config["stepfunctions"]["execute_state_machine"] = True
script = os.environ["JOB_SCRIPT"]


def run(job):
    index = job.array_properties.get("index")
    environment = {**os.environ, "AWS_BATCH_JOB_ID": job.job_id, "AWS_BATCH_JOB_ATTEMPT": "1"}
    if index is not None:
        environment["AWS_BATCH_JOB_ARRAY_INDEX"] = str(index)
    command = job._get_container_property("command", [])
    job.job_started_at = datetime.datetime.now()
    job.log_stream_name = job._stream_name
    job._start_attempt()
    job.status = "RUNNING"
    group = job.job_definition.container_properties.get("logConfiguration", {}).get("options", {}).get("awslogs-group", "/aws/batch/job")
    logs = job._log_backend
    logs.ensure_log_group(group)
    logs.ensure_log_stream(group, job.log_stream_name)
    child = subprocess.Popen(["sh", "-c", script, "job", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True)

    def read():
        for line in child.stdout:
            logs.put_log_events(group, job.log_stream_name, [{"timestamp": int(time.time() * 1000), "message": line.rstrip("\n")}])

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    while child.poll() is None:
        if job.stop:
            os.killpg(child.pid, signal.SIGTERM)
        time.sleep(0.05)
    reader.join(5)
    job.exit_code = child.returncode if child.returncode >= 0 else 128 - child.returncode
    job.latest_attempt["container"]["exitCode"] = job.exit_code
    job.latest_attempt["statusReason"] = job.job_stopped_reason or "Essential container in task exited"
    job.job_stopped_reason = job.job_stopped_reason or "Essential container in task exited"
    job._mark_stopped(success=job.exit_code == 0)


def terminate(job, reason):
    job.stop = True
    job.job_stopped_reason = job.job_stopped_reason or reason
    for child in job._child_jobs or []:
        terminate(child, reason)


def follow_children(job):
    """An array job's own status follows its children's, as in AWS."""
    if job._child_jobs:
        statuses = [child.status for child in job._child_jobs]
        if all(status in ("SUCCEEDED", "FAILED") for status in statuses):
            job.status = "FAILED" if "FAILED" in statuses else "SUCCEEDED"
        else:
            job.status = "PENDING"


def describe(job, original=Job.describe):
    follow_children(job)
    result = original(job)
    if job.array_properties.get("index") is not None:
        result["arrayProperties"] = {"index": job.array_properties["index"]}
    options = job.job_definition.container_properties.get("logConfiguration")
    if options:
        result["container"]["logConfiguration"] = options
    return result


def describe_short(job, original=Job.describe_short):
    follow_children(job)
    result = original(job)
    if job._child_jobs:
        result["arrayProperties"] = {"size": len(job._child_jobs)}
    if job.array_properties.get("index") is not None:
        result["arrayProperties"] = {"index": job.array_properties["index"]}
    return result


Job.run, Job.terminate, Job.describe, Job.describe_short = run, terminate, describe, describe_short


def renamed(value, first):
    """Keys of a document with another first letter; what users named themselves (environment, parameters) are values here."""
    if isinstance(value, dict):
        return {first(key[0]) + key[1:]: renamed(part, first) for key, part in value.items()}
    return [renamed(part, first) for part in value] if isinstance(value, list) else value


def in_place(value, first):
    changed = renamed(value, first)
    value.clear()
    value.update(changed)


StateTaskServiceBatch._normalise_parameters = lambda _self, parameters, *_args, **_more: in_place(parameters, str.lower)
StateTaskServiceBatch._normalise_response = lambda _self, response, *_args, **_more: in_place(response, str.upper)


class NotRedrivable(AWSError):
    TYPE = "ExecutionNotRedrivable"
    STATUS = 400


def redrive_execution(self):
    arn = self._get_param("executionArn")
    backend = self.stepfunction_backend
    execution = backend.describe_execution(arn)
    if execution.status not in ("ABORTED", "FAILED", "TIMED_OUT"):
        raise NotRedrivable(f"Execution is {execution.status} and cannot be redriven")
    machine = backend.describe_state_machine(execution.state_machine_arn)
    machine.executions.remove(execution)
    backend.start_execution(machine.arn, execution.name, execution.execution_input if isinstance(execution.execution_input, str) else __import__("json").dumps(execution.execution_input))
    return ActionResult({"redriveDate": datetime.datetime.now()})


StepFunctionResponse.redrive_execution = redrive_execution

from moto.server import main  # noqa: E402

main(["-H", "127.0.0.1", "-p", port])
