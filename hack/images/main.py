"""Builds LocalModel's images without a container daemon and pushes them to a registry on this machine.

    python3 hack/images/main.py list    # what the others print too: the images of this working tree, as JSON
    python3 hack/images/main.py build   # what is not built yet
    python3 hack/images/main.py push    # build, then push what the registry doesn't have
    python3 hack/images/main.py smoke   # build, then start each entrypoint once

Tags are hashes of an image's inputs, so an existing one is never made or pushed again. Needs root on Debian; exit code
3 says that it isn't root. docs/images.md has the builds for production.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from images import base, catalogue, host, registry, smoke
from images.lent_sources import lend_sources
from images.store import Store, cache_folder


@contextlib.contextmanager
def timed(done: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    say(f"{done} in {time.monotonic() - started:.1f} s")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def build(store: Store, images: list[catalogue.Image]) -> list[str]:
    """The names of the images, built if they weren't."""
    base_name, tools_name = catalogue.base_names()
    present = store.names()
    if all(catalogue.image_name(image) in present for image in images):
        return [catalogue.image_name(image) for image in images]
    if not {base_name, tools_name} <= present:
        with timed(f"built {base_name}"):
            base.build(store, base_name, tools_name)
    return [build_one(store, image, base_name, tools_name) for image in images]


def build_one(store: Store, image: catalogue.Image, base_name: str, tools_name: str) -> str:
    while (name := catalogue.image_name(image)) not in store.names():
        with timed(f"built {name}"):
            arguments = dict(image.arguments) | {"BASE_IMAGE": base_name, "TOOLS_IMAGE": tools_name}
            image_id = store.build(catalogue.REPOSITORY, image.dockerfile, image.name, arguments, [lend_sources(store.folder)])
        if catalogue.image_name(image) == name:
            store.tag(image_id, name)
        else:
            say(f"files of {image.name} changed while it was built: once more")
    return name


def push(store: Store, images: list[catalogue.Image], to: registry.Registry) -> list[str]:
    """The names of the images, pushed if the registry didn't have them."""
    there = {image: name for image in images if registry.has_image(to, name := catalogue.image_name(image))}
    names = dict(zip(missing := [image for image in images if image not in there], build(store, missing), strict=True))
    for name in names.values():
        with timed(f"pushed {name}"):
            store.push(name, f"docker://{to.address}/{name}", plain=to.plain)
    return [(there | names)[image] for image in images]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("build", "push", "list", "smoke"))
    parser.add_argument("--registry", default="127.0.0.1:5005", help="HOST:PORT or HOST/PATH; http:// before it for plain HTTP")
    parser.add_argument("--edition", choices=("cpu", "gpu"), default="cpu", help="of torch in the Triton image; gpu is 8 GB")
    parser.add_argument("--only", default="", help="comma-separated: " + ",".join(i.name for i in catalogue.IMAGES))
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    only = set(filter(None, arguments.only.split(",")))
    if unknown := only - {image.name for image in catalogue.IMAGES}:
        raise SystemExit(f"no such image: {', '.join(sorted(unknown))}")
    to = registry.parse_registry(arguments.registry)
    images = [image for image in catalogue.choose_edition(arguments.edition) if not only or image.name in only]
    if arguments.command == "list":
        names = [catalogue.image_name(image) for image in images]
    else:
        host.prepare()
        store = Store(cache_folder())
        names = push(store, images, to) if arguments.command == "push" else build(store, images)
        if arguments.command == "smoke":
            for image, name in zip(images, names, strict=True):
                smoke.check(store, image.name, name)
    print(json.dumps({image.name: f"{to.address}/{name}" for image, name in zip(images, names, strict=True)}))


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"{error.cmd[0]} failed with exit code {error.returncode}; its output is above") from None
