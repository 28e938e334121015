"use strict";
// The page is whole without this. What it adds: the chart of all folders and files with zoom and search, and tables that
// sort and filter. All text goes in as text (textContent), never as HTML.

const NARROWEST = 2; // pixels; what is narrower is drawn together as one rest
const LABELLED = 28; // pixels from which on a box has room for a name
const LETTER = 7; // pixels that a letter takes, about
const MOST_LEVELS = 24; // deeper ones are drawn when their folder is opened
const HUES = 10;
const MATCHES = 12; // search results that are listed

const $ = (id) => document.getElementById(id);

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function amount(bytes) {
  // Three significant figures, as size_text in units.py.
  const [unit, size] = [["B", 1], ["kB", 1e3], ["MB", 1e6], ["GB", 1e9]].find(([, each]) => bytes / each < 999.5) || ["TB", 1e12];
  const value = bytes / size;
  return `${value.toFixed(size === 1 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2)} ${unit}`;
}

const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

// --- the tree of an image

// Rows are [parent's row, name, names of files joined by '/', their bytes, their components], a parent before its children.
function grow(rows) {
  const folders = [];
  for (const [parent, name, names, sizes, owners] of rows) {
    const folder = { name, parent: null, path: "", level: 0, children: [], bytes: 0, files: 0, owners: new Map(), found: 0, weight: 0 };
    if (folders.length) {
      folder.parent = folders[parent];
      folder.path = `${folder.parent.path}/${name}`;
      folder.parent.children.push(folder);
    }
    if (sizes.length) {
      names.split("/").forEach((file, index) => {
        const owner = typeof owners === "number" ? owners : owners[index];
        folder.children.push({ name: file, parent: folder, path: `${folder.path}/${file}`, bytes: sizes[index], owner, found: 0, weight: 0 });
        add(folder, sizes[index], 1, [[owner, sizes[index]]]);
      });
    }
    folders.push(folder);
  }
  for (const folder of folders.slice(1).reverse()) add(folder.parent, folder.bytes, folder.files, folder.owners);
  return folders;
}

function add(folder, bytes, files, owners) {
  folder.bytes += bytes;
  folder.files += files;
  for (const [owner, share] of owners) folder.owners.set(owner, (folder.owners.get(owner) ?? 0) + share);
}

function follow(image, path) {
  let node = image.folders[0];
  for (const name of path) node = node?.children.find((child) => child.children && child.name === name);
  return node;
}

// The order of children is the same in all images, so that what is the same stands in the same place: by the bytes in the
// image where it is largest.
function arrange(images) {
  const largest = new Map();
  const nodes = images.flatMap((image) => image.folders.flatMap((folder) => folder.children));
  for (const node of nodes) largest.set(node.path, Math.max(node.bytes, largest.get(node.path) ?? 0));
  for (const node of nodes) node.weight = largest.get(node.path);
  for (const image of images) {
    for (const folder of image.folders) folder.children.sort((one, other) => other.weight - one.weight);
  }
}

const steps = (node) => node.path.split("/").slice(1);

// --- the chart of all folders and files

function explore({ groups, components, images: trees }) {
  const images = trees.map(({ name, rows }) => ({ name, folders: grow(rows), chart: make("div", "icicle") }));
  arrange(images);
  let open = []; // names of the folders from the root down to the one that is open
  let wanted = ""; // what is searched for, in lower case

  // Colours: a place among the groups, or among the components; both are ordered by size.
  const schemes = {
    group: { names: groups, place: (owner) => components[owner]?.[1] ?? -1 },
    component: { names: components.map(([name]) => name), place: (owner) => owner },
  };
  let scheme = schemes.group;

  function place(node) {
    if (!node.children) return scheme.place(node.owner);
    const shares = new Map();
    for (const [owner, bytes] of node.owners) {
      const at = scheme.place(owner);
      shares.set(at, (shares.get(at) ?? 0) + bytes);
    }
    const [at, bytes] = [...shares].reduce((most, each) => (each[1] > most[1] ? each : most), [-1, 0]);
    return bytes >= 0.9 * node.bytes ? at : null; // null: a mixture
  }

  const hue = (at) => (at === null ? "mixed" : at >= 0 && at < HUES ? `hue${at}` : "hue-other");

  function draw() {
    const nodes = images.map((image) => follow(image, open));
    const scale = Math.max(...nodes.map((node) => node?.bytes ?? 0), 1);
    const width = $("charts").clientWidth || 1;
    images.forEach((image, number) => {
      const cells = [];
      const smallest = (NARROWEST * scale) / width;
      if (nodes[number]) lay(cells, nodes[number], 0, 0, smallest);
      image.chart.replaceChildren(...cells.map((cell) => box(cell, scale, width)));
      image.chart.style.setProperty("--levels", 1 + Math.max(0, ...cells.map((cell) => cell.level)));
      image.title.textContent = nodes[number]
        ? `${image.name}: ${amount(nodes[number].bytes)}, ${count(nodes[number].files, "file")}`
        : `${image.name}: has no such folder`;
      if (image.chart.firstChild) image.chart.firstChild.tabIndex = 0;
    });
    crumbs();
  }

  function lay(cells, node, start, level, smallest) {
    cells.push({ node, start, bytes: node.bytes, level });
    if (!node.children || level === MOST_LEVELS) return;
    let at = start;
    for (const child of node.children) {
      if (child.bytes < smallest) continue;
      lay(cells, child, at, level + 1, smallest);
      at += child.bytes;
    }
    const rest = start + node.bytes - at;
    if (rest >= smallest) cells.push({ node: null, start: at, bytes: rest, level: level + 1 });
  }

  function box({ node, start, bytes, level }, scale, width) {
    const element = make("div", "box");
    element.style.left = `${(100 * start) / scale}%`;
    element.style.width = `${(100 * bytes) / scale}%`;
    element.style.setProperty("--level", level);
    if (!node) {
      element.classList.add("rest");
      return element;
    }
    element.node = node;
    element.classList.add(hue(place(node)), node.children ? "folder" : "file");
    if (wanted) element.classList.add(node.found === 0 ? "missed" : node.found === bytes ? "hit" : "part");
    const room = (width * bytes) / scale;
    const label = `${node.name || "/"}  ${amount(bytes)}`;
    if (room >= LABELLED) {
      element.classList.add("named"); // only these are padded: padding would make the others wider than their bytes
      element.textContent = room >= LETTER * label.length ? label : node.name;
    }
    element.setAttribute("role", "treeitem");
    element.setAttribute("aria-level", level + 1);
    element.setAttribute("aria-label", `${node.path || "/"}, ${amount(bytes)}`);
    if (node.children) element.setAttribute("aria-expanded", level < MOST_LEVELS);
    element.tabIndex = -1;
    return element;
  }

  function crumbs() {
    const names = ["/", ...open];
    $("crumbs").replaceChildren(
      ...names.map((name, depth) => {
        const button = make("button", "", name);
        button.type = "button";
        if (depth === open.length) button.setAttribute("aria-current", "location");
        button.addEventListener("click", () => zoom(open.slice(0, depth)));
        const item = make("li");
        item.append(button);
        return item;
      }),
    );
  }

  function zoom(path, chart, focused) {
    open = path;
    draw();
    if (!chart) return;
    const boxes = [...chart.children];
    (boxes.find((each) => focused && each.node === focused) ?? boxes[0])?.focus({ preventScroll: true });
  }

  function enter(image, node) {
    if (!node.children) describe(image, node);
    else if (node === follow(image, open)) leave(image);
    else zoom(steps(node), image.chart);
  }

  function leave(image) {
    const node = follow(image, open);
    zoom(open.slice(0, -1), image.chart, node);
  }

  function owner(node) {
    if (node.children) return count(node.files, "file");
    const [name, group] = components[node.owner] ?? ["owned by nobody", -1];
    return [name, groups[group]].filter((word, index, all) => word && all.indexOf(word) === index).join(", ");
  }

  function describe(image, node) {
    const share = ((100 * node.bytes) / (image.folders[0].bytes || 1)).toFixed(1);
    const detail = $("detail");
    detail.replaceChildren(make("strong", "path", node.path || "/"), ` ${amount(node.bytes)}, ${share} % of ${image.name}; ${owner(node)}`);
  }

  // Moves: to the next box of the level, to the first one below, to the one above.
  const moves = {
    ArrowRight: (boxes, from) => boxes.slice(boxes.indexOf(from) + 1).find((each) => each.ariaLevel === from.ariaLevel),
    ArrowLeft: (boxes, from) => boxes.slice(0, boxes.indexOf(from)).findLast((each) => each.ariaLevel === from.ariaLevel),
    ArrowDown: (boxes, from) => boxes.find((each) => each.node?.parent === from.node),
    ArrowUp: (boxes, from) => boxes.find((each) => each.node === from.node.parent),
    Home: (boxes) => boxes[0],
  };

  function pressed(image, event) {
    const from = event.target.closest("[role=treeitem]");
    if (!from || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "Enter" || event.key === " ") enter(image, from.node);
    else if (event.key === "Escape" || event.key === "Backspace") leave(image);
    else if (moves[event.key]) moves[event.key]([...image.chart.querySelectorAll("[role=treeitem]")], from)?.focus();
    else return;
    event.preventDefault();
  }

  for (const image of images) {
    image.title = make("h4");
    image.chart.setAttribute("role", "tree");
    image.chart.setAttribute("aria-label", `Folders and files of ${image.name}`);
    $("charts").append(image.title, image.chart);
    const told = (event) => {
      const box = event.target.closest("[role=treeitem]");
      if (!box) return;
      describe(image, box.node);
      if (event.type !== "focusin") return;
      image.chart.querySelector("[tabindex='0']").tabIndex = -1;
      box.tabIndex = 0;
    };
    image.chart.addEventListener("pointerover", told);
    image.chart.addEventListener("focusin", told);
    image.chart.addEventListener("keydown", (event) => pressed(image, event));
    image.chart.addEventListener("click", (event) => {
      const box = event.target.closest("[role=treeitem]");
      if (box) enter(image, box.node);
    });
  }

  // --- search

  // Sets `found`, the bytes of what matches, in every node; gives the sums and the files.
  function seek(image) {
    const hits = [];
    for (const folder of image.folders) folder.found = 0;
    for (const folder of [...image.folders].reverse()) {
      for (const child of folder.children) {
        if (!child.children) {
          const hit = wanted !== "" && child.path.toLowerCase().includes(wanted);
          child.found = hit ? child.bytes : 0;
          if (hit) hits.push(child);
        }
        folder.found += child.found;
      }
    }
    return hits;
  }

  function search() {
    wanted = $("find").value.toLowerCase();
    const hits = images.map(seek);
    const words = images.map((image, number) => {
      const bytes = hits[number].reduce((sum, file) => sum + file.bytes, 0);
      return `${image.name}: ${count(hits[number].length, "file")}, ${amount(bytes)}`;
    });
    $("found").textContent = wanted ? words.join("; ") : "";
    listMatches(hits);
    draw();
  }

  function listMatches(hits) {
    const byPath = new Map();
    hits.flat().forEach((file) => byPath.set(file.path, Math.max(file.bytes, byPath.get(file.path) ?? 0)));
    const largest = [...byPath].sort((one, other) => other[1] - one[1]).slice(0, MATCHES);
    $("matches").replaceChildren(...largest.map(([path, bytes]) => match(path, bytes, hits)));
    if (byPath.size > MATCHES) $("matches").append(make("li", "soft", `and ${count(byPath.size - MATCHES, "more path")}`));
  }

  function match(path, bytes, hits) {
    const file = hits.flat().find((each) => each.path === path && each.bytes === bytes);
    const number = hits.findIndex((each) => each.includes(file));
    const holders = images.filter((_, index) => hits[index].some((each) => each.path === path)).map((image) => image.name);
    const button = make("button", "path", path);
    button.type = "button";
    button.addEventListener("click", () => zoom(steps(file.parent).filter(Boolean), images[number].chart, file));
    const item = make("li");
    item.append(button, ` ${amount(bytes)} `, make("span", "soft", holders.length === images.length ? "in all" : `only in ${holders.join(", ")}`));
    return item;
  }

  let pending = 0;
  $("find").addEventListener("input", () => {
    clearTimeout(pending);
    pending = setTimeout(search, 120);
  });
  $("find").addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.target.value = "";
    search();
  });

  // --- colours

  function legend() {
    const sums = new Map();
    for (const image of images) {
      for (const [each, bytes] of image.folders[0].owners) {
        const at = scheme.place(each);
        const kept = at < HUES ? at : HUES;
        sums.set(kept, (sums.get(kept) ?? 0) + bytes);
      }
    }
    const entries = [...sums.keys()].filter((at) => sums.get(at)).sort((one, other) => (one < 0) - (other < 0) || one - other).map((at) => {
      const item = make("li");
      const swatch = make("span", `swatch ${hue(at)}`);
      item.append(swatch, at < 0 ? "owned by nobody" : at === HUES ? "others" : scheme.names[at]);
      return item;
    });
    const mixed = make("li");
    mixed.append(make("span", "swatch mixed"), "a folder of several");
    $("legend").replaceChildren(...entries, mixed);
  }

  $("colours").addEventListener("change", (event) => {
    scheme = schemes[event.target.value];
    legend();
    draw();
  });

  $("explorer").hidden = false;
  legend();
  draw();
  let drawnAt = $("charts").clientWidth;
  new ResizeObserver(() => {
    if ($("charts").clientWidth === drawnAt) return;
    drawnAt = $("charts").clientWidth;
    draw();
  }).observe($("charts"));
}

// --- tables

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  heads.forEach((head, column) => {
    const button = make("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const numeric = head.classList.contains("number");
      const first = numeric ? "descending" : "ascending";
      const other = numeric ? "ascending" : "descending";
      const order = head.ariaSort === first ? other : first;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.ariaSort = order;
      const sign = order === "ascending" ? 1 : -1;
      const rows = [...table.tBodies[0].rows].map((row) => [value(row, column), row]);
      rows.sort(([one], [two]) => sign * (numeric ? one - two : one.localeCompare(two, "en", { numeric: true })));
      table.tBodies[0].append(...rows.map(([, row]) => row));
    });
  });
}

function filterPackages() {
  const rows = [...$("package-table").tBodies[0].rows];
  const words = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const apply = () => {
    const change = $("package-change").value;
    const text = $("package-text").value.toLowerCase();
    for (const row of rows) {
      const kept = change === "all" || (change ? row.dataset.change === change : row.dataset.change !== "same");
      row.hidden = !(kept && words.get(row).includes(text));
    }
    const shown = rows.filter((row) => !row.hidden).length;
    $("package-count").textContent = `${shown.toLocaleString("en")} of ${count(rows.length, "package")}`;
  };
  $("package-controls").hidden = false;
  $("package-change").addEventListener("change", apply);
  $("package-text").addEventListener("input", apply);
  apply();
}

if ($("data")) explore(JSON.parse($("data").textContent));
document.querySelectorAll("table.sortable").forEach(sortable);
if ($("package-table")) filterPackages();

// Paper has no clicks: all is open while printing, and afterwards as it was.
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  closed.forEach((each) => (each.open = true));
});
addEventListener("afterprint", () => closed.forEach((each) => (each.open = false)));
