"""GFLOP/s of PyTorch's convolutions (f32, channels_last, two threads) at the shapes of benches/conv.rs.

Usage: python benches/peer/conv.py [name part]
"""

import statistics
import sys
import time

import torch

BATCH, SECONDS = 8, 0.6
# name: input channels, output channels, kernel, stride, size of the input, depthwise
SHAPES = {
    "64-64 3x3 @56": (64, 64, 3, 1, 56, False),
    "64-128 3x3/2 @56": (64, 128, 3, 2, 56, False),
    "128-128 3x3 @28": (128, 128, 3, 1, 28, False),
    "256-256 3x3 @14": (256, 256, 3, 1, 14, False),
    "512-512 3x3 @7": (512, 512, 3, 1, 7, False),
    "64-128 1x1/2 @56": (64, 128, 1, 2, 56, False),
    "3-64 7x7/2 @224": (3, 64, 7, 2, 224, False),
    "16-72 1x1 @56": (16, 72, 1, 1, 56, False),
    "96-576 1x1 @7": (96, 576, 1, 1, 7, False),
    "24-88 1x1 @28": (24, 88, 1, 1, 28, False),
    "240-40 1x1 @14": (240, 40, 1, 1, 14, False),
    "depthwise 72 3x3/2 @56": (72, 72, 3, 2, 56, True),
    "depthwise 88 3x3 @28": (88, 88, 3, 1, 28, True),
    "depthwise 240 5x5 @14": (240, 240, 5, 1, 14, True),
    "depthwise 576 5x5 @7": (576, 576, 5, 1, 7, True),
    "depthwise 144 3x3 @56": (144, 144, 3, 1, 56, True),
}


def median_seconds(run):
    for _ in range(3):
        run()
    times, start = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - start < SECONDS:
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def rates(c, k, kernel, stride, size, depthwise):
    pad, groups = kernel // 2, c if depthwise else 1
    x = torch.randn(BATCH, c, size, size).to(memory_format=torch.channels_last)
    w = torch.randn(k, c // groups, kernel, kernel).to(memory_format=torch.channels_last)
    y = torch.nn.functional.conv2d(x, w, None, stride, pad, 1, groups)
    g = torch.randn_like(y).contiguous(memory_format=torch.channels_last)

    def backward(x_wanted, w_wanted):
        torch.ops.aten.convolution_backward(
            g, x, w, None, [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], groups, [x_wanted, w_wanted, False]
        )

    flops = 2 * y.numel() * kernel * kernel * c // groups
    runs = (
        lambda: torch.nn.functional.conv2d(x, w, None, stride, pad, 1, groups),
        lambda: backward(True, False),
        lambda: backward(False, True),
    )
    return [flops / median_seconds(run) / 1e9 for run in runs]


if __name__ == "__main__":
    torch.set_num_threads(2)
    print(f"{'GFLOP/s of torch ' + torch.__version__:32}{'fwd':>8}{'dgrad':>8}{'wgrad':>8}")
    for name, shape in SHAPES.items():
        if all(part in name for part in sys.argv[1:]):
            print(f"{name:32}" + "".join(f"{rate:8.1f}" for rate in rates(*shape)), flush=True)
