"""What the user reads when the model is ready, and when it could not be loaded. Text only."""

import json
import math
import re

from localmodel.api.engine import parse_load_failure
from localmodel.cli.ask import KEY_VARIABLE
from localmodel.core.hints import hint

QUESTION = "Name the capital of France."
_TENSOR = re.compile(r"(\S+) (\w+) \[([-0-9, ]+)\]")
_LONGEST_BODY = 400


def describe_ready(base_url: str, admin_url: str, served_name: str, page_url: str = "", *, keyed: bool = False) -> str:
    """Ways to try it: the chat page if there is one, and two by copy and paste; `keyed`: with the key of the environment."""
    messages = [{"role": "user", "content": QUESTION}]
    body = json.dumps({"model": served_name, "messages": messages})
    page = f"\n  Chat in a browser: {page_url}\n" if page_url else ""
    return f"""{page}
  curl {base_url}/chat/completions{_header(keyed)} -H 'content-type: application/json' -d '{body}'

{_client(base_url, keyed)}
  answer = client.chat.completions.create(model="{served_name}", messages={json.dumps(messages)})
  print(answer.choices[0].message.content)

{admin_url}/status and {admin_url}/metrics tell more. Ctrl-C ends it.
"""


def describe_embedding_ready(base_url: str, admin_url: str, served_name: str, *, keyed: bool = False) -> str:
    """The same for a model that makes embeddings."""
    body = json.dumps({"model": served_name, "input": [QUESTION]})
    return f"""
  curl {base_url}/embeddings{_header(keyed)} -H 'content-type: application/json' -d '{body}'

{_client(base_url, keyed)}
  answer = client.embeddings.create(model="{served_name}", input={json.dumps([QUESTION])})
  print(answer.data[0].embedding)

{admin_url}/status and {admin_url}/metrics tell more. Ctrl-C ends it.
"""


def describe_predict_ready(base_url: str, admin_url: str, served_name: str, signature: str, *, keyed: bool = False) -> str:
    """The same for a network of tensors, whose signature the gateway tells."""
    model_url = f"{base_url.removesuffix('/v1')}/v2/models/{served_name}"
    body = json.dumps({"inputs": [_example_tensor(*found) for found in _TENSOR.findall(signature.partition(" -> ")[0])]})
    ask = f"curl {model_url}/infer{_header(keyed)} -H 'content-type: application/json' -d '{body}'"
    client = f"tritonclient.http.InferenceServerClient({model_url.partition('/v2')[0].removeprefix('http://')!r})"
    return f"""
  {signature}

  curl {model_url}{_header(keyed)}
  {ask if len(body) < _LONGEST_BODY else client}

{admin_url}/status and {admin_url}/metrics tell more. Ctrl-C ends it.
"""


def _header(keyed: bool) -> str:
    return f' -H "authorization: Bearer ${KEY_VARIABLE}"' if keyed else ""


def _client(base_url: str, keyed: bool) -> str:
    lines = ["import os", "from openai import OpenAI"] if keyed else ["from openai import OpenAI"]
    key = f'os.environ["{KEY_VARIABLE}"]' if keyed else '"none"'
    return "\n".join(f"  {line}" for line in [*lines, f'client = OpenAI(base_url="{base_url}", api_key={key})'])


def _example_tensor(name: str, datatype: str, shape: str) -> dict[str, object]:
    """Of ones."""
    sizes = [max(1, int(size)) for size in shape.split(",")]
    one = True if datatype == "BOOL" else 1
    return {"name": name, "datatype": datatype, "shape": sizes, "data": [one] * min(math.prod(sizes), _LONGEST_BODY)}


def explain_failure(message: str) -> str:
    """The engine's code and sentence without Triton's frame around them, and what to do."""
    failure = parse_load_failure(message)
    if failure is None:
        return f"The model can't be served: {message.strip()}\nWhat to do: read the message; --logs DIR keeps the log of Triton."
    return f"The model can't be loaded: {failure.code}\n{failure.message}\nWhat to do: {hint(failure.code)}"
