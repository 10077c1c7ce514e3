declare module 'asl-validator' {
  /** JSON schema, JSONata syntax and ARNs of a state machine. */
  export default function validate(definition: object): { isValid: boolean; errors: unknown[]; errorsText: (separator?: string) => string };
}
