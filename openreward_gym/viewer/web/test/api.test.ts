// @vitest-environment jsdom
import { afterEach, expect, test, vi } from "vitest";
import { ApiError, load, requestOf } from "../src/api";

afterEach(() => vi.unstubAllGlobals());

function answering(...answers: Partial<Response>[]): ReturnType<typeof vi.fn> {
  const fetched = vi.fn(async () => answers.shift() as Response);
  vi.stubGlobal("fetch", fetched);
  return fetched;
}

const headers = new Headers({ etag: 'W/"1"' });

test("a request has its parameters sorted by name, without the empty ones", () => {
  expect(requestOf("list", { step: 0, run: "a b", filter: "", discarded: false, every: true, group: null })).toBe("list?every=1&run=a%20b&step=0");
});

test("a truncated answer is an error and is not cached", async () => {
  const broken = { ok: true, status: 200, headers, text: () => Promise.reject(new DOMException("gone", "AbortError")) };
  const fetched = answering(broken, { ok: true, status: 200, headers, text: () => Promise.resolve('{"rollout":1}') });
  await expect(load("rollout", { id: "broken" })).rejects.toThrow("gone");
  expect(await load("rollout", { id: "broken" })).toEqual({ rollout: 1 });
  expect(fetched.mock.calls[1]![1].headers).toEqual({});
});

test("an unchanged answer is returned as the same object", async () => {
  const fetched = answering({ ok: true, status: 200, headers, text: () => Promise.resolve("[1]") }, { ok: false, status: 304, headers });
  const first = await load("steps", { run: "same" });
  expect(await load("steps", { run: "same" })).toBe(first);
  expect(fetched.mock.calls[1]![1].headers).toEqual({ "If-None-Match": 'W/"1"' });
});

test("an error has the server's message, or its status if the body is not JSON", async () => {
  answering({ ok: false, status: 404, headers, json: () => Promise.resolve({ error: "no such run" }) }, { ok: false, status: 502, headers, json: () => Promise.reject(new SyntaxError("<html>")) });
  await expect(load("steps", { run: "a" })).rejects.toEqual(new ApiError("no such run", 404));
  await expect(load("steps", { run: "b" })).rejects.toThrow("The server answered with status 502.");
});
