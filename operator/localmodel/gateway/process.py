"""The gateway's process: reads the settings once, has Triton begin to load, and only then imports all the rest."""

import argparse
import logging
import sys
from pathlib import Path

from pydantic import ValidationError

from localmodel.api.constants import FILE_GATEWAY_JSON, SETTINGS_MOUNT
from localmodel.api.gateway import GatewaySettings
from localmodel.gateway.first_load import FirstLoad


def main() -> int:
    parser = argparse.ArgumentParser(prog="localmodel.gateway")
    parser.add_argument("--settings", type=Path, default=Path(SETTINGS_MOUNT) / FILE_GATEWAY_JSON)
    file = parser.parse_args().settings
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    try:
        settings = GatewaySettings.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        print(f"localmodel.gateway: {file}: {error}", file=sys.stderr)
        return 2
    first_load = FirstLoad(settings.triton_url, settings.triton_model)
    first_load.begin()
    from localmodel.gateway.serve import run

    return run(settings, file, first_load)
