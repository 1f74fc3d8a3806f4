"""Style and script of the report: no part of it comes from anywhere else.

The script shows one page of the rows at a time and keeps what is chosen in the address
(`#kind=relation&status=missed,spurious&q=oslo&sort=score&desc=1`), so that a view can be linked
to. Without it the report is a plain table of all rows. Both texts keep to what HTML and XML read
alike: the script stands in a CDATA section.
"""

STYLE = """
:root { color-scheme: light dark;
  --back: #ffffff; --front: #1c2230; --soft: #5d6678; --line: #d9dde5; --panel: #f4f6f9;
  --link: #1f56b5; --heat: 37 99 205; --wrong: 205 62 45;
  --both: #d5eedb; --both-line: #1d7a3c; --gold-line: #b06a00; --pred: #fbdcd7; --pred-line: #c03421; }
@media (prefers-color-scheme: dark) { :root {
  --back: #14171d; --front: #e4e7ee; --soft: #98a1b3; --line: #343a47; --panel: #1d212a;
  --link: #8db4f5; --heat: 90 140 240; --wrong: 225 95 75;
  --both: #1d4429; --both-line: #63c583; --gold-line: #eeb04c; --pred: #55251e; --pred-line: #f08872; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem 1.6rem 3rem; max-width: 92rem; background: var(--back);
  color: var(--front); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.45rem; margin: 0 0 .2rem; } h2 { font-size: 1.15rem; margin: 1.8rem 0 .5rem; }
a { color: var(--link); } p { margin: .3rem 0; } .soft { color: var(--soft); }
.notice { border-left: 4px solid var(--gold-line); padding: .3rem .8rem; background: var(--panel); }
.tables { display: flex; flex-wrap: wrap; gap: 1.2rem 2.4rem; align-items: flex-start; }
.scroll { overflow: auto; max-width: 100%; max-height: 42rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .2rem 0; white-space: nowrap; }
th, td { padding: .22rem .6rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
thead th { color: var(--soft); font-weight: 600; white-space: nowrap; }
.r { text-align: right; } .r small { white-space: nowrap; }
.heat td { text-align: right; min-width: 2.6rem; border: 1px solid var(--line); padding: .15rem .4rem;
  background: rgb(var(--wrong) / calc(var(--v, 0) * .55)); }
.heat td.d { background: rgb(var(--heat) / calc(var(--v, 0) * .55)); }
.heat thead td { border: 0; }
.heat td a { color: inherit; text-decoration: none; display: block; }
.heat td a:hover, .heat td a:focus { text-decoration: underline; }
.heat tbody th { white-space: nowrap; } .heat .none { font-style: italic; }
.heat thead th.v { writing-mode: vertical-rl; transform: rotate(180deg); padding: .4rem .2rem;
  white-space: nowrap; vertical-align: bottom; }
form { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: end; padding: .7rem .9rem;
  background: var(--panel); border: 1px solid var(--line); border-radius: .4rem; }
form label { display: inline-flex; flex-direction: column; font-size: .8rem; color: var(--soft); }
fieldset { border: 0; margin: 0; padding: 0; display: flex; flex-wrap: wrap; gap: .1rem .9rem; }
fieldset label { flex-direction: row; gap: .3rem; font-size: .9rem; color: var(--front);
  align-items: center; }
input, select, button { font: inherit; color: var(--front); background: var(--back);
  border: 1px solid var(--line); border-radius: .25rem; padding: .15rem .4rem; }
input[type=number] { width: 5rem; } button { cursor: pointer; }
button:disabled { opacity: .45; cursor: default; }
.pager { display: flex; gap: .6rem; align-items: center; margin: .6rem 0; flex-wrap: wrap; }
#outcomes { width: 100%; } #outcomes > thead th { position: sticky; top: 0; background: var(--back);
  border-bottom: 2px solid var(--line); z-index: 1; }
#outcomes th button { border: 0; background: none; padding: 0; font-weight: 600; color: var(--soft); }
#outcomes th[aria-sort=ascending] button::after { content: " \\2191"; }
#outcomes th[aria-sort=descending] button::after { content: " \\2193"; }
#outcomes td.text { min-width: 22rem; overflow-wrap: anywhere; }
#outcomes td.ann { min-width: 9rem; max-width: 20rem; overflow-wrap: anywhere; }
.type { font-weight: 600; } small { color: var(--soft); font-size: .82em; }
.nothing { color: var(--soft); font-style: italic; } .question { font-weight: 600; display: block; }
.s { white-space: nowrap; border-left: 4px solid var(--pred-line); padding-left: .45rem; }
.s.correct { border-color: var(--both-line); } .s.missed { border-color: var(--gold-line); }
.b { background: var(--both); border-bottom: 2px solid var(--both-line); }
.g { border-bottom: 3px double var(--gold-line); }
.p { background: var(--pred); border-bottom: 2px dotted var(--pred-line); }
.b, .g, .p { border-radius: .15rem; padding: 0 .05rem; }
.role { color: var(--soft); font-size: .7em; vertical-align: super; margin: 0 .1rem; }
.js .nojs, html:not(.js) .onlyjs { display: none; } .js.loading #rows { display: none; }
@media (max-width: 60rem) { #outcomes td.text { min-width: 14rem; } body { padding: .8rem; } }
"""

HEAD_SCRIPT = "document.documentElement.className = 'js loading';"

SCRIPT = """
(function () {
  "use strict";
  var PAGE = 100;
  var body = document.getElementById("rows");
  var all = Array.from(body.rows);
  var form = document.getElementById("filters");
  var heads = Array.from(document.querySelectorAll("#outcomes th[data-sort]"));
  var texts = new Map();
  var state = {};

  function read() {
    var given = new URLSearchParams(location.hash.slice(1));
    var pick = function (name) { return given.get(name) || ""; };
    state = {
      status: pick("status") ? pick("status").split(",") : [],
      kind: pick("kind"), component: pick("component"), label: pick("label"), q: pick("q"),
      min: pick("min"), max: pick("max"), cell: pick("cell"), sort: pick("sort") || "doc",
      desc: pick("desc") === "1", page: Math.max(1, parseInt(pick("page"), 10) || 1)
    };
    form.querySelectorAll("[name=status]").forEach(function (box) {
      box.checked = state.status.includes(box.value);
    });
    ["kind", "component", "label", "q", "min", "max"].forEach(function (name) {
      if (form.elements[name]) { form.elements[name].value = state[name]; }
    });
  }

  function write() {
    var out = new URLSearchParams();
    if (state.status.length) { out.set("status", state.status.join(",")); }
    ["kind", "component", "label", "q", "min", "max", "cell"].forEach(function (name) {
      if (state[name]) { out.set(name, state[name]); }
    });
    if (state.sort !== "doc" || state.desc) { out.set("sort", state.sort); }
    if (state.desc) { out.set("desc", "1"); }
    if (state.page > 1) { out.set("page", state.page); }
    history.replaceState(null, "", "#" + out.toString());
  }

  function textOf(row) {
    if (!texts.has(row)) { texts.set(row, row.textContent.toLowerCase()); }
    return texts.get(row);
  }

  function keeps(row) {
    var d = row.dataset;
    if (state.status.length && !state.status.includes(d.status)) { return false; }
    if (state.kind && d.kind !== state.kind) { return false; }
    if (state.component && d.component !== state.component) { return false; }
    if (state.label && d.gold !== state.label && d.predicted !== state.label) { return false; }
    if (state.cell && !d.cells.split(" ").includes(state.cell)) { return false; }
    if (state.min && !(parseFloat(d.score) >= parseFloat(state.min))) { return false; }
    if (state.max && !(parseFloat(d.score) <= parseFloat(state.max))) { return false; }
    return !state.q || textOf(row).includes(state.q.toLowerCase());
  }

  function compare(a, b) {
    var name = state.sort, numeric = ["doc", "score", "status"].includes(name);
    var x = a.dataset[name === "status" ? "rank" : name];
    var y = b.dataset[name === "status" ? "rank" : name];
    var order = 0;
    if (!x || !y) {
      // What has no value stands last in both directions.
      if (x || y) { return x ? -1 : 1; }
    } else {
      order = numeric ? parseFloat(x) - parseFloat(y) : x.localeCompare(y);
    }
    return (state.desc ? -order : order) || a.dataset.doc - b.dataset.doc;
  }

  function show() {
    var found = all.filter(keeps).sort(compare);
    var pages = Math.max(1, Math.ceil(found.length / PAGE));
    state.page = Math.min(state.page, pages);
    var from = (state.page - 1) * PAGE;
    body.replaceChildren.apply(body, found.slice(from, from + PAGE));
    document.getElementById("found").textContent =
      found.length + " of " + all.length + " rows" +
      (pages > 1 ? ", page " + state.page + " of " + pages : "");
    document.getElementById("previous").disabled = state.page === 1;
    document.getElementById("next").disabled = state.page === pages;
    var link = state.cell ? document.querySelector("a[href='#cell=" + CSS.escape(state.cell) + "']") : null;
    document.getElementById("cell").hidden = !state.cell;
    document.getElementById("cell-name").textContent = link ? link.title : state.cell;
    heads.forEach(function (th) {
      if (th.dataset.sort === state.sort) {
        th.setAttribute("aria-sort", state.desc ? "descending" : "ascending");
      } else {
        th.removeAttribute("aria-sort");
      }
    });
  }

  function changed() { write(); show(); }

  form.addEventListener("submit", function (event) { event.preventDefault(); });
  form.addEventListener("input", function () {
    state.status = Array.from(form.querySelectorAll("[name=status]:checked"), function (box) {
      return box.value;
    });
    ["kind", "component", "label", "q", "min", "max"].forEach(function (name) {
      if (form.elements[name]) { state[name] = form.elements[name].value; }
    });
    state.page = 1;
    changed();
  });
  document.getElementById("reset").addEventListener("click", function () {
    history.replaceState(null, "", "#");
    read();
    show();
  });
  document.getElementById("cell-off").addEventListener("click", function () {
    state.cell = "";
    changed();
  });
  [["previous", -1], ["next", 1]].forEach(function (pair) {
    document.getElementById(pair[0]).addEventListener("click", function () {
      state.page += pair[1];
      changed();
    });
  });
  heads.forEach(function (th) {
    th.querySelector("button").addEventListener("click", function () {
      var name = th.dataset.sort;
      state.desc = state.sort === name ? !state.desc : name === "score";
      state.sort = name;
      state.page = 1;
      changed();
    });
  });
  window.addEventListener("hashchange", function () {
    read();
    show();
    if (state.cell) { form.scrollIntoView(); }
  });
  read();
  show();
  document.documentElement.classList.remove("loading");
})();
"""
