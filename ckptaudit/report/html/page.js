// The two layer trees of an audit side by side, with lines between what belongs together.
// Only the rows that are in view exist as elements, so that 100,000 tensors scroll as well as ten. `Tree` is in tree.js.

const ROW = 24;
const MAX_LINES = 500;
const FAR = 3;
const WORDS = {
  file: ["", "set by the model itself", "fits", "renamed", "changed", "not sure", "not used", "other shape"],
  model: ["", "set by the model itself", "fits", "renamed", "changed", "not sure", "not set", "other shape"],
};

/** A scrolling list of a tree's rows. */
class Pane {
  constructor(element, side, tree, graph) {
    Object.assign(this, { element, side, tree, graph, current: 0 });
    this.rows = element.querySelector(".rows");
    element.addEventListener("scroll", () => graph.draw());
    element.addEventListener("keydown", (event) => this.key(event));
    element.addEventListener("click", (event) => {
      const row = event.target.closest(".row");
      if (row) this.choose(Number(row.dataset.row), event.target.closest(".twisty") !== null);
    });
  }

  opens(row) {
    return row.count > 1 || this.tree.first[row.node] >= 0;
  }

  choose(index, only_toggle = false) {
    const row = this.tree.rows[index];
    this.current = index;
    if (this.opens(row)) this.tree.toggle(row);
    if (only_toggle) this.graph.changed();
    else this.graph.choose(this, row);
  }

  key(event) {
    const row = this.tree.rows[this.current];
    const open = row && this.opens(row) && this.tree.isOpen(row.key);
    if (!row) return;
    if (event.key === "ArrowDown") this.current = Math.min(this.current + 1, this.tree.rows.length - 1);
    else if (event.key === "ArrowUp") this.current = Math.max(this.current - 1, 0);
    else if (event.key === "ArrowRight" && this.opens(row) && !open) this.tree.toggle(row);
    else if (event.key === "ArrowLeft" && open) this.tree.toggle(row);
    else if (event.key === "ArrowLeft") while (this.current > 0 && this.tree.rows[this.current].depth >= row.depth) this.current--;
    else if (event.key !== "Enter") return;
    event.preventDefault();
    this.scrollTo(this.current);
    this.graph.choose(this, this.tree.rows[this.current]);
  }

  /** Bring a row into view, or to a given height of the view. */
  scrollTo(index, height) {
    const top = index * ROW, view = this.element.clientHeight;
    this.rows.style.height = `${this.tree.rows.length * ROW}px`;
    if (height !== undefined) this.element.scrollTop = top - height;
    else if (top < this.element.scrollTop) this.element.scrollTop = top;
    else if (top + ROW > this.element.scrollTop + view) this.element.scrollTop = top + ROW - view;
  }

  draw() {
    const { tree, graph } = this;
    this.rows.style.height = `${tree.rows.length * ROW}px`;
    const from = Math.max(0, Math.floor(this.element.scrollTop / ROW) - 4);
    const to = Math.min(tree.rows.length, from + Math.ceil(this.element.clientHeight / ROW) + 8);
    const shown = [];
    for (let index = from; index < to; index++) {
      const row = tree.rows[index], i = row.node, opens = this.opens(row);
      const element = document.createElement("div");
      element.className = `row s${tree.worst[i]}`;
      element.dataset.row = index;
      element.id = `${graph.id}-${this.side}-${index}`;
      element.style.transform = `translateY(${index * ROW}px)`;
      element.style.paddingLeft = `${row.depth * 14 + 4}px`;
      element.setAttribute("role", "treeitem");
      element.setAttribute("aria-level", row.depth + 1);
      if (opens) element.setAttribute("aria-expanded", tree.isOpen(row.key));
      if (graph.isChosen(this, row)) element.classList.add("chosen");
      else if (graph.partners[this.side].has(index)) element.classList.add("partner");
      element.title = row.count > 1 ? `${tree.name(i)} to ${tree.name(row.last)}` : tree.name(i);
      const plain = (node) => tree.label(node).replace(/^[./](?=.)/, "");
      const name = row.count > 1 ? `{${plain(i)}..${plain(row.last)}}` : plain(i) || "(no name)";
      const what = [];
      if (tree.kind[i] >= 0) what.push(tree.strings[tree.kind[i]]);
      if (tree.shape[i] >= 0) what.push(tree.strings[tree.shape[i]]);
      if (tree.first[i] >= 0 && tree.kind[i] < 0) what.push(`${tree.tensors[i].toLocaleString("en")} tensors`);
      if (row.count > 1) what.push(`×${row.count}`);
      element.append(
        span("twisty", opens ? (tree.isOpen(row.key) ? "▾" : "▸") : ""),
        span("dot", ""),
        span("name", name),
        span("what", what.join(" · ")),
      );
      shown.push(element);
    }
    this.rows.replaceChildren(...shown);
    this.element.setAttribute("aria-activedescendant", `${graph.id}-${this.side}-${this.current}`);
  }
}

function span(name, text) {
  const element = document.createElement("span");
  element.className = name;
  element.textContent = text;
  return element;
}

/** Both panes of one audit, and the lines between them. */
class Graph {
  constructor(section, id) {
    const data = JSON.parse(section.querySelector("script").textContent);
    section.hidden = false;
    this.id = `graph${id}`;
    this.strings = data.strings;
    this.links = data.links;
    this.section = section;
    this.svg = section.querySelector(".links");
    this.chosen = null;
    this.partners = { file: new Set(), model: new Set() };
    this.panes = {};
    for (const side of ["file", "model"]) {
      this.panes[side] = new Pane(section.querySelector(`[data-side=${side}]`), side, new Tree(data[side], data.strings), this);
    }
    this.search = section.querySelector("input");
    this.select = section.querySelector("select");
    let waiting;
    this.search.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => this.narrow(), 120);
    });
    this.select.addEventListener("change", () => this.narrow());
    new ResizeObserver(() => this.draw()).observe(section);
    this.changed();
  }

  /** Show only what is searched for, on both sides with its counterpart. */
  narrow() {
    const text = this.search.value.trim().toLowerCase(), worst = Number(this.select.value), found = [];
    for (const { tree, element, side } of Object.values(this.panes)) {
      const wanted = (i) => tree.state[i] >= worst && (!text || tree.names[i].includes(text));
      const hits = tree.show(text || worst ? wanted : null);
      if (text || worst) found.push(`${hits.toLocaleString("en")} of the ${side}`);
      element.scrollTop = 0;
    }
    this.section.querySelector(".found").textContent = found.join(", ");
    this.changed();
  }

  /** Gather the pairs of tensors by the rows that stand for them. */
  changed() {
    const file = this.panes.file.tree.rowOf, model = this.panes.model.tree.rowOf, width = this.panes.model.tree.rows.length + 1;
    const lines = new Map();
    for (let k = 0; k < this.links.to.length; k++) {
      const a = file[this.links.from[k]], b = model[this.links.to[k]];
      if (a < 0 || b < 0) continue;
      const key = a * width + b, line = lines.get(key);
      if (!line) lines.set(key, { a, b, state: this.links.state[k], count: 1 });
      else {
        line.state = Math.max(line.state, this.links.state[k]);
        line.count++;
      }
    }
    this.lines = [...lines.values()];
    this.findPartners();
    this.draw();
  }

  isChosen(pane, row) {
    return this.chosen !== null && this.chosen.pane === pane && this.chosen.key === row.key;
  }

  choose(pane, row) {
    this.chosen = { pane, key: row.key, row };
    this.changed();
    const other = pane.side === "file" ? this.panes.model : this.panes.file;
    const here = pane.tree.rowOf[row.node] * ROW - pane.element.scrollTop;
    const partners = [...this.partners[other.side]];
    if (partners.length) other.scrollTo(Math.min(...partners), here);
    this.describe(pane, row);
    this.draw();
  }

  /** Whether `node` is, or lies below, a member of the chosen row. */
  within(tree, node, row) {
    for (let i = node; i >= row.node; i = tree.parent[i]) if (i >= row.node && i <= row.last && tree.parent[i] === tree.parent[row.node]) return true;
    return false;
  }

  findPartners() {
    this.partners = { file: new Set(), model: new Set() };
    this.concerned = [];
    if (!this.chosen) return;
    const { pane, row } = this.chosen;
    const mine = pane.side === "file" ? this.links.from : this.links.to, theirs = pane.side === "file" ? this.links.to : this.links.from;
    const other = pane.side === "file" ? this.panes.model : this.panes.file;
    for (let k = 0; k < mine.length; k++) {
      if (!this.within(pane.tree, mine[k], row)) continue;
      this.concerned.push(k);
      const index = other.tree.rowOf[theirs[k]];
      if (index >= 0) this.partners[other.side].add(index);
    }
  }

  describe(pane, row) {
    const { tree, side } = pane, lines = [], detail = this.section.querySelector(".detail");
    const name = row.count > 1 ? `${tree.name(row.node)} to ${tree.name(row.last)}` : tree.name(row.node);
    const state = WORDS[side][tree.worst[row.node]];
    const line = (...parts) => {
      const element = document.createElement("div");
      element.append(...parts);
      lines.push(element);
    };
    const code = (text) => Object.assign(document.createElement("code"), { textContent: text });
    const shape = (of, i) => (of.shape[i] < 0 ? "" : ` ${of.strings[of.shape[i]]}`);
    const single = tree.shape[row.node] >= 0 && row.count === 1;
    line(`${side}: `, code(name), shape(tree, row.node), single ? ` · ${state}` : ` · ${tree.tensors[row.node] * row.count} tensors, at worst: ${state}`);
    for (const k of this.concerned.slice(0, single ? 8 : 3)) {
      const from = this.links.from[k], to = this.links.to[k];
      line(code(this.panes.file.tree.name(from)), shape(this.panes.file.tree, from), " → ", code(this.panes.model.tree.name(to)), shape(this.panes.model.tree, to), ` · ${this.strings[this.links.how[k]]}`);
    }
    if (this.concerned.length > lines.length - 1) line(`and ${(this.concerned.length - lines.length + 1).toLocaleString("en")} more pairs`);
    detail.replaceChildren(...lines);
  }

  draw() {
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => {
      this.drawing = false;
      this.panes.file.draw();
      this.panes.model.draw();
      this.drawLines();
    });
  }

  drawLines() {
    const { clientHeight: height, clientWidth: width } = this.svg;
    if (!width) return;
    const left = this.panes.file.element.scrollTop, right = this.panes.model.element.scrollTop;
    const seen = (y) => y > 0 && y < height, paths = [];
    for (const { a, b, state, count } of this.lines) {
      const y1 = (a + 0.5) * ROW - left, y2 = (b + 0.5) * ROW - right;
      if (!seen(y1) && !seen(y2)) continue;
      if (Math.abs(y1 - y2) > FAR * height && !this.chosen) continue; // nothing but a vertical line at the edge
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("d", `M0,${y1} C${width / 2},${y1} ${width / 2},${y2} ${width},${y2}`);
      const chosen = this.chosen && (this.chosen.pane.side === "file" ? this.partners.model.has(b) && this.panes.file.tree.rows[a].key === this.chosen.key
        : this.partners.file.has(a) && this.panes.model.tree.rows[b].key === this.chosen.key);
      path.setAttribute("class", `s${state}${count > 1 ? " many" : ""}${chosen ? " chosen" : ""}`);
      paths.push(path);
      if (paths.length === MAX_LINES) break;
    }
    this.svg.replaceChildren(...paths);
  }
}

document.querySelectorAll("section.graph").forEach((section, id) => new Graph(section, id));
