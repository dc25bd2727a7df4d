"""What the user reads when the model is ready, and when it could not be loaded. Text only."""

import json

from localmodel.api.engine import parse_load_failure
from localmodel.core.hints import hint

QUESTION = "What is the capital of France?"


def describe_ready(base_url: str, admin_url: str, served_name: str, page_url: str = "") -> str:
    """Ways to try it: the chat page if there is one, and two by copy and paste."""
    messages = [{"role": "user", "content": QUESTION}]
    body = json.dumps({"model": served_name, "messages": messages})
    page = f"\n  Chat in a browser: {page_url}\n" if page_url else ""
    return f"""{page}
  curl {base_url}/chat/completions -H 'content-type: application/json' -d '{body}'

  from openai import OpenAI
  client = OpenAI(base_url="{base_url}", api_key="none")
  answer = client.chat.completions.create(model="{served_name}", messages={json.dumps(messages)})
  print(answer.choices[0].message.content)

{admin_url}/status and {admin_url}/metrics tell more. Ctrl-C ends it.
"""


def describe_embedding_ready(base_url: str, admin_url: str, served_name: str) -> str:
    """The same for a model that makes embeddings."""
    body = json.dumps({"model": served_name, "input": [QUESTION]})
    return f"""
  curl {base_url}/embeddings -H 'content-type: application/json' -d '{body}'

  from openai import OpenAI
  client = OpenAI(base_url="{base_url}", api_key="none")
  answer = client.embeddings.create(model="{served_name}", input={json.dumps([QUESTION])})
  print(answer.data[0].embedding)

{admin_url}/status and {admin_url}/metrics tell more. Ctrl-C ends it.
"""


def explain_failure(message: str) -> str:
    """The engine's code and sentence without Triton's frame around them, and what to do."""
    failure = parse_load_failure(message)
    if failure is None:
        return f"The model can't be served: {message.strip()}\nWhat to do: read the message; --logs DIR keeps the log of Triton."
    return f"The model can't be loaded: {failure.code}\n{failure.message}\nWhat to do: {hint(failure.code)}"
