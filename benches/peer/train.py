"""Training speed and peak memory of PyTorch on the CPU, and of our program beside it in one run.

    python benches/peer/train.py                                     PyTorch alone
    python benches/peer/train.py --ours "target/release/roentgen bench --model {model} --size {size} --batch {batch} --threads {threads} --json"

Every measurement is a process of its own. One round measures, for each net, PyTorch in both memory layouts and then ours; the rounds
are repeated, so that a drift of the machine meets all of them. A step is forward, cross-entropy, backward and SGD with momentum
on one fixed batch, f32. Steps of all rounds are pooled and their median counts; PyTorch counts with its faster layout.

Peak memory is the kernel's figure for the finished process (`ru_maxrss` from wait4), for both alike. PyTorch's includes the libraries it loads,
about 700 MB with a CUDA build; `import_mb` is that part, before the model is made. So there are two ratios, and the second is the strict
one: `memory_ratio` of the whole processes, and `memory_ratio_strict` of our whole process to what PyTorch takes on top of its imports.

Output: one JSON line a measurement, then one a net with the medians; a table on stderr. The last stdout line of --ours must be JSON with
`ms_per_step` (a list) and `loss` (first, last).
"""

import argparse
import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import time

LAYOUTS = ["contiguous", "channels_last"]
# Sides of images where the usual one leaves a network without its auxiliary head.
NATIVE = {"inception_v3": 299}


def worker(options):
    import torch
    import torchvision

    import_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    layout = torch.channels_last if options.worker == "channels_last" else torch.contiguous_format
    model = torchvision.models.get_model(options.models, weights=None).to(memory_format=layout).train()
    x = torch.randn(options.batch, 3, options.size, options.size).contiguous(memory_format=layout)
    labels = torch.arange(options.batch) % 1000
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    times, losses = [], []
    if options.forward:
        model.eval()
    for _ in range(options.warmup + options.steps):
        start = time.perf_counter()
        if options.forward:
            with torch.inference_mode():
                model(x)
            times.append(1e3 * (time.perf_counter() - start))
            continue
        optimiser.zero_grad(set_to_none=True)
        scores = model(x)
        if isinstance(scores, tuple):  # inception_v3 and its auxiliary head, weighted as in torchvision's training and in ours
            loss = torch.nn.functional.cross_entropy(scores[0], labels) + 0.4 * torch.nn.functional.cross_entropy(scores[1], labels)
        else:
            loss = torch.nn.functional.cross_entropy(scores, labels)
        loss.backward()
        optimiser.step()
        times.append(1e3 * (time.perf_counter() - start))
        losses.append(loss.item())
    print(json.dumps({"ms_per_step": times[options.warmup:], "loss": losses[:1] + losses[-1:], "import_mb": round(import_mb, 1),
                      "torch": torch.__version__}))


def measure(command, threads):
    """Runs `command`; its last stdout line as JSON, with the peak memory of the process added."""
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"{shlex.join(command)} ended with {child.returncode}")
    return {**json.loads(output.strip().splitlines()[-1]), "peak_mb": round(usage.ru_maxrss / 1024, 1)}


def summarise(runs, batch):
    ms = statistics.median(t for run in runs for t in run["ms_per_step"])
    return {"ms_per_step": round(ms, 2), "images_per_second": round(1e3 * batch / ms, 2), "peak_mb": max(run["peak_mb"] for run in runs),
            "import_mb": runs[0].get("import_mb", 0.0), "steps": sum(len(run["ms_per_step"]) for run in runs)}


def compare(options, model):
    runs = {name: [] for name in LAYOUTS + ["ours"] * bool(options.ours)}
    size = NATIVE.get(model, options.size)
    for round_ in range(options.rounds):
        for name in runs:
            if name == "ours":
                command = shlex.split(options.ours.format(model=model, size=size, batch=options.batch, threads=options.threads))
            else:
                settings = {"models": model, "size": size, "batch": options.batch, "threads": options.threads,
                            "steps": options.steps, "warmup": options.warmup}
                command = [sys.executable, __file__, "--worker", name, *(v for k, s in settings.items() for v in (f"--{k}", str(s))),
                           *["--forward"] * options.forward]
            run = measure(command, options.threads)
            runs[name].append(run)
            print(json.dumps({"model": model, "runner": name, "round": round_, **run}), flush=True)
    result = {name: summarise(of, options.batch) for name, of in runs.items()}
    best = min(LAYOUTS, key=lambda name: result[name]["ms_per_step"])
    row = {"model": model, "size": size, "batch": options.batch, "threads": options.threads, "forward": options.forward, "best_layout": best, "torch": result[best]}
    if options.ours:
        ours, peer = result["ours"], result[best]
        row |= {"ours": ours, "speed_ratio": round(peer["ms_per_step"] / ours["ms_per_step"], 3),
                "memory_ratio": round(ours["peak_mb"] / peer["peak_mb"], 3),
                "memory_ratio_strict": round(ours["peak_mb"] / (peer["peak_mb"] - peer["import_mb"]), 3)}
    print(json.dumps(row), flush=True)
    return row


def table(rows):
    say = lambda *cells: print("| " + " | ".join(map(str, cells)) + " |", file=sys.stderr)
    say("net", "PyTorch layout", "PyTorch images/s", "ours images/s", "speed ours/PyTorch", "PyTorch peak MB", "of it imports",
        "ours peak MB", "memory ours/PyTorch", "the same without imports")
    say(*["---"] * 10)
    for row in rows:
        ours = row.get("ours", {})
        say(row["model"], row["best_layout"], row["torch"]["images_per_second"], ours.get("images_per_second", ""), row.get("speed_ratio", ""),
            row["torch"]["peak_mb"], row["torch"]["import_mb"], ours.get("peak_mb", ""), row.get("memory_ratio", ""), row.get("memory_ratio_strict", ""))


def main():
    parser = argparse.ArgumentParser(description="Training speed of PyTorch, and of ours beside it.")
    parser.add_argument("--models", default="resnet18,mobilenet_v3_small", help="torchvision names, comma-separated")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5, help="timed steps a process")
    parser.add_argument("--warmup", type=int, default=2, help="steps before them")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--ours", metavar="CMD", help="our command; {model} {size} {batch} {threads} are filled in")
    parser.add_argument("--forward", action="store_true", help="time the forward pass in evaluation mode (give it to --ours too)")
    parser.add_argument("--worker", choices=LAYOUTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options)
    else:
        table([compare(options, model) for model in options.models.split(",")])


if __name__ == "__main__":
    main()
