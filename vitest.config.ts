import { defineConfig } from 'vitest/config';

// Two workers at most: onnxruntime and sharp use threads of their own, and the reference machine has two cores.
// A time limit is for what hangs, not for what is slow: a busy machine may take ten times as long.
const common = { maxWorkers: 2, testTimeout: 180_000, hookTimeout: 180_000, environment: 'node' as const };

export default defineConfig({
  test: {
    projects: [
      { test: { ...common, name: 'unit', include: ['test/**/*.test.ts'], exclude: ['test/integration/**'] } },
      { test: { ...common, name: 'integration', include: ['test/integration/**/*.test.ts'], testTimeout: 900_000, hookTimeout: 900_000, fileParallelism: false } },
    ],
  },
});
