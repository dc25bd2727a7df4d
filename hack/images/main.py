"""Builds LocalModel's images without a container daemon and pushes them to a registry on this machine.

    python3 hack/images/main.py list    # names of the images this working tree makes, as JSON
    python3 hack/images/main.py build   # what is not built yet
    python3 hack/images/main.py push    # build, then push what the registry doesn't have
    python3 hack/images/main.py smoke   # build, then start each entrypoint once

Tags are hashes of an image's inputs, so an existing one is never made or pushed again. Needs root on Debian; exit code
3 says that it isn't root. docs/images.md has the builds for production.
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from images import base, catalogue, host, registry, smoke
from images.store import Store, cache_folder


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def build(store: Store, images: list[catalogue.Image]) -> None:
    present = store.names()
    wanted = [(image, catalogue.image_name(image)) for image in images]
    missing = [(image, name) for image, name in wanted if name not in present]
    base_name, tools_name = catalogue.base_names()
    if missing and not {base_name, tools_name} <= present:
        started = time.monotonic()
        base.build(store, base_name, tools_name)
        say(f"built {base_name} in {time.monotonic() - started:.0f} s")
    for image, name in missing:
        started = time.monotonic()
        arguments = dict(image.arguments) | {"BASE_IMAGE": base_name, "TOOLS_IMAGE": tools_name}
        store.build(catalogue.REPOSITORY, image.dockerfile, image.name, name, arguments)
        say(f"built {name} in {time.monotonic() - started:.0f} s")


def push(store: Store, images: list[catalogue.Image], address: str) -> None:
    missing = [image for image in images if not registry.has_image(address, catalogue.image_name(image))]
    build(store, missing)
    for name in map(catalogue.image_name, missing):
        started = time.monotonic()
        store.push(name, f"docker://{address}/{name}")
        say(f"pushed {name} in {time.monotonic() - started:.0f} s")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("build", "push", "list", "smoke"))
    parser.add_argument("--registry", default="127.0.0.1:5005", help="HOST:PORT, plain HTTP")
    parser.add_argument("--only", default="", help="comma-separated: " + ",".join(i.name for i in catalogue.IMAGES))
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    only = set(filter(None, arguments.only.split(",")))
    if unknown := only - {image.name for image in catalogue.IMAGES}:
        raise SystemExit(f"no such image: {', '.join(sorted(unknown))}")
    images = [image for image in catalogue.IMAGES if not only or image.name in only]
    if arguments.command == "list":
        names = {image.name: f"{arguments.registry}/{catalogue.image_name(image)}" for image in images}
        print(json.dumps(names, indent=2))
        return
    host.prepare()
    store = Store(cache_folder())
    if arguments.command == "push":
        push(store, images, arguments.registry)
    else:
        build(store, images)
    if arguments.command == "smoke":
        smoke.check(store, images)


if __name__ == "__main__":
    main()
