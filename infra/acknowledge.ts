import { Validations } from 'aws-cdk-lib';
import type { IConstruct } from 'constructs';

/**
 * Accepts findings of cdk-nag (AwsSolutions) on a construct and what is below it, each by its full name and with the reason.
 * @example acknowledge(role, { 'AwsSolutions-IAM5[Resource::*]': 'ecr:GetAuthorizationToken knows no resources.' });
 */
export function acknowledge(construct: IConstruct, findings: Readonly<Record<string, string>>): void {
  Validations.of(construct).acknowledge(...Object.entries(findings).map(([id, reason]) => ({ id, reason })));
}
