// @vitest-environment jsdom
import { expect, test } from "vitest";
import { told } from "../src/reading/labels";

const time = "2026-01-01T00:00:00+00:00";

test("a change is told in words, field by field", () => {
  expect(told({ time, set: { rating: 4, note: "short" } })).toEqual(["rated 4", "wrote “short”"]);
  expect(told({ time, add: ["good", "short"], remove: ["bad"] })).toEqual(["added “good”, “short”", "removed “bad”"]);
  expect(told({ time, set: { rating: null, note: "" } })).toEqual(["removed the rating", "removed the note"]);
  expect(told({ time, set: { tags: [] } })).toEqual(["removed all tags"]);
  expect(told({ time, set: { tags: ["x"], rating: 1 } })).toEqual(["rated 1", "set the tags “x”"]);
});
