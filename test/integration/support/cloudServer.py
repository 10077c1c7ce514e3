"""moto's server, with additions for the tests of what drives a cloud run:

- Batch jobs are processes of this machine: `sh -c $JOB_SCRIPT <command of the job>`, with the AWS_BATCH_JOB_* variables; their
  output goes to CloudWatch Logs; TerminateJob sends SIGTERM, and a job that is left running keeps its status.
- Multi-node jobs (nodeOverrides on a definition of type multinode): one process a node, `<id>#<n>` in DescribeJobs, whose container
  the parent does not have; the parent's status is the main node's, and what it leaves running ends with it.
- `batch:submitJob.sync`, and `aws-sdk:batch:*`, speak Batch's own spelling of names to it (jobName) and the state machine's to the
  states (JobName).
- RedriveExecution, which moto lacks: a stopped execution of the same input starts again under its own name.

Usage: cloudServer.py <port>. Executions run for real (moto's interpreter, JSONPath only).
"""
import copy
import datetime
import json
import os
import signal
import subprocess
import sys
import threading
import time
import types

port = sys.argv[1]
os.environ["MOTO_PORT"] = port
os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")

import botocore.session  # noqa: E402
from moto.batch.exceptions import ClientException  # noqa: E402
from moto.batch.models import Job  # noqa: E402
from moto.batch.responses import BatchResponse  # noqa: E402
from moto.core import config  # noqa: E402
from moto.core.responses import ActionResult  # noqa: E402
from moto.stepfunctions.exceptions import AWSError  # noqa: E402
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_aws_sdk import StateTaskServiceAwsSdk  # noqa: E402
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_batch import StateTaskServiceBatch  # noqa: E402
from moto.stepfunctions.responses import StepFunctionResponse  # noqa: E402

config.default_user_config["stepfunctions"]["execute_state_machine"] = True
script = os.environ["JOB_SCRIPT"]


def run(job):
    if nodes_of(job):
        return run_nodes(job)
    index = job.array_properties.get("index")
    environment = {**os.environ, "AWS_BATCH_JOB_ID": job.job_id, "AWS_BATCH_JOB_ATTEMPT": "1"}
    if index is not None:
        environment["AWS_BATCH_JOB_ARRAY_INDEX"] = str(index)
    environment.update(getattr(job, "node_environment", {}))
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
    for child in [*(job._child_jobs or []), *nodes_of(job)]:
        terminate(child, reason)


def follow_children(job):
    """An array job's own status follows its children's, as in AWS."""
    if job._child_jobs:
        statuses = [child.status for child in job._child_jobs]
        if all(status in ("SUCCEEDED", "FAILED") for status in statuses):
            job.status = "FAILED" if "FAILED" in statuses else "SUCCEEDED"
        else:
            job.status = "PENDING"


def nodes_of(job):
    """Of a multi-node job; nodes have none."""
    return getattr(job, "node_jobs", [])


def run_nodes(job):
    nodes = nodes_of(job)
    main = nodes[job.main_node]
    job.job_started_at = datetime.datetime.now()
    job._start_attempt()
    for node in nodes:
        node.start()
    while main.is_alive():
        if main.status == "RUNNING":
            job.status = "RUNNING"
        time.sleep(0.05)
    for node in nodes:
        terminate(node, "Host terminated: the main node has ended")
    for node in nodes:
        node.join()
    del job.latest_attempt["container"]
    job.job_stopped_reason = job.job_stopped_reason or main.job_stopped_reason
    job.latest_attempt["statusReason"] = job.job_stopped_reason
    job._mark_stopped(success=main.exit_code == 0)


def nodes_in(target, count):
    """`0:`, `:3`, `1:2` or `4` -> its nodes; one that ends beyond the job is refused."""
    first, colon, last = target.partition(":")
    begin = int(first or 0)
    end = begin if not colon else int(last) if last else count - 1
    if end >= count or begin > end:
        raise ClientException(f"Target nodes {target} are not nodes of a job of {count}")
    return range(begin, end + 1)


def submit_nodes(backend, request, definition):
    overrides = request.get("nodeOverrides") or {}
    if "containerOverrides" in request:
        raise ClientException("Container overrides should not be set for a multi-node parallel job.")
    if request.get("arrayProperties"):
        raise ClientException("Array properties should not be set for a multi-node parallel job.")
    properties = definition.node_properties
    count = overrides.get("numNodes", properties["numNodes"])
    ranges = properties["nodeRangeProperties"]
    if count != properties["numNodes"] and not any(part["targetNodes"].endswith(":") for part in ranges):
        raise ClientException("The number of nodes can only be overridden with an open range of nodes.")
    containers, commands = {}, {}
    for part in ranges:
        containers.update({node: part["container"] for node in nodes_in(part["targetNodes"], count)})
    for part in overrides.get("nodePropertyOverrides", []):
        commands.update({node: part.get("containerOverrides", {}) for node in nodes_in(part["targetNodes"], count)})
    if sorted(containers) != list(range(count)):
        raise ClientException("The ranges of nodes do not account for all nodes.")
    queue = backend.get_job_queue(request["jobQueue"])
    if queue is None:
        raise ClientException(f"Job queue {request['jobQueue']} does not exist")
    common = {"log_backend": backend.logs_backend, "eks_properties_override": None, "depends_on": None, "parameters": None, "timeout": None, "all_jobs": backend._jobs, "array_properties": {}}
    job = Job(request["jobName"], definition, queue, backend, container_overrides=None, tags=request.get("tags"), **common)
    job.main_node = properties["mainNode"]
    job.node_properties = {**properties, "numNodes": count}
    job.node_jobs = []
    backend._jobs[job.job_id] = job
    # ListJobs of the queue knows the parent only.
    beside = types.SimpleNamespace(jobs=[], arn=queue.arn)
    for index in range(count):
        single = copy.copy(definition)
        single.type, single.node_properties, single.container_properties = "container", None, containers[index]
        node = Job(request["jobName"], single, beside, backend, container_overrides=commands.get(index), provided_job_id=f"{job.job_id}#{index}", **common)
        node.node_index = index
        node.node_environment = {"AWS_BATCH_JOB_NODE_INDEX": str(index), "AWS_BATCH_JOB_NUM_NODES": str(count), "AWS_BATCH_JOB_MAIN_NODE_INDEX": str(job.main_node)}
        if index != job.main_node:
            node.node_environment["AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS"] = "127.0.0.1"
        node.is_main = index == job.main_node
        job.node_jobs.append(node)
        backend._jobs[node.job_id] = node
    job.start()
    return json.dumps({"jobId": job.job_id, "jobName": job.job_name, "jobArn": job.arn})


def submit(self, original=BatchResponse.submitjob):
    request = json.loads(self.body)
    definition = self.batch_backend.get_job_definition(request["jobDefinition"])
    if definition is not None and definition.type == "multinode":
        return submit_nodes(self.batch_backend, request, definition)
    if "nodeOverrides" in request:
        raise ClientException("Node overrides should only be set for a multi-node parallel job.")
    return original(self)


BatchResponse.submitjob = submit


def describe(job, original=Job.describe):
    follow_children(job)
    result = original(job)
    if nodes_of(job):
        del result["container"]
        result["nodeProperties"] = job.node_properties
        return result
    if hasattr(job, "node_index"):
        result["nodeDetails"] = {"nodeIndex": job.node_index, "isMainNode": job.is_main}
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
    if nodes_of(job):
        result["nodeProperties"] = {"numNodes": len(nodes_of(job))}
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


def shapes(task):
    """Of what an action of the SDK integration takes and gives."""
    model = botocore.session.get_session().get_service_model(task._get_boto_service_name())
    name = task.resource.api_action
    return model.operation_model(name[0].upper() + name[1:])


StateTaskServiceAwsSdk._normalise_parameters = lambda self, parameters, *_args, **_more: self._to_boto_request(parameters, shapes(self).input_shape)
StateTaskServiceAwsSdk._normalise_response = lambda self, response, *_args, **_more: self._from_boto_response(response, shapes(self).output_shape)


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
    backend.start_execution(machine.arn, execution.name, execution.execution_input if isinstance(execution.execution_input, str) else json.dumps(execution.execution_input))
    return ActionResult({"redriveDate": datetime.datetime.now()})


StepFunctionResponse.redrive_execution = redrive_execution

from moto.server import main  # noqa: E402

main(["-H", "127.0.0.1", "-p", port])
