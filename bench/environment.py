"""What a comparison needs before anything is timed: the peers, networks as ONNX files, our binary."""

import os
import pathlib
import subprocess
import sys
import venv

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent
# Set on some machines for old builds of OpenBLAS; they slow NumPy, and have no place in a timing.
UNWANTED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
# How each of us is held to AVX2.
HELD_TO_AVX2 = {"RESNET_ISA": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}


class Environment:
    """A folder of our own under `target/`, and what is in it."""

    def __init__(self, folder, python, resnet):
        self.folder = folder
        self.python = python or folder / "python/bin/python"
        self.own_python = python is None
        self.resnet = resnet or ROOT / "target/release/resnet"
        self.own_resnet = resnet is None

    def prepare(self, peers, works):
        """Installs and builds what is missing. Says what it does; the first time takes minutes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.own_resnet:
            say("building resnet")
            check(["cargo", "build", "--release", "--quiet"], cwd=ROOT)
        if self.own_python:
            self.install()
        if "rten" in peers:
            say("building rten")
            environment = os.environ | {"CARGO_TARGET_DIR": str(self.folder / "rten")}
            check(["cargo", "build", "--release", "--quiet", "--locked"], cwd=HERE / "rten", env=environment)
        if any(peer.get("onnx") for peer in peers.values()):
            self.export(peers, works)

    def install(self):
        """A virtual environment with what `requirements.txt` pins; a copy of it marks the end."""
        wanted, installed = (HERE / "requirements.txt").read_text(), self.folder / "installed.txt"
        if installed.exists() and installed.read_text() == wanted:
            return
        say(f"installing the peers into {self.folder}")
        venv.create(self.folder / "python", with_pip=True, clear=True)
        pip = [self.python, "-m", "pip", "install", "--quiet"]
        # The build without CUDA is thirty times smaller and computes the same on a CPU; not every
        # package index has it.
        torch = next(line for line in wanted.splitlines() if line.startswith("torch=="))
        if subprocess.run([*pip, f"{torch}+cpu"], stderr=subprocess.DEVNULL).returncode != 0:
            say("no build without CUDA there: installing the default one")
        check([*pip, "--requirement", HERE / "requirements.txt"])
        installed.write_text(wanted)

    def export(self, peers, works):
        """The networks that are inferred, as ONNX, and the int8 versions of those that want them."""
        folder = self.folder / "onnx"
        folder.mkdir(exist_ok=True)
        models = sorted({work["model"] for work in works if work["mode"] == "infer"})
        missing = [model for model in models if not (folder / f"{model}.onnx").exists()]
        if missing:
            say(f"exporting {', '.join(missing)}")
            check([self.python, HERE / "peers/export_onnx.py", folder, *missing], stdout=sys.stderr)
        for work in works:
            for name, peer in peers.items():
                int8 = "int8" in peer["precisions"].get(work["mode"], [])
                if work["precision"] == "int8" and int8 and not self.network(name, work).exists():
                    say(f"quantizing {work['model']} for {name}")
                    files = [folder / f"{work['model']}.onnx", self.network(name, work)]
                    check([self.python, HERE / "peers/quantize.py", name, *files], stdout=sys.stderr)

    def network(self, peer, work):
        """The file that a peer reads a work's network from."""
        if work["precision"] == "int8":
            end = "xml" if peer == "openvino" else "onnx"
            return self.folder / "onnx" / f"{work['model']}-int8-{peer}.{end}"
        return self.folder / "onnx" / f"{work['model']}.onnx"

    def variables(self, threads, isa):
        """The environment of a measurement."""
        variables = {name: value for name, value in os.environ.items() if name not in UNWANTED}
        for name in ("OMP", "MKL", "OPENBLAS", "RAYON", "RTEN"):
            variables[f"{name}_NUM_THREADS"] = str(threads)
        variables["PYTHONDONTWRITEBYTECODE"] = "1"
        # What torch.compile made is used again in the next round.
        variables["TORCHINDUCTOR_CACHE_DIR"] = str(self.folder / "inductor")
        return variables | (HELD_TO_AVX2 if isa == "avx2" else {})


def say(text):
    print(text, file=sys.stderr, flush=True)


def check(command, **options):
    """Runs a command that must succeed."""
    variables = {name: value for name, value in os.environ.items() if name not in UNWANTED}
    options.setdefault("env", variables | {"PYTHONDONTWRITEBYTECODE": "1"})
    subprocess.run([str(word) for word in command], check=True, **options)
