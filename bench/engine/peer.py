"""PyTorch's side of `npm run bench -- engine`: the same work as ours, one step for every line on standard input, its seconds and peak memory on standard output.

python peer.py <row> <threads> <nchw|channels_last> <warm-up steps>     (needs torch and torchvision; timm for the transformer rows, open_clip for ConvNeXt)
"""
import copy, resource, sys, time
import torch, torch.nn as nn, torch.nn.functional as F
import torchvision

row, threads, layout, warmup = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
torch.set_num_threads(threads)
torch.manual_seed(0)
memory_format = torch.channels_last if layout == 'channels_last' else torch.contiguous_format


def cifar_resnet18():
    net = torchvision.models.resnet18(num_classes=128)
    net.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    net.maxpool = nn.Identity()
    net.fc = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 128))
    return net


def mocov2(net, batch, size, queue_size=4096, temperature=0.2):
    query, key = net.to(memory_format=memory_format), copy.deepcopy(net).to(memory_format=memory_format)
    optimizer = torch.optim.SGD(query.parameters(), 0.03, momentum=0.9, weight_decay=1e-4)
    queue = F.normalize(torch.randn(queue_size, 128), dim=1)
    images = [torch.randn(batch, 3, size, size).contiguous(memory_format=memory_format) for _ in range(2)]
    def step():
        nonlocal queue
        with torch.no_grad():
            torch._foreach_mul_(list(key.parameters()), 0.999)
            torch._foreach_add_(list(key.parameters()), list(query.parameters()), alpha=0.001)
            k = F.normalize(key(images[1]), dim=1)
        q = F.normalize(query(images[0]), dim=1)
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.T], 1) / temperature
        loss = F.cross_entropy(logits, torch.zeros(batch, dtype=torch.long))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        queue = torch.cat([queue[batch:], k])
        return loss.item()
    return step


class Mocov3(nn.Module):
    """Backbone, projector and predictor with the heads of moco-v3 (hidden 4096, output 256)."""
    def __init__(self, backbone, width, layers):
        super().__init__()
        def mlp(count, inputs, hidden=4096, outputs=256):
            parts = []
            for i in range(count):
                last = i == count - 1
                parts += [nn.Linear(inputs if i == 0 else hidden, outputs if last else hidden, bias=False), nn.BatchNorm1d(outputs if last else hidden, affine=not last)]
                if not last: parts.append(nn.ReLU(inplace=True))
            return nn.Sequential(*parts)
        self.backbone, self.projector, self.predictor = backbone, mlp(layers, width), mlp(2, 256)


def mocov3(model, batch, size, optimizer, temperature=1.0):
    online = model.to(memory_format=memory_format)
    momentum = copy.deepcopy(nn.Sequential(online.backbone, online.projector)).to(memory_format=memory_format)
    moved = list(online.backbone.parameters()) + list(online.projector.parameters())
    optimizer = optimizer([p for p in online.parameters() if p.requires_grad])
    images = [torch.randn(batch, 3, size, size).contiguous(memory_format=memory_format) for _ in range(2)]
    def contrast(q, k):
        logits = F.normalize(q, dim=1) @ F.normalize(k, dim=1).T / temperature
        return F.cross_entropy(logits, torch.arange(batch)) * 2 * temperature
    def step():
        q = [online.predictor(online.projector(online.backbone(x))) for x in images]
        with torch.no_grad():
            torch._foreach_mul_(list(momentum.parameters()), 0.99)
            torch._foreach_add_(list(momentum.parameters()), moved, alpha=0.01)
            k = [momentum(x) for x in images]
        loss = contrast(q[0], k[1]) + contrast(q[1], k[0])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()
    return step


class LARS(torch.optim.Optimizer):
    """moco-v3 moco/optimizer.py: no trust ratio and no weight decay for parameters of one dimension."""
    def __init__(self, params, lr=0.6, weight_decay=1e-6, momentum=0.9, trust=0.001):
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay, momentum=momentum, trust=trust))
    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group['params']:
                if p.grad is None: continue
                d = p.grad
                if p.ndim > 1:
                    d = d.add(p, alpha=group['weight_decay'])
                    size, change = torch.norm(p), torch.norm(d)
                    one = torch.ones_like(size)
                    d = d.mul(torch.where(size > 0, torch.where(change > 0, group['trust'] * size / change, one), one))
                state = self.state[p]
                if 'mu' not in state: state['mu'] = torch.zeros_like(p)
                state['mu'].mul_(group['momentum']).add_(d)
                p.add_(state['mu'], alpha=-group['lr'])


def inference(net, x):
    net = net.eval().to(memory_format=memory_format)
    x = x.contiguous(memory_format=memory_format)
    def step():
        with torch.inference_mode():
            return float(net(x).flatten()[0])
    return step


def build():
    if row == 'resnet18-mocov2': return mocov2(cifar_resnet18(), 64, 32)
    if row == 'resnet50-mocov3':
        net = torchvision.models.resnet50()
        net.fc = nn.Identity()
        return mocov3(Mocov3(net, 2048, 2), 8, 224, LARS)
    import timm
    if row == 'vits-mocov3':
        # As in moco-v3: 12 heads, positions and patch projection not trained.
        net = timm.create_model('vit_small_patch16_224', num_classes=0, num_heads=12)
        for frozen in [net.pos_embed, *net.patch_embed.parameters()]: frozen.requires_grad_(False)
        return mocov3(Mocov3(net, 384, 3), 8, 224, lambda parameters: torch.optim.AdamW(parameters, 1.5e-4, weight_decay=0.1))
    if row == 'vitb-inference':
        net = timm.create_model('vit_base_patch16_224', num_classes=0)
        net.forward = net.forward_features
        return inference(net, torch.randn(16, 3, 224, 224))
    if row == 'convnextb-inference':
        net = timm.create_model('convnext_base', num_classes=0)
        net.forward = net.forward_features
        return inference(net, torch.randn(8, 3, 224, 224))
    raise SystemExit(f'unknown row {row}')


step = build()
for _ in range(warmup): step()
print('ready', flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    step()
    print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)
