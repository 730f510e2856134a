"""Measure occlab side by side with its peers, in one process, and print the tables.

    python benchmarks/run.py                      all eight, about 25 minutes on 2 quiet cores
    python benchmarks/run.py voxelization --quick  a smoke test of the script: small, few rounds, nothing written

Whole runs are written to benchmarks/results/ and into benchmarks/README.md. Where there is a CUDA device, the same
candidates run there too, as results of their own; the readers have nothing to do there.
"""

import argparse
import importlib
import re
import warnings
from pathlib import Path

import torch
from timing import markdown, results_of, write

HERE = Path(__file__).parent
NAMES = ("voxelization", "losses", "unet", "readers", "visibility", "doctor", "viewers", "latency")
WITHOUT_A_DEVICE = ("readers", "viewers", "latency")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(NAMES)}; default all")
    parser.add_argument("--quick", action="store_true", help="a smoke test; its numbers mean little")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cpu, and cuda where there is one")
    parser.add_argument("--threads", type=int, help="torch threads; default as torch chooses")
    parser.add_argument("--out", type=Path, help="folder for the results; default benchmarks/results, none with --quick")
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"no benchmark named {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    if options.threads:
        torch.set_num_threads(options.threads)
    devices = [options.device] if options.device else ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    warnings.filterwarnings("ignore", module=r"(monai|kornia|open3d|ignite|torch)\b.*")
    for name in options.names or NAMES:
        for device in ["cpu"] if name in WITHOUT_A_DEVICE else devices:
            label = name if device == "cpu" else f"{name}-{device}"
            benchmark = importlib.import_module(name)
            results = results_of(label, device, lambda out, b=benchmark, d=device: b.tables(d, options.quick, out))
            page = markdown(results)
            print(f"\n## {label}\n\n{page}", flush=True)
            if options.out or not options.quick:
                write(results, options.out or HERE / "results")
            if not (options.out or options.quick):
                refresh_readme(label, page)


def refresh_readme(name: str, page: str) -> None:
    """Put a page of results between its two markers in the README."""
    readme = HERE / "README.md"
    text = readme.read_text()
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    if begin in text and end in text:
        pattern = re.escape(begin) + ".*?" + re.escape(end)
        readme.write_text(re.sub(pattern, lambda _: f"{begin}\n{page}{end}", text, flags=re.DOTALL))


if __name__ == "__main__":
    main()
