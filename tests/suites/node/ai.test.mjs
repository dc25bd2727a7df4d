// The Node package `ai` with its OpenAI-compatible provider against a live gateway with the real model.

import assert from "node:assert/strict";
import { test } from "node:test";

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateText, jsonSchema, Output, streamText } from "ai";

globalThis.AI_SDK_LOG_WARNINGS = false;
const provider = createOpenAICompatible({
  name: "localmodel",
  baseURL: `${process.env.GATEWAY}/v1`,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const model = provider("smollm2");
const asked = { model, prompt: "Name the capital of France.", temperature: 0, maxOutputTokens: 16, maxRetries: 0 };

test("generateText answers, with its usage", async () => {
  const { text, usage, finishReason } = await generateText(asked);
  assert.match(text, /Paris/);
  assert.ok(usage.inputTokens > 5 && usage.outputTokens > 1);
  assert.ok(["stop", "length"].includes(finishReason));
});

test("streamText says the same, in pieces", async () => {
  const whole = await generateText(asked);
  const stream = streamText(asked);
  const pieces = [];
  for await (const piece of stream.textStream) pieces.push(piece);
  assert.equal(pieces.join(""), whole.text);
  assert.ok(pieces.length > 1);
  assert.equal((await stream.usage).outputTokens, whole.usage.outputTokens);
});

test("an aborted stream ends at once", async () => {
  const abort = new AbortController();
  const stream = streamText({ ...asked, prompt: "Write a very long story about a dragon.", maxOutputTokens: 900, abortSignal: abort.signal });
  const kinds = [];
  for await (const { type } of stream.fullStream) {
    kinds.push(type);
    if (kinds.filter((each) => each === "text-delta").length === 3) abort.abort();
  }
  assert.ok(kinds.includes("abort"), kinds.join());
  assert.ok(kinds.length < 100);
});

test("an object is made to a schema", async () => {
  const schema = jsonSchema({
    type: "object",
    properties: { city: { type: "string", maxLength: 20 } },
    required: ["city"],
    additionalProperties: false,
  });
  const { output } = await generateText({ ...asked, maxOutputTokens: 60, output: Output.object({ schema }) });
  assert.deepEqual(Object.keys(output), ["city"]);
});

test("errors are API errors that say whether a retry makes sense", async () => {
  await assert.rejects(generateText({ ...asked, model: provider("nobody") }), (error) => {
    assert.ok(APICallError.isInstance(error));
    assert.deepEqual([error.statusCode, error.isRetryable, error.data.error.code], [404, false, "model_not_found"]);
    return true;
  });
  await assert.rejects(generateText({ ...asked, temperature: 9 }), (error) => {
    assert.deepEqual([error.statusCode, error.data.error.param], [400, "temperature"]);
    return true;
  });
});
