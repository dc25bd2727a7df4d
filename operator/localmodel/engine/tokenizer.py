"""Opens a model directory's tokenizer, or says that the file is broken."""

from pathlib import Path

from tokenizers import Tokenizer

from localmodel.engine.errors import ModelFilesCorrupt


def load_tokenizer(file: Path) -> Tokenizer:
    """Without the padding and truncation that some files ask for: an answer and a prompt are as long as they are.

    Raises ModelFilesCorrupt.
    """
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise ModelFilesCorrupt(f"{file} is no tokenizer: {error}. Copy it again.") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
