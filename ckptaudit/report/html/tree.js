"use strict";
// What is open, folded and shown of one side of an audit; nothing here touches the page.

const OPEN_AT_FIRST = 60;

/** One side: a tree in columns. A node's parent always comes before it. */
class Tree {
  constructor(columns, strings) {
    Object.assign(this, columns);
    this.strings = strings;
    this.size = this.parent.length;
    this.first = new Int32Array(this.size + 1).fill(-1);
    this.next = new Int32Array(this.size).fill(-1);
    this.tensors = new Int32Array(this.size);
    this.worst = Uint8Array.from(this.state);
    this.look = new Int32Array(this.size);
    this.filter = null;
    this.open = new Set();
    this.closed = new Set();
    const known = new Map();
    // From the last to the first, so that children are summed up before their parents.
    for (let i = this.size - 1; i >= 0; i--) {
      const up = this.parent[i] < 0 ? this.size : this.parent[i];
      let key = `${this.shape[i]},${this.kind[i]},${this.state[i]}`;
      for (let child = this.first[i]; child >= 0; child = this.next[child]) key += `;${this.segment[child]},${this.look[child]}`;
      if (!known.has(key)) known.set(key, known.size);
      this.look[i] = known.get(key);
      this.tensors[i] += this.shape[i] >= 0 ? 1 : 0;
      if (up < this.size) {
        this.tensors[up] += this.tensors[i];
        this.worst[up] = Math.max(this.worst[up], this.worst[i]);
      }
      this.next[i] = this.first[up];
      this.first[up] = i;
    }
    this.openFirst();
    this.layOut();
  }

  /** Open what has a single way to go, and the way to the worst tensors. */
  openFirst() {
    for (let i = this.first[this.size]; i >= 0 && this.next[i] < 0; i = this.first[i]) this.open.add(i);
    let left = OPEN_AT_FIRST;
    for (let i = 0; i < this.size && left > 0; i++) {
      if (this.state[i] < 5) continue;
      left--;
      this.open.add(this.foldOf(i));
      for (let up = this.parent[i]; up >= 0; up = this.parent[up]) this.open.add(up).add(this.foldOf(up));
    }
  }

  label(i) {
    return this.strings[this.segment[i]];
  }

  name(i) {
    let name = "";
    for (; i >= 0; i = this.parent[i]) name = this.label(i) + name;
    return name;
  }

  /** Names of all nodes in lower case, for the search; made when it is first used. */
  get names() {
    if (!this._names) {
      this._names = [];
      for (let i = 0; i < this.size; i++) this._names.push((this.parent[i] < 0 ? "" : this._names[this.parent[i]]) + this.label(i).toLowerCase());
    }
    return this._names;
  }

  /** Show only tensors that satisfy `wanted`, with the way to them; null shows all. Returns how many those are. */
  show(wanted) {
    this.closed.clear();
    this.filter = wanted && new Uint8Array(this.size);
    let found = 0;
    for (let i = this.size - 1; wanted && i >= 0; i--) {
      if (this.shape[i] >= 0 && wanted(i)) {
        this.filter[i] = 1;
        found++;
      }
      if (this.filter[i] && this.parent[i] >= 0) this.filter[this.parent[i]] = 1;
    }
    this.layOut();
    return found;
  }

  isOpen(key) {
    return this.filter ? !this.closed.has(key) : this.open.has(key);
  }

  toggle(row) {
    const set = this.filter ? this.closed : this.open;
    if (!set.delete(row.key)) set.add(row.key);
    this.layOut();
  }

  number(i) {
    return /^[./]?\d+$/.test(this.label(i));
  }

  /** The end of the run of numbered siblings from `i` on that look the same, as the sibling behind it. */
  runEnd(i) {
    let end = this.next[i];
    if (this.filter || !this.number(i)) return end;
    while (end >= 0 && this.number(end) && this.look[end] === this.look[i]) end = this.next[end];
    return end;
  }

  /** The key of the fold that would hold node `i`: folds are named after their first member. */
  foldOf(i) {
    const up = this.parent[i] < 0 ? this.size : this.parent[i];
    for (let child = this.first[up]; child >= 0; ) {
      const end = this.runEnd(child);
      for (let member = child; member >= 0 && member !== end; member = this.next[member]) if (member === i) return -1 - child;
      child = end;
    }
    return -1 - i;
  }

  /** Lay out the rows, and find for every node the row that stands for it. */
  layOut() {
    this.rows = [];
    this.rowOf = new Int32Array(this.size).fill(-1);
    const stack = [[this.first[this.size], 0, false]];
    while (stack.length) {
      let [i, depth, single] = stack.pop();
      if (i < 0) continue;
      const end = single ? this.next[i] : this.runEnd(i);
      const folded = end !== this.next[i];
      // Within an opened fold the members follow one by one, up to `single`, the sibling behind the last.
      if (!(single && single.until === i)) {
        if (!this.filter || this.filter[i]) {
          const row = { node: i, depth, key: folded ? -1 - i : i, count: 1, last: i };
          this.rows.push(row);
          this.rowOf[i] = this.rows.length - 1;
          if (folded) {
            for (let m = this.next[i]; m !== end; m = this.next[m]) {
              this.rowOf[m] = this.rows.length - 1;
              row.last = m;
              row.count++;
            }
            stack.push([end, depth, false]);
            if (this.isOpen(row.key)) stack.push([i, depth + 1, { until: end }]);
            continue;
          }
          stack.push([this.next[i], depth, single]);
          if (this.first[i] >= 0 && this.isOpen(i)) stack.push([this.first[i], depth + 1, false]);
        } else stack.push([this.next[i], depth, single]);
      }
    }
    for (let i = 0; i < this.size; i++) {
      if (this.rowOf[i] < 0 && this.parent[i] >= 0 && !(this.filter && !this.filter[i])) this.rowOf[i] = this.rowOf[this.parent[i]];
    }
  }
}
