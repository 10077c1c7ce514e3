import { defineConfig } from 'vitest/config';

// Two workers at most: onnxruntime and sharp use threads of their own, and the reference machine has two cores.
const common = { maxWorkers: 2, testTimeout: 60_000, hookTimeout: 120_000, environment: 'node' as const };

export default defineConfig({
  test: {
    projects: [
      { test: { ...common, name: 'unit', include: ['test/**/*.test.ts'], exclude: ['test/integration/**'] } },
      { test: { ...common, name: 'integration', include: ['test/integration/**/*.test.ts'], testTimeout: 900_000, hookTimeout: 900_000, fileParallelism: false } },
    ],
  },
});
