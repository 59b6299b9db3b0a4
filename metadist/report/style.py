"""The look of a report: one column, light or dark as the reader's system is, light on paper."""

CSS = """
:root {
  --font: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  --bg: #f6f7f9; --card: #ffffff; --fg: #1b2230; --muted: #5d6878; --grid: #dfe3e9;
  --main: #2563c9; --second: #c2620a; --good: #18794e; --bad: #c22b2b;
  --warn-bg: #fff6e0; --warn: #8a5a00; --shadow: 0 1px 2px rgb(20 30 50 / 6%);
  color-scheme: light;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --bg: #12161d; --card: #1a2029; --fg: #e6eaf0; --muted: #9aa6b6; --grid: #313a47;
    --main: #7fb0ff; --second: #f5a55a; --good: #5cc894; --bad: #ff8780;
    --warn-bg: #2e2613; --warn: #f2c66a; --shadow: none;
    color-scheme: dark;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--bg); color: var(--fg);
  font: 16px/1.55 var(--font); -webkit-text-size-adjust: 100%;
}
main { max-width: 1080px; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0; letter-spacing: -.015em;
  overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .8rem; letter-spacing: -.01em; }
h3 { font-size: 1.02rem; margin: 0; }
h4 { font-size: .86rem; margin: 1rem 0 .45rem; font-weight: 600; }
h4 .muted { font-weight: 400; margin-left: .35em; }
p { margin: .5rem 0; max-width: 76ch; }
.muted { color: var(--muted); }
.lead { color: var(--muted); font-size: 1.05rem; margin-top: .4rem; }
.eyebrow { color: var(--muted); font-size: .78rem; letter-spacing: .08em; text-transform: uppercase;
  margin: 0 0 .35rem; }
.card { background: var(--card); border: 1px solid var(--grid); border-radius: 12px;
  padding: 1.1rem 1.25rem; box-shadow: var(--shadow); margin: 0; }
.grid { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr)); }
.grid.halves { grid-template-columns: repeat(auto-fill, minmax(min(420px, 100%), 1fr)); }
.stats { display: grid; gap: 1rem; margin: 1.6rem 0 0;
  grid-template-columns: repeat(auto-fit, minmax(min(200px, 100%), 1fr)); }
.stat .value { font-size: 1.75rem; font-weight: 650; line-height: 1.2; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums; }
.stat .value small { font-size: 1rem; font-weight: 450; color: var(--muted); letter-spacing: 0; }
.stat .name { font-size: .86rem; color: var(--muted); margin-top: .25rem; }
.stat.first { box-shadow: inset 0 4px 0 var(--main); }
.note { border: 1px solid var(--grid); border-left: 4px solid var(--muted); border-radius: 8px;
  padding: .7rem 1rem; margin: 1rem 0 0; background: var(--card); font-size: .95rem; }
.note p { margin: .15rem 0; max-width: none; }
.note.warning { background: var(--warn-bg); border-color: var(--warn); }
.note.warning b:first-child { color: var(--warn); }
figure { margin: 0; }
figure > svg { display: block; width: 100%; height: auto; overflow: visible; }
figure > figcaption { color: var(--muted); font-size: .86rem; margin-top: .5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem;
  font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .38rem .7rem; border-bottom: 1px solid var(--grid);
  white-space: nowrap; }
th { color: var(--muted); font-weight: 550; }
th:first-child, td:first-child { text-align: left; }
tr:last-child td { border-bottom: 0; }
tr.trained td { font-weight: 650; }
tr.trained td:first-child::after { content: " ◂ as trained"; color: var(--muted);
  font-weight: 400; }
tr.chosen td { font-weight: 650; }
.card > p.muted { font-size: .86rem; }
.below { margin-top: 1rem; }
pre.command { white-space: pre-wrap; overflow-wrap: anywhere; }
.scroll.wide > svg { display: block; width: 100%; min-width: 680px; height: auto; }
.card h3 + .scroll { margin-top: .5rem; }
.scroll + h3 { margin-top: 1.2rem; }
.episode.wide { grid-column: 1 / -1; }
.before-after { margin: .15rem 0 0; font-size: .95rem; }
.before-after b { color: var(--good); }
.tiles { display: flex; flex-wrap: wrap; gap: .5rem; }
.tiles.columns { display: grid; grid-template-columns: repeat(var(--ways), minmax(0, 92px)); }
.tiles.columns .tile { width: auto; }
.tile { width: 76px; max-width: 100%; }
.tile img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; border-radius: 5px;
  image-rendering: pixelated; background: #fff; }
.tile.way div { display: grid; grid-template-columns: 1fr; gap: 3px; }
.tile.way.several div { grid-template-columns: 1fr 1fr; }
.tile { border: 2px solid var(--grid); border-radius: 9px; padding: 3px; }
.tile figcaption { text-align: center; font-size: .85rem; line-height: 1.25; margin: .2rem 0 .05rem;
  color: var(--fg); font-weight: 600; }
.tile figcaption small { display: block; font-weight: 400; color: var(--muted); font-size: .76rem; }
.tile.ok { border-color: var(--good); } .tile.ok span { color: var(--good); }
.tile.bad { border-color: var(--bad); border-style: dashed; } .tile.bad span { color: var(--bad); }
.facts { columns: 3 290px; column-gap: 1rem; }
.facts .card { break-inside: avoid; margin-bottom: 1rem; }
.facts .card:last-child { margin-bottom: 0; }
.learned { columns: 2 420px; column-gap: 1rem; }
.learned .card { break-inside: avoid; margin-bottom: 1rem; }
.wide-facts { margin-top: 1rem; }
dl { display: grid; grid-template-columns: minmax(7.5em, auto) 1fr; gap: .3rem .9rem;
  margin: .6rem 0 0; font-size: .9rem; }
dt { color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; }
code, pre { font: .88em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { overflow-x: auto; margin: .8rem 0 0; }
details.card { margin-top: 1rem; } summary { cursor: pointer; font-weight: 600; }
footer { margin-top: 3rem; color: var(--muted); font-size: .86rem; }
@media print {
  body { background: none; font-size: 11pt; } main { max-width: none; padding: 0; }
  .card, .note, tr { break-inside: avoid; } h2, h3 { break-after: avoid; }
  .card { box-shadow: none; }
  .grid { grid-template-columns: 1fr 1fr; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
}
"""
