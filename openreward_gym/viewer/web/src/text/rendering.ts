import type { Render } from "../settings";
import { write } from "./invisible";
import { codeBlock, pieceNode, writeMarkdown } from "./markdown";
import { pieces } from "./pieces";

// Recorded text becomes DOM here. The one rule: what is shown is what is stored. No option adds, drops or reorders a
// character; formulas alone are drawn in place of their source, which they keep in `data-source`.

const MARKDOWN_LIMIT = 400_000;
const MOST_LINES = 8_000;

function lineCount(text: string): number {
  let count = 1;
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) count += 1;
  return count;
}

/** A passage without thoughts as DOM. With all options off it is the text, character for character. */
export function rendered(text: string, how: Render): DocumentFragment {
  const output = document.createDocumentFragment();
  if ((!how.markdown && !how.latex && !how.code) || text.length > MARKDOWN_LIMIT || lineCount(text) > MOST_LINES) {
    write(output, text);
    return output;
  }
  const list = pieces(text);
  if (how.markdown) {
    writeMarkdown(output, list, how);
    return output;
  }
  for (const piece of list) {
    if (piece.kind === "text") write(output, piece.source);
    else if (piece.kind === "code" && how.code) {
      const ended = piece.source.endsWith("\n");
      output.append(codeBlock(piece));
      if (ended) output.append(hiddenLineEnd());
    } else output.append(pieceNode(piece, how));
  }
  return output;
}

/** The line end after a block, which ends the line already. */
function hiddenLineEnd(): HTMLElement {
  const end = document.createElement("span");
  end.className = "line-end";
  end.textContent = "\n";
  return end;
}

/** Whether a text is shown as lines of its own: only then may white space outside of lines collapse. */
export function isLaidOut(text: string, how: Render): boolean {
  return how.markdown && text.length <= MARKDOWN_LIMIT && lineCount(text) <= MOST_LINES;
}
