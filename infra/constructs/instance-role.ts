import { Stack } from 'aws-cdk-lib';
import { PolicyStatement, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import type { Construct } from 'constructs';
import { acknowledge } from '../acknowledge.ts';

/**
 * What the ECS agent of an instance may do: take part in a cluster, and no more. Images are pulled and logs written with the
 * jobs' execution role.
 */
export function instanceRole(scope: Construct): Role {
  const role = new Role(scope, 'InstanceRole', { assumedBy: new ServicePrincipal('ec2.amazonaws.com'), description: 'GenView machines: their ECS agent.' });
  const arn = (resource: string): string => Stack.of(scope).formatArn({ service: 'ecs', resource, resourceName: '*' });
  const allow = (actions: string[], resources: string[]): void => { role.addToPolicy(new PolicyStatement({ actions, resources })); };
  allow(['ecs:RegisterContainerInstance', 'ecs:DeregisterContainerInstance', 'ecs:SubmitAttachmentStateChanges', 'ecs:SubmitContainerStateChange', 'ecs:SubmitTaskStateChange'], [arn('cluster')]);
  allow(['ecs:Poll', 'ecs:StartTelemetrySession', 'ecs:UpdateContainerInstancesState', 'ecs:TagResource'], [arn('container-instance')]);
  allow(['ecs:DiscoverPollEndpoint', 'ec2:DescribeTags'], ['*']);
  acknowledge(role, {
    'AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:ecs:<AWS::Region>:<AWS::AccountId>:cluster/*]': 'AWS Batch makes the cluster and its name.',
    'AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:ecs:<AWS::Region>:<AWS::AccountId>:container-instance/*]': 'The identity of an instance is made when it registers.',
    'AwsSolutions-IAM5[Resource::*]': 'ecs:DiscoverPollEndpoint and ec2:DescribeTags know no resources.',
  });
  return role;
}
