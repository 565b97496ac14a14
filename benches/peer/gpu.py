"""Training speed on a GPU: our program beside PyTorch eager, in a CUDA graph, and compiled.

    python benches/peer/gpu.py --ours target/release/roentgen                          all ten nets, bf16, batch 128
    python benches/peer/gpu.py --ours target/release/roentgen --models resnet50 --batches 128,256 --variants eager,graph,compile,compile+graph
    python benches/peer/gpu.py --ceilings --profile resnet50,efficientnet_b3       what the GPU can do at most, and where PyTorch's time goes
    python benches/peer/gpu.py --device cpu --models resnet18 --size 64 --batches 2 --steps 2 --blocks 2      a trial of the script itself

A step is forward, cross-entropy over 1000 classes (inception_v3: plus 0.4 times its auxiliary one), backward and SGD with momentum and
weight decay; channels_last, autocast with cuDNN's search on, the fused optimiser; random images that lie on the device. Contenders take
turns in blocks of --steps steps, so that clocks and heat meet all alike, and the median block counts; ours is a process of its own that
runs before the first and the last block. Nets whose contenders would not fit side by side run one after the other. Without PyTorch only
ours is measured. Nothing starts after --budget seconds. With --turn, what has to be compiled is compiled at once, under a shared lock on
a file, and the rest waits until it has the lock alone: so several of these scripts can compile at a time and measure in turn.

Output: a JSON line on the machine, then one a net and batch size; a table on stderr. `roentgen bench --json` ends with a line of JSON that
has `ms_per_step` (a list) and `loss` (first, last); everything else in it (`kernels`, the launches of a step, `profile`, its kernels with
their milliseconds, `recorded`, whether the device replays a step, `device_peak_mb`, to be held against peak_mb) is passed on.
"""

import argparse
import fcntl
import json
import re
import statistics
import subprocess
import sys
import time

try:
    import torch
    import torchvision
except ImportError:
    torch = None

SIZES = {"resnet18": 224, "resnet34": 224, "resnet50": 224, "vgg16": 224, "efficientnet_b3": 300, "efficientnet_b4": 380,
         "inception_v3": 299, "densenet121": 224, "mobilenet_v3_small": 224, "mobilenet_v3_large": 224}
CLASSES = 1000
# Fixed batches that are cycled through, so that no step finds its input in a cache.
BATCHES = 4
# Pixels of a batch beyond which contenders run one after the other; swish, three tensors an activation, counts threefold, and single
# precision twofold. Ours needs the room to keep a recorded step.
MOST_PIXELS = 3e7
VARIANTS = ["eager", "graph", "compile", "compile+graph"]
# Seconds that must be left to start a net, and another block.
LEAST_FOR_NET, LEAST_FOR_BLOCK = 25, 15


# What a kernel of PyTorch is for, by the first pattern that its name has.
PURPOSES = {
    "batch norm": r"batch_?norm|bn_(fw|bw)|\bbn\b",
    "convolution": r"conv|fprop|dgrad|wgrad|xmma|gemm|nvjet|cutlass|implicit",
    "optimiser": r"multi_tensor|foreach|Optimizer|sgd",
    "pooling": r"pool|reduce_kernel",
    "elementwise": r"elementwise|vectorized|copy|fill|Cat|dropout",
}


class Peer:
    """A network of torchvision in training, as one variant runs it: built and compiled, and ready after `start`."""

    def __init__(self, model, size, batch, variant, options):
        torch.manual_seed(0)
        device = torch.device(options.device)
        self.cuda = device.type == "cuda"
        self.autocast = {"bf16": torch.bfloat16, "f16": torch.float16}.get(options.dtype)
        settings = {"init_weights": False} if model == "inception_v3" else {}
        net = torchvision.models.get_model(model, weights=None, **settings)
        self.net = net.to(device, memory_format=torch.channels_last).train()
        image = lambda: torch.randn(batch, 3, size, size, device=device).to(memory_format=torch.channels_last)
        self.batches = [(image(), torch.randint(0, CLASSES, (batch,), device=device)) for _ in range(BATCHES)]
        self.optimiser = torch.optim.SGD(self.net.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-5, fused=self.cuda)
        self.scaler = torch.amp.GradScaler(options.device) if options.dtype == "f16" else None
        self.forward, self.variant = self.net, variant.split("+")
        self.steps, self.graph = 0, None
        if "compile" in self.variant:
            self.forward = torch.compile(self.net, mode=options.compile_mode, dynamic=False)
            self.step()
            if self.cuda:
                torch.cuda.empty_cache()

    def start(self, warmup):
        """The steps before the first that is timed; the most memory that they took, in MB, is in `peak`."""
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() if self.cuda else 0
        self.first_loss = float(self.step().detach())
        if "graph" in self.variant:
            self.capture(warmup)
        for _ in range(warmup):
            self.step()
        self.sync()
        # Weights and batches were there before.
        self.peak = (torch.cuda.max_memory_allocated() - before + self.held()) >> 20 if self.cuda else 0

    def held(self):
        tensors = [*self.net.parameters(), *self.net.buffers(), *(tensor for batch in self.batches for tensor in batch)]
        return sum(tensor.nbytes for tensor in tensors)

    def sync(self):
        if self.cuda:
            torch.cuda.synchronize()

    def train(self, x, y):
        """A step from unset gradients. It leaves them set: captured, it then overwrites them at each replay."""
        with torch.autocast(x.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            out = self.forward(x)
            logits, *auxiliary = out if isinstance(out, tuple) else (out,)
            loss = torch.nn.functional.cross_entropy(logits, y)
            for logits in auxiliary:
                loss = loss + 0.4 * torch.nn.functional.cross_entropy(logits, y)
        if self.scaler:
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimiser)
            self.scaler.update()
        else:
            loss.backward()
            self.optimiser.step()
        return loss

    def capture(self, warmup):
        self.x, self.y = (tensor.clone() for tensor in self.batches[0])
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(warmup):
                self.train(self.x, self.y)
                self.optimiser.zero_grad(set_to_none=True)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.loss = self.train(self.x, self.y)

    def step(self):
        x, y = self.batches[self.steps % BATCHES]
        self.steps += 1
        if self.graph:
            self.x.copy_(x)
            self.y.copy_(y)
            self.graph.replay()
            return self.loss
        loss = self.train(x, y)
        self.optimiser.zero_grad(set_to_none=True)
        return loss

    def block(self, steps):
        """Milliseconds a step, those of them that the host was busy with launching, and the last loss."""
        self.sync()
        start = time.perf_counter()
        for _ in range(steps):
            loss = self.step()
        launched = time.perf_counter()
        self.sync()
        done = time.perf_counter()
        return 1e3 * (done - start) / steps, 1e3 * (launched - start) / steps, float(loss.detach())


def profile(peer):
    """Milliseconds of a step's kernels by purpose, and of the longest by name."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        peer.step()
        peer.sync()
    kernels = {event.key: event.self_device_time_total / 1e3 for event in profiler.key_averages()}
    purpose = lambda name: next((purpose for purpose, pattern in PURPOSES.items() if re.search(pattern, name)), "other")
    sums = {}
    for name, ms in kernels.items():
        sums[purpose(name)] = sums.get(purpose(name), 0) + ms
    longest = sorted(kernels.items(), key=lambda kernel: -kernel[1])[:30]
    return {"purposes": sums, "longest": [[purpose(name), name[:120], ms] for name, ms in longest]}


def ceilings(seconds=0.3):
    """Bytes a second of a copy within the GPU, read and written, and operations a second of a product of large random matrices."""

    def rate(work, run):
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        times, start = [], time.perf_counter()
        while time.perf_counter() - start < seconds:
            events[0].record()
            run()
            events[1].record()
            torch.cuda.synchronize()
            times.append(events[0].elapsed_time(events[1]) / 1e3)
        return work / statistics.median(times)

    side, length = 8192, 1 << 30
    source, copy = (torch.randint(0, 255, (length,), device="cuda", dtype=torch.uint8) for _ in range(2))
    a, b = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return {"copy_gb_s": rate(2 * length, lambda: copy.copy_(source)) / 1e9, "bf16_tflops": rate(2 * side**3, lambda: a @ b) / 1e12}


def run_ours(options, model, size, batch, seconds):
    """What our program's line of JSON says, or {"error": ...}."""
    command = [options.ours, "bench", "--model", model, "--size", size, "--batch", batch, "--device", options.device,
               "--precision", {"tf32": "f32"}.get(options.dtype, options.dtype), "--steps", options.steps, "--warmup", options.warmup, "--json"]
    try:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=seconds)
        if done.returncode:
            return {"error": (done.stderr or done.stdout)[-300:]}
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as e:
        return {"error": repr(e)[:300]}


def summary(ms, batch, **more):
    median = statistics.median(ms)
    spread = (max(ms) - min(ms)) / median
    return {"ms_per_step": round(median, 3), "images_per_second": round(1e3 * batch / median, 1), "spread": round(spread, 3), **more}


def measure(options, model, size, batch, left):
    """All contenders on one net: {contender: summary}."""
    variants = options.variants.split(",") if torch else []
    apart = batch * size**2 * (3 if model.startswith("efficientnet") else 1) * (2 if "32" in options.dtype else 1) > MOST_PIXELS
    result, ours = {}, []

    def turn_of_ours():
        if options.ours:
            ours.append(run_ours(options, model, size, batch, max(5, min(60, left()))))

    for group in [[variant] for variant in variants] if apart else [variants]:
        peers, blocks = {}, {}
        for variant in group:
            try:
                peer = Peer(model, size, batch, variant, options)
                take_turn(options)
                peer.start(options.warmup)
                peers[variant], blocks[variant] = peer, []
            except Exception as e:  # out of memory, or a net that cannot be compiled, must not end the others
                result[variant] = {"error": repr(e)[:300]}
        for i in range(options.blocks):
            if not apart and i in (0, options.blocks - 1):
                turn_of_ours()
            for variant, peer in list(peers.items()):
                try:
                    blocks[variant].append(peer.block(options.steps))
                except Exception as e:
                    result[variant] = {"error": repr(e)[:300]}
                    del peers[variant], blocks[variant]
            if left() < LEAST_FOR_BLOCK:
                break
        for variant, runs in blocks.items():
            ms, host, loss = zip(*runs)
            losses, peak = [round(peers[variant].first_loss, 4), round(loss[-1], 4)], peers[variant].peak
            result[variant] = summary(ms, batch, host_ms=round(statistics.median(host), 3), loss=losses, peak_mb=peak)
        if "eager" in peers and model in options.profile.split(","):
            try:
                result["profile"] = profile(peers["eager"])
            except Exception as e:
                result["profile"] = {"error": repr(e)[:300]}
        peers.clear()
        peer = None
        if options.device == "cuda":
            torch.cuda.empty_cache()
    if not ours:
        turn_of_ours()
    if timed := [run for run in ours if run.get("ms_per_step")]:
        times = [ms for run in timed for ms in run["ms_per_step"]]
        more = {key: value for key, value in timed[-1].items() if key not in ("ms_per_step", "images_per_second")}
        result["ours"] = summary(times, batch, **more)
    elif ours:
        result["ours"] = ours[-1]
    return result


def take_turn(options):
    """Waits until nobody else compiles or measures, and finds the best algorithms only then; the lock stays until the program ends."""
    if not options.turn or torch.backends.cudnn.benchmark:
        return
    fcntl.flock(options.lock, fcntl.LOCK_UN)
    fcntl.flock(options.lock, fcntl.LOCK_EX)
    set_precision(options)


def set_precision(options):
    torch.backends.cudnn.benchmark = True
    # Strict single precision is what ours computes in f32. For half types this changes nothing but what is looked up again.
    torch.backends.cudnn.allow_tf32 = options.dtype != "f32"


def gpu_state(query):
    try:
        command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def rate(row, name):
    return row.get(name, {}).get("images_per_second")


def table(rows, variants):
    say = lambda *cells: print("| " + " | ".join(map(str, cells)) + " |", file=sys.stderr)
    names = ["ours", *variants]
    say("net", "px", "batch", *(f"{name} images/s" for name in names), *(f"ours/{name}" for name in variants))
    say(*["---"] * (3 + len(names) + len(variants)))
    for row in rows:
        ratios = [round(rate(row, "ours") / rate(row, name), 2) if rate(row, "ours") and rate(row, name) else "" for name in variants]
        cells = (rate(row, name) or row.get(name, {}).get("error", "")[:40] for name in names)
        say(row["model"], row["size"], row["batch"], *cells, *ratios)


def main():
    parser = argparse.ArgumentParser(description="Training speed of our program and of PyTorch on one GPU.")
    parser.add_argument("--ours", metavar="PROGRAM", help="our program; without it PyTorch runs alone")
    parser.add_argument("--models", default=",".join(SIZES), help="torchvision names, comma-separated")
    parser.add_argument("--batches", default="128", help="comma-separated")
    parser.add_argument("--size", type=int, help="of the images in pixels, instead of each net's own")
    parser.add_argument("--dtype", default="bf16", choices=["bf16", "f16", "tf32", "f32"])
    parser.add_argument("--variants", default="eager,graph", help="of PyTorch: eager, graph, compile, compile+graph")
    parser.add_argument("--compile-mode", default="default")
    parser.add_argument("--turn", metavar="FILE", help="compile first, then measure when nobody else holds this file's lock")
    parser.add_argument("--ceilings", action="store_true", help="measure the GPU's first")
    parser.add_argument("--profile", default="", metavar="MODELS", help="those of the models whose eager step is profiled")
    parser.add_argument("--device", default="cuda", help="cuda or cpu")
    parser.add_argument("--steps", type=int, default=20, help="steps a block")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=12, help="steps before the first block")
    parser.add_argument("--out", type=argparse.FileType("w"), default=sys.stdout, help="file for the JSON lines")
    parser.add_argument("--budget", type=float, default=500, metavar="SECONDS")
    options = parser.parse_args()
    known = {"models": SIZES, "variants": VARIANTS, "profile": ["", *SIZES]}
    for name, values in known.items():
        if unknown := set(getattr(options, name).split(",")) - set(values):
            parser.error(f"--{name}: there is no {', '.join(unknown)}; there are {', '.join(filter(None, values))}")
    if options.device == "cpu":
        options.variants = ",".join(variant for variant in options.variants.split(",") if variant != "graph")
    start = time.monotonic()
    left = lambda: options.budget - (time.monotonic() - start)
    write = lambda line: print(json.dumps(line), file=options.out, flush=True)
    chip = gpu_state("name,driver_version,memory.total")
    write({"date": time.strftime("%Y-%m-%d", time.gmtime()), "torch": torch and torch.__version__, "gpu": chip, "command": sys.argv})
    if options.ours:
        # A program that is another must not cost the run.
        tried = run_ours(options, "resnet18", 64, 2, 120)
        if "ms_per_step" not in tried:
            sys.exit(f"{options.ours} does not measure: {tried.get('error', tried)}")
    if torch:
        # Compiled code depends on it: it must not change later.
        torch.backends.cuda.matmul.allow_tf32 = options.dtype != "f32"
    if torch and options.turn:
        torch.backends.cudnn.allow_tf32 = False
        options.lock = open(options.turn, "w")
        fcntl.flock(options.lock, fcntl.LOCK_SH)
    elif torch:
        set_precision(options)
    if options.ceilings:
        write(ceilings())
    rows = []
    for batch in map(int, options.batches.split(",")):
        for model in options.models.split(","):
            row = {"model": model, "size": options.size or SIZES[model], "batch": batch, "dtype": options.dtype}
            if left() < LEAST_FOR_NET:
                row["skipped"] = "no time left"
            else:
                clocks = "clocks.sm,clocks.mem,power.draw,temperature.gpu,clocks_event_reasons.active"
                row |= {"before": gpu_state(clocks), **measure(options, model, row["size"], batch, left), "after": gpu_state(clocks)}
            rows.append(row)
            write(row)
    table(rows, options.variants.split(",") if torch else [])


if __name__ == "__main__":
    main()
