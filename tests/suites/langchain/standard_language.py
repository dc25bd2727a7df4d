"""LangChain's standard tests with langchain-openai, against the address in SUITES_URL. Runs in the suites' environment."""

import os
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests


class Language(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": os.environ["SUITES_MODEL"],
            "base_url": f"{os.environ['SUITES_URL']}/v1",
            "api_key": "none",
            "temperature": 0,
            # Else so small a model repeats a sentence until the limit.
            "frequency_penalty": 1,
            "max_tokens": 48,
            "stream_usage": True,
            "max_retries": 3,
            "timeout": 180,
        }

    @property
    def structured_output_kwargs(self) -> dict[str, Any]:
        return {"method": "json_schema"}


class TestPlain(Language):
    """A model whose chat template knows no tools."""

    has_tool_calling = False
    has_structured_output = True

    @property
    def chat_model_params(self) -> dict[str, Any]:
        # A document that is cut off fits no schema.
        return {**super().chat_model_params, "max_tokens": 160}


class TestTools(Language):
    """The same model with a chat template that teaches tools; where a test leaves the choice to the model, it is too small."""

    has_tool_calling = True
    has_tool_choice = True
    has_structured_output = False

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {**super().chat_model_params, "base_url": f"{os.environ['SUITES_TOOLS_URL']}/v1"}
