"""LocalStack's community edition has no Batch: this one's state machines find it at $BATCH_ENDPOINT, another server.

The client checks parameters against Batch's own model, so that a name that Batch does not know fails the task.
"""
import os

import boto3
from localstack.services.stepfunctions.asl.component.state.state_execution.state_task.service import state_task_service_aws_sdk, state_task_service_batch


def with_batch(original):
    def boto_client_for(service, region, state_credentials):
        if service != "batch":
            return original(service=service, region=region, state_credentials=state_credentials)
        return boto3.client("batch", endpoint_url=os.environ["BATCH_ENDPOINT"], region_name=region, aws_access_key_id="test", aws_secret_access_key="test")

    return boto_client_for


for integration in (state_task_service_aws_sdk, state_task_service_batch):
    integration.boto_client_for = with_batch(integration.boto_client_for)

from localstack.runtime.main import main  # noqa: E402

main()
