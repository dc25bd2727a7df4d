"""LangChain's standard tests of embeddings with langchain-openai, against SUITES_URL. Runs in the suites' environment."""

import os
from typing import Any

from langchain_openai import OpenAIEmbeddings
from langchain_tests.integration_tests import EmbeddingsIntegrationTests


class TestEmbeddings(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self) -> type[OpenAIEmbeddings]:
        return OpenAIEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {
            "model": os.environ["SUITES_MODEL"],
            "base_url": f"{os.environ['SUITES_URL']}/v1",
            "api_key": "none",
            # Without this, texts are sent as token ids of OpenAI's vocabulary, which no other model understands.
            "check_embedding_ctx_length": False,
        }
