"""What the user reads when the model is ready, and when it could not be loaded. Text only."""

import json

QUESTION = "What is the capital of France?"


def describe_ready(base_url: str, admin_url: str, served_name: str) -> str:
    """Two ways to try it by copy and paste."""
    messages = [{"role": "user", "content": QUESTION}]
    body = json.dumps({"model": served_name, "messages": messages})
    return f"""
  curl {base_url}/chat/completions -H 'content-type: application/json' -d '{body}'

  from openai import OpenAI
  client = OpenAI(base_url="{base_url}", api_key="none")
  answer = client.chat.completions.create(model="{served_name}", messages={json.dumps(messages)})
  print(answer.choices[0].message.content)

{admin_url}/status and {admin_url}/metrics tell more. Ctrl-C ends it.
"""


def explain_failure(message: str) -> str:
    return message
