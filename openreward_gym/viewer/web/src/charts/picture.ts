/** Save a chart as a PNG file: its title, and what is drawn, on the page's paper. */
export function download(figure: HTMLElement, title: string): void {
  const drawn = figure.querySelector("canvas");
  if (!drawn) return;
  const style = getComputedStyle(figure);
  const ratio = devicePixelRatio;
  const canvas = document.createElement("canvas");
  const top = 30 * ratio;
  [canvas.width, canvas.height] = [drawn.width, drawn.height + top];
  const context = canvas.getContext("2d")!;
  context.fillStyle = style.getPropertyValue("--raised").trim();
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = style.getPropertyValue("--ink").trim();
  context.font = `600 ${13 * ratio}px system-ui, sans-serif`;
  const keys = [...figure.querySelectorAll<HTMLElement>(".legend [aria-pressed=true]")].map((node) => [node.innerText.trim(), node.querySelector("line")?.getAttribute("stroke") ?? ""] as const);
  context.fillText(title, 8 * ratio, 20 * ratio, canvas.width - 16 * ratio);
  context.drawImage(drawn, 0, top);
  context.font = `${11 * ratio}px system-ui, sans-serif`;
  keys.forEach(([label, color], index) => {
    context.fillStyle = color;
    context.fillText(label, 60 * ratio, top + (18 + 14 * index) * ratio);
  });
  canvas.toBlob((blob) => {
    if (!blob) return;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${title.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 80)}.png`;
    link.click();
    window.setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  });
}
