// How a page looks, and the few lines that show a mark's title beside the pointer.

/** What a page says of who made it; a page with it may be replaced by another. */
export const pageGenerator = 'name="generator" content="wecolora"';

export const pageStyle = `
:root { color-scheme: light dark; --ink: #1c2026; --soft: #59616d; --line: #d9dde3; --paper: #ffffff; --panel: #f5f6f8; --accent: #1f5fd0; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaee; --soft: #a9b1bd; --line: #353b45; --paper: #14171c; --panel: #1d2128; --accent: #8ab4ff; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 960px; margin: 0 auto; padding: 24px 20px 64px; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 4px; }
h2 { font-size: 1.2rem; margin: 44px 0 8px; }
h3 { font-size: 1rem; margin: 20px 0 6px; }
p { margin: 6px 0; max-width: 84ch; }
.soft { color: var(--soft); }
.verdict { font-size: 1.16rem; font-weight: 600; line-height: 1.4; margin: 10px 0; }
ul.findings { padding-left: 20px; max-width: 84ch; }
nav ul { display: flex; flex-wrap: wrap; gap: 4px 18px; list-style: none; padding: 0; margin: 14px 0 0; }
a { color: var(--accent); }
.scroll { overflow-x: auto; }
.scroll:focus-visible, a:focus-visible, summary:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; margin: 10px 0; font-variant-numeric: tabular-nums; font-size: 0.88rem; }
th, td { padding: 6px 7px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; vertical-align: top; }
th:first-child, td:first-child { text-align: left; }
thead th { color: var(--soft); font-weight: 600; font-size: 0.84rem; white-space: normal; vertical-align: bottom; }
thead span { white-space: nowrap; }
.notes { color: var(--soft); font-size: 0.88rem; columns: 2 320px; column-gap: 32px; padding-left: 20px; margin: 8px 0; }
.notes li { break-inside: avoid; }
tbody th { font-weight: 600; }
td small { display: block; color: var(--soft); font-size: 0.78rem; }
tr.marked th, tr.marked td { background: var(--panel); font-weight: 600; }
td.text, th.text { text-align: left; white-space: normal; min-width: 14ch; }
td strong { color: var(--accent); }
figure { margin: 14px 0; }
figcaption { color: var(--soft); font-size: 0.92rem; max-width: 84ch; }
figure svg { display: block; width: 100%; max-width: 460px; height: auto; font-family: inherit; overflow: visible; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 0 32px; align-items: start; }
.charts figure { margin: 8px 0; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 0.9rem; padding: 0; margin: 6px 0; list-style: none; }
.legend i { display: inline-block; width: 11px; height: 11px; border-radius: 50%; margin-right: 6px; }
.strip { display: flex; flex-wrap: wrap; gap: 6px; padding: 0; margin: 8px 0; list-style: none; }
.strip img { display: block; width: 72px; height: 72px; border-radius: 4px; border: 1px solid var(--line); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); gap: 14px; padding: 0; list-style: none; }
.card { background: var(--panel); border-radius: 8px; padding: 12px; min-width: 0; }
.card .name { font-size: 0.85rem; color: var(--soft); margin: 4px 0; }
.card dl { margin: 6px 0 0; font-size: 0.9rem; display: grid; grid-template-columns: max-content 1fr; gap: 2px 10px; }
.card dt { color: var(--soft); }
.card dd { margin: 0; }
.pair { display: grid; grid-template-columns: 72px 1fr; gap: 4px 12px; align-items: start; }
.pair .query { grid-row: span 2; }
.query img { width: 72px; height: 72px; border-radius: 4px; display: block; border: 1px solid var(--line); }
.row { display: flex; gap: 4px; flex-wrap: wrap; padding: 0; margin: 0 0 6px; list-style: none; }
.row img { width: 42px; height: 42px; border-radius: 3px; display: block; border: 2px solid transparent; }
.row .same img { border-color: #2a9d6f; }
.row .other img { border-color: #c23b5a; }
.looks { display: grid; grid-template-columns: repeat(3, 1fr); gap: 6px; }
.looks figure { margin: 0; }
.looks img { width: 100%; border-radius: 4px; display: block; }
pre { background: var(--panel); padding: 12px; border-radius: 6px; overflow-x: auto; font-size: 0.88rem; white-space: pre-wrap; }
details { margin: 8px 0; }
summary { cursor: pointer; }
.tip { position: fixed; z-index: 9; pointer-events: none; background: var(--ink); color: var(--paper); font-size: 0.82rem; padding: 4px 8px; border-radius: 4px; max-width: 260px; }
@media (max-width: 520px) { main { padding: 16px 14px 48px; } th, td { padding: 6px 8px; } tbody th { white-space: normal; min-width: 11ch; } body { font-size: 15px; } }
@media print { nav { display: none; } }
`;

/** Shows the title of the mark under the pointer or the finger; without it browsers show titles by themselves. */
export const pageScript = `
(() => {
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  tip.setAttribute("aria-hidden", "true");
  document.body.append(tip);
  const texts = new WeakMap();
  const textOf = (mark) => {
    if (!texts.has(mark)) {
      const title = mark.querySelector(":scope > title");
      texts.set(mark, title ? title.textContent : "");
      if (title) title.remove();
    }
    return texts.get(mark);
  };
  const show = (event) => {
    const mark = event.target.closest ? event.target.closest("figure svg [data-mark]") : null;
    const text = mark ? textOf(mark) : "";
    tip.hidden = !text;
    if (!text) return;
    tip.textContent = text;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(innerWidth - width - 4, event.clientX + 12)) + "px";
    tip.style.top = (event.clientY - height - 12 < 4 ? event.clientY + 16 : event.clientY - height - 12) + "px";
  };
  for (const title of document.querySelectorAll("figure svg title")) title.parentElement.setAttribute("data-mark", "");
  document.addEventListener("pointermove", show);
  document.addEventListener("pointerdown", show);
  document.addEventListener("scroll", () => { tip.hidden = true; }, true);
})();
`;
