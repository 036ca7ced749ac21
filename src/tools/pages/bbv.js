// The page of `bbv`: {interval, places: [{address, function, module, page}], threads: [{thread, file,
// intervals, instructions, columns: [{intervals, instructions, places: [place, instructions, ...],
// vector: [numbers]}]}]}. A column is an interval or several that follow each other; its vector is the
// projection of its blocks' frequencies, so that near vectors are like blocks.
tools.bbv = (reports, box) => {
    for (const {report: r} of reports) {
        const all = r.threads.reduce((s, t) => s + t.instructions, 0);
        const shown = r.threads.filter(t => t.columns.length).sort((a, b) => a.thread - b.thread);
        box.append(tiles([['Instructions', count(all)], ['Interval', short(r.interval), 'instructions'],
            ['Intervals', count(r.threads.reduce((s, t) => s + t.intervals, 0))],
            ['Blocks', count(r.blocks)], ['Threads', count(r.threads.length)]]));
        const place = make('div');
        if (shown.length > 1) {
            const choice = make('select', {onchange: () => drawThread(r, shown[choice.selectedIndex], place)}, ...shown.map(t =>
                make('option', {}, `thread ${t.thread}: ${short(t.instructions)} instructions`)));
            box.append(make('p', {}, make('label', {}, 'Thread ', choice)));
        }
        box.append(place);
        if (shown.length) drawThread(r, shown[0], place);
        box.append(section('Vectors', sortable([{title: 'Thread', value: t => t.thread},
            {title: 'Intervals', value: t => t.intervals}, {title: 'Instructions', value: t => t.instructions, bar: all},
            {title: 'File', value: t => clean(t.file), text: true}], r.threads)));
    }

    function nameOf(p) {
        if (p.function) return clean(p.function);
        return p.page ? `${moduleOf(p) || ''} ${hex(p.address)}` : moduleOf(p) || hex(p.address);
    }

    function drawThread(r, t, place) {
        const totals = new Map();
        for (const c of t.columns)
            for (let i = 0; i < c.places.length; i += 2)
                totals.set(c.places[i], (totals.get(c.places[i]) || 0) + c.places[i + 1]);
        const order = [...totals].sort((a, b) => b[1] - a[1]), top = order.slice(0, 12).map(e => e[0]);
        const each = t.columns.reduce((most, c) => Math.max(most, c.intervals), 0);
        place.replaceChildren(
            section('Where each interval spent its instructions', legend([...top.map((p, i) => [nameOf(r.places[p]), colour(i)]),
                ['everything else', 'var(--other)']]), stacked(r, t, top),
                note(each > 1 ? `A column is ${count(each)} intervals: the run has more than a picture shows.` : 'A column is an interval.')),
            section('Which intervals are alike', similarity(t),
                note('Dark where the intervals of row and column ran the same blocks as often: squares on the diagonal are ' +
                    'phases, and squares beside it are phases that come back. Time goes right and down.')),
            section('Functions', sortable([
                {title: 'Share', value: e => e[1], bar: t.instructions, show: e => share(e[1], t.instructions)},
                {title: 'Instructions', value: e => e[1]}, {title: 'Function', value: e => nameOf(r.places[e[0]]), text: true},
                {title: 'Module', value: e => moduleOf(r.places[e[0]]), text: true}], order)));
    }

    function stacked(r, t, top) {
        const ends = [0];
        for (const c of t.columns) ends.push(ends[ends.length - 1] + c.intervals);
        const n = ends[ends.length - 1], f = frame('Instructions by function over time', {x: [0, n], y: [0, 1], height: 300,
            xName: 'interval', yText: v => Math.round(100 * v) + ' %'});
        const below = t.columns.map(() => 0);
        const part = (c, p) => {
            const i = c.places.findIndex((v, k) => k % 2 === 0 && v === p);
            return i < 0 ? 0 : c.places[i + 1] / c.instructions;
        };
        // An edge as steps: [x where it begins, y], neighbours of one height put together.
        const edge = heights => heights.map((v, i) => [f.x(ends[i]).toFixed(1), f.y(v).toFixed(1)])
            .filter(([, y], i, list) => !i || y !== list[i - 1][1]);
        [...top, -1].forEach((p, k) => {
            const above = t.columns.map((c, i) => p < 0 ? 1 : Math.min(1, below[i] + part(c, p)));
            const lower = edge(below), d = edge(above).map(([x, y], i) => i ? `H${x}V${y}` : `M${x} ${y}`).join('') + `H${f.right}`;
            const back = lower.map(([x, y], i) => `V${y}H${i ? x : f.left}`).reverse().join('');
            f.svg.append(shape('path', {d: d + back + 'z', style: `fill: ${p < 0 ? 'var(--other)' : colour(k)}`}));
            above.forEach((v, i) => { below[i] = v; });
        });
        return withTip(f.svg, event => {
            const at = f.from(inPicture(f.svg, event)[0]), i = ends.findIndex(e => e > at) - 1, c = t.columns[i];
            if (!c) return null;
            const list = [];
            for (let k = 0; k < c.places.length; k += 2) list.push([c.places[k], c.places[k + 1]]);
            return [make('b', {}, c.intervals > 1 ? `intervals ${count(ends[i])} to ${count(ends[i + 1] - 1)}` : `interval ${count(ends[i])}`),
                ...list.sort((a, b) => b[1] - a[1]).slice(0, 8).map(([p, insns]) =>
                    make('div', {}, `${share(insns, c.instructions)} ${nameOf(r.places[p])}`))];
        });
    }

    function similarity(t) {
        const most = Math.min(t.columns.length, 640), canvas = make('canvas', {className: 'map', width: most, height: most,
            ariaLabel: 'Similarity of all pairs of intervals'});
        const vectors = Array.from({length: most}, (_, i) => t.columns[Math.floor(i * t.columns.length / most)].vector);
        const apart = (a, b) => {
            let sum = 0;
            for (let d = 0; d < a.length; d++) sum += (a[d] - b[d]) * (a[d] - b[d]);
            return Math.sqrt(sum);
        };
        const all = new Float32Array(most * most);
        for (let i = 0; i < most; i++)
            for (let k = 0; k < i; k++) all[i * most + k] = all[k * most + i] = apart(vectors[i], vectors[k]);
        const sorted = all.slice().sort(), far = sorted[Math.floor(sorted.length * 0.98)] || 1;
        const fill = () => {
            const pen = canvas.getContext('2d'), image = pen.createImageData(most, most), dark = isDark();
            const [from, to] = dark ? [[20, 23, 27], [110, 190, 255]] : [[255, 255, 255], [15, 60, 120]];
            for (let i = 0; i < all.length; i++) {
                const near = 1 - Math.min(1, all[i] / far);
                for (let c = 0; c < 3; c++) image.data[4 * i + c] = from[c] + (to[c] - from[c]) * near;
                image.data[4 * i + 3] = 255;
            }
            pen.putImageData(image, 0, 0);
        };
        fill();
        window.addEventListener('resize', fill);
        return canvas;
    }
};
