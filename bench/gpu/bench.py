"""Checks and times a training step of genview against PyTorch eager. See README.md beside this file.

    python bench.py --network resnet18 --batch 64 --size 224 --precision float16 --device cuda
    python bench.py --network resnet18 --batch 8 --size 64 --classes 10 --steps 3 --runs 3 --warmup 1 --device cpu
"""
import argparse, json, math, os, statistics, subprocess, sys, tempfile, time
from pathlib import Path

import numpy as np
import torch

here = Path(__file__).resolve().parent


def torch_networks():
    """The networks of networks.ts, as their libraries build them."""
    def torchvision(name):
        import torchvision.models
        return lambda size, classes: getattr(torchvision.models, name)(num_classes=classes)

    def timm(name):
        import timm
        return lambda size, classes: timm.create_model(name, num_classes=classes, img_size=size)

    return {'resnet18': lambda: torchvision('resnet18'), 'resnet50': lambda: torchvision('resnet50'), 'vit-base': lambda: timm('vit_base_patch16_224')}


def read_safetensors(file):
    data = Path(file).read_bytes()
    length = int.from_bytes(data[:8], 'little')
    types = {'F32': np.float32, 'I32': np.int32}
    return {name: np.frombuffer(data[8 + length + entry['data_offsets'][0]:8 + length + entry['data_offsets'][1]], types[entry['dtype']]).reshape(entry['shape']).copy()
            for name, entry in json.loads(data[8:8 + length]).items() if name != '__metadata__'}


def time_torch(program, state, batches, device, runs, warmup, tf32, exact=False):
    """Losses of all steps, and the seconds of every step behind the warm-up. `exact`: in float64."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    network = torch_networks()[program['network']]()(program['size'], program['classes'])
    expected = {name for name in network.state_dict() if not name.endswith('num_batches_tracked')}
    given = {name: torch.from_numpy(value) for name, value in state.items() if '/' not in name}
    if expected != set(given):
        sys.exit(f'tensors differ from PyTorch\'s: {sorted(expected ^ set(given))[:6]}')
    network.load_state_dict(given, strict=False)
    network = network.to(device, torch.float64 if exact else torch.float32).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=program['learningRate'], momentum=0.9, weight_decay=1e-4)
    half = {'float32': None, 'float16': torch.float16, 'bfloat16': torch.bfloat16}['float32' if exact else program['precision']]
    scaler = torch.amp.GradScaler(device.type, enabled=half == torch.float16)
    images = torch.from_numpy(batches['images']).to(device, torch.float64 if exact else torch.float32)
    labels = torch.from_numpy(batches['labels']).long().to(device)

    def synchronize():
        if device.type == 'cuda':
            torch.cuda.synchronize(device)

    losses, seconds = [], []
    for run in range(runs + warmup):
        k = run % program['steps']
        synchronize()
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype=half, enabled=half is not None):
            loss = torch.nn.functional.cross_entropy(network(images[k]), labels[k])
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        synchronize()
        if run >= warmup:
            seconds.append(time.perf_counter() - start)
        losses.append(loss.item())
    return {'losses': losses, 'seconds': seconds}


def time_node(folder, node, device, runs, warmup, tf32):
    """What time.ts prints: the same steps in onnxruntime-node; a line of the reason when it cannot."""
    command = [node, *(['--import', 'tsx', str(here / 'time.ts')] if (here / 'time.ts').exists() else [str(here / 'time.mjs')]),
               '--folder', str(folder), '--device', device, '--runs', str(runs), '--warmup', str(warmup)]
    ended = subprocess.run(command, cwd=here, capture_output=True, text=True, env={**os.environ, 'GENVIEW_TF32': '1' if tf32 else '0'})
    if ended.returncode != 0:
        lines = [line for line in ended.stderr.splitlines() if 'cannot be had' in line or 'Error' in line] or ended.stderr.splitlines() or ['no message']
        return {'problem': lines[0].strip()}
    return json.loads(ended.stdout.splitlines()[-1])


def time_python(folder, program, state, batches, device, runs, warmup, tf32):
    """The same programs in Python's onnxruntime, the state bound to device memory between runs."""
    try:
        import onnxruntime
    except ImportError:
        return {'problem': 'onnxruntime is not installed in this Python'}
    if device.type == 'cuda' and 'CUDAExecutionProvider' not in onnxruntime.get_available_providers():
        return {'problem': 'this Python\'s onnxruntime has no CUDA provider (install onnxruntime-gpu)'}
    index = device.index or 0
    place = ('cuda', index) if device.type == 'cuda' else ('cpu', 0)
    providers = [('CUDAExecutionProvider', {'device_id': index, 'use_tf32': int(tf32)})] if device.type == 'cuda' else []

    def run_all(file, inputs_of, runs, warmup):
        start = time.perf_counter()
        try:
            session = onnxruntime.InferenceSession(str(folder / file), providers=[*providers, 'CPUExecutionProvider'])
        except Exception as error:
            return {'problem': str(error).splitlines()[0]}
        if device.type == 'cuda' and session.get_providers()[0] != 'CUDAExecutionProvider':
            return {'problem': 'onnxruntime fell back to the CPU; its CUDA libraries do not load'}
        load = time.perf_counter() - start
        known, outputs = {node.name for node in session.get_inputs()}, [node.name for node in session.get_outputs()]
        value = lambda array: onnxruntime.OrtValue.ortvalue_from_numpy(np.asarray(array, order='C'), *place)
        # Momentum begins at zero and is not in the file.
        first = {f'state/{name}': array for name, array in state.items()}
        first |= {f'state/momentum/{name}': np.zeros_like(array) for name, array in state.items()}
        held = {name: value(array) for name, array in first.items() if name in known}
        losses, seconds = [], []
        for run in range(runs + warmup):
            inputs = inputs_of(run)
            start = time.perf_counter()
            binding = session.io_binding()
            for name, given in {**{n: value(a) for n, a in inputs.items()}, **held}.items():
                binding.bind_ortvalue_input(name, given)
            for name in outputs:
                binding.bind_output(name, *(('cpu',) if not name.startswith('state/') else place))
            session.run_with_iobinding(binding)
            results = dict(zip(outputs, binding.get_outputs()))
            losses += np.atleast_1d(results['loss'].numpy()).tolist()
            if run >= warmup:
                seconds.append(time.perf_counter() - start)
            held = {name: results.get(f'{name}:next', given) for name, given in held.items()}
        return {'losses': losses, 'seconds': seconds, 'load': load}

    rate = np.float32(program['learningRate'])
    steps = program['steps']
    return {'engine': f'onnxruntime {onnxruntime.__version__} for Python', 'device': str(device),
            'single': run_all('step.onnx', lambda run: {**{name: array[run % steps] for name, array in batches.items()}, 'learningRate': rate}, runs, warmup),
            'looped': run_all('loop.onnx', lambda run: {**batches, 'learningRate': np.full(steps, rate)}, max(1, round(runs / steps)), math.ceil(warmup / steps))}


def main():
    parser = argparse.ArgumentParser(description='Checks and times a training step of genview against PyTorch eager.')
    parser.add_argument('--programs', type=Path, help='folder that export.ts has written; without it, it is written now (needs node_modules)')
    parser.add_argument('--network', default='resnet18')
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--size', type=int, default=224)
    parser.add_argument('--classes', type=int, default=1000)
    parser.add_argument('--precision', choices=['float32', 'float16', 'bfloat16'], default='float32')
    parser.add_argument('--steps', type=int, default=10, help='steps in one Loop')
    parser.add_argument('--runs', type=int, default=20, help='steps to time')
    parser.add_argument('--warmup', type=int, default=5)
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--no-tf32', action='store_true', help='products in full float32')
    parser.add_argument('--tolerance', type=float, help='relative error of the first two losses that is always allowed (default: 1e-3 in float32 without TF32, else 5e-2)')
    parser.add_argument('--node', default='node')
    args = parser.parse_args()
    device = torch.device(args.device)
    if device.type == 'cuda' and not torch.cuda.is_available():
        sys.exit('PyTorch sees no GPU; try --device cpu')

    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.programs or Path(temporary)).resolve()
        if args.programs is None:
            subprocess.run([args.node, '--import', 'tsx', 'export.ts', '--out', str(folder), *(part for name in ('network', 'batch', 'size', 'classes', 'precision', 'steps')
                           for part in (f'--{name}', str(getattr(args, name))))], cwd=here, check=True)
        program = json.loads((folder / 'program.json').read_text())
        state, batches = read_safetensors(folder / 'state.safetensors'), read_safetensors(folder / 'batches.safetensors')
        tf32 = not args.no_tf32
        measured = {
            'node': time_node(folder, args.node, args.device, args.runs, args.warmup, tf32),
            'python': time_python(folder, program, state, batches, device, args.runs, args.warmup, tf32),
        }
        reference = time_torch(program, state, batches, device, args.runs, args.warmup, tf32)
        exact = time_torch(program, state, batches, device, min(2, program['steps']), 0, tf32, exact=True)['losses']

    tolerance = args.tolerance or (1e-3 if program['precision'] == 'float32' and (device.type == 'cpu' or not tf32) else 5e-2)
    print(f"{program['network']}, batch {program['batch']}, {program['size']} pixels, {program['precision']}, device {args.device}"
          f"{torch.cuda.get_device_name(device).join([' (', ')']) if device.type == 'cuda' else ''}, tf32 {tf32}")
    milliseconds = lambda seconds: 1000 * statistics.median(seconds)
    base = milliseconds(reference['seconds'])
    print(f'PyTorch {torch.__version__} eager: {base:.1f} ms a step')
    failed = False
    for name, engine in measured.items():
        for kind, per_run in (('single', 1), ('looped', program['steps'])):
            result = engine if 'problem' in engine else engine[kind]
            label = f"{engine.get('engine', f'onnxruntime ({name})')}, {'one step a run' if kind == 'single' else f'{per_run} steps a run'}"
            if 'problem' in result:
                print(f"{label}: not measured: {result['problem']}")
                continue
            # The first loss says that the forward pass is the same, the second that the gradients are: as far from the exact one as PyTorch's
            # own may be. In a deep network that is far: a rounding that turns one ReLU grows from layer to layer.
            found = [(a / e - 1, b / e - 1) for a, b, e in zip(result['losses'], reference['losses'], exact)]
            agrees = all(abs(ours) < max(tolerance, 4 * abs(theirs)) for ours, theirs in found)
            failed |= not agrees
            each = milliseconds(result['seconds']) / per_run
            print(f"{label}: {each:.1f} ms a step ({each / base:.2f} x PyTorch), loaded in {result['load']:.1f} s; "
                  f"first losses {'agree' if agrees else 'DISAGREE'}, off by {' and '.join(f'{ours:.1e}' for ours, _ in found)} (PyTorch: {' and '.join(f'{theirs:.1e}' for _, theirs in found)})")
    print(json.dumps({'program': program, 'exact': exact, 'torch': reference, **measured}))
    if failed or not any('seconds' in engine.get('single', {}) for engine in measured.values()):
        sys.exit(1)


if __name__ == '__main__':
    main()
