"""Opens a TorchScript or torch.export file as the zip archive that it is, and refuses what torch would run while reading it.

Why it exists: `torch.export.load` unpickles without restraint what an archive marks so, evaluates texts as expressions and
resolves any name below `torch` as an operator; `torch.jit.load` runs TorchScript. So the archive is compared with what an
exporter writes for a plain network, and anything else is an UnsafeModelFile. No torch here: nothing is run to find out.
"""

import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localmodel.engine.errors import ModelFilesCorrupt, ModelFilesMissing, UnsafeModelFile

SCRIPT_FILE, PROGRAM_FILE = "model.pt", "model.pt2"
SAMPLE_INPUTS = "data/sample_inputs/model.pt"
_PAYLOADS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_PROGRAM = "models/model.json"
_PROGRAM_RECORD = re.compile(
    r"archive_format|archive_version|byteorder|version|\.format_version|\.storage_alignment|\.data/\w+|models/model\.json|extra/.*"
    r"|data/weights/(model_weights_config\.json|weight_\d+)|data/constants/(model_constants_config\.json|tensor_\d+)"
    r"|data/sample_inputs/model\.pt"
)
_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims)\.(?!from_file\b|save\b|load\b)\w+(\.\w+)?|torch\.sym_\w+|math\.\w+"
    r"|torch\.ops\.higher_order\.(cond|while_loop|map_impl|scan|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|torch\._C\._set_grad_enabled|torch\._check(_is_size)?"
    r"|_operator\.(getitem|add|sub|mul|truediv|floordiv|mod|pow|neg|pos|abs|eq|ne|lt|le|gt|ge|and_|or_|xor|not_)"
)
_EXPRESSION = re.compile(r"[\w+\-*/%(),. <>=~&|]*")
_WORD = re.compile(r"(?<!\w)[A-Za-z_]\w*")
_QUOTED = re.compile(r"'([a-z]{1,4}\d+|[-+.e\d]+)'")
"""A symbol's name, or the digits of a number."""
_SYMBOL = re.compile(r"[a-z]{1,4}\d+")
_FUNCTIONS = frozenset({
    "FloorDiv", "ModularIndexing", "Where", "PythonMod", "Mod", "CleanDiv", "CeilToInt", "FloorToInt", "CeilDiv", "LShift",
    "RShift", "PowByNatural", "FloatPow", "FloatTrueDiv", "IntTrueDiv", "TruncToFloat", "TruncToInt", "RoundToInt",
    "RoundDecimal", "ToFloat", "Identity", "Max", "Min", "Abs", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not", "True",
    "False", "oo", "int_oo", "Symbol", "Integer", "Rational", "Float", "Add", "Mul", "Pow", "positive", "nonnegative", "integer",
    "precision",
})  # fmt: skip
_SCRIPT_FILE_OPERATOR = re.compile(rb"\.[\s\\]*(save|load|from_file)\b")
"""TorchScript's own ways to files. An attribute's name always stands in the code as it is."""


@dataclass(frozen=True)
class Archive:
    file: Path
    root: str
    """First folder of every record."""

    def read(self, record: str) -> bytes:
        """Raises ModelFilesCorrupt."""
        try:
            with zipfile.ZipFile(self.file) as archive:
                return archive.read(f"{self.root}/{record}")
        except (KeyError, OSError, zipfile.BadZipFile) as error:
            raise ModelFilesCorrupt(f"{self.file}: {record} can't be read: {error}. Copy the file again.") from error

    def read_json(self, record: str) -> dict[str, Any]:
        """Raises ModelFilesCorrupt."""
        try:
            document = json.loads(self.read(record))
        except (ValueError, RecursionError) as error:
            raise ModelFilesCorrupt(f"{self.file}: {record} is not JSON: {error}. Export the network again.") from error
        if not isinstance(document, dict):
            raise ModelFilesCorrupt(f"{self.file}: {record} is no JSON object. Export the network again.")
        return document


def find_file(directory: Path, name: str) -> Path:
    """Raises ModelFilesMissing, saying what is there."""
    file = directory / name
    if file.is_file():
        return file
    there = sorted(entry.name for entry in directory.iterdir())[:10] if directory.is_dir() else []
    contents = f"It contains: {', '.join(there)}." if there else "It is empty or does not exist."
    kinds = f"format TorchScript reads {SCRIPT_FILE}, TorchExport {PROGRAM_FILE}"
    raise ModelFilesMissing(f"{directory} has no {name}; {kinds}. {contents} Check spec.model.source and spec.model.format.")


def open_script(directory: Path) -> Archive:
    """A TorchScript file whose code touches no file. Raises LoadError."""
    archive, records = _open(find_file(directory, SCRIPT_FILE), "torch.jit.save")
    code = [record for record in records if record.startswith("code/") and record.endswith(".py")]
    if not code or "constants.pkl" not in records:
        is_pickle = " It was written by torch.save, which pickles Python objects." if "data.pkl" in records else ""
        raise ModelFilesCorrupt(
            f"{archive.file} is no TorchScript file.{is_pickle} Write it with torch.jit.save(torch.jit.script(network), "
            f"'{SCRIPT_FILE}'), or export it with torch.export and set format TorchExport."
        )
    for record in code:
        found = _SCRIPT_FILE_OPERATOR.search(archive.read(record))
        if found:
            raise UnsafeModelFile(f"{archive.file}: its code uses {found[1].decode()}, which reads or writes files ({record})")
    return archive


def open_program(directory: Path) -> tuple[Archive, dict[str, Any]]:
    """A torch.export file and its program as torch's schema has it. Raises LoadError."""
    archive, records = _open(find_file(directory, PROGRAM_FILE), "torch.export.save")
    if "archive_format" not in records or _PROGRAM not in records:
        raise ModelFilesCorrupt(
            f"{archive.file} is no file of torch.export.save, or of one before torch 2.8. Write it with "
            f"torch.export.save(torch.export.export(network, ...), '{PROGRAM_FILE}')."
        )
    for record in records:
        if not _PROGRAM_RECORD.fullmatch(record):
            raise UnsafeModelFile(
                f"{archive.file} holds {record}, which is no part of a plain network (old versions of torch pickle weights)"
            )
    for record in _PAYLOADS:
        for name, payload in (archive.read_json(record).get("config") or {}).items():
            if payload.get("use_pickle") is not False or not payload.get("tensor_meta"):
                raise UnsafeModelFile(f"{archive.file}: {name} is a pickled Python object and not a plain tensor")
    program = archive.read_json(_PROGRAM)
    _check_program(archive.file, program)
    return archive, program


def _open(file: Path, writer: str) -> tuple[Archive, list[str]]:
    """The archive and its records below the root."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        size = file.stat().st_size
        message = f"{file} ({size} bytes) is truncated or no file of {writer}: {error}. Copy or export it again."
        raise ModelFilesCorrupt(message) from error
    roots = {name.partition("/")[0] for name in names}
    if len(roots) != 1 or len(set(names)) != len(names):
        raise UnsafeModelFile(f"{file} is an archive with several roots, or with a record twice, which {writer} never writes")
    root = roots.pop()
    return Archive(file, root), [name.partition("/")[2] for name in names]


def _check_program(file: Path, program: dict[str, Any]) -> None:
    """Only operators of torch's core, and only arithmetic in sizes."""
    symbols = program.get("range_constraints") or {}
    for symbol in symbols:
        _check_expression(file, symbol)
    level: list[Any] = [program.get("graph_module")]
    while level:
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
                if isinstance(text := item.get("expr_str"), str):
                    _check_expression(file, text)
                for name in (item.get("target"), item.get("as_operator")):
                    if isinstance(name, str) and not _OPERATOR.fullmatch(name):
                        raise UnsafeModelFile(f"{file} calls {name[:100]}, which is no operator of torch's core")
            elif isinstance(item, list):
                below.extend(item)
        level = below


def _check_expression(file: Path, text: str) -> None:
    plain = _QUOTED.sub(r"\1", text)
    words = [word for word in _WORD.findall(plain) if not _SYMBOL.fullmatch(word)]
    if not _EXPRESSION.fullmatch(plain) or re.search(r"\.\D", plain) or not set(words) <= _FUNCTIONS:
        raise UnsafeModelFile(f"{file} has a size that is no arithmetic: {text[:100]}")
