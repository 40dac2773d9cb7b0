import katex from "katex";
import { element, hasInvisible } from "./invisible";

// Formulas become MathML. What KaTeX would drop or hide without a word (comments, phantoms, overlaps, definitions) is
// shown as its source.

const HIDES = /(?<!\\)%|\\(?:[hv]?phantom|[gex]?def|let|futurelet|global|(?:re|provide)?newcommand|providecommand|renewcommand|(?:math)?[rlc]lap|smash|kern|mkern|mskip|hskip|raisebox|htmlData|htmlId|htmlClass|htmlStyle|href|url|includegraphics)(?![a-zA-Z])/;
/** A tag, such as `<answer>`: its letters would be drawn as a product of variables. */
const TAG = /<\/?[A-Za-z][\w-]*\s*\/?>/;
const ATTRIBUTES = new Set(
  ("mathvariant notation display displaystyle scriptlevel stretchy fence separator symmetric lspace rspace width height depth voffset columnalign rowspacing columnspacing " +
    "columnlines rowlines linethickness accent accentunder minsize maxsize form movablelimits largeop columnspan").split(" "),
);
const MATHML = "http://www.w3.org/1998/Math/MathML";

/** The MathML of a formula; null where it is no formula, or where something in it would not be seen. */
function mathml(body: string, display: boolean): Element | null {
  if (HIDES.test(body) || TAG.test(body) || hasInvisible(body)) return null;
  const template = document.createElement("template");
  try {
    template.innerHTML = katex.renderToString(body, { output: "mathml", displayMode: display, throwOnError: true, trust: false, strict: "ignore", maxSize: 20, maxExpand: 200 });
  } catch {
    return null;
  }
  const root = template.content.querySelector("math");
  if (!root) return null;
  for (const node of root.querySelectorAll("annotation")) node.remove();
  for (const node of [root, ...root.querySelectorAll("*")]) {
    if (node.namespaceURI !== MATHML) return null;
    for (const { name } of [...node.attributes]) if (!ATTRIBUTES.has(name)) node.removeAttribute(name);
  }
  return root;
}

/** A formula. Its source is in `data-source` and is shown below the pointer. */
export function math(source: string, body: string, display: boolean): HTMLElement {
  const drawn = mathml(body, display);
  if (!drawn) return element("span", "literal source", source);
  const place = document.createElement("span");
  place.className = display ? "math display" : "math";
  place.dataset.source = source;
  place.title = source;
  place.append(drawn);
  return place;
}
