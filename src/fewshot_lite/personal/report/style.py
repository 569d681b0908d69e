"""How reports look: light and dark, on wide screens, phones and paper."""

from __future__ import annotations

CSS = """
:root {
  color-scheme: light dark;
  --page: #f6f5f2; --card: #ffffff; --ink: #1d1f23; --soft: #5d626b; --line: #e2e0da;
  --accent: #1f6f54; --accent-soft: #e2f1eb; --warn: #a8421f; --warn-soft: #fbe9e1;
  --right: 31, 111, 84; --wrong: 208, 88, 44;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #15171a; --card: #1e2125; --ink: #e9e8e4; --soft: #a2a7af; --line: #33373d;
    --accent: #6cc9a5; --accent-soft: #1d3a30; --warn: #f0946c; --warn-soft: #42271c;
    --right: 82, 178, 142; --wrong: 226, 112, 66;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  overflow-wrap: anywhere;
}
main, header, footer { max-width: 68rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2.25rem; }
.kind { margin: 0; color: var(--accent); font-size: .8rem; font-weight: 650;
  letter-spacing: .07em; text-transform: uppercase; }
h1 { margin: .1rem 0 .2rem; font-size: clamp(1.6rem, 5vw, 2.3rem); line-height: 1.2;
  letter-spacing: -.02em; }
h2 { margin: 2.75rem 0 .5rem; font-size: 1.35rem; letter-spacing: -.01em; }
h3 { margin: 0; font-size: 1rem; }
p { margin: .3rem 0 .8rem; max-width: 46rem; }
.soft, figcaption, caption { color: var(--soft); }
.soft { font-size: .92rem; }
nav { display: flex; flex-wrap: wrap; gap: .35rem 1.1rem; margin: 1.1rem 0 1.2rem;
  font-size: .95rem; }
a { color: var(--accent); text-underline-offset: .2em; }
.stats { display: grid; gap: .8rem; margin: 1.4rem 0 0; padding: 0; list-style: none;
  grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); }
.stats li, .card { background: var(--card); border: 1px solid var(--line); border-radius: .8rem; }
.stats li { padding: .8rem 1rem; }
.stats .wide { grid-column: span 2; }
.stats b { display: block; font-size: 1.9rem; line-height: 1.2; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums; }
.stats span { color: var(--soft); font-size: .9rem; }
.stats li.look b { color: var(--warn); }
.range { position: relative; height: .5rem; margin: .45rem 0 .3rem; border-radius: .25rem;
  background: var(--line); }
.range i { position: absolute; top: 0; height: 100%; border-radius: .25rem;
  background: rgba(var(--right), .5); }
.range u { position: absolute; top: -.2rem; width: .25rem; height: .9rem; margin-left: -.125rem;
  border-radius: .125rem; background: var(--accent); }
.card { padding: 1rem 1.1rem; margin: .8rem 0; }
.card > h3 + p { margin-top: .1rem; }
.title { display: flex; flex-wrap: wrap; align-items: baseline; gap: .1rem .7rem;
  margin-bottom: .6rem; }
.photos { display: grid; gap: .7rem; margin: 0; padding: 0; list-style: none;
  grid-template-columns: repeat(auto-fill, minmax(6rem, 1fr)); }
.cards { display: grid; gap: .8rem; margin: .8rem 0; padding: 0; list-style: none;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); }
.cards .card { margin: 0; }
.cols { display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
.cols .card { margin: 0; }
.cols .wide { grid-column: 1 / -1; }
.cols ul:not(.photos) { margin: .3rem 0; padding-left: 1.2rem; }
figure { margin: 0; }
.pic { display: flex; align-items: center; justify-content: center; aspect-ratio: 1;
  border-radius: .55rem; overflow: hidden; background: var(--line); color: var(--soft);
  font-size: .75rem; text-align: center; }
.pic.missing { aspect-ratio: 2; }
.pic img { display: block; width: 100%; height: 100%; object-fit: cover; }
figcaption { margin-top: .25rem; font-size: .78rem; line-height: 1.3; }
.line { display: block; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
code { font-size: .95em; white-space: nowrap; }
.clip { display: -webkit-box; overflow: hidden; -webkit-box-orient: vertical;
  -webkit-line-clamp: 2; }
figcaption b { display: block; color: var(--ink); font-weight: 600; }
.wrong .pic { outline: .2rem solid rgb(var(--wrong)); outline-offset: .1rem; }
.wrong figcaption b, .warn { color: var(--warn); }
.doubt { display: grid; gap: 1rem 1.4rem; align-items: start;
  grid-template-columns: 8rem minmax(0, 1fr); }
.doubt .photos { grid-template-columns: repeat(auto-fill, 5.6rem); }
.doubt .rows { display: grid; gap: .8rem 1.4rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 18.2rem), 1fr)); }
.answer { display: grid; gap: .9rem; grid-template-columns: 6.5rem minmax(0, 1fr); }
.answer h3 { font-size: 1.05rem; }
.answer p { margin: 0; font-size: .85rem; }
.answer p.why { margin: .5rem 0 .3rem; font-size: .78rem; }
.answer .photos { grid-template-columns: repeat(3, minmax(0, 4rem));
  gap: .5rem; }
.answer figcaption { font-size: .7rem; }
.why { margin: .5rem 0 .3rem; color: var(--soft); font-size: .82rem; }
.tag { display: inline-block; padding: .05rem .55rem; border-radius: 1rem; font-size: .8rem;
  background: var(--warn-soft); color: var(--warn); }
.ok { background: var(--accent-soft); color: var(--accent); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { padding: 0 0 .5rem; text-align: left; font-size: .92rem; }
th, td { padding: .35rem .7rem; text-align: left; vertical-align: top; }
th { font-weight: 600; }
.list { width: 100%; }
.list td, .list th { border-top: 1px solid var(--line); }
.list thead th { border-top: 0; color: var(--soft); font-size: .85rem; font-weight: 500; }
.list .number { text-align: right; white-space: nowrap; }
.bar { width: clamp(4rem, 30vw, 22rem); padding-top: .45rem; }
.bar i { display: block; height: .6rem; border-radius: .3rem; min-width: 2px;
  background: rgba(var(--right), .7); }
.bar .none { background: rgba(var(--wrong), .7); }
.matrix th, .matrix td { padding: 0; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.matrix th { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; font-weight: 500; }
.matrix tbody th { max-width: 9rem; padding-right: .7rem; text-align: right;
  vertical-align: middle; }
.matrix thead th { vertical-align: bottom; }
.matrix thead th span { display: block; max-height: 9rem; margin: 0 auto; padding-top: .4rem;
  overflow: hidden; text-overflow: ellipsis; writing-mode: vertical-rl; transform: rotate(180deg);
  text-align: left; line-height: 2.4rem; }
.matrix td { width: 2.4rem; min-width: 2.4rem; height: 2.4rem; border: 2px solid var(--page);
  border-radius: .5rem; text-align: center; vertical-align: middle; background: var(--card); }
.matrix .corner { background: none; }
.matrix td.none { color: var(--soft); opacity: .45; }
.matrix .alone { color: var(--soft); font-size: .85rem; text-align: left; padding: 0 .6rem; }
details { margin: .8rem 0; }
summary { cursor: pointer; color: var(--accent); }
footer { margin-top: 3rem; padding-top: 1rem; padding-bottom: 2.5rem; color: var(--soft);
  font-size: .88rem; }
footer hr { border: 0; border-top: 1px solid var(--line); margin: 0 0 1rem; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .15rem 1rem;
  margin: .5rem 0; }
dd { margin: 0; }
@media (max-width: 34rem) {
  header { padding-top: 1.4rem; }
  main, header, footer { padding-left: .9rem; padding-right: .9rem; }
  .photos { grid-template-columns: repeat(auto-fill, minmax(4.6rem, 1fr)); gap: .5rem; }
  .doubt { grid-template-columns: 1fr; }
  .doubt > figure { max-width: 9rem; }
  .doubt .photos { grid-template-columns: repeat(3, minmax(0, 5.5rem)); }
  .answer { grid-template-columns: 5.5rem minmax(0, 1fr); gap: .7rem; }
  .list th, .list td { padding: .3rem .4rem; }
  .stats { grid-template-columns: repeat(6, 1fr); gap: .5rem; }
  .stats li { grid-column: span 3; padding: .6rem .7rem; }
  .stats b { font-size: 1.5rem; }
  .stats li.wide { grid-column: 1 / -1; }
  .stats .wide ~ li { grid-column: span 2; }
}
@media print {
  body { background: #fff; }
  .card, .photos li { break-inside: avoid; }
  nav { display: none; }
}
"""
