// @vitest-environment jsdom
import { afterEach, expect, test, vi } from "vitest";
import { ask, Refused, requestOf } from "../src/data";

afterEach(() => vi.unstubAllGlobals());

function answering(...answers: Partial<Response>[]): ReturnType<typeof vi.fn> {
  const fetched = vi.fn(async () => answers.shift() as Response);
  vi.stubGlobal("fetch", fetched);
  return fetched;
}

const headers = new Headers({ etag: 'W/"1"' });

test("a request has its parameters by name, without the empty ones", () => {
  expect(requestOf("list", { step: 0, run: "a b", filter: "", discarded: false, every: true, group: null })).toBe("list?every=1&run=a%20b&step=0");
});

test("an answer that was broken off is no answer, and is not remembered as one", async () => {
  const broken = { ok: true, status: 200, headers, json: () => Promise.reject(new DOMException("gone", "AbortError")) };
  const fetched = answering(broken, { ok: true, status: 200, headers, json: () => Promise.resolve({ rollout: 1 }) });
  await expect(ask("rollout", { id: "broken" })).rejects.toThrow("gone");
  expect(await ask("rollout", { id: "broken" })).toEqual({ rollout: 1 });
  expect(fetched.mock.calls[1]![1].headers).toEqual({});
});

test("what has not changed comes back as the same object", async () => {
  const fetched = answering({ ok: true, status: 200, headers, json: () => Promise.resolve([1]) }, { ok: false, status: 304, headers });
  const first = await ask("steps", { run: "same" });
  expect(await ask("steps", { run: "same" })).toBe(first);
  expect(fetched.mock.calls[1]![1].headers).toEqual({ "If-None-Match": 'W/"1"' });
});

test("a refusal says what the server said, also where that is not JSON", async () => {
  answering({ ok: false, status: 404, headers, json: () => Promise.resolve({ error: "no such run" }) }, { ok: false, status: 502, headers, json: () => Promise.reject(new SyntaxError("<html>")) });
  await expect(ask("steps", { run: "a" })).rejects.toEqual(new Refused("no such run", 404));
  await expect(ask("steps", { run: "b" })).rejects.toThrow("The server said 502.");
});
