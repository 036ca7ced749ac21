// The page of `profile` (calltree_html.c): flame graph, functions, loops.
//
// The report: {tool, command, pid, insns, folded, dropped, texts: [text],
//   functions: [[name, module, file, line, address, self, inclusive, calls]],
//   nodes: [function, parent, calls, self, inclusive, ...], lines: [function, file, line, insns, ...],
//   loops: [[function, head, tail, file, line, iterations, entries, insns]]}
// where modules and files are indices of texts or -1, and node 0 is the root, its function -1.
//
// State that can be linked to stands in the fragment: #search=TEXT&node=N&function=N.
tools.profile = ([{report: data}], box) => {
const percent = n => (data.insns ? 100 * n / data.insns : 0).toFixed(2) + '%';
const texts = data.texts.map(clean), text = i => i < 0 ? '' : texts[i];

const functions = data.functions.map((f, index) => ({
    index, name: clean(f[0]), module: text(f[1]), file: text(f[2]), line: f[3], address: f[4],
    self: f[5], inclusive: f[6], calls: f[7]
}));
const rootName = clean(data.command || '') || '(all)';
const place = (file, line) => file ? file + (line ? ':' + line : '') : '';

// The tree, in arrays: node i is at 5 * i of data.nodes.
const n = data.nodes.length / 5;
const nodeFunction = i => data.nodes[5 * i], parentOf = i => data.nodes[5 * i + 1];
const callsOf = i => data.nodes[5 * i + 2], selfOf = i => data.nodes[5 * i + 3];
const inclusiveOf = i => data.nodes[5 * i + 4];
const nameOf = i => i ? functions[nodeFunction(i)].name : rootName;
const children = Array.from({length: n}, () => []), left = new Float64Array(n), depth = new Int32Array(n);
for (let i = 1; i < n; i++) children[parentOf(i)].push(i);
for (let i = 0; i < n; i++) { // parents come first
    let at = left[i];
    for (const c of children[i].sort((a, b) => inclusiveOf(b) - inclusiveOf(a))) {
        left[c] = at;
        at += inclusiveOf(c);
        depth[c] = depth[i] + 1;
    }
}

byId('controls').append(make('label', {}, 'Search ', make('input', {id: 'search', type: 'search',
    placeholder: 'name or /pattern/', spellcheck: false})), make('span', {id: 'found', className: 'dim', role: 'status'}),
    make('button', {id: 'reset', type: 'button', title: 'Escape'}, 'Reset zoom'));
box.append(make('h2', {}, 'Calls'), make('p', {id: 'note', className: 'dim'}),
    make('canvas', {id: 'graph', height: 100, ariaLabel: 'Flame graph of calls; the tables below hold the same data'}),
    make('section', {id: 'details', className: 'details', hidden: true}),
    make('h2', {}, 'Functions'), make('div', {id: 'functions', className: 'scroll'}),
    make('h2', {id: 'loops-title'}, 'Loops'), make('div', {id: 'loops', className: 'scroll'}));

// What is shown.
let zoomed = 0, chosen = -1, hit = null; // hit: by function, or null when nothing is searched for
const order = {key: 'self', down: true};
let rows = 100;

// The flame graph: the root on top, a row a call.
const canvas = byId('graph'), pen = canvas.getContext('2d'), ROW = 18, NARROW = 0.5;
let drawn = []; // [x, y, width, node] of the last drawing

function hue(word) {
    let h = 2166136261;
    for (let i = 0; i < word.length; i++) h = Math.imul(h ^ word.charCodeAt(i), 16777619);
    return h >>> 0;
}
const hues = functions.map(f => [hue(f.module) % 360, hue(f.name) % 24]);

function colour(i, dark, hitColour) {
    if (i === 0) return dark ? '#3a424d' : '#d9dde3';
    const f = nodeFunction(i);
    if (hit && hit[f]) return hitColour;
    const [h, shade] = hues[f];
    const strength = hit ? 12 : 52;
    return `hsl(${h} ${strength}% ${(dark ? 26 : 72) + shade / 3}%)`;
}

function visible(width) { // nodes to draw, from the top; those above the zoomed one take the full width
    const start = left[zoomed], scale = width / (inclusiveOf(zoomed) || 1), list = [], pending = [];
    for (let i = zoomed; i !== 0;) list.push([0, depth[i = parentOf(i)] * ROW, width, i]);
    pending.push(zoomed);
    while (pending.length) {
        const i = pending.pop(), w = inclusiveOf(i) * scale;
        if (w < NARROW) continue;
        list.push([(left[i] - start) * scale, depth[i] * ROW, w, i]);
        for (const c of children[i]) pending.push(c);
    }
    return list;
}

function fitted(name, width) {
    const room = Math.floor((width - 6) / 6.6);
    return room < 2 ? '' : name.length <= room ? name : name.slice(0, room - 1) + '\u2026';
}

function draw() {
    const width = canvas.clientWidth, ratio = window.devicePixelRatio || 1;
    drawn = n ? visible(width) : [];
    const height = drawn.reduce((most, d) => Math.max(most, d[1] + ROW), ROW);
    canvas.style.height = height + 'px';
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.font = '11px ui-monospace, monospace';
    pen.textBaseline = 'middle';
    const dark = isDark();
    const hitColour = getComputedStyle(document.documentElement).getPropertyValue('--hit');
    for (const [x, y, w, i] of drawn) {
        pen.fillStyle = colour(i, dark, hitColour);
        pen.globalAlpha = depth[i] < depth[zoomed] ? 0.6 : 1;
        pen.fillRect(x, y, Math.max(w - 0.6, NARROW), ROW - 1);
        const label = fitted(nameOf(i), w);
        pen.globalAlpha = 1;
        if (!label) continue;
        pen.fillStyle = dark || (hit && i && hit[nodeFunction(i)]) ? '#ffffff' : '#101418';
        pen.fillText(label, x + 3, y + ROW / 2);
    }
}

function nodeAt(event) {
    const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    const at = drawn.find(d => y >= d[1] && y < d[1] + ROW && x >= d[0] && x < d[0] + d[2]);
    return at ? at[3] : -1;
}

withTip(canvas, event => {
    const i = nodeAt(event);
    if (i < 0) return null;
    const f = i ? functions[nodeFunction(i)] : null;
    return [make('b', {}, nameOf(i)), ...(f ? [
        make('div', {className: 'dim'}, [f.module, place(f.file, f.line)].filter(s => s).join('  '))] : []),
        make('div', {}, `${count(inclusiveOf(i))} instructions (${percent(inclusiveOf(i))}), of them ` +
            `its own ${count(selfOf(i))} (${percent(selfOf(i))})` +
            (i ? ', ' + plural(callsOf(i), 'call') : ''))];
});
canvas.addEventListener('click', event => {
    const i = nodeAt(event);
    if (i < 0) return;
    zoomed = i;
    chosen = i ? nodeFunction(i) : -1;
    show();
});

// Search: a part of a name in any case, or /a pattern/.
function matcher(wanted) {
    if (!wanted) return null;
    const pattern = /^\/(.+)\/$/.exec(wanted);
    if (pattern) {
        const expression = new RegExp(pattern[1], 'i');
        return name => expression.test(name);
    }
    const lower = wanted.toLowerCase();
    return name => name.toLowerCase().includes(lower);
}

function search() {
    const wanted = byId('search').value.trim(), found = byId('found');
    let matches;
    try {
        matches = matcher(wanted);
    } catch (error) {
        found.textContent = 'not a pattern';
        return;
    }
    hit = matches && functions.map(f => matches(f.name));
    found.textContent = '';
    if (!hit) return;
    let insns = 0; // under the outermost matches, so that nothing counts twice
    const inside = new Uint8Array(n);
    for (let i = 1; i < n; i++) {
        const match = hit[nodeFunction(i)];
        if (match && !inside[parentOf(i)]) insns += inclusiveOf(i);
        inside[i] = match || inside[parentOf(i)] ? 1 : 0;
    }
    found.textContent = `${plural(hit.filter(h => h).length, 'function')}, ${percent(insns)}`;
}

// Tables.
function bar(value) {
    return make('td', {className: 'bar', part: data.insns ? 100 * value / data.insns + '%' : '0%'},
        percent(value));
}
const number = value => make('td', {}, count(value));
const words = value => make('td', {className: 'text'}, value);

function table(heads, body) {
    return make('table', {}, make('thead', {}, make('tr', {}, ...heads)), make('tbody', {}, ...body));
}
const head = (title, isText) => make('th', {className: isText ? 'text' : '', scope: 'col'}, title);

function choose(f) {
    chosen = f;
    show();
    byId('details').scrollIntoView({block: 'nearest'});
}
function row(f, ...cells) {
    return make('tr', {className: f === chosen ? 'link chosen' : 'link', onclick: () => choose(f)}, ...cells);
}

const columns = [
    ['self', 'Self'], ['self', 'instructions'], ['inclusive', 'Total'], ['inclusive', 'instructions'],
    ['calls', 'Calls'], ['name', 'Function'], ['module', 'Module'], ['file', 'Source']];

function sortHead([key, title]) {
    const current = order.key === key;
    const button = make('button', {type: 'button', onclick: () => {
        order.down = current ? !order.down : !['name', 'module', 'file'].includes(key);
        order.key = key;
        show();
    }}, title + (current ? order.down ? ' \u25be' : ' \u25b4' : ''));
    const th = make('th', {className: ['name', 'module', 'file'].includes(key) ? 'text' : '', scope: 'col'}, button);
    if (current) th.setAttribute('aria-sort', order.down ? 'descending' : 'ascending');
    return th;
}

function showFunctions() {
    const sign = order.down ? -1 : 1;
    const compare = (a, b) => a[order.key] < b[order.key] ? -sign : a[order.key] > b[order.key] ? sign
        : b.self - a.self;
    const all = functions.filter(f => (f.inclusive || f.calls) && (!hit || hit[f.index])).sort(compare);
    const body = all.slice(0, rows).map(f => row(f.index, bar(f.self), number(f.self), bar(f.inclusive),
        number(f.inclusive), number(f.calls), words(f.name), words(base(f.module)),
        words(place(f.file, f.line))));
    byId('functions').replaceChildren(table(columns.map(sortHead), body));
    if (all.length > rows)
        byId('functions').append(make('button', {type: 'button', onclick: () => {
            rows *= 4;
            showFunctions();
        }}, `Show more of ${count(all.length)}`));
}

function loopTable(loops) {
    return table([head('Loop'), head('instructions'), head('Iterations'), head('Entries'),
        head('an entry'), head('Function', true), head('From', true), head('To', true), head('Source', true)],
        loops.map(l => row(l[0], bar(l[7]), number(l[7]), number(l[5]), number(l[6]),
            make('td', {}, l[6] ? (l[5] / l[6]).toFixed(1) : ''), words(functions[l[0]].name), words(l[1]),
            words(l[2]), words(place(text(l[3]), l[4])))));
}

function showLoops() {
    const loops = data.loops.filter(l => !hit || hit[l[0]]).slice(0, 200);
    byId('loops').replaceChildren(loopTable(loops));
    byId('loops').hidden = byId('loops-title').hidden = !data.loops.length;
}

// One function: who calls it, whom it calls, its lines and loops. A call below itself costs nothing
// more, as its instructions are in the outer call already.
function neighbours(f) {
    const callers = new Map(), callees = new Map();
    const add = (map, key, calls, insns) => {
        const entry = map.get(key) || [key, 0, 0];
        entry[1] += calls;
        entry[2] += insns;
        map.set(key, entry);
    };
    const inside = new Uint8Array(n);
    const underCallee = new Map(); // by callee: nodes inside a call of it from f
    for (let i = 1; i < n; i++) {
        const p = parentOf(i), own = nodeFunction(i), from = p ? nodeFunction(p) : -1;
        if (own === f) add(callers, from, callsOf(i), inside[p] ? 0 : inclusiveOf(i));
        inside[i] = own === f || inside[p] ? 1 : 0;
        if (from === f) {
            const same = underCallee.get(own) || underCallee.set(own, []).get(own);
            same.push(i);
        }
    }
    for (const [callee, nodes] of underCallee) {
        const under = new Set(nodes);
        for (const i of nodes) {
            let nested = false;
            for (let p = parentOf(i); p && !nested; p = parentOf(p)) nested = under.has(p);
            add(callees, callee, callsOf(i), nested ? 0 : inclusiveOf(i));
        }
    }
    const sorted = map => [...map.values()].sort((a, b) => b[2] - a[2] || b[1] - a[1]);
    return [sorted(callers), sorted(callees)];
}

function callTable(title, entries) {
    const body = entries.slice(0, 30).map(([f, calls, insns]) => f < 0
        ? make('tr', {}, bar(insns), number(calls), words('(root)'))
        : row(f, bar(insns), number(calls), words(functions[f].name)));
    return make('div', {}, make('h3', {}, title), entries.length
        ? table([head('Total'), head('Calls'), head('Function', true)], body)
        : make('span', {className: 'dim'}, 'none'));
}

function lineTable(f) {
    const own = [];
    for (let i = 0; i < data.lines.length; i += 4)
        if (data.lines[i] === f) own.push(data.lines.slice(i, i + 4));
    if (!own.length) return [];
    return [make('div', {}, make('h3', {}, 'Lines'), table([head('Self'), head('instructions'),
        head('Source', true)], own.sort((a, b) => b[3] - a[3]).slice(0, 30).map(l =>
        make('tr', {}, bar(l[3]), number(l[3]), words(place(text(l[1]), l[2]))))))];
}

function showDetails() {
    const box = byId('details'), f = functions[chosen];
    box.hidden = !f;
    if (!f) return;
    const [callers, callees] = neighbours(chosen), loops = data.loops.filter(l => l[0] === chosen);
    box.replaceChildren(make('h2', {}, f.name),
        make('div', {className: 'dim'}, [f.module, place(f.file, f.line), f.address].filter(s => s).join('   ')),
        make('div', {}, `${count(f.self)} instructions of its own (${percent(f.self)}), ` +
            `${count(f.inclusive)} with its callees (${percent(f.inclusive)}), ` +
            plural(f.calls, 'call')),
        make('div', {className: 'columns'}, callTable('Called by', callers), callTable('Calls', callees),
            ...lineTable(chosen)),
        ...(loops.length ? [make('h3', {}, 'Loops'), make('div', {className: 'scroll'}, loopTable(loops))] : []));
}

// All of it, and the fragment.
function show() {
    const state = new URLSearchParams();
    if (byId('search').value.trim()) state.set('search', byId('search').value.trim());
    if (zoomed) state.set('node', zoomed);
    if (chosen >= 0) state.set('function', chosen);
    const fragment = state.toString();
    if (location.hash.slice(1) !== fragment)
        history.replaceState(null, '', fragment ? '#' + fragment : location.pathname + location.search);
    draw();
    showDetails();
    showFunctions();
    showLoops();
}

function restore() {
    const state = new URLSearchParams(location.hash.slice(1));
    const index = (name, limit) => {
        const value = Number(state.get(name) === null ? -1 : state.get(name));
        return Number.isInteger(value) && value >= 0 && value < limit ? value : -1;
    };
    byId('search').value = state.get('search') || '';
    zoomed = Math.max(0, index('node', n));
    chosen = index('function', functions.length);
    search();
    show();
}

let waiting = 0;
byId('search').addEventListener('input', () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { search(); show(); }, 120);
});
function reset() {
    zoomed = 0;
    show();
}
byId('reset').addEventListener('click', reset);
document.addEventListener('keydown', event => {
    if (event.key === 'Escape') {
        if (byId('search').value) { byId('search').value = ''; search(); }
        reset();
    } else if (event.key === '/' && event.target !== byId('search')) {
        event.preventDefault();
        byId('search').focus();
    }
});
window.addEventListener('resize', draw);
window.addEventListener('hashchange', restore);

document.title = 'Profile of ' + rootName;
byId('title').textContent = rootName;
byId('summary').textContent = `process ${data.pid}, ${count(data.insns)} instructions`;
byId('note').textContent = 'Width is instructions; click to zoom, Escape to go back, / to search.' +
    (data.folded ? ' Calls deeper than shown were folded: recursion onto itself.' : '') +
    (data.dropped ? ` ${count(data.dropped)} of the smallest calls are left out of the graph, not of the tables.` : '');
restore();
};
