// The Node package `openai` against a live gateway with the real model. GATEWAY is the gateway's address.

import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";

const MODEL = "smollm2";
const QUESTION = [{ role: "user", content: "Name the capital of France." }];
const client = new OpenAI({ baseURL: `${process.env.GATEWAY}/v1`, apiKey: "none", maxRetries: 0, timeout: 300_000 });
const asked = { model: MODEL, messages: QUESTION, temperature: 0, max_tokens: 16 };

test("models are listed and found", async () => {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  assert.deepEqual(names, [MODEL]);
  assert.equal((await client.models.retrieve(MODEL)).owned_by, "localmodel");
});

test("a chat is answered, with its usage", async () => {
  const answer = await client.chat.completions.create(asked);
  assert.match(answer.choices[0].message.content, /Paris/);
  assert.ok(answer.usage.prompt_tokens > 5 && answer.usage.completion_tokens > 1);
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
});

test("a streamed chat says the same, and its usage last", async () => {
  const whole = await client.chat.completions.create(asked);
  const stream = await client.chat.completions.create({ ...asked, stream: true, stream_options: { include_usage: true } });
  let text = "";
  let usage = null;
  let finishes = 0;
  for await (const chunk of stream) {
    assert.equal(usage, null, "nothing comes after the usage");
    text += chunk.choices[0]?.delta.content ?? "";
    finishes += chunk.choices[0]?.finish_reason ? 1 : 0;
    usage = chunk.usage ?? null;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(finishes, 1);
  assert.deepEqual(usage, whole.usage);
});

test("the SDK's own stream helper puts the answer together", async () => {
  const stream = client.chat.completions.stream({ ...asked, stream_options: { include_usage: true } });
  const pieces = [];
  stream.on("content.delta", ({ delta }) => pieces.push(delta));
  const final = await stream.finalChatCompletion();
  assert.equal(final.choices[0].message.role, "assistant");
  assert.equal(pieces.join(""), final.choices[0].message.content);
  assert.ok((await stream.totalUsage()).completion_tokens > 1);
});

test("an aborted stream ends at once", async () => {
  const story = [{ role: "user", content: "Write a very long story about a dragon." }];
  const stream = await client.chat.completions.create({ ...asked, messages: story, max_tokens: 900, stream: true });
  let chunks = 0;
  for await (const _ of stream) {
    chunks += 1;
    if (chunks === 4) stream.controller.abort();
  }
  assert.ok(chunks >= 4 && chunks < 100, `${chunks} chunks`);
});

test("a completion continues a text", async () => {
  const answer = await client.completions.create({ model: MODEL, prompt: "The capital of France is", temperature: 0, max_tokens: 4 });
  assert.match(answer.choices[0].text, /Paris/);
});

test("a JSON schema is kept to", async () => {
  const schema = {
    type: "object",
    properties: { city: { type: "string", maxLength: 20 }, people: { type: "integer" } },
    required: ["city", "people"],
    additionalProperties: false,
  };
  const answer = await client.chat.completions.create({
    ...asked,
    max_tokens: 80,
    response_format: { type: "json_schema", json_schema: { name: "city", schema, strict: true } },
  });
  const { city, people, ...rest } = JSON.parse(answer.choices[0].message.content);
  assert.equal(typeof city, "string");
  assert.ok(Number.isInteger(people));
  assert.deepEqual(rest, {});
});

test("errors have the classes, codes and params that the SDK knows", async () => {
  await assert.rejects(client.chat.completions.create({ ...asked, model: "nobody" }), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.deepEqual([error.status, error.code, error.param], [404, "model_not_found", "model"]);
    return true;
  });
  await assert.rejects(client.chat.completions.create({ ...asked, temperature: 9 }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.deepEqual([error.status, error.param, error.type], [400, "temperature", "invalid_request_error"]);
    assert.match(error.requestID, /^req_/);
    return true;
  });
  await assert.rejects(client.chat.completions.create({ ...asked, max_tokens: 100_000 }), (error) => {
    assert.equal(error.code, "context_length_exceeded");
    return true;
  });
});
