// The page of `dragoman simpoint`: the report is its JSON.
tools.simpoint = (reports, box) => {
    for (const {report: r} of reports) {
        const chosen = r.scores.find(s => s.k === r.k) || r.scores[r.scores.length - 1];
        box.append(tiles([['Intervals', count(r.intervals), `${count(r.distinct)} different`], ['Phases', count(r.k)],
            ['To simulate', share(r.k, r.intervals), `${count(r.k)} of ${count(r.intervals)} intervals`],
            ['BIC', chosen.bic.toFixed(1)]]));
        box.append(section('Phases over time', phases(r),
            note('A row a phase; the triangle is the interval that stands for it. Above all rows: the whole run.')));
        if (r.scores.length > 1)
            box.append(section('Which number of phases', scores(r), note('The score (BIC) of each number of clusters; ' +
                `the first that comes ${100 * r.bic_threshold} % of the way from the worst to the best is taken.`)));
        box.append(section('Simulation points', sortable([
            {title: 'Phase', value: c => c.cluster}, {title: 'Interval', value: c => c.interval},
            {title: 'Weight', value: c => c.weight, bar: 1, show: c => c.weight.toFixed(6)},
            {title: 'Intervals', value: c => c.intervals}], r.simpoints, {first: 2})));
    }

    // Neighbours of one phase as [first, behind, phase]. Of more intervals than a picture can show,
    // those of one place are shown as the phase that most of them have.
    function runs(labels) {
        const list = [];
        for (let i = 0; i < labels.length; i++) {
            const last = list[list.length - 1];
            if (last && last[2] === labels[i]) last[1]++;
            else list.push([i, i + 1, labels[i]]);
        }
        return list;
    }
    function thinned(labels, most) {
        if (labels.length <= most) return runs(labels);
        const rough = [];
        for (let i = 0; i < most; i++) {
            const seen = new Map();
            for (let k = Math.floor(i * labels.length / most); k < Math.floor((i + 1) * labels.length / most); k++)
                seen.set(labels[k], (seen.get(labels[k]) || 0) + 1);
            rough.push([...seen].sort((a, b) => b[1] - a[1])[0][0]);
        }
        return runs(rough).map(([a, b, p]) => [a * labels.length / most, b * labels.length / most, p]);
    }

    function phases(r) {
        const ROW = r.k > 15 ? 15 : 22, TOP = 46, L = 120, WIDTH = 1000, n = r.labels.length;
        const x = i => L + i / n * (WIDTH - L - 10), svg = picture(WIDTH, TOP + r.k * ROW + 26, 'Phases over time');
        const rect = (a, b, y, height, fill) => shape('rect', {x: x(a).toFixed(2), y, width: Math.max(x(b) - x(a), 0.6).toFixed(2),
            height, style: `fill: ${fill}`});
        svg.append(label(L - 8, 22, 'all', {class: 'dim', 'text-anchor': 'end'}));
        const list = thinned(r.labels, 2000);
        for (const [a, b, p] of list) svg.append(rect(a, b, 4, 28, colour(p)));
        r.simpoints.forEach((c, i) => {
            const y = TOP + i * ROW;
            svg.append(shape('rect', {class: 'track', x: L, y: y + 2, width: WIDTH - L - 10, height: ROW - 4}),
                label(L - 8, y + ROW / 2 + 4, `${c.cluster}: ${(100 * c.weight).toFixed(1)} %`, {'text-anchor': 'end'}));
        });
        for (const [a, b, p] of list) svg.append(rect(a, b, TOP + p * ROW + 2, ROW - 4, colour(p)));
        for (const c of r.simpoints) {
            const at = x(c.interval + 0.5), y = TOP + c.cluster * ROW + 1;
            svg.append(shape('path', {d: `M${(at - 6).toFixed(1)} ${y}h12l-6 ${ROW - 5}z`,
                style: 'fill: var(--text); stroke: var(--back); stroke-width: 1'}));
        }
        for (const v of ticks(0, n, 8))
            svg.append(label(x(v), TOP + r.k * ROW + 18, short(v), {class: 'dim', 'text-anchor': 'middle'}));
        return withTip(svg, event => {
            const i = Math.floor((inPicture(svg, event)[0] - L) / (WIDTH - L - 10) * n);
            if (!(i >= 0 && i < n)) return null;
            const c = r.simpoints[r.labels[i]];
            return [make('b', {}, `interval ${count(i)}: phase ${r.labels[i]}`),
                make('div', {}, `${share(c.intervals, n)} of the run; interval ${count(c.interval)} stands for it`)];
        });
    }

    function scores(r) {
        const points = r.scores.map(s => [s.k, s.bic]), low = Math.min(...points.map(p => p[1]));
        const high = Math.max(...points.map(p => p[1]));
        const f = lines('Score by number of phases', [{name: 'BIC', fill: 'var(--c0)', points}],
            {xName: 'phases', yName: 'BIC', y: [low, high], height: 220});
        const enough = low + (high - low) * r.bic_threshold;
        f.svg.append(shape('path', {d: `M${f.left} ${f.y(enough).toFixed(1)}H${f.right}`,
            style: 'fill: none; stroke: var(--dim); stroke-dasharray: 4 4'}));
        for (const s of r.scores)
            f.svg.append(shape('circle', {cx: f.x(s.k).toFixed(1), cy: f.y(s.bic).toFixed(1), r: s.k === r.k ? 6 : 2.5,
                style: `fill: ${s.k === r.k ? 'var(--c1)' : 'var(--c0)'}`}));
        return f.svg;
    }
};
